"""The loss of the cell classifier."""

import torch
from torch import Tensor

from .targets_dataseg import SegmentMapTargets, cell_values


def cell_loss(cell_logits: Tensor, targets: SegmentMapTargets, num_images: Tensor) -> Tensor:
    """Cross-entropy of the cells' classes, averaged over the annotated area of each image, then
    over the images (our setting).

    A cell on a border belongs to each class by the share of its area, estimated at four points.

    Args:
        cell_logits: [B, C, h, w].
        targets: with a class per pixel.
        num_images: scalar, over all processes and micro-batches of the optimizer step.

    Returns:
        Scalar.
    """
    at_cells = cell_values(targets, cell_logits.shape[-2], cell_logits.shape[-1])
    shares = at_cells.values * (at_cells.valid[:, None] * targets.present[..., None])
    log_probabilities = cell_logits.float().flatten(2).log_softmax(1)
    index = targets.classes.clamp(min=0)[..., None].expand_as(shares)
    of_image = -(log_probabilities.gather(1, index) * shares).sum((1, 2))
    return torch.sum(of_image / shares.sum((1, 2)).clamp(min=1)) / num_images


__all__ = ["cell_loss"]
