"""What a probe sees of an image, the maps of a backbone, and the classes of its cells."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.collate import Normalization, pad_images


class FeatureMaps:
    """The maps of a frozen backbone, by their strides.

    Args:
        backbone: gives `feature_maps` of images [B, 3, H, W].
        normalization: of the pixels.
        device: where it computes.
    """

    def __init__(
        self, backbone: nn.Module, normalization: Normalization, device: torch.device
    ) -> None:
        self.backbone = backbone.eval().to(device)
        self.normalization = normalization
        self.device = device

    @torch.no_grad()
    def of(
        self, image: NDArray[np.uint8], image_id: int | str, canvas: int
    ) -> tuple[dict[int, Tensor], Tensor]:
        """The maps of an image at the top left of a canvas, as training shows it to the model.

        Args:
            image: RGB [h, w, 3], at most as large as the canvas.
            image_id: for messages.
            canvas: side in pixels.

        Returns:
            By stride float32 [D, H, W], finest first, and the share of the canvas, height and
            width, that is image, [2].

        Raises:
            ValueError: for an image larger than the canvas.
        """
        pixels, _ = pad_images([image], [image_id], canvas, self.normalization)
        maps = self.backbone(pixels.to(self.device)).feature_maps
        valid = torch.tensor(image.shape[:2], device=self.device) / canvas
        return {round(canvas / features.shape[-2]): features[0].float() for features in maps}, valid

    def channels(self, canvas: int) -> dict[int, int]:
        """Features by stride, finest first."""
        maps, _ = self.of(np.zeros((canvas, canvas, 3), np.uint8), "", canvas)
        return {stride: len(features) for stride, features in maps.items()}


def joined(maps: Sequence[Tensor]) -> Tensor:
    """Maps [D_i, H_i, W_i], finest first, as one [sum of D_i, H_0, W_0]: all enlarged bilinearly to
    the finest.
    """
    return torch.cat([enlarged(features, maps[0]) for features in maps])


def enlarged(features: Tensor, finest: Tensor) -> Tensor:
    """[D, h, w] at the size of `finest` [..., H, W]."""
    size = (finest.shape[-2], finest.shape[-1])
    if features.shape[-2:] == size:
        return features
    return F.interpolate(features[None], size=size, mode="bilinear", align_corners=False)[0]


def cell_counts(
    class_map: NDArray[np.int32], classes: int, canvas: int, grid: tuple[int, int]
) -> Tensor:
    """Labeled pixels of each class in each cell, float64 [H * W, C]; void counts nowhere.

    Args:
        class_map: [h, w] at the top left of the canvas, -1 where void.
        classes: their number C.
        canvas: side in pixels.
        grid: cells H and W of the canvas.
    """
    rows, columns = np.nonzero(class_map >= 0)
    cell = rows * grid[0] // canvas * grid[1] + columns * grid[1] // canvas
    place = cell * classes + class_map[rows, columns]
    counts = np.bincount(place, minlength=grid[0] * grid[1] * classes)
    return torch.from_numpy(counts.reshape(-1, classes).astype(np.float64))
