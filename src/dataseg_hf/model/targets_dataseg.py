"""What a batch's labels say at points and cells: the targets of the losses.

Shapes: B images, C categories, M targets (padded to the batch's largest number), P points, h x w
mask grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .host_dataseg import to_device
from .losses_dataseg import cell_centers, interval_cells, nearest_index


@dataclass
class Truth:
    """A training batch as the losses see it.

    Args:
        labels: per image the dict described at `DaTaSegModel.forward`; where masks are not all sure
            with `mask_weights` float [M], 0..1, their shares in the mask losses. On the host, but
            for maps and masks, which may lie anywhere (`host_labels`).
        image: normalized pixels [B, 3, H, W].
        valid_mask: bool [B, H, W], false in the padding.
        valid_size: [B, 2], height and width of each image as fractions of the canvas.
        is_thing: bool [C].
        num_targets, num_images: scalars over all processes and micro-batches of the optimizer step.
        seeds: int64 [B], on the host, or None; for the sampled points.
        num_others: the number O of names of other vocabularies that an image may show though nobody
            annotated them. Their class logits stand between those of the C categories and that of
            the background.
    """

    labels: Sequence[Mapping[str, Tensor]]
    image: Tensor
    valid_mask: Tensor
    valid_size: Tensor
    is_thing: Tensor
    num_targets: Tensor
    num_images: Tensor
    seeds: Tensor | None = None
    num_others: int = 0

    @cached_property
    def exhaustive(self) -> Tensor | None:
        """bool [B, C + O], false where an image's annotation may lack objects of a category, and,
        where nothing but objects was annotated, for the other names; None where all are true.
        """
        rows = [label.get("exhaustive") for label in self.labels]
        if all(row is None for row in rows) and not self.num_others:
            return None
        whole = torch.ones(len(self.is_thing), dtype=torch.bool)
        known = torch.stack([whole if row is None else row.bool() for row in rows])
        if self.objects_only is not None:
            is_open = self.objects_only[:, None].expand(-1, self.num_others)
            known = torch.cat([known, ~is_open], dim=1)
        return to_device(known, self.image.device)

    @cached_property
    def objects_only(self) -> Tensor | None:
        """bool [B] on the host, true where nothing but objects was annotated: the rest of an image
        may then show anything that is none. None where no image is so.
        """
        flags = [label.get("objects_only") for label in self.labels]
        if all(flag is None for flag in flags):
            return None
        no = torch.zeros((), dtype=torch.bool)
        return torch.stack([no if flag is None else flag.bool() for flag in flags])


@dataclass
class PointValues:
    """Targets at points, float in 0..1.

    Args:
        values: [B, M, P].
        valid: weight of annotated pixels of the image, [B, P] or, per target, [B, M, P].
        void: weight of pixels which count nowhere (unlabeled, crowd), alike.
    """

    values: Tensor
    valid: Tensor
    void: Tensor


def count_targets(labels: Sequence[Mapping[str, Tensor]]) -> int:
    """Number of targets of a batch, crowd regions left out: what normalizes its mask losses.

    Args:
        labels: per image a dict with `class_labels` [M] and perhaps `is_crowd` [M].
    """
    return sum(len(label["class_labels"]) - int(_crowd(label).sum()) for label in labels)


class Targets:
    """Class labels of a batch, padded; crowd regions are left out.

    Attributes:
        classes: int64 [B, M], -1 = padding.
        present: bool [B, M] on the host, false for padding.
        target_rows: per image the rows of its labels that are no crowd, int64 [at most M], on the
            host.
        mask_weights: float [B, M], 0..1, of the targets in the mask losses; None where no label
            has them, which is 1 everywhere.

    Raises:
        ValueError: for a class label outside of the vocabulary.
    """

    def __init__(self, truth: Truth) -> None:
        self.device = truth.image.device
        self.target_rows = [(~_crowd(label)).nonzero()[:, 0] for label in truth.labels]
        given = torch.cat([label["class_labels"] for label in truth.labels])
        num_categories = len(truth.is_thing)
        wrong = given[(given < 0) | (given >= num_categories)]
        if len(wrong):
            raise ValueError(
                f"class label {int(wrong[0])} in a vocabulary of {num_categories} categories"
            )
        classes = self.padded([label["class_labels"] for label in truth.labels], -1)
        self.present = classes >= 0
        self.classes = to_device(classes, self.device)
        self.mask_weights: Tensor | None = None
        if any("mask_weights" in label for label in truth.labels):
            weights = [
                label.get("mask_weights", torch.ones(len(label["class_labels"])))
                for label in truth.labels
            ]
            self.mask_weights = to_device(self.padded(weights, 1), self.device)

    def padded(self, values: Sequence[Tensor], padding: float) -> Tensor:
        """What labels say of the targets: [B, M, ...], on the host.

        Args:
            values: per image what its labels say, crowds among them, on the host.
            padding: value of the rows that are no target.
        """
        most = max(len(rows) for rows in self.target_rows)
        shape = (len(values), most, *values[0].shape[1:])
        result = torch.full(shape, padding, dtype=values[0].dtype)
        for image, (rows, of_image) in enumerate(zip(self.target_rows, values, strict=True)):
            result[image, : len(rows)] = of_image[rows]
        return result


class SegmentMapTargets(Targets):
    """Targets of `segment_map` labels, an index per pixel, so that M masks cost one map."""

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        maps = to_device(torch.stack([label["segment_map"] for label in truth.labels]), self.device)
        image = torch.arange(len(maps), device=self.device)[:, None, None]
        self.maps = to_device(self._numbers(truth), self.device)[image, maps.long()]
        self.valid_mask = _nearest_resize(truth.valid_mask, self.maps.shape[-2:])

    def _numbers(self, truth: Truth) -> Tensor:
        """The number of each segment among the targets, int64 [B, S + 1] on the host; -1 for crowds
        and, at index -1, for void.
        """
        most = max(len(label["class_labels"]) for label in truth.labels)
        numbers = torch.full((len(truth.labels), most + 1), -1)
        for of_image, rows in zip(numbers, self.target_rows, strict=True):
            of_image[rows] = torch.arange(len(rows))
        return numbers

    def at(self, points: Tensor, kept: Tensor | None = None) -> PointValues:
        """Values of the targets at points.

        Args:
            points: [B, P, 2], or each target's own [B, M, P, 2]; (x, y) in 0..1 of the canvas.
            kept: int64 [B, K], indices of the targets that are asked for; all by default.
        """
        index = nearest_index(points, *self.maps.shape[-2:])
        segment = self.maps.flatten(1).gather(1, index.flatten(1)).view_as(index)
        valid = self.valid_mask.flatten(1).gather(1, index.flatten(1)).view_as(index)
        number = (
            torch.arange(self.classes.shape[1], device=segment.device) if kept is None else kept
        )
        values = (segment if segment.dim() == 3 else segment[:, None]) == number[..., None]
        return PointValues(
            values.float(), (valid & (segment >= 0)).float(), (valid & (segment < 0)).float()
        )


class MaskTargets(Targets):
    """Targets of `masks` labels: instances that may overlap; crowd masks are void. The masks are
    never copied on their device: 500 of them are larger than the network.
    """

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.grid = truth.labels[0]["masks"].shape[-2:]
        masks = [to_device(label["masks"], self.device) for label in truth.labels]
        self.masks = [one.flatten(1) for one in masks]
        rows = [torch.arange(len(label["class_labels"])) for label in truth.labels]
        self.label_rows = to_device(self.padded(rows, 0), self.device)
        self.void = torch.stack(
            [
                (one[to_device(_crowd(label).nonzero()[:, 0], self.device)] > 0).any(0)
                for one, label in zip(masks, truth.labels, strict=True)
            ]
        )
        self.valid_mask = _nearest_resize(truth.valid_mask, self.grid)

    def at(self, points: Tensor, kept: Tensor | None = None) -> PointValues:
        """Values of the targets at points [B, P, 2] or [B, M, P, 2], as `SegmentMapTargets.at`."""
        index = nearest_index(points, *self.grid)
        targets = self.classes.shape[1] if kept is None else kept.shape[1]
        values = torch.zeros(len(index), targets, index.shape[-1], device=index.device)
        for image, (masks, target_rows) in enumerate(
            zip(self.masks, self.target_rows, strict=True)
        ):
            # those that are no padding come first
            count = min(len(target_rows), targets)
            rows = self.label_rows[image, :count]
            if kept is not None:
                rows = self.label_rows[image][kept[image, :count]]
            own = index[image, :count] if index.dim() == 3 else index[image]
            values[image, :count] = (masks[rows[:, None], own] > 0).float()
        valid = self.valid_mask.flatten(1).gather(1, index.flatten(1)).view_as(index)
        void = self.void.flatten(1).gather(1, index.flatten(1)).view_as(index)
        return PointValues(values, (valid & ~void).float(), (valid & void).float())


class BoxTargets(Targets):
    """Targets of `boxes` labels as projections onto the axes of the mask grid; crowd boxes are
    void.

    Attributes:
        columns: float [B, M, w], 1 in the columns of cells that the box covers.
        rows: float [B, M, h], alike.
        tight: bool [B, M, 2], false on an axis (x, y) on which the box was cut.
        compares_colors: bool [B, M] on the host, targets with a color-affinity loss.
        valid_mask: bool [B, h, w], false in the padding.
        void: bool [B, h, w], true in crowd boxes.

    Raises:
        ValueError: for boxes outside 0..1 of the canvas, and as `Targets`.
    """

    def __init__(self, truth: Truth, grid: tuple[int, int]) -> None:
        super().__init__(truth)
        self.compares_colors = self.present
        boxes = [label["boxes"].float() for label in truth.labels]  # whatever the image is
        for image, (rows, of_image) in enumerate(zip(self.target_rows, boxes, strict=True)):
            if len(rows):
                _check_boxes(of_image, image)
        self.tight = to_device(
            self.padded([_box_axes(label) for label in truth.labels], 0), self.device
        )
        self.columns, self.rows = _projections(to_device(self.padded(boxes, 0), self.device), grid)
        self.valid_mask = _nearest_resize(truth.valid_mask, grid)
        crowds = [of_image[_crowd(one)] for of_image, one in zip(boxes, truth.labels, strict=True)]
        self.void = self.valid_mask & self._covered(crowds, grid)

    def _covered(self, boxes: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """Cells of the boxes of each image, [at most X, 4] on the host: bool [B, h, w]."""
        padded = pad_sequence(list(boxes), batch_first=True)
        counts = torch.tensor([len(of_image) for of_image in boxes])
        is_box = to_device(torch.arange(padded.shape[1]) < counts[:, None], self.device)
        columns, rows = _projections(to_device(padded, self.device), grid)
        # a box without an area still has a cell
        return (box_cells(columns, rows).bool() & is_box[..., None, None]).any(1)


def cell_values(targets: SegmentMapTargets | MaskTargets, height: int, width: int) -> PointValues:
    """Targets on all cells of a grid, each the mean of four points: its nearest pixel alone is half
    a pixel off.
    """
    centers = cell_centers(height, width, targets.classes.device)
    # a little less than a quarter: at even strides a quarter falls on the border of two pixels, and
    # one side wins
    quarter = torch.tensor([0.24 / width, 0.24 / height])
    corners = torch.tensor([[-1, -1], [1, -1], [-1, 1], [1, 1]]) * quarter
    points = centers[:, None] + to_device(corners, centers.device)
    points = points.view(1, -1, 2).expand(len(targets.classes), -1, -1)
    at_points = targets.at(points)
    weight = at_points.valid.unflatten(1, (-1, 4))
    values = (at_points.values.unflatten(2, (-1, 4)) * weight[:, None]).sum(-1)
    return PointValues(
        values / weight.sum(-1).clamp(min=1)[:, None],
        weight.mean(-1),
        at_points.void.unflatten(1, (-1, 4)).mean(-1),
    )


def box_cells(columns: Tensor, rows: Tensor) -> Tensor:
    """Cells of boxes from their projections: columns [..., w], rows [..., h] -> [..., h, w]."""
    return rows[..., :, None] * columns[..., None, :]


def _projections(boxes: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The columns and rows of cells that boxes [..., 4] cover: [..., w], [..., h]."""
    height, width = grid
    return (
        interval_cells(boxes[..., 0], boxes[..., 2], width),
        interval_cells(boxes[..., 1], boxes[..., 3], height),
    )


def _check_boxes(boxes: Tensor, image: int) -> None:
    if not bool(((boxes > -1e-3) & (boxes < 1 + 1e-3)).all()):
        raise ValueError(
            f"boxes of image {image} of the batch lie outside 0..1; give them as fractions of the "
            "canvas"
        )


def _crowd(label: Mapping[str, Tensor]) -> Tensor:
    crowd = label.get("is_crowd")
    return (
        torch.zeros_like(label["class_labels"], dtype=torch.bool) if crowd is None else crowd.bool()
    )


def _box_axes(label: Mapping[str, Tensor]) -> Tensor:
    axes = label.get("box_axes")
    return label["boxes"].new_ones(len(label["boxes"]), 2).bool() if axes is None else axes.bool()


def _nearest_resize(valid_mask: Tensor, size: Sequence[int]) -> Tensor:
    """bool [B, H, W] at the cell centers of another grid: bool [B, *size]."""
    index = nearest_index(cell_centers(size[0], size[1], valid_mask.device), *valid_mask.shape[-2:])
    return valid_mask.flatten(1)[:, index].view(len(valid_mask), *size)


def check_labels(
    labels: Sequence[Mapping[str, Tensor]], task: str, annotation: str, num_images: int
) -> None:
    """Refuse labels that do not carry a task's annotation.

    Args:
        labels: what `DaTaSegModel.forward` was given, per image a dict with `class_labels` [M].
        task: name of the task, for messages.
        annotation: key of the labels that the task needs beside `class_labels`.
        num_images: how many dicts there must be.

    Raises:
        ValueError: names the image and the key.
    """
    if not isinstance(labels, Sequence) or isinstance(labels, str):
        raise ValueError(
            f"`labels` must be a list with a dict per image, got {type(labels).__name__}"
        )
    for image, label in enumerate(labels):
        _check_label(label, f"labels[{image}]", task, annotation)
    if len(labels) != num_images:
        raise ValueError(
            f"`labels` must hold a dict per image: got {len(labels)} for {num_images} images"
        )


def _check_label(label: Mapping[str, Tensor], place: str, task: str, annotation: str) -> None:
    if not isinstance(label, Mapping):
        raise ValueError(f"{place} must be a dict of tensors, got {type(label).__name__}")
    missing = sorted({"class_labels", annotation} - set(label))
    if missing:
        raise ValueError(f"task '{task}' needs {missing} in {place}, which has {sorted(label)}")
    for key, value in label.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{place}['{key}'] must be a tensor, got {type(value).__name__}")


__all__ = [
    "BoxTargets",
    "MaskTargets",
    "PointValues",
    "SegmentMapTargets",
    "Targets",
    "Truth",
    "box_cells",
    "cell_values",
    "check_labels",
    "count_targets",
]
