"""`dataseg complete`: what sets lack, written so that a mix reads it, and stopped at any moment."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from dataseg_hf.commands.complete import main as complete
from dataseg_hf.data.sample import Instances, SampleDataset, Segments
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.metrics import semantic_map
from dataseg_hf.prediction.completion import run
from dataseg_hf.settings.datasets import load_source
from dataseg_hf.settings.entries import TrainEntry
from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor

COUNT = 5
SETS = ("shapes_boxes", "shapes_semantic", "shapes_objects", "shapes_panoptic")
KNOWN = {"mask": 0.25, "box": 0.25, "point": 0.25, "tag": 0.25}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(checkpoint_model(), checkpoint_processor(), folder)
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    common = {"reader": "shapes", "count": COUNT, "image_size": 64}
    datasets: dict[str, Any] = {name: {"spec": name, **common} for name in SETS}
    datasets["shapes_objects"]["options"] = {"known": KNOWN}
    file = tmp_path_factory.mktemp("config") / "run.yaml"
    file.write_text(yaml.safe_dump({"datasets": datasets}))
    return file


def command(model: Path, config: Path, output: Path, *more: str) -> list[str]:
    places = ["--model", str(model), "--config", str(config), "--output", str(output)]
    return [*places, "--batch_size", "2", *more]


@pytest.fixture(scope="module")
def completed(model: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("completed") / "all"
    assert complete(command(model, config, output)) == 0
    return output


def read_back(output: Path, name: str) -> SampleDataset:
    """The completed set, as a mix reads it."""
    (entry,) = yaml.safe_load((output / name / "dataset.yaml").read_text())["datasets"].values()
    data = load_source(TrainEntry.model_validate(entry), name)
    assert isinstance(data, SampleDataset)
    assert (list(data.problems), len(data)) == ([], COUNT)
    return data


def entries_of(output: Path, name: str) -> list[dict[str, Any]]:
    found = json.loads((output / name / "annotations.json").read_text())["annotations"]
    if "segments_info" in found[0]:
        return [info for one in found for info in one["segments_info"]]
    return found


def test_boxes_have_masks_and_stay_as_they_were(completed: Path) -> None:
    before, after = (
        shapes_dataset("shapes_boxes", "train", count=COUNT),
        read_back(completed, "shapes_boxes"),
    )
    for index in range(COUNT):
        sample, known = after[index], before[index]
        np.testing.assert_array_equal(sample.image, known.image)
        assert isinstance(sample.annotation, Instances)
        assert isinstance(known.annotation, Instances)
        assert sample.annotation.masks is not None
        np.testing.assert_array_equal(sample.annotation.class_labels, known.annotation.class_labels)
        for mask, box in zip(sample.annotation.masks, known.annotation.boxes, strict=True):
            rows, columns = mask.nonzero()
            assert rows.size
            assert box[0] <= columns.min() < columns.max() + 1 <= box[2]
            assert box[1] <= rows.min() < rows.max() + 1 <= box[3]
    assert {one["source"] for one in entries_of(completed, "shapes_boxes")} == {"box"}
    assert all(0 <= one["score"] <= 1 for one in entries_of(completed, "shapes_boxes"))


def test_maps_of_classes_have_objects_and_the_same_classes(completed: Path) -> None:
    before = shapes_dataset("shapes_semantic", "train", count=COUNT)
    after = read_back(completed, "shapes_semantic")
    for index in range(COUNT):
        known, found = before[index].annotation, after[index].annotation
        assert isinstance(known, Segments)
        assert isinstance(found, Segments)
        np.testing.assert_array_equal(semantic_map(known), semantic_map(found))
    sources = {one["source"] for one in entries_of(completed, "shapes_semantic")}
    assert sources == {"annotated", "class"}


def test_objects_of_every_degree_have_masks(completed: Path) -> None:
    sources = {one["source"] for one in entries_of(completed, "shapes_objects")}
    assert sources == {"annotated", "box", "point", "tag"}
    for one in entries_of(completed, "shapes_objects"):
        assert ("score" in one) == (one["source"] != "annotated")
    read_back(completed, "shapes_objects")


def test_what_lacks_nothing_is_written_as_it_is(completed: Path) -> None:
    before = shapes_dataset("shapes_panoptic", "train", count=COUNT)
    after = read_back(completed, "shapes_panoptic")
    for index in range(COUNT):
        known, found = before[index].annotation, after[index].annotation
        assert isinstance(known, Segments)
        assert isinstance(found, Segments)
        np.testing.assert_array_equal(known.segment_map, found.segment_map)
        np.testing.assert_array_equal(known.class_labels, found.class_labels)
    assert {one["source"] for one in entries_of(completed, "shapes_panoptic")} == {"annotated"}


def test_the_most_doubtful_come_first(completed: Path) -> None:
    with (completed / "shapes_objects/review.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores)
    flagged = [one for one in entries_of(completed, "shapes_objects") if one["review"]]
    assert len(rows) == len(flagged) > 0
    assert {row["review"] for row in rows} >= {"known by a point only", "known by a tag only"}
    assert (completed / "shapes_objects/contact_sheet.png").is_file()


def test_it_goes_on_where_it_was_stopped(
    model: Path,
    config: Path,
    completed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The files are those of a completion in one go."""
    seen: list[str] = []
    whole = run.complete_sample

    def stopped(sample: Any, *arguments: Any) -> Any:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(sample.file_name)
        return whole(sample, *arguments)

    chosen = ("--datasets", "shapes_boxes")
    with monkeypatch.context() as patch:
        patch.setattr(run, "complete_sample", stopped)
        assert complete(command(model, config, tmp_path / "out", *chosen)) == 130
    assert "goes on from here" in capsys.readouterr().err
    assert not (tmp_path / "out/shapes_boxes/annotations.json").exists()
    monkeypatch.setattr(run, "complete_sample", lambda *a: seen.append(a[0].file_name) or whole(*a))
    assert complete(command(model, config, tmp_path / "out", *chosen)) == 0
    numbers = [int(name[-5:]) for name in seen]
    assert numbers == [0, 1, 2, 2, 3, 4], "a batch of two is done as a whole"
    for name in ("annotations.json", "review.csv"):
        again, once = (folder / "shapes_boxes" / name for folder in (tmp_path / "out", completed))
        assert again.read_bytes() == once.read_bytes()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--datasets", "nothing"], "--datasets: no entry 'nothing' in datasets; there are"),
        (
            ["--datasets", "shapes_boxes", "--datasets.shapes_boxes.count", "3"],
            "has 'shapes_boxes' with other settings; name another folder",
        ),
        (["--model", "elsewhere"], "--model: elsewhere"),
    ],
)
def test_what_cannot_work_is_one_line(
    more: list[str],
    message: str,
    model: Path,
    config: Path,
    completed: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert complete(command(model, config, completed, *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_another_model_does_not_mix_in(
    config: Path, completed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = checkpoint_model()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    save_checkpoint(other, checkpoint_processor(), tmp_path / "other")
    assert complete(command(tmp_path / "other", config, completed)) == 2
    assert "was completed by another model" in capsys.readouterr().err
