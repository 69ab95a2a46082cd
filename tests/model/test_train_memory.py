"""What a training step holds does not grow with the number of annotated objects."""

import os
import subprocess
import sys

import pytest

from helpers.paths import PROGRAMS

pytestmark = pytest.mark.slow

PROGRAM = PROGRAMS / "train_memory.py"


def peaks(task: str, *counts: int) -> list[int]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), task, *map(str, counts)],
        capture_output=True,
        text=True,
        timeout=300,
        # freed memory goes back at once: what the allocator keeps for later differs by machine
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [int(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("task", ["panoptic", "instance", "boxes"])
def test_500_objects_take_at_most_half_as_much_again_as_10(task: str) -> None:
    few, many = peaks(task, 10, 500)
    assert many <= 1.5 * few
