"""Runs of equal pixels: what the metrics of maps count instead of single pixels, because regions
are far fewer.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**16
"""Pixels of noise that are passed on together: few enough to stay in the processor's cache."""


def pixel_runs(
    first: NDArray[Any], second: NDArray[Any]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Runs of two integer maps of one size, both [H, W], read row after row: a run ends where
    either map changes.

    Yields:
        The value of `first`, the value of `second`, and the number of pixels, each int64 [R]: all
        runs at once. Of maps that change at most pixels, as noise does, every pixel is a run, and
        they come in blocks.
    """
    a, b = first.ravel(), second.ravel()
    changes = a[1:] != a[:-1]
    changes |= b[1:] != b[:-1]
    if 2 * np.count_nonzero(changes) <= changes.size:
        # none in a map without pixels
        ends = np.append(np.flatnonzero(changes), a.size - 1)[: a.size]
        yield a[ends].astype(np.int64), b[ends].astype(np.int64), np.diff(ends, prepend=-1)
        return
    for start in range(0, a.size, BLOCK):
        block = a[start : start + BLOCK].astype(np.int64)
        yield block, b[start : start + BLOCK].astype(np.int64), np.ones_like(block)


def clamp_outside(values: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """`values` [R] with everything outside of 0..size-1 replaced by `size`."""
    # as unsigned, negatives are the largest
    return np.minimum(values.view(np.uint64), np.uint64(size)).view(np.int64)
