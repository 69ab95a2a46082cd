"""Windows, joining, and segmenting large images: worked cases, and a perfect predictor that must be
put together.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataseg_hf.model.thresholds_dataseg import Thresholds
from dataseg_hf.prediction.segments import Segment, cropped, id_map
from dataseg_hf.prediction.tiling import join, segment_image, settle, tiles
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor

THING, OTHER, STUFF = 0, 1, 2
LOW = Thresholds(score=0.1, overlap=0.01)  # a random model is never sure


def spans(found):
    return [(w.rows.start, w.rows.stop, w.columns.start, w.columns.stop) for w in found]


def cores(found):
    return [(w.core[0].start, w.core[0].stop, w.core[1].start, w.core[1].stop) for w in found]


# --- windows


def test_windows_by_hand():
    found = tiles((10, 22), 10, 0.4)  # steps of at most 6 columns: 0, 6, 12
    assert spans(found) == [(0, 10, 0, 10), (0, 10, 6, 16), (0, 10, 12, 22)]
    assert cores(found) == [(0, 10, 0, 8), (0, 10, 8, 14), (0, 10, 14, 22)]


def test_a_small_image_is_one_window():
    assert spans(tiles((7, 9), 10, 0.25)) == [(0, 7, 0, 9)]
    assert spans(tiles((7, 12), 10, 0.0)) == [(0, 7, 0, 10), (0, 7, 2, 12)]


@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.floats(0, 0.95, allow_nan=False)
)  # fmt: skip
def test_windows_cover_and_their_cores_part_the_image(height, width, tile, overlap):
    found = tiles((height, width), tile, overlap)
    times = np.zeros((height, width), dtype=int)
    for window in found:
        assert window.size == (min(tile, height), min(tile, width))
        rows, columns = window.core
        assert window.rows.start <= rows.start < rows.stop <= window.rows.stop
        assert window.columns.start <= columns.start < columns.stop <= window.columns.stop
        times[window.core] += 1
    assert (times == 1).all()
    for axis in ("rows", "columns"):
        ranges = sorted({(getattr(w, axis).start, getattr(w, axis).stop) for w in found})
        for (_, stop), (following, _) in pairwise(ranges):
            assert stop - following >= int(overlap * tile) or following - ranges[0][0] == 1


def test_impossible_windows():
    with pytest.raises(ValueError, match="tile: must be at least 1 pixel, not 0"):
        tiles((5, 5), 0, 0.1)
    for overlap in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="overlap: must be a share"):
            tiles((5, 5), 4, overlap)


# --- joining


def strip(label_id, first, last, row=0, height=1, score=0.5):
    """A segment of columns first..last (exclusive) in a row of an image."""
    return Segment(label_id, score, np.ones((height, last - first), dtype=bool), row, first)


PAIR = tiles((3, 16), 10, 0.4)  # columns 0..10 and 6..16, shared 6..10, seam at 8


def columns_of(groups):
    return sorted(
        sorted((m.segment.left, m.segment.left + m.segment.mask.shape[1]) for m in group)
        for group in groups
    )


def test_parts_of_one_object_become_one():
    seen = [[strip(THING, 3, 10, score=0.6)], [strip(THING, 6, 13, score=0.8)]]
    (joined,) = settle(join(seen, PAIR, set()), PAIR, (3, 16))
    assert (joined.label_id, joined.score, joined.box) == (THING, 0.8, (3, 0, 10, 1))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (strip(THING, 3, 10), strip(OTHER, 6, 13)),  # another category
        (strip(THING, 3, 10), strip(THING, 6, 13, row=1)),  # beside it
        (strip(THING, 0, 5), strip(THING, 11, 16)),  # neither reaches what both windows see
        # shares 6..8 of 6..10: an IoU of exactly 0.5 is not enough
        (strip(THING, 3, 8), strip(THING, 6, 10)),
    ],
)
def test_what_is_not_one_object_stays_two(left, right):
    assert len(join([[left], [right]], PAIR, set())) == 2


def test_a_partner_is_found_for_one_of_two_neighbors():
    """The right window sees one long object where the left one sees two: it joins the one that
    covers more of it.
    """
    seen = [[strip(THING, 2, 7), strip(THING, 7, 10)], [strip(THING, 6, 14)]]
    assert columns_of(join(seen, PAIR, set())) == [[(2, 7)], [(6, 14), (7, 10)]]


def test_two_objects_of_one_window_are_never_joined():
    """Overlapping objects: both look like the one of the other window; only the better fit is
    joined.
    """
    seen = [[strip(THING, 5, 10), strip(THING, 7, 10)], [strip(THING, 6, 14)]]
    assert columns_of(join(seen, PAIR, set())) == [[(5, 10), (6, 14)], [(7, 10)]]


def test_a_merged_category_is_one_segment_wherever_it_is():
    seen = [[strip(STUFF, 0, 2, score=0.4), strip(THING, 2, 4)], [strip(STUFF, 12, 16, score=0.3)]]
    stuff, thing = sorted(
        settle(join(seen, PAIR, {STUFF}), PAIR, (3, 16)), key=lambda s: -s.label_id
    )
    assert (stuff.score, stuff.area, stuff.box) == (0.4, 6, (0, 0, 16, 1))
    assert thing.box == (2, 0, 2, 1)


def test_the_window_that_sees_a_pixel_from_its_middle_decides():
    """Shared columns 6..10, seam at 8: left of it the left window's word counts, right of it the
    right one's.
    """
    seen = [[strip(THING, 6, 10)], [strip(OTHER, 6, 10)]]
    settled = settle(join(seen, PAIR, set()), PAIR, (3, 16))
    assert {(s.label_id, s.box) for s in settled} == {(THING, (6, 0, 2, 1)), (OTHER, (8, 0, 2, 1))}


def test_what_loses_most_of_itself_is_dropped():
    """Columns 5..9 and 6..9, seam at 8: the left object keeps 3 of 4 pixels, the right one 1
    of 3.
    """
    seen = [[strip(THING, 5, 9)], [strip(OTHER, 6, 9)]]
    both = settle(join(seen, PAIR, set()), PAIR, (3, 16), least_share=0.3)
    assert {(s.label_id, s.box) for s in both} == {(THING, (5, 0, 3, 1)), (OTHER, (8, 0, 1, 1))}
    (kept,) = settle(join(seen, PAIR, set()), PAIR, (3, 16), least_share=0.5)
    assert kept.label_id == THING


def test_where_it_sees_nothing_the_other_one_counts():
    seen = [[strip(THING, 6, 10)], []]
    (settled,) = settle(join(seen, PAIR, set()), PAIR, (3, 16))
    assert settled.box == (6, 0, 4, 1)


def test_best_first():
    seen = [
        [strip(THING, 0, 2, score=0.2), strip(OTHER, 2, 4, score=0.9)],
        [strip(THING, 12, 14, score=0.5)],
    ]
    assert [s.score for s in settle(join(seen, PAIR, set()), PAIR, (3, 16))] == [0.9, 0.5, 0.2]


@st.composite
def scenes(draw):
    """A map of rectangles in the cells of a grid, each with a category; 0 is empty."""
    cell = draw(st.integers(3, 9))
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    truth = np.zeros((rows * cell, columns * cell), dtype=int)
    labels = {}
    for number in range(1, rows * columns + 1):
        if draw(st.booleans()):
            top, left = divmod(number - 1, columns)
            height, width = draw(st.integers(1, cell)), draw(st.integers(1, cell))
            truth[top * cell : top * cell + height, left * cell : left * cell + width] = number
            labels[number] = draw(st.sampled_from([THING, OTHER, STUFF]))
    return truth, labels


@settings(deadline=None)
@given(scenes(), st.integers(4, 20), st.floats(0.3, 0.9))
def test_a_perfect_predictor_is_put_together(scene, tile, overlap):
    """Each window sees the truth inside it; joined, that is the truth, stuff by category and things
    apart.
    """
    truth, labels = scene
    places = tiles(truth.shape, tile, overlap)
    found = []
    for window in places:
        inside = truth[window.rows, window.columns]
        seen = [number for number in np.unique(inside).tolist() if number]
        found.append(
            [
                cropped(inside == number, labels[number], 0.5).moved(
                    window.rows.start, window.columns.start
                )
                for number in seen
            ]
        )
    settled = settle(join(found, places, {STUFF}), places, truth.shape)
    expected = [truth == number for number, label_id in labels.items() if label_id != STUFF]
    stuff = np.isin(truth, [number for number, label_id in labels.items() if label_id == STUFF])
    expected += [stuff] if stuff.any() else []
    masks = [
        segment.within(slice(0, truth.shape[0]), slice(0, truth.shape[1])) for segment in settled
    ]
    assert sorted(mask.tobytes() for mask in masks) == sorted(mask.tobytes() for mask in expected)


# --- with a model


@pytest.fixture(scope="module")
def model():
    return checkpoint_model()


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 110, 3), dtype=np.uint8))


def masks_of(segments, image):
    whole = slice(0, image.height), slice(0, image.width)
    return np.array([segment.within(*whole) for segment in segments]).reshape(
        -1, image.height, image.width
    )


@pytest.mark.parametrize("tile", [None, 110, 500])
def test_one_window_gives_what_the_processor_gives(model, image, tile):
    processor = checkpoint_processor()
    with torch.no_grad():
        outputs = model(**processor(image, return_tensors="pt"))
    sizes = [(image.height, image.width)]

    (classes,) = processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
    found = segment_image(model, processor, image, "semantic", tile=tile)
    assert np.array_equal(id_map(found, [s.label_id for s in found], (70, 110)), classes.numpy())

    (panoptic,) = processor.post_process_panoptic_segmentation(
        outputs, threshold=0.1, overlap_mask_area_threshold=0.01, target_sizes=sizes
    )
    found = segment_image(model, processor, image, "panoptic", LOW, tile=tile)
    expected = {
        (
            (panoptic["segmentation"] == info["id"]).numpy().tobytes(),
            info["label_id"],
            info["score"],
        )
        for info in panoptic["segments_info"]
    }
    assert expected
    assert {
        (mask.tobytes(), s.label_id, s.score)
        for mask, s in zip(masks_of(found, image), found, strict=True)
    } == expected

    (instances,) = processor.post_process_instance_segmentation(
        outputs, threshold=0.1, target_sizes=sizes, return_binary_maps=True
    )
    found = segment_image(model, processor, image, "instance", LOW, tile=tile)
    assert len(found) > 1
    assert np.array_equal(masks_of(found, image), instances["segmentation"].numpy())
    assert [s.score for s in found] == [info["score"] for info in instances["segments_info"]]


def test_windows_are_seen_one_by_one(model, image):
    """Away from the others' windows, the class map is that of the window alone."""
    processor = checkpoint_processor()
    found = segment_image(model, processor, image, "semantic", tile=64, overlap=0.1)
    corner = segment_image(model, processor, image.crop((0, 0, 64, 64)), "semantic")
    whole = id_map(found, [s.label_id + 1 for s in found], (70, 110))
    alone = id_map(corner, [s.label_id + 1 for s in corner], (64, 64))
    assert (whole > 0).all()
    assert np.mean(whole[:35, :45] == alone[:35, :45]) > 0.999


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_segments_of_many_windows(model, image, task):
    found = segment_image(model, checkpoint_processor(), image, task, LOW, tile=32)
    assert found
    scores = [segment.score for segment in found]
    assert scores == sorted(scores, reverse=True)
    masks = masks_of(found, image)
    assert masks.any(axis=(1, 2)).all()
    if task == "panoptic":
        assert masks.sum(axis=0).max() == 1
        stuff = [segment.label_id for segment in found if segment.label_id in (2, 3)]
        assert len(stuff) == len(set(stuff))


def test_a_model_without_a_vocabulary(image):
    model = checkpoint_model()
    model.config.default_vocabulary = None
    with pytest.raises(ValueError, match="has no vocabulary"):
        segment_image(model, checkpoint_processor(), image, "panoptic")
