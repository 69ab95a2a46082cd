"""Run-length encoded masks of COCO, checked before they are decoded (cocodataset/cocoapi,
maskApi.c).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...model.image_reading_dataseg import Size
from ..sample import BadSampleError
from .values import require_key


def decode_rle(segmentation: Any, size: Size, where: str) -> NDArray[np.bool_]:
    """Mask [H, W] of {"size": [H, W], "counts": ...}, the counts compressed (text) or a list.

    Raises:
        BadSampleError: unless the counts are not negative and add up to H * W, and the size is the
            image's.
    """
    runs = checked_runs(segmentation, where)
    if tuple(segmentation["size"]) != tuple(size):
        raise BadSampleError(
            f"{where}: run lengths of size {list(segmentation['size'])} (height, width), but the "
            f"image is {list(size)}"
            "; resize both together, or find the image that belongs to them"
        )
    column_major = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return column_major.reshape(size[1], size[0]).T


def checked_runs(segmentation: Any, where: str) -> NDArray[np.int64]:
    """Lengths of the runs of 0 and 1 in turn, down the columns; errors as `decode_rle`."""
    counts = require_key(segmentation, "counts", where)
    size = require_key(segmentation, "size", where)
    try:
        height, width = (int(side) for side in size)
        if isinstance(counts, bytes):
            counts = counts.decode("ascii")
        runs = _decompress(counts) if isinstance(counts, str) else _listed(counts)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadSampleError(
            f"{where}: run lengths cannot be read ({error}); encode the mask anew"
        ) from error
    # of any size: int64 may overflow, to the right sum of runs that fill no memory
    total = sum(runs.tolist())
    if (runs < 0).any() or total != height * width:
        raise BadSampleError(
            f"{where}: run lengths must be >= 0 and add up to {height * width} pixels, not "
            f"{total}; "
            "encode the mask anew"
        )
    return runs


def _listed(counts: Any) -> NDArray[np.int64]:
    runs = np.array(counts)
    if runs.ndim != 1 or (runs.size and runs.dtype.kind not in "iu"):
        raise ValueError("the counts are no list of whole numbers")
    return runs.astype(np.int64)


def _decompress(text: str) -> NDArray[np.int64]:
    """Run lengths out of COCO's compressed form.

    Each number is a little-endian run of characters c; ord(c) - 48 holds 5 bits of value and a flag
    (32) "more to come", in two's complement. From the fourth number on it is the difference to the
    number two before.
    """
    bits = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    if (bits < 0).any() or (bits > 63).any() or (bits.size and bits[-1] & 32):
        raise ValueError("the text is no COCO run-length string")
    is_last = (bits & 32) == 0
    number = np.cumsum(is_last) - is_last  # which number each character belongs to
    first = np.searchsorted(number, np.arange(is_last.sum()))
    place = np.arange(bits.size) - first[number]  # of the character in its number
    if (place > 11).any():
        raise ValueError("a number has more than 60 bits")
    values = np.zeros(len(first), dtype=np.int64)
    np.add.at(values, number, (bits & 31) << (5 * place))
    length = np.diff(first, append=bits.size)
    negative = (bits[is_last] & 16) != 0
    values -= negative * (np.int64(1) << (5 * length))
    # runs 1, 3, 5, ... add up to those two before, and 2, 4, 6, ... likewise; run 0 stands alone
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
