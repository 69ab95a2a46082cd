"""Augmentation of an image together with its annotation: resize, crop, flip, color jitter."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from .masks import boxes_of_masks
from .sample import Annotation, Instances, Sample, Segments

# pixels; annotated boxes often overshoot the image by a rounding error, which is no cut
CUT_TOLERANCE = 0.5


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied (large-scale jitter, flip and color jitter; the numbers are
    our setting).

    Args:
        image_size: longest side of the result, in pixels.
        scale_range: the longer side is resized to `image_size * scale`, with log(scale) uniform in
            this range. Above 1 the image is cropped at random to `image_size` per axis; below 1 it
            comes out smaller.
        horizontal_flip: probability of a left-right flip.
        color_jitter: brightness, contrast and saturation are each multiplied by a factor in [1 -
            j, 1 + j].

    Raises:
        ValueError: for a value out of range.
    """

    image_size: int
    scale_range: tuple[float, float] = (1.0, 1.0)
    horizontal_flip: float = 0.5
    color_jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"image_size must be at least 1 pixel, not {self.image_size}")
        low, high = self.scale_range
        if not 0 < low <= high < math.inf:
            raise ValueError(
                f"scale_range must be (low, high) with 0 < low <= high, not {self.scale_range}"
            )
        if not 0 <= self.horizontal_flip <= 1:
            raise ValueError(
                f"horizontal_flip is a probability in 0..1, not {self.horizontal_flip}"
            )
        if not 0 <= self.color_jitter <= 1:
            raise ValueError(f"color_jitter must be in 0..1, not {self.color_jitter}")


@dataclass
class TransformedSample:
    """A sample after augmentation: neither normalized nor padded.

    Args:
        image: uint8 RGB [h, w, 3], h and w at most `image_size`; the annotation has the same h and
            w.
        box_axes: bool [M, 2] for Instances, None for Segments: whether a box is still tight in x
            and in y. A cut in x may have taken the object's highest or lowest point, so the box is
            no longer tight in y; in x it is, because the object reaches the cut (measured:
            `benchmarks/box_tightness.py`). Boxes of instances with masks are recomputed from the
            visible mask: tight on both axes.
    """

    image: NDArray[np.uint8]
    annotation: Annotation
    box_axes: NDArray[np.bool_] | None
    image_id: int | str
    file_name: str


@dataclass(frozen=True)
class _View:
    """A window (top, left, height, width) of the image resized to `scaled_height` x `scaled_width`,
    perhaps flipped.
    """

    scaled_height: int
    scaled_width: int
    top: int
    left: int
    height: int
    width: int
    flip: bool


def augment(sample: Sample, settings: Augmentation, rng: np.random.Generator) -> TransformedSample:
    """Resize, crop, flip and color-jitter one sample; all randomness comes from `rng`.

    Images are resampled bilinearly with antialiasing, maps and masks by nearest neighbor. Segments
    and instances without a pixel left, and boxes without area left, are dropped. The input is not
    changed.
    """
    low, high = settings.scale_range
    scale = math.exp(rng.uniform(math.log(low), math.log(high)))
    height, width = _scaled_size(sample.image, max(1, round(settings.image_size * scale)))
    crop_height, crop_width = min(height, settings.image_size), min(width, settings.image_size)
    view = _View(
        scaled_height=height,
        scaled_width=width,
        top=int(rng.integers(height - crop_height + 1)),
        left=int(rng.integers(width - crop_width + 1)),
        height=crop_height,
        width=crop_width,
        flip=bool(rng.random() < settings.horizontal_flip),
    )
    result = _apply(sample, view)
    if settings.color_jitter > 0:
        result.image = _jitter_colors(result.image, settings.color_jitter, rng)
    return result


def resize_only(
    sample: Sample, image_size: int, shortest_edge: int | None = None
) -> TransformedSample:
    """Resize with nothing random; the input is not changed.

    Args:
        image_size: pixels of the longer side.
        shortest_edge: pixels of the shorter side instead, as long as the longer one stays within
            `image_size`.
    """
    if shortest_edge is not None:
        height, width = sample.image.shape[:2]
        image_size = min(image_size, round(shortest_edge * max(height, width) / min(height, width)))
    height, width = _scaled_size(sample.image, image_size)
    return _apply(
        sample, _View(height, width, top=0, left=0, height=height, width=width, flip=False)
    )


def _scaled_size(image: NDArray[np.uint8], longer_side: int) -> tuple[int, int]:
    height, width = image.shape[:2]
    factor = longer_side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _apply(sample: Sample, view: _View) -> TransformedSample:
    image = _view_image(sample.image, view)
    annotation: Annotation
    box_axes: NDArray[np.bool_] | None
    if isinstance(sample.annotation, Segments):
        annotation, box_axes = _view_segments(sample.annotation, view), None
    elif sample.annotation.masks is not None:
        annotation, box_axes = _view_masks(sample.annotation, sample.annotation.masks, view)
    else:
        annotation, box_axes = _view_boxes(sample.annotation, sample.image.shape[:2], view)
    return TransformedSample(image, annotation, box_axes, sample.image_id, sample.file_name)


def _view_image(image: NDArray[np.uint8], view: _View) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    # in pixels of the source; integer products first, so that the last edge is exactly the image's
    window = (
        view.left * width / view.scaled_width,
        view.top * height / view.scaled_height,
        (view.left + view.width) * width / view.scaled_width,
        (view.top + view.height) * height / view.scaled_height,
    )
    resized = Image.fromarray(image).resize(
        (view.width, view.height), Image.Resampling.BILINEAR, box=window
    )
    pixels = np.array(resized)
    return pixels[:, ::-1].copy() if view.flip else pixels


def _view_map(values: NDArray, view: _View) -> NDArray:
    """The window of maps [..., H, W] by nearest neighbor."""
    height, width = values.shape[-2:]
    rows = ((view.top + np.arange(view.height) + 0.5) * height / view.scaled_height).astype(np.intp)
    columns = ((view.left + np.arange(view.width) + 0.5) * width / view.scaled_width).astype(
        np.intp
    )
    if view.flip:
        columns = columns[::-1]
    return values.take(rows, axis=-2).take(columns, axis=-1)


def _view_segments(segments: Segments, view: _View) -> Segments:
    old_map = _view_map(segments.segment_map, view)
    count = len(segments.class_labels)
    present = np.bincount(old_map[old_map >= 0], minlength=count) > 0
    # the extra last entry is where void (-1) looks itself up
    new_index = np.full(count + 1, -1, dtype=np.int32)
    new_index[:-1][present] = np.arange(present.sum())
    return Segments(new_index[old_map], segments.class_labels[present], segments.is_crowd[present])


def _view_masks(
    instances: Instances, masks: NDArray[np.bool_], view: _View
) -> tuple[Instances, NDArray[np.bool_]]:
    masks = _view_map(masks, view)
    present = masks.any(axis=(1, 2))
    masks = masks[present]
    visible = Instances(
        instances.class_labels[present], boxes_of_masks(masks), instances.is_crowd[present], masks
    )
    return visible, np.ones((len(masks), 2), dtype=bool)


def _view_boxes(
    instances: Instances, size: tuple[int, ...], view: _View
) -> tuple[Instances, NDArray[np.bool_]]:
    height, width = size
    scale = np.array([view.scaled_width / width, view.scaled_height / height])
    # [M, corner, axis]
    corners = instances.boxes.reshape(-1, 2, 2).astype(np.float64) * scale - [view.left, view.top]
    if view.flip:
        corners[:, :, 0] = view.width - corners[:, ::-1, 0]
    clipped = np.clip(corners, 0, [view.width, view.height])
    cut = (np.abs(clipped - corners) > CUT_TOLERANCE).any(axis=1)  # [M, axis]
    tight = ~cut[:, ::-1]  # a cut in x makes y loose, and the other way round
    kept = (clipped[:, 1] > clipped[:, 0]).all(axis=1)
    boxes = clipped[kept].reshape(-1, 4).astype(np.float32)
    return Instances(instances.class_labels[kept], boxes, instances.is_crowd[kept]), tight[kept]


def _jitter_colors(
    image: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Multiply brightness, contrast and saturation, in random order, by factors in [1 - strength, 1
    + strength].
    """
    adjustments: list[Callable[[Image.Image], ImageEnhance._Enhance]] = [
        ImageEnhance.Brightness,
        ImageEnhance.Contrast,
        ImageEnhance.Color,
    ]
    result = Image.fromarray(image)
    for i in rng.permutation(len(adjustments)):
        result = adjustments[i](result).enhance(rng.uniform(1 - strength, 1 + strength))
    return np.array(result)
