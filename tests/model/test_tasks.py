"""The tasks: hand-worked targets, merges and losses, and the rules for void, crowd and
padding.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dataseg_hf.model import box_supervision_dataseg
from dataseg_hf.model.configuration_dataseg import DaTaSegConfig
from dataseg_hf.model.losses_dataseg import cell_centers
from dataseg_hf.model.merging_dataseg import (
    IGNORED,
    Groups,
    gather_matched,
    keep_targets,
    merged_masks,
    mostly_void,
    recruit,
    rows_of,
)
from dataseg_hf.model.proposals_dataseg import LayerProposals
from dataseg_hf.model.supervision_dataseg import (
    LOSS_TERMS,
    class_cost,
    resolve_loss_weights,
)
from dataseg_hf.model.targets_dataseg import (
    BoxTargets,
    MaskTargets,
    PointValues,
    SegmentMapTargets,
    Truth,
    cell_values,
    count_targets,
)
from dataseg_hf.model.tasks_dataseg import TASKS, get_task
from helpers.proposals import (
    BACKGROUND,
    CIRCLE,
    IS_THING,
    SKY,
    SQUARE,
    STUFF,
    class_logits,
    close,
    proposals,
    rectangle_logits,
)
from helpers.truths import make_truth, task_loss, total

ConfigFactory = Callable[..., DaTaSegConfig]
LabelFactory = Callable[..., dict[str, Tensor]]

ALL_TASKS = ["panoptic", "semantic", "instance", "boxes", "objects"]


# --- names and weights ----------------------------------------------------------------------------


def test_tasks_are_found_by_name() -> None:
    assert sorted(TASKS) == sorted(ALL_TASKS)
    assert all(get_task(name).name == name for name in ALL_TASKS)
    with pytest.raises(
        ValueError, match=r"unknown task 'detection'; known are \['boxes', 'instance'"
    ):
        get_task("detection")


def test_merged_categories_of_each_task() -> None:
    merged = {name: get_task(name).merged_categories(IS_THING).tolist() for name in ALL_TASKS}
    assert merged == {
        "panoptic": [False, False, True],
        "semantic": [True, True, True],
        "instance": [False, False, False],
        "boxes": [False, False, False],
        "objects": [False, False, False],
    }


def test_loss_weights_come_from_the_config_unless_overridden(tiny_config: ConfigFactory) -> None:
    config = tiny_config(class_weight=3.0, projection_weight=7)
    assert resolve_loss_weights(config, None) == {
        "class": 3.0, "mask": 5.0, "dice": 5.0, "projection": 7.0, "color_affinity": 1.0,
        "point": 1.0, "cell": 2.0,
    }  # fmt: skip
    assert resolve_loss_weights(config, {"mask": 0.5})["mask"] == 0.5
    assert tuple(resolve_loss_weights(config, {"mask": 0.5})) == LOSS_TERMS
    with pytest.raises(ValueError, match=r"unknown loss weights \['dise'\]; known are \['class'"):
        resolve_loss_weights(config, {"dise": 1.0})


@pytest.mark.parametrize("task", ALL_TASKS)
def test_labels_without_the_annotation_of_the_task_are_refused(
    task: str, scene_labels: LabelFactory
) -> None:
    labels = scene_labels(task, (8, 8), (0, 0, 0, 4, 4))
    get_task(task).check_labels([labels], 1)
    wrong = {"class_labels": labels["class_labels"], "other": torch.zeros(1)}
    with pytest.raises(
        ValueError, match=rf"task '{task}' needs \['\w+'\] in labels\[1\], which has"
    ):
        get_task(task).check_labels([labels, wrong], 2)


@pytest.mark.parametrize("task", ALL_TASKS)
def test_a_class_outside_the_vocabulary_is_refused(
    task: str, scene_labels: LabelFactory, tiny_config: ConfigFactory
) -> None:
    labels = scene_labels(task, (8, 8), (3, 0, 0, 4, 4))
    layer = proposals(class_logits(0, 1), torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="class label 3 in a vocabulary of 3 categories"):
        task_loss(task, [layer], make_truth([labels], (8, 8)), tiny_config())


@pytest.mark.parametrize("task", ALL_TASKS)
def test_a_negative_class_is_refused(
    task: str, scene_labels: LabelFactory, tiny_config: ConfigFactory
) -> None:
    labels = scene_labels(task, (8, 8), (0, 0, 0, 4, 4), (-1, 4, 4, 8, 8))
    layer = proposals(class_logits(0, 1), torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="class label -1 in a vocabulary of 3 categories"):
        task_loss(task, [layer], make_truth([labels], (8, 8)), tiny_config())


def test_boxes_in_pixels_are_refused(tiny_config: ConfigFactory) -> None:
    labels = {"class_labels": torch.tensor([0]), "boxes": torch.tensor([[1.0, 2.0, 5.0, 7.0]])}
    layer = proposals(class_logits(0, 1), torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match=r"boxes"):
        task_loss("boxes", [layer], make_truth([labels], (8, 8)), tiny_config())


def test_crowds_are_not_counted_as_targets(scene_labels: LabelFactory) -> None:
    plain = scene_labels("instance", (8, 8), (0, 0, 0, 4, 4), (1, 4, 4, 8, 8))
    crowd = scene_labels("boxes", (8, 8), (0, 0, 0, 4, 4), (1, 4, 4, 8, 8), crowd=(1,))
    assert count_targets([plain, crowd, scene_labels("instance", (8, 8))]) == 3


# --- targets --------------------------------------------------------------------------------------


def test_segment_map_at_points_by_hand() -> None:
    labels = {
        "class_labels": torch.tensor([2, 0]),
        "segment_map": torch.tensor([[0, 0, 1], [-1, 1, 1]]).short(),
    }
    truth = make_truth([labels], (2, 3), valid=[(2, 2)])
    found = SegmentMapTargets(truth).at(cell_centers(2, 3, labels["segment_map"].device)[None])
    close(found.values, [[[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1]]])
    close(found.valid, [[1, 1, 0, 0, 1, 0]])  # the last column is padding
    close(found.void, [[0, 0, 0, 1, 0, 0]])


def test_targets_with_their_own_points_read_only_their_own() -> None:
    labels = {
        "class_labels": torch.tensor([2, 0]),
        "segment_map": torch.tensor([[0, 1], [-1, 1]]).short(),
    }
    points = torch.tensor([[[[0.2, 0.2], [0.9, 0.9]], [[0.2, 0.2], [0.2, 0.9]]]])
    found = SegmentMapTargets(make_truth([labels], (2, 2))).at(points)
    close(found.values, [[[1, 0], [0, 0]]])
    close(found.valid, [[[1, 1], [1, 0]]])
    close(found.void, [[[0, 0], [0, 1]]])


def test_a_segment_map_and_the_same_masks_give_the_same_values(scene_labels: LabelFactory) -> None:
    rectangles = [(0, 1, 1, 5, 6), (2, 5, 0, 8, 8)]
    batches: list[list[dict[str, Tensor]]] = [
        [scene_labels(task, (8, 8), *rectangles), scene_labels(task, (8, 8))]
        for task in ("panoptic", "instance")
    ]
    points = torch.rand(2, 50, 2)
    from_map = SegmentMapTargets(make_truth(batches[0], (8, 8))).at(points)
    from_masks = MaskTargets(make_truth(batches[1], (8, 8))).at(points)
    close(from_masks.values, from_map.values)
    assert from_map.values.shape == (2, 2, 50)
    # what no mask covers is background, not void
    assert from_map.void.sum() > 0 == from_masks.void.sum()


def test_overlapping_masks_keep_their_overlap(scene_labels: LabelFactory) -> None:
    labels = scene_labels("instance", (4, 4), (0, 0, 0, 3, 3), (1, 1, 1, 4, 4))
    values = MaskTargets(make_truth([labels], (4, 4))).at(torch.tensor([[[0.5, 0.5]]])).values
    close(values, [[[1], [1]]])


def test_masks_of_0_and_255_are_masks_of_0_and_1(scene_labels: LabelFactory) -> None:
    labels = scene_labels("instance", (4, 4), (0, 0, 0, 3, 3))
    points = torch.rand(1, 20, 2)
    expected = MaskTargets(make_truth([labels], (4, 4))).at(points).values
    close(
        MaskTargets(make_truth([{**labels, "masks": labels["masks"] * 255}], (4, 4)))
        .at(points)
        .values,
        expected,
    )


def test_a_segment_without_a_class_is_refused(scene_labels: LabelFactory) -> None:
    labels = scene_labels("panoptic", (4, 4), (0, 0, 0, 3, 3))
    labels["segment_map"][3, 3] = 5
    with pytest.raises((ValueError, IndexError)):
        SegmentMapTargets(make_truth([labels], (4, 4)))


def test_cell_values_are_the_share_of_each_segment_by_hand() -> None:
    segment_map = torch.tensor(
        [[0, 1, 1, 1], [0, 0, 1, -1], [-1, -1, 0, 1], [-1, -1, 0, 1]]
    ).short()
    labels = {"class_labels": torch.tensor([0, 1]), "segment_map": segment_map}
    found = cell_values(SegmentMapTargets(make_truth([labels], (4, 4))), 2, 2)
    # of the annotated pixels of a cell, how many belong to the segment
    close(found.values, [[[0.75, 0, 0, 0.5], [0.25, 1, 0, 0.5]]])
    close(found.valid, [[1, 0.75, 0, 1]])
    close(found.void, [[0, 0.25, 1, 0]])


def test_cell_values_leave_padding_out(scene_labels: LabelFactory) -> None:
    labels = scene_labels("instance", (4, 4), (0, 0, 0, 4, 4))
    found = cell_values(MaskTargets(make_truth([labels], (4, 4), valid=[(3, 4)])), 2, 2)
    close(found.valid, [[1, 1, 0.5, 0.5]])
    close(found.values, [[[1, 1, 1, 1]]])
    close(found.void, torch.zeros(1, 4))


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_cell_values_of_the_mirrored_map_are_the_mirrored_values(stride: int) -> None:
    """A half-pixel bias would shift every mask to one side."""
    size = 5 * stride
    segment_map = torch.randint(0, 3, (size, size), dtype=torch.int16)
    labels = [
        {"class_labels": torch.tensor([0, 1, 2]), "segment_map": view.contiguous()}
        for view in (segment_map, segment_map.flip(0), segment_map.flip(1))
    ]
    values = cell_values(
        SegmentMapTargets(make_truth(labels, (size, size))), 5, 5
    ).values.unflatten(2, (5, 5))
    close(values[1].flip(1), values[0])
    close(values[2].flip(2), values[0])


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_cell_values_of_all_positions_of_an_edge_average_to_the_area(
    stride: int, scene_labels: LabelFactory
) -> None:
    size = 3 * stride
    covered = []
    for edge in range(size + 1):
        labels = scene_labels("instance", (size, size), (0, 0, 0, edge, size))
        covered.append(
            cell_values(MaskTargets(make_truth([labels], (size, size))), 3, 3).values.mean()
        )
    assert float(torch.stack(covered).mean()) == pytest.approx(0.5, abs=1e-6)


def test_box_targets_by_hand() -> None:
    labels = {
        "class_labels": torch.tensor([0, 1, 1]),
        "boxes": torch.tensor(
            [[0.25, 0.0, 0.75, 0.5], [0.5, 0.5, 0.51, 1.0], [0.0, 0.75, 1.0, 1.0]]
        ),
        "box_axes": torch.tensor([[True, True], [False, True], [True, True]]),
        "is_crowd": torch.tensor([False, False, True]),
    }
    targets = BoxTargets(make_truth([labels], (8, 8), valid=[(8, 6)]), (4, 4))
    close(targets.columns, [[[0, 1, 1, 0], [0, 0, 1, 0]]])
    close(targets.rows, [[[1, 1, 0, 0], [0, 0, 1, 1]]])
    assert targets.tight.tolist() == [[[True, True], [False, True]]]
    close(targets.valid_mask.float(), [[[1, 1, 1, 0]] * 4])
    close(targets.void.float(), [[[0] * 4, [0] * 4, [0] * 4, [1, 1, 1, 0]]])


def test_boxes_keep_their_precision_beside_half_precision_images(
    scene_labels: LabelFactory,
) -> None:
    labels = {
        "class_labels": torch.tensor([0]),
        "boxes": torch.tensor([[0.0, 0.0, 501 / 512, 1.0]]),
    }
    image = torch.zeros(1, 3, 8, 512, dtype=torch.bfloat16)
    columns = BoxTargets(make_truth([labels], (8, 512), image=image), (8, 512)).columns
    assert int(columns.sum()) == 501


# --- MERGE in training ----------------------------------------------------------------------------


def recruited(
    most_likely: int,
    foreground: list[int],
    values: list[int],
    valid: list[int],
    category: int,
    matched: int,
) -> list[tuple[int, int, int]]:
    """Who joins when query 1 of two has this class and mask, and the only target of `category` has
    query `matched`.
    """
    masks = torch.tensor([[[0.0] * len(foreground), [float(x) for x in foreground]]])
    points = PointValues(
        torch.tensor([[values]]).float(),
        torch.tensor([valid]).float(),
        1 - torch.tensor([valid]).float(),
    )
    joined = recruit(
        class_logits(category, most_likely),
        masks,
        points,
        torch.tensor([[category]]),
        torch.tensor([[matched]]),
        STUFF,
    )
    return [tuple(place) for place in joined.nonzero().tolist()]


EVERYWHERE = [1, 1, 1, 1]


def test_a_proposal_that_fits_joins() -> None:
    assert recruited(SKY, [1, 1, 1, 0], [1, 1, 0, 0], EVERYWHERE, SKY, 0) == [(0, 1, 0)]


@pytest.mark.parametrize(
    ("reason", "arguments"),
    [
        ("another class", (CIRCLE, [1, 1, 0, 0], [1, 1, 0, 0], EVERYWHERE, SKY, 0)),
        ("background", (BACKGROUND, [1, 1, 0, 0], [1, 1, 0, 0], EVERYWHERE, SKY, 0)),
        ("half of it outside", (SKY, [1, 1, 1, 1], [1, 1, 0, 0], EVERYWHERE, SKY, 0)),
        ("empty mask", (SKY, [0, 0, 0, 0], [1, 1, 1, 1], EVERYWHERE, SKY, 0)),
        ("only void", (SKY, [0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], SKY, 0)),
        ("a thing", (CIRCLE, [1, 1, 0, 0], [1, 1, 0, 0], EVERYWHERE, CIRCLE, 0)),
        ("it is the matched one itself", (SKY, [1, 1, 0, 0], [1, 1, 0, 0], EVERYWHERE, SKY, 1)),
        ("its target has no query", (SKY, [1, 1, 0, 0], [1, 1, 0, 0], EVERYWHERE, SKY, -1)),
    ],
)
def test_a_proposal_that_does_not_fit_stays_out(reason: str, arguments: tuple[Any, ...]) -> None:
    assert recruited(*arguments) == [], reason


@pytest.mark.parametrize(
    ("least_overlap", "joins"), [(0.5, [1]), (0.25, [1, 2]), (0.0, [1, 2, 3]), (None, [1, 2, 3, 4])]
)
def test_the_share_that_a_recruit_must_have_inside_its_target(
    least_overlap: float | None, joins: list[int]
) -> None:
    target = [1.0, 1, 1, 0, 0, 0, 0]
    foreground = torch.tensor(
        [
            [
                target,
                [1, 1, 0, 1, 0, 0, 0],
                [1, 0, 0, 1, 0, 0, 0],
                [1, 0, 0, 1, 1, 1, 1],
                [0, 0, 0, 1, 1, 0, 0],
            ]
        ]
    )
    values = PointValues(torch.tensor([[target]]), torch.ones(1, 7), torch.zeros(1, 7))
    logits, classes, matched = (
        class_logits(SKY, SKY, SKY, SKY, SKY),
        torch.tensor([[SKY]]),
        torch.tensor([[0]]),
    )
    joined = recruit(logits, foreground, values, classes, matched, STUFF, least_overlap)
    assert joined[0, :, 0].nonzero()[:, 0].tolist() == joins


def test_void_is_left_out_of_the_share_of_a_recruit() -> None:
    # one cell in the target, three in void
    assert recruited(SKY, [1, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0], SKY, 0) == [(0, 1, 0)]


def test_of_two_stuff_segments_of_a_class_the_recruit_joins_the_one_it_covers() -> None:
    values = PointValues(
        torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 1]]]), torch.ones(1, 4), torch.zeros(1, 4)
    )
    foreground = torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 1, 1]]])
    joined = recruit(
        class_logits(SKY, SKY, SKY),
        foreground,
        values,
        torch.tensor([[SKY, SKY]]),
        torch.tensor([[0, 1]]),
        STUFF,
    )
    assert joined.nonzero().tolist() == [[0, 2, 1]]


def groups(
    matched: list[list[int]], recruits: list[tuple[int, int, int]], ignored: list[tuple[int, int]]
) -> Groups:
    flags = torch.zeros(len(matched), 4, dtype=torch.bool)
    for place in ignored:
        flags[place] = True
    group = Groups.of_assignment(torch.tensor(matched), flags)
    group.recruits = torch.zeros(len(matched), 4, len(matched[0]), dtype=torch.bool)
    for place in recruits:
        group.recruits[place] = True
    return group


def test_merged_masks_are_the_elementwise_maximum_over_the_group() -> None:
    masks = torch.randn(2, 4, 3, 3)
    group = groups([[1, 2], [3, -1]], [(0, 0, 1), (0, 3, 1), (1, 0, 0)], [])
    merged = merged_masks([proposals(masks, masks)], [group])
    close(merged[0, 0], masks[0, 1])
    close(merged[0, 1], torch.stack([masks[0, 2], masks[0, 0], masks[0, 3]]).amax(0))
    close(merged[1, 0], torch.maximum(masks[1, 3], masks[1, 0]))
    assert merged.shape == (2, 2, 3, 3)


def test_without_recruits_merged_masks_are_the_matched_ones() -> None:
    masks = torch.randn(2, 4, 3, 3)
    group = groups([[1, 2], [3, 0]], [], [])
    assert torch.equal(
        merged_masks([proposals(masks, masks)], [group]), gather_matched(masks, group.matched)
    )
    assert torch.equal(merged_masks([proposals(masks, masks)], [group])[1], masks[1, [3, 0]])


def test_gradient_of_merged_masks() -> None:
    group = groups([[1, 2], [3, -1]], [(0, 0, 1), (0, 3, 1), (1, 0, 0)], [])
    masks = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: merged_masks([proposals(x, x)], [group])[group.matched >= 0].square(), [masks]
    )


def test_soft_merging_is_the_probability_that_any_covers_the_cell() -> None:
    group = groups([[1, 2], [3, -1]], [(0, 0, 1), (0, 3, 1), (1, 0, 0)], [])
    masks = 3 * torch.randn(2, 4, 3, 3, dtype=torch.float64)
    merged = merged_masks([proposals(masks, masks)], [group], "soft")
    covers = masks.sigmoid()
    any_of_three = 1 - (1 - covers[0, 2]) * (1 - covers[0, 0]) * (1 - covers[0, 3])
    close(merged[0, 1].sigmoid(), any_of_three)
    close(merged[1, 0].sigmoid(), 1 - (1 - covers[1, 3]) * (1 - covers[1, 0]))
    assert torch.equal(merged[0, 0], masks[0, 1])  # without recruits, to the bit


@pytest.mark.parametrize("logit", [-200.0, 0.0, 200.0])
def test_soft_merging_is_finite(logit: float) -> None:
    group = groups([[0]], [(0, 1, 0)], [])
    masks = torch.full((1, 2, 3, 3), logit, requires_grad=True)
    merged = merged_masks([proposals(masks, masks)], [group], "soft")
    merged.sum().backward()
    assert merged.isfinite().all()
    assert masks.grad is not None
    assert masks.grad.isfinite().all()


def test_class_targets_of_matched_recruited_ignored_and_other_queries() -> None:
    classes = torch.tensor([[CIRCLE, SKY], [SQUARE, -1]])
    group = groups([[1, 2], [3, -1]], [(0, 0, 1)], [(0, 0), (0, 1), (1, 0)])
    targets = group.class_targets(classes, BACKGROUND)
    # matched and recruited queries keep their class even where they lie mostly in void
    assert targets.tolist() == [
        [SKY, CIRCLE, SKY, BACKGROUND],
        [IGNORED, BACKGROUND, BACKGROUND, SQUARE],
    ]


def test_mostly_void_is_more_than_half() -> None:
    void = torch.tensor([[1.0, 1, 0, 0, 0]])
    valid_mask = torch.tensor([[1.0, 1, 1, 1, 0]])
    foreground = torch.tensor(
        [[[1.0, 1, 1, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1], [1, 0, 0, 0, 1]]]
    )
    assert mostly_void(foreground, void, valid_mask).tolist() == [[True, False, False, False, True]]


def test_class_cost_is_minus_the_probability() -> None:
    logits = torch.tensor([[[0.0, 0.0], [2.0, 0.0]]])
    cost = class_cost(logits, torch.tensor([[0, -1]]))
    close(cost, [[[-0.5, 0.0], [-torch.tensor(2.0).sigmoid(), 0.0]]])


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
def test_mask_losses_by_hand(
    task: str, tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    labels = scene_labels(task, (2, 2), (CIRCLE, 0, 0, 2, 2), (SKY, 0, 0, 2, 1))
    if task == "instance":
        labels = {key: value[1:] for key, value in labels.items()}
    layer = proposals(torch.zeros(1, 2, 4), torch.zeros(1, 2, 2, 2))
    result = task_loss(
        task, [layer, layer], make_truth([labels], (2, 2)), tiny_config(class_weight=1.0)
    )
    # undecided masks: cross-entropy ln 2; dice 1 - (2 * 1 + 1) / (2 + 2 + 1) = 0.4; per layer,
    # weight 5
    ln2 = torch.tensor(2.0).log()
    close(result.terms["loss_mask"], 2 * 5 * ln2)
    close(result.terms["loss_dice"], 2 * 5 * 0.4)
    # every class has cross-entropy ln 4, and the weights are normalized
    close(result.terms["loss_class"], 2 * torch.tensor(4.0).log())
    assert int(result.unmatched) == 0


def test_recruits_share_the_mask_loss_of_their_target(
    tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    """Two proposals that each cover half of the sky: merged they are right, alone half of it is
    missing.
    """
    halves = rectangle_logits((4, 4), (0, 0, 2, 4), (2, 0, 4, 4))
    layer = proposals(class_logits(SKY, SKY), halves)
    truth = make_truth([scene_labels("panoptic", (4, 4), (SKY, 0, 0, 4, 4))], (4, 4))
    merged = task_loss("panoptic", [layer], truth, tiny_config(merge_in_training=True))
    alone = task_loss("panoptic", [layer], truth, tiny_config(merge_in_training=False))
    assert merged.terms["loss_dice"] < 1e-3 < 1 < alone.terms["loss_dice"]
    assert merged.terms["loss_class"] < 1e-2 < 0.1 < alone.terms["loss_class"]


def test_halves_of_a_thing_merge_in_semantic_but_not_in_panoptic(
    tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    layer = proposals(
        class_logits(CIRCLE, CIRCLE), rectangle_logits((4, 4), (0, 0, 2, 4), (2, 0, 4, 4))
    )
    truth = make_truth([scene_labels("panoptic", (4, 4), (CIRCLE, 0, 0, 4, 4))], (4, 4))
    assert task_loss("semantic", [layer], truth, tiny_config()).terms["loss_dice"] < 1e-3
    assert task_loss("panoptic", [layer], truth, tiny_config()).terms["loss_dice"] > 1


def test_box_losses_by_hand(tiny_config: ConfigFactory, scene_labels: LabelFactory) -> None:
    config = tiny_config(color_affinity_weight=3.0)
    labels = scene_labels("boxes", (4, 4), (CIRCLE, 1, 0, 3, 2))
    layer = proposals(torch.zeros(1, 1, 4), torch.zeros(1, 1, 4, 4))
    # projections of an undecided mask are 0.5: dice 1 - (2 * 1 + 1) / (2 + 2 + 1) = 0.4 on each
    # axis, weight 5
    result = task_loss("boxes", [layer], make_truth([labels], (4, 4)), config)
    close(result.terms["loss_projection"], 5 * 0.8)
    close(result.terms["loss_color_affinity"], 3 * torch.tensor(2.0).log())
    for axes, expected in (([True, False], 0.4), ([False, True], 0.4), ([False, False], 0.0)):
        cut = make_truth([{**labels, "box_axes": torch.tensor([axes])}], (4, 4))
        close(task_loss("boxes", [layer], cut, config).terms["loss_projection"], 5 * expected)


def test_a_cut_axis_is_left_out_of_the_loss_and_of_the_matching(
    tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    labels = scene_labels("boxes", (4, 4), (CIRCLE, 0, 0, 2, 4))
    masks = rectangle_logits((4, 4), (0, 0, 4, 4), (0, 0, 2, 1))
    layer = proposals(class_logits(CIRCLE, CIRCLE), masks.requires_grad_())
    config = tiny_config(color_affinity_weight=0.0)
    # the first fits the rows only, the second the columns only
    for axes, fitting in (([False, True], 0), ([True, False], 1)):
        truth = make_truth([{**labels, "box_axes": torch.tensor([axes])}], (4, 4))
        result = task_loss("boxes", [layer], truth, config)
        assert result.terms["loss_projection"] < 1e-3
        (gradient,) = torch.autograd.grad(result.terms["loss_projection"], masks)
        assert gradient[0, fitting].abs().sum() > 0 == gradient[0, 1 - fitting].abs().sum()


def test_color_affinity_is_skipped_at_weight_zero(
    tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    labels = scene_labels("boxes", (4, 4), (CIRCLE, 0, 0, 2, 4))
    layer = proposals(class_logits(CIRCLE), torch.zeros(1, 1, 4, 4))
    result = task_loss(
        "boxes", [layer], make_truth([labels], (4, 4)), tiny_config(color_affinity_weight=0)
    )
    assert float(result.terms["loss_color_affinity"]) == 0


def random_scene(
    task: str, scene_labels: LabelFactory, queries: int = 6, layers: int = 2
) -> tuple[Truth, list[LayerProposals], list[Tensor]]:
    """A padded batch of two with void, proposals, and their logits that need gradients: classes,
    masks, classes, ...
    """
    labels = [
        scene_labels(
            task, (16, 16), (SKY, 0, 0, 12, 16), (CIRCLE, 2, 2, 8, 9), (SQUARE, 7, 8, 12, 12)
        ),
        scene_labels(task, (16, 16), (CIRCLE, 3, 1, 15, 7)),
    ]
    truth = make_truth(labels, (16, 16), valid=[(16, 12), (8, 16)], image=torch.randn(2, 3, 16, 16))
    leaves = [
        leaf.requires_grad_()
        for _ in range(layers)
        for leaf in (torch.randn(2, queries, 4), torch.randn(2, queries, 8, 8))
    ]
    pairs = zip(leaves[0::2], leaves[1::2], strict=True)
    return truth, [proposals(classes, masks) for classes, masks in pairs], leaves


@pytest.mark.parametrize("points", [12544, 40])
@pytest.mark.parametrize("task", ALL_TASKS)
def test_gradient_of_the_whole_loss_against_finite_differences(
    task: str, points: int, tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    truth, layers, leaves = random_scene(task, scene_labels)
    truth.seeds = torch.tensor([3, 4])
    # points chosen by uncertainty jump when logits move, which a derivative does not see
    config = tiny_config(train_num_points=points, importance_sample_ratio=0.0)
    gradients = torch.autograd.grad(total(task_loss(task, layers, truth, config)), leaves)
    step = 1e-3
    for _ in range(3):
        directions = [torch.randn_like(leaf) for leaf in leaves]
        expected = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
        ends = []
        for sign in (1, -1):
            moved = [
                leaf.detach() + sign * step * d for leaf, d in zip(leaves, directions, strict=True)
            ]
            pairs = zip(moved[0::2], moved[1::2], strict=True)
            ends.append(
                float(total(task_loss(task, [proposals(c, m) for c, m in pairs], truth, config)))
            )
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, rel=0.02, abs=0.05)


@pytest.mark.parametrize("task", ALL_TASKS)
def test_padding_gets_no_gradient(
    task: str, tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    truth, layers, leaves = random_scene(task, scene_labels)
    gradients = torch.autograd.grad(total(task_loss(task, layers, truth, tiny_config())), leaves)
    for masks in gradients[1::2]:
        assert masks[0, :, :, 6:].abs().max() == 0
        assert masks[1, :, 4:].abs().max() == 0
        assert masks[0, :, :, :6].abs().max() > 0 < masks[1, :, :4].abs().max()


@pytest.mark.parametrize("task", ALL_TASKS)
def test_losses_of_parts_of_a_batch_add_up(
    task: str, tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    truth, layers, _ = random_scene(task, scene_labels)
    config = tiny_config()
    whole = task_loss(task, layers, truth, config)
    parts = []
    for image in range(2):
        part = slice(image, image + 1)
        alone = Truth(
            [truth.labels[image]], truth.image[part], truth.valid_mask[part], truth.valid_size[part],
            truth.is_thing, truth.num_targets, truth.num_images,
        )  # fmt: skip
        pairs = [proposals(layer.class_logits[part], layer.mask_logits[part]) for layer in layers]
        parts.append(task_loss(task, pairs, alone, config))
    for term, value in whole.terms.items():
        close(parts[0].terms[term] + parts[1].terms[term], value)


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
def test_sampled_points_approximate_all_cells(
    task: str, tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    labels = scene_labels(task, (128, 128), (SKY, 0, 0, 128, 60), (CIRCLE, 20, 40, 90, 100))
    truth = make_truth([labels], (128, 128), valid=[(128, 100)], seeds=torch.tensor([1]))
    coarse = torch.randn(1, 4, 5, 5) * 4
    smooth = F.interpolate(coarse, size=(32, 32), mode="bicubic", align_corners=False)
    layer = proposals(torch.randn(1, 4, 4), smooth)
    dense = task_loss(task, [layer], truth, tiny_config(train_num_points=32 * 32))
    sampled = task_loss(
        task, [layer], truth, tiny_config(train_num_points=1000, importance_sample_ratio=0.0)
    )
    for term, value in dense.terms.items():
        assert float(sampled.terms[term]) == pytest.approx(float(value), rel=0.1)


def test_sampled_losses_depend_on_the_seed_alone(
    tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    truth, layers, _ = random_scene("panoptic", scene_labels)
    config = tiny_config(train_num_points=20)
    truth.seeds = torch.tensor([5, 6])
    first = total(task_loss("panoptic", layers, truth, config))
    torch.manual_seed(123)
    assert torch.equal(total(task_loss("panoptic", layers, truth, config)), first)
    truth.seeds = torch.tensor([7, 8])
    assert not torch.equal(total(task_loss("panoptic", layers, truth, config)), first)


# --- void and crowd -------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["panoptic", "semantic"])
def test_void_pixels_count_nowhere(
    task: str, tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    labels = scene_labels(task, (8, 8), (CIRCLE, 0, 0, 4, 8))
    masks = torch.randn(1, 3, 8, 8, requires_grad=True)
    result = task_loss(
        task, [proposals(class_logits(0, 1, 3), masks)], make_truth([labels], (8, 8)), tiny_config()
    )
    (gradient,) = torch.autograd.grad(total(result), masks)
    assert gradient[..., 4:].abs().max() == 0 < gradient[..., :4].abs().max()


@pytest.mark.parametrize("task", ALL_TASKS)
def test_a_query_mostly_in_void_or_crowd_gets_no_background_loss(
    task: str, tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    rectangles = [(CIRCLE, 0, 0, 4, 8), (CIRCLE, 4, 0, 8, 8)]
    if task in ("panoptic", "semantic"):
        labels = scene_labels(task, (8, 8), rectangles[0])  # the rest is void
    else:
        labels = scene_labels(task, (8, 8), *rectangles, crowd=(1,))
    masks = rectangle_logits((8, 8), (0, 0, 4, 8), (3, 0, 8, 8), (2, 0, 5, 8))
    classes = class_logits(CIRCLE, SQUARE, SQUARE).requires_grad_()
    truth = make_truth([labels], (8, 8))
    result = task_loss(task, [proposals(classes, masks)], truth, tiny_config())
    (gradient,) = torch.autograd.grad(result.terms["loss_class"], classes)
    assert gradient[0, 0].abs().max() > 0, "matched"
    assert gradient[0, 1].abs().max() == 0, "mostly in void or crowd"
    assert gradient[0, 2].abs().max() > 0, "mostly in the image: background"


@pytest.mark.parametrize("task", ["instance", "boxes"])
def test_a_crowd_is_no_target(
    task: str, tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    labels = scene_labels(task, (8, 8), (SQUARE, 4, 0, 8, 8), (CIRCLE, 0, 0, 4, 8), crowd=(0,))
    masks = rectangle_logits((8, 8), (0, 0, 4, 8))
    layer = proposals(class_logits(CIRCLE), masks)
    result = task_loss(
        task, [layer], make_truth([labels], (8, 8)), tiny_config(color_affinity_weight=0)
    )
    assert int(result.unmatched) == 0
    assert total(result) < 1e-2


def test_crowd_pixels_are_void_for_masks(
    tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    labels = scene_labels(
        "instance", (8, 8), (CIRCLE, 0, 0, 4, 8), (CIRCLE, 4, 0, 8, 8), crowd=(1,)
    )
    masks = torch.randn(1, 3, 8, 8, requires_grad=True)
    truth = make_truth([labels], (8, 8))
    (gradient,) = torch.autograd.grad(
        total(
            task_loss("instance", [proposals(class_logits(0, 1, 3), masks)], truth, tiny_config())
        ),
        masks,
    )
    assert gradient[..., 4:].abs().max() == 0 < gradient[..., :4].abs().max()


@pytest.mark.parametrize("task", ["panoptic", "semantic"])
def test_a_crowd_segment_equals_void(
    task: str, tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    """`is_crowd` beside a segment map must not shift the indices of the segments after it."""
    marked = scene_labels(
        task, (8, 8), (SQUARE, 4, 0, 8, 8), (CIRCLE, 0, 0, 4, 4), (SKY, 0, 4, 4, 8), crowd=(0,)
    )
    plain = scene_labels(task, (8, 8), (CIRCLE, 0, 0, 4, 4), (SKY, 0, 4, 4, 8))
    layer = proposals(torch.randn(1, 4, 4), torch.randn(1, 4, 8, 8))
    with_crowd, with_void = (
        task_loss(task, [layer], make_truth([labels], (8, 8)), tiny_config())
        for labels in (marked, plain)
    )
    for term, value in with_void.terms.items():
        close(with_crowd.terms[term], value)


# --- extremes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [12544, 10])
@pytest.mark.parametrize("task", ALL_TASKS)
def test_no_objects_at_all_leaves_a_finite_background_loss(
    task: str, points: int, tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    truth = make_truth([scene_labels(task, (16, 16))] * 2, (16, 16))
    classes, masks = (
        torch.randn(2, 3, 4, requires_grad=True),
        torch.randn(2, 3, 8, 8, requires_grad=True),
    )
    result = task_loss(
        task, [proposals(classes, masks)], truth, tiny_config(train_num_points=points)
    )
    for gradient in torch.autograd.grad(total(result), [classes, masks]):
        assert torch.isfinite(gradient).all()
    values = {term: value.item() for term, value in result.terms.items()}
    assert {value for term, value in values.items() if term != "loss_class"} == {0.0}
    # a query on void gets no background loss
    assert (values["loss_class"] > 0) == (task in ("instance", "boxes", "objects"))


@pytest.mark.parametrize("task", ["instance", "boxes"])
def test_five_hundred_instances_train_and_the_surplus_is_counted(
    task: str, tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    rectangles = [(i % 2, i % 25, i // 25, i % 25 + 3, i // 25 + 3) for i in range(500)]
    truth = make_truth([scene_labels(task, (32, 32), *rectangles)], (32, 32))
    classes, masks = (
        torch.randn(1, 8, 4, requires_grad=True),
        torch.randn(1, 8, 8, 8, requires_grad=True),
    )
    result = task_loss(task, [proposals(classes, masks)], truth, tiny_config())
    assert int(result.unmatched) == 500 - 8
    for gradient in torch.autograd.grad(total(result), [classes, masks]):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0


# --- more targets than queries


def test_seats_go_to_the_targets_that_found_a_query() -> None:
    matched = torch.tensor([[-1, 1, -1, 0, -1], [0, -1, -1, -1, -1]])
    assert keep_targets(matched, 2).tolist() == [[1, 3], [0, 1]]
    assert keep_targets(matched, 5).tolist() == [[0, 1, 2, 3, 4]] * 2
    values = torch.arange(10).view(2, 5)
    assert rows_of(values, keep_targets(matched, 2)).tolist() == [[1, 3], [5, 6]]
    assert rows_of(values, keep_targets(matched, 5)) is values


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance", "boxes"])
def test_targets_beyond_the_queries_cost_what_the_others_would_alone(
    task: str, tiny_config: ConfigFactory, scene_labels: LabelFactory
) -> None:
    """Two queries that fit the second and the third of three targets: the first has no part in mask
    losses.
    """
    boxes = [(CIRCLE, 0, 0, 3, 3), (SQUARE, 4, 0, 8, 4), (SKY, 0, 4, 8, 8)]
    layer = proposals(
        class_logits(SQUARE, SKY), rectangle_logits((8, 8), (4, 0, 8, 3), (0, 4, 7, 8))
    )
    all_three = make_truth([scene_labels(task, (8, 8), *boxes)], (8, 8))
    two = make_truth([scene_labels(task, (8, 8), *boxes[1:])], (8, 8))
    two.num_targets = all_three.num_targets  # what the terms are divided by counts all
    config = tiny_config(merge_in_training=False)
    crowded, alone = (
        task_loss(task, [layer], all_three, config),
        task_loss(task, [layer], two, config),
    )
    assert int(crowded.unmatched) == 1
    assert int(alone.unmatched) == 0
    for name in ("loss_dice", "loss_projection", "loss_color_affinity"):
        if name in crowded.terms and task in ("instance", "boxes"):
            close(crowded.terms[name], alone.terms[name])
    assert all(torch.isfinite(value) for value in crowded.terms.values())


def test_affinities_computed_again_have_the_same_gradient(
    tiny_config: ConfigFactory, scene_labels: LabelFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(color_affinity_weight=3.0)
    truth = make_truth([scene_labels("boxes", (8, 8), (CIRCLE, 1, 0, 5, 6))], (8, 8))
    gradients = []
    for limit in (10**9, 0):
        monkeypatch.setattr(box_supervision_dataseg, "RECOMPUTED_CELLS", limit)
        masks = torch.linspace(-2, 2, 2 * 64).view(1, 2, 8, 8).requires_grad_()
        task_loss("boxes", [proposals(torch.zeros(1, 2, 4), masks)], truth, config).terms[
            "loss_color_affinity"
        ].backward()
        gradients.append(masks.grad)
    assert gradients[0] is not None
    assert gradients[0].abs().sum() > 0
    assert torch.equal(gradients[0], gradients[1])
