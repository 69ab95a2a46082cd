"""What the readers of boxes and outlines share."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataseg_hf.data.readers.boxes import checked_box, without_repeats
from dataseg_hf.data.readers.shapes_to_masks import (
    ellipse_to_mask,
    polygons_to_mask,
    rectangle_to_mask,
)
from dataseg_hf.data.sample import BadSampleError

SIZE = (4, 6)


def drawing(*rows: str) -> list[list[bool]]:
    return [[character == "#" for character in row] for row in rows]


# --- boxes


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        ((-1, -2, 3, 4), (0, 0, 3, 4)),
        ((5.5, 3.5, 9, 9), (5.5, 3.5, 6, 4)),
        ((-9, -9, 9, 9), (0, 0, 6, 4)),
    ],
)
def test_boxes_are_clipped(box, expected):
    assert checked_box(box, SIZE, "a", "clip") == expected
    assert checked_box(box, None, "a") == box


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((1, 2, 3), "four finite numbers"),
        ((1, 2, 3, 4, 5), "four finite numbers"),
        ((1, 2, math.nan, 4), "four finite numbers"),
        ((1, 2, math.inf, 4), "four finite numbers"),
        ((1, 2, 10**400, 4), "four finite numbers"),
        ((1, 2, "3", 4), "four finite numbers"),
        ((1, 2, None, 4), "four finite numbers"),
        ((3, 2, 1, 4), "has no area"),
        ((1, 4, 3, 2), "has no area"),
        ((1, 2, 1, 4), "has no area"),
        ((1, 2, 3, 2), "has no area"),
    ],
)
def test_boxes_that_are_none(box, message, size):
    with pytest.raises(BadSampleError, match=f"^file, object 3: .*{message}.*remove"):
        checked_box(box, size, "file, object 3")


@pytest.mark.parametrize(
    "box", [(6, 0, 9, 4), (-3, 0, 0, 4), (0, 4, 6, 9), (0, -9, 6, 0), (7, 7, 8, 8)]
)
def test_boxes_outside_the_image(box):
    with pytest.raises(BadSampleError, match=r"^file: .* outside the image of 4 x 6 pixels"):
        checked_box(box, SIZE, "file")


@pytest.mark.parametrize(
    ("box", "is_far"),
    [
        ((-10, 0, 50, 50), False),  # a tenth of the width
        ((-10.5, 0, 50, 50), True),
        ((0, 0, 110, 50), False),
        ((0, 0, 111, 50), True),
        ((0, -5, 50, 25), False),
        ((0, -5.5, 50, 25), True),
        ((0, 0, 50, 56), True),
    ],
)
def test_boxes_far_outside_are_refused_where_they_are_not_to_be_cut(box, is_far):
    assert checked_box(box, (50, 100), "a", "clip")
    if not is_far:
        assert checked_box(box, (50, 100), "a")
        return
    with pytest.raises(
        BadSampleError, match=r"^a: the box from .* beyond the image of 50 x 100 .*`outside: clip`"
    ):
        checked_box(box, (50, 100), "a")


coordinates = st.floats(-20, 20)


@given(st.tuples(coordinates, coordinates, coordinates, coordinates))
def test_a_checked_box_lies_in_the_image_and_in_the_given_box(box):
    try:
        left, top, right, bottom = checked_box(box, SIZE, "a", "clip")
    except BadSampleError:
        common = [min(box[2], 6) - max(box[0], 0), min(box[3], 4) - max(box[1], 0)]
        assert min(common) <= 0, "only boxes that share no area with the image are refused"
        return
    assert 0 <= left < right <= 6
    assert 0 <= top < bottom <= 4
    assert left >= box[0]
    assert bottom <= box[3]


# --- masks


def test_polygons_by_hand():
    square, corner = [1, 1, 3, 1, 3, 3, 1, 3], [5, 3, 9, 3, 9, 7, 5, 7]
    expected = drawing("......", ".##...", ".##...", ".....#")
    mask = polygons_to_mask([square, corner], SIZE, "a")
    assert mask.dtype == bool
    assert mask.tolist() == expected
    overlapping = polygons_to_mask([square, square], SIZE, "a")
    assert overlapping.tolist() == drawing("......", ".##...", ".##...", "......"), (
        "a union, not even-odd"
    )


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([], "no polygon"),
        ([[1, 1, 2, 2]], "a polygon of 2 points, but 3 are the least"),
        ([[]], "a polygon of 0 points"),
        ([[1, 1, 2, 2, 3]], "5 coordinates, an odd number"),
        ([[1, 1, 3, 1, 3, 3], [1, 1, 3, 3]], "a polygon of 2 points"),
        ([[1, 1, 3, 1, 3, math.nan]], "no finite numbers"),
        ([[1, 1, 3, 1, 3, -math.inf]], "no finite numbers"),
        ([[1, 1, 3, 1, 3, None]], "list of numbers"),
        ([[1, 1, 3, 1, 3, 10**400]], "list of numbers"),
        ([[[1, 1], [3, 1], [3, 3]]], "list of numbers"),
        ([[[1, 1], [3]]], "list of numbers"),
        (["1 1 3 1 3 3"], "list of numbers"),
        ([5], "one flat list of numbers; write a list of polygons"),
        ([None], "list of numbers"),
        ([[1, 1, 300, 1, 300, 3]], "from 1 to 300 along a side of 6 pixels lies far outside"),
        ([[1, -5, 3, 1, 3, 3]], "from -5 to 3 along a side of 4 pixels lies far outside"),
    ],
)
def test_polygons_that_are_none(polygons, message):
    with pytest.raises(BadSampleError, match=f"^file, object 3: .*{message}"):
        polygons_to_mask(polygons, SIZE, "file, object 3")


@pytest.mark.parametrize(
    ("polygon", "rows"),
    [
        ([2, 1, 900, 1, 900, 900, 2, 900], ("......", "..####", "..####", "..####")),
        ([-900, -900, 4, -900, 4, 2, -900, 2], ("####..", "####..", "......", "......")),
        ([-1000, 2, 3, -1001, 1006, 2, 3, 1005], ("######",) * 4),  # a diamond around the image
    ],
)
def test_far_polygons_are_cut_where_asked(polygon, rows):
    """A point a million pixels away would cost the rasterizer as much memory."""
    assert polygons_to_mask([polygon], SIZE, "file", "clip").tolist() == drawing(*rows)


def test_a_polygon_that_leaves_nothing_when_cut():
    with pytest.raises(
        BadSampleError, match=r"^file: the polygon lies outside the image; remove it"
    ):
        polygons_to_mask([[900, 900, 901, 900, 901, 902]], SIZE, "file", "clip")


def test_rectangles_and_circles_by_hand():
    assert rectangle_to_mask((1, 1, 3, 3), SIZE).tolist() == drawing(
        "......", ".##...", ".##...", "......"
    )
    assert rectangle_to_mask((0.4, 0.6, 1.6, 3.5), SIZE).tolist() == drawing(
        "......", "##....", "##....", "......"
    )
    assert ellipse_to_mask((3, 2), (2, 2), 0, SIZE).tolist() == drawing(
        "..##..", ".####.", ".####.", "..##.."
    )
    assert ellipse_to_mask((0.5, 0.5), (1, 1), 0, SIZE).tolist() == drawing(
        "##....", "#.....", "......", "......"
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.integers(0, 3), st.integers(1, 9), st.integers(1, 9))
def test_whole_pixel_rectangles_are_what_their_polygons_are(left, top, width, height):
    right, bottom = min(left + width, 6), min(top + height, 4)
    polygon = [left, top, right, top, right, bottom, left, bottom]
    np.testing.assert_array_equal(
        rectangle_to_mask((left, top, right, bottom), SIZE), polygons_to_mask([polygon], SIZE, "a")
    )


def test_repeats_are_left_out_in_order():
    objects = [
        {"a": 1, "b": (2, 3), "c": 0},
        {"a": 1, "b": (2, 4), "c": 1},
        {"a": 1, "b": (2, 3), "c": 2},
    ]
    assert [found["c"] for found in without_repeats(objects, "a", "b")] == [0, 1]
    assert [found["c"] for found in without_repeats(objects, "a")] == [0]
    assert without_repeats([], "a") == []
