"""Whole runs as users start them: what they leave, on two processes, resumed where there is
nothing.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from helpers.run_programs import start, weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An uninterrupted run: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = start(folder, launch=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, done.stdout


def test_a_run_leaves_model_results_curves_and_pictures(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    results = json.loads((folder / "all_results.json").read_text())
    expected = {
        "shapes_panoptic/pq",
        "shapes_panoptic/pq_things",
        "shapes_panoptic/pq_stuff",
        "shapes_panoptic/miou",
        "shapes_boxes/mask_ap",
        "shapes_boxes/mask_ap50",
        "shapes_open/pq",
        "train_seconds",
    }
    assert expected <= set(results)
    assert results["steps"] == 8
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
        "modeling_dataseg.py",
        "curves.png",
        "run_config.yaml",
        "history.csv",
        "shapes_open-step000008.png",
    } <= names


def test_the_mix_is_printed_before_training(whole: tuple[Path, str]) -> None:
    _, printed = whole
    assert "trainable parameters" in printed
    assert "33.3%" in printed
    assert "held out: shapes_panoptic (5 images: pq, miou)" in printed


def test_the_final_model_loads_by_the_auto_class(whole: tuple[Path, str]) -> None:
    from transformers import AutoImageProcessor, AutoModel

    folder, _ = whole
    model = AutoModel.from_pretrained(folder)
    assert sorted(model.config.vocabularies) == [
        "shapes_boxes",
        "shapes_panoptic",
        "shapes_semantic",
    ]
    assert AutoImageProcessor.from_pretrained(folder).size["longest_edge"] == 32
    stored = weights(folder)
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.state_dict().items())


def test_resume_in_a_finished_folder_ends_at_once(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    before = (folder / "model.safetensors").stat().st_mtime_ns
    done = start(folder, "--resume", "latest")
    assert done.returncode == 0
    assert "holds a finished run of 8 steps" in done.stdout
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_finished_run_without_its_checkpoints_is_left_alone(
    whole: tuple[Path, str], tmp_path: Path
) -> None:
    folder = shutil.copytree(whole[0], tmp_path / "run")
    shutil.rmtree(folder / "checkpoints")
    done = start(folder, "--resume", "latest")
    assert "holds a finished run of 8 steps" in done.stdout
    assert (folder / "model.safetensors").exists()


def test_resume_refuses_other_settings(whole: tuple[Path, str]) -> None:
    done = start(whole[0], "--resume", "latest", "--learning_rate", "0.5")
    assert done.returncode != 0
    assert "was started with other settings for ['learning_rate']" in done.stderr


@pytest.mark.slow
def test_two_processes_do_what_one_does(whole: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = start(folder, processes=2, launch=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 process(es)" in done.stdout
    reference = weights(whole[0])
    # sums in another order: equal but for rounding, which Adam's first steps magnify
    for name, tensor in weights(folder).items():
        torch.testing.assert_close(tensor, reference[name], atol=2e-3, rtol=1e-2, msg=name)
    one, two = (json.loads((path / "all_results.json").read_text()) for path in (whole[0], folder))
    assert set(one) == set(two)


def test_resume_latest_in_an_empty_folder_starts_afresh(tmp_path: Path) -> None:
    done = start(tmp_path / "run", "--resume", "latest", "--max_steps", "1", "--evaluation", "{}")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "starting afresh" in done.stdout
    assert json.loads((tmp_path / "run/all_results.json").read_text())["steps"] == 1


def test_a_fresh_start_keeps_the_earlier_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ("--max_steps", "1", "--evaluation", "{}")
    assert start(folder, *options).returncode == 0
    (folder / "notes.txt").write_text("results of last week")
    done = start(folder, *options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{folder} held an earlier run, now in {folder}.previous-1" in done.stdout
    assert (tmp_path / "run.previous-1/notes.txt").read_text() == "results of last week"
    assert (tmp_path / "run.previous-1/all_results.json").exists()


def test_a_run_does_not_move_what_it_starts_from(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    before = sorted(folder.rglob("*"))
    for option, value in (
        ("--config", folder / "run_config.yaml"),
        ("--model_weights", folder / "checkpoints"),
    ):
        done = start(folder, option, str(value))
        assert done.returncode == 2
        assert f"'{value}'" in done.stderr.splitlines()[-1]
        assert (
            "is in it; name another folder, or go on with --resume latest"
            in done.stderr.splitlines()[-1]
        )
    assert sorted(folder.rglob("*")) == before
