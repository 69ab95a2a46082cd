"""Costs and losses: hand-worked values, independent references, and finite differences for every
gradient.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.mask2former import modeling_mask2former as mask2former

from dataseg_hf.model.losses_dataseg import (
    axis_projections,
    bce_loss,
    cell_centers,
    classification_loss,
    color_affinity_loss,
    dice_loss,
    hungarian,
    interval_cells,
    nearest_index,
    neighbor_pairs,
    pairwise_bce_cost,
    pairwise_dice_cost,
    random_points,
    sample_grid,
    uncertain_points,
)

LN2, LN3 = math.log(2), math.log(3)


def close(actual: Tensor, expected: object, tolerance: float = 1e-6) -> None:
    wanted = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, wanted, rtol=tolerance, atol=tolerance)


def random64(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def check_gradient(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-6)


# --- points ---------------------------------------------------------------------------------------


def test_cell_centers_run_row_by_row_in_xy() -> None:
    close(
        cell_centers(2, 2, torch.device("cpu")),
        [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]],
    )
    close(
        cell_centers(1, 4, torch.device("cpu")),
        [[0.125, 0.5], [0.375, 0.5], [0.625, 0.5], [0.875, 0.5]],
    )


def test_random_points_stay_inside_each_image() -> None:
    valid = torch.tensor([[0.25, 1.0], [1.0, 0.5], [1 / 64, 1 / 64]])
    for seeds in (None, torch.tensor([1, 2, 3])):
        points = random_points(2000, valid, seeds)
        assert points.shape == (3, 2000, 2)
        assert points.min() >= 0
        assert (points[..., 0] < valid[:, None, 1]).all()
        assert (points[..., 1] < valid[:, None, 0]).all()
    # and they fill it
    close(points.amax(1), valid.flip(-1), tolerance=0.01)
    close(points.mean(1), valid.flip(-1) / 2, tolerance=0.02)


def test_seeded_points_of_an_image_do_not_depend_on_its_batch() -> None:
    valid = torch.tensor([[0.5, 1.0], [1.0, 1.0]])
    both = random_points(10, valid, torch.tensor([11, 7]))
    alone = random_points(10, valid[1:], torch.tensor([7]))
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(both[0] / valid[0].flip(-1), both[1])
    torch.manual_seed(99)
    assert torch.equal(random_points(10, valid, torch.tensor([11, 7])), both)


def test_sample_grid_gives_exact_values_at_cell_centers() -> None:
    grid = torch.randn(2, 3, 4, 5)
    points = cell_centers(4, 5, grid.device).expand(2, -1, -1)
    close(sample_grid(grid, points), grid.flatten(2), tolerance=1e-5)


def test_sample_grid_interpolates_and_repeats_the_border() -> None:
    grid = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    points = torch.tensor([[[0.5, 0.25], [0.5, 0.5], [0.0, 0.0], [1.0, 1.0], [0.375, 0.25]]])
    close(sample_grid(grid, points), [[[2.0, 4.0, 1.0, 7.0, 1.5]]])


def test_nearest_index_is_the_pixel_that_holds_the_point() -> None:
    points = torch.tensor([[0.0, 0.0], [0.99, 0.0], [0.26, 0.51], [1.0, 1.0]])
    assert nearest_index(points, 2, 4).tolist() == [0, 3, 5, 7]


def test_uncertain_points_are_those_nearest_to_the_decision_boundary() -> None:
    # the logit is 0 between the columns 1 and 2, and grows to both sides
    logits = torch.tensor([-3.0, -1.0, 1.0, 3.0]).expand(1, 1, 4, 4)
    candidates = torch.rand(1, 64, 2)
    chosen = uncertain_points(logits, candidates, 16, 0.75)
    assert chosen.shape == (1, 1, 16, 2)
    distance = (candidates[0, :, 0] - 0.5).abs().sort().values
    close((chosen[0, 0, :12, 0] - 0.5).abs().sort().values, distance[:12])
    assert torch.equal(chosen[0, 0, 12:], candidates[0, :4])


@pytest.mark.parametrize(("ratio", "uncertain"), [(0.0, 0), (1.0, 8)])
def test_uncertain_points_of_all_or_none(ratio: float, uncertain: int) -> None:
    logits, candidates = torch.randn(2, 3, 4, 4), torch.rand(2, 24, 2)
    chosen = uncertain_points(logits, candidates, 8, ratio)
    assert chosen.shape == (2, 3, 8, 2)
    if uncertain == 0:
        assert torch.equal(chosen, candidates[:, None, :8].expand(-1, 3, -1, -1))


def test_every_mask_gets_its_own_uncertain_points() -> None:
    ramp = torch.linspace(-1, 1, 8)
    logits = torch.stack([ramp.expand(8, 8), ramp[:, None].expand(8, 8)])[None]
    chosen = uncertain_points(logits, torch.rand(1, 400, 2), 20, 1.0)[0]
    assert (chosen[0, :, 0] - 0.5).abs().max() < 0.1 < (chosen[0, :, 1] - 0.5).abs().max()
    assert (chosen[1, :, 1] - 0.5).abs().max() < 0.1 < (chosen[1, :, 0] - 0.5).abs().max()


def test_no_masks_have_no_points() -> None:
    assert uncertain_points(torch.zeros(2, 0, 4, 4), torch.rand(2, 24, 2), 8, 0.75).shape == (
        2,
        0,
        8,
        2,
    )


# --- matching costs -------------------------------------------------------------------------------


def test_pairwise_bce_cost_by_hand() -> None:
    logits = torch.tensor([[[0.0, LN3]]])
    targets = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    # bce(0, 1) = ln 2, bce(ln 3, 0) = ln 4, bce(ln 3, 1) = ln 4 - ln 3
    close(
        pairwise_bce_cost(logits, targets, torch.ones(1, 2)), [[[1.5 * LN2, (3 * LN2 - LN3) / 2]]]
    )
    close(pairwise_bce_cost(logits, targets, torch.tensor([[1.0, 0.0]])), [[[LN2, LN2]]])


def test_pairwise_dice_cost_by_hand() -> None:
    probabilities = torch.tensor([[[0.5, 0.5]]])
    targets = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    # 1 - (2 * 0.5 + 1) / (1 + 1 + 1) and 1 - (2 * 1 + 1) / (1 + 2 + 1)
    close(pairwise_dice_cost(probabilities, targets, torch.ones(1, 2)), [[[1 / 3, 1 / 4]]])
    # only the first point: 1 - (2 * 0.5 + 1) / (0.5 + 1 + 1)
    close(pairwise_dice_cost(probabilities, targets, torch.tensor([[1.0, 0.0]])), [[[0.2, 0.2]]])
    # a validity per target: the first sees one point, the second both
    close(
        pairwise_dice_cost(probabilities, targets, torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])),
        [[[0.2, 0.25]]],
    )


def test_pairwise_costs_equal_the_losses_of_each_pair() -> None:
    logits, targets = torch.randn(2, 5, 7), torch.rand(2, 3, 7)
    valid = torch.rand(2, 7)
    bce = pairwise_bce_cost(logits, targets, valid)
    dice = pairwise_dice_cost(logits.sigmoid(), targets, valid)
    for image, query, target in itertools.product(range(2), range(5), range(3)):
        pair = (logits[image, query], targets[image, target])
        close(bce[image, query, target], bce_loss(*pair, valid[image]), tolerance=1e-5)
        close(
            dice[image, query, target],
            dice_loss(pair[0].sigmoid(), pair[1], valid[image]),
            tolerance=1e-5,
        )


def test_costs_equal_those_of_mask2former() -> None:
    logits, targets, everywhere = (
        torch.randn(1, 6, 50) * 3,
        (torch.rand(1, 4, 50) > 0.5).float(),
        torch.ones(1, 50),
    )
    close(
        pairwise_bce_cost(logits, targets, everywhere)[0],
        mask2former.pair_wise_sigmoid_cross_entropy_loss(logits[0], targets[0]),
        tolerance=1e-5,
    )
    close(
        pairwise_dice_cost(logits.sigmoid(), targets, everywhere)[0],
        mask2former.pair_wise_dice_loss(logits[0], targets[0]),
        tolerance=1e-5,
    )


def test_losses_equal_those_of_mask2former() -> None:
    logits, targets, everywhere = (
        torch.randn(4, 50) * 3,
        (torch.rand(4, 50) > 0.5).float(),
        torch.ones(50),
    )
    close(
        bce_loss(logits, targets, everywhere).sum() / 3,
        mask2former.sigmoid_cross_entropy_loss(logits, targets, 3),
        tolerance=1e-5,
    )
    close(
        dice_loss(logits.sigmoid(), targets, everywhere).sum() / 3,
        mask2former.dice_loss(logits, targets, 3),
        tolerance=1e-5,
    )


# --- assignment -----------------------------------------------------------------------------------


def least_cost(cost: np.ndarray) -> float:
    """Least sum over all one-to-one assignments of the smaller side, by trying them all."""
    queries, targets = cost.shape
    if queries < targets:
        return least_cost(cost.T)
    return min(
        sum(cost[query, target] for target, query in enumerate(chosen))
        for chosen in itertools.permutations(range(queries), targets)
    )


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_hungarian_finds_the_least_cost(queries: int, targets: int, seed: int) -> None:
    cost = np.random.default_rng(seed).integers(-9, 9, (queries, targets)).astype(np.float32)
    assigned = hungarian(torch.tensor(cost)[None, None], torch.ones(1, targets, dtype=torch.bool))[
        0, 0
    ]
    found = assigned >= 0
    assert int(found.sum()) == min(queries, targets)
    assert len(set(assigned[found].tolist())) == int(found.sum())
    assert cost[assigned[found].numpy(), found.numpy()].sum() == pytest.approx(least_cost(cost))


def test_hungarian_by_hand_for_two_layers_and_two_images() -> None:
    cost = torch.tensor(
        [
            [[[1.0, 9.0], [9.0, 1.0], [5.0, 5.0]], [[4.0, 1.0], [1.0, 2.0], [3.0, 3.0]]],
            [[[9.0, 1.0], [9.0, 9.0], [0.0, 5.0]], [[0.0, 0.0], [9.0, 1.0], [9.0, 9.0]]],
        ]
    )
    assigned = hungarian(cost, torch.ones(2, 2, dtype=torch.bool))
    assert assigned.dtype == torch.int64
    assert assigned.tolist() == [[[0, 1], [1, 0]], [[2, 0], [0, 1]]]


def test_padding_is_never_matched_and_its_cost_is_never_read() -> None:
    cost = torch.tensor([[[[float("nan"), 3.0, 1.0], [float("inf"), 1.0, 2.0]]]])
    assert hungarian(cost, torch.tensor([[False, True, True]])).tolist() == [[[-1, 1, 0]]]


def test_more_targets_than_queries_leaves_the_dearest_unmatched() -> None:
    cost = torch.tensor([[[[5.0, 1.0, 9.0, 2.0], [5.0, 2.0, 9.0, 1.0]]]])
    assert hungarian(cost, torch.ones(1, 4, dtype=torch.bool)).tolist() == [[[-1, 0, -1, 1]]]


def test_no_targets_match_nothing() -> None:
    assert hungarian(torch.zeros(2, 3, 4, 0), torch.ones(3, 0, dtype=torch.bool)).shape == (2, 3, 0)
    nothing = hungarian(
        torch.zeros(1, 2, 4, 3), torch.tensor([[True, True, True], [False, False, False]])
    )
    assert nothing[0, 1].tolist() == [-1, -1, -1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_cost_that_is_not_finite_names_the_image(bad: float) -> None:
    cost = torch.zeros(2, 3, 4, 2)
    cost[1, 2, 0, 1] = bad
    with pytest.raises(FloatingPointError, match="image 2 of the batch is not finite"):
        hungarian(cost, torch.ones(3, 2, dtype=torch.bool))


# --- class ----------------------------------------------------------------------------------------


def count(value: float) -> Tensor:
    return torch.tensor(float(value))


def test_classification_loss_by_hand() -> None:
    logits = torch.zeros(1, 2, 2)
    # one matched query (weight 1), one background query (weight 0.1); every cross-entropy is ln 2
    close(classification_loss(logits, torch.tensor([[0, 1]]), 0.1, count(1), count(1)), LN2)
    # ignoring the background query leaves the normalizer alone
    close(
        classification_loss(logits, torch.tensor([[0, -100]]), 0.1, count(1), count(1)), LN2 / 1.1
    )
    # a recruit counts beside the matched query: both have weight 1
    close(
        classification_loss(logits, torch.tensor([[0, 0]]), 0.1, count(1), count(1)), 2 * LN2 / 1.1
    )
    # more targets than queries: no negative number of background queries
    close(classification_loss(logits, torch.tensor([[0, 0]]), 0.1, count(5), count(1)), 2 * LN2 / 5)


def test_classification_loss_weights_only_the_background_down() -> None:
    logits = torch.tensor([[[0.0, 0.0, LN3]]])
    by_class = [
        classification_loss(logits, torch.tensor([[c]]), 0.5, count(1), count(1)) for c in range(3)
    ]
    close(torch.stack(by_class), [math.log(5), math.log(5), 0.5 * math.log(5 / 3)])


def test_classification_loss_of_the_parts_adds_up_to_the_whole() -> None:
    logits, targets = torch.randn(4, 6, 5), torch.randint(0, 5, (4, 6))
    targets[0, 0] = -100
    total = int(((targets >= 0) & (targets < 4)).sum())
    whole = classification_loss(logits, targets, 0.1, count(total), count(4))
    parts = [
        classification_loss(logits[part], targets[part], 0.1, count(total), count(4))
        for part in ([0], [1, 2, 3])
    ]
    close(parts[0] + parts[1], whole, tolerance=1e-5)
    assert parts[0] > 0 < parts[1]


def test_the_class_normaliser_is_the_sum_of_weights_of_a_one_to_one_matching() -> None:
    logits, targets = torch.randn(2, 6, 4), torch.full((2, 6), 3)
    targets[0, 1], targets[1, 4], targets[1, 5] = 0, 2, 1
    expected = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), targets, weight=torch.tensor([1, 1, 1, 0.1])
    )
    close(classification_loss(logits, targets, 0.1, count(3), count(2)), expected, tolerance=1e-5)


# --- masks ----------------------------------------------------------------------------------------


def test_bce_loss_by_hand() -> None:
    logits, targets = torch.tensor([0.0, LN3, 50.0]), torch.tensor([1.0, 0.0, 1.0])
    close(bce_loss(logits, targets, torch.ones(3)), LN2)
    close(bce_loss(logits, targets, torch.tensor([1.0, 0.0, 1.0])), LN2 / 2)
    close(bce_loss(logits, targets, torch.zeros(3)), 0.0)


def test_dice_loss_by_hand() -> None:
    probabilities, targets = torch.tensor([0.5, 0.5, 1.0]), torch.tensor([1.0, 0.0, 1.0])
    # 1 - (2 * 1.5 + 1) / (2 + 2 + 1)
    close(dice_loss(probabilities, targets, torch.ones(3)), 0.2)
    # without the third point: 1 - (2 * 0.5 + 1) / (1 + 1 + 1)
    close(dice_loss(probabilities, targets, torch.tensor([1.0, 1.0, 0.0])), 1 / 3)
    close(dice_loss(targets, targets, torch.ones(3)), 0.0)
    close(dice_loss(torch.zeros(3), torch.zeros(3), torch.ones(3)), 0.0)


# --- boxes ----------------------------------------------------------------------------------------


def test_axis_projections_are_maxima_over_rows_and_columns() -> None:
    probabilities = torch.tensor([[0.1, 0.9, 0.2], [0.3, 0.4, 0.8]])
    columns, rows = axis_projections(
        probabilities.logit()[None, None], torch.ones(1, 2, 3, dtype=torch.bool)
    )
    close(columns, [[[0.3, 0.9, 0.8]]])
    close(rows, [[[0.9, 0.8]]])


def test_padding_takes_no_part_in_the_projection() -> None:
    probabilities = torch.tensor([[0.1, 0.9, 0.2], [0.3, 0.4, 0.8]])
    inside = torch.tensor([[[True, True, False], [False, False, False]]])
    columns, rows = axis_projections(probabilities.logit()[None, None], inside)
    close(columns, [[[0.1, 0.9, 0.0]]])
    close(rows, [[[0.9, 0.0]]])


def test_interval_cells_by_hand() -> None:
    low, high = (
        torch.tensor([0.25, 0.2, 0.5, 1.0, 0.0, 0.3]),
        torch.tensor([0.75, 0.4, 0.5, 1.0, 1.0, 0.31]),
    )
    close(
        interval_cells(low, high, 4),
        [[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1], [0, 1, 0, 0]],
    )
    assert interval_cells(torch.zeros(0), torch.zeros(0), 4).shape == (0, 4)


@settings(deadline=None, max_examples=100)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 40))
def test_every_interval_covers_a_run_of_at_least_one_cell(
    first: float, second: float, cells: int
) -> None:
    low, high = sorted((first, second))
    covered = interval_cells(torch.tensor([low]), torch.tensor([high]), cells)[0]
    where = covered.nonzero()[:, 0]
    assert len(where) >= 1
    assert int(where[-1] - where[0]) + 1 == len(where), "cells of an interval are neighbors"
    assert abs(len(where) - (high - low) * cells) <= 1 + 1e-3


# -log P(both in or both out) of a cell at logit 20 beside one at -20: two ways, each of probability
# exp(-20)
TORN = 20 - LN2


def all_cells(size: int = 3) -> Tensor:
    return torch.ones(1, size, size)


def test_color_affinity_of_undecided_masks_is_ln2() -> None:
    close(
        color_affinity_loss(torch.zeros(1, 3, 3), torch.zeros(1, 3, 3, 3), all_cells(), 0.3), [LN2]
    )


def test_color_affinity_counts_the_pairs_that_touch_the_box() -> None:
    logits = torch.full((1, 3, 3), -20.0)
    logits[0, 0, 0] = 20.0
    image = torch.zeros(1, 3, 3, 3)
    # two cells apart, a 3 x 3 map has 3 + 3 pairs along the axes and 2 diagonal ones; 3 hold the
    # corner (0, 0)
    close(color_affinity_loss(logits, image, all_cells(), 0.3), [TORN * 3 / 8], tolerance=1e-4)
    # of the 3 pairs that hold the opposite corner, 1 is torn
    for y, x, torn in ((0, 0, 3), (2, 2, 1)):
        corner = torch.zeros(1, 3, 3)
        corner[0, y, x] = 1
        close(color_affinity_loss(logits, image, corner, 0.3), [TORN * torn / 3], tolerance=1e-4)
    middle = torch.zeros(1, 3, 3)
    middle[0, 1, 1] = 1  # no partner two cells away
    close(color_affinity_loss(logits, image, middle, 0.3), [0.0])


def test_color_affinity_leaves_unlike_colors_alone() -> None:
    logits = torch.full((1, 3, 3), -20.0)
    logits[0, :, 0] = 20.0
    image = torch.zeros(1, 3, 3, 3)
    # the first column differs; exp(-2.4 / 2) = 0.301 is still like, exp(-2.5 / 2) = 0.287 is not
    image[0, 1, :, 0] = 2.4
    close(color_affinity_loss(logits, image, all_cells(), 0.3), [TORN * 5 / 8], tolerance=1e-4)
    image[0, 1, :, 0] = 2.5
    close(color_affinity_loss(logits, image, all_cells(), 0.3), [0.0], tolerance=1e-4)


def test_color_affinity_of_a_map_too_small_for_pairs_is_zero() -> None:
    for height, width in ((1, 1), (2, 2), (1, 5)):
        logits, image = torch.randn(1, height, width), torch.zeros(1, 3, height, width)
        value = color_affinity_loss(logits, image, torch.ones(1, height, width), 0.3)
        assert torch.isfinite(value).all()
    assert color_affinity_loss(
        torch.zeros(0, 4, 4), torch.zeros(0, 3, 4, 4), torch.zeros(0, 4, 4), 0.3
    ).shape == (0,)


def test_neighbor_pairs_are_right_lower_and_both_diagonals() -> None:
    numbers = torch.arange(9).view(3, 3)
    pairs = {
        (a, b)
        for first, second in neighbor_pairs(1)
        for a, b in zip(
            first(numbers).flatten().tolist(), second(numbers).flatten().tolist(), strict=True
        )
    }
    expected = {
        (3 * y + x, 3 * (y + dy) + x + dx)
        for y, x in itertools.product(range(3), range(3))
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1))
        if y + dy < 3 and 0 <= x + dx < 3
    }
    assert {tuple(sorted(pair)) for pair in pairs} == expected


# --- gradients ------------------------------------------------------------------------------------


def test_gradients_of_the_pairwise_costs() -> None:
    targets, valid = torch.rand(2, 3, 6, dtype=torch.float64), torch.rand(2, 6, dtype=torch.float64)
    check_gradient(lambda x: pairwise_bce_cost(x, targets, valid), random64(2, 4, 6))
    check_gradient(lambda x: pairwise_dice_cost(x.sigmoid(), targets, valid), random64(2, 4, 6))


def test_gradient_of_the_classification_loss() -> None:
    targets = torch.tensor([[0, 3, -100], [2, 1, 3]])
    check_gradient(
        lambda x: classification_loss(x, targets, 0.1, count(3), count(2)), random64(2, 3, 4)
    )


def test_gradients_of_the_mask_losses() -> None:
    targets, valid = torch.rand(3, 6, dtype=torch.float64), torch.rand(3, 6, dtype=torch.float64)
    check_gradient(lambda x: bce_loss(x, targets, valid), random64(3, 6))
    check_gradient(lambda x: dice_loss(x.sigmoid(), targets, valid), random64(3, 6))


def test_gradient_of_sampled_masks() -> None:
    points = torch.rand(2, 5, 2, dtype=torch.float64)
    check_gradient(lambda x: sample_grid(x, points), random64(2, 3, 4, 4))


def test_gradient_of_the_projection() -> None:
    inside = torch.ones(2, 4, 5, dtype=torch.bool)
    inside[1, 3:] = inside[1, :, 4:] = False
    columns, rows = (
        torch.zeros(2, 3, 5, dtype=torch.float64),
        torch.zeros(2, 3, 4, dtype=torch.float64),
    )
    columns[..., 1:3], rows[..., :2] = 1, 1

    def projection_loss(mask_logits: Tensor) -> Tensor:
        over_rows, over_columns = axis_projections(mask_logits, inside)
        return dice_loss(over_rows, columns, torch.ones_like(columns)) + dice_loss(
            over_columns, rows, torch.ones_like(rows)
        )

    check_gradient(projection_loss, random64(2, 3, 4, 5))


def test_gradient_of_the_color_affinity() -> None:
    image, cells = (
        torch.randn(2, 3, 4, 5, dtype=torch.float64),
        torch.zeros(2, 4, 5, dtype=torch.float64),
    )
    cells[:, 1:3, 1:4] = 1
    check_gradient(lambda x: color_affinity_loss(x, image, cells, 0.3), random64(2, 4, 5))


def test_color_affinity_of_saturated_masks_keeps_a_finite_gradient() -> None:
    logits = torch.full((1, 3, 3), -200.0)
    logits[0, 0, 0] = 200.0
    logits.requires_grad_()
    color_affinity_loss(logits, torch.zeros(1, 3, 3, 3), all_cells(), 0.3).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
