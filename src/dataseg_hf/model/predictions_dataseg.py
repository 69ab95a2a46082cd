"""Results for one image: a map of segments, a map of categories, or masks that may overlap.

Shapes: H x W pixels of the result.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .mask_nms_dataseg import Window, without_repeats


@dataclass(frozen=True)
class Region:
    """One segment of a result, whatever the task.

    Args:
        label_id: index into the vocabulary.
        score: 0..1; None in semantic results.
        mask: bool [h, w], within its window.
        window: rows and columns of the result.
    """

    label_id: int
    score: float | None
    mask: Tensor
    window: Window

    def full_mask(self, size: tuple[int, int]) -> Tensor:
        """The mask in a result of that height and width: bool [H, W]."""
        mask = torch.zeros(size, dtype=torch.bool, device=self.mask.device)
        mask[self.window] = self.mask
        return mask


@dataclass
class PanopticPrediction:
    """Segments that do not overlap.

    Args:
        segmentation: int32 [H, W], 0 = no segment.
        segments: dicts with id (from 1), label_id, was_fused, score.
    """

    segmentation: Tensor
    segments: list[dict[str, Any]]

    def on_host(self) -> "PanopticPrediction":
        """The same on the host, which waits once."""
        return replace(self, segmentation=self.segmentation.cpu())

    def regions(self) -> Iterator[Region]:
        """The segments, in their order."""
        for segment in self.segments:
            mask = self.segmentation == segment["id"]
            yield Region(segment["label_id"], segment["score"], mask, _whole(mask))


@dataclass
class SemanticPrediction:
    """A category per pixel.

    Args:
        segmentation: int64 [H, W], indices into the vocabulary.
        sums: float32 [H, W], the score of that category: 0 and more, above 1 where several
            proposals are sure of it.
    """

    segmentation: Tensor
    sums: Tensor

    def on_host(self) -> "SemanticPrediction":
        """The same on the host, which waits twice."""
        return SemanticPrediction(self.segmentation.cpu(), self.sums.cpu())

    def regions(self) -> Iterator[Region]:
        """One for each category that occurs, in their order."""
        for label_id in self.segmentation.unique().tolist():
            mask = self.segmentation == label_id
            yield Region(label_id, None, mask, _whole(mask))


@dataclass
class InstancePrediction:
    """K scored objects that may overlap, best first.

    Args:
        crops: K binary masks, each within its window of the result.
        windows: rows and columns of the result, of each mask.
        areas: pixels of each mask.
        scores: [K], on the host.
        label_ids: int64 [K], on the host.
        size: height and width of the result.
        device: of the masks.
    """

    crops: list[Tensor]
    windows: list[Window]
    areas: list[int]
    scores: Tensor
    label_ids: Tensor
    size: tuple[int, int]
    device: torch.device

    @property
    def masks(self) -> Tensor:
        """The masks at full size, bool [K, H, W], built anew at each call."""
        masks = torch.zeros(len(self.crops), *self.size, dtype=torch.bool, device=self.device)
        for mask, crop, window in zip(masks, self.crops, self.windows, strict=True):
            mask[window] = crop
        return masks

    def regions(self) -> Iterator[Region]:
        """The objects, best first; scores are rounded to 6 digits."""
        found = zip(
            self.label_ids.tolist(), self.scores.tolist(), self.crops, self.windows, strict=True
        )
        for label_id, score, crop, window in found:
            yield Region(label_id, round(score, 6), crop, window)

    def selected(self, places: Sequence[int]) -> "InstancePrediction":
        """The objects at those places."""
        return InstancePrediction(
            [self.crops[i] for i in places],
            [self.windows[i] for i in places],
            [self.areas[i] for i in places],
            self.scores[places],
            self.label_ids[places],
            self.size,
            self.device,
        )

    def on_host(self) -> "InstancePrediction":
        """The same on the host, which waits once."""
        if self.device.type == "cpu" or not self.crops:
            return replace(self, device=torch.device("cpu"))
        flat = torch.cat([crop.flatten() for crop in self.crops]).cpu()
        parts = flat.split([crop.numel() for crop in self.crops])
        crops = [part.view(crop.shape) for part, crop in zip(parts, self.crops, strict=True)]
        return replace(self, crops=crops, device=flat.device)

    def without_repeats(self, max_iou: float) -> "InstancePrediction":
        """The objects whose mask repeats no better one of their category (`mask_nms_dataseg`)."""
        masks = [crop.numpy() for crop in self.on_host().crops]
        label_ids = self.label_ids.tolist()
        return self.selected(without_repeats(masks, self.windows, self.areas, label_ids, max_iou))


Prediction: TypeAlias = PanopticPrediction | SemanticPrediction | InstancePrediction


def _whole(mask: Tensor) -> Window:
    return slice(0, mask.shape[0]), slice(0, mask.shape[1])


__all__ = [
    "InstancePrediction",
    "PanopticPrediction",
    "Prediction",
    "Region",
    "SemanticPrediction",
]
