"""Segments, their run lengths and their COCO json, against numpy by hand and pycocotools."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from dataseg_hf.prediction.segments import (
    Segment,
    coco_annotations,
    coco_categories,
    coco_panoptic_annotation,
    cropped,
    id_map,
    rgb_ids,
    run_lengths,
)

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))
L_SHAPE = np.array([[1, 0, 0], [1, 1, 1]], dtype=bool)


def test_facts_by_hand():
    segment = Segment(1, 0.5, L_SHAPE, top=4, left=7)
    assert segment.area == 4
    assert segment.box == (7, 4, 3, 2)
    assert segment.within(slice(5, 7), slice(6, 9)).tolist() == [
        [False, True, True],
        [False, False, False],
    ]
    assert not segment.within(slice(0, 4), slice(0, 20)).any()
    assert segment.moved(1, -2).box == (5, 5, 3, 2)
    assert Segment(0, None, np.zeros((3, 3), dtype=bool), 2, 2).box == (0, 0, 0, 0)


@given(MASKS)
def test_cropped_loses_nothing(mask):
    segment = cropped(mask, 3, 0.25)
    assert np.array_equal(segment.within(slice(0, mask.shape[0]), slice(0, mask.shape[1])), mask)
    assert segment.area == mask.sum()
    if mask.any():
        y, x = mask.nonzero()
        assert segment.box == (x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min())
        assert segment.mask.shape == (segment.box[3], segment.box[2])
    else:
        assert segment.mask.size == 0


def test_of_segments_that_overlap_the_first_is_on_top():
    segments = [
        Segment(0, 0.9, np.ones((2, 2), dtype=bool), 0, 1),
        Segment(0, 0.8, np.ones((1, 4), dtype=bool), 1, 0),
    ]
    assert id_map(segments, [5, 70000], (3, 4)).tolist() == [
        [0, 5, 5, 0],
        [70000, 5, 5, 70000],
        [0, 0, 0, 0],
    ]
    assert id_map([], [], (1, 2)).tolist() == [[0, 0]]


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
