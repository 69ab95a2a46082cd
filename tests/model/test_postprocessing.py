"""Results from proposals: worked by hand, equal to the formulas, and to transformers where it is
right.
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

from dataseg_hf.model import postprocessing_dataseg
from dataseg_hf.model.resizing_dataseg import resize_masks, valid_grid
from helpers.predictions import (
    instance_prediction,
    mask2former_panoptic_prediction,
    panoptic_prediction,
    semantic_prediction,
)
from helpers.proposals import (
    BACKGROUND,
    CIRCLE,
    IS_THING,
    SKY,
    SQUARE,
    STUFF,
    WHOLE,
    class_logits,
    close,
    rectangle_logits,
)

# --- resizing -------------------------------------------------------------------------------------


def bilinear(masks: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(masks[None], size=size, mode="bilinear", align_corners=False)[0]


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 40)] * 2))
def test_resize_of_unpadded_masks_is_bilinear(
    cells: tuple[int, int], size: tuple[int, int]
) -> None:
    masks = torch.randn(3, *cells)
    close(resize_masks(masks, WHOLE, size), bilinear(masks, size), tolerance=1e-4)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(*[st.integers(1, 9)] * 2),
    st.tuples(*[st.integers(0, 9)] * 2),
    st.tuples(*[st.integers(1, 40)] * 2),
)
def test_resize_of_padded_masks_is_crop_then_resize(
    cells: tuple[int, int], padding: tuple[int, int], size: tuple[int, int]
) -> None:
    whole = (cells[0] + padding[0], cells[1] + padding[1])
    masks = torch.randn(3, *whole)
    valid_size = torch.tensor(cells) / torch.tensor(whole)
    expected = bilinear(masks[:, : cells[0], : cells[1]], size)
    close(resize_masks(masks, valid_size, size), expected, tolerance=1e-4)


def test_resize_maps_an_image_that_ends_within_a_cell() -> None:
    # 4 cells of 4 pixels, the image is 10 pixels wide: pixel x lies at (x + 0.5) / 4 cells
    ramp = (torch.arange(4) + 0.5).expand(1, 4, 4)
    columns = resize_masks(ramp, torch.tensor([1.0, 10 / 16]), (1, 10))[0, 0]
    close(columns, ((torch.arange(10) + 0.5) / 4).clamp(0.5, 2.5))


def test_valid_grid_is_what_the_image_covers() -> None:
    masks = torch.zeros(1, 8, 16)
    assert valid_grid(masks, torch.tensor([0.5, 0.75])) == (4, 12)
    assert valid_grid(masks, torch.tensor([1 / 64, 1 / 64])) == (1, 1)


# --- semantic output ------------------------------------------------------------------------------


@pytest.mark.parametrize("categories", [1, 3, 16, 17, 40])
def test_semantic_prediction_equals_the_formula(categories: int) -> None:
    logits, masks = torch.randn(6, categories + 1) * 2, torch.randn(6, 8, 8) * 3
    probabilities = logits.double().softmax(-1)[:, :-1]
    scores = torch.zeros(categories, 6, 8, dtype=torch.float64)
    for query in range(6):
        scores += probabilities[query, :, None, None] * masks[query, :6].double().sigmoid()
    wanted = bilinear(scores, (9, 20)).argmax(0)
    found = semantic_prediction(logits, masks, torch.tensor([0.75, 1.0]), (9, 20))
    assert found.dtype == torch.int64
    assert found.shape == (9, 20)
    assert torch.equal(found, wanted)


def test_semantic_prediction_sums_over_proposals_and_drops_the_background() -> None:
    masks = torch.full((3, 1, 1), 10.0)
    # one proposal of 0.4 for category 0, two of 0.3 for category 1
    probabilities = torch.tensor([[0.4, 0.0, 0.6], [0.0, 0.3, 0.7], [0.0, 0.3, 0.7]])
    assert semantic_prediction(
        probabilities.clamp(min=1e-6).log(), masks, WHOLE, (1, 1)
    ).tolist() == [[1]]


def test_semantic_prediction_keeps_the_valid_grid_without_a_size() -> None:
    assert semantic_prediction(
        torch.randn(2, 4), torch.randn(2, 8, 8), torch.tensor([0.5, 1.0]), None
    ).shape == (4, 8)


# --- panoptic output ------------------------------------------------------------------------------


def panoptic(
    classes: Tensor, masks: Tensor, size: tuple[int, int] | None = None, **options: Any
) -> Any:
    return panoptic_prediction(classes[0], masks[0], STUFF, WHOLE, size, **options)


def test_panoptic_merges_stuff_and_keeps_things_apart() -> None:
    masks = rectangle_logits((4, 4), (0, 0, 4, 1), (0, 3, 4, 4), (0, 1, 2, 3), (2, 1, 4, 3))
    result = panoptic(class_logits(SKY, SKY, CIRCLE, CIRCLE), masks)
    assert result.segmentation.tolist() == [[1] * 4, [2, 2, 3, 3], [2, 2, 3, 3], [1] * 4]
    assert result.segmentation.dtype == torch.int32
    assert [(s["id"], s["label_id"], s["was_fused"]) for s in result.segments] == [
        (1, SKY, True), (2, CIRCLE, False), (3, CIRCLE, False),
    ]  # fmt: skip
    assert result.segments[0]["score"] == pytest.approx(
        float(class_logits(SKY)[0, 0].softmax(-1).max()), abs=1e-5
    )


def test_interleaved_stuff_classes_keep_their_own_ids() -> None:
    masks = rectangle_logits(
        (1, 5), (0, 0, 1, 1), (1, 0, 2, 1), (2, 0, 3, 1), (3, 0, 4, 1), (4, 0, 5, 1)
    )
    all_stuff = torch.ones(3, dtype=torch.bool)
    classes = class_logits(SKY, CIRCLE, SKY, CIRCLE, SQUARE)
    result = panoptic_prediction(classes[0], masks[0], all_stuff, WHOLE, None)
    assert result.segmentation.tolist() == [[1, 2, 1, 2, 3]]
    assert [s["label_id"] for s in result.segments] == [SKY, CIRCLE, SQUARE]


def test_a_pixel_goes_to_the_surest_proposal_and_a_hidden_segment_is_dropped() -> None:
    masks = rectangle_logits((1, 4), (0, 0, 4, 1), (1, 0, 4, 1))
    classes = class_logits(CIRCLE, SQUARE)
    classes[0, 0] *= 0.3  # 0.87 against 1.00
    result = panoptic(classes, masks, overlap_mask_area_threshold=0.2)
    assert result.segmentation.tolist() == [[1, 2, 2, 2]]
    result = panoptic(classes, masks, overlap_mask_area_threshold=0.8)
    assert result.segmentation.tolist() == [[0, 1, 1, 1]]
    assert [s["label_id"] for s in result.segments] == [SQUARE]


def test_background_and_unsure_proposals_take_no_part() -> None:
    masks = rectangle_logits((2, 2), (0, 0, 2, 2), (0, 0, 1, 2), (1, 0, 2, 2))
    classes = class_logits(BACKGROUND, CIRCLE, SQUARE)
    classes[0, 2] = torch.tensor([0.4, 0.6, 0.0, 0.0])
    result = panoptic(classes, masks)
    assert result.segmentation.tolist() == [[1, 0], [1, 0]]
    assert len(panoptic(classes, masks, threshold=0.3).segments) == 2


def test_below_the_mask_threshold_nothing_is_claimed() -> None:
    masks = torch.tensor([[[[10.0, 0.2]]]])  # mask probabilities 1.00 and 0.55
    classes = class_logits(CIRCLE)
    assert panoptic(classes, masks).segmentation.tolist() == [[1, 1]]
    assert panoptic(classes, masks, mask_threshold=0.6).segmentation.tolist() == [[1, 0]]


# --- instance output ------------------------------------------------------------------------------


def instances(
    classes: Tensor, masks: Tensor, size: tuple[int, int] | None = None, **options: Any
) -> Any:
    return instance_prediction(classes[0], masks[0], IS_THING, WHOLE, size, **options)


def test_instances_may_overlap_and_come_best_first() -> None:
    masks = rectangle_logits((1, 4), (0, 0, 3, 1), (1, 0, 4, 1))
    classes = class_logits(CIRCLE, SQUARE)
    classes[0, 0] *= 0.3
    result = instances(classes, masks, threshold=0.5)
    assert result.label_ids.tolist() == [SQUARE, CIRCLE]
    assert result.masks.int().tolist() == [[[0, 1, 1, 1]], [[1, 1, 1, 0]]]
    assert result.masks.dtype == torch.bool
    sure = torch.tensor(10.0).sigmoid()
    close(result.scores, classes[0].softmax(-1).amax(-1).flip(0) * sure)


def test_one_mask_can_carry_several_categories_but_no_stuff() -> None:
    classes = torch.tensor([[[2.0, 1.0, 3.0, 0.0]]])
    result = instances(classes, rectangle_logits((2, 2), (0, 0, 1, 1)))
    assert result.label_ids.tolist() == [CIRCLE, SQUARE]
    assert (
        len(instances(classes, rectangle_logits((2, 2), (0, 0, 1, 1)), max_instances=1).scores) == 1
    )


def test_the_best_pairs_are_kept() -> None:
    classes, masks = torch.randn(1, 50, 4), torch.randn(1, 50, 4, 4) + 3
    kept = instances(classes, masks, max_instances=10)
    pairs = classes[0].softmax(-1)[:, :2].flatten()
    assert len(kept.scores) == 10
    assert (kept.scores[:-1] >= kept.scores[1:]).all()
    quality = torch.stack([m[m >= 0.5].mean() for m in masks[0].sigmoid()])
    best = pairs.topk(10).indices
    close(kept.scores, (pairs[best] * quality[best // 2]).sort(descending=True).values)


def test_empty_masks_are_left_out() -> None:
    masks = rectangle_logits((2, 2), (0, 0, 0, 0), (0, 0, 1, 1))
    result = instances(class_logits(CIRCLE, SQUARE), masks, threshold=0.5)
    assert result.label_ids.tolist() == [SQUARE]


def test_a_vocabulary_of_stuff_has_no_instances() -> None:
    nothing = torch.zeros(3, dtype=torch.bool)
    result = instance_prediction(class_logits(SKY)[0], torch.ones(1, 2, 2), nothing, WHOLE, (4, 4))
    assert result.masks.shape == (0, 4, 4)


# --- edge cases of all outputs --------------------------------------------------------------------


def test_no_proposals_give_empty_outputs() -> None:
    classes, masks = class_logits(BACKGROUND, BACKGROUND), torch.randn(1, 2, 4, 4)
    result = panoptic(classes, masks, size=(5, 7))
    assert result.segmentation.shape == (5, 7)
    assert int(result.segmentation.abs().sum()) == 0 == len(result.segments)
    found = instances(classes, masks, size=(5, 7), threshold=0.5)
    assert found.masks.shape == (0, 5, 7)
    assert found.scores.shape == found.label_ids.shape == (0,)
    assert semantic_prediction(classes[0], masks[0], WHOLE, (5, 7)).shape == (5, 7)


@pytest.mark.parametrize("size", [(1, 1), None])
def test_an_image_of_one_pixel(size: tuple[int, int] | None) -> None:
    classes, masks = class_logits(CIRCLE), rectangle_logits((8, 8), (0, 0, 1, 1))
    valid = torch.tensor([1 / 32, 1 / 32])
    assert semantic_prediction(classes[0], masks[0], valid, size).tolist() == [[CIRCLE]]
    assert panoptic_prediction(classes[0], masks[0], STUFF, valid, size).segmentation.tolist() == [
        [1]
    ]
    assert instance_prediction(classes[0], masks[0], IS_THING, valid, size, 0.5).masks.tolist() == [
        [[True]]
    ]


def test_a_target_of_one_pixel() -> None:
    classes, masks = class_logits(SKY), rectangle_logits((8, 8), (0, 0, 8, 8))
    assert semantic_prediction(classes[0], masks[0], WHOLE, (1, 1)).tolist() == [[SKY]]
    assert panoptic(classes, masks, size=(1, 1)).segmentation.tolist() == [[1]]
    assert instance_prediction(
        classes[0], masks[0], ~IS_THING, WHOLE, (1, 1), 0.5
    ).masks.tolist() == [[[True]]]


# --- streaming changes nothing --------------------------------------------------------------------


def panoptic_by_the_book(
    classes: Tensor,
    masks: Tensor,
    fused: Tensor,
    size: tuple[int, int],
    threshold: float,
    mask_threshold: float,
) -> Tensor:
    """MaskFormer's procedure with every mask at full size; segments keep all of their visible
    pixels.
    """
    scores, label_ids = classes.softmax(-1).max(-1)
    groups: dict[object, list[int]] = {}
    for query in range(len(scores)):
        label_id = int(label_ids[query])
        if label_id < len(fused) and scores[query] > threshold:
            groups.setdefault(label_id if fused[label_id] else (query,), []).append(query)
    segmentation = torch.zeros(size, dtype=torch.int32)
    if not groups:
        return segmentation
    probabilities = bilinear(masks, size).sigmoid()
    members = list(groups.values())
    owner = torch.stack(
        [(scores[g, None, None] * probabilities[g]).amax(0) for g in members]
    ).argmax(0)
    number = 0
    for place, group in enumerate(members):
        visible = (owner == place) & (probabilities[group] >= mask_threshold).any(0)
        number += int(visible.any())
        segmentation[visible] = number
    return segmentation


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.tuples(*[st.integers(1, 40)] * 2),
    st.sampled_from([0.0, 0.3, 0.5, 0.9]),
)
def test_panoptic_prediction_is_the_procedure_by_the_book(
    seed: int, size: tuple[int, int], share: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    classes, masks = 3 * torch.randn(9, 6, generator=draw), 4 * torch.randn(9, 7, 5, generator=draw)
    fused = torch.rand(5, generator=draw) > 0.5
    expected = panoptic_by_the_book(classes, masks, fused, size, 0.3, share)
    found = panoptic_prediction(
        classes, masks, fused, WHOLE, size, 0.3, share, overlap_mask_area_threshold=0.0
    )
    assert torch.equal(found.segmentation, expected)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([1, 50, 400]))
def test_bands_change_no_pixel(seed: int, elements: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    classes, masks = (
        4 * torch.randn(8, 21, generator=draw),
        4 * torch.randn(8, 9, 6, generator=draw),
    )
    arguments = (classes, masks, torch.tensor([0.8, 0.9]), (31, 17))
    expected = semantic_prediction(*arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postprocessing_dataseg, "BAND_ELEMENTS", elements)
        assert torch.equal(semantic_prediction(*arguments), expected)


@pytest.mark.parametrize("pixels", [1, 40, 2**20])
@pytest.mark.parametrize("seed", range(4))
def test_instances_are_those_of_masks_enlarged_one_by_one(
    seed: int, pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty masks among them, at the bundles' borders too."""
    generator = torch.Generator().manual_seed(seed)
    masks = 4 * torch.randn(9, 5, 6, generator=generator) - 2
    masks[::3] = -9.0
    classes = torch.randn(9, len(IS_THING) + 1, generator=generator)
    monkeypatch.setattr(postprocessing_dataseg, "BUNDLE_PIXELS", pixels)
    found = instance_prediction(classes, masks, IS_THING, WHOLE, (11, 13))

    enlarged = bilinear(masks, (11, 13)).sigmoid()
    inside = enlarged >= 0.5
    scores = (
        classes.softmax(-1)[:, :-1]
        * ((enlarged * inside).flatten(1).sum(1) / inside.flatten(1).sum(1))[:, None]
    )
    pairs = [(q, c) for q in range(9) if inside[q].any() for c in IS_THING.nonzero()[:, 0].tolist()]
    pairs.sort(key=lambda pair: float(-scores[pair]))
    assert torch.equal(found.masks, torch.stack([inside[q] for q, _ in pairs]))
    assert found.label_ids.tolist() == [c for _, c in pairs]
    assert found.areas == found.masks.flatten(1).sum(1).tolist()
    close(found.scores, torch.stack([scores[pair] for pair in pairs]))


def test_a_category_that_is_best_at_no_cell_can_win_between_them() -> None:
    # at the two cells one of the first categories is sure, the third one is always there: 1, 0, 0.7
    # and 0, 1, 0.7
    masks = torch.tensor([[[20.0, -20.0]], [[-20.0, 20.0]], [[20.0, 20.0]]])
    probabilities = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.7, 0.3]])
    found = semantic_prediction(probabilities.clamp(min=1e-9).log(), masks, WHOLE, (1, 10))
    assert found.tolist() == [[0, 0, 0, 0, 2, 2, 1, 1, 1, 1]]


def test_a_mask_in_the_padding_is_no_segment() -> None:
    masks = rectangle_logits((4, 4), (3, 0, 4, 4), (0, 0, 2, 4))
    valid = torch.tensor([1.0, 0.5])
    assert panoptic_prediction(
        class_logits(CIRCLE, SQUARE)[0], masks[0], STUFF, valid, (8, 8)
    ).segments == [
        {"id": 1, "label_id": SQUARE, "was_fused": False, "score": pytest.approx(1.0, abs=1e-3)}
    ]
    found = instance_prediction(
        class_logits(CIRCLE, SQUARE)[0], masks[0], IS_THING, valid, (8, 8), 0.5
    )
    assert found.label_ids.tolist() == [SQUARE]
    assert found.masks.all()


# --- against transformers' Mask2Former ------------------------------------------------------------

GRID = 384  # to which transformers resizes all masks first


def mask2former_output(classes: Tensor, masks: Tensor) -> Any:
    return Mask2FormerForUniversalSegmentationOutput(
        class_queries_logits=classes, masks_queries_logits=masks
    )


def stuff_with_things(boxes: list[tuple[int, int, int, int]]) -> Tensor:
    """Two halves of stuff, then a thing per box, with hard masks that cover every pixel once: [1,
    N, 384, 384].
    """
    masks = rectangle_logits(
        (GRID, GRID), (0, 0, GRID, GRID // 2), (0, GRID // 2, GRID, GRID), *boxes, strength=20.0
    )
    masks[:, :2] = torch.where((masks[:, 2:] > 0).any(1, keepdim=True), -20.0, masks[:, :2])
    return masks


# sizes at which no pixel lies half-way between two cells, where two segments would tie
@pytest.mark.parametrize("size", [(512, 512), (512, 1024)])
@settings(deadline=None, max_examples=8)
@given(
    places=st.lists(st.sampled_from(range(16)), min_size=1, max_size=8, unique=True),
    seed=st.integers(0, 10**6),
)
def test_panoptic_results_equal_those_of_transformers(
    places: list[int], seed: int, size: tuple[int, int]
) -> None:
    """Its rules and ours agree on hard masks of equal scores that leave no pixel free and of which
    no three meet.
    """
    draw = torch.Generator().manual_seed(seed)
    boxes = []
    for place in places:
        x, y = 96 * (place % 4) + 3, 96 * (place // 4) + 3
        width, height = torch.randint(4, 90, (2,), generator=draw).tolist()
        boxes.append((x, y, x + width, y + height))
    masks = stuff_with_things(boxes)
    classes = class_logits(2, 3, *[number % 2 for number in range(len(boxes))], categories=4)
    theirs = Mask2FormerImageProcessorPil().post_process_panoptic_segmentation(
        mask2former_output(classes, masks), target_sizes=[size], label_ids_to_fuse={2, 3}
    )[0]
    ours = panoptic_prediction(
        classes[0], masks[0], torch.tensor([False, False, True, True]), WHOLE, size
    )
    assert torch.equal(ours.segmentation, theirs["segmentation"])
    assert ours.segments == theirs["segments_info"]


def test_things_after_a_fused_category_keep_ids_of_their_own() -> None:
    """In transformers the counter goes back to the fused category's id, and the next thing gets an
    id twice.
    """
    masks = rectangle_logits(
        (GRID, GRID),
        (0, 0, 96, GRID),
        (96, 0, 192, GRID),
        (192, 0, 288, GRID),
        (288, 0, GRID, GRID),
    )
    classes = class_logits(SKY, CIRCLE, SKY, SQUARE)
    theirs = Mask2FormerImageProcessorPil().post_process_panoptic_segmentation(
        mask2former_output(classes, masks), label_ids_to_fuse={SKY}
    )[0]["segmentation"]
    ours = panoptic(classes, masks).segmentation
    assert theirs[0, ::96].tolist() == [1, 2, 1, 2]
    assert ours[0, ::96].tolist() == [1, 2, 1, 3]
    assert torch.equal(torch.where(ours == 3, 2, ours), theirs)


def test_semantic_results_equal_those_of_transformers() -> None:
    classes, masks = 3 * torch.randn(1, 12, 21), 3 * torch.randn(1, 12, GRID, GRID)
    theirs = Mask2FormerImageProcessorPil().post_process_semantic_segmentation(
        mask2former_output(classes, masks), target_sizes=[(300, 500)]
    )[0]
    ours = semantic_prediction(classes[0], masks[0], WHOLE, (300, 500))
    assert (ours != theirs).float().mean() < 1e-4  # sums in another order


def test_instances_equal_those_of_transformers() -> None:
    classes, masks = 3 * torch.randn(1, 10, 4), 3 * torch.randn(1, 10, GRID, GRID) - 2
    theirs = Mask2FormerImageProcessorPil().post_process_instance_segmentation(
        mask2former_output(classes, masks), threshold=0.3, return_binary_maps=True
    )[0]
    every = torch.ones(3, dtype=torch.bool)
    ours = instance_prediction(
        classes[0], masks[0], every, WHOLE, None, threshold=0.3, max_instances=10
    )
    order = torch.tensor([segment["score"] for segment in theirs["segments_info"]]).argsort(
        descending=True
    )
    assert ours.label_ids.tolist() == [theirs["segments_info"][i]["label_id"] for i in order]
    close(ours.scores, [theirs["segments_info"][i]["score"] for i in order])
    assert len(order) > 3
    assert torch.equal(ours.masks, theirs["segmentation"][order] > 0)


# --- outputs that carry gradients -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(20, 30), None])
def test_every_result_takes_logits_with_gradients(
    dtype: torch.dtype, size: tuple[int, int] | None
) -> None:
    """As transformers' processors do; results are those without, of the same dtype."""
    logits = (torch.randn(6, 4) * 3).to(dtype)
    masks = (torch.randn(6, 8, 8) * 3).to(dtype)
    valid_size = torch.tensor([1.0, 0.75])

    def results(classes: Tensor, maps: Tensor, valid: Tensor) -> list[Tensor]:
        arguments = (valid, size, 0.1)
        panoptic = [
            predict(classes, maps, STUFF, *arguments).segmentation
            for predict in (panoptic_prediction, mask2former_panoptic_prediction)
        ]
        instances = instance_prediction(classes, maps, IS_THING, *arguments, nms=0.5)
        return [
            semantic_prediction(classes, maps, valid, size),
            *panoptic,
            instances.masks,
            instances.scores,
        ]

    expected = results(logits, masks, valid_size)
    leaves = [tensor.clone().requires_grad_() for tensor in (logits, masks, valid_size)]
    # as a model's output is: no leaves
    found = results(*(tensor * 1 for tensor in leaves))
    assert len(found[3]) > 1
    for one, other in zip(found, expected, strict=True):
        assert not one.requires_grad
        assert torch.equal(one, other)
    for one, other in zip(results(*leaves), expected, strict=True):
        assert torch.equal(one, other)
