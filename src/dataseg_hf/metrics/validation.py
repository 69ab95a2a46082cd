"""Checks that the metrics share: bad input is refused where it enters, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.sample import Segments


def check_labels(labels: Sequence[str]) -> list[str]:
    """Class names as a list; they key the per-class results, so each may occur once.

    Raises:
        ValueError: if there are none, or a name occurs twice.
    """
    names = list(labels)
    if not names:
        raise ValueError("labels: a metric needs at least one class")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"labels: {repeated} occur more than once; class names must differ, they key the "
            "results"
        )
    return names


def integer_map(values: Any, name: str) -> NDArray[np.integer]:
    """`values` as an integer array [H, W], not copied where it is one.

    Tensors of any device, and floats that are whole numbers, are taken too: transformers'
    post-processing gives a float32 map of -1 for an image in which it finds nothing.

    Raises:
        ValueError: for anything but whole numbers in two dimensions.
    """
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if (
        array.ndim == 2
        and array.dtype.kind == "f"
        and (array == np.rint(array)).all()
        and np.isfinite(array).all()
    ):
        array = array.astype(np.int64)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: expected an integer map [H, W], got {array.dtype} of shape {array.shape}"
        )
    return array


def check_same_size(pred: NDArray[Any], truth: NDArray[Any]) -> None:
    """Check that prediction and truth, both [H, W], have one size.

    Raises:
        ValueError: if they differ.
    """
    if pred.shape != truth.shape:
        raise ValueError(
            f"prediction is {pred.shape}, truth is {truth.shape} (height, width); "
            "post-process the prediction to the size of the annotation"
        )


def check_class_ids(class_ids: NDArray[Any], num_classes: int, name: str) -> None:
    """Check `class_ids`, int [M].

    Raises:
        ValueError: for another form, or an id outside 0..num_classes - 1.
    """
    if class_ids.ndim != 1 or (class_ids.size and class_ids.dtype.kind not in "iu"):
        raise ValueError(
            f"{name}: expected integers [M], got {class_ids.dtype} of shape {class_ids.shape}"
        )
    outside = class_ids[(class_ids < 0) | (class_ids >= num_classes)]
    if outside.size:
        raise ValueError(
            f"{name}: class index {outside[0]} is out of range, the metric has {num_classes} "
            "classes"
        )


def check_segments(truth: Segments, num_classes: int) -> None:
    """Check that the parts of `truth` fit each other and the classes of the metric.

    Raises:
        ValueError: for parts that contradict each other, or a class that the metric does not have.
    """
    integer_map(truth.segment_map, "truth.segment_map")
    check_class_ids(truth.class_labels, num_classes, "truth.class_labels")
    count = len(truth.class_labels)
    if truth.is_crowd.shape != (count,):
        raise ValueError(
            f"truth.is_crowd: expected shape ({count},) as class_labels, got {truth.is_crowd.shape}"
        )
    if truth.segment_map.size:
        low, high = truth.segment_map.min(), truth.segment_map.max()
        if low < -1 or high >= count:
            raise ValueError(
                f"truth.segment_map: values {low}..{high} are outside -1..{count - 1} ({count} "
                "segments)"
            )


def check_state(state: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> None:
    """Check that two states of counts, arrays [C] or [C, C] by name, can be added.

    Raises:
        ValueError: unless they come from the same metric with the same number of classes.
    """
    layout = {key: value.shape for key, value in state.items()}
    other_layout = {key: np.shape(value) for key, value in other.items()}
    if layout != other_layout:
        raise ValueError(
            f"merge: state {other_layout} does not fit this metric's {layout}; use the same classes"
        )
