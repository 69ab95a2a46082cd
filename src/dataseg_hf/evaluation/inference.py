"""From a held-out set to what the model says about each of its images: forward passes and the
outputs of each task.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.collate import pad_images
from ..data.masks import box_of_mask
from ..data.sample import BadSampleError, Sample
from ..data.transforms import resize_only
from ..metrics.instances import MAX_DETS
from ..model.modeling_dataseg import DaTaSegModel
from ..model.postprocessing_dataseg import (
    InstancePrediction,
    instance_prediction,
    panoptic_prediction,
    semantic_prediction,
)
from .flip import Proposals, paired_views, summed_views
from .sets import EvaluationSet

OutputKind: TypeAlias = Literal["panoptic", "semantic", "instances"]


@dataclass(frozen=True)
class Inference:
    """How images go through the model.

    image_mean, image_std: normalization of pixel values in 0..1. flip: also show the mirror image
        (`evaluation.flip`).
    num_workers: loading processes.
    """

    image_mean: Sequence[float]
    image_std: Sequence[float]
    flip: bool = False
    num_workers: int = 0


@dataclass
class ImageOutput:
    """What the model proposes for one image. `things` bool [C].

    proposals: for panoptic and instance output. summed: for semantic output. Different only where
        views were joined.
    """

    proposals: Proposals
    summed: Proposals
    things: Tensor


@dataclass
class PanopticOutput:
    """segmentation: int32 [H, W], segment id per pixel, 0 = none; segments: dicts with id and
    label_id among others.
    """

    segmentation: NDArray[np.int32]
    segments: list[dict[str, Any]]


@dataclass
class InstancesOutput:
    """Scored objects, best first, which may overlap: masks bool [K, H, W], their tight boxes [K, 4]
    (xyxy, the far edges one past the mask), scores float32 [K], label_ids int64 [K].
    """

    masks: NDArray[np.bool_]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float32]
    label_ids: NDArray[np.int64]


# --- loading and forward passes -------------------------------------------------------------------


class _Inputs(Dataset):
    """Samples with their images as the model takes them; what cannot be read is returned as its
    error.

    Raised in a worker process, the error would come back as the text of a traceback.
    """

    def __init__(self, chosen: EvaluationSet) -> None:
        self.chosen = chosen

    def __len__(self) -> int:
        return len(self.chosen.data)

    def __getitem__(self, index: int) -> tuple[Sample, NDArray[np.uint8]] | BadSampleError:
        try:
            sample = self.chosen.data[index]
        except BadSampleError as error:
            return error
        return sample, resize_only(sample, self.chosen.image_size, self.chosen.shortest_edge).image


def _as_is(items: list[Any]) -> list[Any]:
    return items


def share_of_batches(
    count: int, batch_size: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """Every `world_size`-th batch of `count` images, so that none is scored twice.

    Whole batches: a forward pass depends in its last bits on which images it holds, and must not
    depend on the number of processes.
    """
    starts = range(rank * batch_size, count, world_size * batch_size)
    return [list(range(start, min(start + batch_size, count))) for start in starts]


@torch.no_grad()
def proposals_of(
    model: DaTaSegModel, chosen: EvaluationSet, batches: Sequence[list[int]], inference: Inference
) -> Iterator[tuple[int, Sample, ImageOutput]]:
    """Index, sample and proposals of the images of those batches, in order.

    Raises:
        BadSampleError: for an image that cannot be read.
    """
    things = torch.tensor(chosen.data.spec.is_thing, device=model.device)
    loader: DataLoader[Any] = DataLoader(
        _Inputs(chosen), batch_sampler=batches, collate_fn=_as_is, num_workers=inference.num_workers
    )
    for indices, items in zip(batches, loader, strict=True):
        for item in items:
            if isinstance(item, BadSampleError):
                raise item
        samples = [sample for sample, _ in items]
        pixel_values, pixel_mask = pad_images(
            [image for _, image in items],
            [sample.image_id for sample in samples],
            chosen.image_size,
            inference.image_mean,
            inference.image_std,
        )
        views = [_forward(model, chosen, pixel_values, pixel_mask, things)]
        if inference.flip:
            # the whole canvas, so that the cells of the mirror image are the cells of the image
            mirrored = _forward(model, chosen, pixel_values.flip(-1), pixel_mask.flip(-1), things)
            views.append([view.mirrored() for view in mirrored])
        for index, sample, *seen in zip(indices, samples, *views, strict=True):
            if inference.flip:
                yield index, sample, ImageOutput(paired_views(*seen), summed_views(*seen), things)
            else:
                yield index, sample, ImageOutput(seen[0], seen[0], things)


def _forward(
    model: DaTaSegModel,
    chosen: EvaluationSet,
    pixel_values: Tensor,
    pixel_mask: Tensor,
    things: Tensor,
) -> list[Proposals]:
    classes: dict[str, Any] = {
        "text_embeddings": chosen.text_embeddings.to(model.device),
        "is_thing": things,
    }
    if model.config.knows_stored_vocabularies_only:
        classes = {"vocabulary": chosen.vocabulary}
    output = model(
        pixel_values=pixel_values.to(model.device),
        pixel_mask=pixel_mask.to(model.device),
        **classes,
    )
    return [
        Proposals(*parts)
        for parts in zip(
            output.class_queries_logits, output.masks_queries_logits, output.valid_size, strict=True
        )
    ]


# --- outputs --------------------------------------------------------------------------------------


def size_of(sample: Sample) -> tuple[int, int]:
    """Height and width."""
    return sample.image.shape[0], sample.image.shape[1]


def outputs_of(
    output: ImageOutput, sample: Sample, chosen: EvaluationSet, kinds: Sequence[OutputKind]
) -> Mapping[OutputKind, Any]:
    """The outputs of those kinds, each computed once, at the size of the image.

    `panoptic`: PanopticOutput; `semantic`: class per pixel, int64 [H, W]; `instances`:
        InstancesOutput.
    """
    found: dict[OutputKind, Any] = {}
    if "panoptic" in kinds:
        found["panoptic"] = panoptic_output(output, sample, chosen)
    if "semantic" in kinds:
        found["semantic"] = semantic_output(output, sample)
    if "instances" in kinds:
        found["instances"] = instances_output(
            output, sample, max_instances=max(MAX_DETS, chosen.max_dets)
        )
    return found


def panoptic_output(output: ImageOutput, sample: Sample, chosen: EvaluationSet) -> PanopticOutput:
    """One id map: things apart, stuff of one class together."""
    seen = output.proposals
    predicted = panoptic_prediction(
        seen.class_logits,
        seen.mask_logits,
        ~output.things,
        seen.valid_size,
        size_of(sample),
        threshold=chosen.threshold,
        overlap_mask_area_threshold=chosen.overlap_threshold,
    )
    return PanopticOutput(predicted.segmentation.cpu().numpy(), predicted.segments)


def semantic_output(output: ImageOutput, sample: Sample) -> NDArray[np.int64]:
    """The most likely class per pixel."""
    seen = output.summed
    predicted = semantic_prediction(
        seen.class_logits, seen.mask_logits, seen.valid_size, size_of(sample)
    )
    return predicted.cpu().numpy()


def instances_output(
    output: ImageOutput, sample: Sample, threshold: float = 0.0, max_instances: int = MAX_DETS
) -> InstancesOutput:
    """The best scored things above the threshold."""
    return _scored(output, output.things, sample, threshold, max_instances)


def best_proposals(
    output: ImageOutput, sample: Sample, count: int, things_only: bool
) -> InstancesOutput:
    """The `count` surest proposals, whatever their score: what a model would find that is not sure
    of anything yet.
    """
    classes = output.things if things_only else torch.ones_like(output.things)
    return _scored(output, classes, sample, 0.0, count)


def _scored(
    output: ImageOutput, classes: Tensor, sample: Sample, threshold: float, count: int
) -> InstancesOutput:
    """The top `count` masks of some classes (bool [C]) above the threshold."""
    seen = output.proposals
    predicted = instance_prediction(
        seen.class_logits,
        seen.mask_logits,
        classes,
        seen.valid_size,
        size_of(sample),
        threshold,
        max_instances=count,
    )
    return InstancesOutput(
        predicted.masks.cpu().numpy(),
        _boxes_of(predicted),
        predicted.scores.cpu().numpy(),
        predicted.label_ids.cpu().numpy(),
    )


def _boxes_of(predicted: InstancePrediction) -> NDArray[np.float64]:
    """The boxes of an InstancesOutput; no mask is empty."""
    boxes = np.zeros((len(predicted.crops), 4))
    for box, crop, (rows, columns) in zip(boxes, predicted.crops, predicted.windows, strict=True):
        mask = crop.cpu().numpy()
        corner = columns.start, rows.start
        box[:] = np.add(box_of_mask(mask), [*corner, *corner])
    return boxes
