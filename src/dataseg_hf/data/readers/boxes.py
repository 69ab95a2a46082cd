"""Boxes as the readers hand them on: checked, and clipped to their image."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..sample import BadSampleError
from .files import Size


def is_finite_number(value: Any) -> bool:
    """Whether a value out of a file is a number that float64 holds, neither NaN nor infinity."""
    return isinstance(value, int | float) and -sys.float_info.max <= value <= sys.float_info.max


def checked_box(box: Sequence[float], size: Size | None, where: str) -> tuple[float, float, float, float]:
    """A box (left, top, right, bottom) in pixels, right and bottom exclusive, clipped to an image of `size`.

    Args:
        box: four finite numbers.
        size: height and width of the image; None where they are not known yet, and nothing is clipped.
        where: file, key or image id, with which messages begin.

    Raises:
        BadSampleError: for another number of values, NaN or infinity, a right or bottom edge that does not lie after
            the left or top one, and a box that does not touch the image.
    """
    if len(box) != 4 or not all(is_finite_number(value) for value in box):
        raise BadSampleError(f"{where}: a box is four finite numbers, not {list(box)}; correct or remove it")
    left, top, right, bottom = (float(value) for value in box)
    if right <= left or bottom <= top:
        raise BadSampleError(
            f"{where}: the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) has no area, its right and bottom "
            "must be greater than its left and top; correct or remove it"
        )
    if size is None:
        return left, top, right, bottom
    height, width = size
    clipped = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        raise BadSampleError(
            f"{where}: the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) lies outside the image of "
            f"{height} x {width} pixels (height x width); correct or remove it"
        )
    return clipped


def without_repeats(objects: Sequence[Mapping[str, Any]], *keys: str) -> list[Mapping[str, Any]]:
    """Of objects that have equal values at `keys` the first, in their order."""
    first_of: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for found in objects:
        first_of.setdefault(tuple(found[key] for key in keys), found)
    return list(first_of.values())
