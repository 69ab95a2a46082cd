"""Resuming from a folder that a disk or a power failure has damaged: from the newest whole
checkpoint, to the same bits, or not at all.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers.run_programs import start, weights

pytestmark = pytest.mark.slow

OPTIONS = (
    *("--keep_checkpoints", "3", "--check_samples", "1", "--evaluate_every", "4"),
    *("--model.backbone_config.drop_path_rate", "0.5"),  # random numbers in every step
    *("--evaluation.shapes_panoptic.count", "2", "--evaluation.shapes_boxes.count", "2"),
    *("--evaluation.shapes_open.count", "2"),
)
NEWEST = "checkpoints/step-00000006"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 8 steps, whose last checkpoint and results are taken away."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = start(folder, *OPTIONS)
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.rmtree(folder / "checkpoints/step-00000008")
    (folder / "all_results.json").unlink()
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "run"
    shutil.copytree(whole, copied)
    settings = (copied / "run_config.yaml").read_text()
    (copied / "run_config.yaml").write_text(settings.replace(str(whole), str(copied)))
    return copied


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def assert_same_model(folder: Path, whole: Path) -> None:
    reference = weights(whole)
    assert all(torch.equal(tensor, reference[name]) for name, tensor in weights(folder).items())


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("state/optimizer.bin", flip),
        ("state/model.safetensors", flip),
        ("state/random_states_0.pkl", Path.unlink),
        ("model.safetensors", lambda file: file.write_bytes(file.read_bytes()[:1000])),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    folder: Path, whole: Path, file: str, damage: Callable[[Path], object]
) -> None:
    damage(folder / NEWEST / file)
    done = start(folder, *OPTIONS, "--resume", "latest")
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"step-00000006 is damaged and left out: {file}" in done.stdout
    assert "Resuming from" in done.stdout
    assert "step-00000004" in done.stdout
    assert_same_model(folder, whole)


def test_what_is_not_needed_to_go_on_may_be_damaged(folder: Path, whole: Path) -> None:
    (folder / NEWEST / "progress.json").write_text("")
    (folder / "run.json").write_text("")
    (folder / "all_results.json").write_text("")
    with (folder / "evaluations.jsonl").open("a") as file:
        file.write('{"step": 3, "x\n')
    with (folder / "history.csv").open("ab") as binary:
        binary.write(b"\0" * 100 + b"\n")
    done = start(folder, *OPTIONS, "--resume", "latest")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "history.csv: 1 damaged line(s) are left out" in done.stdout
    assert_same_model(folder, whole)


def test_damage_that_makes_resuming_uncertain_is_refused(folder: Path) -> None:
    for name in ("mix.json", "run_config.yaml"):
        kept = (folder / name).read_text()
        (folder / name).write_text("")
        done = start(folder, *OPTIONS, "--resume", "latest")
        assert done.returncode == 2
        assert f"error: resume: {folder / name} is" in done.stderr
        (folder / name).write_text(kept)
    for checkpoint in (folder / "checkpoints").iterdir():
        flip(checkpoint / "state/optimizer.bin")
    done = start(folder, *OPTIONS, "--resume", str(folder / NEWEST))
    assert "is damaged: state/optimizer.bin is not what was saved" in done.stderr
    done = start(folder, *OPTIONS, "--resume", "latest")
    assert done.returncode == 2
    assert "are damaged" in done.stderr


def test_a_copy_beside_the_checkpoints_is_neither_taken_nor_deleted(
    folder: Path, whole: Path
) -> None:
    for name in ("step-00000099", "step-00000006-before-lunch"):
        shutil.copytree(folder / NEWEST, folder / "checkpoints" / name)
    shutil.rmtree(folder / NEWEST)
    done = start(folder, *OPTIONS, "--keep_checkpoints", "1", "--resume", "latest")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step-00000004" in done.stdout
    left = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert left == ["step-00000006-before-lunch", "step-00000008", "step-00000099"]
    assert_same_model(folder, whole)
