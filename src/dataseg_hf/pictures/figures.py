"""The confusion matrix and precision-recall curves of a set, as PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..metrics.instances import ApCurves

MAX_WRITTEN = 25
"""Classes up to which the cells of a confusion matrix are written out."""
MAX_CURVES = 12
"""Classes up to which each has a curve of its own color and a line in the legend."""
SHOWN_THRESHOLDS = (0, 3, 5, 7, 9)
"""Places of the IoU thresholds 0.50, 0.65, 0.75, 0.85 and 0.95."""


def draw_confusion(confusion: NDArray[np.int64], labels: Sequence[str], path: Path) -> None:
    """Draw which share of the pixels of each true class was predicted as each class, in percent.

    Classes without true pixels have no row, and classes that were neither true nor predicted no
    column.

    Args:
        confusion: int64 [C, C + 1] (`metrics.semantic`).
        labels: names [C].
        path: of the picture.
    """
    names, total = np.array(labels), confusion.sum(axis=1)
    rows = np.flatnonzero(total)
    columns = np.flatnonzero(confusion[:, :-1].sum(axis=0) + total)
    shares = 100 * confusion[np.ix_(rows, columns)] / total[rows, None]
    is_small = len(columns) <= MAX_WRITTEN
    side, text = (0.45, 9) if is_small else (0.16, 6)  # inches per class, points
    height = 2.5 + side * len(rows)
    figure = _figure(3.5 + side * len(columns), height)
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(columns)), names[columns].tolist(), rotation=90, fontsize=text)
    axes.set_yticks(range(len(rows)), names[rows].tolist(), fontsize=text)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if is_small:
        for y, x in np.argwhere(shares >= 0.5).tolist():
            color = "white" if shares[y, x] > 50 else "black"
            axes.text(
                x, y, f"{shares[y, x]:.0f}", ha="center", va="center", fontsize=8, color=color
            )
    figure.colorbar(picture, ax=axes, label="% of the true pixels", shrink=min(0.8, 4 / height))
    figure.savefig(path, dpi=110)


def draw_precision_recall(curves: ApCurves, labels: Sequence[str], title: str, path: Path) -> None:
    """Precision against recall: the mean over classes at several IoU thresholds, and every class at
    IoU 0.5.

    Only classes that occur in the truth. Of more than `MAX_CURVES` classes all are gray but the
    best and the worst.
    """
    precision = curves.precision[..., 0, -1]  # [10, 101, C]
    present = np.flatnonzero(precision[0, 0] > -1)
    recalls = np.linspace(0, 1, precision.shape[1])
    figure = _figure(13, 5)
    left, right = figure.subplots(1, 2, sharey=True)
    if len(present):
        for place in SHOWN_THRESHOLDS:
            mean = precision[place][:, present].mean(axis=1)
            name = f"IoU {0.5 + 0.05 * place:.2f}: AP {mean.mean():.3f}"
            left.plot(recalls, mean, color=_blue(place / 9), label=name)
    left.set_title(f"{title}: mean of {len(present)} classes")
    by_ap = present[np.argsort(-precision[0][:, present].mean(axis=0), kind="stable")].tolist()
    half = MAX_CURVES // 2
    named = by_ap if len(by_ap) <= MAX_CURVES else [*by_ap[:half], *by_ap[-half:]]
    for label_id in by_ap[half:-half] if len(by_ap) > MAX_CURVES else []:
        right.plot(recalls, precision[0][:, label_id], color="0.85", linewidth=0.8)
    for number, label_id in enumerate(named):
        curve = precision[0][:, label_id]
        style = "-" if number < 10 else "--"  # matplotlib's cycle has ten colors
        right.plot(
            recalls,
            curve,
            style,
            color=f"C{number % 10}",
            label=f"{labels[label_id]}: {curve.mean():.3f}",
        )
    right.set_title("single classes at IoU 0.50: AP50")
    for axes in (left, right):
        axes.set(xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    left.set_ylabel("precision")
    figure.savefig(path, dpi=110)


def _figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, which needs no screen."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _blue(darkness: float) -> tuple[float, float, float]:
    """From light (0) to dark (1)."""
    return 0.55 * (1 - darkness), 0.75 - 0.65 * darkness, 0.95 - 0.5 * darkness
