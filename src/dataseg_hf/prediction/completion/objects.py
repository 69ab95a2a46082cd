"""A mask for each object of which the class and the box are known.

Shapes: N proposals, M objects, h x w mask grid, S x S cells of a crop.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...model.losses_dataseg import axis_projections, interval_cells, pairwise_dice_cost
from ...model.proposals_dataseg import ImageProposals
from ...model.resizing_dataseg import valid_grid
from ..segments import Segment, Size
from .refinement import (
    crop_windows,
    inside_boxes,
    middle_of_box,
    reaching_all_lines,
    refined,
    sampled,
)

TEMPERATURE = 0.05
"""Of the shares that proposals have in a mask (our setting)."""
KNOWN = 0.25
"""Probability of the class, times how well the projections fit, from which on a proposal is held to
show an object: the mask does not lean towards the middle of the box then (our setting).
"""
LEAST_AGREEMENT = 0.5
"""IoU of a box with the tight box of its mask, below which the whole box is the mask: the model
sees too little of the object (our setting).
"""
_SURE = 1e-4  # probabilities stay so far from 0 and 1


@dataclass(frozen=True)
class Completion:
    """The masks of an image's objects.

    Args:
        segments: M of them, in the order of the objects, each within its box. The score is the mean
            probability of the mask's pixels before the colors were looked at; 0 where the mask is
            the whole box, as the model sees too little of the object.
        agreement: [M], IoU of the box with the tight box of the mask.
    """

    segments: Sequence[Segment]
    agreement: NDArray[np.float64]


@torch.no_grad()
def complete_boxes(
    proposals: ImageProposals,
    image: NDArray[np.uint8],
    boxes: NDArray[np.floating],
    class_labels: NDArray[np.int64],
) -> Completion:
    """A mask for each box, inside of it and touching its sides.

    Every proposal has a share in a mask: the greater, the surer it is of the class and the better
    its projections fit the box (as the losses match them). Their mean leans towards the middle of
    the box where no proposal fits, is raised until each row and column of the box meets it, and
    sharpened by the image (`refinement`). All is our setting.

    Args:
        proposals: of the image, in the vocabulary of the labels.
        image: uint8 RGB [H, W, 3].
        boxes: [M, 4], xyxy in pixels, within the image and not empty.
        class_labels: int64 [M].
    """
    if len(boxes) == 0:
        return Completion([], np.zeros(0))
    size = (image.shape[0], image.shape[1])
    masks = proposals.mask_logits.float().sigmoid()
    of_class, cost = _class_and_cost(proposals, boxes, class_labels, size)
    shares = ((of_class - cost) / TEMPERATURE).softmax(0).T
    probability = (shares @ masks.flatten(1)).view(-1, *proposals.grid)
    relative = _relative(boxes, size, probability)
    windows = crop_windows(relative)
    inside = inside_boxes(relative, windows)
    on_canvas = windows * proposals.valid_size.flip(0).repeat(2)
    logits = sampled(probability.clamp(_SURE, 1 - _SURE).logit()[:, None], on_canvas)[:, 0]
    colors = torch.from_numpy(image.copy()).to(probability).permute(2, 0, 1)[None] / 255
    crops = sampled(colors.expand(len(boxes), -1, -1, -1), windows)
    unknown = (1 - (of_class * (1 - cost / 2)).amax(0) / KNOWN).clamp(min=0)
    leaning = logits + unknown[:, None, None] * middle_of_box(logits)
    final = refined(reaching_all_lines(leaning, inside), crops, inside)
    maps = torch.stack([final, logits], dim=1).cpu()
    segments = [
        _segment(of_box, window, box, int(label), size)
        for of_box, window, box, label in zip(maps, windows.cpu(), boxes, class_labels, strict=True)
    ]
    agreement = [_agreement(one, box) for one, box in zip(segments, boxes, strict=True)]
    return Completion(segments, np.array(agreement))


def _class_and_cost(
    proposals: ImageProposals,
    boxes: NDArray[np.floating],
    class_labels: NDArray[np.int64],
    size: Size,
) -> tuple[Tensor, Tensor]:
    """The probability that each proposal has for the class of each object, and the dice cost, 0..2,
    of its projections with those of the box: [N, M] each.

    Args:
        proposals: of the image.
        boxes: [M, 4], xyxy in pixels of the image of `size` (height, width).
        class_labels: int64 [M].
    """
    masks = proposals.mask_logits.float()[None]
    height, width = proposals.grid
    scaled = _relative(boxes, size, masks) * proposals.valid_size.flip(0).repeat(2)
    box_columns = interval_cells(scaled[:, 0], scaled[:, 2], width)[None]
    box_rows = interval_cells(scaled[:, 1], scaled[:, 3], height)[None]
    mask_columns, mask_rows = axis_projections(masks, _cells_of_image(proposals))
    cost = pairwise_dice_cost(mask_columns, box_columns, torch.ones_like(box_columns))
    cost = cost + pairwise_dice_cost(mask_rows, box_rows, torch.ones_like(box_rows))
    labels = torch.from_numpy(class_labels).to(masks.device)
    return proposals.class_probabilities()[:, labels], cost[0]


def _cells_of_image(proposals: ImageProposals) -> Tensor:
    """bool [1, h, w], false in the padding of the canvas."""
    rows, columns = valid_grid(proposals.mask_logits, proposals.valid_size)
    cells = torch.zeros(1, *proposals.grid, dtype=torch.bool, device=proposals.mask_logits.device)
    cells[:, :rows, :columns] = True
    return cells


def _relative(boxes: NDArray[np.floating], size: Size, like: Tensor) -> Tensor:
    """Boxes in 0..1 of the image, [M, 4]."""
    height, width = size
    return torch.from_numpy(boxes).to(like) / like.new_tensor([width, height, width, height])


def _segment(
    maps: Tensor, window: Tensor, box: NDArray[np.floating], label: int, size: Size
) -> Segment:
    """The mask at the pixels of its box, of a crop's logits [2, S, S], refined and not."""
    left, top, right, bottom = pixels_of_box(box, size)
    x = (torch.arange(left, right) + 0.5) / size[1]
    y = (torch.arange(top, bottom) + 0.5) / size[0]
    start, extent = window[:2], window[2:] - window[:2]
    across, down = (x - start[0]) / extent[0], (y - start[1]) / extent[1]
    points = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)[None]
    final, before = F.grid_sample(
        maps[None], 2 * points - 1, padding_mode="border", align_corners=False
    )[0]
    mask = (final > min(0.0, float(final.max()) - 1e-6)).numpy()  # one pixel at least
    score = float(before.sigmoid().numpy()[mask].mean())
    found = Segment(label, score, mask, top, left)
    if _agreement(found, box) < LEAST_AGREEMENT:
        return Segment(label, 0.0, np.ones_like(mask), top, left)
    return found


def pixels_of_box(box: NDArray[np.floating], size: Size) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels that a box [4], xyxy, touches, one at least."""
    height, width = size
    left = min(max(0, int(np.floor(box[0] + 1e-3))), width - 1)
    top = min(max(0, int(np.floor(box[1] + 1e-3))), height - 1)
    right = max(left + 1, min(width, int(np.ceil(box[2] - 1e-3))))
    bottom = max(top + 1, min(height, int(np.ceil(box[3] - 1e-3))))
    return left, top, right, bottom


def _agreement(segment: Segment, box: NDArray[np.floating]) -> float:
    """IoU of the tight box of a segment with a box xyxy."""
    x, y, width, height = segment.box
    common_width = min(x + width, box[2]) - max(x, box[0])
    common_height = min(y + height, box[3]) - max(y, box[1])
    common = max(common_width, 0.0) * max(common_height, 0.0)
    union = width * height + (box[2] - box[0]) * (box[3] - box[1]) - common
    return float(common / union)


__all__ = ["Completion", "complete_boxes", "pixels_of_box"]
