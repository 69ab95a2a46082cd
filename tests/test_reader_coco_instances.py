import copy
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from annotation_files import SPEC, save, write_json
from pycocotools import mask as mask_utils

from dataseg_hf.data.readers.coco_instances import read_coco_instances
from dataseg_hf.data.sample import BadSampleError

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
        "counts": mask_utils.encode(np.asfortranarray(box_mask(1, 1, 4, 3).astype(np.uint8)))["counts"].decode(),
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
        {"id": 7, "image_id": 2, "category_id": 255, "bbox": [0, 0, 1, 1], "segmentation": [[0, 0, 1, 0, 1, 1]]},
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
        return read_coco_instances(spec, images=tmp_path / "images", annotation_file=path, **options)

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
    (problem,) = dataset.problems
    assert "instances.json: image 2, annotation 0: key 'segmentation' is missing" in problem


def test_boxes_are_clipped_to_the_image(instances):
    content, read = instances
    content["annotations"][0]["bbox"] = [-1, 3, 99, 2.5]
    assert read(BOXES)[1].annotation.boxes[0].tolist() == [0, 3, 6, 4]


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
    assert dataset[1].annotation.is_crowd.tolist() == [False, True, False], "the second of four is gone"


NAN_BOX = "annotation 0: a box is four finite numbers, not .*; correct or remove it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 4}, "category id 4 is not in the id map of dataset 'tiny'; add it"),
        ({"category_id": "17"}, "annotation 0: category id '17' is no number; correct it"),
        ({"category_id": None}, "annotation 0: category id None is no number; correct it"),
        ({"bbox": [0, 0, 1]}, "annotation 0: `bbox` must be .* correct or remove it"),
        ({"bbox": None}, "annotation 0: `bbox` must be .* correct or remove it"),
        ({"bbox": [0, 0, "1", 1]}, "annotation 0: `bbox` must be four numbers.* correct or remove it"),
        ({"bbox": [0, 0, None, 1]}, "annotation 0: `bbox` must be four numbers.* correct or remove it"),
        ({"bbox": ["0", "0", "1", "1"]}, NAN_BOX),
        ({"bbox": [1e308, 0, 1e308, 1]}, NAN_BOX),
        ({"bbox": [2, 0, -1, 1]}, "annotation 0: the box .* has no area.* correct or remove it"),
        ({"bbox": [2, 0, 1, -1]}, "annotation 0: the box .* has no area.* correct or remove it"),
        ({"bbox": [-5, 0, 5, 4]}, "annotation 0: the box .* outside the image of 4 x 6 pixels.* correct or remove it"),
        ({"bbox": [6, 0, 5, 4]}, "annotation 0: the box .* outside the image of 4 x 6 pixels.* correct or remove it"),
        ({"segmentation": []}, "annotation 0: has no polygon; draw one"),
        ({"segmentation": [[0, 0, 1, 1]]}, "annotation 0: a polygon of 2 points, but 3 are the least; remove it"),
        ({"segmentation": [[0, 0, 1, 1, 2]]}, "annotation 0: a polygon of 5 coordinates, an odd number"),
        ({"segmentation": [[0, 0, 1, 1, 2, "3"]]}, "annotation 0: a polygon is a list of numbers"),
        ({"segmentation": [[0, 0, 1, 1, 2, 1e300]]}, "annotation 0: a polygon from .* lies far outside"),
        ({"segmentation": "text"}, "annotation 0: a segmentation is a list of polygons or run lengths"),
        ({"segmentation": {"size": [4, 6]}}, "annotation 0: key 'counts' is missing"),
        ({"segmentation": {"size": [4, 6], "counts": [20]}}, "annotation 0: run lengths .*24 pixels, not 20; encode"),
        ({"segmentation": {"size": [4, 6], "counts": [-4, 28]}}, "annotation 0: run lengths must be >= 0"),
        ({"segmentation": {"size": [4, 6], "counts": ""}}, "annotation 0: run lengths .*24 pixels, not 0; encode"),
    ],
)
def test_malformed_objects_leave_their_image_out(instances, change, message):
    content, read = instances
    content["annotations"][0].update(change)
    dataset = read()
    assert image_ids(dataset) == [1], "the other image stays"
    with pytest.raises(BadSampleError, match=f"instances.json: image 2(, |: ){message}"):
        raise BadSampleError(*dataset.problems)


@pytest.mark.parametrize("key", ["category_id", "bbox", "segmentation"])
def test_missing_keys_of_an_object(instances, key):
    content, read = instances
    del content["annotations"][3][key]
    (problem,) = read().problems
    assert f"instances.json: image 2, annotation 3: key '{key}' is missing" in problem


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_know(instances, tmp_path, number):
    _, read = instances
    read()
    path = tmp_path / "instances.json"
    path.write_text(path.read_text().replace("1.5", number, 1))
    with pytest.raises(ValueError, match=r"instances\.json: not valid JSON \(.*\); export or download it anew"):
        read_coco_instances(INSTANCES, tmp_path / "images", path)


def test_run_lengths_of_another_size(instances):
    content, read = instances
    content["annotations"][0]["segmentation"] = {"size": [6, 4], "counts": [24]}
    with pytest.raises(BadSampleError, match=r"instances\.json: image 2: run lengths of size \[6, 4\].*\[4, 6\]"):
        read()[1]


def test_sizes_differ(instances):
    content, read = instances
    content["images"][1]["width"] = 7
    with pytest.raises(BadSampleError, match=r"b\.png is 4 x 6 .*instances\.json is 4 x 7"):
        read()[0]


@pytest.mark.parametrize("key", ["height", "width"])
@pytest.mark.parametrize("value", [None, "6", 0, -4, 2.5, [6]])
def test_sizes_that_are_none(instances, key, value):
    content, read = instances
    content["images"][1][key] = value
    dataset = read()
    assert image_ids(dataset) == [2]
    (problem,) = dataset.problems
    assert "instances.json: image 1: `height` and `width` must be whole numbers above 0, not" in problem


def test_missing_size(instances):
    content, read = instances
    del content["images"][1]["height"]
    dataset = read()
    assert image_ids(dataset) == [2]
    (problem,) = dataset.problems
    assert "instances.json: image 1: `height` and `width` are missing" in problem


def test_annotation_of_an_image_that_is_not_listed(instances):
    content, read = instances
    content["annotations"][0]["image_id"] = 3
    dataset = read()
    assert image_ids(dataset) == [1, 2]
    (problem,) = dataset.problems
    assert "instances.json: image 3: has annotations, but is not listed in `images`; list it" in problem


def test_missing_image(instances, tmp_path):
    _, read = instances
    (tmp_path / "images/a.png").unlink()
    dataset = read()
    assert image_ids(dataset) == [1]
    (problem,) = dataset.problems
    assert problem.startswith(f"{tmp_path}/images/a.png: missing, image 2 of {tmp_path}/instances.json; add it")
    subset = read(missing_images="skip")
    assert (image_ids(subset), subset.problems) == ([1], [])
    assert subset.notes == [f"1 of 2 images listed in {tmp_path}/instances.json are not in {tmp_path}/images: left out"]


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
    with pytest.raises(ValueError, match=rf"instances\.json: key '{part}' is missing, or is no list"):
        read()


@pytest.mark.parametrize("entry", [None, 3, [], "text"])
@pytest.mark.parametrize("part", ["images", "annotations"])
def test_entries_that_are_no_records(instances, part, entry):
    content, read = instances
    content[part][0] = entry
    with pytest.raises(ValueError, match=rf"instances\.json: {part}: key '\w+' is missing"):
        read()


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
