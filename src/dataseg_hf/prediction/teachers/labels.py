"""What a teacher says of an image."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..segments import Segment


@dataclass(frozen=True)
class ClassMap:
    """A class per pixel.

    Args:
        classes: int32 [H, W], index of a class, -1 = void.
        confidence: float32 [H, W], 0..1, of the likeliest class, also where the pixel is void.
    """

    classes: NDArray[np.int32]
    confidence: NDArray[np.float32]


@dataclass(frozen=True)
class Boxes:
    """A box per object.

    Args:
        corners: float32 [M, 4], xyxy in pixels, within the image.
        label_ids: int64 [M], index of a class.
        scores: float32 [M], 0..1.
    """

    corners: NDArray[np.float32]
    label_ids: NDArray[np.int64]
    scores: NDArray[np.float32]


ImageLabels: TypeAlias = ClassMap | Boxes | list[Segment]
"""Segments have a score and an index of a class; panoptic ones do not overlap."""
