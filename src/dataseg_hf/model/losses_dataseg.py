"""Matching costs and losses on mask logits: pure functions of tensors, in float32.

Shapes: B images, N queries, M targets (padded to the batch's largest number), P points, h x w mask
grid. Points are (x, y) in 0..1 of the padded canvas.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

try:
    from scipy.optimize import linear_sum_assignment
except ImportError:  # inference does not match anything
    linear_sum_assignment = None  # type: ignore[assignment]


# --- points ---------------------------------------------------------------------------------------


def cell_centers(height: int, width: int, device: torch.device) -> Tensor:
    """Centers of all cells of a grid, row by row: [height * width, 2]."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1)


def random_points(num_points: int, valid_size: Tensor, seeds: Tensor | None) -> Tensor:
    """Uniform points inside each image, padding left out: [B, num_points, 2].

    Args:
        valid_size: [B, 2], height and width of the image as fractions of the canvas.
        seeds: int64 [B] on the host, one per image, so that an image's points do not depend on its
            batch; None draws from torch's global generator.
    """
    device = valid_size.device
    if seeds is None:
        points = torch.rand(len(valid_size), num_points, 2, device=device)
    else:
        rows = []
        for seed in seeds.tolist():
            generator = torch.Generator(device).manual_seed(seed)
            rows.append(torch.rand(num_points, 2, device=device, generator=generator))
        points = torch.stack(rows)
    return points * valid_size.flip(-1)[:, None]


def sample_grid(grid: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of grid [B, K, h, w] at points [B, P, 2] shared by the K maps: [B, K, P]."""
    return F.grid_sample(grid, 2 * points[:, None] - 1, padding_mode="border", align_corners=False)[
        :, :, 0
    ]


def nearest_index(points: Tensor, height: int, width: int) -> Tensor:
    """Flat index of the pixel that holds each point [..., 2]: int64 [...]."""
    x = (points[..., 0] * width).long().clamp_(0, width - 1)
    y = (points[..., 1] * height).long().clamp_(0, height - 1)
    return y * width + x


def uncertain_points(
    mask_logits: Tensor, candidates: Tensor, num_points: int, importance_sample_ratio: float
) -> Tensor:
    """Points where a mask is least certain, filled up with uniform ones (PointRend): [B, M,
    num_points, 2].

    Args:
        mask_logits: [B, M, h, w].
        candidates: uniform points [B, K, 2], K >= num_points, shared by the image's masks (our
            setting: one draw per image instead of one per mask).
        importance_sample_ratio: share of the points chosen by uncertainty.
    """
    uncertainty = -sample_grid(mask_logits, candidates).abs()
    num_uncertain = int(importance_sample_ratio * num_points)
    chosen = uncertainty.topk(num_uncertain, dim=-1).indices
    uncertain = (
        candidates[:, None]
        .expand(-1, mask_logits.shape[1], -1, -1)
        .gather(2, chosen[..., None].expand(-1, -1, -1, 2))
    )
    uniform = candidates[:, None, : num_points - num_uncertain].expand(
        -1, mask_logits.shape[1], -1, -1
    )
    return torch.cat([uncertain, uniform], dim=2)


# --- matching -------------------------------------------------------------------------------------


def pairwise_bce_cost(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Mean binary cross-entropy of every query with every target over the valid points: [B, N, M].

    One matrix product: bce(x, t) = softplus(x) - x t. logits [B, N, P], targets [B, M, P] in 0..1,
    valid [B, P].
    """
    count = valid.sum(-1).clamp(min=1)[:, None, None]
    negative = (F.softplus(logits) * valid[:, None]).sum(-1, keepdim=True)
    return (negative - (logits * valid[:, None]) @ targets.transpose(1, 2)) / count


def pairwise_dice_cost(probabilities: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """1 - dice of every query with every target over the valid points: [B, N, M].

    probabilities [B, N, P] and targets [B, M, P] in 0..1, valid [B, P] or, per target, [B, M, P].
    """
    valid = valid if valid.dim() == 3 else valid[:, None]
    weighted = targets * valid
    intersection = probabilities @ weighted.transpose(1, 2)
    mass = (probabilities @ valid.transpose(1, 2)).expand_as(intersection)
    return 1 - (2 * intersection + 1) / (mass + weighted.sum(-1)[:, None] + 1)


def hungarian(cost: Tensor, present: Tensor) -> Tensor:
    """One-to-one assignment of least cost: for each target its query, int64 [L, B, M] on the host,
    -1 where it has none.

    Args:
        cost: [L, B, N, M], finite; one copy brings it to the host.
        present: bool [B, M] on the host, false for padding. With more targets than queries the
            dearest targets go without.

    Raises:
        FloatingPointError: for a cost that is not finite, naming the image's place in the batch.
        ImportError: without scipy.
    """
    if linear_sum_assignment is None:
        raise ImportError("training matches queries to targets with scipy: pip install scipy")
    table = cost.detach().cpu()
    assigned = torch.full((len(table), *present.shape), -1, dtype=torch.int64)
    for image, mask in enumerate(present):
        columns = mask.nonzero()[:, 0]
        part = table[:, image][:, :, columns]
        if not torch.isfinite(part).all():
            raise FloatingPointError(
                f"the matching cost of image {image} of the batch is not finite"
            )
        for layer, matrix in enumerate(part.numpy()):
            queries, targets = linear_sum_assignment(matrix)
            assigned[layer, image, columns[targets]] = torch.from_numpy(queries)
    return assigned


# --- losses ---------------------------------------------------------------------------------------


def classification_loss(
    logits: Tensor,
    class_targets: Tensor,
    no_object_weight: float,
    num_targets: Tensor,
    num_images: Tensor,
    exhaustive: Tensor | None = None,
) -> Tensor:
    """Softmax cross-entropy over C categories and background, background weighted down.

    The normalizer is the sum of weights that a one-to-one matching gives, computed from the counts
    of the whole optimizer step, so that processes and micro-batches add up to one batch.

    Args:
        logits: [B, N, C + 1], last = background.
        class_targets: int64 [B, N] in 0..C, -100 where the query has no class loss.
        num_targets, num_images: scalars, over all processes and micro-batches of the step.
        exhaustive: bool [B, C], false where the annotation of an image may lack objects of a
            category. An unmatched query may then be background or one of those: their
            probabilities add up (our setting). None where every category is exhaustive.
    """
    # not by an index: a number that is copied to a device is waited for
    weight = F.pad(logits.new_ones(logits.shape[-1] - 1), (0, 1), value=no_object_weight)
    how: dict[str, Any] = {"weight": weight, "ignore_index": -100, "reduction": "sum"}
    if exhaustive is None:
        total = F.cross_entropy(logits.transpose(1, 2), class_targets, **how)
    else:
        total = F.nll_loss(
            _open_background(logits, exhaustive).transpose(1, 2), class_targets, **how
        )
    num_queries = logits.shape[1]
    normalizer = num_targets + no_object_weight * (num_images * num_queries - num_targets).clamp(
        min=0
    )
    return total / normalizer.clamp(min=1)


def _open_background(logits: Tensor, exhaustive: Tensor) -> Tensor:
    """Log-probabilities [B, N, C + 1], the last that of background or any category that is not
    exhaustive, bool [B, C].
    """
    log_probabilities = logits.log_softmax(-1)
    allowed = F.pad(~exhaustive, (0, 1), value=True)[:, None]
    either = log_probabilities.masked_fill(~allowed, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_probabilities[..., :-1], either], dim=-1)


def bce_loss(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy averaged over the valid points: logits, targets, valid [..., P] ->
    [...].
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (loss * valid).sum(-1) / valid.sum(-1).clamp(min=1)


def dice_loss(probabilities: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """1 - dice over the valid points, with one point of smoothing: [..., P] -> [...]."""
    intersection = (probabilities * targets * valid).sum(-1)
    mass = (probabilities * valid).sum(-1) + (targets * valid).sum(-1)
    return 1 - (2 * intersection + 1) / (mass + 1)


# --- boxes ----------------------------------------------------------------------------------------


def axis_projections(mask_logits: Tensor, valid_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Probability that a mask touches each column and each row: [B, N, w], [B, N, h].

    Args:
        valid_mask: bool [B, h, w], false in the padding.
    """
    probabilities = mask_logits.sigmoid() * valid_mask[:, None]
    return probabilities.amax(-2), probabilities.amax(-1)


def interval_cells(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """Cells of an axis whose center lies in [low, high), at least the one at the middle: float
    [..., cells].

    Args:
        low, high: [...] in 0..1 of the canvas.
    """
    centers = (torch.arange(cells, device=low.device) + 0.5) / cells
    covered = (centers >= low[..., None]) & (centers < high[..., None])
    middle = (((low + high) / 2) * cells).long().clamp(0, cells - 1)
    return (covered | (torch.arange(cells, device=low.device) == middle[..., None])).float()


def color_affinity_loss(
    mask_logits: Tensor, image: Tensor, box_cells: Tensor, threshold: float, dilation: int = 2
) -> Tensor:
    """Neighbors of like color inside the box belong to the same side of the mask (BoxInst's
    pairwise term).

    -log P(both in or both out), averaged over the pairs in the box whose color similarity
    exp(-||difference|| / 2) reaches the threshold; pairs are `dilation` cells apart, in four
    directions. Colors are the model's normalized RGB (BoxInst takes Lab: our setting).

    Args:
        mask_logits: [K, h, w]. image: [K, 3, h, w]. box_cells: [K, h, w], 1 inside the box.

    Returns:
        [K]
    """
    inside, outside = F.logsigmoid(mask_logits), F.logsigmoid(-mask_logits)
    total = mask_logits.new_zeros(len(mask_logits))
    pairs = mask_logits.new_zeros(len(mask_logits))
    for first, second in neighbor_pairs(dilation):
        difference = first(image) - second(image)
        similar = (-0.5 * difference.square().sum(1).sqrt()).exp() >= threshold
        weight = similar * torch.maximum(first(box_cells), second(box_cells))
        same = torch.logaddexp(first(inside) + second(inside), first(outside) + second(outside))
        total = total - (same * weight).sum((-2, -1))
        pairs = pairs + weight.sum((-2, -1))
    return total / pairs.clamp(min=1)


def neighbor_pairs(
    step: int,
) -> list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """Views (first, second) of a map [..., h, w] that pair each cell with its right, lower and
    diagonal neighbors.
    """
    return [
        (lambda x: x[..., :, :-step], lambda x: x[..., :, step:]),
        (lambda x: x[..., :-step, :], lambda x: x[..., step:, :]),
        (lambda x: x[..., :-step, :-step], lambda x: x[..., step:, step:]),
        (lambda x: x[..., :-step, step:], lambda x: x[..., step:, :-step]),
    ]
