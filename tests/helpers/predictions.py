"""Predictions of one image from bare tensors, for tests that make their proposals up."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dataseg_hf.model import mask2former_panoptic_dataseg, postprocessing_dataseg
from dataseg_hf.model.predictions_dataseg import InstancePrediction, PanopticPrediction
from dataseg_hf.model.proposals_dataseg import ImageProposals
from dataseg_hf.model.thresholds_dataseg import Thresholds

Size = tuple[int, int]


def image_proposals(
    class_logits: Tensor, mask_logits: Tensor, valid_size: Tensor, is_thing: Tensor | None = None
) -> ImageProposals:
    """All categories are things by default."""
    if is_thing is None:
        is_thing = torch.ones(class_logits.shape[-1] - 1, dtype=torch.bool)
    return ImageProposals(class_logits, mask_logits, valid_size, is_thing)


def semantic_prediction(
    class_logits: Tensor, mask_logits: Tensor, valid_size: Tensor, size: Size | None
) -> Tensor:
    """A category per pixel, int64 [H, W]."""
    proposals = image_proposals(class_logits, mask_logits, valid_size)
    return postprocessing_dataseg.semantic_prediction(proposals, size).segmentation


def _panoptic(function: Callable[..., PanopticPrediction]) -> Callable[..., PanopticPrediction]:
    def predict(
        class_logits: Tensor,
        mask_logits: Tensor,
        fused: Tensor,
        valid_size: Tensor,
        size: Size | None,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
    ) -> PanopticPrediction:
        proposals = image_proposals(class_logits, mask_logits, valid_size)
        thresholds = Thresholds(threshold, mask_threshold, overlap_mask_area_threshold)
        return function(proposals, fused, size, thresholds)

    return predict


panoptic_prediction = _panoptic(postprocessing_dataseg.panoptic_prediction)
mask2former_panoptic_prediction = _panoptic(
    mask2former_panoptic_dataseg.mask2former_panoptic_prediction
)


def instance_prediction(
    class_logits: Tensor,
    mask_logits: Tensor,
    is_thing: Tensor,
    valid_size: Tensor,
    size: Size | None,
    threshold: float = 0.0,
    mask_threshold: float = 0.5,
    **options: Any,
) -> InstancePrediction:
    """Scored masks of things; `options` are `nms` and `max_instances`."""
    proposals = image_proposals(class_logits, mask_logits, valid_size, is_thing)
    thresholds = Thresholds(threshold, mask_threshold, **options)
    return postprocessing_dataseg.instance_prediction(proposals, size, thresholds)
