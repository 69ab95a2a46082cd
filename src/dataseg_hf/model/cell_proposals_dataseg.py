"""What the cell classifier adds to the proposals at inference: a say in their classes, and a
proposal of its own for each category (our setting).

Shapes: B images, N proposals, C categories, h x w mask grid.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers_dataseg import resize_valid_mask
from .masked_features_dataseg import masked_mean


class Proposals(NamedTuple):
    """N proposals of each image.

    Args:
        class_logits: [B, N, C + 1], the last column is the background.
        mask_logits: [B, N, h, w].
        semantic_weights: [B, N], of each in a semantic result; None where all count alike.
    """

    class_logits: Tensor
    mask_logits: Tensor
    semantic_weights: Tensor | None = None


def with_cells(
    proposals: Proposals,
    cell_logits: Tensor,
    valid_mask: Tensor,
    share: float,
    semantic_share: float,
) -> Proposals:
    """The proposals, their classes joined with those of their cells, and N category proposals.

    Args:
        proposals: of the queries.
        cell_logits: [B, C, h', w'].
        valid_mask: bool [B, H, W], false in the padding.
        share: of the cells' say in a proposal's class, 0..1.
        semantic_share: of the category proposals in a semantic result, 0..1.
    """
    cell_logits = cell_logits.float()
    categories = category_proposals(cell_logits, proposals.mask_logits, valid_mask)
    joined = joined_classes(proposals, cell_logits, valid_mask, share)
    own = torch.ones_like(joined[..., 0])
    return Proposals(
        torch.cat([joined, categories.class_logits], 1),
        torch.cat([proposals.mask_logits.float(), categories.mask_logits], 1),
        torch.cat([(1 - semantic_share) * own, semantic_share * own], 1),
    )


def joined_classes(
    proposals: Proposals, cell_logits: Tensor, valid_mask: Tensor, share: float
) -> Tensor:
    """Class logits [B, N, C + 1] whose categories are the geometric mean of the proposal's own and
    of the cells' under its mask; the background stays as it was.
    """
    grid = resize_valid_mask(valid_mask, proposals.mask_logits.shape[-2:])
    masks = proposals.mask_logits.float().sigmoid() * grid[:, None]
    of_cells = masked_mean(cell_logits.softmax(1), masks).clamp(min=1e-8).log()
    logits = proposals.class_logits.float()
    own = logits[..., :-1].log_softmax(-1)
    joined = ((1 - share) * own + share * of_cells).log_softmax(-1)
    probabilities = logits.log_softmax(-1)
    foreground = probabilities[..., :-1].logsumexp(-1, keepdim=True)
    return torch.cat([joined + foreground, probabilities[..., -1:]], dim=-1)


def category_proposals(cell_logits: Tensor, like: Tensor, valid_mask: Tensor) -> Proposals:
    """A proposal for each of the N surest categories: all cells in which it is the likeliest.

    A per-pixel classifier is mask classification with a fixed matching (MaskFormer, Cheng et al.,
    NeurIPS 2021). The probability of the category is the mean over its cells; mask logits are the
    distance to the likeliest other category. Of fewer categories the rest are background.

    Args:
        cell_logits: float32 [B, C, h', w'].
        like: [B, N, h, w], masks on whose grid these are given.
        valid_mask: bool [B, H, W], false in the padding.
    """
    logits = F.interpolate(cell_logits, size=like.shape[-2:], mode="bilinear", align_corners=False)
    # padded, so that nothing asks how many categories there are: an exported graph takes any number
    best, second = F.pad(logits, (0, 0, 0, 0, 0, 1), value=-1e4).topk(2, dim=1).values.split(1, 1)
    margins = logits - torch.where(logits == best, second, best)
    inside = (margins > 0) & resize_valid_mask(valid_mask, like.shape[-2:])[:, None]
    sums = (logits.softmax(1) * inside).sum((2, 3))
    scores = sums / inside.sum((2, 3)).clamp(min=1)
    scores, category = F.pad(scores, (0, like.shape[1])).topk(like.shape[1], dim=1)
    # those without any cell tie, and each runtime has its own order of ties
    last = cell_logits.shape[1] - 1
    category = torch.where(scores > 0, category, last).clamp(max=last)
    scores = scores.clamp(1e-12, 1 - 1e-6)
    class_logits = logits.new_full((*scores.shape, cell_logits.shape[1] + 1), -30.0)
    class_logits.scatter_(2, category[..., None], scores.log()[..., None])
    class_logits[..., -1] = torch.log1p(-scores)
    index = category[..., None, None].expand(-1, -1, *margins.shape[2:])
    return Proposals(class_logits, margins.gather(1, index))


__all__ = ["Proposals", "category_proposals", "joined_classes", "with_cells"]
