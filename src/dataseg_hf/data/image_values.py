"""What a dataset's entry says of the values of its images, and what reading them showed.

Both pass beside the readers, in context variables, so that every reader obeys `value_range` without
knowing of it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..model.image_reading_dataseg import Scaling, Size, ValueRange, rgb_pixels
from .sample import Sample, SampleDataset, SampleStream


@dataclass(frozen=True)
class ImageFacts:
    """How an image was read.

    Args:
        scaling: of its values.
        pages: of a TIFF, or frames of an animation; the first one is read.
        value_range_unused: whether the `value_range` of its entry has no effect, because the image
            has 8 bits or a reader of the user's own does not call `read_rgb`.
    """

    scaling: Scaling
    pages: int = 1
    value_range_unused: bool = False


@dataclass
class _StatedRange:
    """The value range of an entry, and whether the reader has read an image by it."""

    value_range: ValueRange
    used: bool = False


_STATED: ContextVar[_StatedRange | None] = ContextVar("stated value range", default=None)
_SEEN: ContextVar[list[ImageFacts] | None] = ContextVar("facts of images", default=None)


def pixels_of_entry(
    image: Image.Image, annotation_size: Size | None = None, *, turn: bool = True
) -> NDArray[np.uint8]:
    """uint8 RGB [H, W, 3] of an image that was just opened, scaled as the entry says whose row is
    being loaded; `annotation_size` and `turn` as in `rgb_pixels`.
    """
    stated, seen = _STATED.get(), _SEEN.get()
    # MPO: a camera's preview
    pages = 1 if seen is None or image.format == "MPO" else getattr(image, "n_frames", 1)
    value_range = None if stated is None else stated.value_range
    pixels, scaling = rgb_pixels(image, value_range, turn=turn, annotation_size=annotation_size)
    if stated is not None:
        stated.used = True
    if seen is not None:
        seen.append(ImageFacts(scaling, pages, stated is not None and scaling.rule == "8 bits"))
    return pixels


@contextmanager
def watched_images() -> Iterator[list[ImageFacts]]:
    """Within it, facts of every image that a reader reads are added to the list."""
    facts: list[ImageFacts] = []
    token = _SEEN.set(facts)
    try:
        yield facts
    finally:
        _SEEN.reset(token)


def with_value_range(
    data: SampleDataset | SampleStream, value_range: ValueRange | None
) -> SampleDataset | SampleStream:
    """The dataset, with its images of more than 8 bits scaled by that range."""
    if value_range is None:
        return data
    return replace(data, load=partial(_load, load=data.load, value_range=value_range))


def _load(row: Any, load: Callable[[Any], Sample], value_range: ValueRange) -> Sample:
    stated = _StatedRange(value_range)
    token = _STATED.set(stated)
    try:
        sample = load(row)
    finally:
        _STATED.reset(token)
    seen = _SEEN.get()
    if seen is not None and not stated.used:
        seen.append(ImageFacts(Scaling(), value_range_unused=True))
    return sample


class ValueTally:
    """Counts how the images of a dataset were read."""

    def __init__(self) -> None:
        self._scalings: defaultdict[tuple[str, str], list[Scaling]] = defaultdict(list)
        self._pages = self._unused = 0

    def add(self, facts: Iterable[ImageFacts]) -> None:
        """Count some images."""
        for found in facts:
            if found.scaling.rule != "8 bits":
                self._scalings[found.scaling.depth, found.scaling.rule].append(found.scaling)
            self._pages += found.pages > 1
            self._unused += found.value_range_unused

    def notes(self) -> Iterator[str]:
        """What a user should know of, a line per kind."""
        for (depth, rule), scalings in self._scalings.items():
            yield from _range_notes(depth, rule, scalings)
        if self._unused:
            yield (
                f"{self._unused} images have 8 bits (or a reader without `read_rgb`): value_range "
                "has no effect"
            )
        if self._pages:
            yield f"{self._pages} images have several pages or frames: the first one is read"


def _range_notes(depth: str, rule: str, scalings: list[Scaling]) -> Iterator[str]:
    low, high = min(scaling.low for scaling in scalings), max(scaling.high for scaling in scalings)
    images = f"{len(scalings)} images of {depth}"
    if rule == "own range":
        yield (
            f"{images} are scaled by their own range, {low:g}..{high:g}; set value_range to "
            f"[{low:g}, {high:g}], or to what the camera delivers, to scale all alike"
        )
    elif rule == "file":
        yield f"{images} are scaled by the range that their files tell, {low:g}..{high:g}"
    constant = sum(scaling.low == scaling.high for scaling in scalings)
    clipped = sum(scaling.clipped for scaling in scalings)
    missing = sum(scaling.missing for scaling in scalings)
    if constant:
        yield f"{constant} images of {depth} have one value everywhere and become black"
    if clipped:
        yield (
            f"{clipped} images of {depth} have values outside of value_range, {low:g}..{high:g}, "
            "which are clipped"
        )
    if missing:
        yield (
            f"{missing} images of {depth} have values that are no numbers (NaN, infinite, no data)"
        )
