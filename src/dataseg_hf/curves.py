"""Training curves as a picture."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a run has no screen
import matplotlib.pyplot as plt
import numpy as np


def draw_curves(history: Sequence[Mapping[str, str]], path: Path) -> None:
    """Loss per dataset (each step, and its running mean) and learning rate against steps, as PNG."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 7), height_ratios=(3, 1), sharex=True)
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in history:
        points[row["dataset"]].append((int(row["step"]), float(row["loss"])))
    for number, (name, pairs) in enumerate(points.items()):
        steps, losses = np.array(pairs).T
        window = max(1, len(losses) // 20)
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        top.plot(steps, losses, color=f"C{number}", alpha=0.15, linewidth=0.8)
        top.plot(steps[window - 1 :], smooth, color=f"C{number}", label=name)
    top.set_ylabel("loss (weighted sum over decoder layers)")
    top.set_ylim(bottom=0)
    if points:
        top.legend()
    bottom.plot([int(r["step"]) for r in history], [float(r["learning_rate"]) for r in history], color="black")
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("step")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
