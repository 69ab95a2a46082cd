"""The losses of objects of which more or less is known, over all decoder layers.

Shapes: B images, N queries, M targets (padded to the batch's largest number), K of them kept
(`keep_targets`), P points at which masks are compared, Q annotated points, h x w mask grid.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .box_supervision_dataseg import (
    affinity_loss,
    colors_of_cells,
    projection_cost,
    projection_loss,
)
from .degrees_dataseg import Degree
from .losses_dataseg import sample_grid
from .merging_dataseg import Groups, matched_masks, mostly_void, rows_of
from .object_targets_dataseg import ObjectTargets
from .proposals_dataseg import LayerProposals
from .supervision_dataseg import (
    LossInputs,
    LossResult,
    class_cost,
    class_loss,
    compared_points,
    mask_costs,
    mask_losses,
    mask_shares,
    one_to_one,
    weighted,
)
from .targets_dataseg import PointValues


def object_supervision(targets: ObjectTargets, inputs: LossInputs) -> LossResult:
    """Losses of every decoder layer by what is known of each object (our setting).

    All have a class loss. A mask has cross-entropy and dice, a box projections and color affinity.
    A point must lie in its object's mask and in no other of those that have points, with color
    affinity. A tag takes the query that is most likely of its class.
    """
    at_points, groups = _object_groups(targets, inputs)
    image = colors_of_cells(targets.boxes, inputs)
    terms = inputs.zeros("class", "mask", "dice", "projection", "color_affinity", "point")
    masks = matched_masks(inputs.layers, [group.matched for group in groups]).float()
    masks_of_layers = masks.chunk(len(inputs.layers), dim=1)
    for layer, part, group in zip(inputs.layers, masks_of_layers, groups, strict=True):
        terms["class"] = terms["class"] + class_loss(layer, targets, group, inputs)
        for term, total in _sums(part, image, at_points, targets, group, inputs).items():
            terms[term] = terms[term] + total / inputs.truth.num_targets
    return weighted(terms, inputs, targets, groups[-1])


def _sums(
    masks: Tensor,
    image: Tensor,
    at_points: PointValues,
    targets: ObjectTargets,
    group: Groups,
    inputs: LossInputs,
) -> dict[str, Tensor]:
    """The losses of the matched masks [B, K, h, w] of a layer, summed over the targets."""
    bce, dice = mask_losses(masks.contiguous(), targets.masks, at_points, group, inputs)
    counted = mask_shares(targets, group) * rows_of(targets.has(Degree.MASK), group.kept)
    sums = {
        "mask": (bce * counted).sum(),
        "dice": (dice * counted).sum(),
        "projection": projection_loss(masks, targets.boxes, group),
        "point": _point_loss(masks, targets, group),
    }
    if inputs.weights["color_affinity"] > 0:
        sums["color_affinity"] = affinity_loss(masks, image, targets.boxes, group, inputs.config)
    return sums


@torch.no_grad()
def _object_groups(targets: ObjectTargets, inputs: LossInputs) -> tuple[PointValues, list[Groups]]:
    """Matching, by what is known of each target; at which points masks were compared, and the
    groups of each layer.
    """
    at_points, features = compared_points(targets.masks, inputs)
    cost, ignored = [], []
    for layer in inputs.layers:
        logits = layer.mask_embeddings.float() @ features
        void, valid = at_points.void, at_points.valid + at_points.void
        ignored.append(mostly_void((logits > 0).float(), void, valid))
        cost.append(_cost(layer, logits, at_points, targets, inputs))
    return at_points, one_to_one(cost, ignored, targets)


def _cost(
    layer: LayerProposals,
    logits: Tensor,
    at_points: PointValues,
    targets: ObjectTargets,
    inputs: LossInputs,
) -> Tensor:
    """[B, N, M]. logits: [B, N, P], of the queries' masks."""
    masks = layer.mask_logits.float()
    weights = inputs.weights
    of_class = weights["class"] * class_cost(layer.class_logits, targets.classes)
    of_mask = sum(mask_costs(logits, at_points, inputs)) * targets.has(Degree.MASK)[:, None]
    of_box = weights["projection"] * projection_cost(masks, targets.boxes)
    return of_class + of_mask + of_box + weights["point"] * _point_cost(masks, targets)


def _point_cost(masks: Tensor, targets: ObjectTargets) -> Tensor:
    """Cost of the points of each target under masks [B, N, h, w]: [B, N, M]."""
    logits = sample_grid(masks, targets.points)
    inside, outside = _shares(targets)
    return F.softplus(-logits) @ inside.transpose(1, 2) + F.softplus(logits) @ outside.transpose(
        1, 2
    )


def _point_loss(masks: Tensor, targets: ObjectTargets, group: Groups) -> Tensor:
    """Cross-entropy of the points under matched masks [B, K, h, w], summed."""
    logits = sample_grid(masks, targets.points)
    inside, outside = (rows_of(share, group.kept) for share in _shares(targets))
    loss = (F.softplus(-logits) * inside + F.softplus(logits) * outside).sum(-1)
    return (loss * (group.matched >= 0)).sum()


def _shares(targets: ObjectTargets) -> tuple[Tensor, Tensor]:
    """What each of the Q points counts for a target with points: its own add up to 1, and those of
    others: float [B, M, Q] twice.
    """
    number = torch.arange(targets.classes.shape[1], device=targets.owner.device)
    is_own = targets.owner[:, None] == number[:, None]
    is_other = ~is_own & (targets.owner >= 0)[:, None]
    has_point = targets.has(Degree.POINT)[..., None]
    return _normalized(is_own & has_point), _normalized(is_other & has_point)


def _normalized(chosen: Tensor) -> Tensor:
    """float [..., Q] that adds up to 1 over the chosen, bool [..., Q]; 0 where there are none."""
    return chosen / chosen.sum(-1, keepdim=True).clamp(min=1)


__all__ = ["object_supervision"]
