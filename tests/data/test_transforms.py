import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataseg_hf.data.masks import boxes_of_masks
from dataseg_hf.data.sample import Instances, Sample, Segments
from dataseg_hf.data.transforms import Augmentation, augment, resize_only

COLORS = np.array([[250, 10, 20], [10, 240, 90], [60, 70, 230], [120, 120, 5]], dtype=np.uint8)


def quadrant_sample(height: int, width: int) -> Sample:
    """Four quadrants, one segment each; the color of a pixel tells its segment."""
    rows, columns = np.arange(height) >= height // 2, np.arange(width) >= width // 2
    segment_map = (2 * rows[:, None] + columns).astype(np.int32)
    annotation = Segments(segment_map, np.array([7, 5, 3, 1]), np.array([False, True, False, True]))
    return Sample(COLORS[segment_map], annotation, 1, "quadrants.png")


def box_sample(height: int, width: int, boxes: list[list[float]]) -> Sample:
    count = len(boxes)
    annotation = Instances(
        class_labels=np.arange(count),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        is_crowd=np.zeros(count, dtype=bool),
    )
    return Sample(np.zeros((height, width, 3), np.uint8), annotation, 2, "boxes.png")


class FixedCrop(np.random.Generator):
    """A generator whose crop offsets are given (top, left); the rest is seeded."""

    def __init__(self, top: int, left: int) -> None:
        super().__init__(np.random.PCG64(0))
        self.offsets = [top, left]

    def integers(self, *args, **kwargs):
        return self.offsets.pop(0)


def interior(values: np.ndarray, margin: int) -> np.ndarray:
    """Where the map is constant in the square of `margin` pixels around, that square lying inside
    the map.
    """
    padded = np.pad(values, margin, constant_values=-9)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * margin + 1,) * 2)
    return windows.min(axis=(2, 3)) == windows.max(axis=(2, 3))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    image_size=st.integers(1, 60),
    low=st.floats(0.3, 1.5),
    ratio=st.floats(1, 2),
    seed=st.integers(0, 2**32),
)
def test_image_and_map_stay_aligned(height, width, image_size, low, ratio, seed):
    sample = quadrant_sample(height, width)
    before = copy.deepcopy(sample)
    chosen = Augmentation(image_size, (low, low * ratio))
    result = augment(sample, chosen, np.random.default_rng(seed))

    segments = result.annotation
    assert result.image.dtype == np.uint8
    assert max(result.image.shape[:2]) <= image_size
    assert segments.segment_map.shape == result.image.shape[:2]
    assert result.box_axes is None

    # the map still names the segment that the color shows
    labels = segments.class_labels[segments.segment_map]
    color_of_class = dict(zip([7, 5, 3, 1], COLORS, strict=True))
    margin = 1 + math.ceil(image_size * low * ratio / max(height, width))
    inside = interior(segments.segment_map, margin)
    shown = np.array([color_of_class[label] for label in labels[inside]]).reshape(-1, 3)
    np.testing.assert_array_equal(result.image[inside], shown)

    # every segment left has pixels, and its facts went along
    assert np.array_equal(np.unique(segments.segment_map), np.arange(len(segments.class_labels)))
    assert np.array_equal(segments.is_crowd, np.isin(segments.class_labels, [5, 1]))

    np.testing.assert_array_equal(sample.image, before.image)
    np.testing.assert_array_equal(sample.annotation.segment_map, before.annotation.segment_map)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(4, 60), st.integers(4, 60)),
    corner=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    extent=st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)),
    seed=st.integers(0, 2**32),
)
def test_boxes_and_masks_see_the_same_crop(size, corner, extent, seed):
    height, width = size
    x0, y0 = int(corner[0] * width), int(corner[1] * height)
    x1, y1 = (
        min(width, x0 + math.ceil(extent[0] * width)),
        min(height, y0 + math.ceil(extent[1] * height)),
    )
    boxes_only = box_sample(height, width, [[x0, y0, x1, y1]])
    with_masks = copy.deepcopy(boxes_only)
    with_masks.annotation.masks = np.zeros((1, height, width), dtype=bool)
    with_masks.annotation.masks[0, y0:y1, x0:x1] = True

    chosen = Augmentation(40, (0.5, 2.0))
    from_box = augment(boxes_only, chosen, np.random.default_rng(seed))
    from_mask = augment(with_masks, chosen, np.random.default_rng(seed))
    # the object is a full rectangle: both ways give its box, to the pixel
    if len(from_mask.annotation.boxes):
        np.testing.assert_allclose(from_box.annotation.boxes, from_mask.annotation.boxes, atol=1)
        assert from_mask.annotation.masks.shape[1:] == from_mask.image.shape[:2]
        assert from_mask.box_axes.all()
    for left, top, right, bottom in from_box.annotation.boxes:
        assert 0 <= left < right <= from_box.image.shape[1]
        assert 0 <= top < bottom <= from_box.image.shape[0]
    assert from_box.box_axes.shape == (len(from_box.annotation.boxes), 2)


def test_fitting_size_is_not_resampled():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    sample = quadrant_sample(48, 64)
    sample.image = image
    for result in (
        resize_only(sample, 64),
        augment(sample, Augmentation(64, horizontal_flip=0), np.random.default_rng(0)),
    ):
        np.testing.assert_array_equal(result.image, image)
        np.testing.assert_array_equal(result.annotation.segment_map, sample.annotation.segment_map)
        result.image[:] = 0
        assert sample.image.any(), "the result must not share memory with the input"


def test_resize_only_fits_the_longer_side():
    assert resize_only(quadrant_sample(30, 60), 20).image.shape == (10, 20, 3)
    assert resize_only(quadrant_sample(60, 30), 90).image.shape == (90, 45, 3)
    assert resize_only(quadrant_sample(1, 400), 20).image.shape == (1, 20, 3)


def test_flip_mirrors_everything():
    sample = box_sample(4, 10, [[1, 0, 3, 4]])
    sample.image[:, 1:3] = 255
    result = augment(sample, Augmentation(10, horizontal_flip=1), np.random.default_rng(0))
    np.testing.assert_array_equal(result.annotation.boxes, [[7, 0, 9, 4]])
    np.testing.assert_array_equal(result.image, sample.image[:, ::-1])

    mirrored = augment(
        quadrant_sample(4, 6), Augmentation(6, horizontal_flip=1), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(
        mirrored.annotation.segment_map, quadrant_sample(4, 6).annotation.segment_map[:, ::-1]
    )


def test_crop_clips_boxes_and_marks_the_loosened_axis():
    # the image doubled to 40 x 40; the window is its rows 10..30 and columns 10..30
    boxes = [
        [6, 6, 9, 9],  # doubled 12..18: inside
        [2, 6, 9, 9],  # doubled 4..18: cut on the left
        [6, 2, 9, 9],  # cut at the top
        [2, 2, 9, 9],  # cut on both axes
        [0, 0, 4, 4],  # outside
        [6, 6, 6, 9],  # no area
    ]
    chosen = Augmentation(20, (2.0, 2.0), horizontal_flip=0)
    result = augment(box_sample(20, 20, boxes), chosen, FixedCrop(top=10, left=10))
    np.testing.assert_array_equal(result.annotation.class_labels, [0, 1, 2, 3])
    np.testing.assert_array_equal(
        result.annotation.boxes, [[2, 2, 8, 8], [0, 2, 8, 8], [2, 0, 8, 8], [0, 0, 8, 8]]
    )
    # a cut in x may have taken the object's top or bottom: loose in y, while it still reaches the
    # cut in x
    np.testing.assert_array_equal(
        result.box_axes, [[True, True], [True, False], [False, True], [False, False]]
    )


def test_cut_axes_follow_the_visible_object():
    # An L: its foot runs along the bottom, its stem stands at the left. The crop takes the stem.
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:18, 2:5] = mask[15:18, 2:18] = True
    sample = box_sample(20, 20, boxes_of_masks(mask[None]).tolist())
    chosen = Augmentation(20, (2.0, 2.0), horizontal_flip=0)
    # lower right quarter: cut at the top and on the left
    result = augment(sample, chosen, FixedCrop(top=20, left=20))
    np.testing.assert_array_equal(result.box_axes, [[False, False]])

    wide = box_sample(10, 20, boxes_of_masks(mask[None, 8:18]).tolist())
    wide_result = augment(
        wide, Augmentation(10, (2.0, 2.0), horizontal_flip=0), FixedCrop(top=0, left=10)
    )
    left, top, right, bottom = wide_result.annotation.boxes[0].astype(int)
    visible = mask[8:18, 10:][top:bottom, left:right]
    tight = [visible.any(axis=0).all(), visible.any(axis=1).all()]
    assert tight == [True, False]
    np.testing.assert_array_equal(wide_result.box_axes, [tight])


def test_overshooting_box_is_clipped_but_not_called_cut():
    result = resize_only(box_sample(10, 10, [[-0.3, 0, 10.4, 10]]), 10)
    np.testing.assert_array_equal(result.annotation.boxes, [[0, 0, 10, 10]])
    np.testing.assert_array_equal(result.box_axes, [[True, True]])


def test_masks_out_of_the_crop_are_dropped_and_boxes_recomputed():
    sample = box_sample(20, 20, [[0, 0, 20, 20]] * 2)
    sample.annotation.masks = np.zeros((2, 20, 20), dtype=bool)
    sample.annotation.masks[0, 0:3, 0:3] = True
    sample.annotation.masks[1, 8:16, 4:7] = True
    sample.annotation.is_crowd[1] = True
    result = augment(
        sample, Augmentation(20, (2.0, 2.0), horizontal_flip=0), FixedCrop(top=20, left=10)
    )
    np.testing.assert_array_equal(result.annotation.class_labels, [1])
    np.testing.assert_array_equal(result.annotation.is_crowd, [True])
    np.testing.assert_array_equal(result.annotation.boxes, [[0, 0, 4, 12]])
    assert result.annotation.masks.sum() == 4 * 12


def test_dropped_segments_are_reindexed():
    result = augment(
        quadrant_sample(20, 20),
        Augmentation(20, (2.0, 2.0), horizontal_flip=0),
        FixedCrop(top=20, left=20),
    )
    np.testing.assert_array_equal(result.annotation.segment_map, np.zeros((20, 20)))
    np.testing.assert_array_equal(result.annotation.class_labels, [1])
    np.testing.assert_array_equal(result.annotation.is_crowd, [True])


def test_void_stays_void():
    sample = quadrant_sample(8, 8)
    sample.annotation.segment_map[:, :3] = -1
    result = resize_only(sample, 8)
    np.testing.assert_array_equal(
        result.annotation.segment_map == -1, sample.annotation.segment_map == -1
    )


@pytest.mark.parametrize("masks", [None, np.zeros((0, 8, 6), dtype=bool)])
def test_nothing_annotated(masks):
    sample = box_sample(8, 6, [])
    sample.annotation.masks = masks
    result = augment(sample, Augmentation(5, (1.0, 3.0)), np.random.default_rng(1))
    assert result.annotation.boxes.shape == (0, 4)
    assert result.box_axes.shape == (0, 2)

    void = Segments(np.full((8, 6), -1, np.int32), np.zeros(0, np.int64), np.zeros(0, bool))
    result = augment(
        Sample(sample.image, void, 1, "void.png"), Augmentation(5), np.random.default_rng(1)
    )
    assert (result.annotation.segment_map == -1).all()
    assert result.annotation.class_labels.shape == (0,)


def test_augmentation_is_a_function_of_the_generator():
    sample = quadrant_sample(40, 30)
    chosen = Augmentation(32, (0.5, 2.0), color_jitter=0.4)
    first, again, other = (
        augment(sample, chosen, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.annotation.segment_map, again.annotation.segment_map)
    assert first.image.shape != other.image.shape or (first.image != other.image).any()


def test_scale_is_uniform_in_log_space():
    sample = box_sample(10, 10, [])
    rng = np.random.default_rng(0)
    sides = np.array(
        [augment(sample, Augmentation(100, (0.25, 1.0)), rng).image.shape[0] for _ in range(400)]
    )
    assert sides.min() >= 25
    assert sides.max() <= 100
    # the geometric middle; uniform scales would give 1/3
    assert abs((sides < 50).mean() - 0.5) < 0.08


def test_color_jitter_scales_brightness_contrast_and_saturation():
    rng = np.random.default_rng(0)
    sample = quadrant_sample(12, 12)
    gray = Sample(
        np.full((6, 6, 3), 100, np.uint8), quadrant_sample(6, 6).annotation, 1, "gray.png"
    )
    chosen = Augmentation(12, horizontal_flip=0, color_jitter=0.3)
    levels = []
    for _ in range(50):
        levels.append(augment(gray, Augmentation(6, color_jitter=0.3), rng).image)
        assert np.ptp(levels[-1]) == 0, (
            "an even gray image has no contrast and no saturation to change"
        )
        result = augment(sample, chosen, rng)
        np.testing.assert_array_equal(result.annotation.segment_map, sample.annotation.segment_map)
    brightness = np.array(levels)[:, 0, 0, 0]
    assert brightness.min() >= 70
    assert brightness.max() <= 130
    assert brightness.max() - brightness.min() > 40


def test_boxes_of_masks():
    masks = np.zeros((2, 5, 7), dtype=bool)
    masks[0, 1, 2] = True
    masks[1, 0, 6] = masks[1, 4, 0] = True
    np.testing.assert_array_equal(boxes_of_masks(masks), [[2, 1, 3, 2], [0, 0, 7, 5]])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"image_size": 0}, "image_size"),
        ({"image_size": 8, "scale_range": (2.0, 1.0)}, "scale_range"),
        ({"image_size": 8, "scale_range": (0.0, 1.0)}, "scale_range"),
        ({"image_size": 8, "horizontal_flip": 1.5}, "horizontal_flip"),
        ({"image_size": 8, "color_jitter": -0.1}, "color_jitter"),
    ],
)
def test_impossible_settings_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        Augmentation(**options)
