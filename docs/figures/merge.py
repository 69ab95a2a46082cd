"""The pictures of docs/merge.md: proposals made up for a drawn scene, and what the package's
functions make of them.

python docs/figures/merge.py [FOLDER]     # by default beside this file
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dataseg_hf import TASKS, DaTaSegConfig
from dataseg_hf.data.collate import Normalization, collate
from dataseg_hf.data.sample import Sample, Segments
from dataseg_hf.data.shapes import SHAPES_SEMANTIC, shapes_dataset
from dataseg_hf.data.transforms import resize_only
from dataseg_hf.model.losses_dataseg import axis_projections, dice_loss
from dataseg_hf.model.merging_dataseg import Groups, matched_masks, merged_masks
from dataseg_hf.model.proposals_dataseg import ImageProposals, LayerProposals
from dataseg_hf.model.supervision_dataseg import LossInputs, mask_groups, resolve_loss_weights
from dataseg_hf.model.targets_dataseg import BoxTargets, SegmentMapTargets, Truth, count_targets
from dataseg_hf.model.thresholds_dataseg import DEFAULT_THRESHOLDS, Thresholds
from dataseg_hf.pictures.overlay import category_color, overlay, semantic_overlay

# which scene of the held-out set, its pixels, pixels of a cell of the mask grid
SCENE, SIDE, STRIDE = 110, 96, 2
NAMES, IS_THING = SHAPES_SEMANTIC.labels, torch.tensor(SHAPES_SEMANTIC.is_thing)
BACKGROUND = len(NAMES)
STANDARD = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
MIN_SCORE = 0.3  # of an instance that is drawn
INK = "#202020"


@dataclass
class Made:
    """A proposal that is made up: the category that it takes itself for, how sure it is, its mask
    bool [SIDE, SIDE].
    """

    label: int
    probability: float
    mask: Tensor

    @property
    def name(self) -> str:
        """Of its category."""
        return "background" if self.label == BACKGROUND else NAMES[self.label]


# --- the scene and its proposals ------------------------------------------------------------------


def scene() -> Sample:
    """A drawn scene with its full truth: an object per segment."""
    return shapes_dataset("shapes_semantic", "eval", size=SIDE, count=SCENE + 1)[SCENE]


def made_proposals(sample: Sample) -> list[Made]:
    """Two halves of the largest stuff, every other segment, two objects of one category in one, and
    the background.
    """
    assert isinstance(sample.annotation, Segments)
    segment_map, labels = (
        torch.from_numpy(sample.annotation.segment_map),
        sample.annotation.class_labels.tolist(),
    )
    masks = [segment_map == number for number in range(len(labels))]
    stuff = [number for number, label in enumerate(labels) if not IS_THING[label]]
    split = max(stuff, key=lambda number: int(masks[number].sum()))
    pair = next((i, j) for i in range(len(labels)) for j in range(i) if labels[i] == labels[j])

    columns = torch.arange(SIDE).expand(SIDE, SIDE)
    middle = int(columns[masks[split]].median())
    made = [
        Made(labels[split], 0.92, masks[split] & (columns < middle + 6)),
        Made(labels[split], 0.81, masks[split] & (columns > middle - 6)),
    ]
    sure = iter((0.95, 0.90, 0.86, 0.93, 0.88, 0.84, 0.91, 0.87))
    made += [
        Made(labels[number], next(sure), masks[number])
        for number in range(len(labels))
        if number != split
    ]
    made.append(Made(labels[pair[0]], 0.60, masks[pair[0]] | masks[pair[1]]))
    made.append(Made(BACKGROUND, 0.90, (columns > 60) & (columns.T > 62)))
    return made


def as_model_output(made: Sequence[Made]) -> LayerProposals:
    """What a model would say: class logits [1, N, C + 1], and masks of soft edges on the mask
    grid.
    """
    masks = torch.stack([proposal.mask for proposal in made]).float()[None]
    cells = F.avg_pool2d(
        F.avg_pool2d(masks, STRIDE), 3, stride=1, padding=1, count_include_pad=False
    )
    probabilities = torch.full((1, len(made), len(NAMES) + 1), 1e-3)
    for query, proposal in enumerate(made):
        probabilities[0, query, BACKGROUND] = 1 - proposal.probability
        probabilities[0, query, proposal.label] = proposal.probability
    # every query has a feature of its own, so that the dot product gives these masks
    return LayerProposals(probabilities.log(), torch.eye(len(made))[None], 14 * (cells - 0.5))


# --- what the package makes of them ---------------------------------------------------------------


def predicted(output: LayerProposals, task: str) -> Any:
    """What a task makes of the proposals: panoptic merges stuff, semantic everything, instance
    nothing.
    """
    asked = TASKS[task]
    proposals = ImageProposals(
        output.class_logits[0], output.mask_logits[0], torch.ones(2), IS_THING
    )
    thresholds = Thresholds(MIN_SCORE) if asked.may_overlap else DEFAULT_THRESHOLDS
    return asked.predict(proposals, (SIDE, SIDE), thresholds)


def truth_of(sample: Sample, task: Any) -> Truth:
    """The scene as a training batch of the task."""
    batch = collate([resize_only(sample, SIDE)], canvas=SIDE, task=task, normalization=STANDARD)
    valid_mask = batch["pixel_mask"].bool()
    count = torch.tensor(float(count_targets(batch["labels"])))
    return Truth(
        batch["labels"],
        batch["pixel_values"],
        valid_mask,
        torch.ones(1, 2),
        IS_THING,
        count,
        torch.tensor(1.0),
    )


@dataclass
class Training:
    """MERGE in training, as one task does it.

    Args:
        classes: int64 [M], of the targets.
        values: [M, h, w], the targets on the mask grid.
        groups: who works for whom.
        alone, merged: mask logits [M, h, w] of the matched proposals, and of the whole groups.
    """

    classes: Tensor
    values: Tensor
    groups: Groups
    alone: Tensor
    merged: Tensor

    def recruits(self, target: int) -> list[int]:
        """Proposals that join the matched one of a target."""
        assert self.groups.recruits is not None
        return self.groups.recruits[0, :, target].nonzero()[:, 0].tolist()

    def dice(self, masks: Tensor, target: int) -> float:
        """Dice loss of one target."""
        values = self.values[target].flatten()
        return float(dice_loss(masks[target].sigmoid().flatten(), values, torch.ones_like(values)))


def training(sample: Sample, output: LayerProposals, task: str) -> Training:
    """Matching and MERGE of a task with mask targets."""
    truth, config = truth_of(sample, task), DaTaSegConfig()
    targets, grid = SegmentMapTargets(truth), output.mask_features.shape[-2:]
    merged = TASKS[task].merged_categories(IS_THING)
    inputs = LossInputs([output], truth, config, resolve_loss_weights(config, None))
    at_cells, (groups,) = mask_groups(targets, inputs, merged)
    return Training(
        classes=targets.classes[0],
        values=at_cells.values[0].unflatten(-1, grid),
        groups=groups,
        alone=matched_masks([output], [groups.matched])[0],
        merged=merged_masks([output], [groups])[0],
    )


# --- pictures -------------------------------------------------------------------------------------


def main(folder: Path) -> list[Path]:
    """Draw all pictures into a folder; returns their paths."""
    sample = scene()
    made = made_proposals(sample)
    output = as_model_output(made)
    pictures = {
        "merge_proposals.png": draw_proposals(sample, made, output),
        "merge_inference.png": draw_inference(sample, output),
        "merge_training.png": draw_training(sample, made, output),
        "merge_boxes.png": draw_boxes(sample, made),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [save(figure, folder / name) for name, figure in pictures.items()]


def save(figure: Figure, path: Path) -> Path:
    """As a PNG."""
    figure.savefig(path, dpi=100, facecolor="white", pil_kwargs={"optimize": True})
    plt.close(figure)
    return path


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, NDArray[Any]]:
    """A figure of empty panels, of so many inches."""
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, height), squeeze=False, layout="constrained"
    )
    for panel in axes.flat:
        panel.set_axis_off()
    return figure, axes


def show(panel: Axes, picture: Any, title: str, color: str = INK) -> None:
    """A picture under a title: a scene as its pixels are, what is larger smoothly reduced."""
    pixels = np.asarray(picture)
    panel.imshow(pixels, interpolation="nearest" if len(pixels) == SIDE else "hanning")
    panel.set_title(title, fontsize=10, color=color)


def tinted(image: NDArray[np.uint8], mask: Tensor, label: int) -> NDArray[np.uint8]:
    """The image in gray, with the probabilities of a mask [h, w] in the color of its category."""
    gray = image.mean(-1, keepdims=True) // 24 * 13 + 100  # few levels, which keeps the files small
    color = (60, 60, 60) if label == BACKGROUND else category_color(label)
    weight = (
        0.85
        * F.interpolate(mask[None, None].float(), size=image.shape[:2], mode="bilinear")[
            0, 0, ..., None
        ]
    )
    return (gray * (1 - weight.numpy()) + np.array(color) * weight.numpy()).astype(np.uint8)


def draw_proposals(sample: Sample, made: Sequence[Made], output: LayerProposals) -> Figure:
    """The scene, and each proposal's mask with its category and probability."""
    columns = -(-(len(made) + 1) // 2)
    figure, axes = panels(2, columns, 1.85 * columns, 4.3)
    show(axes.flat[0], sample.image, "the image")
    for query, (panel, proposal) in enumerate(zip(axes.flat[1:], made, strict=False)):
        picture = tinted(sample.image, output.mask_logits[0, query].sigmoid(), proposal.label)
        show(panel, picture, f"{query + 1}: {proposal.name} {proposal.probability:.2f}")
    return figure


def draw_inference(sample: Sample, output: LayerProposals) -> Figure:
    """The results of the three tasks beside each other, the instances each by itself."""
    image = Image.fromarray(sample.image)
    id_map, found = predicted(output, "panoptic"), predicted(output, "instance")
    figure = plt.figure(figsize=(9.4, 6.2), layout="constrained")
    maps, objects = cast(Any, figure.subfigures(2, 1, height_ratios=(3.9, 2.3)))
    left, right = maps.subplots(1, 2)
    show(
        left, overlay(image, id_map.segmentation, id_map.segments, NAMES), "panoptic: stuff merges"
    )
    show(
        right,
        semantic_overlay(image, predicted(output, "semantic").segmentation, NAMES),
        "semantic: every category merges",
    )
    objects.suptitle("instance: nothing merges, masks may overlap", fontsize=10, color=INK)
    panels = list(objects.subplots(1, len(found.masks)))
    for panel, mask, label, score in zip(
        panels, found.masks, found.label_ids.tolist(), found.scores, strict=True
    ):
        show(panel, tinted(sample.image, mask, label), f"{NAMES[label]} {score:.2f}")
    for panel in (left, right, *panels):
        panel.set_axis_off()
        panel.set_anchor("N")
    return figure


def draw_training(sample: Sample, made: Sequence[Made], output: LayerProposals) -> Figure:
    """Targets of two tasks, each with its matched proposal, its recruits and the mask that the loss
    compares.
    """
    split, thing = made[0].label, made[-2].label
    rows = (("panoptic", split), ("panoptic", thing), ("semantic", thing))
    figure, axes = panels(len(rows), 4, 8.4, 7.2)
    for row, (task, label) in zip(axes, rows, strict=True):
        seen = training(sample, output, task)
        target = seen.classes.tolist().index(label)
        matched, recruits = int(seen.groups.matched[0, target]), seen.recruits(target)
        show(row[0], tinted(sample.image, seen.values[target], label), f"target: {NAMES[label]}")
        row[0].text(
            -0.04,
            0.5,
            task,
            transform=row[0].transAxes,
            ha="right",
            va="center",
            rotation=90,
            fontsize=12,
        )
        show(
            row[1],
            tinted(sample.image, seen.alone[target].sigmoid(), label),
            f"matched: {matched + 1}",
        )
        joined = sum(
            (output.mask_logits[0, query].sigmoid() for query in recruits),
            torch.zeros_like(seen.alone[0]),
        )
        numbers = " and ".join(str(query + 1) for query in recruits) or "nobody"
        show(row[2], tinted(sample.image, joined.clamp(max=1), label), f"recruited: {numbers}")
        show(
            row[3],
            tinted(sample.image, seen.merged[target].sigmoid(), label),
            "compared with the target",
        )
        below(row[1], f"dice loss alone {seen.dice(seen.alone, target):.2f}")
        below(row[3], f"dice loss {seen.dice(seen.merged, target):.2f}")
    return figure


def below(panel: Axes, text: str) -> None:
    """A line of text under a picture."""
    panel.text(0.5, -0.02, text, transform=panel.transAxes, ha="center", va="top", color=INK)


def draw_boxes(sample: Sample, made: Sequence[Made]) -> Figure:
    """A box beside three masks, with their projections and the box's: the object, half of it, and
    the whole box.
    """
    thing = next(
        proposal for proposal in made if proposal.label != BACKGROUND and IS_THING[proposal.label]
    )
    box = box_of(thing.mask)
    filled = torch.zeros_like(thing.mask)
    filled[box[1] : box[3], box[0] : box[2]] = True
    half = thing.mask & (torch.arange(SIDE) < (box[0] + box[2]) // 2)
    masks = {"the object": thing.mask, "half of it": half, "the whole box": filled}

    figure, axes = panels(1, 4, 9.2, 3.0)
    show(axes[0, 0], sample.image, "")
    below(axes[0, 0], f"annotation: a box, {thing.name}")
    outline(axes[0, 0], box)
    draw_shadows(axes[0, 0], {})
    for panel, (name, mask) in zip(axes[0, 1:], masks.items(), strict=True):
        output = as_model_output([Made(thing.label, 0.9, mask)])
        shadows = box_shadows(sample, thing.label, box, output)
        loss = sum(
            dice_loss(mine, boxed, torch.ones_like(boxed)) for mine, boxed in shadows.values()
        )
        show(panel, tinted(sample.image, output.mask_logits[0, 0].sigmoid(), thing.label), name)
        outline(panel, box)
        draw_shadows(panel, shadows)
        below(panel, f"projection loss {float(loss):.2f}")
    return figure


def box_of(mask: Tensor) -> tuple[int, int, int, int]:
    """Tight box of a mask, xyxy."""
    rows, columns = mask.any(1).nonzero()[:, 0].tolist(), mask.any(0).nonzero()[:, 0].tolist()
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def box_shadows(
    sample: Sample, label: int, box: Sequence[int], output: LayerProposals
) -> dict[str, tuple[Tensor, Tensor]]:
    """Projections of a mask and of its box onto the columns [w] and the rows [h] of the mask
    grid.
    """
    labels = {"class_labels": torch.tensor([label]), "boxes": torch.tensor([box]) / SIDE}
    grid = output.mask_features.shape[-2:]
    targets = BoxTargets(replace(truth_of(sample, "panoptic"), labels=[labels]), (grid[0], grid[1]))
    columns, rows = axis_projections(output.mask_logits, targets.valid_mask)
    return {
        "columns": (columns[0, 0], targets.columns[0, 0]),
        "rows": (rows[0, 0], targets.rows[0, 0]),
    }


def outline(panel: Axes, box: Sequence[int]) -> None:
    """Draw a box."""
    x0, y0, x1, y1 = (corner - 0.5 for corner in box)
    panel.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color="white", linewidth=1.5)


def draw_shadows(panel: Axes, shadows: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """The projections onto the columns above the picture and onto the rows on its right: of the box
    gray, of the mask as a line.
    """
    place = np.arange(SIDE) + 0.0
    for axis, pair in shadows.items():
        mine, boxed = (20 * values.repeat_interleave(STRIDE).numpy() for values in pair)
        if axis == "columns":
            panel.fill_between(place, -3, -3 - boxed, color="#cccccc", step="mid")
            panel.step(place, -3 - mine, color=INK, where="mid", linewidth=1.2)
        else:
            panel.fill_betweenx(place, SIDE + 2, SIDE + 2 + boxed, color="#cccccc", step="mid")
            panel.plot(SIDE + 2 + mine, place, color=INK, linewidth=1.2)
    panel.set_xlim(-1, SIDE + 24)
    panel.set_ylim(SIDE, -25)


if __name__ == "__main__":
    for written in main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent):
        print(written)
