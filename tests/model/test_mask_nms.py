"""Repeated instances: which stay, by hand and against the definition, at what cost."""

import tracemalloc

import numpy as np
import pytest
import torch

from dataseg_hf.model.mask_nms_dataseg import checked_iou, without_repeats
from helpers.predictions import instance_prediction
from helpers.proposals import CIRCLE, IS_THING, SQUARE, WHOLE, class_logits, rectangle_logits


def row(start, stop, width=20):
    """A mask of one row."""
    mask = np.zeros((1, width), dtype=bool)
    mask[0, start:stop] = True
    return mask


def kept(masks, label_ids, max_iou):
    """With windows as large as the image."""
    whole = [(slice(0, masks[0].shape[0]), slice(0, masks[0].shape[1]))] * len(masks)
    return without_repeats(masks, whole, [int(mask.sum()) for mask in masks], label_ids, max_iou)


def test_the_better_of_two_stays_unless_the_categories_differ():
    # 8 of 10 + 10 - 8 = 12 pixels: IoU 2/3
    masks = [row(0, 10), row(2, 12)]
    assert kept(masks, [0, 0], 0.6) == [0]
    assert kept(masks, [0, 0], 0.7) == [0, 1]
    assert kept(masks, [0, 1], 0.6) == [0, 1]


def test_an_iou_of_exactly_the_limit_is_no_repeat():
    masks = [row(0, 4), row(0, 2)]  # 1/2
    assert kept(masks, [0, 0], 0.5) == [0, 1]
    assert kept(masks, [0, 0], 0.49) == [0]


def test_what_was_left_out_leaves_nothing_out():
    """The second repeats the first, the third only the second."""
    assert kept([row(0, 10), row(2, 12), row(4, 14)], [0, 0, 0], 0.5) == [0, 2]


def test_empty_and_distant_masks_stay():
    assert kept([row(0, 0), row(0, 0), row(0, 4), row(10, 14)], [0] * 4, 0.0) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("max_iou", [0.3, 0.5, 0.7])
def test_small_masks_in_windows_follow_the_definition(seed, max_iou):
    rng = np.random.default_rng(seed)
    masks, windows, whole = [], [], []
    for _ in range(30):
        top, left = rng.integers(0, 4, 2)
        height, width = rng.integers(8, 12, 2)
        crop = rng.random((height, width)) < 0.97
        window = slice(int(top), int(top + height)), slice(int(left), int(left + width))
        full = np.zeros((16, 16), dtype=bool)
        full[window] = crop
        masks.append(crop)
        windows.append(window)
        whole.append(full)
    labels = rng.integers(0, 2, 30).tolist()
    expected: list[int] = []
    for place, mask in enumerate(whole):
        same = [whole[other] for other in expected if labels[other] == labels[place]]
        if all((mask & other).sum() <= max_iou * (mask | other).sum() for other in same):
            expected.append(place)
    assert len(expected) < 30
    areas = [int(mask.sum()) for mask in whole]
    assert without_repeats(masks, windows, areas, labels, max_iou) == expected


def test_large_masks_are_compared_to_within_a_hundredth():
    y, x = np.mgrid[:900, :900]
    disk, moved = ((x - c) ** 2 + (y - 450) ** 2 < 300**2 for c in (400, 500))
    iou = (disk & moved).sum() / (disk | moved).sum()
    assert kept([disk, moved], [0, 0], iou - 0.01) == [0]
    assert kept([disk, moved], [0, 0], iou + 0.01) == [0, 1]


def test_a_hundred_large_masks_take_no_memory_of_their_own():
    mask = np.ones((600, 800), dtype=bool)
    tracemalloc.start()
    assert kept([mask] * 100, list(range(50)) * 2, 0.5) == list(range(50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < mask.nbytes / 2


@pytest.mark.parametrize("wrong", [-0.1, 1.1, True, "0.5", float("nan"), [0.5]])
def test_what_is_no_iou_is_refused(wrong):
    with pytest.raises(ValueError, match=r"`nms` must be None or an IoU in 0\.\.1"):
        checked_iou(wrong)


def test_instances_without_repeats():
    """Three queries see one circle, with IoU 3/4 and 1/2 with the best; one sees a square there."""
    logits = (
        class_logits(CIRCLE, CIRCLE, CIRCLE, SQUARE)[0]
        * torch.tensor([1.0, 0.9, 0.8, 0.7])[:, None]
    )
    masks = rectangle_logits((4, 4), (0, 0, 4, 4), (0, 0, 4, 3), (0, 0, 4, 2), (0, 0, 4, 4))[0]

    def found(nms):
        result = instance_prediction(logits, masks, IS_THING, WHOLE, (4, 4), 0.5, nms=nms)
        assert len(result.masks) == len(result.scores) == len(result.areas)
        return list(zip(result.label_ids.tolist(), result.areas, strict=True))

    everything = [(CIRCLE, 16), (CIRCLE, 12), (CIRCLE, 8), (SQUARE, 16)]
    assert found(None) == found(1.0) == found(0.75) == everything
    assert found(0.7) == [(CIRCLE, 16), (CIRCLE, 8), (SQUARE, 16)]
    assert found(0.4) == [(CIRCLE, 16), (SQUARE, 16)]
