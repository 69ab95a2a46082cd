"""Boxes as the readers hand them on: checked, and clipped to their image."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ...model.image_reading_dataseg import Size
from ..sample import BadSampleError
from .values import is_finite_number

Outside: TypeAlias = Literal["error", "clip"]
# A share of the image's side and a number of pixels, both exceeded (our setting): annotators
# overshoot a border by a little, wrong units do by much.
FAR_OUTSIDE, FAR_OUTSIDE_PIXELS = 0.1, 4
# IoU of a box and the extent of its own mask below which one of them is wrong (our setting)
_CONTRADICTS = 0.5


def is_box(value: Any) -> bool:
    """Whether it is a list of four finite numbers."""
    return isinstance(value, Sequence) and len(value) == 4 and all(map(is_finite_number, value))


def checked_box(
    box: Sequence[float], size: Size | None, where: str, outside: Outside = "error"
) -> tuple[float, float, float, float]:
    """A box (left, top, right, bottom) in pixels, right and bottom exclusive, clipped to an image
    of `size`.

    Args:
        box: four finite numbers.
        size: height and width of the image; None where they are not known yet, and nothing is
            clipped.
        where: file, key or image id, with which messages begin.
        outside: what becomes of a box that reaches beyond the image by more than `FAR_OUTSIDE` of
            its side.

    Raises:
        BadSampleError: for another number of values, NaN or infinity, a right or bottom edge that
            does not lie after the left or top one, a box that does not touch the image, and one
            that reaches far beyond it.
    """
    if not is_box(box):
        raise BadSampleError(
            f"{where}: a box is four finite numbers, not {list(box)}; correct or remove it"
        )
    left, top, right, bottom = (float(value) for value in box)
    if right <= left or bottom <= top:
        raise BadSampleError(
            f"{where}: the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) has no area, "
            "its right and bottom must be greater than its left and top; correct or remove it"
        )
    if size is None:
        return left, top, right, bottom
    height, width = size
    clipped = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        raise BadSampleError(
            f"{where}: the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) lies outside "
            f"the image of {height} x {width} pixels (height x width); correct or remove it"
        )
    if outside == "error":
        refuse_far_outside((left, top, right, bottom), size, where)
    return clipped


def refuse_far_outside(box: Sequence[float], size: Size, where: str) -> None:
    """Check that an extent (left, top, right, bottom) lies in or near an image of `size`.

    Raises:
        BadSampleError: for one that reaches far beyond it.
    """
    height, width = size
    left, top, right, bottom = box
    beyond_x, beyond_y = max(-left, right - width, 0.0), max(-top, bottom - height, 0.0)
    if beyond_x <= max(FAR_OUTSIDE * width, FAR_OUTSIDE_PIXELS) and (
        beyond_y <= max(FAR_OUTSIDE * height, FAR_OUTSIDE_PIXELS)
    ):
        return
    raise BadSampleError(
        f"{where}: the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) reaches "
        f"{max(beyond_x, beyond_y):g} pixels beyond the image of {height} x {width} pixels (height "
        "x width); likely causes: right and bottom written as width and height or the other way "
        "round, or an image resized without its annotation. Correct it, or set `outside: clip` in "
        "the entry to cut such objects at the border"
    )


def refuse_contradiction(
    box: Sequence[float], extent: Sequence[float], where: str, key: str, meaning: str
) -> None:
    """Refuse a box that is not the extent of its own mask; both are left, top, right, bottom.

    Args:
        key: of the box in the file.
        meaning: what its four numbers are.

    Raises:
        BadSampleError: names the likely cause.
    """
    difference = max(abs(a - b) for a, b in zip(box, extent, strict=True))
    if difference <= FAR_OUTSIDE_PIXELS or _iou(box, extent) >= _CONTRADICTS:
        return
    as_corners = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    cause = "; it looks like left, top, right, bottom" if _iou(as_corners, extent) > 0.9 else ""
    raise BadSampleError(
        f"{where}: `{key}` spans ({box[0]:g}, {box[1]:g}) to ({box[2]:g}, {box[3]:g}), but its "
        f"segmentation ({extent[0]:g}, {extent[1]:g}) to ({extent[2]:g}, {extent[3]:g}){cause}; "
        f"`{key}` is {meaning} in pixels of this image: correct or remove it"
    )


def _iou(first: Sequence[float], second: Sequence[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (first, second))
    return common / (areas - common) if areas > common else 0.0


def without_repeats(objects: Sequence[Mapping[str, Any]], *keys: str) -> list[Mapping[str, Any]]:
    """The objects in their order; of those with equal values at `keys` the first only."""
    first_of: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for found in objects:
        first_of.setdefault(tuple(found[key] for key in keys), found)
    return list(first_of.values())
