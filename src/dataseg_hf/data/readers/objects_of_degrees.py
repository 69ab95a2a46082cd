"""Objects of which more or less is known, put together one by one."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...model.degrees_dataseg import Degree
from ...model.image_reading_dataseg import Size
from ..masks import box_of_mask
from ..sample import Instances

MAX_POINTS = 16  # of an object; more are thinned out evenly (our setting)
POINT_DISTANCE = 8.0  # pixels, of the points along a scribble (our setting)


class ObjectsOfDegrees:
    """The objects of an image of `size` (height, width), in the order in which they are added."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._classes: list[int] = []
        self._crowds: list[bool] = []
        self._degrees: list[Degree] = []
        self._boxes: list[Sequence[float]] = []
        self._masks: dict[int, NDArray[np.bool_]] = {}
        self._points: dict[int, NDArray[np.float64]] = {}

    def add(
        self,
        class_index: int,
        is_crowd: bool,
        mask: NDArray[np.bool_] | None = None,
        box: Sequence[float] | None = None,
        points: Sequence[float] = (),
    ) -> None:
        """Add an object with the most of what is given: a mask bool [H, W], a box xyxy in pixels,
        points x1, y1, x2, y2, ... inside of it, or else that the image shows it.
        """
        number, extent = len(self._classes), self._whole_image()
        if mask is not None and mask.any():
            self._masks[number] = mask
            degree, extent = Degree.MASK, [*map(float, box_of_mask(mask))]
        elif box is not None:
            degree, extent = Degree.BOX, box
        elif len(points):
            self._points[number] = np.array(points, dtype=np.float64).reshape(-1, 2)
            degree = Degree.POINT
        else:
            degree = Degree.TAG
        self._classes.append(class_index)
        self._crowds.append(is_crowd)
        self._degrees.append(degree)
        self._boxes.append(extent)

    def _whole_image(self) -> Sequence[float]:
        height, width = self._size
        return 0.0, 0.0, float(width), float(height)

    def instances(self) -> Instances:
        """What was added. A class that has other objects needs no tag: those are left out, and of
        several tags of a class one is kept.
        """
        kept = self._needed()
        masks = points = None
        if self._masks:
            masks = np.zeros((len(kept), *self._size), dtype=bool)
            for row, number in enumerate(kept):
                if number in self._masks:
                    masks[row] = self._masks[number]
        if self._points:
            points = np.full((len(kept), MAX_POINTS, 2), np.nan, dtype=np.float32)
            for row, number in enumerate(kept):
                if number in self._points:
                    thinned = _thinned(self._points[number])
                    points[row, : len(thinned)] = thinned
        return Instances(
            class_labels=np.array([self._classes[number] for number in kept], dtype=np.int64),
            boxes=np.array([self._boxes[number] for number in kept], np.float32).reshape(-1, 4),
            is_crowd=np.array([self._crowds[number] for number in kept], dtype=bool),
            masks=masks,
            degrees=np.array([self._degrees[number] for number in kept], dtype=np.int8),
            points=points,
        )

    def _needed(self) -> list[int]:
        located = {
            label
            for label, degree in zip(self._classes, self._degrees, strict=True)
            if degree != Degree.TAG
        }
        kept = []
        for number, (label, degree) in enumerate(zip(self._classes, self._degrees, strict=True)):
            if degree == Degree.TAG:
                if label in located:
                    continue
                located.add(label)
            kept.append(number)
        return kept


def along_line(points: Sequence[float]) -> list[float]:
    """Points x1, y1, x2, y2, ... along the line through the given ones, in the same form."""
    corners = np.array(points, dtype=np.float64).reshape(-1, 2)
    found = [corners[:1]]
    for start, end in pairwise(corners):
        count = max(1, round(float(np.hypot(*(end - start))) / POINT_DISTANCE))
        found.append(start + (end - start) * np.linspace(0, 1, count + 1)[1:, None])
    return [float(value) for value in np.concatenate(found).ravel()]


def _thinned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(points) <= MAX_POINTS:
        return points
    return points[np.linspace(0, len(points) - 1, MAX_POINTS).round().astype(int)]
