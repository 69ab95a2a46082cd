"""Masks of objects of which points inside are known, or no more than that the image shows them.

Shapes: N proposals, M objects, P points of an object at most.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import label as connected
from torch import Tensor

from ...data.sample import Instances
from ...model.losses_dataseg import sample_grid
from ...model.proposals_dataseg import ImageProposals
from ...model.resizing_dataseg import resize_masks
from ..segments import Size

MaskAndScore = tuple[NDArray[np.bool_], float]


@torch.no_grad()
def complete_points(
    proposals: ImageProposals, objects: Instances, size: Size
) -> list[MaskAndScore]:
    """For each object the mask of the proposal that is surest of its class and holds its points, as
    far as it is in one piece with one of them (our setting).

    Args:
        proposals: of the image, in the vocabulary of the labels.
        objects: M of them, with points.
        size: height and width of the image.
    """
    if not len(objects):
        return []
    assert objects.points is not None
    logits = proposals.mask_logits.float()
    found = []
    for label, points in zip(objects.class_labels.tolist(), objects.points, strict=True):
        known = points[np.isfinite(points).all(axis=-1)]
        relative = torch.from_numpy(known).to(logits) / logits.new_tensor([size[1], size[0]])
        on_canvas = relative * proposals.valid_size.flip(0)
        at_points = sample_grid(logits[None], on_canvas[None])[0]  # [N, points]
        fit = _class_probability(proposals, label) - F.softplus(-at_points).mean(1)
        mask, score = _mask_of(proposals, int(fit.argmax()), label, size)
        found.append((_around(mask, known, size), score))
    return found


@torch.no_grad()
def complete_tags(proposals: ImageProposals, objects: Instances, size: Size) -> list[MaskAndScore]:
    """For each tag the mask of the proposal that is surest of its class (our setting); arguments as
    for `complete_points`.
    """
    return [
        _mask_of(proposals, int(_class_probability(proposals, label).argmax()), label, size)
        for label in objects.class_labels.tolist()
    ]


def _class_probability(proposals: ImageProposals, label: int) -> Tensor:
    """How probable a class is in each proposal: [N]."""
    return proposals.class_probabilities()[:, label]


def _mask_of(proposals: ImageProposals, query: int, label: int, size: Size) -> MaskAndScore:
    """The mask of a proposal, its surest pixel at least; and the probability of the class."""
    logits = resize_masks(
        proposals.mask_logits[query : query + 1].float(), proposals.valid_size, size
    )
    values = logits[0].cpu().numpy()
    mask = values > min(0.0, float(values.max()) - 1e-6)
    return mask, float(_class_probability(proposals, label)[query])


def _around(mask: NDArray[np.bool_], points: NDArray[np.floating], size: Size) -> NDArray[np.bool_]:
    """The parts of a mask that hold one of the points (x, y), and the points' own pixels."""
    columns = np.clip(points[:, 0].astype(int), 0, size[1] - 1)
    rows = np.clip(points[:, 1].astype(int), 0, size[0] - 1)
    whole = mask.copy()
    whole[rows, columns] = True
    numbers, _ = connected(whole, np.ones((3, 3), dtype=int))
    return np.isin(numbers, numbers[rows, columns])


__all__ = ["complete_points", "complete_tags"]
