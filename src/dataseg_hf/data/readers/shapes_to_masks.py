"""Outlines in pixels -> masks. A pixel (row, column) covers [column, column + 1) x [row, row
+ 1).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...model.image_reading_dataseg import Size
from ..masks import box_of_mask
from ..sample import BadSampleError
from .boxes import Outside
from .rle import decode_rle
from .values import is_finite_number


def polygons_to_mask(
    polygons: Sequence[Sequence[float]], size: Size, where: str, outside: Outside = "error"
) -> NDArray[np.bool_]:
    """The union of polygons, rasterized as COCO's are, by the library that also scores them.

    Args:
        polygons: each [x1, y1, x2, y2, ...] in pixels, of 3 or more points. Polygons may leave the
            image, by up to its own width or height; a smaller one than a pixel may come out empty.
        size: height and width of the image.
        where: file, key or image id, with which messages begin.
        outside: "clip" cuts polygons that reach farther.

    Returns:
        bool [H, W].

    Raises:
        BadSampleError: for no polygon, one of less than 3 points, an odd number of coordinates, NaN
            or infinity, and points farther outside than the image is wide or high.
    """
    from hotcoco import mask as coco_mask  # an optional dependency that only polygons need

    if not polygons:
        raise BadSampleError(f"{where}: has no polygon; draw or remove it")
    checked = [checked_polygon(polygon, size, where, outside).tolist() for polygon in polygons]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(checked, *size))).astype(bool)


def checked_polygon(
    polygon: Any, size: Size, where: str, outside: Outside = "error"
) -> NDArray[np.float64]:
    """The coordinates [x1, y1, x2, y2, ...] of a polygon; arguments as `polygons_to_mask`.

    Raises:
        BadSampleError: for points on one line, and as `polygons_to_mask`.
    """
    values = checked_points(polygon, size, where, outside)
    points = values.reshape(-1, 2)
    if (points == points[0]).all(axis=0).any():
        raise BadSampleError(
            f"{where}: all points of the polygon lie on one line, it has no area; remove it"
        )
    return values


def checked_points(
    polygon: Any, size: Size, where: str, outside: Outside = "error"
) -> NDArray[np.float64]:
    """The coordinates [x1, y1, x2, y2, ...] of a polygon or line; arguments as `polygons_to_mask`.

    Raises:
        BadSampleError: as `polygons_to_mask`.
    """
    values = _coordinates(polygon, where)
    height, width = size
    # Far points are those of another image; they would also cost the rasterizer memory in
    # proportion to their distance.
    for along, side in ((values[0::2], width), (values[1::2], height)):
        if along.min() < -side or along.max() > 2 * side:
            if outside == "clip":
                return _cut(values.reshape(-1, 2), size, where)
            raise BadSampleError(
                f"{where}: a polygon from {along.min():g} to {along.max():g} along a side of "
                f"{side} pixels lies far outside the image; likely causes: coordinates of another "
                "image, or an image resized without its annotation. Correct it, or set `outside: "
                "clip` in the entry to cut such objects at the border"
            )
    return values


def _coordinates(polygon: Any, where: str) -> NDArray[np.float64]:
    """x1, y1, x2, y2, ... of 3 or more points, all finite; BadSampleError for anything else."""
    try:
        values = np.asarray(polygon)
    except ValueError:  # lists inside
        values = np.array([], dtype=object)
    if values.ndim == 0 and values.dtype.kind in "iuf":
        raise BadSampleError(
            f"{where}: its segmentation is one flat list of numbers; write a list of polygons, "
            "[[x1, y1, x2, y2, ...]]"
        )
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise BadSampleError(
            f"{where}: a polygon is a list of numbers x1, y1, x2, y2, ...; correct or remove it"
        )
    fault = None
    if len(values) % 2:
        fault = f"of {len(values)} coordinates, an odd number; correct or remove it"
    elif len(values) < 6:
        fault = f"of {len(values) // 2} points, but 3 are the least; remove it"
    elif not np.isfinite(values).all():
        fault = "with coordinates that are no finite numbers; correct or remove it"
    if fault is not None:
        raise BadSampleError(f"{where}: a polygon {fault}")
    return values.astype(np.float64)


def _cut(points: NDArray[np.float64], size: Size, where: str) -> NDArray[np.float64]:
    """What of a polygon [N, 2] is no farther outside than the image is wide and high, as x1, y1,
    x2, y2, ...

    Source: Sutherland & Hodgman, Reentrant Polygon Clipping, 1974.
    """
    for axis, side in ((0, size[1]), (1, size[0])):
        for sign, limit in ((1, 2 * side), (-1, side)):
            beyond = sign * points[:, axis] - limit
            following, beyond_following = np.roll(points, -1, axis=0), np.roll(beyond, -1)
            kept = []
            for a, b, beyond_a, beyond_b in zip(
                points, following, beyond, beyond_following, strict=True
            ):
                if beyond_a <= 0:
                    kept.append(a)
                if (beyond_a <= 0) != (beyond_b <= 0):
                    kept.append(a + (b - a) * (beyond_a / (beyond_a - beyond_b)))
            points = np.array(kept).reshape(-1, 2)
    if len(points) < 3:
        raise BadSampleError(f"{where}: the polygon lies outside the image; remove it")
    return points.ravel()


def extent_of_segmentation(segmentation: Any, size: Size | None, where: str) -> list[float] | None:
    """xyxy of COCO's polygons or run lengths; None where there is none that tells it."""
    if isinstance(segmentation, dict) and size is not None:
        mask = decode_rle(segmentation, size, where)
        return [*map(float, box_of_mask(mask))] if mask.any() else None
    if not isinstance(segmentation, list):
        return None
    rings = [
        ring
        for ring in segmentation
        if isinstance(ring, list) and len(ring) >= 6 and len(ring) % 2 == 0
    ]
    if not rings or not all(is_finite_number(value) for ring in rings for value in ring):
        return None
    points = np.concatenate([np.asarray(ring, dtype=float).reshape(-1, 2) for ring in rings])
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def rectangle_to_mask(box: Sequence[float], size: Size) -> NDArray[np.bool_]:
    """bool [H, W] of the pixels whose center lies in a box (left, top, right, bottom), in
    pixels.
    """
    columns, rows = np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5
    left, top, right, bottom = box
    return ((top <= rows) & (rows < bottom))[:, None] & ((left <= columns) & (columns < right))[
        None, :
    ]


def rotated_rectangle(box: Sequence[float], about: Sequence[float], angle: float) -> list[float]:
    """The corners x1, y1, ..., x4, y4 of a box (left, top, right, bottom), turned clockwise by
    degrees about a point.

    Clockwise as the eye sees it, since y points down.
    """
    left, top, right, bottom = box
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) - about
    turned = corners @ np.array([(cos, sin), (-sin, cos)]) + about
    return turned.ravel().tolist()


def ellipse_to_mask(
    center: Sequence[float], radii: Sequence[float], angle: float, size: Size
) -> NDArray[np.bool_]:
    """bool [H, W] of the pixels whose center lies within an ellipse.

    Args:
        center: x and y, in pixels.
        radii: along its own two axes, in pixels.
        angle: degrees by which it is turned clockwise, as the eye sees it.
        size: height and width of the image.
    """
    x, y = (
        np.arange(size[1])[None, :] + 0.5 - center[0],
        np.arange(size[0])[:, None] + 0.5 - center[1],
    )
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    along, across = x * cos + y * sin, y * cos - x * sin
    return (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
