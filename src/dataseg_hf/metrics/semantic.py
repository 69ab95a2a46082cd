"""Mean IoU of semantic segmentation, over the pixels of all images together (the convention of
ADE20K and mmseg).
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.sample import Segments
from .pixel_runs import clamp_outside, pixel_runs
from .validation import check_labels, check_same_size, check_segments, check_state, integer_map

SemanticState: TypeAlias = dict[str, NDArray[np.int64]]


class MeanIoU:
    """Mean IoU, frequency-weighted IoU, pixel and mean accuracy.

    `state` holds `confusion`, int64 [C, C + 1]: rows are the truth, columns the prediction; the
    last column counts predictions that are no class.
    """

    def __init__(self, labels: Sequence[str], ignore_index: int = -1) -> None:
        self.labels = check_labels(labels)
        self.ignore_index = ignore_index
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        num_classes = len(self.labels)
        self.state: SemanticState = {
            "confusion": np.zeros((num_classes, num_classes + 1), dtype=np.int64)
        }

    def update(self, pred: ArrayLike, truth: ArrayLike) -> None:
        """Count one image; arguments and errors as for `confusion_matrix`."""
        self.state["confusion"] += confusion_matrix(
            pred, truth, len(self.labels), self.ignore_index
        )

    def merge(self, other_state: SemanticState) -> None:
        """Add the state of another MeanIoU over the same classes."""
        check_state(self.state, other_state)
        self.state = {"confusion": self.state["confusion"] + other_state["confusion"]}

    def compute(self) -> dict[str, Any]:
        """Results as described in `iou_scores`."""
        return iou_scores(self.state["confusion"], self.labels)


def confusion_matrix(
    pred: ArrayLike, truth: ArrayLike, num_classes: int, ignore_index: int = -1
) -> NDArray[np.int64]:
    """Pixels per (true class, predicted class), int64 [C, C + 1]; pixels without a true class are
    left out.

    Args:
        pred: int [H, W]; a value outside 0..C-1 counts as wrong, in the last column.
        truth: int [H, W].
        num_classes: the number of classes, C.
        ignore_index: value of `truth` that is left out; it may be a class, which then has no pixels
            of its own.

    Raises:
        ValueError: for maps of different size, or a true class that is neither in 0..C-1 nor
            `ignore_index`.
    """
    predicted, true = integer_map(pred, "pred"), integer_map(truth, "truth")
    check_same_size(predicted, true)
    side = num_classes + 1  # the last row holds void, the last column what is no class
    blocks = []
    for row, column, length in pixel_runs(true, predicted):
        known = clamp_outside(row, num_classes)
        _check_void(row[known == num_classes], num_classes, ignore_index)
        pair = known * side + clamp_outside(column, num_classes)
        blocks.append(np.bincount(pair, weights=length, minlength=side * side))
    confusion = reduce(np.add, blocks).reshape(side, side).astype(np.int64)
    if 0 <= ignore_index < num_classes:
        confusion[ignore_index] = 0
    return confusion[:num_classes]


def iou_scores(confusion: NDArray[np.int64], labels: Sequence[str]) -> dict[str, Any]:
    """Scores of a confusion matrix [C, C + 1].

    Returns:
        A dictionary with these keys; a value is `nan` where there is nothing to average.

        - `miou`: mean IoU over the classes that occur in truth or prediction (union > 0), as
          mmseg's nan-mean;
        - `fwiou`: IoU weighted by the share of true pixels;
        - `pixel_acc`: share of labeled pixels that are right;
        - `mean_acc`: mean recall over the classes that occur in the truth;
        - `per_class`: label -> `iou`, `acc`.
    """
    right = np.diag(confusion)
    true = confusion.sum(axis=1)
    union = true + confusion[:, :-1].sum(axis=0) - right
    total = true.sum()
    iou = np.divide(right, union, out=np.full(len(labels), np.nan), where=union > 0)
    accuracy = np.divide(right, true, out=np.full(len(labels), np.nan), where=true > 0)
    return {
        "miou": float(iou[union > 0].mean()) if (union > 0).any() else float("nan"),
        "fwiou": float((iou * true)[true > 0].sum() / total) if total else float("nan"),
        "pixel_acc": float(right.sum() / total) if total else float("nan"),
        "mean_acc": float(accuracy[true > 0].mean()) if total else float("nan"),
        "per_class": {
            label: {"iou": float(iou[i]), "acc": float(accuracy[i])}
            for i, label in enumerate(labels)
        },
    }


def semantic_map(truth: Segments) -> NDArray[np.int32]:
    """Class per pixel, int32 [H, W], -1 where void: the segments of one class become one, crowds
    among them.

    Raises:
        ValueError: if `segment_map` holds an index that `class_labels` does not have.
    """
    check_segments(truth, num_classes=int(truth.class_labels.max(initial=0)) + 1)
    class_of = np.append(truth.class_labels, -1).astype(np.int32)
    return class_of[truth.segment_map]  # void is -1 and so finds the appended -1


def _check_void(values: NDArray[np.int64], num_classes: int, ignore_index: int) -> None:
    """Check that the true values that are no class are `ignore_index`."""
    unknown = values[values != ignore_index]
    if unknown.size:
        raise ValueError(
            f"truth: value {unknown[0]} is neither a class (0..{num_classes - 1}) nor the ignored "
            f"{ignore_index}; map raw ids to classes first"
        )
