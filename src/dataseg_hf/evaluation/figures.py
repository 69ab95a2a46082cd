"""The confusion matrix and precision-recall curves of a set, as PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..metrics.instances import ApCurves

MOST_WRITTEN = 25
"""Classes up to which the cells of a confusion matrix are written out."""
MOST_CURVES = 12
"""Classes up to which each has a curve of its own colour and a line in the legend."""


def draw_confusion(confusion: NDArray[np.int64], labels: Sequence[str], path: Path) -> None:
    """Shares of the pixels of each true class that were predicted as each class: rows add up to 100 %.

    confusion: int64 [C, C + 1] (`metrics.semantic`). Classes without true pixels are left out of the rows, and classes
    that were neither true nor predicted altogether.
    """
    counts = confusion[:, :-1]
    rows = np.flatnonzero(confusion.sum(axis=1))
    columns = np.flatnonzero(counts.sum(axis=0) + confusion.sum(axis=1))
    shares = 100 * counts[np.ix_(rows, columns)] / confusion[rows].sum(axis=1, keepdims=True)
    side = 0.45 if len(columns) <= MOST_WRITTEN else 0.16  # inches per class
    figure = Figure(figsize=(3.5 + side * len(columns), 2.5 + side * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    text = 9 if len(columns) <= MOST_WRITTEN else 6
    axes.set_xticks(range(len(columns)), [labels[i] for i in columns], rotation=90, fontsize=text)
    axes.set_yticks(range(len(rows)), [labels[i] for i in rows], fontsize=text)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(columns) <= MOST_WRITTEN:
        for y, x in np.argwhere(shares >= 0.5):
            colour = "white" if shares[y, x] > 50 else "black"
            axes.text(x, y, f"{shares[y, x]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(picture, ax=axes, label="% of the true pixels", shrink=0.8)
    figure.savefig(path, dpi=110)


def draw_precision_recall(curves: ApCurves, labels: Sequence[str], title: str, path: Path) -> None:
    """Precision against recall: the mean over classes at several IoU thresholds, and every class at IoU 0.5.

    Only classes that occur in the truth. Of more than `MOST_CURVES` classes all are grey but the best and the worst.
    """
    precision = curves.precision[..., 0, -1]  # [10, 101, C]
    present = np.flatnonzero(precision[0, 0] > -1)
    recalls = np.linspace(0, 1, precision.shape[1])
    figure = Figure(figsize=(13, 5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for place, threshold in ((0, 0.5), (3, 0.65), (5, 0.75), (7, 0.85), (9, 0.95)):
        if len(present):
            mean = precision[place][:, present].mean(axis=1)
            left.plot(recalls, mean, color=f"{0.75 - 0.15 * (place / 2):.2f}" if place else "C0", alpha=1)
            left.lines[-1].set_color(_shade(place))
            left.lines[-1].set_label(f"IoU {threshold:.2f}: AP {mean.mean():.3f}")
    left.set_title(f"{title}: mean of {len(present)} classes")
    by_ap = present[np.argsort(-precision[0][:, present].mean(axis=0), kind="stable")]
    named = by_ap if len(by_ap) <= MOST_CURVES else np.concatenate([by_ap[: MOST_CURVES // 2], by_ap[-MOST_CURVES // 2 :]])
    for label_id in np.setdiff1d(by_ap, named):
        right.plot(recalls, precision[0][:, label_id], color="0.85", linewidth=0.8)
    for number, label_id in enumerate(named):
        curve = precision[0][:, label_id]
        style = "-" if number < 10 else "--"
        right.plot(recalls, curve, style, color=f"C{number % 10}", label=f"{labels[label_id]}: {curve.mean():.3f}")
    right.set_title("single classes at IoU 0.50: AP50")
    for axes in (left, right):
        axes.set_xlabel("recall")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    left.set_ylabel("precision")
    figure.savefig(path, dpi=110)


def _shade(place: int) -> tuple[float, float, float]:
    """Blue that grows darker with the IoU threshold."""
    share = place / 9
    return (0.55 * (1 - share), 0.75 * (1 - share) + 0.1 * share, 0.95 - 0.5 * share)
