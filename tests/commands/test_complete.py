"""`dataseg complete`: what sets lack, written so that a mix reads it, and stopped at any moment."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dataseg_hf.commands.complete import main as complete
from dataseg_hf.data.readers import read_cvat_xml
from dataseg_hf.data.sample import BadSampleError, Instances, SampleDataset, Segments
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.metrics import semantic_map
from dataseg_hf.prediction.annotation_files import AnnotatedImage, AnnotationWriter
from dataseg_hf.prediction.completion import image_name, run
from dataseg_hf.settings.completed import with_completed
from dataseg_hf.settings.datasets import load_source, training_set
from dataseg_hf.settings.entries import TrainEntry
from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.mixes import command, saved_model, shapes_config

COUNT = 5
SETS = ("shapes_boxes", "shapes_semantic", "shapes_objects", "shapes_panoptic")
KNOWN = {"mask": 0.25, "box": 0.25, "point": 0.25, "tag": 0.25}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes_config(
        tmp_path_factory.mktemp("config"), SETS, COUNT, shapes_objects={"known": KNOWN}
    )


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


def both(output: Path, name: str) -> list[tuple[Any, Any]]:
    """The annotation of each image as the set has it, and as it was completed."""
    before, after = shapes_dataset(name, "train", count=COUNT), read_back(output, name)
    return [(before[index].annotation, after[index].annotation) for index in range(COUNT)]


def entries_of(output: Path, name: str) -> list[dict[str, Any]]:
    found = json.loads((output / name / "annotations.json").read_text())["annotations"]
    if "segments_info" in found[0]:
        return [info for one in found for info in one["segments_info"]]
    return found


def test_boxes_have_masks_and_stay_as_they_were(completed: Path) -> None:
    for known, found in both(completed, "shapes_boxes"):
        assert isinstance(found, Instances)
        assert found.masks is not None
        np.testing.assert_array_equal(found.class_labels, known.class_labels)
        np.testing.assert_array_equal(found.boxes, known.boxes)
        for mask, box in zip(found.masks, known.boxes, strict=True):
            rows, columns = mask.nonzero()
            assert rows.size
            assert box[0] <= columns.min() < columns.max() + 1 <= box[2]
            assert box[1] <= rows.min() < rows.max() + 1 <= box[3]
    assert {one["source"] for one in entries_of(completed, "shapes_boxes")} == {"box"}
    assert all(0 <= one["score"] <= 1 for one in entries_of(completed, "shapes_boxes"))


def test_images_that_are_no_files_are_written_with_their_annotation(completed: Path) -> None:
    before, after = shapes_dataset("shapes_boxes", "train"), read_back(completed, "shapes_boxes")
    for index in range(COUNT):
        np.testing.assert_array_equal(after[index].image, before[index].image)


def test_maps_of_classes_have_objects_and_the_same_classes(completed: Path) -> None:
    for known, found in both(completed, "shapes_semantic"):
        assert isinstance(found, Segments)
        np.testing.assert_array_equal(semantic_map(known), semantic_map(found))
    sources = {one["source"] for one in entries_of(completed, "shapes_semantic")}
    assert sources == {"annotated", "class"}


@pytest.mark.parametrize("name", SETS)
def test_a_second_round_weighs_masks_by_their_scores(completed: Path, name: str) -> None:
    settings = with_completed({"datasets": {name: {"completed": str(completed / name)}}})
    data = training_set(name, TrainEntry.model_validate(settings["datasets"][name])).data
    assert isinstance(data, SampleDataset)
    given = [data[index].annotation.weights for index in range(COUNT)]
    scores = [
        1.0 if one["source"] == "class" else one.get("score", 1.0)
        for one in entries_of(completed, name)
    ]
    np.testing.assert_allclose(sorted(np.concatenate(given)), sorted(scores), atol=1e-6)


def test_a_completed_set_is_not_completed_again(
    model: Path, completed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its masks would count as annotated."""
    file = tmp_path / "second.yaml"
    entry = {"completed": str(completed / "shapes_boxes"), "image_size": 64}
    file.write_text(yaml.safe_dump({"datasets": {"again": entry}}))
    assert complete(command(model, file, tmp_path / "out")) == 2
    assert "datasets.again.completed: this set is completed already" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_objects_of_every_degree_have_masks(completed: Path) -> None:
    sources = {one["source"] for one in entries_of(completed, "shapes_objects")}
    assert sources == {"annotated", "box", "point", "tag"}
    for one in entries_of(completed, "shapes_objects"):
        assert ("score" in one) == (one["source"] != "annotated")
    read_back(completed, "shapes_objects")


def test_what_lacks_nothing_is_written_as_it_is(completed: Path) -> None:
    for known, found in both(completed, "shapes_panoptic"):
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


def test_labeling_tools_get_what_needs_a_look_most_first(
    model: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what they write is read back: the same pixels of the same classes."""
    chosen = ["--datasets", "shapes_objects", "shapes_semantic"]
    formats = ["--annotations", "labelme", "cvat_xml", "label_studio"]
    assert complete(command(model, config, tmp_path / "out", *chosen, *formats)) == 0
    folder = tmp_path / "out/shapes_objects"
    with (folder / "review.csv").open(newline="") as file:
        reviewed = [row["image"] for row in csv.DictReader(file)]
    shown = re.findall(
        r'<image id="\d+" name="([^"]+)"', (folder / "annotations/cvat.xml").read_text()
    )
    assert len(shown) == COUNT
    assert shown[: len(set(reviewed))] == list(dict.fromkeys(reviewed))

    whole = read_back(tmp_path / "out", "shapes_objects")
    words = replace(
        whole.spec,
        id_map={name: n for n, name in enumerate(whole.spec.labels)},
        annotated="everything",
    )
    corrected = read_cvat_xml(words, folder / "images", folder / "annotations/cvat.xml")
    by_name = {sample.file_name: sample for sample in map(corrected.__getitem__, range(COUNT))}
    for index in range(COUNT):
        known, again = whole[index], by_name[whole[index].file_name]
        assert isinstance(known.annotation, Instances)
        assert isinstance(again.annotation, Instances)
        np.testing.assert_array_equal(known.annotation.class_labels, again.annotation.class_labels)
        np.testing.assert_array_equal(known.annotation.masks, again.annotation.masks)

    (folder / "annotations/cvat.xml").write_text("corrected")
    assert complete(command(model, config, tmp_path / "out", *chosen, *formats)) == 0
    assert "perhaps corrected by hand" in capsys.readouterr().out
    assert (folder / "annotations/cvat.xml").read_text() == "corrected"
    labelme = tmp_path / "out/shapes_semantic/annotations/labelme"
    assert len(list(labelme.glob("*.json"))) == COUNT

    more = ["--annotations", "cvat_xml", "coco_instances"]
    assert complete(command(model, config, tmp_path / "out", *chosen, *more)) == 0
    assert (folder / "annotations/coco_instances.json").is_file(), "what is new is written"
    assert (folder / "annotations/cvat.xml").read_text() == "corrected"


def test_files_for_labeling_tools_are_whole_or_not_there(
    model: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a stop in the middle the same command writes all of them."""
    line = command(model, config, tmp_path / "out", "--datasets", "shapes_boxes")
    line += ["--annotations", "labelme"]
    written: list[str] = []
    add = AnnotationWriter.add

    def stopped(writer: AnnotationWriter, index: int, image: AnnotatedImage) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(image.name)
        add(writer, index, image)

    folder = tmp_path / "out/shapes_boxes/annotations"
    with monkeypatch.context() as patch:
        patch.setattr(AnnotationWriter, "add", stopped)
        assert complete(line) == 130
    assert not folder.exists()
    assert complete(line) == 0
    assert [path.name for path in folder.iterdir()] == ["labelme"]
    assert len(list((folder / "labelme").glob("*.json"))) == COUNT
    assert not folder.with_name("annotations.unfinished").exists()


# --- files of a user


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Boxes of two images whose names differ in their ending only, in a sub-folder, under other
    names than the file lists; of one image some classes were not looked for.
    """
    (tmp_path / "images/day").mkdir(parents=True)
    for number, name in enumerate(("a.png", "a.jpg")):
        Image.new("RGB", (60, 40), (90 * number, 90, 90)).save(tmp_path / "images/day" / name)
    images = [
        {"id": 1, "file_name": "x_a.png", "height": 40, "width": 60},
        {"id": 2, "file_name": "x_a.jpg", "height": 40, "width": 60},
    ]
    images[0]["not_exhaustive_category_ids"] = [8]
    boxes = [[5.25, 4.5, 20.5, 30.25], [59.9995, 3.0, 4.0, 30.0], [30.0, 10.0, 0.0008, 12.0]]
    annotations = [
        {"id": n, "image_id": 1 + n % 2, "category_id": 7, "bbox": box, "iscrowd": 0, "area": 1}
        for n, box in enumerate(boxes)
    ]
    categories = [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    classes = [
        {"name": "cat", "ids": [7], "thing": True},
        {"name": "dog", "ids": [8], "thing": True, "exhaustive": False},
    ]
    entry = {
        "spec": {"task": "boxes", "classes": classes, "annotated": "objects"},
        "reader": "coco_instances",
        "images": str(tmp_path / "images"),
        "annotation_file": str(tmp_path / "boxes.json"),
        "options": {"file_name_pattern": ["^x_", "day/"]},
        "image_size": 64,
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"datasets": {"mine": entry}}))
    return tmp_path


def mine(coco: Path) -> SampleDataset:
    (entry,) = yaml.safe_load((coco / "out/mine/dataset.yaml").read_text())["datasets"].values()
    data = load_source(TrainEntry.model_validate(entry), "mine")
    assert isinstance(data, SampleDataset)
    return data


def test_what_a_user_says_of_a_set_is_kept(model: Path, coco: Path) -> None:
    assert complete(command(model, coco / "run.yaml", coco / "out")) == 0
    data = mine(coco)
    assert [sample.file_name for sample in (data[0], data[1])] == ["day/a.jpg", "day/a.png"]
    assert [c.exhaustive for c in data.spec.classes] == [True, False]
    assert data.spec.annotated == "objects"
    assert [list(data[n].incomplete) for n in range(2)] == [[], [1]]
    found = [data[n].annotation for n in range(2)]
    assert [one.class_labels.tolist() for one in found] == [[0], [0, 0]]
    np.testing.assert_allclose(found[1].boxes[0], [5.25, 4.5, 25.75, 34.75])  # type: ignore[union-attr]


def test_a_name_that_a_tool_cannot_hold_is_one_line(
    model: Path, coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what was completed stays."""
    file = coco / "run.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["datasets"]["mine"]["spec"]["classes"][1] |= {"name": "dog\a", "aliases": ["dog"]}
    file.write_text(yaml.safe_dump(settings))
    line = command(model, file, coco / "out")
    assert complete([*line, "--annotations", "cvat_xml"]) == 2
    (error,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error")]
    assert "cannot write to" in error
    assert "category name" in error
    assert complete([*line, "--annotations", "coco_instances"]) == 0
    assert (coco / "out/mine/annotations/coco_instances.json").is_file()


def test_an_image_that_cannot_be_read_is_left_out_where_that_is_asked_for(
    model: Path, coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = coco / "images/day/a.png"
    path.write_bytes(path.read_bytes()[:60])
    assert complete(command(model, coco / "run.yaml", coco / "out")) == 2
    assert "a.png: cannot be read as an image" in capsys.readouterr().err
    skip = ("--on_bad_sample", "skip")
    assert complete(command(model, coco / "run.yaml", coco / "out", *skip)) == 0
    assert [mine(coco)[n].file_name for n in range(len(mine(coco)))] == ["day/a.jpg"]


def test_links_to_images_elsewhere_are_files_of_the_folder(model: Path, coco: Path) -> None:
    (coco / "elsewhere").mkdir()
    for path in list((coco / "images/day").iterdir()):
        path.rename(coco / "elsewhere" / path.name)
        path.symlink_to(coco / "elsewhere" / path.name)
    assert complete(command(model, coco / "run.yaml", coco / "out")) == 0
    assert not (coco / "out/mine/images").exists()
    assert [mine(coco)[n].file_name for n in range(2)] == ["day/a.jpg", "day/a.png"]


def test_an_image_that_is_listed_twice_is_not_lost_in_a_second_call(
    model: Path, coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = coco / "boxes.json"
    content = json.loads(file.read_text())
    content["images"].append({**content["images"][0], "id": 3})
    content["images"].append({**content["images"][1], "id": 4})
    file.write_text(json.dumps(content))
    for _ in range(2):
        assert complete(command(model, coco / "run.yaml", coco / "out")) == 2
        assert "image day/a.png: the images 0 and 2 of the set are called so" in (
            capsys.readouterr().err
        )


@pytest.mark.parametrize("name", ["/etc/a.png", "../a.png", "..\\a.png", "c:a.png", ""])
def test_names_that_lead_out_of_the_folder_are_refused(name: str) -> None:
    with pytest.raises(BadSampleError, match="leads out of the folder"):
        image_name(name, 1, has_files=True)
    with pytest.raises(BadSampleError, match="leads out of the folder"):
        image_name("a.png", name, has_files=False)


def test_a_colon_within_a_name_is_no_drive() -> None:
    assert image_name("day/2024 12:30.png", 1, has_files=True) == "day/2024 12:30.png"


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
