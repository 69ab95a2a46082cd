"""Proposals of a small world for tests of tasks and results: two things and one stuff category."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dataseg_hf.model.proposals_dataseg import LayerProposals

CIRCLE, SQUARE, SKY, BACKGROUND = 0, 1, 2, 3
IS_THING = torch.tensor([True, True, False])
STUFF = ~IS_THING
WHOLE = torch.ones(2)


def close(actual: Tensor, expected: object, tolerance: float = 1e-5) -> None:
    wanted = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, wanted, rtol=tolerance, atol=tolerance)


def class_logits(*most_likely: int, categories: int = 3) -> Tensor:
    """One image's queries with the given most likely classes: [1, N, C + 1]."""
    return 10 * F.one_hot(torch.tensor(most_likely), categories + 1).float()[None]


def rectangle_logits(
    size: tuple[int, int], *rectangles: tuple[int, int, int, int], strength: float = 10.0
) -> Tensor:
    """Masks of x0, y0, x1, y1 in cells as logits: [1, N, h, w]."""
    masks = torch.full((len(rectangles), *size), -strength)
    for mask, (x0, y0, x1, y1) in zip(masks, rectangles, strict=True):
        mask[y0:y1, x0:x1] = strength
    return masks[None]


def proposals(classes: Tensor, masks: Tensor) -> LayerProposals:
    """With exactly those masks [B, N, h, w]: a feature per cell."""
    cells = masks[0, 0].numel()
    features = (
        torch.eye(cells, dtype=masks.dtype)
        .view(1, cells, *masks.shape[-2:])
        .expand(len(masks), -1, -1, -1)
    )
    return LayerProposals(classes, masks.flatten(2), features)
