"""Runs of equal pixels: what the metrics of maps count instead of single pixels, because regions are far fewer."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**16
"""Pixels that are looked at together: few enough for the processor's cache, whatever the size of the image."""


def pixel_runs(
    first: NDArray[Any], second: NDArray[Any]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Runs of two integer maps of one size, both [H, W], read row after row: a run ends where either map changes.

    Yields:
        Per block of pixels the value of `first`, the value of `second`, and the number of pixels, each int64 [R]. In a
        block that changes at most pixels, as noise does, every pixel is a run. A map without pixels has no block.
    """
    flat_first, flat_second = first.ravel(), second.ravel()
    for start in range(0, flat_first.size, BLOCK):
        a, b = flat_first[start : start + BLOCK], flat_second[start : start + BLOCK]
        changes = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
        if 2 * np.count_nonzero(changes) > changes.size:
            yield a.astype(np.int64), b.astype(np.int64), np.ones(a.size, dtype=np.int64)
        else:
            starts = np.append(0, np.flatnonzero(changes) + 1)
            yield a[starts].astype(np.int64), b[starts].astype(np.int64), np.diff(starts, append=a.size)


def clamp_outside(values: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """`values` with everything outside 0..size-1 replaced by `size`."""
    return np.minimum(values.view(np.uint64), np.uint64(size)).view(np.int64)  # as unsigned, negatives are the largest
