"""The reference algorithms that the metrics are compared with, in tests bit for bit and in
benchmarks by time.

Written from the published descriptions of the algorithms, because neither library is on the package
index or usable without the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

VOID = 0
IDS = 256**3
"""Segment ids are below this, three bytes of a PNG."""


@dataclass
class PanopticTotals:
    """Sums per category id over the images seen so far."""

    iou: dict[int, float] = field(default_factory=dict)
    tp: dict[int, int] = field(default_factory=dict)
    fp: dict[int, int] = field(default_factory=dict)
    fn: dict[int, int] = field(default_factory=dict)

    def quality(self, categories: Sequence[int]) -> tuple[float, float, float]:
        """PQ, SQ, RQ, each a mean over those categories that occurred; one or more must have."""
        pq = sq = rq = 0.0
        count = 0
        for category in categories:
            iou, tp = self.iou.get(category, 0.0), self.tp.get(category, 0)
            fp, fn = self.fp.get(category, 0), self.fn.get(category, 0)
            if tp + fp + fn == 0:
                continue
            count += 1
            pq += iou / (tp + 0.5 * fp + 0.5 * fn)
            sq += iou / tp if tp else 0.0
            rq += tp / (tp + 0.5 * fp + 0.5 * fn)
        return pq / count, sq / count, rq / count


def add_panoptic_image(
    totals: PanopticTotals,
    true: NDArray[np.integer],
    true_segments: Sequence[Mapping[str, Any]],
    predicted: NDArray[np.integer],
    pred_segments: Sequence[Mapping[str, Any]],
) -> None:
    """Count one image as panopticapi does: sorted unique pairs of ids, then Python loops over pairs
    and segments.

    Segments are dicts with `id`, `category_id`, `iscrowd`; the id 0 is void. Every id of the maps
    is listed or 0, and every listed predicted segment has pixels.
    """
    truth = {segment["id"]: segment for segment in true_segments}
    prediction = {segment["id"]: segment for segment in pred_segments}
    pred_area = dict(
        zip(*(values.tolist() for values in np.unique(predicted, return_counts=True)), strict=True)
    )
    true_area = dict(
        zip(*(values.tolist() for values in np.unique(true, return_counts=True)), strict=True)
    )
    pairs, pixels = np.unique(
        true.astype(np.uint64) * IDS + predicted.astype(np.uint64), return_counts=True
    )
    overlap = {
        divmod(pair, IDS): count
        for pair, count in zip(pairs.tolist(), pixels.tolist(), strict=True)
    }

    matched_truth, matched_prediction = set(), set()
    for (t, p), intersection in overlap.items():
        if t not in truth or p not in prediction or truth[t]["iscrowd"]:
            continue
        category = truth[t]["category_id"]
        if category != prediction[p]["category_id"]:
            continue
        union = pred_area[p] + true_area[t] - intersection - overlap.get((VOID, p), 0)
        iou = intersection / union
        if iou > 0.5:
            totals.tp[category] = totals.tp.get(category, 0) + 1
            totals.iou[category] = totals.iou.get(category, 0.0) + iou
            matched_truth.add(t)
            matched_prediction.add(p)

    crowd_of_category: dict[int, int] = {}
    for t, segment in truth.items():
        if t in matched_truth:
            continue
        if segment["iscrowd"]:
            crowd_of_category[segment["category_id"]] = t
        else:
            totals.fn[segment["category_id"]] = totals.fn.get(segment["category_id"], 0) + 1
    for p, segment in prediction.items():
        if p in matched_prediction:
            continue
        category = segment["category_id"]
        excused = overlap.get((VOID, p), 0)
        if category in crowd_of_category:
            excused += overlap.get((crowd_of_category[category], p), 0)
        if excused / pred_area[p] <= 0.5:
            totals.fp[category] = totals.fp.get(category, 0) + 1


def mean_iou_areas(
    pred: NDArray[np.integer], truth: NDArray[np.integer], num_classes: int, ignore_index: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """What `evaluate`'s mean_iou (and mmsegmentation's, from which it comes) counts for one image.

    Three histograms with one bin per class: pixels that are right, predicted pixels, true pixels;
    each int [C].
    """
    pred, truth = np.array(pred), np.array(truth)
    counted = truth != ignore_index
    pred, truth = pred[counted], truth[counted]
    right, predicted, true = (
        np.histogram(values, bins=num_classes, range=(0, num_classes - 1))[0]
        for values in (pred[pred == truth], pred, truth)
    )
    return right, predicted, true
