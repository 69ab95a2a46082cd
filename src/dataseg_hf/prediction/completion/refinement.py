"""Masks sharpened by the colors and edges of the image inside of known boxes.

A mean-field approximation of a conditional random field, as in DenseCRF (Krähenbühl and Koltun,
NeurIPS 2011), with GrabCut's terms (Rother et al., SIGGRAPH 2004): what the network says of each
pixel, the colors of the object and of its surroundings, and neighbors of like color that belong
together. It runs on crops of one size, all objects of an image at once. That and all numbers are
our setting.

Shapes: K objects, S x S cells of a crop.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 64
"""Cells of a crop's side, S."""
MARGIN = 0.25
"""What a crop shows around its box, in parts of the box's sides."""
STEPS = 5
NEIGHBORS, COLORS = 2.0, 1.0
"""Weights of the neighbors and of the colors, beside the network's logits."""
BINS = 8
"""Of a channel, in the histograms of the colors."""
MIDDLE, MIDDLE_RADIUS = 2.0, 1.3
"""Weight of being near the middle of the box, and the squared distance, in halves of its sides, at
which nothing speaks for or against a pixel: objects seldom fill the corners of their boxes.
"""
LARGEST = 2.0
"""Greatest logit of the network, and of the colors, that counts."""
MOST_RAISED = 4.0
"""By which logits are raised at most, so that a mask meets its box."""
OUTSIDE = -20.0
"""The logit of what lies outside of the box."""
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))


def crop_windows(boxes: Tensor) -> Tensor:
    """The windows of the crops around boxes [K, 4], xyxy in any unit: [K, 4]."""
    margin = MARGIN * (boxes[:, 2:] - boxes[:, :2])
    return torch.cat([boxes[:, :2] - margin, boxes[:, 2:] + margin], dim=1)


def sampled(maps: Tensor, windows: Tensor) -> Tensor:
    """Crops of maps, bilinear at the centers of their cells; beyond the border its values.

    Args:
        maps: [K, C, H, W].
        windows: [K, 4], xyxy in 0..1 of the maps.

    Returns:
        [K, C, S, S].
    """
    x, y = _cell_centers(windows)
    points = torch.stack(
        [x[:, None].expand(-1, SIDE, -1), y[:, :, None].expand(-1, -1, SIDE)], dim=-1
    )
    return F.grid_sample(maps, 2 * points - 1, padding_mode="border", align_corners=False)


def inside_boxes(boxes: Tensor, windows: Tensor) -> Tensor:
    """Cells of the crops whose centers lie in the boxes [K, 4], of the unit of the windows: bool
    [K, S, S].
    """
    x, y = _cell_centers(windows)
    columns = (x >= boxes[:, 0, None]) & (x < boxes[:, 2, None])
    rows = (y >= boxes[:, 1, None]) & (y < boxes[:, 3, None])
    return rows[:, :, None] & columns[:, None]


def _cell_centers(windows: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of the centers of the cells: [K, S] each."""
    centers = (torch.arange(SIDE, device=windows.device) + 0.5) / SIDE
    start, extent = windows[:, :2], windows[:, 2:] - windows[:, :2]
    return start[:, :1] + extent[:, :1] * centers, start[:, 1:] + extent[:, 1:] * centers


def middle_of_box(logits: Tensor) -> Tensor:
    """What the place in the box says of each cell of the crops [K, S, S], as a logit: [S, S]."""
    from_middle = torch.linspace(-1, 1, 2 * SIDE + 1, device=logits.device)[1::2]
    squared = (from_middle * (1 + 2 * MARGIN)).square()
    return MIDDLE * (MIDDLE_RADIUS - squared[:, None] - squared)


def reaching_all_lines(logits: Tensor, inside: Tensor) -> Tensor:
    """The logits, raised until every row and column of the box meets the mask, as in a tight box of
    an object in one piece; by `MOST_RAISED` at most. [K, S, S].
    """
    within = logits.masked_fill(~inside, OUTSIDE)
    columns = within.amax(1).masked_fill(~inside.any(1), torch.inf)
    rows = within.amax(2).masked_fill(~inside.any(2), torch.inf)
    weakest = torch.cat([columns, rows], dim=1).amin(1)
    return logits + (-weakest).clamp(0, MOST_RAISED)[:, None, None]


def refined(logits: Tensor, colors: Tensor, inside: Tensor) -> Tensor:
    """Logits [K, S, S] after the mean-field steps.

    Args:
        logits: [K, S, S], of the network.
        colors: [K, 3, S, S], RGB in 0..1.
        inside: bool [K, S, S], what lies in the box.
    """
    weights, bins = _neighbor_weights(colors), _bins(colors)
    own = logits.clamp(-LARGEST, LARGEST)
    state = own.masked_fill(~inside, OUTSIDE)
    for _ in range(STEPS):
        probability = state.sigmoid()
        state = own + NEIGHBORS * _messages(2 * probability - 1, weights)
        state = state + COLORS * _color_logits(bins, probability)
        state = state.masked_fill(~inside, OUTSIDE)
    return state


# --- neighbors


def _neighbor_weights(colors: Tensor) -> list[Tensor]:
    """How much each cell and its neighbor of each shift are alike, in 0..1: [K, S, S], 0 where
    there is no neighbor. A difference is compared with the mean one of its crop, as in GrabCut.
    """
    squared = [(colors - _neighbor(colors, shift)).square().sum(1) for shift in _SHIFTS]
    mean = torch.stack(squared).mean((0, 2, 3)).clamp(min=1e-6)[:, None, None]
    there = torch.ones_like(squared[0])
    return [
        (-one / (2 * mean)).exp() * _neighbor(there, shift)
        for shift, one in zip(_SHIFTS, squared, strict=True)
    ]


def _messages(state: Tensor, weights: list[Tensor]) -> Tensor:
    """What the eight neighbors say to each cell, weighted: [K, S, S]."""
    total = torch.zeros_like(state)
    for shift, weight in zip(_SHIFTS, weights, strict=True):
        total = total + weight * _neighbor(state, shift)
        total = total + _neighbor(weight * state, (-shift[0], -shift[1]))
    return total


def _neighbor(maps: Tensor, shift: tuple[int, int]) -> Tensor:
    """The value of each cell's neighbor so many rows and columns away; 0 beyond the border."""
    rows, columns = shift
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (1, 1, 1, 1))
    return padded[..., 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]


# --- colors


def _bins(colors: Tensor) -> Tensor:
    """The bin of each cell's color: int64 [K, S * S]."""
    levels = (colors.clamp(0, 1) * BINS).long().clamp(max=BINS - 1)
    return ((levels[:, 0] * BINS + levels[:, 1]) * BINS + levels[:, 2]).flatten(1)


def _color_logits(bins: Tensor, probability: Tensor) -> Tensor:
    """log P(color | object) - log P(color | surroundings): [K, S, S]."""
    inside, outside = (_log_shares(bins, one.flatten(1)) for one in (probability, 1 - probability))
    return (inside - outside).clamp(-LARGEST, LARGEST).view_as(probability)


def _log_shares(bins: Tensor, weights: Tensor) -> Tensor:
    """The logarithm of the share that each cell's color has of the weights [K, S * S], to which one
    cell of every color alike is added.
    """
    counts = weights.new_full((len(bins), BINS**3), 1 / BINS**3)
    counts = counts.scatter_add(1, bins, weights)
    return (counts / counts.sum(1, keepdim=True)).gather(1, bins).log()


__all__ = ["crop_windows", "inside_boxes", "reaching_all_lines", "refined", "sampled"]
