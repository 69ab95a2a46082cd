"""COCO's JSON and id maps, by hand and against pycocotools."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from dataseg_hf.data.catalog import CATALOG
from dataseg_hf.data.coco_format import (
    category_ids,
    coco_annotations,
    coco_categories,
    coco_panoptic_annotation,
    rgb_ids,
)
from dataseg_hf.data.rle import run_lengths
from dataseg_hf.data.sample import DatasetSpec
from dataseg_hf.prediction.segments import Segment

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))
L_SHAPE = np.array([[1, 0, 0], [1, 1, 1]], dtype=bool)


def ids_of(spec: DatasetSpec) -> list[int]:
    return category_ids(len(spec.classes), spec.id_map)


def test_categories_without_a_number_of_their_own_are_counted() -> None:
    assert ids_of(CATALOG["coco_panoptic"])[79:81] == [90, 92]
    assert ids_of(CATALOG["ade20k_panoptic"]) == list(range(150))
    assert ids_of(CATALOG["pascal_voc_boxes"]) == list(range(1, 21))  # words
    spec = CATALOG["camvid"]
    merged = replace(spec, id_map={**spec.id_map, 12: 3})  # two raw ids for one class
    assert ids_of(merged) == list(range(1, 12))
    assert category_ids(3) == [1, 2, 3]  # no dataset is known


def test_own_ids_of_the_dataset_are_written() -> None:
    ids = [7, 12, 17]
    (record,) = coco_annotations([Segment(2, None, L_SHAPE)], 1, (2, 3), ids=ids)
    assert record["category_id"] == 17
    panoptic = coco_panoptic_annotation(
        [Segment(1, None, L_SHAPE)], 1, "a.png", ids, segment_ids=[9], is_crowd=[True]
    )
    (info,) = panoptic["segments_info"]
    assert (info["id"], info["category_id"], info["iscrowd"]) == (9, 12, 1)
    assert [c["id"] for c in coco_categories("abc", [True] * 3, ids)] == ids


def test_ids_as_colors():
    assert rgb_ids(np.array([[0, 255, 256, 65536 + 2 * 256 + 3]], dtype=np.int32)).tolist() == [
        [[0, 0, 0], [255, 0, 0], [0, 1, 0], [3, 2, 1]]
    ]


def test_run_lengths_by_hand():
    assert run_lengths(L_SHAPE) == [0, 2, 1, 1, 1, 1]  # columns: 11, 01, 01
    assert run_lengths(np.zeros((2, 2), dtype=bool)) == [4]
    assert run_lengths(np.ones((2, 2), dtype=bool)) == [0, 4]


@given(MASKS, st.integers(0, 3), st.integers(0, 3))
def test_pycocotools_reads_the_annotations(mask, top, left):
    size = (mask.shape[0] + 4, mask.shape[1] + 3)
    segment = Segment(2, 0.75, mask, top, left)
    (record,) = coco_annotations([segment], image_id=9, size=size, first_id=4)
    assert {key: record[key] for key in ("id", "image_id", "category_id", "iscrowd", "score")} == {
        "id": 4,
        "image_id": 9,
        "category_id": 3,
        "iscrowd": 0,
        "score": 0.75,
    }
    rle = coco_mask.frPyObjects(record["segmentation"], *size)
    assert np.array_equal(
        coco_mask.decode(rle), segment.within(slice(0, size[0]), slice(0, size[1]))
    )
    assert record["area"] == coco_mask.area(rle)
    assert record["bbox"] == coco_mask.toBbox(rle).tolist() or not mask.any()


def test_panoptic_annotation_and_categories():
    segments = [Segment(1, 0.5, L_SHAPE, 4, 7), Segment(0, None, L_SHAPE)]
    record = coco_panoptic_annotation(segments, 3, "a.png")
    assert record == {
        "image_id": 3,
        "file_name": "a.png",
        "segments_info": [
            {
                "id": 1,
                "category_id": 2,
                "area": 4,
                "bbox": [7, 4, 3, 2],
                "iscrowd": 0,
                "score": 0.5,
            },
            {"id": 2, "category_id": 1, "area": 4, "bbox": [0, 0, 3, 2], "iscrowd": 0},
        ],
    }
    assert coco_categories(["cat", "sky"], [True, False]) == [
        {"id": 1, "name": "cat", "isthing": 1},
        {"id": 2, "name": "sky", "isthing": 0},
    ]
    with pytest.raises(ValueError, match="shorter"):
        coco_categories(["cat", "sky"], [True])
