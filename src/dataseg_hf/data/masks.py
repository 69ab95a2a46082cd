"""What masks tell of objects."""

import numpy as np
from numpy.typing import NDArray


def boxes_of_masks(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The tight boxes, float32 [M, 4] xyxy in pixels (right and bottom exclusive), of non-empty
    masks [M, H, W].
    """
    columns, rows = np.any(masks, axis=1), np.any(masks, axis=2)
    left, top = columns.argmax(axis=1), rows.argmax(axis=1)
    right = masks.shape[2] - np.flip(columns, axis=1).argmax(axis=1)
    bottom = masks.shape[1] - np.flip(rows, axis=1).argmax(axis=1)
    return np.stack([left, top, right, bottom], axis=1).astype(np.float32)


def box_of_mask(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """As `boxes_of_masks` of one mask [H, W]: float32 [4]."""
    return boxes_of_masks(mask[None])[0]
