"""Non-maximum suppression of instances by the IoU of their masks, within a category (our setting).

Two masks are compared only where their windows and areas allow such an IoU, and only where the
windows overlap: time and memory grow with the pairs that may repeat each other, not with (number of
masks)^2 x (size of the image).
"""

from collections.abc import Sequence
from math import isqrt
from numbers import Real

import numpy as np
from numpy.typing import NDArray

Window = tuple[slice, slice]  # rows and columns of an image; empty ones are 0:0
# of what people look at; chosen by benchmarks/repeated_instances.py (docs/evaluation.md)
DEFAULT_IOU = 0.7
# pixels on which two masks are compared at most: an IoU is then off by less than 0.01
SAMPLES = 2**15


def checked_iou(nms: float | None) -> float | None:
    """The option `nms`; ValueError unless it is None or an IoU in 0..1."""
    if nms is None:
        return None
    if isinstance(nms, bool) or not isinstance(nms, Real) or not 0 <= nms <= 1:
        raise ValueError(f"`nms` must be None or an IoU in 0..1, got {nms!r:.40}")
    return float(nms)


def without_repeats(
    masks: Sequence[NDArray[np.bool_]],
    windows: Sequence[Window],
    areas: Sequence[int],
    label_ids: Sequence[int],
    max_iou: float,
) -> list[int]:
    """Places of the instances that stay, in order: those whose IoU with every better one of their
    category that stays is at most `max_iou`.

    Args:
        masks: K binary masks [h, w], each within its window; best first.
        windows: rows and columns of the image, of each mask.
        areas: pixels of each mask.
        label_ids: category of each.
        max_iou: 0..1.
    """
    kept: dict[int, list[int]] = {}
    for place, label_id in enumerate(label_ids):
        better = kept.setdefault(label_id, [])
        if not any(
            _may_exceed(windows[place], areas[place], windows[other], areas[other], max_iou)
            and _iou(
                masks[place],
                windows[place],
                areas[place],
                masks[other],
                windows[other],
                areas[other],
            )
            > max_iou
            for other in better
        ):
            better.append(place)
    return sorted(place for places in kept.values() for place in places)


def _may_exceed(window: Window, area: int, other: Window, other_area: int, iou: float) -> bool:
    """Whether masks of these areas in these windows can have a larger IoU."""
    most = min(area, other_area, _pixels(_shared(window, other)))
    return most > iou * (area + other_area - most)


def _iou(
    mask: NDArray[np.bool_],
    window: Window,
    area: int,
    other: NDArray[np.bool_],
    other_window: Window,
    other_area: int,
) -> float:
    """Intersection over union; of large windows on every n-th row and column."""
    shared = _shared(window, other_window)
    step = 1 + isqrt((_pixels(shared) - 1) // SAMPLES)
    both = _part(mask, window, shared, step) & _part(other, other_window, shared, step)
    common = min(np.count_nonzero(both) / both.size * _pixels(shared), area, other_area)
    return common / (area + other_area - common)


def _shared(window: Window, other: Window) -> Window:
    """The part of the image in both windows, which may be empty."""
    rows, columns = (
        slice(max(one.start, two.start), max(one.start, two.start, min(one.stop, two.stop)))
        for one, two in zip(window, other, strict=True)
    )
    return rows, columns


def _pixels(window: Window) -> int:
    rows, columns = window
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def _part(mask: NDArray[np.bool_], window: Window, part: Window, step: int) -> NDArray[np.bool_]:
    """Every n-th row and column of a part of the image that lies within the mask's window."""
    rows, columns = (
        slice(inner.start - outer.start, inner.stop - outer.start, step)
        for inner, outer in zip(part, window, strict=True)
    )
    return mask[rows, columns]


__all__ = ["DEFAULT_IOU", "Window", "checked_iou", "without_repeats"]
