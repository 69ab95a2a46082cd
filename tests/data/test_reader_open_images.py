"""Open Images: boxes for all objects, masks for some, and classes that people have looked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataseg_hf.data.readers import read_open_images
from dataseg_hf.data.sample import (
    ClassInfo,
    DatasetSpec,
    Instances,
    SampleDataset,
    UnknownIdsError,
)
from dataseg_hf.model.degrees_dataseg import Degree

NAMES = {"/m/0a": "Person", "/m/0b": "Woman", "/m/0c": "Cat", "/m/0d": "Tree, old"}
PERSON, WOMAN, CAT, TREE = range(4)
BOX_HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
    "IsDepiction,IsInside"
)
MASK_HEADER = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"


def spec(task: Any = "objects", ids: bool = True, **changes: Any) -> DatasetSpec:
    raw_ids = list(NAMES) if ids else list(NAMES.values())
    classes = tuple(ClassInfo(name, True) for name in NAMES.values())
    id_map = {raw_id: number for number, raw_id in enumerate(raw_ids)}
    return DatasetSpec("oi", task, classes, id_map, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of 20 x 40 pixels: of the first, everything is known; of the second, boxes."""
    (tmp_path / "images/train_0").mkdir(parents=True)
    (tmp_path / "masks/0").mkdir(parents=True)
    for name in ("one", "two"):
        Image.new("RGB", (40, 20)).save(tmp_path / f"images/train_0/{name}.jpg")
    write(
        tmp_path / "oidv6-train-annotations-bbox.csv",
        BOX_HEADER,
        "one,xclick,/m/0c,1,0.25,0.5,0.1,0.6,0,1,0,0,0",
        "elsewhere,xclick,/m/0zzz,1,0.25,0.5,0.1,0.6,0,0,0,0,0",
        "two,xclick,/m/0c,1,0.0,1.0,0.0,1.0,0,0,1,0,0",
        "one,xclick,/m/0b,1,0.5000004,0.75,0.5,1.0,0,0,0,0,0",
        "one,xclick,/m/0b,1,0.1,0.2,0.5,1.0,0,0,0,0,0",
    )
    write(
        tmp_path / "train-annotations-object-segmentation.csv",
        MASK_HEADER,
        'one_m0b_1a.png,one,/m/0b,1a,0.500000,0.750000,0.500000,1.000000,0.8,"0.1 0.2 1;0.3 0.4 0"',
    )
    mask = np.zeros((10, 20), np.uint8)  # half of the image's size
    mask[5:, 10:15] = 255
    Image.fromarray(mask).convert("1").save(tmp_path / "masks/0/one_m0b_1a.png")
    write(
        tmp_path / "train-annotations-human-imagelabels-boxable.csv",
        "ImageID,Source,LabelName,Confidence",
        "one,verification,/m/0a,1",
        "one,verification,/m/0c,1",
        "one,verification,/m/0d,0",
        "one,verification,/m/0unknown,1",
    )
    write(tmp_path / "class-descriptions-boxable.csv", *(f'{k},"{v}"' for k, v in NAMES.items()))
    return tmp_path


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n")


def read(folder: Path, task: Any = "objects", **changes: Any) -> SampleDataset:
    return read_open_images(spec(task, **changes), folder / "images", folder)


def objects_of(data: SampleDataset, index: int) -> Instances:
    annotation = data[index].annotation
    assert isinstance(annotation, Instances)
    return annotation


def test_each_object_has_what_is_known_of_it(folder: Path) -> None:
    data = read(folder)
    assert [data[n].image_id for n in range(2)] == ["one", "two"]
    assert data[0].file_name == "train_0/one.jpg"
    found = objects_of(data, 0)
    assert found.class_labels.tolist() == [CAT, WOMAN, WOMAN, PERSON]
    assert found.degrees is not None
    assert found.degrees.tolist() == [Degree.BOX, Degree.MASK, Degree.BOX, Degree.TAG]
    assert found.boxes[0].tolist() == [10, 2, 20, 12]
    assert found.boxes[2].tolist() == [4, 10, 8, 20]
    expected = np.zeros((20, 40), bool)
    expected[10:, 20:30] = True
    assert found.masks is not None
    np.testing.assert_array_equal(found.masks[1], expected)
    assert data.census is not None
    assert data.census.objects.tolist() == [1, 2, 2, 0]


def test_a_group_is_a_crowd(folder: Path) -> None:
    assert objects_of(read(folder), 1).is_crowd.tolist() == [True]
    assert objects_of(read(folder), 0).is_crowd.tolist() == [False] * 4


def test_verified_labels_say_which_classes_were_looked_for(folder: Path) -> None:
    data = read(folder)
    assert list(data[0].incomplete) == []
    assert list(data[1].incomplete) == []
    assert any("1 of 2 images have no verified labels" in note for note in data.notes)
    lines = (folder / "train-annotations-human-imagelabels-boxable.csv").read_text().splitlines()
    write(folder / "train-annotations-human-imagelabels-boxable.csv", *lines[:-2])
    assert list(read(folder)[0].incomplete) == [TREE]


def test_a_class_whose_narrower_one_has_a_box_is_no_tag(folder: Path) -> None:
    cat, woman = {"LabelName": "/m/0c"}, {"LabelName": "/m/0b"}
    person = {"LabelName": "/m/0a", "Subcategory": [woman]}
    root = {"LabelName": "/m/0root", "Subcategory": [cat, person]}
    (folder / "bbox_labels_600_hierarchy.json").write_text(json.dumps(root))
    data = read(folder)
    assert objects_of(data, 0).class_labels.tolist() == [CAT, WOMAN, WOMAN]
    assert list(data[0].incomplete) == [PERSON]


def test_as_boxes_a_found_class_without_box_is_incomplete(folder: Path) -> None:
    data = read(folder, "boxes")
    found = objects_of(data, 0)
    assert (found.masks, found.degrees) == (None, None)
    assert found.class_labels.tolist() == [CAT, WOMAN, WOMAN]
    assert list(data[0].incomplete) == [PERSON]


def test_classes_may_be_named_as_the_files_name_them(folder: Path) -> None:
    by_name, by_id = read(folder, ids=False), read(folder)
    for index in range(2):
        assert (
            objects_of(by_name, index).class_labels.tolist()
            == objects_of(by_id, index).class_labels.tolist()
        )
    assert by_id.stated_names == NAMES


def test_the_header_of_the_names_is_no_class(folder: Path) -> None:
    path = folder / "class-descriptions-boxable.csv"
    path.write_text("LabelName,DisplayName\n" + path.read_text())
    assert read(folder).stated_names == NAMES


def test_without_verified_labels_every_class_counts_as_annotated(folder: Path) -> None:
    (folder / "train-annotations-human-imagelabels-boxable.csv").unlink()
    data = read(folder)
    assert list(data[0].incomplete) == []
    assert objects_of(data, 0).class_labels.tolist() == [CAT, WOMAN, WOMAN]
    assert any("every class counts as annotated in whole" in note for note in data.notes)


def test_a_mask_without_a_box_is_an_object(folder: Path) -> None:
    path = folder / "oidv6-train-annotations-bbox.csv"
    lines = [line for line in path.read_text().splitlines() if ",0.5000004," not in line]
    write(path, *lines)
    found = objects_of(read(folder), 0)
    assert found.class_labels.tolist() == [CAT, WOMAN, WOMAN, PERSON]
    assert found.degrees is not None
    assert found.degrees.tolist() == [Degree.BOX, Degree.BOX, Degree.MASK, Degree.TAG]


def test_faults_name_the_file_and_the_remedy(folder: Path) -> None:
    (folder / "masks/0/one_m0b_1a.png").unlink()
    (problem,) = read(folder).problems
    assert "image one: the mask one_m0b_1a.png is not there; unpack" in str(problem)

    path = folder / "oidv6-train-annotations-bbox.csv"
    text = path.read_text()
    path.write_text(text.replace("two,xclick,/m/0c", "two,xclick,/m/0new"))
    unknown = read(folder).problems[-1]
    assert isinstance(unknown, UnknownIdsError)
    assert "image two: 1 category id is not in the spec" in str(unknown)

    path.write_text(text.replace("IsGroupOf", "Group"))
    with pytest.raises(ValueError, match=r"bbox\.csv: not a CSV of Open Images with the columns"):
        read(folder)
    path.write_text(text.replace("0.25", "a quarter"))
    with pytest.raises(ValueError, match=r"bbox\.csv: not a CSV of Open Images"):
        read(folder)
    path.unlink()
    (folder / "train-annotations-object-segmentation.csv").unlink()
    with pytest.raises(ValueError, match=r"is named \*annotations-bbox\.csv or .*; check the path"):
        read(folder)


def test_boxes_need_no_masks(folder: Path) -> None:
    (folder / "masks/0/one_m0b_1a.png").unlink()
    assert not read(folder, "boxes").problems


def test_ids_may_have_the_folders_of_their_images(folder: Path) -> None:
    """As exports of labeling tools have them; then names may repeat."""
    (folder / "images/val").mkdir()
    Image.new("RGB", (40, 20)).save(folder / "images/val/one.jpg")
    for path in folder.glob("*.csv"):
        path.write_text(path.read_text().replace("one,", "train_0/one,"))
    data = read(folder)
    assert [data[n].image_id for n in range(3)] == ["train_0/one", "train_0/two", "val/one"]
    assert len(objects_of(data, 0)) == 4
    assert len(objects_of(data, 2)) == 0


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """What Datumaro 1.13 writes of two subsets: ids are paths below the subset's folder and repeat
    in the other one, a slash is left out of a mask's name, and a mask without box has no numbers.
    """
    for name in ("train/a", "train/sub/b", "val/a"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(tmp_path / f"images/{name}.jpg")
    mask = np.zeros((20, 40), np.uint8)
    mask[5:15, 10:30] = 255
    for name in ("train/subb_dog_01", "val/subb_dog_01"):
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).convert("1").save(tmp_path / f"masks/{name}.png")
    (tmp_path / "annotations").mkdir()
    files = tmp_path / "annotations"
    box = "{},,{},1,0.25,0.5,0.1,0.6,-1,-1,{},-1,-1"
    write(files / "train-annotations-bbox.csv", BOX_HEADER, box.format("a", "cat", -1))
    write(files / "val-annotations-bbox.csv", BOX_HEADER, *[box.format("a", "dog", 0)] * 2)
    line = "subb_dog_01.png,sub/b,dog,01,,,,,,"
    write(files / "train-annotations-object-segmentation.csv", MASK_HEADER, line)
    write(files / "class-descriptions.csv", "cat,cat", "dog,dog")
    return tmp_path


def export_spec(task: Any) -> DatasetSpec:
    classes = (ClassInfo("cat", True), ClassInfo("dog", True))
    return DatasetSpec("export", task, classes, {"cat": 0, "dog": 1})


@pytest.mark.parametrize("task", ["objects", "boxes"])
def test_one_subset_of_an_export(export: Path, task: Any) -> None:
    data = read_open_images(export_spec(task), export / "images/train", export, subset="train")
    assert not data.problems
    assert [data[n].image_id for n in range(2)] == ["a", "sub/b"]
    found = [objects_of(data, n) for n in range(2)]
    assert [one.class_labels.tolist() for one in found] == [[0], [1]]
    assert found[1].boxes.tolist() == [[10, 5, 30, 15]], "that of its mask"
    assert not found[0].is_crowd.any()
    if task == "objects":
        assert found[1].masks is not None
        assert found[1].masks.sum() == 200


def test_several_subsets_without_a_choice_are_noted(export: Path) -> None:
    data = read_open_images(export_spec("objects"), export / "images/train", export)
    assert any("boxes are read from 2 files" in note for note in data.notes)
    (problem,) = data.problems
    assert "the mask subb_dog_01.png may be" in str(problem)
    assert "name the `subset`" in str(problem)


def test_masks_alone_are_enough(export: Path) -> None:
    for path in (export / "annotations").glob("*-bbox.csv"):
        path.unlink()
    data = read_open_images(export_spec("objects"), export / "images/train", export, subset="train")
    assert [len(objects_of(data, n)) for n in range(2)] == [0, 1]
    with pytest.raises(ValueError, match=r"segmentation\.csv and of subset 'test'; check the path"):
        read_open_images(export_spec("boxes"), export / "images/train", export, subset="test")


def test_two_images_of_one_name_are_refused(folder: Path) -> None:
    (folder / "images/val").mkdir()
    Image.new("RGB", (40, 20)).save(folder / "images/val/one.jpg")
    with pytest.raises(ValueError, match="have one name, which is the id of an image here"):
        read(folder)


def test_boxes_of_another_part_of_the_set_are_refused(folder: Path) -> None:
    for path in (folder / "images/train_0").iterdir():
        path.rename(path.with_name(f"val-{path.name}"))
    with pytest.raises(ValueError, match=r"no line of .* belongs to an image, such as"):
        read(folder)


def test_a_file_under_two_names_counts_once(folder: Path) -> None:
    for name in ("oidv6-train-annotations-bbox.csv", "train-annotations-object-segmentation.csv"):
        (folder / f"copy-{name}").write_text((folder / name).read_text())
        (folder / f"._{name}").write_bytes(b"\x00\x05\x16\x07")
    assert objects_of(read(folder), 0).class_labels.tolist() == [CAT, WOMAN, WOMAN, PERSON]


def test_an_unknown_class_is_that_of_its_own_image(folder: Path) -> None:
    (folder / "masks/0/one_m0b_1a.png").unlink()
    path = folder / "oidv6-train-annotations-bbox.csv"
    path.write_text(path.read_text().replace("one,xclick,/m/0c", "one,xclick,/m/0new"))
    data = read(folder)
    assert len(data.problems) == 1
    assert [data[n].image_id for n in range(len(data))] == ["two"]


def test_a_narrower_class_that_the_spec_lacks_counts_as_well(folder: Path) -> None:
    person = {"LabelName": "/m/0a", "Subcategory": [{"LabelName": "/m/0b"}]}
    (folder / "hierarchy.json").write_text(json.dumps(person))
    classes = (ClassInfo("Person", True),)
    alone = DatasetSpec("oi", "objects", classes, {"/m/0a": 0}, unknown_ids="void")
    data = read_open_images(alone, folder / "images", folder)
    assert len(objects_of(data, 0)) == 0
    assert list(data[0].incomplete) == [0]


def test_a_class_of_several_ids_was_looked_for_where_all_were(folder: Path) -> None:
    classes = (ClassInfo("animal or tree", True), ClassInfo("person", True))
    ids = {"/m/0c": 0, "/m/0d": 0, "/m/0a": 1, "/m/0b": 1}
    data = read_open_images(DatasetSpec("oi", "objects", classes, ids), folder / "images", folder)
    assert list(data[0].incomplete) == []
    path = folder / "train-annotations-human-imagelabels-boxable.csv"
    path.write_text(path.read_text().replace("one,verification,/m/0d,0\n", ""))
    data = read_open_images(DatasetSpec("oi", "objects", classes, ids), folder / "images", folder)
    assert list(data[0].incomplete) == [0]


def test_other_tasks_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="serves the task boxes or objects, not 'instance'"):
        read(folder, "instance")


def test_a_damaged_hierarchy_or_list_of_names_is_named(folder: Path) -> None:
    hierarchy = folder / "bbox_labels_600_hierarchy.json"
    hierarchy.write_text('{"Subcategory": []}')
    with pytest.raises(ValueError, match="hierarchy of Open Images"):
        read(folder)
    hierarchy.unlink()
    write(folder / "class-descriptions-boxable.csv", "/m/0a,Person,1")
    with pytest.raises(ValueError, match="line 1: expected an id and a name"):
        read(folder)
