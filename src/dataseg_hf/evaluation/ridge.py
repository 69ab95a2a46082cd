"""Ridge regression from sums over its rows (normal equations), so that memory does not grow with
their number.

Shapes: n rows, D features, C targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class NormalEquations:
    """What ridge regression needs to know of all rows.

    Args:
        inputs: float64 [D + 1, D + 1], weighted sum of `x x^T`, where x are a row's features and a
            1; so the last row holds the sums of the features, and the sum of the weights.
        targets: float64 [D + 1, C], weighted sum of `x t^T`.
    """

    inputs: Tensor
    targets: Tensor

    @classmethod
    def empty(cls, features: int, classes: int, device: torch.device) -> "NormalEquations":
        """Those of no row."""
        inputs = torch.zeros(features + 1, features + 1, dtype=torch.float64, device=device)
        return cls(inputs, inputs.new_zeros(features + 1, classes))

    def add(self, features: Tensor, counts: Tensor) -> None:
        """Add rows, each of which stands for `counts.sum(1)` observations with a one-hot target.

        Args:
            features: [n, D].
            counts: [n, C], observations of each class.
        """
        counts = counts.double()
        rows = torch.cat([features.double(), counts.new_ones(len(counts), 1)], dim=1)
        self.inputs += (rows * counts.sum(1, keepdim=True)).T @ rows
        self.targets += rows.T @ counts

    def select(self, features: Tensor) -> "NormalEquations":
        """Those of the features with these indices, int64 [K]."""
        kept = torch.cat([features, features.new_tensor([len(self.inputs) - 1])])
        return NormalEquations(self.inputs[kept][:, kept], self.targets[kept])

    @property
    def class_counts(self) -> Tensor:
        """Observations of each class, float64 [C]."""
        return self.targets[-1]


@dataclass
class LinearMap:
    """`features @ weight + bias`, one column a class.

    Args:
        weight: float64 [D, C].
        bias: float64 [C].
    """

    weight: Tensor
    bias: Tensor

    def scaled(self, factors: Tensor) -> "LinearMap":
        """The outputs multiplied by factors [C]."""
        return LinearMap(self.weight * factors, self.bias * factors)


def ridge(rows: NormalEquations, strengths: Sequence[float]) -> list[LinearMap]:
    """The solution for each strength of the regularization.

    It minimizes the mean squared error plus strength times the squared weights, of features that
    are standardized (mean 0, variance 1); the bias is not regularized.

    Args:
        rows: without any, the weights are 0.
        strengths: above 0.
    """
    total = rows.inputs[-1, -1].clamp(min=1)
    mean = rows.inputs[:-1, -1] / total
    target_mean = rows.targets[-1] / total
    covariance = rows.inputs[:-1, :-1] / total - mean.outer(mean)
    variance = covariance.diagonal()
    # a feature that never changes gets no weight
    varies = variance > 1e-12 * (variance + mean.square())
    scale = torch.where(varies, variance.clamp(min=0).rsqrt(), 0.0)
    values, vectors = torch.linalg.eigh(covariance * scale.outer(scale))
    cross = (rows.targets[:-1] / total - mean.outer(target_mean)) * scale[:, None]
    projected = vectors.T @ cross
    found = []
    for strength in strengths:
        shrunk = projected / (values.clamp(min=0) + strength)[:, None]
        weight = scale[:, None] * (vectors @ shrunk)
        found.append(LinearMap(weight, target_mean - mean @ weight))
    return found
