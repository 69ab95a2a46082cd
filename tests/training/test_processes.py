"""One, two and three processes do the same training: the same datasets, the same images, the same
gradients.
"""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers import warm_python
from helpers.paths import PROGRAMS
from helpers.run_programs import command, environment, torchrun

pytestmark = pytest.mark.slow

STEPS = 1000


def run_program(name: str, *arguments: str, processes: int) -> None:
    done = warm_python.run_together([str(PROGRAMS / name), *arguments], environment(), processes)
    assert done.returncode == 0, done.stderr[-3000:]


def test_every_process_draws_the_same_dataset_at_every_step(tmp_path: Path) -> None:
    drawn, images = [], []
    for processes in (1, 2, 3):
        run_program(
            "mixing_order.py", str(STEPS), str(tmp_path / str(processes)), processes=processes
        )
        parts = [
            json.loads((tmp_path / f"{processes}.{rank}").read_text()) for rank in range(processes)
        ]
        drawn += [part["drawn"] for part in parts]
        images.append(
            [
                sorted(index for part in parts for index in part["images"][step])
                for step in range(STEPS)
            ]
        )
    assert len(drawn) == 6
    assert all(len(one) == STEPS for one in drawn)
    assert all(one == drawn[0] for one in drawn)
    assert set(drawn[0]) == {0, 1, 2}
    assert images[0] == images[1] == images[2]


def test_the_gradient_is_that_of_one_process_and_one_batch(tmp_path: Path) -> None:
    """1 x 8, 2 processes x 4, and 4 twice: images have 0, 1, 2 or 3 targets, and the halves differ
    in their number.
    """
    ways = {"whole": (1, 1), "processes": (1, 2), "accumulated": (2, 1)}
    for name, (micro_batches, processes) in ways.items():
        (tmp_path / name).mkdir()
        run_program("gradients.py", str(micro_batches), str(tmp_path / name), processes=processes)
    for task in ("panoptic", "semantic", "instance", "boxes", "objects"):
        whole = load_file(tmp_path / f"whole/{task}.safetensors")
        for name in ("processes", "accumulated"):
            other = load_file(tmp_path / f"{name}/{task}.safetensors")
            assert set(other) == set(whole)
            for key, gradient in whole.items():
                # softmax does not see it: its gradient is 0 but for rounding
                if key.endswith("key.bias"):
                    torch.testing.assert_close(other[key], gradient, atol=1e-5, rtol=0)
                    continue
                assert float((other[key] - gradient).norm()) <= 1e-5 * float(gradient.norm()), (
                    task,
                    name,
                    key,
                )


def test_sharded_training_does_what_whole_training_does_and_resumes(tmp_path: Path) -> None:
    command(tmp_path / "settings" / "run")  # writes the config
    config = str(tmp_path / "settings" / "settings.yaml")
    sharded = tmp_path / "sharded"
    for kind in ("sharded", "whole"):
        run_program("sharded_training.py", kind, config, str(tmp_path / kind), processes=2)
    checkpoint = str(sharded / "checkpoints/step-00000002")
    run_program(
        "sharded_training.py", "sharded", config, str(tmp_path / "resumed"), checkpoint, processes=2
    )
    result = load_file(sharded / "result.safetensors")
    whole, resumed = (
        load_file(tmp_path / name / "result.safetensors") for name in ("whole", "resumed")
    )
    for name, tensor in result.items():
        assert torch.equal(tensor, resumed[name]), name
        torch.testing.assert_close(tensor, whole[name], atol=2e-3, rtol=1e-2, msg=name)


def test_the_wrapper_of_a_run_is_gone_before_its_process_group(tmp_path: Path) -> None:
    """Else its end may wait for ever for a thread of the group, which waits for Python's lock."""
    command(tmp_path / "settings" / "run")  # writes the config
    call = [
        *torchrun(2),
        str(PROGRAMS / "ends_whole.py"),
        str(tmp_path / "settings" / "settings.yaml"),
    ]
    done = subprocess.run(call, capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
