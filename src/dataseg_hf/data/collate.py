"""Transformed samples of one dataset -> one batch of tensors, in the form that the model's
`forward` takes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..model.degrees_dataseg import Degree
from ..model.tasks_dataseg import LabelForm, get_task
from .components import split_components
from .sample import Instances, Segments, TaskName
from .transforms import TransformedSample


@dataclass(frozen=True)
class Normalization:
    """`(x - mean) / std` of pixel values x in 0..1.

    Args:
        mean, std: per RGB channel.
    """

    mean: Sequence[float]
    std: Sequence[float]

    def per_channel(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, float32 [3, 1, 1] each."""
        mean, std = (
            torch.tensor(values, dtype=torch.float32).view(3, 1, 1)
            for values in (self.mean, self.std)
        )
        return mean, std


def collate(
    samples: Sequence[TransformedSample],
    *,
    canvas: int,
    task: TaskName,
    normalization: Normalization,
    instance_mask_stride: int = 1,
    split_classes: Sequence[bool] | None = None,
    exhaustive: Sequence[bool] | None = None,
    objects_only: bool = False,
) -> dict[str, Any]:
    """Normalize, pad at the bottom and right to a square canvas, and encode the targets of the
    task.

    Args:
        samples: B samples of one dataset, none larger than the canvas.
        canvas: side S of the padded images, in pixels.
        task: which targets `labels` holds.
        normalization: of the pixels.
        split_classes: per class, whether semantic targets are its connected parts instead of its
            whole mask.
        instance_mask_stride: instance masks are sampled at the center of every stride x stride cell
            of the canvas.
        exhaustive: per class, whether an image shows none of it where none is annotated; by default
            all.
        objects_only: whether nothing but objects was annotated.

    Returns:
        A dictionary with

        - `pixel_values`: float32 [B, 3, S, S], `(x / 255 - mean) / std`, 0 in the padding;
        - `pixel_mask`: int64 [B, S, S], 1 on the image, 0 in the padding;
        - `labels`: per image a dictionary with `class_labels` int64 [M] and the annotation in the
          task's `label_form`.

        The annotation is, by `Task.label_form`,

        - segments and classes: `segment_map` int16 [S, S], index into M, -1 where void, padding or
          crowd (crowd segments are no targets; classes have one segment each, or one per connected
          part);
        - masks: `masks` uint8 [M, S / stride, S / stride] and `is_crowd` bool [M];
        - boxes: `boxes` float32 [M, 4], xyxy in 0..1 of the canvas, `box_axes` bool [M, 2] and
          `is_crowd` bool [M];
        - degrees: all of these, zero where an object has none, `degrees` int64 [M], a `Degree`
          each, and `points` float32 [M, P, 2] in 0..1 of the canvas, NaN where there is none.

        Where an image may show more of some class than is annotated, `exhaustive` bool [C] is
        false for it. Where nothing but objects was annotated, `objects_only` is true. Where masks
        and segments are not all sure, `mask_weights` float32 [M], 0..1.

    Raises:
        ValueError: for a sample larger than the canvas, an annotation that does not fit the task,
            or a canvas that is no multiple of the stride.
    """
    if canvas % instance_mask_stride:
        raise ValueError(
            f"canvas {canvas} is not a multiple of instance_mask_stride {instance_mask_stride}"
        )
    encode: dict[LabelForm, Callable[[TransformedSample], dict[str, Tensor]]] = {
        "segments": lambda sample: _segment_labels(_annotation(sample, task, Segments), canvas),
        "classes": lambda sample: _segment_labels(
            _semantic_targets(_annotation(sample, task, Segments), split_classes), canvas
        ),
        "masks": lambda sample: _mask_labels(sample, canvas, instance_mask_stride, task),
        "boxes": lambda sample: _box_labels(sample, canvas, task),
        "degrees": lambda sample: _object_labels(sample, canvas, instance_mask_stride, task),
    }
    form = get_task(task).label_form

    pixel_values, pixel_mask = pad_images(
        [sample.image for sample in samples],
        [sample.image_id for sample in samples],
        canvas,
        normalization,
    )
    return {
        "pixel_values": pixel_values,
        "pixel_mask": pixel_mask,
        "labels": [encode[form](one) | _declared(one, exhaustive, objects_only) for one in samples],
    }


def pad_images(
    images: Sequence[NDArray[np.uint8]],
    image_ids: Sequence[int | str],
    canvas: int,
    normalization: Normalization,
) -> tuple[Tensor, Tensor]:
    """`pixel_values` and `pixel_mask` of RGB images [h, w, 3]; the rest as `collate`.

    Raises:
        ValueError: for an image larger than the canvas.
    """
    pixel_values = torch.zeros(len(images), 3, canvas, canvas)
    pixel_mask = torch.zeros(len(images), canvas, canvas, dtype=torch.int64)
    mean, std = normalization.per_channel()
    for i, (image, image_id) in enumerate(zip(images, image_ids, strict=True)):
        height, width = image.shape[:2]
        if max(height, width) > canvas:
            raise ValueError(
                f"image {image_id}: {height} x {width} pixels (height x width) do not fit a canvas "
                f"of {canvas}; resize it first"
            )
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        pixel_values[i, :, :height, :width] = (pixels / 255 - mean) / std
        pixel_mask[i, :height, :width] = 1
    return pixel_values, pixel_mask


AnnotationKind = TypeVar("AnnotationKind", Segments, Instances)


def _annotation(
    sample: TransformedSample, task: TaskName, kind: type[AnnotationKind]
) -> AnnotationKind:
    """The annotation of a sample; ValueError unless it is of that kind."""
    if not isinstance(sample.annotation, kind):
        needs, has = "objects", "a segment map"
        if kind is Segments:
            needs, has = "a segment map", "by object"
        raise ValueError(
            f"image {sample.image_id}: task '{task}' needs {needs}, but the annotation is {has}"
        )
    return sample.annotation


def _semantic_targets(segments: Segments, split_classes: Sequence[bool] | None) -> Segments:
    merged = _merge_by_class(segments)
    return merged if split_classes is None else split_components(merged, split_classes)


def _merge_by_class(segments: Segments) -> Segments:
    """One segment per class; crowd segments stay apart from the others, as they are no targets."""
    keys, merged_index = np.unique(
        segments.class_labels * 2 + segments.is_crowd, return_inverse=True
    )
    return Segments(_relabel(segments.segment_map, merged_index), keys // 2, keys % 2 == 1)


def _relabel(segment_map: NDArray[np.int32], new_index: NDArray[Any]) -> NDArray[np.int32]:
    """`new_index[segment]` per pixel; void stays void."""
    # the last entry is where void (-1) looks itself up
    with_void = np.append(new_index, -1).astype(np.int32)
    return with_void[segment_map]


def _segment_labels(segments: Segments, canvas: int) -> dict[str, Tensor]:
    is_target = ~segments.is_crowd
    new_index = np.where(is_target, np.cumsum(is_target) - 1, -1)
    height, width = segments.segment_map.shape
    segment_map = torch.full((canvas, canvas), -1, dtype=torch.int16)
    segment_map[:height, :width] = torch.from_numpy(
        _relabel(segments.segment_map, new_index).astype(np.int16)
    )
    labels = {
        "class_labels": _class_labels(segments.class_labels[is_target]),
        "segment_map": segment_map,
    }
    if segments.weights is not None:
        labels["mask_weights"] = torch.from_numpy(segments.weights[is_target])
    return labels


def _mask_labels(
    sample: TransformedSample, canvas: int, stride: int, task: TaskName
) -> dict[str, Tensor]:
    instances = _annotation(sample, task, Instances)
    if instances.masks is None:
        raise ValueError(
            f"image {sample.image_id}: task '{task}' needs masks, but only boxes are annotated"
        )
    at_centers = instances.masks[:, stride // 2 :: stride, stride // 2 :: stride].astype(np.uint8)
    count, height, width = at_centers.shape
    masks = torch.zeros(count, canvas // stride, canvas // stride, dtype=torch.uint8)
    masks[:, :height, :width] = torch.from_numpy(at_centers)
    labels = {
        "class_labels": _class_labels(instances.class_labels),
        "masks": masks,
        "is_crowd": torch.from_numpy(instances.is_crowd.copy()),
    }
    if instances.weights is not None:
        labels["mask_weights"] = torch.from_numpy(instances.weights.copy())
    return labels


def _box_labels(sample: TransformedSample, canvas: int, task: TaskName) -> dict[str, Tensor]:
    instances = _annotation(sample, task, Instances)
    if sample.box_axes is None:
        raise ValueError(
            f"image {sample.image_id}: task '{task}' needs `box_axes`, but the sample has none"
        )
    return {
        "class_labels": _class_labels(instances.class_labels),
        "boxes": torch.from_numpy(instances.boxes / np.float32(canvas)),
        "box_axes": torch.from_numpy(sample.box_axes.copy()),
        "is_crowd": torch.from_numpy(instances.is_crowd.copy()),
    }


def _object_labels(
    sample: TransformedSample, canvas: int, stride: int, task: TaskName
) -> dict[str, Tensor]:
    """Labels of all degrees."""
    instances = _annotation(sample, task, Instances)
    if instances.degrees is None:
        raise ValueError(
            f"image {sample.image_id}: task '{task}' needs `degrees`, but the sample has none"
        )
    masks = _masks_and_crowds(instances, sample.image.shape[:2])
    whole = replace(sample, annotation=replace(instances, masks=masks))
    points = instances.points
    if points is None:
        points = np.zeros((len(instances), 0, 2), dtype=np.float32)
    return {
        **_box_labels(sample, canvas, task),
        **_mask_labels(whole, canvas, stride, task),
        "degrees": torch.from_numpy(instances.degrees.astype(np.int64)),
        "points": torch.from_numpy(points / np.float32(canvas)),
    }


def _masks_and_crowds(instances: Instances, size: tuple[int, ...]) -> NDArray[np.bool_]:
    """The masks, bool [M, *size]; a crowd box becomes one, as crowds are void."""
    masks = instances.masks
    if masks is None:
        masks = np.zeros((len(instances), *size), dtype=bool)
    is_box = np.array(instances.degrees) == Degree.BOX
    for crowd in np.flatnonzero(instances.is_crowd & is_box).tolist():
        left, top, right, bottom = instances.boxes[crowd].round().astype(int).tolist()
        masks[crowd, top:bottom, left:right] = True
    return masks


def _declared(
    sample: TransformedSample, exhaustive: Sequence[bool] | None, objects_only: bool
) -> dict[str, Tensor]:
    """The labels `exhaustive`, where some class is not, and `objects_only`, where that is so."""
    labels = {"objects_only": torch.tensor(True)} if objects_only else {}
    if exhaustive is not None and not (all(exhaustive) and not sample.incomplete):
        labels["exhaustive"] = torch.tensor(exhaustive)
        labels["exhaustive"][list(sample.incomplete)] = False
    return labels


def _class_labels(class_labels: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(class_labels.astype(np.int64))
