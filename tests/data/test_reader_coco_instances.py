import copy
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from pycocotools import mask as mask_utils

from dataseg_hf.data.readers.coco_instances import read_coco_instances
from dataseg_hf.data.sample import BadSampleError
from helpers.annotation_files import SPEC, save, write_json

INSTANCES = replace(SPEC, task="instance")
BOXES = replace(SPEC, task="boxes")


def box_mask(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((4, 6), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


SEGMENTATIONS = [
    [[0, 0, 4, 0, 4, 2, 0, 2]],
    {
        "size": [4, 6],
        "counts": mask_utils.encode(np.asfortranarray(box_mask(1, 1, 4, 3).astype(np.uint8)))[
            "counts"
        ].decode(),
    },
    {"size": [4, 6], "counts": [20, 4]},
    [[0, 0, 1, 0, 1, 1, 0, 1], [5, 3, 6, 3, 6, 4, 5, 4]],
]
CONTENT = {
    "images": [
        {"id": 2, "file_name": "a.png", "height": 4, "width": 6},
        {"id": 1, "file_name": "b.png", "height": 4, "width": 6},
    ],
    "annotations": [
        *(
            {
                "id": i,
                "image_id": 2,
                "category_id": 17,
                "bbox": [1, 2, 3, 1.5],
                "iscrowd": int(i == 2),
                "segmentation": s,
            }
            for i, s in enumerate(SEGMENTATIONS)
        ),
        {
            "id": 7,
            "image_id": 2,
            "category_id": 255,
            "bbox": [0, 0, 1, 1],
            "segmentation": [[0, 0, 1, 0, 1, 1]],
        },
    ],
}


@pytest.fixture
def instances(tmp_path):
    """(content of the JSON, function that writes it and reads the dataset)."""
    for name in ("a.png", "b.png"):
        save(tmp_path / "images" / name, np.zeros((4, 6, 3), np.uint8))
    content = copy.deepcopy(CONTENT)

    def read(spec=INSTANCES, **options):
        path = write_json(tmp_path / "instances.json", content)
        return read_coco_instances(
            spec, images=tmp_path / "images", annotation_file=path, **options
        )

    return content, read


def image_ids(dataset) -> list:
    return [row["image_id"] for row in dataset.rows]


def test_by_hand(instances):
    _, read = instances
    dataset = read()
    assert (dataset.problems, dataset.notes) == ([], [])
    assert image_ids(dataset) == [1, 2]
    empty, sample = dataset[0].annotation, dataset[1].annotation
    assert empty.class_labels.shape == (0,)
    assert empty.boxes.shape == (0, 4)
    assert empty.masks.shape == (0, 4, 6)

    assert sample.class_labels.tolist() == [0] * 4, "the void object is left out"
    assert sample.class_labels.dtype == np.int64
    assert sample.boxes.dtype == np.float32
    assert sample.boxes.tolist() == [[1, 2, 4, 3.5]] * 4
    assert sample.is_crowd.tolist() == [False, False, True, False]
    expected = [
        box_mask(0, 0, 4, 2),
        box_mask(1, 1, 4, 3),
        box_mask(5, 0, 6, 4),
        box_mask(0, 0, 1, 1) | box_mask(5, 3, 6, 4),
    ]
    assert sample.masks.dtype == bool
    np.testing.assert_array_equal(sample.masks, expected)
    assert (sample.masks[0] & sample.masks[1]).any(), "overlapping instances stay overlapping"


def test_boxes_need_no_segmentation(instances):
    content, read = instances
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    sample = read(BOXES)[1]
    assert sample.annotation.masks is None
    assert sample.annotation.boxes.tolist() == [[1, 2, 4, 3.5]] * 4
    dataset = read()
    assert image_ids(dataset) == [1]
    (problem,) = map(str, dataset.problems)
    assert "instances.json: image 2, annotation 0: key 'segmentation' is missing" in problem


def test_a_missing_image_that_lies_elsewhere_is_pointed_out(instances):
    content, read = instances
    name = content["images"][0]["file_name"]
    for listed, hint in (
        (f"elsewhere/{name}", "cut the folders off by `file_name_pattern"),
        (name.upper(), "missing"),
    ):
        content["images"][0]["file_name"] = listed
        assert any(hint in str(problem) for problem in read().problems)


def test_boxes_are_clipped_to_the_image(instances):
    content, read = instances
    content["annotations"][0]["bbox"] = [-1, 1, 7, 3.5]
    assert read(BOXES)[1].annotation.boxes[0].tolist() == [0, 1, 6, 4]


def test_boxes_far_outside_are_refused_or_cut(instances):
    content, read = instances
    content["annotations"][0] |= {"bbox": [1, 1, 40, 30], "segmentation": None}
    (problem,) = map(str, read(BOXES).problems)
    assert (
        "image 2, annotation 0: the box from (1, 1) to (41, 31) reaches 35 pixels beyond the image "
        "of 4 x 6" in problem
    )
    assert "`outside: clip`" in problem
    clipped = read(replace(BOXES, outside="clip"))
    assert clipped.problems == []
    assert clipped[1].annotation.boxes[0].tolist() == [1, 1, 6, 4]


def test_polygons_far_outside_are_refused_or_cut(instances):
    content, read = instances
    content["annotations"][0] |= {"segmentation": [[1, 1, 90, 1, 90, 90, 1, 90]], "bbox": None}
    (problem,) = map(str, read().problems)
    assert (
        "image 2, annotation 0: a polygon from 1 to 90 along a side of 6 pixels lies far outside"
        in problem
    )
    assert "`outside: clip`" in problem
    clipped = read(replace(INSTANCES, outside="clip"))
    assert clipped.problems == []
    mask = clipped[1].annotation.masks[0]
    assert mask[1:, 1:].all()
    assert mask.sum() == 15


@pytest.mark.parametrize("spec", [INSTANCES, BOXES])
def test_a_box_that_is_not_that_of_its_mask_is_refused_with_the_cause(instances, tmp_path, spec):
    content, read = instances
    save(tmp_path / "images/large.png", np.zeros((48, 64, 3), np.uint8))
    content["images"] = [{"id": 2, "file_name": "large.png", "height": 48, "width": 64}]
    content["annotations"] = [
        {"id": 0, "image_id": 2, "category_id": 17, "bbox": [20, 10, 44, 30],
         "segmentation": [[20, 10, 44, 10, 44, 30, 20, 30]]}
    ]  # fmt: skip
    (problem,) = map(str, read(spec).problems)
    assert "`bbox` spans (20, 10) to (64, 40), but its segmentation (20, 10) to (44, 30)" in problem
    assert "it looks like left, top, right, bottom" in problem
    content["annotations"][0]["bbox"] = [20, 10, 24, 20]
    assert read(spec).problems == []


@pytest.mark.parametrize("box", [[1, 1, 0, 2], [1, 1, 2, 0], [0, 0, 0, 0], [3, 3, 0.0, 1.5]])
@pytest.mark.parametrize("spec", [INSTANCES, BOXES])
def test_boxes_without_area_are_left_out_with_a_note(instances, spec, box):
    content, read = instances
    content["annotations"][1]["bbox"] = box
    dataset = read(spec)
    assert dataset.problems == []
    (note,) = dataset.notes
    assert note.startswith("1 boxes of ")
    assert note.endswith("instances.json have no width or no height: left out")
    assert dataset[1].annotation.is_crowd.tolist() == [False, True, False], (
        "the second of four is gone"
    )


NAN_BOX = "annotation 0: a box is four finite numbers, not .*; correct or remove it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"category_id": 4},
            r"1 category id is not in the spec of dataset 'tiny': 4 \(1 object\); add each",
        ),
        (
            {"category_id": "cat"},
            "annotation 0, `category_id`: 'cat' is no finite number; correct it",
        ),
        (
            {"category_id": None},
            "annotation 0, `category_id`: None is no finite number; correct it",
        ),
        ({"category_id": 17.5}, "annotation 0, `category_id`: 17.5 is no whole number; correct it"),
        ({"iscrowd": "2.0"}, "annotation 0, `iscrowd`: '2.0' is no flag"),
        ({"iscrowd": 2}, "annotation 0, `iscrowd`: 2 is no flag, which is 0 or 1"),
        ({"iscrowd": "maybe"}, "annotation 0, `iscrowd`: 'maybe' is no flag"),
        ({"bbox": [0, 0, 1]}, "annotation 0: `bbox` must be .* correct or remove it"),
        ({"bbox": [0, 0, "1", 1]}, "annotation 0: `bbox` must be .* correct or remove it"),
        ({"bbox": [0, 0, None, 1]}, "annotation 0: `bbox` must be .* correct or remove it"),
        ({"bbox": [0, 0, True, 1]}, "annotation 0: `bbox` must be .* correct or remove it"),
        ({"bbox": [1e308, 0, 1e308, 1]}, NAN_BOX),
        ({"bbox": [2, 0, -1, 1]}, "annotation 0: the box .* has no area.* correct or remove it"),
        ({"bbox": [2, 0, 1, -1]}, "annotation 0: the box .* has no area.* correct or remove it"),
        (
            {"bbox": [-5, 0, 5, 4]},
            "annotation 0: `bbox` spans .*, but its segmentation .* correct or remove it",
        ),
        (
            {"bbox": [6, 0, 5, 4]},
            "annotation 0: `bbox` spans .*, but its segmentation .* correct or remove it",
        ),
        ({"segmentation": []}, "annotation 0: has no polygon; draw one"),
        (
            {"segmentation": [[0, 0, 1, 1]]},
            "annotation 0: a polygon of 2 points, but 3 are the least; remove it",
        ),
        (
            {"segmentation": [[0, 0, 1, 1, 2]]},
            "annotation 0: a polygon of 5 coordinates, an odd number",
        ),
        ({"segmentation": [[0, 0, 1, 1, 2, "3"]]}, "annotation 0: a polygon is a list of numbers"),
        (
            {"segmentation": [[0, 0, 1, 1, 2, 1e300]]},
            "annotation 0: a polygon from .* lies far outside",
        ),
        (
            {"segmentation": [1, 0, 3, 0, 3, 2]},
            "annotation 0: its segmentation is one flat list of numbers; write a list of",
        ),
        (
            {"segmentation": [[1, 0], [3, 0], [3, 2]]},
            "annotation 0: its segmentation is a list of points; write a list",
        ),
        (
            {"segmentation": "text"},
            "annotation 0: a segmentation is a list of polygons or run lengths",
        ),
        ({"segmentation": {"size": [4, 6]}}, "annotation 0: key 'counts' is missing"),
        (
            {"segmentation": {"size": [4, 6], "counts": [20]}},
            "annotation 0: run lengths .*24 pixels, not 20; encode",
        ),
        (
            {"segmentation": {"size": [4, 6], "counts": [-4, 28]}},
            "annotation 0: run lengths must be >= 0",
        ),
        (
            {"segmentation": {"size": [4, 6], "counts": ""}},
            "annotation 0: run lengths .*24 pixels, not 0; encode",
        ),
    ],
)
def test_malformed_objects_leave_their_image_out(instances, change, message):
    content, read = instances
    content["annotations"][0].update(change)
    dataset = read()
    assert image_ids(dataset) == [1], "the other image stays"
    with pytest.raises(BadSampleError, match=f"instances.json: image 2(, |: ){message}"):
        raise BadSampleError(*dataset.problems)


@pytest.mark.parametrize("box", [None, "missing"])
def test_a_missing_box_is_that_of_the_segmentation(instances, box):
    content, read = instances
    entry = content["annotations"][3]
    entry["bbox"] = None
    if box == "missing":
        del entry["bbox"]
    assert read()[1].annotation.boxes[3].tolist() == [0, 0, 6, 4]


@pytest.mark.parametrize("key", ["category_id", "segmentation"])
def test_missing_keys_of_an_object(instances, key):
    content, read = instances
    del content["annotations"][3][key]
    (problem,) = map(str, read().problems)
    assert f"instances.json: image 2, annotation 3: key '{key}' is missing" in problem


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_know(instances, tmp_path, number):
    _, read = instances
    read()
    path = tmp_path / "instances.json"
    path.write_text(path.read_text().replace("1.5", number, 1))
    with pytest.raises(
        ValueError, match=r"instances\.json: not valid JSON \(.*\); export or download it anew"
    ):
        read_coco_instances(INSTANCES, tmp_path / "images", path)


def test_run_lengths_of_another_size(instances):
    content, read = instances
    content["annotations"][0]["segmentation"] = {"size": [6, 4], "counts": [24]}
    (problem,) = map(str, read().problems)
    assert (
        "instances.json: image 2, annotation 0: run lengths of size [6, 4] (height, width)"
        in problem
    )


def test_sizes_differ(instances):
    content, read = instances
    content["images"][1]["width"] = 7
    with pytest.raises(BadSampleError, match=r"b\.png is 4 x 6 .*instances\.json is 4 x 7"):
        read()[0]


@pytest.mark.parametrize("key", ["height", "width"])
@pytest.mark.parametrize("value", ["six", 0, -4, 2.5, [6], True])
def test_sizes_that_are_none(instances, key, value):
    content, read = instances
    content["images"][1][key] = value
    dataset = read()
    assert image_ids(dataset) == [2]
    (problem,) = map(str, dataset.problems)
    assert f"instances.json: image 1, `{key}`: " in problem


def test_a_size_that_is_not_stated_is_that_of_the_image(instances):
    content, read = instances
    expected = [read()[i].annotation.masks.shape[1:] for i in range(2)]
    for image in content["images"]:
        image.pop("height"), image.pop("width")
    dataset = read()
    assert (image_ids(dataset), dataset.problems) == ([1, 2], [])
    assert [dataset[i].annotation.masks.shape[1:] for i in range(2)] == expected


def test_numbers_written_as_text_fractions_and_booleans_are_read_as_what_they_are(instances):
    content, read = instances
    expected = [(sample.image_id, sample.annotation.class_labels.tolist()) for sample in read()]
    for image in content["images"]:
        image |= {"height": str(image["height"]), "width": float(image["width"])}
    for number, entry in enumerate(content["annotations"]):
        entry["image_id"] = str(entry["image_id"]) if number % 2 else float(entry["image_id"])
        entry["category_id"] = (
            str(entry["category_id"]) if number % 2 else float(entry["category_id"])
        )
        entry["iscrowd"] = (
            bool(entry.get("iscrowd")) if number % 2 else str(entry.get("iscrowd", 0))
        )
    dataset = read()
    assert dataset.problems == []
    assert [
        (sample.image_id, sample.annotation.class_labels.tolist()) for sample in dataset
    ] == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_the_json(instances, tmp_path, encoding):
    _, read = instances
    expected = len(read()[1].annotation.boxes)
    path = tmp_path / "instances.json"
    path.write_text(path.read_text(), encoding=encoding)
    assert (
        len(read_coco_instances(INSTANCES, tmp_path / "images", path)[1].annotation.boxes)
        == expected
    )


def test_file_names_of_windows_are_found(instances):
    content, read = instances
    for image in content["images"]:
        image["file_name"] = f".\\{image['file_name']}"
    assert read().problems == []


def test_crowds_as_objects_are_ordinary_objects(instances):
    content, read = instances
    for entry in content["annotations"]:
        entry["iscrowd"] = 1
    assert read()[1].annotation.is_crowd.all()
    dataset = read(crowd="as_objects")
    assert not dataset[1].annotation.is_crowd.any()
    assert dataset.census.crowds.sum() == 0
    assert dataset.census.objects.sum() == sum(
        len(sample.annotation.class_labels) for sample in dataset
    )


def test_annotation_of_an_image_that_is_not_listed(instances):
    content, read = instances
    content["annotations"][0]["image_id"] = 3
    dataset = read()
    assert image_ids(dataset) == [1, 2]
    (problem,) = map(str, dataset.problems)
    assert (
        "instances.json: image 3: has annotations, but is not listed in `images`; list it"
        in problem
    )


def test_missing_image(instances, tmp_path):
    _, read = instances
    (tmp_path / "images/a.png").unlink()
    dataset = read()
    assert image_ids(dataset) == [1]
    (problem,) = map(str, dataset.problems)
    assert problem.startswith(
        f"{tmp_path}/images/a.png: missing, image 2 of {tmp_path}/instances.json; add it"
    )
    subset = read(missing_images="skip")
    assert (image_ids(subset), subset.problems) == ([1], [])
    assert subset.notes == [
        f"1 of 2 images listed in {tmp_path}/instances.json are not in {tmp_path}/images: left out"
    ]


def test_nothing_annotated_and_nothing_listed(instances):
    content, read = instances
    content["annotations"] = []
    assert [len(read()[i].annotation.boxes) for i in range(2)] == [0, 0]
    content["images"] = []
    with pytest.raises(ValueError, match=r"dataset 'tiny': no images in .*images; check the path"):
        read()


@pytest.mark.parametrize("part", ["images", "annotations"])
def test_missing_part(instances, part):
    content, read = instances
    del content[part]
    with pytest.raises(
        ValueError, match=rf"instances\.json: key '{part}' is missing, or is no list"
    ):
        read()


@pytest.mark.parametrize("entry", [None, 3, [], "text"])
@pytest.mark.parametrize("part", ["images", "annotations"])
def test_entries_that_are_no_records(instances, part, entry):
    content, read = instances
    content[part][0] = entry
    with pytest.raises(ValueError, match=rf"instances\.json: {part}: key '\w+' is missing"):
        read()


# --- a class per pixel


SEMANTIC = replace(SPEC, task="semantic")


def test_semantic_by_hand(instances):
    """A large object, a small one on it though it is listed first, a crowd, and an object of a void
    category.
    """
    content, read = instances
    large, small, crowd, void = (
        [0, 0, 6, 0, 6, 3, 0, 3],
        [1, 1, 3, 1, 3, 2, 1, 2],
        [0, 2, 6, 2, 6, 4, 0, 4],
        [4, 0, 6, 0, 6, 1, 4, 1],
    )
    content["annotations"] = [
        {"id": 1, "image_id": 2, "category_id": 193, "segmentation": [small]},
        {"id": 2, "image_id": 2, "category_id": 17, "segmentation": [large]},
        {"id": 3, "image_id": 2, "category_id": 17, "iscrowd": 1, "segmentation": [crowd]},
        {"id": 4, "image_id": 2, "category_id": 255, "segmentation": [void]},
    ]
    found = read(SEMANTIC)[1].annotation
    cat, grass = (found.class_labels.tolist().index(SPEC.id_map[raw_id]) for raw_id in (17, 193))
    assert found.segment_map.tolist() == [
        [cat, cat, cat, cat, -1, -1],
        [cat, grass, grass, cat, cat, cat],
        [cat] * 6,
        [-1] * 6,
    ], "the crowd lies below, and a void category makes its pixels void"
    assert not found.is_crowd.any()


def test_pixels_in_no_object_are_void_or_the_background(instances):
    content, read = instances
    content["annotations"] = content["annotations"][:1]
    assert (read(SEMANTIC)[1].annotation.segment_map == -1).sum() == 24 - 8
    found = read(SEMANTIC, background=193)[1].annotation
    assert (found.segment_map >= 0).all()
    with pytest.raises(ValueError, match=r"^background: 77 is no id"):
        read(SEMANTIC, background=77)
    with pytest.raises(ValueError, match=r"^background: "):
        read(background=193)


# --- LVIS v1


def test_lvis_names_its_images_by_the_end_of_a_url(instances, tmp_path):
    content, read = instances
    for image in content["images"]:
        name = image.pop("file_name")
        image["coco_url"] = f"http://images.cocodataset.org/train2017/{name}"
    (tmp_path / "images/train2017").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).rename(tmp_path / "images/train2017" / name)
    dataset = read()
    assert (image_ids(dataset), dataset.problems) == ([1, 2], [])
    assert dataset[1].file_name == "train2017/a.png"


def test_names_of_the_categories_are_stated(instances):
    content, read = instances
    assert read().stated_names == {}
    content["categories"] = [
        {"id": "17", "name": "cat"},
        {"id": 193.0, "name": "grass"},
        {"name": "no id"},
        {"id": 4},
        5,
    ]
    assert read().stated_names == {17: "cat", 193: "grass"}


def test_lvis_says_how_frequent_its_classes_are(instances):
    content, read = instances
    assert read().frequencies == {}
    content["categories"] = [
        {"id": 17, "name": "cat", "frequency": "r"},
        {"id": 193, "name": "grass", "frequency": "f"},
        {"id": 4, "name": "sofa", "frequency": "often"},
        {"id": 5, "name": "tree"},
    ]
    assert read().frequencies == {17: "rare", 193: "frequent"}


def test_an_object_of_a_class_that_is_said_to_be_absent_is_remarked(instances):
    content, read = instances
    for image in content["images"]:
        image["neg_category_ids"] = [17]
    dataset = read()
    assert dataset[0].remarks == ()
    (remark,) = dataset[1].remarks
    assert "'cat' is annotated, though `neg_category_ids` says that the image shows none" in remark
    assert len(dataset[1].annotation.class_labels) == 4, "the objects count"


# --- the copy of the annotations in the cache


def cache_folder() -> Path:
    return Path(datasets.config.HF_DATASETS_CACHE) / "dataseg_hf"


def test_the_cache_follows_the_file(instances):
    content, read = instances
    before = read()
    files = set(cache_folder().iterdir())
    del content["annotations"][0]
    after = read()
    assert len(after[1].annotation.boxes) == 3
    assert len(before[1].annotation.boxes) == 4, "a dataset in use keeps its copy"
    assert len(set(cache_folder().iterdir()) - files) == 2, "a new copy and its lock"


def test_a_file_that_cannot_be_read_leaves_no_copy_behind(instances):
    content, read = instances
    files = set(cache_folder().iterdir()) if cache_folder().is_dir() else set()
    del content["annotations"][4]["image_id"]
    with pytest.raises(ValueError, match="key 'image_id' is missing"):
        read()
    assert {path.suffix for path in set(cache_folder().iterdir()) - files} <= {".lock"}
