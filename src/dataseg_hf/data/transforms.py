"""Augmentation of an image together with its annotation: resize, crop, flip, color jitter."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from .sample import Annotation, Sample
from .views import View, resized, view_annotation, view_image


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

    @property
    def largest_side(self) -> int:
        """Pixels of the longer side of an image at the largest scale, or one more."""
        return math.ceil(self.image_size * self.scale_range[1])


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
        incomplete: as in `Sample`, and classes of objects of which it is unknown whether they are
            still seen.
    """

    image: NDArray[np.uint8]
    annotation: Annotation
    box_axes: NDArray[np.bool_] | None
    image_id: int | str
    file_name: str
    incomplete: Sequence[int] = ()


def augment(sample: Sample, settings: Augmentation, rng: np.random.Generator) -> TransformedSample:
    """Resize, crop, flip and color-jitter one sample; all randomness comes from `rng`.

    Images are resampled bilinearly with antialiasing, maps and masks by nearest neighbor. Segments
    and instances without a pixel left, and boxes without area left, are dropped. The input is not
    changed.
    """
    low, high = settings.scale_range
    scale = math.exp(rng.uniform(math.log(low), math.log(high)))
    height, width = resized(sample.size, max(1, round(settings.image_size * scale)))
    crop_height, crop_width = min(height, settings.image_size), min(width, settings.image_size)
    view = View(
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
        height, width = sample.size
        image_size = min(image_size, round(shortest_edge * max(height, width) / min(height, width)))
    height, width = resized(sample.size, image_size)
    return _apply(
        sample, View(height, width, top=0, left=0, height=height, width=width, flip=False)
    )


def _apply(sample: Sample, view: View) -> TransformedSample:
    image = view_image(sample.image, view, sample.reduction)
    annotation, box_axes, lost = view_annotation(sample.annotation, sample.size, view)
    incomplete = sorted({*sample.incomplete, *lost})
    return TransformedSample(
        image, annotation, box_axes, sample.image_id, sample.file_name, incomplete
    )


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
