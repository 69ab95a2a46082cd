"""Masks -> polygons along the borders of pixels, which give back the same pixels."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..segments import Segment

Polygon: TypeAlias = list[tuple[int, int]]
"""Corners (x, y) in pixels, clockwise as the eye sees it; the last is joined to the first."""


def outline_polygons(segment: Segment) -> list[Polygon] | None:
    """One polygon for each part of a segment, in pixels of its image; None where polygons cannot
    tell its mask.

    Those are masks with a hole, and masks in which two pixels touch at a corner only, since an
    outline that touches itself is no valid polygon to many tools. A pixel (row, column) covers
    [column, column + 1) x [row, row + 1), so all corners are whole numbers, and a rasterizer that
    takes the pixels whose center lies inside gets the same mask.
    """
    mask = np.pad(segment.mask, 1)
    corner = _quarters(mask)
    if (corner == _TOUCHING).any():
        return None
    y, x = np.nonzero(corner == _CORNER)
    polygons = []
    for loop in _loops(x, y):
        # the top left corner of a hole has the mask above and beside it
        if not segment.mask[y[loop[0]], x[loop[0]]]:
            return None
        polygons.append([(int(x[i]) + segment.left, int(y[i]) + segment.top) for i in loop])
    return polygons


_CORNER, _TOUCHING = 1, 2


def _quarters(mask: NDArray[np.bool_]) -> NDArray[np.int8]:
    """What the border does where four pixels meet: _CORNER where it turns, _TOUCHING where two
    corners meet, else 0.

    Args:
        mask: [H + 2, W + 2], False along its edge; entry [y, x] of the result [H + 1, W + 1] is the
            point whose lower right pixel is that of the mask without the edge.
    """
    above, below = mask[:-1, :-1] ^ mask[:-1, 1:], mask[1:, :-1] ^ mask[1:, 1:]
    beside = mask[:-1, :-1] ^ mask[1:, :-1]
    return (above ^ below) * np.int8(_CORNER) + (above & below & beside) * np.int8(_TOUCHING)


def _loops(x: NDArray[np.int64], y: NDArray[np.int64]) -> Iterator[list[int]]:
    """The closed outlines through corners that are sorted by (y, x), each from its topmost,
    leftmost corner clockwise.

    Along a line of pixel borders every second stretch between corners belongs to an outline: the
    first and second corner are joined, the third and fourth, and so on.
    """
    count = len(x)
    by_row, by_column = np.arange(count), np.lexsort((y, x))
    across, along = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    for partner, order in ((across, by_row), (along, by_column)):
        partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    next_across, next_along = across.tolist(), along.tolist()
    seen = [False] * count
    for start in range(count):
        if seen[start]:
            continue
        loop, corner = [], start
        while not seen[corner]:
            other = next_across[corner]
            seen[corner] = seen[other] = True
            loop += [corner, other]
            corner = next_along[other]
        yield loop
