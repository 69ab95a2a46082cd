"""Corrupted images with the same truth: how a model does on what its training did not show.

Four of the kinds of ImageNet-C (Hendrycks and Dietterich, ICLR 2019) at three strengths. The
strengths are our setting: those of ImageNet-C are for images of 224 pixels, ours scale with the
image.
"""

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .sample import Sample, SampleDataset

CorruptionKind: TypeAlias = Literal["noise", "blur", "contrast", "jpeg"]
Strength: TypeAlias = Literal[1, 2, 3]
Pixels: TypeAlias = NDArray[np.uint8]

NOISE = (0.05, 0.1, 0.2)  # standard deviation, of the range of values
BLUR = (0.007, 0.014, 0.028)  # standard deviation, of the longer side
CONTRAST = (0.6, 0.4, 0.2)  # of what it was
JPEG = (30, 15, 7)  # quality, of 100


@dataclass(frozen=True)
class Corruption:
    """What happens to every image of a held-out set.

    Args:
        kind: Gaussian `noise`, Gaussian `blur`, less `contrast` around the image's mean, or `jpeg`
            artifacts.
        strength: 1 to 3.
    """

    kind: CorruptionKind
    strength: Strength = 1


def corrupted(data: SampleDataset, corruption: Corruption) -> SampleDataset:
    """The dataset with its images corrupted, each always in the same way; the annotation is as it
    was.
    """
    return replace(data, load=partial(_load, load=data.load, corruption=corruption))


def _load(row: Any, load: Callable[[Any], Sample], corruption: Corruption) -> Sample:
    sample = load(row)
    seed = zlib.crc32(str(sample.image_id).encode())
    return replace(
        sample, image=_KINDS[corruption.kind](sample.image, corruption.strength - 1, seed)
    )


def _noise(image: Pixels, level: int, seed: int) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, 255 * NOISE[level], image.shape)
    return (image + noise).round().clip(0, 255).astype(np.uint8)


def _blur(image: Pixels, level: int, seed: int) -> Pixels:
    radius = BLUR[level] * max(image.shape[:2])
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def _contrast(image: Pixels, level: int, seed: int) -> Pixels:
    mean = image.mean(axis=(0, 1), keepdims=True)
    return (mean + CONTRAST[level] * (image - mean)).round().clip(0, 255).astype(np.uint8)


def _jpeg(image: Pixels, level: int, seed: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG[level])
    return np.asarray(Image.open(buffer))


_KINDS: dict[CorruptionKind, Callable[[Pixels, int, int], Pixels]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "jpeg": _jpeg,
}
