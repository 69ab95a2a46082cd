"""Segments and their id maps, by hand."""

import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from dataseg_hf.prediction.segments import Segment, cropped, id_map

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
