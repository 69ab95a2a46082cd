"""Predicted segments: masks that know their place in the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.coco_format import Size
from ..data.masks import box_of_mask


@dataclass(frozen=True)
class Segment:
    """One segment of an image.

    Args:
        label_id: index into the vocabulary.
        score: 0..1, None in semantic results.
        mask: bool [h, w], the part of the image that begins at pixel (top, left) and holds the
            whole segment.
        facts: further keys of its entry in a COCO file.
    """

    label_id: int
    score: float | None
    mask: NDArray[np.bool_]
    top: int = 0
    left: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def area(self) -> int:
        """Pixels."""
        return int(self.mask.sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width, height in pixels of the image; zeros for an empty mask."""
        left, top, right, bottom = box_of_mask(self.mask)
        if not right:
            return 0, 0, 0, 0
        return self.left + left, self.top + top, right - left, bottom - top

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
        return replace(self, top=self.top + top, left=self.left + left)


def cropped(mask: NDArray[np.bool_], label_id: int, score: float | None) -> Segment:
    """The segment of a mask of the whole image, bool [H, W]; that of an empty mask is empty,
    0 x 0.
    """
    left, top, right, bottom = box_of_mask(mask)
    return Segment(label_id, score, mask[top:bottom, left:right].copy(), top, left)


def id_map(segments: Sequence[Segment], ids: Sequence[int], size: Size) -> NDArray[np.int32]:
    """The id of the first segment that holds each pixel: int32 [H, W], 0 where none does."""
    result = np.zeros(size, dtype=np.int32)
    for segment, number in reversed(list(zip(segments, ids, strict=True))):
        height, width = segment.mask.shape
        result[segment.top : segment.top + height, segment.left : segment.left + width][
            segment.mask
        ] = number
    return result
