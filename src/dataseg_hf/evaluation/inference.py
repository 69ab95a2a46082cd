"""From a held-out set to what the model says about each of its images: forward passes and the
outputs of each task.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.collate import Normalization, pad_images
from ..data.masks import box_of_mask
from ..data.sample import BadSampleError, Sample
from ..data.transforms import resize_only
from ..metrics.instances import MAX_DETS
from ..model.modeling_dataseg import DaTaSegModel
from ..model.postprocessing_dataseg import instance_prediction
from ..model.predictions_dataseg import (
    InstancePrediction,
    PanopticPrediction,
    Prediction,
    SemanticPrediction,
)
from ..model.proposals_dataseg import ImageProposals
from ..model.tasks_dataseg import OutputKind, Task
from ..model.thresholds_dataseg import Thresholds
from .flip import paired_views, summed_views
from .sets import EvaluationSet


@dataclass(frozen=True)
class Inference:
    """How images go through the model.

    Args:
        normalization: of the pixels.
        flip: also show the mirror image (`evaluation.flip`).
        num_workers: loading processes.
    """

    normalization: Normalization
    flip: bool = False
    num_workers: int = 0


@dataclass
class ImageOutput:
    """What the model proposes for one image.

    Args:
        proposals: for tasks that choose among proposals.
        summed: for tasks that sum over them (`Task.sums_proposals`). Different from `proposals`
            only where views were joined.
    """

    proposals: ImageProposals
    summed: ImageProposals


@dataclass
class PanopticOutput:
    """A map of segments.

    Args:
        segmentation: int32 [H, W], segment id per pixel, 0 = none.
        segments: dicts with id and label_id among others.
    """

    segmentation: NDArray[np.int32]
    segments: list[dict[str, Any]]

    @property
    def classes(self) -> NDArray[np.int32]:
        """The class of each pixel, [H, W], -1 = none."""
        of_segment = np.full(max((s["id"] for s in self.segments), default=0) + 1, -1, np.int32)
        for segment in self.segments:
            of_segment[segment["id"]] = segment["label_id"]
        return of_segment[self.segmentation]


@dataclass
class InstanceOutput:
    """Scored objects, best first, which may overlap.

    Args:
        masks: bool [K, H, W].
        boxes: [K, 4], tight boxes of the masks, xyxy, the far edges one past the mask.
        scores: float32 [K].
        label_ids: int64 [K].
    """

    masks: NDArray[np.bool_]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float32]
    label_ids: NDArray[np.int64]


SemanticOutput: TypeAlias = NDArray[np.int64]
"""The class of each pixel, [H, W]."""
Output: TypeAlias = PanopticOutput | SemanticOutput | InstanceOutput


# --- loading and forward passes -------------------------------------------------------------------


class _Inputs(Dataset):
    """Samples with their images as the model takes them; what cannot be read is returned as its
    error.

    Raised in a worker process, the error would come back as the text of a traceback.
    """

    def __init__(self, eval_set: EvaluationSet) -> None:
        self.eval_set = eval_set

    def __len__(self) -> int:
        return len(self.eval_set.data)

    def __getitem__(self, index: int) -> tuple[Sample, NDArray[np.uint8]] | BadSampleError:
        try:
            sample = self.eval_set.data[index]
        except BadSampleError as error:
            return error
        return sample, resize_only(
            sample, self.eval_set.image_size, self.eval_set.shortest_edge
        ).image


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
    model: DaTaSegModel, eval_set: EvaluationSet, batches: Sequence[list[int]], inference: Inference
) -> Iterator[tuple[int, Sample, ImageOutput]]:
    """Index, sample and proposals of the images of those batches, in order.

    Raises:
        BadSampleError: for an image that cannot be read.
    """
    things = torch.tensor(eval_set.data.spec.is_thing, device=model.device)
    loader: DataLoader[Any] = DataLoader(
        _Inputs(eval_set),
        batch_sampler=batches,
        collate_fn=_as_is,
        num_workers=inference.num_workers,
        generator=torch.Generator(),  # not the global one, from which training may draw
    )
    for indices, items in zip(batches, loader, strict=True):
        for item in items:
            if isinstance(item, BadSampleError):
                raise item
        samples = [sample for sample, _ in items]
        pixel_values, pixel_mask = pad_images(
            [image for _, image in items],
            [sample.image_id for sample in samples],
            eval_set.image_size,
            inference.normalization,
        )
        views = [_forward(model, eval_set, pixel_values, pixel_mask, things)]
        if inference.flip:
            # the whole canvas, so that the cells of the mirror image are the cells of the image
            mirrored = _forward(model, eval_set, pixel_values.flip(-1), pixel_mask.flip(-1), things)
            views.append([view.mirrored() for view in mirrored])
        for index, sample, *seen in zip(indices, samples, *views, strict=True):
            if inference.flip:
                yield index, sample, ImageOutput(paired_views(*seen), summed_views(*seen))
            else:
                yield index, sample, ImageOutput(seen[0], seen[0])


def _forward(
    model: DaTaSegModel,
    eval_set: EvaluationSet,
    pixel_values: Tensor,
    pixel_mask: Tensor,
    things: Tensor,
) -> list[ImageProposals]:
    classes: dict[str, Any] = {
        "text_embeddings": eval_set.text_embeddings.to(model.device, non_blocking=True),
        "is_thing": things,
    }
    if model.config.knows_stored_vocabularies_only:
        classes = {"vocabulary": eval_set.vocabulary}
    output = model(
        pixel_values=pixel_values.to(model.device, non_blocking=True),
        pixel_mask=pixel_mask.to(model.device, non_blocking=True),
        **classes,
    )
    return ImageProposals.of_batch(output)


# --- outputs --------------------------------------------------------------------------------------


def size_of(sample: Sample) -> tuple[int, int]:
    """Height and width."""
    return sample.image.shape[0], sample.image.shape[1]


def outputs_of(
    output: ImageOutput, sample: Sample, eval_set: EvaluationSet, kinds: Sequence[OutputKind]
) -> Mapping[OutputKind, Output]:
    """The outputs of those kinds, each computed once, at the size of the image."""
    return {kind: output_of(output, sample, eval_set, kind) for kind in kinds}


def output_of(
    output: ImageOutput,
    sample: Sample,
    eval_set: EvaluationSet,
    kind: OutputKind,
    min_score: float = 0.0,
) -> Output:
    """What the set's task of that kind of output makes of an image, at the size of the image.

    Args:
        output: proposals of the image.
        sample: the image.
        eval_set: its set.
        kind: of the output.
        min_score: of objects that may overlap; all others have the set's own threshold.
    """
    task = eval_set.predicting_task(kind)
    proposals = output.summed if task.sums_proposals else output.proposals
    thresholds = _thresholds(task, eval_set, min_score)
    return as_arrays(task.predict(proposals, size_of(sample), thresholds))


def _thresholds(task: Task, eval_set: EvaluationSet, min_score: float) -> Thresholds:
    """Ranked objects count whatever their score; segments that share the pixels do not."""
    if task.may_overlap:
        return Thresholds(min_score, max_instances=max(MAX_DETS, eval_set.max_dets))
    return Thresholds(eval_set.threshold, overlap=eval_set.overlap_threshold)


def best_proposals(
    output: ImageOutput, sample: Sample, count: int, things_only: bool
) -> InstanceOutput:
    """The `count` surest proposals, whatever their score: what a model would find that is not sure
    of anything yet.
    """
    proposals = output.proposals
    if not things_only:
        proposals = replace(proposals, is_thing=torch.ones_like(proposals.is_thing))
    thresholds = Thresholds(0.0, max_instances=count)
    return _instance_output(instance_prediction(proposals, size_of(sample), thresholds))


@singledispatch
def as_arrays(prediction: Prediction) -> Output:
    """A prediction of any kind as arrays.

    Raises:
        TypeError: for anything else.
    """
    raise TypeError(f"no output of an evaluation is a {type(prediction).__name__}")


@as_arrays.register
def _panoptic_output(prediction: PanopticPrediction) -> PanopticOutput:
    return PanopticOutput(prediction.segmentation.cpu().numpy(), prediction.segments)


@as_arrays.register
def _semantic_output(prediction: SemanticPrediction) -> SemanticOutput:
    return prediction.segmentation.cpu().numpy()


@as_arrays.register
def _instance_output(prediction: InstancePrediction) -> InstanceOutput:
    prediction = prediction.on_host()
    return InstanceOutput(
        prediction.masks.numpy(),
        _boxes_of(prediction),
        prediction.scores.numpy(),
        prediction.label_ids.numpy(),
    )


def _boxes_of(predicted: InstancePrediction) -> NDArray[np.float64]:
    """The boxes of an InstanceOutput; no mask is empty."""
    boxes = np.zeros((len(predicted.crops), 4))
    for box, crop, (rows, columns) in zip(boxes, predicted.crops, predicted.windows, strict=True):
        mask = crop.numpy()
        corner = columns.start, rows.start
        box[:] = np.add(box_of_mask(mask), [*corner, *corner])
    return boxes
