"""The picture of docs/datasets.md: a drawn scene with of each object what one set may tell of it.

python docs/figures/degrees.py [FOLDER]     # by default docs
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from dataseg_hf.data.sample import Instances, Sample
from dataseg_hf.data.shapes import SHAPES_OBJECTS, shapes_dataset
from dataseg_hf.model.degrees_dataseg import Degree

SIDE = 96
OBJECTS = 4
TEACHES = {
    Degree.MASK: "a mask: class, mask, dice",
    Degree.BOX: "a box: class, projections, colors",
    Degree.POINT: "a point: class, lies inside, colors",
    Degree.TAG: "a tag: its most likely query",
}
INK = "#ffffff"


def scene() -> Sample:
    """The first training scene with so many objects, of a class each and none of them small."""
    for sample in map(shapes_dataset("shapes_objects", "train", size=SIDE).__getitem__, range(600)):
        assert isinstance(sample.annotation, Instances)
        masks = sample.annotation.masks
        assert masks is not None
        different = len(set(sample.annotation.class_labels.tolist())) == len(masks)
        large = masks.sum(axis=(1, 2)).min(initial=SIDE) > SIDE * SIDE / 40
        if len(masks) == OBJECTS and different and large:
            return sample
    raise ValueError(f"no scene with {OBJECTS} objects")


def draw(axes: Axes, sample: Sample) -> None:
    """The scene, each object in a degree of its own, the most that is known first."""
    objects = sample.annotation
    assert isinstance(objects, Instances)
    assert objects.masks is not None
    axes.imshow(sample.image, interpolation="nearest")
    axes.axis("off")
    lines = []
    for number, degree in enumerate(TEACHES):
        name = SHAPES_OBJECTS.labels[objects.class_labels[number]]
        lines.append(f"{name}: {TEACHES[degree]}")
        left, top, right, bottom = (objects.boxes[number] - 0.5).tolist()
        if degree == Degree.MASK:
            inside = np.where(objects.masks[number], 1.0, np.nan)
            axes.imshow(inside, cmap="gray", vmin=0, vmax=1, alpha=0.5, interpolation="nearest")
            axes.contour(objects.masks[number], levels=[0.5], colors=INK, linewidths=3)
        elif degree == Degree.BOX:
            box = Rectangle((left, top), right - left, bottom - top, fill=False, ec=INK, lw=3)
            axes.add_patch(box)
        elif degree == Degree.POINT:
            y, x = (values.mean() for values in objects.masks[number].nonzero())
            axes.plot(x, y, "o", color=INK, mec="black", ms=11)
    axes.set_title("\n".join(lines), fontsize=9, loc="left")


def main(folder: Path) -> None:
    """Write degrees.png."""
    figure, axes = plt.subplots(figsize=(4.2, 4.9), layout="constrained")
    draw(axes, scene())
    figure.savefig(folder / "degrees.png", dpi=110, metadata={"Software": ""})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
