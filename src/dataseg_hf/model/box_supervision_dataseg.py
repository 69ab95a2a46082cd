"""The losses of boxes, over all decoder layers.

Shapes: B images, N queries, M targets (padded to the batch's largest number), K of them kept
(`keep_targets`), h x w mask grid.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .configuration_dataseg import DaTaSegConfig
from .host_dataseg import to_device
from .losses_dataseg import axis_projections, color_affinity_loss, dice_loss, pairwise_dice_cost
from .merging_dataseg import Groups, matched_masks, mostly_void, rows_of
from .supervision_dataseg import (
    LossInputs,
    LossResult,
    class_cost,
    class_loss,
    one_to_one,
    weighted,
)
from .targets_dataseg import BoxTargets, box_cells

# the color-affinity loss keeps some 60 bytes for every cell of a mask and layer; from here on that
# is worth 10 % of a step's time (our setting)
RECOMPUTED_CELLS = 2**20


def box_supervision(targets: BoxTargets, inputs: LossInputs) -> LossResult:
    """Class, projection and color-affinity losses of every decoder layer against box targets."""
    groups = _box_groups(targets, inputs)
    image = colors_of_cells(targets, inputs)
    terms = inputs.zeros("class", "projection", "color_affinity")
    masks = matched_masks(inputs.layers, [group.matched for group in groups]).float()
    num_targets = inputs.truth.num_targets
    masks_of_layers = masks.chunk(len(inputs.layers), dim=1)
    for layer, masks, group in zip(inputs.layers, masks_of_layers, groups, strict=True):
        terms["class"] = terms["class"] + class_loss(layer, targets, group, inputs)
        projection = projection_loss(masks, targets, group)
        terms["projection"] = terms["projection"] + projection / num_targets
        if inputs.weights["color_affinity"] > 0:
            affinity = affinity_loss(masks, image, targets, group, inputs.config)
            terms["color_affinity"] = terms["color_affinity"] + affinity / num_targets
    return weighted(terms, inputs, targets, groups[-1])


def colors_of_cells(targets: BoxTargets, inputs: LossInputs) -> Tensor:
    """The images at the cells of the mask grid, [B, 3, h, w]."""
    image = F.interpolate(inputs.truth.image.float(), targets.valid_mask.shape[-2:], mode="area")
    # a color that nothing is like, so that no pair reaches into the padding
    return image.masked_fill(~targets.valid_mask[:, None], torch.inf)


@torch.no_grad()
def _box_groups(targets: BoxTargets, inputs: LossInputs) -> list[Groups]:
    """Matching: the groups of each layer, which nobody joins."""
    void, valid = targets.void.flatten(1).float(), targets.valid_mask.flatten(1).float()
    cost, ignored_of_layers = [], []
    for layer in inputs.layers:
        masks = layer.mask_logits.float()
        ignored_of_layers.append(mostly_void((masks > 0).flatten(2).float(), void, valid))
        cost.append(
            inputs.weights["class"] * class_cost(layer.class_logits, targets.classes)
            + inputs.weights["projection"] * projection_cost(masks, targets)
        )
    return one_to_one(cost, ignored_of_layers, targets)


def projection_cost(masks: Tensor, targets: BoxTargets) -> Tensor:
    """Dice cost of the projections of masks [B, N, h, w], on the axes that are tight: [B, N, M]."""
    tight = targets.tight.float()
    columns, rows = axis_projections(masks, targets.valid_mask)
    cost = (
        pairwise_dice_cost(columns, targets.columns, torch.ones_like(targets.columns))
        * tight[:, None, :, 0]
    )
    cost += (
        pairwise_dice_cost(rows, targets.rows, torch.ones_like(targets.rows)) * tight[:, None, :, 1]
    )
    return cost


def projection_loss(masks: Tensor, targets: BoxTargets, group: Groups) -> Tensor:
    """Dice loss of the projections of matched masks [B, K, h, w], summed."""
    tight = rows_of(targets.tight.float(), group.kept)
    counted = (group.matched >= 0).float()[..., None] * tight
    columns, rows = axis_projections(masks, targets.valid_mask)
    box_columns, box_rows = (rows_of(x, group.kept) for x in (targets.columns, targets.rows))
    loss = dice_loss(columns, box_columns, torch.ones_like(columns)) * counted[..., 0]
    loss = loss + dice_loss(rows, box_rows, torch.ones_like(rows)) * counted[..., 1]
    return loss.sum()


def affinity_loss(
    masks: Tensor, image: Tensor, targets: BoxTargets, group: Groups, config: DaTaSegConfig
) -> Tensor:
    """Color-affinity loss of the matched of masks [B, K, h, w], summed; no loss for targets that
    `compares_colors` excludes.

    Many masks are compared again in the backward pass instead of keeping their pairs.
    """
    columns, rows = (rows_of(x, group.kept) for x in (targets.columns, targets.rows))
    compared = rows_of(targets.compares_colors, group.kept_on_host) & (group.matched_on_host >= 0)
    where, target = (to_device(x, masks.device) for x in compared.nonzero(as_tuple=True))
    threshold = config.color_affinity_threshold
    arguments = (masks, image, columns, rows, targets.valid_mask, where, target, threshold)
    if masks.numel() <= RECOMPUTED_CELLS:
        return _sum_of_affinities(*arguments)
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    return cast(Tensor, checkpoint(_sum_of_affinities, *arguments, **options))


def _sum_of_affinities(
    masks: Tensor,
    image: Tensor,
    columns: Tensor,
    rows: Tensor,
    valid_mask: Tensor,
    where: Tensor,
    target: Tensor,
    threshold: float,
) -> Tensor:
    """As `affinity_loss`. columns: [B, K, w], rows: [B, K, h], of the boxes; where, target: int64
    [R], image and place of the targets that have a loss.
    """
    cells = box_cells(columns[where, target], rows[where, target]) * valid_mask[where]
    return color_affinity_loss(masks[where, target], image[where], cells, threshold).sum()


__all__ = [
    "affinity_loss",
    "box_supervision",
    "colors_of_cells",
    "projection_cost",
    "projection_loss",
]
