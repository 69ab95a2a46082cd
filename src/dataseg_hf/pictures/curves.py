"""Training curves as a picture."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_MAIN_METRICS = ("pq", "miou", "mask_ap", "box_ap")


def draw_curves(
    history: Sequence[Mapping[str, str]], evaluations: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Loss per dataset (each step, and its running mean), metrics and learning rate against steps,
    as PNG.
    """
    figure = Figure(figsize=(9, 10))  # not of pyplot, which takes longer to import
    FigureCanvasAgg(figure)
    top, middle, bottom = figure.subplots(3, 1, height_ratios=(3, 2, 1), sharex=True)
    _draw_losses(top, history)
    _draw_metrics(middle, evaluations)
    bottom.plot(
        [int(r["step"]) for r in history],
        [float(r["learning_rate"]) for r in history],
        color="black",
    )
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("step")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _draw_losses(axes: Axes, history: Sequence[Mapping[str, str]]) -> None:
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in history:
        points[row["dataset"]].append((int(row["step"]), float(row["loss"])))
    for number, (name, pairs) in enumerate(points.items()):
        steps, losses = np.array(pairs).T
        window = max(1, len(losses) // 20)
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes.plot(steps, losses, color=f"C{number}", alpha=0.15, linewidth=0.8)
        axes.plot(steps[window - 1 :], smooth, color=f"C{number}", label=name)
    axes.set_ylabel("loss (weighted sum over decoder layers)")
    axes.set_ylim(bottom=0)
    if points:
        axes.legend()


def _draw_metrics(axes: Axes, evaluations: Sequence[Mapping[str, Any]]) -> None:
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in evaluations:
        for key, value in row.items():
            if key.rpartition("/")[2] in _MAIN_METRICS and value is not None:
                points[key].append((row["step"], value))
    for key, pairs in points.items():
        steps, values = np.array(pairs).T
        axes.plot(steps, values, marker="o", label=key)
    axes.set_ylabel("metrics (fractions)")
    axes.set_ylim(0, _top([value for pairs in points.values() for _, value in pairs]))
    if points:
        axes.legend()


def _top(values: Sequence[float]) -> float:
    """Where an axis of fractions ends: a little above the highest, so that a small metric is seen
    to grow.
    """
    highest = max(values, default=0.0)
    return min(1.0, 1.1 * highest) if highest > 0 else 1.0
