"""Run-length encoded masks of COCO, checked before they are decoded (cocodataset/cocoapi,
maskApi.c).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...model.image_reading_dataseg import Size
from ..rle import decompress, mask_of_runs
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
    return mask_of_runs(runs, size)


def checked_runs(segmentation: Any, where: str) -> NDArray[np.int64]:
    """Lengths int64 [number of runs] of the runs of 0 and 1 in turn, down the columns.

    Raises:
        BadSampleError: as `decode_rle`.
    """
    counts = require_key(segmentation, "counts", where)
    size = require_key(segmentation, "size", where)
    try:
        height, width = (int(side) for side in size)
        if isinstance(counts, str):
            counts = counts.encode("ascii")
        runs = decompress([counts])[0] if isinstance(counts, bytes) else _listed(counts)
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
