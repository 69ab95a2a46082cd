"""Panoptic quality (Kirillov et al., CVPR 2019, arXiv 1801.00868), counted by the rules of COCO's
panopticapi.
"""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.sample import Segments
from .pixel_runs import clamp_outside, pixel_runs
from .validation import check_labels, check_same_size, check_segments, check_state, integer_map

PanopticState: TypeAlias = dict[str, NDArray[Any]]

IOU_UNIT = 2.0**-53
"""A matched IoU lies in (0.5, 1], where every float64 is a whole multiple of this: its sums can be
kept exactly.
"""

LARGEST_TABLE = 2**20
"""Pairs of segments up to which the overlaps are counted in a dense table."""


class PanopticCounts(NamedTuple):
    """One image: `iou` float64 [C], summed IoU of the matches; `tp`, `fp`, `fn` int64 [C]."""

    iou: NDArray[np.float64]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]


class PanopticQuality:
    """PQ, SQ and RQ over all classes, things and stuff.

    Per image the counts equal those of panopticapi bit for bit. Over images panopticapi adds
    floats, so that its last bits depend on its number of processes; here the sums of the images are
    added exactly, in any order.

    `state` holds `iou_units`, Python integers [C], the summed IoU of matches in units of 2^-53, and
    `tp`, `fp`, `fn`, int64 [C].
    """

    def __init__(self, labels: Sequence[str], is_thing: Sequence[bool]) -> None:
        self.labels = check_labels(labels)
        self.is_thing = np.asarray(is_thing, dtype=bool)
        if self.is_thing.shape != (len(self.labels),):
            raise ValueError(
                f"is_thing: expected {len(self.labels)} flags as labels, got {self.is_thing.shape}"
            )
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        num_classes = len(self.labels)
        self.state: PanopticState = {"iou_units": np.zeros(num_classes, dtype=object)}
        self.state |= {key: np.zeros(num_classes, dtype=np.int64) for key in ("tp", "fp", "fn")}

    def update(
        self,
        pred_map: ArrayLike,
        pred_segments: Sequence[Mapping[str, Any]],
        truth: Segments,
        open_classes: Collection[int] = (),
    ) -> None:
        """Count one image.

        Args:
            pred_map, pred_segments: as for `panoptic_counts`, as are the errors.
            truth: segments of the image.
            open_classes: those of which the image may show more than the truth has. Predictions of
                them that match nothing count nowhere (LVIS's rule for average precision).
        """
        check_segments(truth, len(self.labels))
        listed = [
            {"id": index, "label_id": label, "iscrowd": crowd}
            for index, (label, crowd) in enumerate(
                zip(truth.class_labels, truth.is_crowd, strict=True)
            )
        ]
        counts = panoptic_counts(
            pred_map, pred_segments, truth.segment_map, listed, len(self.labels)
        )
        counts.fp[list(open_classes)] = 0
        self.add(counts)

    def add(self, counts: PanopticCounts) -> None:
        """Count one image by what `panoptic_counts` made of it."""
        units = np.array([int(iou / IOU_UNIT) for iou in counts.iou.tolist()], dtype=object)
        self.merge({"iou_units": units, "tp": counts.tp, "fp": counts.fp, "fn": counts.fn})

    def merge(self, other_state: PanopticState) -> None:
        """Add the state of another PanopticQuality over the same classes."""
        check_state(self.state, other_state)
        self.state = {key: self.state[key] + other_state[key] for key in self.state}

    def compute(self) -> dict[str, Any]:
        """Results as described in `panoptic_quality`."""
        return panoptic_quality(self.state, self.labels, self.is_thing)


def panoptic_counts(
    pred_map: ArrayLike,
    pred_segments: Sequence[Mapping[str, Any]],
    truth_map: ArrayLike,
    truth_segments: Sequence[Mapping[str, Any]],
    num_classes: int,
) -> PanopticCounts:
    """Matched IoU, true positives, false positives and false negatives per class, of one image.

    The rules of `panopticapi/evaluation.py`: two segments of one class match where IoU > 0.5; the
    union leaves out the part of the prediction that lies in void. A crowd matches nothing. A truth
    segment without match is a false negative, unless it is a crowd. A predicted segment without
    match is a false positive, unless more than half of it lies in void or in the crowd of its class
    (of several crowds of one class the one listed last; COCO has one). A truth segment without
    pixels is a false negative, a predicted one is an error.

    Args:
        pred_map: int [H, W], segment id per pixel; -1 and every id that `pred_segments` does not
            list is unassigned.
        pred_segments: dicts with `id` >= 0 and `label_id` in 0..C-1, as transformers'
            `segments_info`. An id that is listed again is one segment, of the label listed last, as
            in panopticapi; two labels are warned of.
        truth_map: int [H, W], segment id per pixel; every id that `truth_segments` does not list is
            void.
        truth_segments: dicts with `id`, `label_id`, and `iscrowd` (0 where absent).
        num_classes: the number of classes, C.

    Raises:
        ValueError: for maps of different size, labels out of range, a listed predicted segment
            without pixels.
    """
    predicted, true = integer_map(pred_map, "pred_map"), integer_map(truth_map, "truth_map")
    check_same_size(predicted, true)
    truth_ids, truth_labels = _listed_segments(
        truth_segments, num_classes, "truth_segments", _refuse
    )
    pred_ids, pred_labels = _listed_segments(
        pred_segments, num_classes, "pred_segments", _warn_of_shared_ids
    )
    is_crowd, crowd_of_class = _crowds(truth_segments, truth_ids, num_classes)

    # Place 0 stands for void in the truth and for unassigned in the prediction; class -1 belongs to
    # both.
    truth_class, pred_class = np.append(-1, truth_labels), np.append(-1, pred_labels)
    t, p, overlap = _overlaps(true, predicted, truth_ids, pred_ids)
    truth_area = _sum_by(t, overlap, len(truth_class))
    pred_area = _sum_by(p, overlap, len(pred_class))
    _check_listed_have_pixels(pred_ids, pred_area[1:])
    in_void = np.where(t == 0, overlap, 0)
    void_area = _sum_by(p, in_void, len(pred_class))

    same_class = (t > 0) & (p > 0) & (truth_class[t] == pred_class[p])
    union = pred_area[p] + truth_area[t] - overlap - void_area[p]
    iou = np.divide(overlap, union, out=np.zeros(len(overlap)), where=same_class)
    matched = same_class & ~is_crowd[t] & (iou > 0.5)

    missed = ~is_crowd
    missed[t[matched]] = missed[0] = False
    excused_area = void_area + _sum_by(
        p,
        np.where((p > 0) & (t > 0) & (crowd_of_class[pred_class[p]] == t), overlap, 0),
        len(pred_class),
    )
    wrong = 2 * excused_area <= pred_area
    wrong[p[matched]] = wrong[0] = False

    matched_class = truth_class[t[matched]]
    return PanopticCounts(
        iou=_iou_by_class(matched_class, iou[matched], num_classes),
        tp=np.bincount(matched_class, minlength=num_classes),
        fp=np.bincount(pred_class[wrong], minlength=num_classes),
        fn=np.bincount(truth_class[missed], minlength=num_classes),
    )


def panoptic_quality(
    state: PanopticState, labels: Sequence[str], is_thing: NDArray[np.bool_]
) -> dict[str, Any]:
    """PQ = SQ * RQ per class, and its averages (Kirillov et al., CVPR 2019).

    PQ = iou / (tp + fp / 2 + fn / 2), SQ = iou / tp (0 without tp),
    RQ = tp / (tp + fp / 2 + fn / 2).

    Args:
        state: counts of each class [C]. labels, is_thing [C]: of the classes.

    Returns:
        `pq`, `sq`, `rq`: means over the classes with tp + fp + fn > 0, `nan` if there is none; the
        same with the suffixes `_things` and `_stuff`; `per_class`: label -> `pq`, `sq`, `rq` (`nan`
        where the class never occurred), `tp`, `fp`, `fn`.
    """
    tp, fp, fn = (state[key] for key in ("tp", "fp", "fn"))
    # of integers: rounds only once
    iou = np.array([units / 2**53 for units in state["iou_units"]], dtype=np.float64)
    weight = tp + 0.5 * fp + 0.5 * fn
    occurred = weight > 0
    undefined = np.where(occurred, 0.0, np.nan)
    values = {
        "pq": np.divide(iou, weight, out=undefined.copy(), where=occurred),
        "sq": np.divide(iou, tp, out=undefined.copy(), where=tp > 0),
        "rq": np.divide(tp, weight, out=undefined.copy(), where=occurred),
    }
    groups = {"": occurred, "_things": occurred & is_thing, "_stuff": occurred & ~is_thing}
    result: dict[str, Any] = {
        key + suffix: _mean_in_order(value[group])
        for suffix, group in groups.items()
        for key, value in values.items()
    }
    result["per_class"] = {
        label: {key: float(value[i]) for key, value in values.items()}
        | {key: int(state[key][i]) for key in ("tp", "fp", "fn")}
        for i, label in enumerate(labels)
    }
    return result


def unlisted_ids(id_map: ArrayLike, segments: Sequence[Mapping[str, Any]]) -> list[int]:
    """Ids that occur in `id_map`, int [H, W], but in none of `segments`, ascending."""
    array = integer_map(id_map, "id_map")
    found = {int(value) for values, _, _ in pixel_runs(array, array) for value in np.unique(values)}
    return sorted(found - {int(segment["id"]) for segment in segments})


def _listed_segments(
    segments: Sequence[Mapping[str, Any]],
    num_classes: int,
    name: str,
    on_two_labels: Callable[[str], None],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids in ascending order and their classes, both [K]; of an id with two labels the last one."""
    label_of: dict[int, int] = {}
    for segment in segments:
        segment_id, label_id = int(segment["id"]), int(segment["label_id"])
        if segment_id < 0:
            raise ValueError(f"{name}: id {segment_id} is negative; negative ids mean unassigned")
        if not 0 <= label_id < num_classes:
            raise ValueError(
                f"{name}: segment {segment_id} has label_id {label_id}, allowed: "
                f"0..{num_classes - 1}"
            )
        if label_of.get(segment_id, label_id) != label_id:
            on_two_labels(
                f"{name}: id {segment_id} is listed with labels {label_of[segment_id]} and "
                f"{label_id}"
            )
        label_of[segment_id] = label_id
    ids = sorted(label_of)
    return np.array(ids, dtype=np.int64), np.array([label_of[i] for i in ids], dtype=np.int64)


def _refuse(message: str) -> None:
    raise ValueError(message)


def _warn_of_shared_ids(message: str) -> None:
    warnings.warn(
        f"{message}, and counts as the last one. transformers numbers segments so after it has "
        "fused stuff (Mask2Former, MaskFormer, OneFormer); such predictions score too low",
        stacklevel=4,
    )


def _crowds(
    segments: Sequence[Mapping[str, Any]], ids: NDArray[np.int64], num_classes: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Crowd flag per place, bool [K + 1], and per class the place of the crowd that excuses, int64
    [C], -1 if none.
    """
    is_crowd = np.zeros(len(ids) + 1, dtype=bool)
    of_class = np.full(num_classes, -1, dtype=np.int64)
    for segment in segments:
        if segment.get("iscrowd", 0):
            place = int(np.searchsorted(ids, segment["id"])) + 1
            is_crowd[place] = True
            of_class[segment["label_id"]] = place
    return is_crowd, of_class


def _overlaps(
    true: NDArray[Any],
    predicted: NDArray[Any],
    truth_ids: NDArray[np.int64],
    pred_ids: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of places that share pixels, in ascending order, and how many pixels: three int64
    [N].
    """
    width, height = len(pred_ids) + 1, len(truth_ids) + 1
    runs = (
        (_place_of(true_id, truth_ids) * width + _place_of(pred_id, pred_ids), length)
        for true_id, pred_id, length in pixel_runs(true, predicted)
    )
    if width * height <= LARGEST_TABLE:
        table = np.zeros(width * height, dtype=np.int64)
        for pair, length in runs:
            table += _sum_by(pair, length, len(table))
        pairs = np.flatnonzero(table)
        overlap = table[pairs]
    else:
        parts = list(runs)
        pairs, place = np.unique(np.concatenate([pair for pair, _ in parts]), return_inverse=True)
        overlap = _sum_by(place, np.concatenate([length for _, length in parts]), len(pairs))
    return *np.divmod(pairs, width), overlap


def _place_of(values: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 + position in the sorted `ids` for every value, 0 where it is not among them."""
    if not ids.size:
        return np.zeros_like(values)
    # a table that is no longer than the values is quicker than the search
    if ids[-1] < values.size:
        table = np.zeros(ids[-1] + 2, dtype=np.int64)
        table[ids] = np.arange(1, len(ids) + 1)
        return table[clamp_outside(values, len(table) - 1)]
    position = np.searchsorted(ids, values).clip(max=len(ids) - 1)
    return np.where(ids[position] == values, position + 1, 0)


def _sum_by(index: NDArray[np.int64], values: NDArray[Any], length: int) -> NDArray[np.int64]:
    """Sums of integer `values` that share an index, int64 [length]."""
    return np.bincount(index, weights=values, minlength=length).astype(np.int64)


def _iou_by_class(
    classes: NDArray[np.int64], iou: NDArray[np.float64], num_classes: int
) -> NDArray[np.float64]:
    """Sums of `iou` per class, added in the order of the pairs, as panopticapi does."""
    sums = np.zeros(num_classes, dtype=np.float64)
    np.add.at(sums, classes, iou)
    return sums


def _mean_in_order(values: NDArray[np.float64]) -> float:
    """Mean by adding one value after the other, as panopticapi does; numpy's pairwise sum has other
    last bits.
    """
    return float(np.cumsum(values)[-1] / len(values)) if len(values) else float("nan")


def _check_listed_have_pixels(ids: NDArray[np.int64], areas: NDArray[np.int64]) -> None:
    if (areas == 0).any():
        raise ValueError(
            f"pred_segments: segment {ids[areas == 0][0]} has no pixel in pred_map; leave it out "
            "of the list"
        )
