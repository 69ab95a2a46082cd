"""Polygons whose corners are pixels, filled with their border, as OpenCV's `fillPoly` and so
Supervisely's SDK do.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def fill_lattice_polygon(
    points: Sequence[Sequence[float]], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """The pixels on the border of a polygon and within it, by the even-odd rule.

    Args:
        points: [N, 2], x and y of pixels, whole numbers; they may lie outside the image.
        size: height and width of the image.

    Returns:
        bool [H, W]. Equal to cv2.fillPoly for polygons within the image.
    """
    corners = np.asarray(points, dtype=np.int64)
    mask = np.zeros(size, dtype=bool)
    left, top = np.maximum(corners.min(axis=0), 0).tolist()
    right, bottom = np.minimum(corners.max(axis=0) + 1, (size[1], size[0])).tolist()
    if left < right and top < bottom:
        mask[top:bottom, left:right] = _filled(corners - (left, top), (bottom - top, right - left))
    return mask


def _filled(start: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """As `fill_lattice_polygon`, of the window that the polygon spans."""
    end = np.concatenate([start[1:], start[:1]])
    mask = _inside(start, end, size)
    x, y = _border(start, end)
    seen = (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
    mask[y[seen], x[seen]] = True
    return mask


def _border(
    start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """x and y of the pixels on the edges, drawn from left to right: one step along the longer axis
    each.
    """
    swapped = (start[:, 0] > end[:, 0])[:, None]
    first, last = np.where(swapped, end, start), np.where(swapped, start, end)
    delta = last - first
    steps = np.abs(delta).max(axis=1)
    edge = np.repeat(np.arange(len(steps)), steps + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(steps + 1) - (steps + 1), steps + 1)
    length = np.maximum(steps, 1)[edge]
    # along both axes delta * step / length, half a pixel rounded down
    offset = -((length[:, None] - 2 * np.abs(delta)[edge] * step[:, None]) // (2 * length[:, None]))
    x, y = (first[edge] + np.sign(delta)[edge] * offset).T
    return x, y


def _inside(
    start: NDArray[np.int64], end: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """The pixels with an odd number of edges to their left."""
    height, width = size
    swapped = (start[:, 1] > end[:, 1])[:, None]
    upper, lower = np.where(swapped, end, start), np.where(swapped, start, end)
    # an edge counts in the rows from its upper end to the one above its lower end
    rows = lower[:, 1] - upper[:, 1]
    edge = np.repeat(np.arange(len(rows)), rows)
    below = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows)
    y = upper[edge, 1] + below
    x = upper[edge, 0] - (-(lower - upper)[edge, 0] * below) // rows[edge]  # rounded up
    seen = (y >= 0) & (y < height) & (x < width)
    crossings = (
        np.bincount(y[seen] * width + np.maximum(x[seen], 0), minlength=height * width) % 2 == 1
    )
    return np.logical_xor.accumulate(crossings.reshape(height, width), axis=1)
