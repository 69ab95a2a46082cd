"""Ridge regression from sums, compared with numpy's least squares on all rows."""

import numpy as np
import pytest
import torch

from dataseg_hf.evaluation.ridge import NormalEquations, ridge

CPU = torch.device("cpu")


def rows(seed: int, count: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [count, 4] of unequal size, one of them constant, and observations [count, 3]."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 4)) * [1, 10, 0.1, 0] + [5, 0, 1, 3]
    return torch.from_numpy(features), torch.from_numpy(rng.integers(0, 3, (count, 3)))


def summed(*parts: tuple[torch.Tensor, torch.Tensor]) -> NormalEquations:
    found = NormalEquations.empty(4, 3, CPU)
    for features, counts in parts:
        found.add(features, counts)
    return found


def least_squares(features: np.ndarray, counts: np.ndarray, strength: float) -> np.ndarray:
    """Predictions of numpy's solution, every observation a row of its own, the regularization as
    further rows.
    """
    repeated = np.repeat(features, counts.sum(1), axis=0)
    targets = np.concatenate([np.repeat(np.eye(3), row, axis=0) for row in counts])
    scale = repeated.std(0)
    scale[scale < 1e-9] = 1
    standard = (repeated - repeated.mean(0)) / scale
    inputs = np.concatenate([standard, np.ones((len(standard), 1))], axis=1)
    penalty = np.sqrt(strength * len(inputs)) * np.eye(4, 5)
    solution, *_ = np.linalg.lstsq(
        np.concatenate([inputs, penalty]), np.concatenate([targets, np.zeros((4, 3))]), rcond=None
    )
    every = (features - repeated.mean(0)) / scale
    return np.concatenate([every, np.ones((len(every), 1))], axis=1) @ solution


@pytest.mark.parametrize("strength", [1e-6, 0.1, 3.0])
def test_the_solution_is_that_of_least_squares(strength: float) -> None:
    features, counts = rows(0)
    (found,) = ridge(summed((features, counts)), [strength])
    expected = least_squares(features.numpy(), counts.numpy(), strength)
    np.testing.assert_allclose((features @ found.weight + found.bias).numpy(), expected, atol=1e-8)
    assert (found.weight[3] == 0).all()  # the constant feature


def test_rows_may_come_in_parts_and_features_be_chosen() -> None:
    (a, n), (b, m) = rows(1), rows(2, count=7)
    whole = summed((torch.cat([a, b]), torch.cat([n, m])))
    parts = summed((a, n), (b, m))
    torch.testing.assert_close(parts.inputs, whole.inputs)
    torch.testing.assert_close(parts.targets, whole.targets)
    torch.testing.assert_close(whole.class_counts, torch.cat([n, m]).sum(0).double())
    fewer = NormalEquations.empty(2, 3, CPU)
    fewer.add(torch.cat([a, b])[:, [2, 0]], torch.cat([n, m]))
    chosen = whole.select(torch.tensor([2, 0]))
    torch.testing.assert_close(chosen.inputs, fewer.inputs)
    torch.testing.assert_close(chosen.targets, fewer.targets)


def test_a_class_that_is_not_seen_never_has_the_largest_score() -> None:
    features, counts = rows(3)
    counts[:, 1] = 0
    (found,) = ridge(summed((features, counts)), [0.01])
    scores = features @ found.weight + found.bias
    torch.testing.assert_close(scores.sum(1), torch.ones(len(scores)).double())
    assert (scores.argmax(1) != 1).all()
