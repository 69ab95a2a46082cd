"""The figure of the page: the small dataset with 16, 64 and 256 images."""

from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
from experiments.claims.results import Results

NAME = "shapes_semantic/miou"
IMAGES = {"16": "_16", "64": "", "256": "_256"}
LINES = {
    "co-trained": "co{}",
    "alone, all steps": "alone_semantic{}",
    "alone, a third": "alone_semantic{}_third",
}


def draw(results: Results, folder: Path) -> None:
    """Write `claims_small_dataset.png`: means as lines, seeds as dots."""
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for number, (label, pattern) in enumerate(LINES.items()):
        values = {size: results.values(pattern.format(end), NAME) for size, end in IMAGES.items()}
        dots = [(size, 100 * value) for size, found in values.items() for value in found]
        means = [(size, 100 * fmean(found)) for size, found in values.items() if found]
        axes.plot(*zip(*dots, strict=True), ".", color=f"C{number}")
        axes.plot(*zip(*means, strict=True), color=f"C{number}", label=label)
    axes.set(xlabel="images of the small dataset", ylabel="mIoU in percent")
    axes.legend()
    figure.savefig(folder / "claims_small_dataset.png", dpi=100)
    plt.close(figure)
