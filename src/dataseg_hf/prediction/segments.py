"""Predicted segments: masks that know their place in the image; as id maps and as COCO json."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.rle import run_lengths

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Segment:
    """One segment of an image.

    Args:
        label_id: index into the vocabulary.
        score: 0..1, None in semantic results.
        mask: bool [h, w], the part of the image that begins at pixel (top, left) and holds the
            whole segment.
    """

    label_id: int
    score: float | None
    mask: NDArray[np.bool_]
    top: int = 0
    left: int = 0

    @property
    def area(self) -> int:
        """Pixels."""
        return int(self.mask.sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width, height in pixels of the image; zeros for an empty mask."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        if not len(rows):
            return 0, 0, 0, 0
        top, left = int(rows[0]), int(columns[0])
        return (
            self.left + left,
            self.top + top,
            int(columns[-1]) + 1 - left,
            int(rows[-1]) + 1 - top,
        )

    def within(self, rows: slice, columns: slice) -> NDArray[np.bool_]:
        """The mask of that rectangle of the image: bool, of its size."""
        cut = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        top, bottom = max(rows.start, self.top), min(rows.stop, self.top + self.mask.shape[0])
        left, right = (
            max(columns.start, self.left),
            min(columns.stop, self.left + self.mask.shape[1]),
        )
        if top < bottom and left < right:
            cut[
                top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
            ] = self.mask[top - self.top : bottom - self.top, left - self.left : right - self.left]
        return cut

    def moved(self, top: int, left: int) -> "Segment":
        """The same segment, of an image in which this one's begins at (top, left)."""
        return Segment(self.label_id, self.score, self.mask, self.top + top, self.left + left)


def cropped(mask: NDArray[np.bool_], label_id: int, score: float | None) -> Segment:
    """The segment of a mask of the whole image, bool [H, W]; that of an empty mask is empty,
    0 x 0.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Segment(label_id, score, np.zeros((0, 0), dtype=bool))
    top, left = int(rows[0]), int(columns[0])
    return Segment(
        label_id, score, mask[top : rows[-1] + 1, left : columns[-1] + 1].copy(), top, left
    )


def id_map(segments: Sequence[Segment], ids: Sequence[int], size: Size) -> NDArray[np.int32]:
    """The id of the first segment that holds each pixel: int32 [H, W], 0 where none does."""
    result = np.zeros(size, dtype=np.int32)
    for segment, number in reversed(list(zip(segments, ids, strict=True))):
        height, width = segment.mask.shape
        result[segment.top : segment.top + height, segment.left : segment.left + width][
            segment.mask
        ] = number
    return result


# --- COCO -----------------------------------------------------------------------------------------
# Category ids are label ids + 1: 0 means "nothing" in id maps.


def coco_categories(names: Sequence[str], is_thing: Sequence[bool]) -> list[dict[str, Any]]:
    """`categories` of a COCO file."""
    return [
        {"id": label_id + 1, "name": name, "isthing": int(thing)}
        for label_id, (name, thing) in enumerate(zip(names, is_thing, strict=True))
    ]


def coco_annotations(
    segments: Sequence[Segment], image_id: int, size: Size, first_id: int = 1
) -> list[dict[str, Any]]:
    """`annotations` of COCO's instances format: a mask (uncompressed run lengths), box, area, and
    score per segment.
    """
    whole = slice(0, size[0]), slice(0, size[1])
    return [
        {
            "id": number,
            "image_id": image_id,
            **_facts(segment),
            "segmentation": {"size": list(size), "counts": run_lengths(segment.within(*whole))},
        }
        for number, segment in enumerate(segments, start=first_id)
    ]


def coco_panoptic_annotation(
    segments: Sequence[Segment], image_id: int, map_file: str
) -> dict[str, Any]:
    """The entry of an image in `annotations` of COCO's panoptic format, whose id map numbers the
    segments from 1.
    """
    infos = [{"id": number, **_facts(segment)} for number, segment in enumerate(segments, start=1)]
    return {"image_id": image_id, "file_name": map_file, "segments_info": infos}


def _facts(segment: Segment) -> dict[str, Any]:
    facts = {
        "category_id": segment.label_id + 1,
        "area": segment.area,
        "bbox": list(segment.box),
        "iscrowd": 0,
    }
    return facts if segment.score is None else {**facts, "score": segment.score}


def coco_file(
    images: Iterable[Mapping[str, Any]],
    annotations: Iterable[Mapping[str, Any]],
    categories: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """A whole COCO file; `images` have `id`, `file_name`, `height`, `width`."""
    return {
        "images": list(images),
        "annotations": list(annotations),
        "categories": list(categories),
    }


def rgb_ids(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Ids as COCO's panoptic PNG holds them: uint8 [H, W, 3], id = R + 256 G + 65536 B."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
