"""Objects of one category, apart: the connected parts of a mask (our setting)."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from .host_dataseg import to_device

MIN_CELLS = 64
"""Of the mask grid, in a second part that counts: 32 x 32 pixels at stride 4. Smaller ones are
mostly cells that were called wrong.
"""


def connected_parts(
    mask_logits: Tensor, inside: NDArray[np.bool_], min_cells: int = MIN_CELLS
) -> Iterator[Tensor]:
    """The mask once for each of its connected parts, as if the other parts were not: [h, w].

    Args:
        mask_logits: [h, w].
        inside: [h, w], the cells above 0; on the host, so that one copy can serve many masks.
        min_cells: in a part, at least; smaller ones are left out, but for the largest.
    """
    labels, count = ndimage.label(inside)
    sizes = np.bincount(labels.ravel(), minlength=count + 1).tolist()
    enough = min(min_cells, max(sizes[1:], default=0))
    numbers = to_device(torch.from_numpy(labels), mask_logits.device)
    for part in range(1, count + 1):
        if sizes[part] >= enough:
            yield torch.where((numbers == part) | (numbers == 0), mask_logits, -mask_logits)


__all__ = ["MIN_CELLS", "connected_parts"]
