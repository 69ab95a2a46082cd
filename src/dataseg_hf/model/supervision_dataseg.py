"""The losses of masks over all decoder layers, and what those of boxes and objects share with them.

Shapes: B images, N queries, C categories, M targets (padded to the batch's largest number), K of
them kept (`keep_targets`), P points, h x w mask grid, L decoder layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .cell_supervision_dataseg import cell_loss
from .configuration_dataseg import DaTaSegConfig
from .losses_dataseg import (
    bce_loss,
    classification_loss,
    dice_loss,
    hungarian,
    pairwise_bce_cost,
    pairwise_dice_cost,
    random_points,
    sample_grid,
    uncertain_points,
)
from .merging_dataseg import (
    Groups,
    merged_masks,
    mostly_void,
    recruit,
    rows_of,
)
from .proposals_dataseg import LayerProposals
from .targets_dataseg import (
    MaskTargets,
    PointValues,
    SegmentMapTargets,
    Targets,
    Truth,
    cell_values,
)

LOSS_TERMS = ("class", "mask", "dice", "projection", "color_affinity", "point", "cell")


@dataclass
class LossInputs:
    """What a loss is computed from.

    Args:
        layers: proposals of the L decoder layers, the last one last.
        truth: of the batch.
        config: of the model.
        weights: of each loss term (`resolve_loss_weights`).
        cell_logits: [B, C, h, w], of a model with a cell classifier.
    """

    layers: Sequence[LayerProposals]
    truth: Truth
    config: DaTaSegConfig
    weights: Mapping[str, float]
    cell_logits: Tensor | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the mask grid, in cells."""
        height, width = self.layers[0].mask_features.shape[-2:]
        return height, width

    @property
    def takes_all_cells(self) -> bool:
        """Whether masks are compared on all cells, as these are no more than the random points."""
        height, width = self.grid
        return height * width <= self.config.train_num_points

    def zeros(self, *terms: str) -> dict[str, Tensor]:
        """A zero, scalar, for each of these loss terms."""
        return {term: self.layers[0].class_logits.new_zeros(()) for term in terms}


@dataclass
class LossResult:
    """A loss by its terms.

    Args:
        terms: weighted, summed over the decoder layers; their sum is the loss.
        unmatched: scalar on the host, how many targets found no query.
    """

    terms: dict[str, Tensor]
    unmatched: Tensor


def resolve_loss_weights(
    config: DaTaSegConfig, overrides: Mapping[str, float] | None
) -> dict[str, float]:
    """Weight of each loss term, the config's unless overridden.

    Args:
        config: of the model.
        overrides: by term, see LOSS_TERMS.

    Raises:
        ValueError: for an unknown term.
    """
    weights = {term: float(getattr(config, f"{term}_weight")) for term in LOSS_TERMS}
    unknown = sorted(set(overrides or {}) - set(weights))
    if unknown:
        raise ValueError(f"unknown loss weights {unknown}; known are {list(LOSS_TERMS)}")
    return {**weights, **(overrides or {})}


# --- masks ----------------------------------------------------------------------------------------


def mask_supervision(
    targets: SegmentMapTargets | MaskTargets, inputs: LossInputs, merged: Tensor
) -> LossResult:
    """Class, mask (binary cross-entropy) and dice losses of every decoder layer, and that of the
    cell classifier where every pixel has a class.

    Args:
        targets: with masks.
        inputs: proposals, truth and settings.
        merged: bool [C], the categories whose proposals MERGE in training.
    """
    at_points, groups = mask_groups(targets, inputs, merged)
    terms = inputs.zeros("class", "mask", "dice")
    for layer, group in zip(inputs.layers, groups, strict=True):
        terms["class"] = terms["class"] + class_loss(layer, targets, group, inputs)
    for masks, group in zip(_masks_of_layers(inputs, groups), groups, strict=True):
        bce, dice = mask_losses(masks, targets, at_points, group, inputs)
        counted = mask_shares(targets, group)
        terms["mask"] = terms["mask"] + (bce * counted).sum() / inputs.truth.num_targets
        terms["dice"] = terms["dice"] + (dice * counted).sum() / inputs.truth.num_targets
    if inputs.cell_logits is not None and isinstance(targets, SegmentMapTargets):
        terms["cell"] = cell_loss(inputs.cell_logits, targets, inputs.truth.num_images)
    return weighted(terms, inputs, targets, groups[-1])


def mask_losses(
    masks: Tensor,
    targets: SegmentMapTargets | MaskTargets,
    at_points: PointValues,
    group: Groups,
    inputs: LossInputs,
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and dice loss of each target, [B, K] each.

    Args:
        masks: logits [B, K, h, w], those that work for the targets.
        at_points: the targets where masks were compared for the matching.
    """
    if inputs.takes_all_cells:
        predicted, compared = masks.flatten(2), at_points
        values = rows_of(at_points.values, group.kept)
    else:
        points = _loss_points(masks, inputs)
        predicted, compared = _sample_own(masks, points), targets.at(points, group.kept)
        values = compared.values
    valid = compared.valid if compared.valid.dim() == 3 else compared.valid[:, None]
    bce = bce_loss(predicted, values, valid)
    return bce, dice_loss(predicted.sigmoid(), values, valid)


def mask_shares(targets: Targets, group: Groups) -> Tensor:
    """How much the mask of each target counts, 0..1: [B, K]; 0 for those without a query."""
    counted = (group.matched >= 0).float()
    if targets.mask_weights is None:
        return counted
    return counted * rows_of(targets.mask_weights, group.kept)


def _masks_of_layers(inputs: LossInputs, groups: Sequence[Groups]) -> list[Tensor]:
    """Merged masks of each layer, L times float32 [B, K, h, w].

    They are copies, so that the whole is freed: sampling would make and keep them in any case.
    """
    whole = merged_masks(inputs.layers, groups, inputs.config.merge_reduction).float()
    return [part.contiguous() for part in whole.chunk(len(inputs.layers), dim=1)]


@torch.no_grad()
def mask_groups(
    targets: SegmentMapTargets | MaskTargets, inputs: LossInputs, merged: Tensor
) -> tuple[PointValues, list[Groups]]:
    """Matching and MERGE.

    Args:
        targets, inputs: as `mask_supervision`.
        merged: bool [C].

    Returns:
        The targets at the points on which masks are compared, and the groups of each layer. The
        points are all cells of the mask grid, or `config.train_num_points` random ones.
    """
    at_points, features = compared_points(targets, inputs)
    cost, foregrounds = [], []
    for layer in inputs.layers:
        logits = layer.mask_embeddings.float() @ features
        foregrounds.append(logits > 0)
        of_class = inputs.weights["class"] * class_cost(layer.class_logits, targets.classes)
        bce, dice = mask_costs(logits, at_points, inputs)
        cost.append(of_class + bce + dice)
    assigned = hungarian(torch.stack(cost), targets.present)
    groups = [
        _mask_group(layer, foreground.float(), of_layer, targets, at_points, merged, inputs.config)
        for layer, foreground, of_layer in zip(inputs.layers, foregrounds, assigned, strict=True)
    ]
    return at_points, groups


def mask_costs(logits: Tensor, at_points: PointValues, inputs: LossInputs) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy and dice cost of every query's logits [B, N, P] with every target,
    [B, N, M] each.
    """
    bce = pairwise_bce_cost(logits, at_points.values, at_points.valid)
    dice = pairwise_dice_cost(logits.sigmoid(), at_points.values, at_points.valid)
    return inputs.weights["mask"] * bce, inputs.weights["dice"] * dice


def compared_points(
    targets: SegmentMapTargets | MaskTargets, inputs: LossInputs
) -> tuple[PointValues, Tensor]:
    """The targets, and the mask features [B, d, P], at the points on which masks are compared."""
    features = inputs.layers[0].mask_features.float()
    if inputs.takes_all_cells:
        return cell_values(targets, *inputs.grid), features.flatten(2)
    truth = inputs.truth
    points = random_points(inputs.config.train_num_points, truth.valid_size, truth.seeds)
    # sampling commutes with the dot product, so the features are sampled once instead of all masks
    return targets.at(points), sample_grid(features, points)


def _mask_group(
    layer: LayerProposals,
    foreground: Tensor,
    assigned: Tensor,
    targets: Targets,
    at_points: PointValues,
    merged: Tensor,
    config: DaTaSegConfig,
) -> Groups:
    """The groups of one layer. foreground: [B, N, P], its binary masks; assigned: int64 [B, M]."""
    ignored = mostly_void(foreground, at_points.void, at_points.valid + at_points.void)
    group = Groups.of_assignment(assigned, ignored)
    if config.merge_in_training:
        values = PointValues(rows_of(at_points.values, group.kept), at_points.valid, at_points.void)
        group.recruits = recruit(
            layer.class_logits,
            foreground,
            values,
            rows_of(targets.classes, group.kept),
            group.matched,
            merged,
            config.merge_overlap,
        )
    return group


def _loss_points(masks: Tensor, inputs: LossInputs) -> Tensor:
    """Points of the loss, per target: [B, M, P, 2]."""
    config, truth = inputs.config, inputs.truth
    # one off, so that they are not the points of the matching
    seeds = None if truth.seeds is None else truth.seeds + 1
    candidates = random_points(
        int(config.oversample_ratio * config.train_num_points), truth.valid_size, seeds
    )
    return uncertain_points(
        masks.detach(), candidates, config.train_num_points, config.importance_sample_ratio
    )


def _sample_own(masks: Tensor, points: Tensor) -> Tensor:
    """Values of masks [B, M, h, w] at each one's own points [B, M, P, 2]: [B, M, P]."""
    flat = sample_grid(masks.flatten(0, 1)[:, None], points.flatten(0, 1))
    return flat.view(points.shape[:3])


# --- all ------------------------------------------------------------------------------------------


def one_to_one(cost: Sequence[Tensor], ignored: Sequence[Tensor], targets: Targets) -> list[Groups]:
    """Matching without MERGE: the groups of each layer.

    Args:
        cost: of each layer, [B, N, M].
        ignored: of each layer, bool [B, N], queries without a class loss.
    """
    assigned = hungarian(torch.stack(list(cost)), targets.present)
    return [
        Groups.of_assignment(of_layer, without_loss)
        for of_layer, without_loss in zip(assigned, ignored, strict=True)
    ]


def class_cost(class_logits: Tensor, classes: Tensor) -> Tensor:
    """Minus the probability of each target's class: [B, N, C + 1], [B, M] -> [B, N, M]; padding
    costs 0.
    """
    probabilities = class_logits.softmax(-1)
    index = classes.clamp(min=0)[:, None].expand(-1, probabilities.shape[1], -1)
    return -probabilities.gather(2, index) * (classes >= 0)[:, None]


def class_loss(
    layer: LayerProposals, targets: Targets, groups: Groups, inputs: LossInputs
) -> Tensor:
    """Cross-entropy of the queries of a layer with the classes of what they work for; scalar."""
    background = layer.class_logits.shape[-1] - 1
    return classification_loss(
        layer.class_logits,
        groups.class_targets(targets.classes, background),
        inputs.config.no_object_weight,
        inputs.truth.num_targets,
        inputs.truth.num_images,
        inputs.truth.exhaustive,
    )


def weighted(
    terms: Mapping[str, Tensor], inputs: LossInputs, targets: Targets, last: Groups
) -> LossResult:
    """The terms (each a scalar) by their weights; `last` are the groups of the last layer."""
    if inputs.cell_logits is not None and "cell" not in terms:
        # a parameter without a gradient stops distributed training
        terms = {**terms, "cell": 0 * inputs.cell_logits.sum()}
    named = {f"loss_{term}": inputs.weights[term] * value for term, value in terms.items()}
    return LossResult(named, targets.present.sum() - (last.matched_on_host >= 0).sum())


__all__ = [
    "LOSS_TERMS",
    "LossInputs",
    "LossResult",
    "class_cost",
    "class_loss",
    "compared_points",
    "mask_costs",
    "mask_groups",
    "mask_losses",
    "mask_shares",
    "mask_supervision",
    "one_to_one",
    "resolve_loss_weights",
    "weighted",
]
