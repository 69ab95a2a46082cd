"""Panoptic results by the rules of transformers' Mask2Former, for checkpoints whose results shall
stay what they were.

They differ from ours (`postprocessing_dataseg.py`) in that probabilities are enlarged instead of
logits, every pixel goes to some proposal, the score counts in the area of a proposal's own mask,
and proposals of a fused category are kept or dropped one by one. On a grid of 384 x 384 cells, to
which transformers first resizes all masks, the result is that of transformers, bit for bit, save
that the segment counter is never set back, which there gives some things one id; that a fused
segment is listed once; and that a map without a segment is 0, not -1.

Shapes: N queries, C categories, h x w mask grid, H x W result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .mask_nms_dataseg import Window
from .predictions_dataseg import PanopticPrediction
from .proposals_dataseg import ImageProposals
from .resizing_dataseg import Resize, spans, to_device, to_host, valid_grid
from .thresholds_dataseg import DEFAULT_THRESHOLDS, Thresholds


@torch.no_grad()
def mask2former_panoptic_prediction(
    proposals: ImageProposals,
    fused: Tensor,
    size: tuple[int, int] | None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> PanopticPrediction:
    """One id map: a segment per thing, and per fused category one segment, whose score is that of
    its best proposal.

    A pixel goes to the proposal with the largest class probability times mask probability; a
    proposal is kept when it has more than `thresholds.overlap` of the pixels where that product
    reaches `thresholds.mask`.

    Args:
        proposals: of the image; padding is cropped to whole cells.
        fused: bool [C], categories with one segment per image.
        size: height and width of the result in pixels; None keeps the mask grid.
        thresholds: what a proposal needs; `score` is the class probability above which it takes
            part.
    """
    mask_logits = proposals.mask_logits
    scores, label_ids, is_fused, valid_size = to_host(
        *proposals.likeliest_classes(), fused, proposals.valid_size
    )
    height, width = grid = valid_grid(mask_logits, valid_size)
    size = size or grid
    kept = ((label_ids < len(is_fused)) & (scores > thresholds.score)).nonzero()[:, 0]
    scores, label_ids = scores[kept], label_ids[kept]
    # one by one, as small maps find their memory sooner than one large one
    probabilities = [
        mask_logits[query, :height, :width].float().sigmoid() for query in kept.tolist()
    ]
    score_of = to_device(scores, mask_logits.device)
    windows = _reach(probabilities, score_of, size, thresholds.mask)
    owner, own_areas = _owners(probabilities, score_of, windows, size, thresholds.mask)
    visible = [owner[window] == number for number, window in enumerate(windows)]
    large_enough = _large_enough(visible, own_areas, thresholds.overlap)

    segmentation = torch.zeros(size, dtype=torch.int32, device=mask_logits.device)
    segments: list[dict] = []
    id_of_category: dict[int, int] = {}
    for number in large_enough.nonzero()[:, 0].tolist():
        label_id, score = int(label_ids[number]), round(float(scores[number]), 6)
        segment_id = id_of_category.get(label_id, len(segments) + 1)
        segmentation[windows[number]].masked_fill_(visible[number], segment_id)
        if segment_id <= len(segments):
            segments[segment_id - 1]["score"] = max(segments[segment_id - 1]["score"], score)
            continue
        was_fused = bool(is_fused[label_id])
        segments.append(
            {"id": segment_id, "label_id": label_id, "was_fused": was_fused, "score": score}
        )
        if was_fused:
            id_of_category[label_id] = segment_id
    return PanopticPrediction(segmentation, segments)


def _large_enough(visible: list[Tensor], own_areas: Tensor, min_share: float) -> Tensor:
    """Whether each of K proposals keeps more than a share of its own mask: bool [K] on the host."""
    if not visible:
        return torch.zeros(0, dtype=torch.bool)
    areas, own_areas = to_host(
        torch.stack([pixels.count_nonzero() for pixels in visible]), own_areas
    )
    # a quotient of float32 against a threshold of float64, as there
    shares = (areas / own_areas).double()
    return (areas > 0) & (own_areas > 0) & (shares > min_share)


def _reach(
    probabilities: list[Tensor], scores: Tensor, size: tuple[int, int], mask_threshold: float
) -> list[Window]:
    """For each proposal a window of the result, outside which it neither wins a pixel nor reaches
    the threshold.

    One of the four cells around a pixel counts for a quarter or more of its value, so who wins
    there has at least a quarter of the best value of that cell, and so a cell with a quarter of the
    least best value around.
    """
    if not probabilities:
        return []
    best = torch.zeros_like(probabilities[0])
    largest = torch.stack([probability.amax(-1) for probability in probabilities]) * scores[:, None]
    # a little less than the best, which only makes windows larger, for a fraction of the rows
    for probability, score, rows in zip(probabilities, scores, spans(largest > 0.01), strict=True):
        torch.maximum(best[rows], probability[rows] * score, out=best[rows])
    least = (0.2499 * _least_around(best)).clamp(max=0.999 * mask_threshold)
    in_rows = torch.zeros_like(largest, dtype=torch.bool)
    in_columns = torch.zeros(len(scores), best.shape[1], dtype=torch.bool, device=best.device)
    for number, rows in enumerate(spans(largest >= least.amin(-1))):
        if rows.stop > rows.start:
            excess = torch.addcmul(-least[rows], probabilities[number][rows], scores[number])
            in_rows[number, rows] = excess.amax(-1) >= 0
            in_columns[number] = excess.amax(-2) >= 0
    whole = torch.ones(2)
    grid = (best.shape[0], best.shape[1])
    return Resize(grid, whole, size, best.device).windows(in_rows, in_columns)


def _least_around(values: Tensor) -> Tensor:
    """The least of the 3 x 3 values around each of [h, w]; a pooling layer takes ten times as
    long.
    """
    for axis in (0, 1):
        least, count = values.clone(), values.shape[axis] - 1
        for to, start in ((0, 1), (1, 0)):
            here = least.narrow(axis, to, count)
            torch.minimum(here, values.narrow(axis, start, count), out=here)
        values = least
    return values


def _owners(
    probabilities: list[Tensor],
    scores: Tensor,
    windows: list[Window],
    size: tuple[int, int],
    mask_threshold: float,
) -> tuple[Tensor, Tensor]:
    """The proposal that each pixel goes to, int32 [H, W], and the area of each proposal's own mask,
    int64 [K].
    """
    owner = torch.zeros(size, dtype=torch.int32, device=scores.device)
    best = torch.full(size, -1.0, device=scores.device)
    areas = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    for number, (probability, window) in enumerate(zip(probabilities, windows, strict=True)):
        value = _enlarged(probability, size, window) * scores[number]
        areas[number] = (value >= mask_threshold).sum()
        owner[window].masked_fill_(value > best[window], number)
        torch.maximum(best[window], value, out=best[window])
    return owner, areas


# up to this sum of height and width torch enlarges with other arithmetic
MIN_SIDES = 129


def _enlarged(probability: Tensor, size: tuple[int, int], window: Window) -> Tensor:
    """The window of a map [h, w] that `F.interpolate` has made of `size`, to the bit.

    What lies behind the window is left out, but nothing before it: other indices would round
    another way, and pixels where two proposals tie would go to another one.
    """
    height, width = probability.shape
    scale = size[0] / height, size[1] / width
    rows = _cells_before(window[0].stop, height, scale[0])
    columns = _cells_before(window[1].stop, width, scale[1])
    if int(rows * scale[0]) + int(columns * scale[1]) < MIN_SIDES:
        rows, columns = height, width
    if (rows, columns) == (height, width):
        enlarged = F.interpolate(
            probability[None, None], size=size, mode="bilinear", align_corners=False
        )
    else:
        part = probability[None, None, :rows, :columns]
        enlarged = F.interpolate(part, scale_factor=scale, mode="bilinear", align_corners=False)
    return enlarged[0, 0][window]


def _cells_before(stop: int, cells: int, scale: float) -> int:
    """So many cells are enough for the pixels before `stop`."""
    enough = int(stop / scale) + 3
    while scale != 1 and enough < cells and int(enough * scale) == enough:
        enough += 1  # torch copies an axis that keeps its length
    return min(enough, cells)
