"""transformers.Trainer trains the same mix."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import warm_python
from helpers.example_scripts import main_of
from helpers.paths import ROOT
from helpers.run_programs import environment, script, start, weights

pytestmark = pytest.mark.slow


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    trainer = str(ROOT / "examples/train_with_trainer.py")
    return warm_python.run([trainer, *script(folder, *arguments)[1:]], environment())


def test_the_trainer_trains_the_mix_as_our_loop_does(tmp_path: Path) -> None:
    """Without warm-up and schedule, which the Trainer counts otherwise, both do the same steps."""
    options = (
        "--warmup_steps",
        "0",
        "--schedule",
        "constant",
        "--ema_decay",
        "0",
        "--max_steps",
        "4",
    )
    done = train(tmp_path / "trainer" / "run", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    ours = start(tmp_path / "ours" / "run", *options)
    assert ours.returncode == 0, ours.stderr[-3000:]
    reference = weights(tmp_path / "ours" / "run")
    for name, tensor in weights(tmp_path / "trainer" / "run").items():
        torch.testing.assert_close(tensor, reference[name], atol=2e-3, rtol=1e-2, msg=name)
    one = json.loads((tmp_path / "trainer/run/all_results.json").read_text())
    two = json.loads((tmp_path / "ours/run/all_results.json").read_text())
    assert {key for key in two if "/" in key} == set(one)


def test_the_trainer_resumes_in_the_order_of_the_mix(tmp_path: Path) -> None:
    options = (
        "--warmup_steps",
        "0",
        "--schedule",
        "constant",
        "--color_affinity_ramp",
        "0",
        "--max_steps",
        "4",
        "--evaluation",
        "{}",
    )
    whole = train(tmp_path / "whole" / "run", *options)
    assert whole.returncode == 0, whole.stderr[-3000:]
    folder = tmp_path / "parts" / "run"
    first = train(folder, *options, "--max_steps", "2")
    assert first.returncode == 0, first.stderr[-3000:]
    second = train(folder, *options, "--resume", "latest")
    assert second.returncode == 0, second.stderr[-3000:]
    reference = weights(tmp_path / "whole" / "run")
    assert all(torch.equal(tensor, reference[name]) for name, tensor in weights(folder).items())


def test_a_batch_of_every_dataset_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_with_trainer.py", "--every_dataset_in_a_step", "true"])
    assert main_of("train_with_trainer")() == 2
    assert (
        "every_dataset_in_a_step: the Trainer takes one dataset a step" in capsys.readouterr().err
    )
