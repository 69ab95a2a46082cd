"""Run-length encoded masks in COCO's form: {"size": [height, width], "counts": compressed bytes},
column by column.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.rle import decompress, run_lengths
from ..messages import shown

Rle: TypeAlias = dict[str, Any]
Masks: TypeAlias = NDArray[np.bool_] | Sequence[Rle]
"""Bool [M, H, W], or M RLE dicts whose `counts` are compressed (bytes or str) or a list of run
lengths.
"""


def mask_annotations(
    masks: Masks, count: int, size: tuple[int, int], name: str
) -> list[dict[str, Any]]:
    """`segmentation` (compressed RLE) and `area` (pixels) of `count` masks of `size` (h, w).

    Raises:
        ValueError: for another number of masks, another size, or run lengths that do not fill the
            image; `name` is in the message.
    """
    if isinstance(masks, np.ndarray):
        if masks.dtype != np.bool_ or masks.shape != (count, *size):
            raise ValueError(
                f"{name}: expected bool {(count, *size)}, got {masks.dtype} {masks.shape}"
            )
        runs = [np.array(run_lengths(mask), dtype=np.int64) for mask in masks]
        rles = [_compressed(runs_of_mask.tolist(), size) for runs_of_mask in runs]
    else:
        if len(masks) != count:
            raise ValueError(f"{name}: {len(masks)} masks for {count} label_ids")
        rles = [_compressed_rle(rle, size, f"{name}[{index}]") for index, rle in enumerate(masks)]
        runs = _checked_runs(rles, size, name)
    return [
        {"segmentation": rle, "area": float(runs_of_mask[1::2].sum())}
        for rle, runs_of_mask in zip(rles, runs, strict=True)
    ]


def polygons_to_rle(polygons: list[list[float]], size: tuple[int, int]) -> Rle:
    """RLE of the union of polygons [x1, y1, x2, y2, ...] in pixels, on an image of `size` (height,
    width), by COCO's rasterization.
    """
    from hotcoco import mask as coco_mask

    return coco_mask.merge(coco_mask.frPyObjects(polygons, *size))


def _compressed(runs: list[int], size: tuple[int, int]) -> Rle:
    from hotcoco import mask as coco_mask

    return coco_mask.frPyObjects({"size": list(size), "counts": runs}, *size)


def _compressed_rle(rle: Any, size: tuple[int, int], name: str) -> Rle:
    """`rle` with `counts` as bytes."""
    is_rle = isinstance(rle, dict) and isinstance(rle.get("counts"), (bytes, str, list))
    if not is_rle or "size" not in rle:
        raise ValueError(
            f"{name}: expected an RLE, a dict with `size` [height, width] and `counts`"
        )
    stated = tuple(rle["size"]) if isinstance(rle["size"], (list, tuple)) else rle["size"]
    if stated != size:
        raise ValueError(
            f"{name}: RLE of size {shown(stated)}, the image is {size} (height, width)"
        )
    counts = rle["counts"]
    if isinstance(counts, bytes):
        return {"size": list(size), "counts": counts}
    if isinstance(counts, str):
        return {"size": list(size), "counts": counts.encode()}
    are_lengths = all(isinstance(run, int) and run >= 0 for run in counts)
    if not are_lengths or sum(counts) != size[0] * size[1]:
        raise ValueError(
            f"{name}: run lengths must be whole numbers >= 0 that add up to {size[0] * size[1]}"
        )
    return _compressed(counts, size)


def _checked_runs(rles: list[Rle], size: tuple[int, int], name: str) -> list[NDArray[np.int64]]:
    """Run lengths of compressed RLEs, each of which must fill its image."""
    try:
        runs = decompress([rle["counts"] for rle in rles])
    except ValueError as error:
        if len(rles) == 1:
            raise ValueError(f"{name}: `counts` is not COCO's compressed form: {error}") from error
        for index, rle in enumerate(rles):
            _checked_runs([rle], size, f"{name}[{index}]")
        raise
    pixels = size[0] * size[1]
    for index, runs_of_mask in enumerate(runs):
        total = int(runs_of_mask.sum())
        if (runs_of_mask < 0).any() or total != pixels:
            raise ValueError(
                f"{name}[{index}]: run lengths add up to {total} pixels, the image has {pixels}"
            )
    return runs
