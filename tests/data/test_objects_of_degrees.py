"""Objects of which more or less is known: in every reader that has them, through augmentation and
collating, and in the shapes world.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dataseg_hf.data.category_map import map_categories
from dataseg_hf.data.collate import Normalization, collate
from dataseg_hf.data.inspection import inspect_dataset
from dataseg_hf.data.readers.coco_instances import read_coco_instances
from dataseg_hf.data.readers.cvat_xml import read_cvat_xml
from dataseg_hf.data.readers.labelme import read_labelme
from dataseg_hf.data.readers.objects_of_degrees import MAX_POINTS, ObjectsOfDegrees, along_line
from dataseg_hf.data.readers.yolo import read_yolo
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, Instances, Sample, SampleDataset
from dataseg_hf.data.shapes import SHAPES_SPECS, shapes_dataset
from dataseg_hf.data.transforms import Augmentation, TransformedSample, augment, resize_only
from dataseg_hf.model.degrees_dataseg import Degree
from dataseg_hf.pictures.contact_sheet import contact_sheet
from helpers.annotation_files import save, write_json

TAG, POINT, BOX, MASK = Degree
SPEC = DatasetSpec(
    name="tiny",
    task="objects",
    classes=(ClassInfo("cat", True), ClassInfo("dog", True), ClassInfo("cow", True)),
    id_map={"cat": 0, "dog": 1, "cow": 2, 1: 0, 2: 1, 3: 2},
)
HEIGHT, WIDTH = 20, 30
NORMALIZATION = Normalization([0.5] * 3, [0.25] * 3)


def rectangle(left: int, top: int, right: int, bottom: int) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def one_of_each() -> Sample:
    """A cat's mask, a dog's box and point, and a cow somewhere."""
    objects = ObjectsOfDegrees((HEIGHT, WIDTH))
    objects.add(0, False, mask=rectangle(2, 2, 8, 10))
    objects.add(1, False, box=[20, 4, 28, 16])
    objects.add(1, False, points=[12.5, 15.5])
    objects.add(2, False)
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    return Sample(image, objects.instances(), "one", "one.png")


def objects_of(sample: Sample | TransformedSample) -> Instances:
    assert isinstance(sample.annotation, Instances)
    return sample.annotation


def degrees(sample: Sample | TransformedSample) -> list[int]:
    found = objects_of(sample).degrees
    assert found is not None
    return [*found.tolist()]


# --- put together ---------------------------------------------------------------------------------


def test_each_object_keeps_the_most_that_is_known() -> None:
    sample = one_of_each()
    found = objects_of(sample)
    assert degrees(sample) == [MASK, BOX, POINT, TAG]
    assert found.boxes.tolist() == [[2, 2, 8, 10], [20, 4, 28, 16], [0, 0, 30, 20], [0, 0, 30, 20]]
    assert found.masks is not None
    assert found.masks.any(axis=(1, 2)).tolist() == [True, False, False, False]
    assert found.points is not None
    assert found.points[2, 0].tolist() == [12.5, 15.5]
    assert np.isfinite(found.points).sum() == 2


def test_a_tag_of_a_class_with_objects_says_nothing_more() -> None:
    objects = ObjectsOfDegrees((HEIGHT, WIDTH))
    objects.add(0, False)
    objects.add(1, False)
    objects.add(1, False)
    objects.add(0, False, box=[0, 0, 4, 4])
    found = objects.instances()
    assert found.class_labels.tolist() == [1, 0]
    assert found.degrees is not None
    assert found.degrees.tolist() == [TAG, BOX]


def test_scribbles_are_points_along_their_line() -> None:
    assert along_line([0, 0, 16, 0]) == [0, 0, 8, 0, 16, 0]
    objects = ObjectsOfDegrees((HEIGHT, WIDTH))
    objects.add(0, False, points=[float(value) for value in range(80)])
    found = objects.instances().points
    assert found is not None
    assert np.isfinite(found[0]).all(axis=-1).sum() == MAX_POINTS
    assert found[0, 0].tolist() == [0, 1]
    assert found[0, -1].tolist() == [78, 79]


# --- through a window -----------------------------------------------------------------------------


def test_what_is_left_in_a_mirrored_and_enlarged_image() -> None:
    view = resize_only(one_of_each(), 60)
    assert degrees(view) == [MASK, BOX, POINT, TAG]
    found = objects_of(view)
    assert found.boxes[1].tolist() == [40, 8, 56, 32]
    assert found.points is not None
    assert found.points[2, 0].tolist() == [25, 31]
    assert view.box_axes is not None
    assert view.box_axes.tolist() == [[False] * 2, [True] * 2, [False] * 2, [False] * 2]
    assert view.incomplete == [2], "there may be more cows"
    mirrored = augment(
        one_of_each(), Augmentation(30, horizontal_flip=1.0), np.random.default_rng(0)
    )
    points = objects_of(mirrored).points
    assert points is not None
    assert points[2, 0].tolist() == [30 - 12.5, 15.5]


def test_a_cut_loses_points_outside_and_all_tags() -> None:
    """Then their class may still be seen."""
    for seed in range(40):
        view = augment(
            one_of_each(), Augmentation(15, (2.0, 2.0), 0.0), np.random.default_rng(seed)
        )
        assert TAG not in degrees(view)
        assert view.incomplete == ([2] if POINT in degrees(view) else [1, 2])
        points = objects_of(view).points
        assert points is not None
        inside = points[np.isfinite(points).all(axis=-1)]
        assert ((inside >= 0) & (inside < 15)).all()


def test_labels_of_objects() -> None:
    view = resize_only(one_of_each(), 30)
    batch = collate(
        [view], canvas=40, task="objects", normalization=NORMALIZATION, exhaustive=[True] * 3
    )
    (labels,) = batch["labels"]
    assert labels["degrees"].tolist() == [MASK, BOX, POINT, TAG]
    assert labels["boxes"][1].tolist() == pytest.approx([20 / 40, 4 / 40, 28 / 40, 16 / 40])
    assert labels["masks"].flatten(1).sum(1).tolist() == [48, 0, 0, 0]
    assert labels["points"][2, 0].tolist() == pytest.approx([12.5 / 40, 15.5 / 40])
    assert labels["box_axes"].tolist() == [[False] * 2, [True] * 2, [False] * 2, [False] * 2]
    assert labels["exhaustive"].tolist() == [True, True, False]


def test_a_crowd_without_mask_is_void_in_its_box() -> None:
    objects = ObjectsOfDegrees((HEIGHT, WIDTH))
    objects.add(0, True, box=[2, 4, 8, 10])
    sample = replace(one_of_each(), annotation=objects.instances())
    view = resize_only(sample, 30)
    batch = collate([view], canvas=30, task="objects", normalization=NORMALIZATION)
    (labels,) = batch["labels"]
    assert labels["masks"][0].sum() == 36
    assert labels["is_crowd"].tolist() == [True]


def test_classes_that_are_mapped_take_along_what_is_declared() -> None:
    sample = replace(one_of_each(), incomplete=(0, 2))
    open_dog = ClassInfo("dog", True, exhaustive=False)
    spec = replace(SPEC, classes=(SPEC.classes[0], open_dog, SPEC.classes[2]))
    data = SampleDataset(spec, [0], lambda row: sample)
    mapped = map_categories(data, {"cat": "pet", "dog": "pet", "cow": None})
    assert isinstance(mapped, SampleDataset)
    assert [(c.name, c.exhaustive) for c in mapped.spec.classes] == [("pet", False)]
    assert mapped[0].incomplete == [0]
    assert degrees(mapped[0]) == [MASK, BOX, POINT]


# --- readers --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an image, images/one.png."""
    save(tmp_path / "images/one.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    return tmp_path


def test_coco_with_and_without_segmentations(folder: Path) -> None:
    polygon = [[2, 2, 8, 2, 8, 10, 2, 10]]
    entries = [
        {"category_id": 1, "bbox": [2, 2, 6, 8], "segmentation": polygon},
        {"category_id": 2, "bbox": [20, 4, 8, 12]},
        {"category_id": 2, "bbox": [20, 4, 8, 12], "segmentation": []},
    ]
    content = {
        "images": [{"id": 1, "file_name": "one.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"id": n, "image_id": 1, **entry} for n, entry in enumerate(entries)],
    }
    data = read_coco_instances(SPEC, folder / "images", write_json(folder / "a.json", content))
    assert data.problems == []
    assert degrees(data[0]) == [MASK, BOX, BOX]
    assert objects_of(data[0]).boxes[2].tolist() == [20, 4, 28, 16]
    assert tuple(data[0].incomplete) == ()


@pytest.mark.parametrize("task", ["instance", "boxes", "objects"])
def test_lvis_says_which_classes_were_looked_for(folder: Path, task: str) -> None:
    """A cat is annotated, perhaps not the only one; there is no dog; nobody looked for cows."""
    polygon = [[2, 2, 8, 2, 8, 10, 2, 10]]
    image = {"id": 1, "file_name": "one.png", "height": HEIGHT, "width": WIDTH}
    lists = {"neg_category_ids": [2], "not_exhaustive_category_ids": []}
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 6, 8], "area": 48}
    content = {"images": [image | lists], "annotations": [entry | {"segmentation": polygon}]}
    spec = replace(SPEC, task=task)  # type: ignore[arg-type]

    def incomplete() -> list[int]:
        path = write_json(folder / "a.json", content)
        return [*read_coco_instances(spec, folder / "images", path)[0].incomplete]

    assert incomplete() == [2]
    lists["not_exhaustive_category_ids"] = [1]
    content["images"] = [image | lists]
    assert incomplete() == [0, 2]
    content["images"] = [image | {"not_exhaustive_category_ids": [1]}]
    assert incomplete() == [0], "nothing says which classes were looked for"
    content["images"] = [image | {"neg_category_ids": 2}]
    data = read_coco_instances(spec, folder / "images", write_json(folder / "a.json", content))
    assert "`neg_category_ids` must be a list of category ids" in str(data.problems[0])


def test_yolo_with_boxes_and_polygons(folder: Path) -> None:
    spec = replace(SPEC, id_map={0: 0, 1: 1})
    (folder / "txt").mkdir()
    (folder / "txt/one.txt").write_text("0 0.1 0.1 0.3 0.1 0.3 0.5 0.1 0.5\n1 0.8 0.5 0.2 0.6\n")
    data = read_yolo(spec, folder / "images", folder / "txt")
    assert data.problems == []
    assert degrees(data[0]) == [MASK, BOX]
    masks = objects_of(data[0]).masks
    assert masks is not None
    assert masks.sum(axis=(1, 2)).tolist() == [48, 0]


def test_labelme_with_points_scribbles_and_flags(folder: Path) -> None:
    shapes = [
        {"label": "cat", "points": [[2, 2], [8, 2], [8, 10]], "shape_type": "polygon"},
        {"label": "dog", "points": [[20, 4], [28, 16]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[12.5, 15.5]], "shape_type": "point"},
        {"label": "dog", "points": [[2, 12], [2, 18], [18, 18]], "shape_type": "linestrip"},
    ]
    content = {
        "flags": {"cow": True, "cat": True, "blurred": True, "dog": False},
        "shapes": shapes,
        "imagePath": "one.png",
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }
    (folder / "images/one.json").write_text(json.dumps(content))
    data = read_labelme(SPEC, folder / "images")
    assert data.problems == []
    found = objects_of(data[0])
    assert sorted(zip(found.class_labels.tolist(), degrees(data[0]), strict=True)) == [
        (0, MASK),
        (1, POINT),
        (1, POINT),
        (1, BOX),
        (2, TAG),
    ]


def test_cvat_with_points_and_tags(folder: Path) -> None:
    (folder / "annotations.xml").write_text(
        f"""<annotations><version>1.1</version>
        <image id="0" name="one.png" width="{WIDTH}" height="{HEIGHT}">
          <polygon label="cat" points="2,2;8,2;8,10"/>
          <box label="dog" xtl="20" ytl="4" xbr="28" ybr="16"/>
          <points label="dog" points="12.5,15.5;13,16"/>
          <tag label="cow"/>
        </image></annotations>"""
    )
    data = read_cvat_xml(SPEC, folder / "images", folder / "annotations.xml")
    assert data.problems == []
    assert degrees(data[0]) == [MASK, BOX, POINT, TAG]
    points = objects_of(data[0]).points
    assert points is not None
    assert points[2, :2].tolist() == [[12.5, 15.5], [13, 16]]


def test_a_point_outside_of_its_image_is_refused(folder: Path) -> None:
    shapes = [{"label": "cat", "points": [[40, 4]], "shape_type": "point"}]
    content = {"shapes": shapes, "imagePath": "one.png", "flags": {}}
    (folder / "images/one.json").write_text(json.dumps(content))
    data = read_labelme(SPEC, folder / "images")
    assert "the point (40, 4) lies outside the image" in str(data.problems[0])


# --- the shapes world -----------------------------------------------------------------------------


def test_scenes_keep_the_asked_shares_of_what_is_known() -> None:
    known = {"mask": 0.1, "box": 0.4, "point": 0.3, "tag": 0.2}
    whole = shapes_dataset("shapes_objects", "train", count=300)
    weak = shapes_dataset("shapes_objects", "train", count=300, known=known)  # type: ignore[arg-type]
    assert {degree for sample in whole for degree in degrees(sample)} == {MASK}
    found = np.array([degree for sample in weak for degree in degrees(sample)])
    shares = [np.mean(found == degree) for degree in (MASK, BOX, POINT)]
    # tags beside an object of their class say nothing, so that some are left out
    assert shares == pytest.approx([0.1, 0.4, 0.3], abs=0.06)
    for before, after in zip(whole, weak, strict=True):
        assert set(objects_of(after).class_labels) == set(objects_of(before).class_labels)


def test_points_lie_in_their_objects() -> None:
    whole = shapes_dataset("shapes_objects", "train", count=20)
    points_only = shapes_dataset("shapes_objects", "train", count=20, known={"point": 1.0})
    for before, after in zip(whole, points_only, strict=True):
        masks, points = objects_of(before).masks, objects_of(after).points
        assert masks is not None
        assert points is not None
        for mask, (x, y) in zip(masks, points[:, 0], strict=True):
            assert mask[int(y), int(x)]


@pytest.mark.parametrize("declared", [True, False])
def test_classes_are_missing_in_half_of_the_images(declared: bool) -> None:
    names = ["red square", "blue cross"]
    classes = [SHAPES_SPECS["shapes_objects"].labels.index(name) for name in names]
    whole = shapes_dataset("shapes_objects", "train", count=200)
    partial = shapes_dataset(
        "shapes_objects", "train", count=200, unlabeled=names, declared=declared
    )
    missing = 0
    for before, after in zip(whole, partial, strict=True):
        kept = [c for c in objects_of(before).class_labels if c not in classes]
        fewer = len(objects_of(after)) < len(objects_of(before))
        missing += fewer
        if fewer:
            assert objects_of(after).class_labels.tolist() == kept
        if not declared:
            assert tuple(after.incomplete) == ()
    said = sum(tuple(sample.incomplete) == tuple(classes) for sample in partial)
    assert 30 < missing < 100
    assert (70 < said < 130) == declared


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"known": {"mask": 0.5, "box": 0.4}}, r"the shares add up to 0\.9"),
        ({"known": {"mask": 1.5, "box": -0.5}}, "shares of"),
        ({"unlabeled": ["cat"]}, r"has no classes \['cat'\]"),
    ],
)
def test_impossible_shares_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shapes_dataset("shapes_objects", "train", **options)


def test_other_sets_are_annotated_as_they_are() -> None:
    with pytest.raises(ValueError, match="are for training on 'shapes_objects'"):
        shapes_dataset("shapes_boxes", "train", unlabeled=["red square"])


# --- what a user is told --------------------------------------------------------------------------


def test_inspection_counts_degrees_and_open_classes() -> None:
    cow = ClassInfo("cow", True, exhaustive=False)
    spec = replace(SPEC, classes=(*SPEC.classes[:2], cow))
    samples = [replace(one_of_each(), image_id=n, incomplete=(1,)) for n in range(2)]
    samples[1].image[:] = 30
    data = SampleDataset(spec, samples, lambda sample: sample)
    notes = "\n".join(inspect_dataset("tiny", data, check=None).notes)
    assert (
        "what is known of 8 objects: 2 masks (25%), 2 boxes (25%), 2 points (25%), 2 tags (25%)"
    ) in notes
    assert "1 of 3 classes are declared not exhaustive: cow" in notes
    assert "2 of 2 images may show objects that are not annotated, of 1 classes: dog (2)" in notes


def test_contact_sheets_show_where_points_are() -> None:
    sample = one_of_each()
    sheet = contact_sheet([sample], SPEC)
    without = replace(sample, annotation=objects_of(sample).select(np.array([0, 1, 3])))
    assert sheet.tobytes() != contact_sheet([without], SPEC).tobytes()
    tagged = objects_of(sample).select(np.array([0, 1, 2]))
    assert sheet.tobytes() == contact_sheet([replace(sample, annotation=tagged)], SPEC).tobytes()


def test_inspection_names_classes_that_nobody_looked_for() -> None:
    sample = replace(one_of_each(), incomplete=(2,))
    kept = objects_of(sample).class_labels < 2
    data = SampleDataset(
        SPEC, [replace(sample, annotation=objects_of(sample).select(kept))], lambda row: row
    )
    notes = "\n".join(inspect_dataset("tiny", data, check=None).notes)
    assert "were looked for in no image and have no object teach nothing" in notes
    assert "leave them out: cow" in notes


def images_of_one_class(count: int, objects: int = 2) -> list[Sample]:
    """Each with objects of one of two classes."""
    samples = []
    for number in range(count):
        sample = one_of_each()
        place = np.full(objects, number % 2)
        samples.append(
            replace(sample, image_id=number, annotation=objects_of(sample).select(place))
        )
        samples[-1].annotation.class_labels[:] = number % 2
        samples[-1].image[:] = number
    return samples


@pytest.mark.parametrize(
    ("count", "objects", "exhaustive", "mixed", "noted"),
    [
        (24, 2, True, False, True),
        (24, 2, False, False, False),
        (24, 2, True, True, False),
        (24, 1, True, False, False),
        (8, 2, True, False, False),
    ],
)
def test_images_that_seem_annotated_for_one_class_each_are_noted(
    count: int, objects: int, exhaustive: bool, mixed: bool, noted: bool
) -> None:
    samples = images_of_one_class(count, objects)
    if mixed:
        samples[0].annotation.class_labels[:] = [0, 1]
    classes = tuple(replace(c, exhaustive=exhaustive) for c in SPEC.classes)
    data = SampleDataset(replace(SPEC, classes=classes), samples, lambda sample: sample)
    notes = "\n".join(inspect_dataset("tiny", data, check=None).notes)
    assert ("none of 24 images has objects of two classes, though 2 classes" in notes) == noted
