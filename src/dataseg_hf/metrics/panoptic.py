"""Panoptic quality (Kirillov et al., CVPR 2019, arXiv 1801.00868), counted by the rules of COCO's panopticapi."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.sample import Segments
from .validation import check_labels, check_same_size, check_segments, check_state, integer_map

PanopticState: TypeAlias = dict[str, NDArray[Any]]


class PanopticQuality:
    """PQ, SQ and RQ over all classes, things and stuff.

    `state`: `iou` float64 [C], the summed IoU of matched segments; `tp`, `fp`, `fn` int64 [C].
    """

    def __init__(self, labels: Sequence[str], is_thing: Sequence[bool]) -> None:
        self.labels = check_labels(labels)
        self.is_thing = np.asarray(is_thing, dtype=bool)
        if self.is_thing.shape != (len(self.labels),):
            raise ValueError(f"is_thing: expected {len(self.labels)} flags as labels, got {self.is_thing.shape}")
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        num_classes = len(self.labels)
        self.state: PanopticState = {"iou": np.zeros(num_classes, dtype=np.float64)}
        self.state |= {key: np.zeros(num_classes, dtype=np.int64) for key in ("tp", "fp", "fn")}

    def update(self, pred_map: ArrayLike, pred_segments: Sequence[Mapping[str, Any]], truth: Segments) -> None:
        """Count one image; arguments and errors as for `panoptic_counts`."""
        self.merge(panoptic_counts(pred_map, pred_segments, truth, len(self.labels)))

    def merge(self, other_state: PanopticState) -> None:
        """Add the state of another PanopticQuality over the same classes."""
        check_state(self.state, other_state)
        self.state = {key: self.state[key] + other_state[key] for key in self.state}

    def compute(self) -> dict[str, Any]:
        """Results as described in `panoptic_quality`."""
        return panoptic_quality(self.state, self.labels, self.is_thing)


def panoptic_counts(
    pred_map: ArrayLike, pred_segments: Sequence[Mapping[str, Any]], truth: Segments, num_classes: int
) -> PanopticState:
    """Matched IoU, true positives, false positives and false negatives per class, of one image.

    The rules of `panopticapi/evaluation.py`: two segments of one class match where IoU > 0.5; the union leaves out the
    part of the prediction that lies in void. A truth segment without match is a false negative, unless it is a crowd.
    A predicted segment without match is a false positive, unless more than half of it lies in void or in crowds of its
    class. A truth segment without pixels is a false negative, a predicted one is an error. (COCO has at most one crowd
    per class and image; of several we count all, panopticapi only the last.)

    Args:
        pred_map: int [H, W], segment id per pixel; -1 and every id that `pred_segments` does not list is unassigned.
        pred_segments: dicts with `id` and `label_id`, as transformers' `segments_info`. An id may be listed again with
            the same label.
        truth: the annotation, [H, W].
        num_classes: C.

    Raises:
        ValueError: for maps of different size, ids out of range, a listed segment without pixels.
    """
    predicted = integer_map(pred_map, "pred_map")
    check_segments(truth, num_classes)
    check_same_size(predicted, truth.segment_map)
    pred_ids, pred_labels = _listed_segments(pred_segments, num_classes)

    # Index 0 stands for void in the truth and for unassigned in the prediction; class -1 belongs to both.
    truth_class = np.concatenate([[-1], truth.class_labels])
    truth_crowd = np.concatenate([[False], truth.is_crowd])
    pred_class = np.concatenate([[-1], pred_labels])
    truth_index = truth.segment_map.astype(np.int64) + 1
    pred_index = _index_of(predicted, pred_ids)

    pairs, overlap = np.unique(truth_index * len(pred_class) + pred_index, return_counts=True)
    t, p = np.divmod(pairs, len(pred_class))
    truth_area = _sum_by(t, overlap, len(truth_class))
    pred_area = _sum_by(p, overlap, len(pred_class))
    _check_listed_have_pixels(pred_ids, pred_area[1:])
    in_void = np.where(t == 0, overlap, 0)
    void_area = _sum_by(p, in_void, len(pred_class))

    same_class = (t > 0) & (p > 0) & (truth_class[t] == pred_class[p])
    union = pred_area[p] + truth_area[t] - overlap - void_area[p]
    iou = np.divide(overlap, union, out=np.zeros(len(pairs)), where=same_class)
    matched = same_class & ~truth_crowd[t] & (iou > 0.5)

    missed = np.setdiff1d(np.flatnonzero(~truth_crowd), t[matched])
    missed = missed[missed > 0]
    excused_area = _sum_by(p, in_void + np.where(same_class & truth_crowd[t], overlap, 0), len(pred_class))
    wrong = np.setdiff1d(np.flatnonzero(2 * excused_area <= pred_area), p[matched])
    wrong = wrong[wrong > 0]

    matched_class = truth_class[t[matched]]
    return {
        "iou": np.bincount(matched_class, weights=iou[matched], minlength=num_classes),
        "tp": np.bincount(matched_class, minlength=num_classes),
        "fp": np.bincount(pred_class[wrong], minlength=num_classes),
        "fn": np.bincount(truth_class[missed], minlength=num_classes),
    }


def panoptic_quality(state: PanopticState, labels: Sequence[str], is_thing: NDArray[np.bool_]) -> dict[str, Any]:
    """PQ = SQ * RQ per class, and its averages.

    PQ = iou / (tp + fp / 2 + fn / 2), SQ = iou / tp (0 without tp), RQ = tp / (tp + fp / 2 + fn / 2).

    Returns:
        `pq`, `sq`, `rq`: means over the classes with tp + fp + fn > 0, `nan` if there is none; the same with the
        suffixes `_things` and `_stuff`; `per_class`: label -> `pq`, `sq`, `rq` (`nan` where the class never occurred),
        `tp`, `fp`, `fn`.
    """
    iou, tp, fp, fn = (state[key] for key in ("iou", "tp", "fp", "fn"))
    weight = tp + 0.5 * (fp + fn)
    occurred = weight > 0
    undefined = np.where(occurred, 0.0, np.nan)
    values = {
        "pq": np.divide(iou, weight, out=undefined.copy(), where=occurred),
        "sq": np.divide(iou, tp, out=undefined.copy(), where=tp > 0),
        "rq": np.divide(tp, weight, out=undefined.copy(), where=occurred),
    }
    groups = {"": occurred, "_things": occurred & is_thing, "_stuff": occurred & ~is_thing}
    result: dict[str, Any] = {
        key + suffix: float(value[group].mean()) if group.any() else float("nan")
        for suffix, group in groups.items()
        for key, value in values.items()
    }
    result["per_class"] = {
        label: {key: float(value[i]) for key, value in values.items()}
        | {key: int(state[key][i]) for key in ("tp", "fp", "fn")}
        for i, label in enumerate(labels)
    }
    return result


def _listed_segments(
    segments: Sequence[Mapping[str, Any]], num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids in ascending order and their classes, both [K]."""
    label_of: dict[int, int] = {}
    for segment in segments:
        segment_id, label_id = int(segment["id"]), int(segment["label_id"])
        if segment_id < 0:
            raise ValueError(f"pred_segments: id {segment_id} is negative; negative ids mean unassigned")
        if not 0 <= label_id < num_classes:
            raise ValueError(
                f"pred_segments: segment {segment_id} has label_id {label_id}, allowed: 0..{num_classes - 1}"
            )
        if label_of.setdefault(segment_id, label_id) != label_id:
            raise ValueError(
                f"pred_segments: id {segment_id} is listed with labels {label_of[segment_id]} and {label_id}"
            )
    ids = sorted(label_of)
    return np.array(ids, dtype=np.int64), np.array([label_of[i] for i in ids], dtype=np.int64)


def _index_of(id_map: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 + position in the sorted `ids` for every pixel, 0 where its id is not among them."""
    if not ids.size:
        return np.zeros_like(id_map)
    position = np.searchsorted(ids, id_map).clip(max=len(ids) - 1)
    return np.where(ids[position] == id_map, position + 1, 0)


def _sum_by(index: NDArray[np.int64], values: NDArray[Any], length: int) -> NDArray[np.int64]:
    """Sums of integer `values` that share an index, int64 [length]."""
    return np.bincount(index, weights=values, minlength=length).astype(np.int64)


def _check_listed_have_pixels(ids: NDArray[np.int64], areas: NDArray[np.int64]) -> None:
    if (areas == 0).any():
        raise ValueError(
            f"pred_segments: segment {ids[areas == 0][0]} has no pixel in pred_map; leave it out of the list"
        )
