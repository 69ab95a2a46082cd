"""Panoptic results by the rules of transformers' Mask2Former, for checkpoints whose results shall stay what they were.

They differ from ours (`postprocessing_dataseg.py`) in that probabilities are enlarged instead of logits, every pixel
goes to some proposal, the score counts in the area of a proposal's own mask, and proposals of a fused category are kept
or dropped one by one. On a grid of 384 x 384 cells, to which transformers first resizes all masks, the result is that
of transformers, bit for bit, save that the segment counter is never set back, which there gives some things one id;
that a fused segment is listed once; and that a map without a segment is 0, not -1.

Shapes: N queries, C categories, h x w mask grid, H x W result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .postprocessing_dataseg import PanopticPrediction, Resize, Window, valid_grid


def mask2former_panoptic_prediction(
    class_logits: Tensor,
    mask_logits: Tensor,
    fused: Tensor,
    valid_size: Tensor,
    size: tuple[int, int] | None,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
) -> PanopticPrediction:
    """One id map: a segment per thing, and per fused category one segment, whose score is that of its best proposal.

    A pixel goes to the proposal with the largest class probability times mask probability; a proposal is kept when it
    has more than `overlap_mask_area_threshold` of the pixels where that product reaches `mask_threshold`.

    Args:
        class_logits: [N, C + 1]. mask_logits: [N, h, w]. fused: bool [C], categories with one segment per image.
        valid_size: [2]; padding is cropped to whole cells.
        size: height and width of the output; None keeps the mask grid.
        threshold: the class probability above which a proposal takes part.
    """
    height, width = grid = valid_grid(mask_logits, valid_size)
    size = size or grid
    scores, label_ids = class_logits.float().softmax(-1).max(-1)
    kept = ((label_ids < len(fused)) & (scores > threshold)).nonzero()[:, 0]
    scores, label_ids = scores[kept], label_ids[kept]
    # one by one, as small maps find their memory sooner than one large one
    probabilities = [mask_logits[query, :height, :width].float().sigmoid() for query in kept.tolist()]
    windows = _reach(probabilities, scores, size, mask_threshold)
    owner, own_areas = _owners(probabilities, scores, windows, size, mask_threshold)

    visible = [owner[window] == number for number, window in enumerate(windows)]
    areas = torch.tensor([int(pixels.sum()) for pixels in visible], dtype=torch.int64, device=owner.device)
    shares = (areas / own_areas).double()  # a quotient of float32 against a threshold of float64, as there
    large_enough = (areas > 0) & (own_areas > 0) & (shares > overlap_mask_area_threshold)
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
        was_fused = bool(fused[label_id])
        segments.append({"id": segment_id, "label_id": label_id, "was_fused": was_fused, "score": score})
        if was_fused:
            id_of_category[label_id] = segment_id
    return PanopticPrediction(segmentation, segments)


def _reach(probabilities: list[Tensor], scores: Tensor, size: tuple[int, int], mask_threshold: float) -> list[Window]:
    """For each proposal a window of the result, outside which it neither wins a pixel nor reaches the threshold.

    One of the four cells around a pixel counts for a quarter or more of its value, so who wins there has at least a
    quarter of the best value of that cell, and so a cell with a quarter of the least best value around.
    """
    if not probabilities:
        return []
    best = torch.zeros_like(probabilities[0])
    for probability, score in zip(probabilities, scores, strict=True):
        torch.maximum(best, probability * score, out=best)
    least_around = -F.max_pool2d(-best[None], 3, stride=1, padding=1)[0]
    least = (0.2499 * least_around).clamp(max=0.999 * mask_threshold)
    rows, columns = [], []
    for probability, score in zip(probabilities, scores, strict=True):
        excess = torch.addcmul(-least, probability, score)
        rows.append(excess.amax(-1) >= 0)
        columns.append(excess.amax(-2) >= 0)
    whole = torch.ones(2, device=best.device)
    resize = Resize((best.shape[0], best.shape[1]), whole, size)
    return resize.windows(torch.stack(rows), torch.stack(columns))


def _owners(
    probabilities: list[Tensor], scores: Tensor, windows: list[Window], size: tuple[int, int], mask_threshold: float
) -> tuple[Tensor, Tensor]:
    """The proposal that each pixel goes to, int32 [H, W], and the area of each proposal's own mask, int64 [K]."""
    owner = torch.zeros(size, dtype=torch.int32, device=scores.device)
    best = torch.full(size, -1.0, device=scores.device)
    areas = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    for number, (probability, window) in enumerate(zip(probabilities, windows, strict=True)):
        # enlarged as a whole: other indices would round another way, and ties go to another proposal
        enlarged = F.interpolate(probability[None, None], size=size, mode="bilinear", align_corners=False)
        value = enlarged[0, 0][window] * scores[number]
        areas[number] = (value >= mask_threshold).sum()
        owner[window].masked_fill_(value > best[window], number)
        torch.maximum(best[window], value, out=best[window])
    return owner, areas
