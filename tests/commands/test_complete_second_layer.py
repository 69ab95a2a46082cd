"""`dataseg complete --second_layer`: what the sets of a mix do not say, as a mix reads it."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from dataseg_hf.commands.complete import main as complete
from dataseg_hf.data.sample import Instances, SampleDataset, Segments
from dataseg_hf.data.shapes import SHAPES_BOXES, SHAPES_SEMANTIC
from dataseg_hf.settings.datasets import load_source
from dataseg_hf.settings.entries import TrainEntry
from helpers.mixes import command, saved_model, shapes_config

COUNT = 5
COMPLETED = ("shapes_boxes", "shapes_semantic")
WORDS = [*SHAPES_SEMANTIC.labels, *SHAPES_BOXES.labels]  # no name is in both


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes_config(tmp_path_factory.mktemp("config"), COMPLETED, COUNT)


@pytest.fixture(scope="module")
def completed(model: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("completed") / "all"
    assert complete(command(model, config, output, "--second_layer")) == 0
    return output


def read_back(folder: Path, name: str) -> SampleDataset:
    """What is in a folder, as a mix reads it; its entry has that name."""
    datasets = yaml.safe_load((folder / "dataset.yaml").read_text())["datasets"]
    assert list(datasets) == [name]
    data = load_source(TrainEntry.model_validate(datasets[name]), name)
    assert isinstance(data, SampleDataset)
    assert (list(data.problems), len(data)) == ([], COUNT)
    return data


@pytest.mark.parametrize("name", COMPLETED)
def test_a_mix_reads_both_layers_which_never_meet(completed: Path, name: str) -> None:
    first = read_back(completed / name, name)
    second = read_back(completed / name / "second_layer", f"{name}_second_layer")
    assert sorted(second.spec.labels) == sorted(WORDS)
    assert second.spec.labels[: len(first.spec.labels)] == first.spec.labels
    assert second.spec.task == "panoptic"
    for index in range(COUNT):
        np.testing.assert_array_equal(second[index].image, first[index].image)
        before, after = first[index].annotation, second[index].annotation
        assert isinstance(after, Segments)
        if isinstance(before, Instances):
            assert before.masks is not None
            annotated = before.masks.any(0)
            assert (after.class_labels >= len(first.spec.labels)).all(), "its own are all annotated"
        else:
            annotated = before.segment_map >= 0
        assert not (annotated & (after.segment_map >= 0)).any()


def test_segments_have_score_source_and_review(completed: Path) -> None:
    content = json.loads((completed / "shapes_boxes/second_layer/annotations.json").read_text())
    infos = [info for one in content["annotations"] for info in one["segments_info"]]
    assert infos
    assert {info["source"] for info in infos} == {"model"}
    assert all(0.5 < info["score"] <= 1 for info in infos)
    assert all(isinstance(info["review"], str) for info in infos)


def test_it_is_added_to_a_completion_that_is_done(
    model: Path,
    config: Path,
    completed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first layer is the same with and without it."""
    chosen = ("--datasets", "shapes_boxes")
    output = tmp_path / "out"
    assert complete(command(model, config, output, *chosen)) == 0
    assert "second layer" not in capsys.readouterr().out
    assert not (output / "shapes_boxes/second_layer").exists()
    journal = (output / "shapes_boxes/completed_images.jsonl").read_bytes()
    assert complete(command(model, config, output, *chosen, "--second_layer")) == 0
    assert f"shapes_boxes, second layer: {COUNT} images" in capsys.readouterr().out
    assert (output / "shapes_boxes/completed_images.jsonl").read_bytes() == journal
    for file in ("annotations.json", "second_layer/annotations.json", "second_layer/review.csv"):
        again, once = (folder / "shapes_boxes" / file for folder in (output, completed))
        assert again.read_bytes() == once.read_bytes()


def test_another_mix_needs_another_folder(
    model: Path, config: Path, completed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(config.read_text())
    settings["datasets"]["more"] = {"spec": "shapes_panoptic", "reader": "shapes"}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(settings))
    chosen = ("--datasets", "shapes_boxes", "--second_layer")
    assert complete(command(model, tmp_path / "more.yaml", completed, *chosen)) == 2
    assert "has 'shapes_boxes/second_layer' with other settings" in capsys.readouterr().err
