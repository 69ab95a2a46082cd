"""Tight boxes of masks."""

import numpy as np
from numpy.typing import NDArray


def boxes_of_masks(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The tight boxes of masks.

    Args:
        masks: bool [M, H, W].

    Returns:
        float32 [M, 4], xyxy in pixels, right and bottom exclusive; zeros for an empty mask.
    """
    columns, rows = np.any(masks, axis=1), np.any(masks, axis=2)
    left, top = columns.argmax(axis=1), rows.argmax(axis=1)
    # argmax over the flipped axis finds the last one that is set
    right = masks.shape[2] - np.flip(columns, axis=1).argmax(axis=1)
    bottom = masks.shape[1] - np.flip(rows, axis=1).argmax(axis=1)
    boxes = np.stack([left, top, right, bottom], axis=1).astype(np.float32)
    return boxes * rows.any(axis=1)[:, None]


def box_of_mask(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The tight box of a mask [H, W]: left, top, right, bottom in pixels, right and bottom
    exclusive; zeros for an empty mask.
    """
    if not mask.size:
        return 0, 0, 0, 0
    left, top, right, bottom = boxes_of_masks(mask[None])[0].astype(int).tolist()
    return left, top, right, bottom
