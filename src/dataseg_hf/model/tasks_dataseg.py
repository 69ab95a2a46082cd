"""The four tasks: for each its targets, its MERGE and its losses. What each makes of the proposals
at inference is in `postprocessing_dataseg.py`.

One representation serves all of them: N pairs of mask proposal and class prediction. A task says
which categories MERGE fuses (`merged_categories`) and what its annotation supervises (masks or
boxes).

Shapes: B images, N queries, C categories, M targets (padded to the batch's largest number), P
    points, h x w mask grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .configuration_dataseg import DaTaSegConfig
from .losses_dataseg import (
    axis_projections,
    bce_loss,
    cell_centers,
    classification_loss,
    color_affinity_loss,
    dice_loss,
    hungarian,
    interval_cells,
    nearest_index,
    pairwise_bce_cost,
    pairwise_dice_cost,
    random_points,
    sample_grid,
    uncertain_points,
)
from .words_dataseg import did_you_mean

LOSS_TERMS = ("class", "mask", "dice", "projection", "color_affinity")
IGNORED = -100
# the color-affinity loss keeps some 60 bytes for every cell of a mask and layer; from here on that
# is worth 10 % of a step's time (our setting)
RECOMPUTED_CELLS = 2**20


def dot_product(mask_embeddings: Tensor, mask_features: Tensor) -> Tensor:
    """Mask logits: [B, N, d], [B, d, h, w] -> [B, N, h, w]. A plain matrix product; einsum would
    copy the features.
    """
    return (mask_embeddings @ mask_features.flatten(2)).unflatten(2, mask_features.shape[-2:])


@dataclass
class Proposals:
    """Output of one decoder layer, without the masks themselves, so that the losses compute only
    those they compare.

    Args:
        class_logits: float32 [B, N, C + 1] (last = background).
        mask_embeddings: [B, N, d].
        mask_features: [B, d, h, w].
    """

    class_logits: Tensor
    mask_embeddings: Tensor
    mask_features: Tensor

    @property
    def mask_logits(self) -> Tensor:
        """All masks [B, N, h, w], computed anew at each call."""
        return dot_product(self.mask_embeddings, self.mask_features)


@dataclass
class Truth:
    """A training batch as the losses see it.

    Args:
        labels: per image the dict described at `DaTaSegModel.forward`.
        image: normalized pixels [B, 3, H, W].
        inside: bool [B, H, W], false in the padding.
        valid_size: [B, 2], height and width of each image as fractions of the canvas.
        is_thing: bool [C].
        num_targets, num_images: scalars over all processes and micro-batches of the optimizer step.
        seeds: int64 [B] or None, for the sampled points.
    """

    labels: Sequence[Mapping[str, Tensor]]
    image: Tensor
    inside: Tensor
    valid_size: Tensor
    is_thing: Tensor
    num_targets: Tensor
    num_images: Tensor
    seeds: Tensor | None = None


@dataclass
class LossResult:
    """Weighted `terms`, summed over the decoder layers, whose sum is the loss; `unmatched` targets
    found no query.
    """

    terms: dict[str, Tensor]
    unmatched: Tensor


@dataclass
class PointValues:
    """Targets at points, float in 0..1.

    Args:
        values: [B, M, P].
        valid: weight of annotated pixels of the image, [B, P] or, per target, [B, M, P].
        void: weight of pixels which count nowhere (unlabeled, crowd), alike.
    """

    values: Tensor
    valid: Tensor
    void: Tensor


def count_targets(labels: Sequence[Mapping[str, Tensor]]) -> int:
    """Number of targets of a batch, crowd regions left out: what normalizes its mask losses."""
    return sum(len(label["class_labels"]) - int(_crowd(label).sum()) for label in labels)


def loss_weights(config: DaTaSegConfig, overrides: Mapping[str, float] | None) -> dict[str, float]:
    """Weight of each loss term, the config's unless overridden; keys are LOSS_TERMS."""
    weights = {term: float(getattr(config, f"{term}_weight")) for term in LOSS_TERMS}
    unknown = sorted(set(overrides or {}) - set(weights))
    if unknown:
        raise ValueError(f"unknown loss weights {unknown}; known are {list(LOSS_TERMS)}")
    return {**weights, **(overrides or {})}


# --- targets --------------------------------------------------------------------------------------


class _Targets:
    """Padded class labels of a batch; crowd regions are left out."""

    def __init__(self, truth: Truth) -> None:
        self.kept = [(~_crowd(label)).nonzero()[:, 0] for label in truth.labels]
        most = max(len(kept) for kept in self.kept)
        device = truth.image.device
        self.classes = torch.full((len(self.kept), most), -1, dtype=torch.int64, device=device)
        for row, kept, label in zip(self.classes, self.kept, truth.labels, strict=True):
            row[: len(kept)] = label["class_labels"][kept]
        self.present = self.classes >= 0
        num_categories = len(truth.is_thing)
        given = torch.cat([label["class_labels"] for label in truth.labels])
        wrong = given[(given < 0) | (given >= num_categories)]
        if len(wrong):
            raise ValueError(
                f"class label {int(wrong[0])} in a vocabulary of {num_categories} categories"
            )


class SegmentMapTargets(_Targets):
    """Targets of `segment_map` labels: an index per pixel, so that M masks cost one map."""

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.maps = torch.stack(
            [_renumbered(label, kept) for label, kept in zip(truth.labels, self.kept, strict=True)]
        )
        self.inside = _nearest_resize(truth.inside, self.maps.shape[-2:])

    def at(self, points: Tensor, seated: Tensor | None = None) -> PointValues:
        """Values of all targets, or of the seated ones [B, K], at points [B, P, 2], or each its own
        [B, M, P, 2].
        """
        index = nearest_index(points, *self.maps.shape[-2:])
        segment = self.maps.flatten(1).gather(1, index.flatten(1)).view_as(index)
        inside = self.inside.flatten(1).gather(1, index.flatten(1)).view_as(index)
        number = (
            torch.arange(self.classes.shape[1], device=segment.device) if seated is None else seated
        )
        values = (segment if segment.dim() == 3 else segment[:, None]) == number[..., None]
        return PointValues(
            values.float(), (inside & (segment >= 0)).float(), (inside & (segment < 0)).float()
        )


class MaskTargets(_Targets):
    """Targets of `masks` labels: instances that may overlap; crowd masks are void. The masks are
    never copied: 500 of them are larger than the network.
    """

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.grid = truth.labels[0]["masks"].shape[-2:]
        self.masks = [label["masks"].flatten(1) for label in truth.labels]
        self.void = torch.stack(
            [(label["masks"][_crowd(label)] > 0).any(0) for label in truth.labels]
        )
        self.inside = _nearest_resize(truth.inside, self.grid)

    def at(self, points: Tensor, seated: Tensor | None = None) -> PointValues:
        """As `SegmentMapTargets.at`."""
        index = nearest_index(points, *self.grid)
        targets = self.classes.shape[1] if seated is None else seated.shape[1]
        values = torch.zeros(len(index), targets, index.shape[-1], device=index.device)
        for image, (masks, kept) in enumerate(zip(self.masks, self.kept, strict=True)):
            # those that are no padding come first
            rows = kept if seated is None else kept[seated[image, : len(kept)]]
            own = index[image, : len(rows)] if index.dim() == 3 else index[image]
            values[image, : len(rows)] = (masks[rows[:, None], own] > 0).float()
        inside = self.inside.flatten(1).gather(1, index.flatten(1)).view_as(index)
        void = self.void.flatten(1).gather(1, index.flatten(1)).view_as(index)
        return PointValues(values, (inside & ~void).float(), (inside & void).float())


class BoxTargets(_Targets):
    """Targets of `boxes` labels as projections onto the axes of the mask grid; crowd boxes are
    void.

    columns [B, M, w], rows [B, M, h]: cells that the box covers. tight: bool [B, M, 2], false on an
    axis on which the box was cut. inside, void: bool [B, h, w].
    """

    def __init__(self, truth: Truth, grid: tuple[int, int]) -> None:
        super().__init__(truth)
        height, width = grid
        # float32 whatever the image is
        boxes = torch.zeros(*self.classes.shape, 4, device=truth.image.device)
        self.tight = torch.zeros(*self.classes.shape, 2, dtype=torch.bool, device=boxes.device)
        self.inside = _nearest_resize(truth.inside, grid)
        self.void = torch.zeros_like(self.inside)
        for image, (kept, label) in enumerate(zip(self.kept, truth.labels, strict=True)):
            if len(kept) and not bool(
                ((label["boxes"] > -1e-3) & (label["boxes"] < 1 + 1e-3)).all()
            ):
                raise ValueError(
                    f"boxes of image {image} of the batch lie outside 0..1; give them as fractions "
                    "of the canvas"
                )
            boxes[image, : len(kept)] = label["boxes"][kept].to(boxes)
            self.tight[image, : len(kept)] = _box_axes(label)[kept]
            crowd = label["boxes"][_crowd(label)].to(boxes)
            crowd_cells = _box_cells(
                interval_cells(crowd[:, 0], crowd[:, 2], width),
                interval_cells(crowd[:, 1], crowd[:, 3], height),
            )
            self.void[image] = self.inside[image] & crowd_cells.bool().any(0)
        self.columns = interval_cells(boxes[..., 0], boxes[..., 2], width)
        self.rows = interval_cells(boxes[..., 1], boxes[..., 3], height)


def cell_values(targets: SegmentMapTargets | MaskTargets, height: int, width: int) -> PointValues:
    """Targets on all cells of a grid, each the mean of four points: its nearest pixel alone is half
    a pixel off.
    """
    centers = cell_centers(height, width, targets.classes.device)
    # a little less than a quarter: at even strides a quarter falls on the border of two pixels, and
    # one side wins
    quarter = centers.new_tensor([0.24 / width, 0.24 / height])
    corners = centers.new_tensor([[-1, -1], [1, -1], [-1, 1], [1, 1]]) * quarter
    points = (centers[:, None] + corners).view(1, -1, 2).expand(len(targets.classes), -1, -1)
    at_points = targets.at(points)
    weight = at_points.valid.unflatten(1, (-1, 4))
    values = (at_points.values.unflatten(2, (-1, 4)) * weight[:, None]).sum(-1)
    return PointValues(
        values / weight.sum(-1).clamp(min=1)[:, None],
        weight.mean(-1),
        at_points.void.unflatten(1, (-1, 4)).mean(-1),
    )


def _renumbered(label: Mapping[str, Tensor], kept: Tensor) -> Tensor:
    """Segment map [H, W] whose indices count the kept segments only; crowd segments become void."""
    # the last entry is void, index -1
    number = kept.new_full((len(label["class_labels"]) + 1,), -1)
    number[kept] = torch.arange(len(kept), device=kept.device)
    return number[label["segment_map"].long()]


def _box_cells(columns: Tensor, rows: Tensor) -> Tensor:
    """Cells of boxes from their projections: columns [K, w], rows [K, h] -> [K, h, w]."""
    return rows[:, :, None] * columns[:, None, :]


def _crowd(label: Mapping[str, Tensor]) -> Tensor:
    crowd = label.get("is_crowd")
    return (
        torch.zeros_like(label["class_labels"], dtype=torch.bool) if crowd is None else crowd.bool()
    )


def _box_axes(label: Mapping[str, Tensor]) -> Tensor:
    axes = label.get("box_axes")
    return label["boxes"].new_ones(len(label["boxes"]), 2).bool() if axes is None else axes.bool()


def _nearest_resize(inside: Tensor, size: Sequence[int]) -> Tensor:
    """bool [B, H, W] at the cell centers of another grid: bool [B, *size]."""
    index = nearest_index(cell_centers(size[0], size[1], inside.device), *inside.shape[-2:])
    return inside.flatten(1)[:, index].view(len(inside), *size)


# --- from matching to groups ----------------------------------------------------------------------


@dataclass
class Groups:
    """Which query works for which target.

    Args:
        seated: int64 [B, K], indices of the targets that the losses see (`seat`).
        matched: int64 [B, K], -1 = none.
        recruits: (image, query, seat), int64 [R] each: unmatched proposals that MERGE adds to a
            target's group.
        ignored: bool [B, N], no class loss.
    """

    seated: Tensor
    matched: Tensor
    recruits: tuple[Tensor, Tensor, Tensor]
    ignored: Tensor

    def class_targets(self, classes: Tensor, num_queries: int, background: int) -> Tensor:
        """Class target of every query, int64 [B, N]: its target's class, `background`, or IGNORED.
        classes: [B, M].
        """
        classes = rows_of(classes, self.seated)
        targets = torch.full(
            (len(classes), num_queries), background, dtype=torch.int64, device=classes.device
        )
        targets[self.ignored] = IGNORED
        image, target = (self.matched >= 0).nonzero(as_tuple=True)
        targets[image, self.matched[image, target]] = classes[image, target]
        image, query, target = self.recruits
        targets[image, query] = classes[image, target]
        return targets


def seat(matched: Tensor, num_queries: int) -> Tensor:
    """Indices of the targets that the losses see, int64 [B, K]: all, or with more targets than
    queries those that found one, so that what the losses take does not grow with targets that have
    none.

    matched: int64 [B, M], -1 = none.
    """
    if matched.shape[1] <= num_queries:
        return torch.arange(matched.shape[1], device=matched.device).expand_as(matched)
    return (matched < 0).int().argsort(dim=1, stable=True)[:, :num_queries]


def rows_of(values: Tensor, seated: Tensor) -> Tensor:
    """Rows of values [B, M, ...] for the seated targets: [B, K, ...]."""
    return values if values.shape[1] == seated.shape[1] else gather_matched(values, seated)


def gather_matched(maps: Tensor, matched: Tensor) -> Tensor:
    """Rows of maps [B, N, ...] that the matching chose: [B, M, ...]; any row where a target has no
    query.
    """
    index = (
        matched.clamp(min=0)
        .view(*matched.shape, *[1] * (maps.dim() - 2))
        .expand(-1, -1, *maps.shape[2:])
    )
    return maps.gather(1, index)


def matched_masks(layers: Sequence[Proposals], matched: Sequence[Tensor]) -> Tensor:
    """Mask logits of the matched queries only, all layers in one product: L times [B, M] -> [B, L *
    M, h, w].

    Each product with the features would leave a gradient as large as they are.
    """
    chosen = [
        gather_matched(layer.mask_embeddings, rows)
        for layer, rows in zip(layers, matched, strict=True)
    ]
    return dot_product(torch.cat(chosen, dim=1), layers[0].mask_features)


def merged_masks(
    layers: Sequence[Proposals], groups: Sequence[Groups], reduction: str = "maximum"
) -> Tensor:
    """MERGE in training: mask logits [B, L * M, h, w] of L layers, over each target's group the
    elementwise maximum, or, "soft", the logit of the probability that any of them covers the cell.
    """
    masks = matched_masks(layers, [group.matched for group in groups])
    num_queries, num_targets = layers[0].mask_embeddings.shape[1], groups[0].matched.shape[1]
    image = torch.cat([group.recruits[0] for group in groups])
    query = torch.cat(
        [group.recruits[1] + number * num_queries for number, group in enumerate(groups)]
    )
    target = torch.cat(
        [group.recruits[2] + number * num_targets for number, group in enumerate(groups)]
    )
    if len(image) == 0:
        return masks
    order = image.argsort(stable=True)
    image, query, target = image[order], query[order], target[order]
    embeddings = torch.cat([layer.mask_embeddings for layer in layers], dim=1)
    per_image = embeddings[image, query].split(image.bincount(minlength=len(masks)).tolist())
    recruits = [
        code @ cells
        for code, cells in zip(per_image, layers[0].mask_features.flatten(2), strict=True)
    ]
    rows = masks.flatten(2).flatten(0, 1)
    index = (image * masks.shape[1] + target)[:, None].expand(-1, rows.shape[1])
    if reduction == "soft":
        return _covered_by_any(rows, index, torch.cat(recruits)).view_as(masks)
    return rows.scatter_reduce(0, index, torch.cat(recruits), "amax", include_self=True).view_as(
        masks
    )


def _covered_by_any(rows: Tensor, index: Tensor, recruits: Tensor) -> Tensor:
    """Logit of 1 - prod(1 - sigmoid(m)) over each row of [K, P] and the recruits [R, P] that
    `index` [R, P] adds to it; rows without any stay as they are, to the bit.
    """
    # 1 - sigmoid(m) = exp(-softplus(m)), so that the product is a sum
    total = (
        F.softplus(rows.float())
        .scatter_add(0, index, F.softplus(recruits.float()))
        .clamp(min=1e-30)
    )
    soft = total + torch.log(-torch.expm1(-total))
    joined = torch.zeros(len(rows), dtype=torch.bool, device=rows.device).index_fill(
        0, index[:, 0], True
    )
    return torch.where(joined[:, None], soft.to(rows.dtype), rows)


def recruit(
    class_logits: Tensor,
    foreground: Tensor,
    values: PointValues,
    classes: Tensor,
    matched: Tensor,
    merged: Tensor,
    least_overlap: float | None = 0.5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Unmatched proposals that join a target of a merged category (our reading of MERGE).

    A proposal joins the target of its most likely category, background included among the
    candidates, when more than `least_overlap` (None: none is asked for) of its own non-empty mask,
    void left out, lies inside that target.

    Args:
        class_logits: [B, N, C + 1]. foreground: float [B, N, P], the proposals' binary masks at the
            points.
        classes: [B, M], -1 = padding. matched: [B, M]. merged: bool [C].

    Returns:
        image, query, target: int64 [R] each.
    """
    free = torch.ones(class_logits.shape[:2], dtype=torch.bool, device=class_logits.device)
    image, target = (matched >= 0).nonzero(as_tuple=True)
    free[image, matched[image, target]] = False
    overlap = foreground @ (values.values * values.valid[:, None]).transpose(1, 2)
    area = (foreground * values.valid[:, None]).sum(-1, keepdim=True)
    fits = class_logits.argmax(-1)[:, :, None] == classes[:, None, :]
    open_target = (matched >= 0) & merged[classes.clamp(min=0)]
    joins = fits & free[:, :, None] & open_target[:, None, :] & (area > 0)
    if least_overlap is not None:
        joins = joins & (overlap > least_overlap * area)
    image, query, target = joins.nonzero(as_tuple=True)
    return image, query, target


def mostly_void(foreground: Tensor, void: Tensor, inside: Tensor) -> Tensor:
    """Proposals of whose mask more than half lies in void or crowd: bool [B, N].

    foreground: [B, N, P]; void, inside: [B, P]; all in 0..1.
    """
    in_void = (foreground * void[:, None]).sum(-1)
    return in_void > 0.5 * (foreground * inside[:, None]).sum(-1)


def _no_recruits(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    none = torch.zeros(0, dtype=torch.int64, device=device)
    return none, none, none


# --- supervision ----------------------------------------------------------------------------------


def mask_supervision(
    targets: SegmentMapTargets | MaskTargets,
    layers: Sequence[Proposals],
    truth: Truth,
    config: DaTaSegConfig,
    weights: Mapping[str, float],
    merged: Tensor,
) -> LossResult:
    """Class, mask (binary cross-entropy) and dice losses of every decoder layer against mask
    targets.

    merged: bool [C], the categories whose proposals MERGE in training.
    """
    height, width = layers[0].mask_features.shape[-2:]
    all_cells = height * width <= config.train_num_points
    at_points, groups = mask_groups(targets, layers, truth, config, weights, merged, all_cells)
    terms = {term: layers[0].class_logits.new_zeros(()) for term in ("class", "mask", "dice")}
    for layer, group in zip(layers, groups, strict=True):
        terms["class"] = terms["class"] + _class_loss(layer, targets, group, truth, config)
    # copies, so that the whole is freed: the sampling below would make and keep them in any case
    whole = merged_masks(layers, groups, config.merge_reduction).float()
    masks_of_layers = [part.contiguous() for part in whole.chunk(len(layers), dim=1)]
    del whole
    for masks, group in zip(masks_of_layers, groups, strict=True):
        if all_cells:
            prediction, compared, values = (
                masks.flatten(2),
                at_points,
                rows_of(at_points.values, group.seated),
            )
        else:
            own = _loss_points(masks, truth, config)
            prediction, compared = _sample_own(masks, own), targets.at(own, group.seated)
            values = compared.values
        at_target = compared.valid if compared.valid.dim() == 3 else compared.valid[:, None]
        counted = (group.matched >= 0).float()
        bce = bce_loss(prediction, values, at_target)
        dice = dice_loss(prediction.sigmoid(), values, at_target)
        terms["mask"] = terms["mask"] + (bce * counted).sum() / truth.num_targets
        terms["dice"] = terms["dice"] + (dice * counted).sum() / truth.num_targets
    return _weighted(terms, weights, targets, groups[-1])


@torch.no_grad()
def mask_groups(
    targets: SegmentMapTargets | MaskTargets,
    layers: Sequence[Proposals],
    truth: Truth,
    config: DaTaSegConfig,
    weights: Mapping[str, float],
    merged: Tensor,
    all_cells: bool,
) -> tuple[PointValues, list[Groups]]:
    """Matching and MERGE: the targets at the points on which masks are compared, and the groups of
    each layer.

    all_cells: compare on all cells of the mask grid instead of `config.train_num_points` random
        points.
    """
    mask_features = layers[0].mask_features.float()
    if all_cells:
        at_points = cell_values(targets, mask_features.shape[-2], mask_features.shape[-1])
        features = mask_features.flatten(2)
    else:
        points = random_points(config.train_num_points, truth.valid_size, truth.seeds)
        at_points = targets.at(points)
        # sampling commutes with the dot product, so the features are sampled once instead of all
        # masks
        features = sample_grid(mask_features, points)
    cost, seen = [], []
    for layer in layers:
        logits = layer.mask_embeddings.float() @ features
        seen.append(logits > 0)
        cost.append(
            weights["class"] * class_cost(layer.class_logits, targets.classes)
            + weights["mask"] * pairwise_bce_cost(logits, at_points.values, at_points.valid)
            + weights["dice"]
            * pairwise_dice_cost(logits.sigmoid(), at_points.values, at_points.valid)
        )
    groups = []
    for layer, in_mask, matched in zip(
        layers, seen, hungarian(torch.stack(cost), targets.present), strict=True
    ):
        foreground = in_mask.float()
        seated = seat(matched, foreground.shape[1])
        matched = rows_of(matched, seated)
        recruits = _no_recruits(matched.device)
        if config.merge_in_training:
            values = PointValues(rows_of(at_points.values, seated), at_points.valid, at_points.void)
            classes = rows_of(targets.classes, seated)
            recruits = recruit(
                layer.class_logits,
                foreground,
                values,
                classes,
                matched,
                merged,
                config.merge_overlap,
            )
        ignored = mostly_void(foreground, at_points.void, at_points.valid + at_points.void)
        groups.append(Groups(seated, matched, recruits, ignored))
    return at_points, groups


def box_supervision(
    targets: BoxTargets,
    layers: Sequence[Proposals],
    truth: Truth,
    config: DaTaSegConfig,
    weights: Mapping[str, float],
) -> LossResult:
    """Class, projection and color-affinity losses of every decoder layer against box targets."""
    tight = targets.tight.float()
    void, inside = targets.void.flatten(1).float(), targets.inside.flatten(1).float()
    with torch.no_grad():
        cost, ignored_of = [], []
        for layer in layers:
            all_masks = layer.mask_logits.float()
            ignored_of.append(mostly_void((all_masks > 0).flatten(2).float(), void, inside))
            columns, rows = axis_projections(all_masks, targets.inside)
            projection = (
                pairwise_dice_cost(columns, targets.columns, torch.ones_like(targets.columns))
                * tight[:, None, :, 0]
            )
            projection += (
                pairwise_dice_cost(rows, targets.rows, torch.ones_like(targets.rows))
                * tight[:, None, :, 1]
            )
            cost.append(
                weights["class"] * class_cost(layer.class_logits, targets.classes)
                + weights["projection"] * projection
            )
        groups = []
        for matched, ignored in zip(
            hungarian(torch.stack(cost), targets.present), ignored_of, strict=True
        ):
            seated = seat(matched, ignored.shape[1])
            groups.append(
                Groups(seated, rows_of(matched, seated), _no_recruits(matched.device), ignored)
            )

    # a color that nothing is like, so that no pair reaches into the padding
    image = _area_resize(truth.image, targets.inside.shape[-2:]).masked_fill(
        ~targets.inside[:, None], torch.inf
    )
    terms = {
        term: layers[0].class_logits.new_zeros(())
        for term in ("class", "projection", "color_affinity")
    }
    masks_of_layers = (
        matched_masks(layers, [group.matched for group in groups]).float().chunk(len(layers), dim=1)
    )
    for layer, masks, group in zip(layers, masks_of_layers, groups, strict=True):
        terms["class"] = terms["class"] + _class_loss(layer, targets, group, truth, config)

        box_columns, box_rows = (
            rows_of(targets.columns, group.seated),
            rows_of(targets.rows, group.seated),
        )
        counted = (group.matched >= 0).float()[..., None] * rows_of(tight, group.seated)
        columns, rows = axis_projections(masks, targets.inside)
        projection = dice_loss(columns, box_columns, torch.ones_like(columns)) * counted[..., 0]
        projection = projection + dice_loss(rows, box_rows, torch.ones_like(rows)) * counted[..., 1]
        terms["projection"] = terms["projection"] + projection.sum() / truth.num_targets
        if weights["color_affinity"] > 0:
            affinity = _box_affinity(
                masks,
                image,
                box_columns,
                box_rows,
                targets.inside,
                group.matched,
                config.color_affinity_threshold,
            )
            terms["color_affinity"] = terms["color_affinity"] + affinity / truth.num_targets
    return _weighted(terms, weights, targets, groups[-1])


def _box_affinity(masks: Tensor, *rest: Any) -> Tensor:
    """As `_sum_of_affinities`; many masks are compared again in the backward pass instead of
    keeping their pairs.
    """
    if masks.numel() <= RECOMPUTED_CELLS:
        return _sum_of_affinities(masks, *rest)
    return cast(
        Tensor,
        checkpoint(_sum_of_affinities, masks, *rest, use_reentrant=False, preserve_rng_state=False),
    )


def _sum_of_affinities(
    masks: Tensor,
    image: Tensor,
    columns: Tensor,
    rows: Tensor,
    inside: Tensor,
    matched: Tensor,
    threshold: float,
) -> Tensor:
    """Color-affinity loss, summed over the matched of masks [B, K, h, w]. columns: [B, K, w],
    rows: [B, K, h].
    """
    where, target = (matched >= 0).nonzero(as_tuple=True)
    cells = _box_cells(columns[where, target], rows[where, target]) * inside[where]
    return color_affinity_loss(masks[where, target], image[where], cells, threshold).sum()


def class_cost(class_logits: Tensor, classes: Tensor) -> Tensor:
    """Minus the probability of each target's class: [B, N, C + 1], [B, M] -> [B, N, M]; padding
    costs 0.
    """
    probabilities = class_logits.softmax(-1)
    index = classes.clamp(min=0)[:, None].expand(-1, probabilities.shape[1], -1)
    return -probabilities.gather(2, index) * (classes >= 0)[:, None]


def _class_loss(
    layer: Proposals, targets: _Targets, groups: Groups, truth: Truth, config: DaTaSegConfig
) -> Tensor:
    background = layer.class_logits.shape[-1] - 1
    class_targets = groups.class_targets(targets.classes, layer.class_logits.shape[1], background)
    return classification_loss(
        layer.class_logits,
        class_targets,
        config.no_object_weight,
        truth.num_targets,
        truth.num_images,
    )


def _loss_points(masks: Tensor, truth: Truth, config: DaTaSegConfig) -> Tensor:
    """Points of the loss, per target: [B, M, P, 2]."""
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


def _area_resize(image: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(image.float(), size=tuple(size), mode="area")


def _weighted(
    terms: Mapping[str, Tensor], weights: Mapping[str, float], targets: _Targets, last: Groups
) -> LossResult:
    named = {f"loss_{term}": weights[term] * value for term, value in terms.items()}
    return LossResult(named, targets.present.sum() - (last.matched >= 0).sum())


# --- the tasks ------------------------------------------------------------------------------------


class Task:
    """What a task adds to the shared proposals. Stateless; TASKS holds one of each."""

    name: str
    annotation: str

    def merged_categories(self, is_thing: Tensor) -> Tensor:
        """Categories whose proposals MERGE into one mask: bool [C]."""
        raise ValueError(f"task {self.name} defines no merge")

    def loss(
        self,
        layers: Sequence[Proposals],
        truth: Truth,
        config: DaTaSegConfig,
        weights: Mapping[str, float],
    ) -> LossResult:
        """Losses of all decoder layers against the truth of this task."""
        raise ValueError(f"task {self.name} defines no loss")

    def check_labels(self, labels: Sequence[Mapping[str, Tensor]]) -> None:
        """Refuse labels that do not carry this task's annotation."""
        if not isinstance(labels, Sequence) or isinstance(labels, str):
            raise ValueError(
                f"`labels` must be a list with a dict per image, got {type(labels).__name__}"
            )
        for image, label in enumerate(labels):
            if not isinstance(label, Mapping):
                raise ValueError(
                    f"labels[{image}] must be a dict of tensors, got {type(label).__name__}"
                )
            missing = sorted({"class_labels", self.annotation} - set(label))
            if missing:
                raise ValueError(
                    f"task '{self.name}' needs {missing} in labels[{image}], which has "
                    f"{sorted(label)}"
                )
            for key, value in label.items():
                if not isinstance(value, Tensor):
                    raise ValueError(
                        f"labels[{image}]['{key}'] must be a tensor, got {type(value).__name__}"
                    )


class Panoptic(Task):
    """A segment per thing and per stuff class: proposals of one stuff category merge, things stay
    apart.
    """

    name = "panoptic"
    annotation = "segment_map"

    def merged_categories(self, is_thing: Tensor) -> Tensor:
        """Stuff."""
        return ~is_thing

    def loss(
        self,
        layers: Sequence[Proposals],
        truth: Truth,
        config: DaTaSegConfig,
        weights: Mapping[str, float],
    ) -> LossResult:
        """Class, mask and dice losses on the merged masks."""
        merged = self.merged_categories(truth.is_thing)
        return mask_supervision(SegmentMapTargets(truth), layers, truth, config, weights, merged)


class Semantic(Panoptic):
    """A class per pixel: the proposals of every category merge."""

    name = "semantic"

    def merged_categories(self, is_thing: Tensor) -> Tensor:
        """Every category."""
        return torch.ones_like(is_thing)


class Instance(Task):
    """A mask per object: nothing merges."""

    name = "instance"
    annotation = "masks"

    def merged_categories(self, is_thing: Tensor) -> Tensor:
        """None."""
        return torch.zeros_like(is_thing)

    def loss(
        self,
        layers: Sequence[Proposals],
        truth: Truth,
        config: DaTaSegConfig,
        weights: Mapping[str, float],
    ) -> LossResult:
        """Class, mask and dice losses, one to one."""
        merged = self.merged_categories(truth.is_thing)
        return mask_supervision(MaskTargets(truth), layers, truth, config, weights, merged)


class Boxes(Instance):
    """A box per object: masks are learned from their projections, and come out as instances."""

    name = "boxes"
    annotation = "boxes"

    def loss(
        self,
        layers: Sequence[Proposals],
        truth: Truth,
        config: DaTaSegConfig,
        weights: Mapping[str, float],
    ) -> LossResult:
        """Class, projection and color-affinity losses, one to one."""
        grid = layers[0].mask_features.shape[-2:]
        return box_supervision(
            BoxTargets(truth, (grid[0], grid[1])), layers, truth, config, weights
        )


TASKS: dict[str, Task] = {task.name: task for task in (Panoptic(), Semantic(), Instance(), Boxes())}
"""The four tasks, by name."""


def get_task(name: str) -> Task:
    """The task of that name; ValueError lists the known ones."""
    if not isinstance(name, str) or name not in TASKS:
        raise ValueError(
            f"unknown task {name!r:.40}; known are {sorted(TASKS)}{did_you_mean(str(name), TASKS)}"
        )
    return TASKS[name]
