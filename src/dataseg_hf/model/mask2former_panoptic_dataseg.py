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

from .host_dataseg import to_device, to_host
from .mask_nms_dataseg import Window
from .predictions_dataseg import PanopticPrediction
from .proposals_dataseg import ImageProposals
from .resizing_dataseg import Resize, chosen_maps, spans, valid_grid
from .thresholds_dataseg import DEFAULT_THRESHOLDS, Thresholds

# below this sum of height and width torch enlarges with other arithmetic
MIN_SIDES = 129
# a mask logit, of 0.01
NEARLY_NOTHING = -4.6


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
    maps = chosen_maps(mask_logits[:, :height, :width], kept.tolist())
    windows = _reach(maps, scores, size, thresholds.mask)
    owner, own_areas = _owners(maps, scores, windows, size, thresholds.mask, mask_logits.device)
    visible = [owner[window] == number for number, window in enumerate(windows)]
    large_enough = _large_enough(visible, own_areas, thresholds.overlap)

    id_of = torch.zeros(len(kept) + 1, dtype=torch.int32)
    segments: list[dict] = []
    id_of_category: dict[int, int] = {}
    for number in large_enough.nonzero()[:, 0].tolist():
        label_id, score = int(label_ids[number]), round(float(scores[number]), 6)
        segment_id = id_of_category.get(label_id, len(segments) + 1)
        id_of[number] = segment_id
        if segment_id <= len(segments):
            segments[segment_id - 1]["score"] = max(segments[segment_id - 1]["score"], score)
            continue
        was_fused = bool(is_fused[label_id])
        segments.append(
            {"id": segment_id, "label_id": label_id, "was_fused": was_fused, "score": score}
        )
        if was_fused:
            id_of_category[label_id] = segment_id
    segmentation = to_device(id_of, owner.device).index_select(0, owner.flatten())
    return PanopticPrediction(segmentation.view(size), segments)


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
    maps: list[Tensor], scores: Tensor, size: tuple[int, int], mask_threshold: float
) -> list[Window]:
    """For each proposal a window of the result, outside which it neither wins a pixel nor reaches
    the threshold.

    One of the four cells around a pixel counts for a quarter or more of its value, so who wins
    there has at least a quarter of the best value of that cell, and so a cell with a quarter of the
    least best value around. The best value is that of the largest logit or more, with the least
    score; and a proposal whose logit does not reach a value with the largest score does not reach
    it with its own. So nothing but one map of bounds needs a sigmoid.
    """
    if not maps:
        return []
    largest = torch.stack([logits.amax(-1) for logits in maps])
    best = torch.full_like(maps[0], -torch.inf)
    # a little less than the best, which only makes windows larger, for a fraction of the rows
    for logits, rows in zip(maps, spans(largest > NEARLY_NOTHING), strict=True):
        torch.maximum(best[rows], logits[rows], out=best[rows])
    least_best = _least_around(best).sigmoid_().mul_(0.2499 * float(scores.min()))
    share = least_best.clamp_(max=0.999 * mask_threshold).div_(float(scores.max()))
    least = share.clamp_(max=1 - 1e-6).logit_().sub_(1e-3)
    in_rows = torch.zeros_like(largest, dtype=torch.bool)
    in_columns = torch.zeros(len(maps), best.shape[1], dtype=torch.bool, device=best.device)
    for number, rows in enumerate(spans(largest >= least.amin(-1))):
        if rows.stop > rows.start:
            reached = maps[number][rows] >= least[rows]
            in_rows[number, rows] = reached.any(-1)
            in_columns[number] = reached.any(-2)
    grid = (best.shape[0], best.shape[1])
    return Resize(grid, torch.ones(2), size, best.device).windows(in_rows, in_columns)


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
    maps: list[Tensor],
    scores: Tensor,
    windows: list[Window],
    size: tuple[int, int],
    mask_threshold: float,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """The proposal that each pixel goes to, int32 [H, W], K where there is none, and the area of
    each proposal's own mask, int64 [K].
    """
    owner = torch.full(size, len(maps), dtype=torch.int32, device=device)
    best = torch.full(size, -1.0, device=device)
    areas = torch.zeros(len(scores), dtype=torch.int64, device=device)
    for number, (logits, window, score) in enumerate(
        zip(maps, windows, scores.tolist(), strict=True)
    ):
        if window[0].stop > window[0].start:
            value = _enlarged(logits, size, window).mul_(score)
            areas[number] = (value >= mask_threshold).count_nonzero()
            owner[window].masked_fill_(value > best[window], number)
            torch.maximum(best[window], value, out=best[window])
    return owner, areas


def _enlarged(logits: Tensor, size: tuple[int, int], window: Window) -> Tensor:
    """The window of the sigmoid of a map [h, w] that `F.interpolate` has made of `size`, to the
    bit.

    One axis after the other, which is how torch weights the four cells, so each time only the rows
    or columns of the window are enlarged. On the other axis what lies behind the window is left
    out, but nothing before it: other indices would round another way, and pixels where two
    proposals tie would go to another one.
    """
    if sum(size) < MIN_SIDES:
        whole = logits.sigmoid()[None, None]
        return F.interpolate(whole, size=size, mode="bilinear", align_corners=False)[0, 0][window]
    rows, columns = window
    high, wide = size[0] / logits.shape[0], size[1] / logits.shape[1]
    top, bottom = _cells(rows, logits.shape[0], high)
    left, right = _cells(columns, logits.shape[1], wide)
    if left == 0:  # no column comes before the window: both axes at once
        cells = logits.new_zeros(bottom, right)
        torch.sigmoid(logits[top:bottom, :right], out=cells[top:])
        pixels = _pixels(columns.stop, right, wide, rows.stop)
        at_least = _pixels(rows.stop, bottom, high, pixels)
        return _resized(cells, (at_least, pixels), (high, wide))[window]
    cells = logits.new_zeros(bottom - top, right)
    torch.sigmoid(logits[top:bottom, left:right], out=cells[:, left:])
    pixels = _pixels(columns.stop, right, wide, bottom - top)
    across = _resized(cells, (bottom - top, pixels), (1.0, wide))[:, columns]
    cells = logits.new_zeros(bottom, across.shape[1])
    cells[top:] = across
    pixels = _pixels(rows.stop, bottom, high, across.shape[1])
    return _resized(cells, (pixels, across.shape[1]), (high, 1.0))[rows]


def _resized(cells: Tensor, size: tuple[int, int], scale: tuple[float, float]) -> Tensor:
    """The first pixels of an enlarged map [h, w]; `F.interpolate` takes no size beside a scale."""
    return torch.ops.aten.upsample_bilinear2d(cells[None, None], size, False, *scale)[0, 0]


def _cells(pixels: slice, cells: int, scale: float) -> tuple[int, int]:
    """The cells that those pixels touch, and some more."""
    return max(0, int(pixels.start / scale) - 2), min(cells, int(pixels.stop / scale) + 3)


def _pixels(stop: int, cells: int, scale: float, across: int) -> int:
    """So many pixels of an axis hold those before `stop`, and torch computes them as for the whole
    map.

    Args:
        stop: end of the pixels.
        cells: of the axis.
        scale: pixels per cell.
        across: pixels of the other axis.
    """
    pixels = max(stop, MIN_SIDES - across)
    # torch copies an axis that keeps its length
    return pixels + 1 if scale != 1 and pixels == cells else pixels
