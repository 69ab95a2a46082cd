"""A kill, a full disk or a failing one at any file operation of a save: nothing saved is lost, and
nothing wrong is resumed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.run_programs import environment, script
from helpers.thoroughness import HOSTILE

pytestmark = pytest.mark.slow

EVERY, LEAST = (1, 200) if HOSTILE else (64, 20)


def test_no_fault_at_any_file_operation_of_a_save_loses_or_spoils_anything(tmp_path: Path) -> None:
    config = script(tmp_path / "run")[1:]  # --config FILE
    program = str(ROOT / "tests/helpers/fault_points.py")
    bed = [sys.executable, program, str(EVERY), str(tmp_path / "run")]
    options = ["--keep_checkpoints", "1", "--evaluation", "{}", "--check_samples", "1"]
    done = subprocess.run(
        [*bed, *config, *options],
        capture_output=True,
        text=True,
        env={**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{found['points']} fault points")
    assert found["faults"] == []
    assert found["points"] >= LEAST
