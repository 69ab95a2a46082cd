"""Panoptic results by Mask2Former's rules: transformers' own, bit for bit, but for the ids that it
gives twice.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import Mask2FormerImageProcessorPil
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerForUniversalSegmentationOutput,
)

from dataseg_hf import DaTaSegImageProcessor
from dataseg_hf.model.modeling_dataseg import DaTaSegOutput
from helpers.predictions import mask2former_panoptic_prediction
from helpers.proposals import (
    BACKGROUND,
    CIRCLE,
    IS_THING,
    SKY,
    SQUARE,
    STUFF,
    WHOLE,
    class_logits,
    rectangle_logits,
)

GRID = 384  # to which transformers resizes all masks first
CATEGORIES = 6
FUSED = torch.tensor([False, False, False, True, True, True])


def theirs(
    classes: Tensor, masks: Tensor, size: tuple[int, int], fused: set[int], **options: float
) -> dict[str, Any]:
    """transformers' result for one image: classes [N, C + 1], masks [N, GRID, GRID]."""
    output: Any = Mask2FormerForUniversalSegmentationOutput(
        class_queries_logits=classes[None], masks_queries_logits=masks[None]
    )
    return Mask2FormerImageProcessorPil().post_process_panoptic_segmentation(
        output, label_ids_to_fuse=fused, target_sizes=[size], **options
    )[0]


def without_ids_given_twice(unfused: dict[str, Any]) -> tuple[Tensor, list[dict[str, Any]]]:
    """transformers' result when nothing is fused, whose ids are right, with the fused categories
    joined by hand.
    """
    segmentation = torch.zeros_like(unfused["segmentation"])
    segments: list[dict[str, Any]] = []
    for segment in unfused["segments_info"]:
        label_id, fused = segment["label_id"], bool(FUSED[segment["label_id"]])
        joined = next(
            (known for known in segments if fused and known["label_id"] == label_id), None
        )
        if joined is None:
            joined = {**segment, "id": len(segments) + 1, "was_fused": fused}
            segments.append(joined)
        joined["score"] = max(joined["score"], segment["score"])
        segmentation[unfused["segmentation"] == segment["id"]] = joined["id"]
    return segmentation, segments


def smooth_masks(draw: torch.Generator, count: int, strength: float) -> Tensor:
    """Blobs: [count, GRID, GRID]."""
    coarse = torch.randn(1, count, 6, 6, generator=draw)
    return strength * F.interpolate(coarse, size=(GRID, GRID), mode="bicubic")[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clear", "soft", "noise"])
@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([(480, 640), (301, 97), (1, 1), (384, 384), (1000, 5)]),
    mask_threshold=st.sampled_from([0.5, 0.1, 0.8]),
    least_share=st.sampled_from([0.8, 0.3, 0.0]),
)
def test_segments_and_pixels_are_those_of_transformers(
    kind: str, seed: int, size: tuple[int, int], mask_threshold: float, least_share: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    classes = 3 * torch.randn(14, CATEGORIES + 1, generator=draw)
    masks = smooth_masks(draw, 14, {"clear": 60.0, "soft": 3.0, "noise": 1.0}[kind])
    if kind == "noise":
        masks += torch.randn(masks.shape, generator=draw) - 3
    if kind == "clear":  # equal scores, where ties decide
        classes = 12.0 * F.one_hot(classes.argmax(-1), CATEGORIES + 1)
        masks = torch.where(masks > 0, 20.0, -20.0)
    options = {
        "threshold": 0.4,
        "mask_threshold": mask_threshold,
        "overlap_mask_area_threshold": least_share,
    }
    segmentation, segments = without_ids_given_twice(theirs(classes, masks, size, set(), **options))
    ours = mask2former_panoptic_prediction(classes, masks, FUSED, WHOLE, size, **options)
    assert ours.segments == segments
    # without a segment transformers fills the map with -1
    assert torch.equal(
        ours.segmentation, segmentation if segments else torch.zeros(size, dtype=torch.int32)
    )
    # and fused by transformers each of our segments is one of its own, which may have another's id
    fused = theirs(classes, masks, size, set(FUSED.nonzero()[:, 0].tolist()), **options)
    pairs = (
        torch.stack([ours.segmentation.long(), fused["segmentation"].long()])
        .flatten(1)
        .unique(dim=1)
    )
    assert pairs.shape[1] == len(pairs[0].unique())


def test_the_id_given_twice_is_the_only_difference() -> None:
    masks = rectangle_logits(
        (GRID, GRID), *[(96 * i, 0, 96 * i + 96, GRID) for i in range(4)], strength=20.0
    )[0]
    classes = class_logits(SKY, CIRCLE, SKY, SQUARE)[0]
    found = mask2former_panoptic_prediction(classes, masks, STUFF, WHOLE, None)
    expected = theirs(classes, masks, (GRID, GRID), {SKY})
    assert expected["segmentation"][0, ::96].tolist() == [1, 2, 1, 2]
    assert found.segmentation[0, ::96].tolist() == [1, 2, 1, 3]
    assert [(s["id"], s["label_id"], s["was_fused"]) for s in found.segments] == [
        (1, SKY, True), (2, CIRCLE, False), (3, SQUARE, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("hidden", "least_share", "kept"), [(0.5, 0.5, False), (0.2, 0.8, True), (0.2, 0.79, True)]
)
def test_shares_at_the_threshold(hidden: float, least_share: float, kept: bool) -> None:
    """Half is not more than half; but four fifths, in float32 as transformers has them, are more
    than 0.8.
    """
    masks = rectangle_logits(
        (GRID, GRID), (0, 0, int(380 * hidden), GRID), (0, 0, 380, GRID), strength=20.0
    )[0]
    classes = class_logits(CIRCLE, SQUARE)[0]
    found = mask2former_panoptic_prediction(
        classes, masks, STUFF, WHOLE, None, overlap_mask_area_threshold=least_share
    )
    expected = theirs(classes, masks, (GRID, GRID), set(), overlap_mask_area_threshold=least_share)
    assert found.segments == expected["segments_info"]
    assert len(found.segments) == 1 + kept


def test_a_hidden_part_counts_however_little_it_has() -> None:
    """The second proposal has a probability of 0.15 everywhere; the first hides half of that."""
    masks = torch.full((2, GRID, GRID), -1.735)
    masks[0] = -20.0
    masks[0, :, : GRID // 2] = 20.0
    options = {"mask_threshold": 0.1}
    found = mask2former_panoptic_prediction(
        class_logits(CIRCLE, SQUARE)[0], masks, STUFF, WHOLE, None, **options
    )
    expected = theirs(class_logits(CIRCLE, SQUARE)[0], masks, (GRID, GRID), set(), **options)
    assert [segment["label_id"] for segment in found.segments] == [CIRCLE]
    assert found.segments == expected["segments_info"]


def test_every_pixel_goes_to_some_proposal() -> None:
    masks = torch.tensor([[[10.0, -3.0]], [[-10.0, -2.0]]])
    found = mask2former_panoptic_prediction(
        class_logits(CIRCLE, SQUARE)[0], masks, STUFF, WHOLE, None
    )
    # the second pixel goes to the second proposal, which has no mask
    assert found.segmentation.tolist() == [[1, 0]]
    alone = mask2former_panoptic_prediction(class_logits(CIRCLE)[0], masks[:1], STUFF, WHOLE, None)
    assert alone.segmentation.tolist() == [[1, 1]]


def test_padding_is_cropped() -> None:
    masks = rectangle_logits((4, 4), (3, 0, 4, 4), (0, 0, 2, 4))[0]
    valid = torch.tensor([1.0, 0.5])
    found = mask2former_panoptic_prediction(
        class_logits(CIRCLE, SQUARE)[0], masks, STUFF, valid, (8, 8)
    )
    assert [segment["label_id"] for segment in found.segments] == [SQUARE]
    assert (found.segmentation == 1).all()


def test_no_proposals_give_an_empty_map() -> None:
    found = mask2former_panoptic_prediction(
        class_logits(BACKGROUND)[0], torch.randn(1, 4, 4), STUFF, WHOLE, (5, 7)
    )
    assert found.segments == []
    assert torch.equal(found.segmentation, torch.zeros(5, 7, dtype=torch.int32))


def test_the_image_processor_takes_the_rules_as_an_option() -> None:
    classes, masks = class_logits(CIRCLE), torch.tensor([[[[10.0, -3.0]]]])
    output = DaTaSegOutput(
        class_queries_logits=classes,
        masks_queries_logits=masks,
        is_thing=IS_THING[None],
        valid_size=torch.ones(1, 2),
    )
    processor = DaTaSegImageProcessor()
    ours = processor.post_process_panoptic_segmentation(output)[0]
    mask2formers = processor.post_process_panoptic_segmentation(output, mask2former_rules=True)[0]
    assert ours["segmentation"].tolist() == [[1, 0]]
    assert mask2formers["segmentation"].tolist() == [[1, 1]]
    assert ours["segments_info"] == mask2formers["segments_info"]
