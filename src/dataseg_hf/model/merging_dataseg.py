"""MERGE in training: which proposals work for which target, and the masks of such groups.

Shapes: B images, N queries, C categories, M targets (padded to the batch's largest number), K of
them kept (`keep_targets`), P points, h x w mask grid, L decoder layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .host_dataseg import to_device
from .proposals_dataseg import LayerProposals, dot_product
from .targets_dataseg import PointValues

IGNORED = -100
"""Class target of a query without a class loss."""


@dataclass
class Groups:
    """Which query works for which target.

    Args:
        kept: int64 [B, K], indices of the targets that the losses see (`keep_targets`).
        matched: int64 [B, K], -1 = none.
        ignored: bool [B, N], no class loss.
        kept_on_host, matched_on_host: the same, where they can be read without waiting.
        recruits: bool [B, N, K], unmatched proposals that MERGE adds to a target's group; None for
            groups that nobody joins.
    """

    kept: Tensor
    matched: Tensor
    ignored: Tensor
    kept_on_host: Tensor
    matched_on_host: Tensor
    recruits: Tensor | None = None

    @classmethod
    def of_assignment(cls, assigned: Tensor, ignored: Tensor) -> "Groups":
        """Groups that nobody joins.

        Args:
            assigned: int64 [B, M] on the host, the query of each target, -1 = none.
            ignored: bool [B, N].
        """
        kept = keep_targets(assigned, ignored.shape[1])
        matched = rows_of(assigned, kept)
        device = ignored.device
        return cls(to_device(kept, device), to_device(matched, device), ignored, kept, matched)

    def class_targets(self, classes: Tensor, background: int) -> Tensor:
        """Class target of every query, int64 [B, N]: its target's class, `background`, or IGNORED.

        Args:
            classes: [B, M].
        """
        classes = rows_of(classes, self.kept)
        targets = torch.full_like(self.ignored, background, dtype=torch.int64)
        targets = targets.masked_fill(self.ignored, IGNORED)
        targets = set_matched(targets, self.matched, classes)
        if self.recruits is None or classes.shape[1] == 0:
            return targets
        # all targets that a query joins are of the class that is its likeliest
        joined = torch.where(self.recruits, classes[:, None], -1).amax(-1)
        return torch.where(joined >= 0, joined, targets)


def set_matched(rows: Tensor, matched: Tensor, values: Tensor) -> Tensor:
    """Rows [B, N] of the queries with the values [B, K] of their targets where they have one.

    Args:
        matched: int64 [B, K], the query of each target, -1 = none.
    """
    # targets without a query write to a row of their own
    index = torch.where(matched < 0, rows.shape[1], matched)
    return F.pad(rows, (0, 1)).scatter(1, index, values)[:, :-1]


def keep_targets(matched: Tensor, num_queries: int) -> Tensor:
    """Indices of the targets that the losses see, int64 [B, K].

    These are all targets or, where there are more targets than queries, those that found a query:
    what the losses take must not grow with the others.

    Args:
        matched: int64 [B, M], -1 = none.
    """
    if matched.shape[1] <= num_queries:
        return torch.arange(matched.shape[1], device=matched.device).expand_as(matched)
    return (matched < 0).int().argsort(dim=1, stable=True)[:, :num_queries]


def rows_of(values: Tensor, kept: Tensor) -> Tensor:
    """Rows of values [B, M, ...] of the kept targets, int64 [B, K]: [B, K, ...]."""
    return values if values.shape[1] == kept.shape[1] else gather_matched(values, kept)


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


def matched_masks(layers: Sequence[LayerProposals], matched: Sequence[Tensor]) -> Tensor:
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
    layers: Sequence[LayerProposals], groups: Sequence[Groups], reduction: str = "maximum"
) -> Tensor:
    """MERGE in training: one mask for each target's group, of all L layers, [B, L * K, h, w].

    Args:
        reduction: "maximum", elementwise over the group's mask logits, or "soft", the logit of the
            probability that any of them covers the cell.
    """
    masks = matched_masks(layers, [group.matched for group in groups])
    image, query, target = _recruits_of_layers(groups)
    if len(image) == 0:
        return masks
    counts = image.bincount(minlength=len(masks)).tolist()
    image, query, target = (to_device(index, masks.device) for index in (image, query, target))
    embeddings = torch.cat([layer.mask_embeddings for layer in layers], dim=1)
    per_image = embeddings[image, query].split(counts)
    recruits = torch.cat(
        [
            code @ cells
            for code, cells in zip(per_image, layers[0].mask_features.flatten(2), strict=True)
        ]
    )
    rows = masks.flatten(2).flatten(0, 1)
    index = (image * masks.shape[1] + target)[:, None].expand(-1, rows.shape[1])
    if reduction == "soft":
        return _covered_by_any(rows, index, recruits).view_as(masks)
    return rows.scatter_reduce(0, index, recruits, "amax", include_self=True).view_as(masks)


def _recruits_of_layers(groups: Sequence[Groups]) -> tuple[Tensor, Tensor, Tensor]:
    """Image, query and target of each recruit of all layers, int64 [R] each on the host, by image;
    queries and targets count through the layers.
    """
    joins = [group.recruits for group in groups if group.recruits is not None]
    if not joins:
        none = torch.zeros(0, dtype=torch.int64)
        return none, none, none
    # in one copy, as the number of recruits decides how much is computed
    by_image = torch.stack(joins, dim=1).cpu()
    image, layer, query, target = by_image.nonzero(as_tuple=True)
    num_queries, num_targets = by_image.shape[2:]
    return image, query + layer * num_queries, target + layer * num_targets


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
    min_overlap: float | None = 0.5,
) -> Tensor:
    """Unmatched proposals that join a target of a merged category (our reading of MERGE).

    A proposal joins the target of its most likely category, background included among the
    candidates, when more than `min_overlap` (None: none is asked for) of its own non-empty mask,
    void left out, lies inside that target.

    Args:
        class_logits: [B, N, C + 1]. foreground: float [B, N, P], the proposals' binary masks at the
            points.
        classes: [B, M], -1 = padding. matched: [B, M]. merged: bool [C].

    Returns:
        bool [B, N, M], whether a proposal joins a target.
    """
    free = torch.ones(class_logits.shape[:2], dtype=torch.bool, device=class_logits.device)
    free = set_matched(free, matched, torch.zeros_like(matched, dtype=torch.bool))
    overlap = foreground @ (values.values * values.valid[:, None]).transpose(1, 2)
    area = (foreground * values.valid[:, None]).sum(-1, keepdim=True)
    fits = class_logits.argmax(-1)[:, :, None] == classes[:, None, :]
    open_target = (matched >= 0) & merged[classes.clamp(min=0)]
    joins = fits & free[:, :, None] & open_target[:, None, :] & (area > 0)
    if min_overlap is not None:
        joins = joins & (overlap > min_overlap * area)
    return joins


def mostly_void(foreground: Tensor, void: Tensor, valid: Tensor) -> Tensor:
    """Whether more than half of a proposal's mask lies in void or crowd: bool [B, N].

    Args:
        foreground: [B, N, P], in 0..1.
        void, valid: [B, P], in 0..1.
    """
    in_void = (foreground * void[:, None]).sum(-1)
    return in_void > 0.5 * (foreground * valid[:, None]).sum(-1)


__all__ = [
    "IGNORED",
    "Groups",
    "gather_matched",
    "keep_targets",
    "matched_masks",
    "merged_masks",
    "mostly_void",
    "recruit",
    "rows_of",
    "set_matched",
]
