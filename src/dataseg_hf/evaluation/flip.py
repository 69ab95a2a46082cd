"""Proposals of an image and of its mirror image, joined: test-time augmentation (our setting).

Shapes: N queries, C categories, h x w mask grid.
"""

from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..model.proposals_dataseg import ImageProposals

MIN_OVERLAP = 0.5
"""IoU above which two masks can be of the same region: of masks that do not overlap each other at
most one is above.
"""


def summed_views(first: ImageProposals, second: ImageProposals) -> ImageProposals:
    """2 N proposals: the semantic scores sum over proposals, so these give the sum over both views,
    pixel by pixel.
    """
    weights = None
    if first.semantic_weights is not None and second.semantic_weights is not None:
        weights = torch.cat([first.semantic_weights, second.semantic_weights])
    return replace(
        first,
        class_logits=torch.cat([first.class_logits, second.class_logits]),
        mask_logits=torch.cat([first.mask_logits, second.mask_logits]),
        semantic_weights=weights,
    )


@torch.no_grad()
def paired_views(first: ImageProposals, second: ImageProposals) -> ImageProposals:
    """The N proposals of the first view, each averaged with the one of the second that shows the
    same region.

    Queries of two views are not aligned: query 7 may be the dog here and the sky there. So they are
    paired one to one by the product of mask IoU and of how far the classes agree (Hungarian), and a
    pair counts where the IoU is above `MIN_OVERLAP`. A pair gets the mean of its class and mask
    probabilities. A proposal without partner keeps its mask, and its class probabilities are
    averaged with "nothing there".
    """
    classes = [view.class_logits.float().softmax(-1) for view in (first, second)]
    masks = [view.mask_logits.float().sigmoid() for view in (first, second)]
    height, width = (
        (first.valid_size.cpu() * torch.tensor(masks[0].shape[-2:])).ceil().int().tolist()
    )
    # what lies in the padding means nothing
    overlap = _iou(*(mask[:, :height, :width] > 0.5 for mask in masks))
    agreement = classes[0][:, :-1] @ classes[1][:, :-1].T
    likeness = torch.where(overlap > MIN_OVERLAP, overlap * agreement, 0.0).cpu().numpy()
    pairs = np.stack(linear_sum_assignment(likeness, maximize=True))
    pairs = pairs[:, likeness[pairs[0], pairs[1]] > 0]
    rows, columns = torch.from_numpy(pairs).to(overlap.device, non_blocking=True)

    nothing = torch.zeros_like(classes[0])
    nothing[:, -1] = 1
    other_classes, other_masks = nothing, masks[0].clone()
    other_classes[rows], other_masks[rows] = classes[1][columns], masks[1][columns]
    mean_classes, mean_masks = (classes[0] + other_classes) / 2, (masks[0] + other_masks) / 2
    return replace(
        first,
        class_logits=mean_classes.log().clamp(min=-100),
        mask_logits=mean_masks.logit(eps=1e-6),
    )


def _iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of bool masks [N, h, w] and [M, h, w]: [N, M], 0 where both are empty."""
    a, b = first.flatten(1).float(), second.flatten(1).float()
    shared = a @ b.T
    return shared / (a.sum(1)[:, None] + b.sum(1)[None] - shared).clamp(min=1)
