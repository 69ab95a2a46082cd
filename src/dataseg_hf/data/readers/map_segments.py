"""From maps of numbers to segments. Work is done per run of equal numbers, and per number that
occurs: both are few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...model.image_reading_dataseg import Size
from ..sample import Instances, Segments
from .class_ids import VOID
from .id_maps import id_runs
from .map_classes import MapClasses

SegmentKey: TypeAlias = tuple[int, bool, int]
"""Class index, whether it is a crowd, and number of the object; 0 for what is merged."""


@dataclass(frozen=True)
class CountedMap:
    """A map [H, W] as the numbers in it.

    Args:
        numbers: int64 [N], sorted.
        pixels: int64 [N], how many have each.
        places: int64 [R], index into `numbers` of each run in reading order.
        lengths: int [R], of the runs.
        size: H and W.
    """

    numbers: NDArray[np.int64]
    pixels: NDArray[np.int64]
    places: NDArray[np.int64]
    lengths: NDArray[np.integer]
    size: Size


def count_map(ids: NDArray[np.integer]) -> CountedMap:
    """The numbers in a map [H, W]."""
    run_ids, lengths = id_runs(ids)
    numbers, places = np.unique(run_ids, return_inverse=True)
    pixels = np.zeros(len(numbers), dtype=np.int64)
    np.add.at(pixels, places, lengths)
    return CountedMap(
        numbers.astype(np.int64), pixels, places, lengths, (ids.shape[0], ids.shape[1])
    )


def segments_of_numbers(counted: CountedMap, keys: Sequence[SegmentKey | None]) -> Segments:
    """The segments of a map.

    Args:
        counted: the map.
        keys: of each of its numbers, the segment to which it belongs; None for void. Equal keys are
            one segment.
    """
    present = sorted({key for key in keys if key is not None})
    place_of = {key: place for place, key in enumerate(present)}
    segment_of = np.array([-1 if key is None else place_of[key] for key in keys], dtype=np.int32)
    return Segments(
        np.repeat(segment_of[counted.places], counted.lengths).reshape(counted.size),
        np.array([class_index for class_index, _, _ in present], dtype=np.int64),
        np.array([is_crowd for _, is_crowd, _ in present], dtype=bool),
    )


def instances_of_segments(segments: Segments, with_masks: bool) -> Instances:
    """Every segment as an object, with the tight box of its pixels. Shapes as in `Segments` and
    `Instances`.
    """
    slices = ndimage.find_objects(segments.segment_map + 1, max_label=len(segments.class_labels))
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in slices]
    masks = None
    if with_masks:
        masks = segments.segment_map[None] == np.arange(len(boxes), dtype=np.int32)[:, None, None]
    return Instances(
        class_labels=segments.class_labels,
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        is_crowd=segments.is_crowd,
        masks=masks,
    )


def semantic_segments_of(
    ids: NDArray[np.integer], classes: MapClasses, where: str
) -> tuple[Segments, tuple[str, ...]]:
    """One segment per class that occurs in a map [H, W] of numbers or packed colors, and remarks.

    Raises:
        UnknownIdsError, BadSampleError: as `MapClasses.class_indices`.
    """
    counted = count_map(ids)
    found, remarks = classes.class_indices(counted.numbers.tolist(), counted.pixels.tolist(), where)
    return segments_of_numbers(
        counted, [None if c == VOID else (c, False, 0) for c in found]
    ), remarks
