"""What a batch's labels say at points and cells: the targets of the losses.

Shapes: B images, C categories, M targets (padded to the batch's largest number), P points, h x w
mask grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .losses_dataseg import cell_centers, interval_cells, nearest_index


@dataclass
class Truth:
    """A training batch as the losses see it.

    Args:
        labels: per image the dict described at `DaTaSegModel.forward`; where masks are not all sure
            with `mask_weights` float [M], 0..1, their shares in the mask losses.
        image: normalized pixels [B, 3, H, W].
        valid_mask: bool [B, H, W], false in the padding.
        valid_size: [B, 2], height and width of each image as fractions of the canvas.
        is_thing: bool [C].
        num_targets, num_images: scalars over all processes and micro-batches of the optimizer step.
        seeds: int64 [B] or None, for the sampled points.
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
        whole = torch.ones_like(self.is_thing)
        known = torch.stack([whole if row is None else row.bool() for row in rows])
        if self.objects_only is None:
            return known
        is_open = self.objects_only[:, None].expand(-1, self.num_others)
        return torch.cat([known, ~is_open], dim=1)

    @cached_property
    def objects_only(self) -> Tensor | None:
        """bool [B], true where nothing but objects was annotated, so that the rest of an image may
        show anything that is none; None where no image is so.
        """
        flags = [label.get("objects_only") for label in self.labels]
        if all(flag is None for flag in flags):
            return None
        no = torch.zeros((), dtype=torch.bool, device=self.is_thing.device)
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
        present: bool [B, M], false for padding.
        target_rows: per image the rows of its labels that are no crowd, int64 [at most M].
        mask_weights: float [B, M], 0..1, of the targets in the mask losses; None where no label
            has them, which is 1 everywhere.

    Raises:
        ValueError: for a class label outside of the vocabulary.
    """

    def __init__(self, truth: Truth) -> None:
        self.target_rows = [(~_crowd(label)).nonzero()[:, 0] for label in truth.labels]
        most = max(len(rows) for rows in self.target_rows)
        device = truth.image.device
        self.classes = torch.full(
            (len(self.target_rows), most), -1, dtype=torch.int64, device=device
        )
        for classes, rows, label in zip(self.classes, self.target_rows, truth.labels, strict=True):
            classes[: len(rows)] = label["class_labels"][rows]
        self.present = self.classes >= 0
        num_categories = len(truth.is_thing)
        given = torch.cat([label["class_labels"] for label in truth.labels])
        wrong = given[(given < 0) | (given >= num_categories)]
        if len(wrong):
            raise ValueError(
                f"class label {int(wrong[0])} in a vocabulary of {num_categories} categories"
            )
        self.mask_weights: Tensor | None = None
        if any("mask_weights" in label for label in truth.labels):
            self.mask_weights = self._mask_weights(truth)

    def _mask_weights(self, truth: Truth) -> Tensor:
        weights = torch.ones(self.classes.shape, device=self.classes.device)
        for row, rows, label in zip(weights, self.target_rows, truth.labels, strict=True):
            if "mask_weights" in label:
                row[: len(rows)] = label["mask_weights"][rows]
        return weights


class SegmentMapTargets(Targets):
    """Targets of `segment_map` labels, an index per pixel, so that M masks cost one map."""

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.maps = torch.stack(
            [
                _renumbered(label, rows)
                for label, rows in zip(truth.labels, self.target_rows, strict=True)
            ]
        )
        self.valid_mask = _nearest_resize(truth.valid_mask, self.maps.shape[-2:])

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
    never copied: 500 of them are larger than the network.
    """

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.grid = truth.labels[0]["masks"].shape[-2:]
        self.masks = [label["masks"].flatten(1) for label in truth.labels]
        self.void = torch.stack(
            [(label["masks"][_crowd(label)] > 0).any(0) for label in truth.labels]
        )
        self.valid_mask = _nearest_resize(truth.valid_mask, self.grid)

    def at(self, points: Tensor, kept: Tensor | None = None) -> PointValues:
        """Values of the targets at points [B, P, 2] or [B, M, P, 2], as `SegmentMapTargets.at`."""
        index = nearest_index(points, *self.grid)
        targets = self.classes.shape[1] if kept is None else kept.shape[1]
        values = torch.zeros(len(index), targets, index.shape[-1], device=index.device)
        for image, (masks, all_rows) in enumerate(zip(self.masks, self.target_rows, strict=True)):
            # those that are no padding come first
            rows = all_rows if kept is None else all_rows[kept[image, : len(all_rows)]]
            own = index[image, : len(rows)] if index.dim() == 3 else index[image]
            values[image, : len(rows)] = (masks[rows[:, None], own] > 0).float()
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
        compares_colors: bool [B, M], targets with a color-affinity loss; None for all.
        valid_mask: bool [B, h, w], false in the padding.
        void: bool [B, h, w], true in crowd boxes.

    Raises:
        ValueError: for boxes outside 0..1 of the canvas, and as `Targets`.
    """

    def __init__(self, truth: Truth, grid: tuple[int, int]) -> None:
        super().__init__(truth)
        self.compares_colors: Tensor | None = None
        # float32 whatever the image is
        boxes = torch.zeros(*self.classes.shape, 4, device=truth.image.device)
        self.tight = torch.zeros(*self.classes.shape, 2, dtype=torch.bool, device=boxes.device)
        self.valid_mask = _nearest_resize(truth.valid_mask, grid)
        self.void = torch.zeros_like(self.valid_mask)
        for image, (rows, label) in enumerate(zip(self.target_rows, truth.labels, strict=True)):
            if len(rows):
                _check_boxes(label["boxes"], image)
            boxes[image, : len(rows)] = label["boxes"][rows].to(boxes)
            self.tight[image, : len(rows)] = _box_axes(label)[rows]
            crowd_cells = box_cells(*_projections(label["boxes"][_crowd(label)].to(boxes), grid))
            self.void[image] = self.valid_mask[image] & crowd_cells.bool().any(0)
        self.columns, self.rows = _projections(boxes, grid)


def cell_values(targets: SegmentMapTargets | MaskTargets, height: int, width: int) -> PointValues:
    """Targets on all cells of a grid, each the mean of four points: its nearest pixel alone is half
    a pixel off.
    """
    centers = cell_centers(height, width, targets.classes.device)
    # a little less than a quarter: at even strides a quarter falls on the border of two pixels, and
    # one side wins
    quarter = centers.new_tensor([0.24 / width, 0.24 / height])
    corners = centers.new_tensor([[-1, -1], [1, -1], [-1, 1], [1, 1]]) * quarter
    points = (centers[:, None] + corners).view(1, -1, 2).expand(len(targets.classes), -1, -1)
    at_points = targets.at(points)
    weight = at_points.valid.unflatten(1, (-1, 4))
    values = (at_points.values.unflatten(2, (-1, 4)) * weight[:, None]).sum(-1)
    return PointValues(
        values / weight.sum(-1).clamp(min=1)[:, None],
        weight.mean(-1),
        at_points.void.unflatten(1, (-1, 4)).mean(-1),
    )


def _renumbered(label: Mapping[str, Tensor], rows: Tensor) -> Tensor:
    """Segment map [H, W] whose indices count the rows segments only; crowd segments become void."""
    # the last entry is void, index -1
    number = rows.new_full((len(label["class_labels"]) + 1,), -1)
    number[rows] = torch.arange(len(rows), device=rows.device)
    return number[label["segment_map"].long()]


def box_cells(columns: Tensor, rows: Tensor) -> Tensor:
    """Cells of boxes from their projections: columns [K, w], rows [K, h] -> [K, h, w]."""
    return rows[:, :, None] * columns[:, None, :]


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
