"""Scores of a model on held-out sets: (model, sets) -> {"{set}/{metric}": value}, on any number of processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .data.collate import collate
from .data.sample import Instances, Sample, SampleDataset, Segments, TaskName
from .data.transforms import resize_only
from .metrics import MaskAP, MeanIoU, PanopticQuality, instances_from_segments, semantic_map
from .modeling_dataseg import DaTaSegModel, DaTaSegOutput
from .postprocessing_dataseg import PanopticPrediction, instance_prediction, panoptic_prediction, semantic_prediction
from .run_config import MetricName
from .visualization import overlay, semantic_overlay

Gather = Callable[[Any], list[Any]]


@dataclass
class EvaluationSet:
    """A held-out set and how it is scored.

    text_embeddings: [C, D] of the names of its spec, in their order. image_size: side of the square canvas.
    shortest_edge: see `resize_only`.
    threshold, overlap_threshold: least class probability of a panoptic segment, and least share of its own mask.
    """

    name: str
    data: SampleDataset
    text_embeddings: Tensor
    metrics: Sequence[MetricName]
    batch_size: int
    image_size: int
    shortest_edge: int | None = None
    threshold: float = 0.5
    overlap_threshold: float = 0.8


@dataclass
class ImageOutput:
    """Proposals of one image, on its own: class_logits [N, C + 1], mask_logits [N, h, w], valid_size [2]."""

    class_logits: Tensor
    mask_logits: Tensor
    valid_size: Tensor
    is_thing: Tensor


class _Samples(Dataset):
    """Samples of one process with their model inputs; every image belongs to exactly one process."""

    def __init__(self, data: SampleDataset, indices: Sequence[int]) -> None:
        self.data, self.indices = data, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Sample:
        return self.data[self.indices[place]]


def _as_is(samples: list[Sample]) -> list[Sample]:
    return samples


@torch.no_grad()
def predictions(
    model: DaTaSegModel,
    chosen: EvaluationSet,
    indices: Sequence[int],
    image_mean: Sequence[float],
    image_std: Sequence[float],
    num_workers: int = 0,
) -> Iterator[tuple[Sample, ImageOutput]]:
    """Proposals for the samples of those indices, in order."""
    things = torch.tensor(chosen.data.spec.is_thing, device=model.device)
    loader: DataLoader[Sample] = DataLoader(
        _Samples(chosen.data, indices), batch_size=chosen.batch_size, collate_fn=_as_is, num_workers=num_workers
    )
    for samples in loader:
        resized = [resize_only(sample, chosen.image_size, chosen.shortest_edge) for sample in samples]
        task: TaskName = "panoptic" if isinstance(samples[0].annotation, Segments) else "boxes"
        inputs = collate(resized, canvas=chosen.image_size, task=task, image_mean=image_mean, image_std=image_std)
        output: DaTaSegOutput = model(
            pixel_values=inputs["pixel_values"].to(model.device),
            pixel_mask=inputs["pixel_mask"].to(model.device),
            text_embeddings=chosen.text_embeddings.to(model.device),
            is_thing=things,
        )
        for place, sample in enumerate(samples):
            assert output.class_queries_logits is not None
            assert output.masks_queries_logits is not None
            assert output.valid_size is not None
            yield (
                sample,
                ImageOutput(
                    output.class_queries_logits[place],
                    output.masks_queries_logits[place],
                    output.valid_size[place],
                    things,
                ),
            )


class _Panoptic:
    """Panoptic quality of id maps at original size."""

    def __init__(self, chosen: EvaluationSet) -> None:
        self.metric = PanopticQuality(chosen.data.spec.labels, chosen.data.spec.is_thing)
        self.chosen = chosen

    def update(self, output: ImageOutput, sample: Sample) -> None:
        predicted = _panoptic(output, sample, self.chosen)
        self.metric.update(predicted.segmentation.cpu().numpy(), predicted.segments, _segments(sample))

    def values(self) -> dict[str, float]:
        scores = self.metric.compute()
        return {name: scores[name] for name in ("pq", "pq_things", "pq_stuff", "sq", "rq")}


class _Semantic:
    """Mean IoU of class maps at original size."""

    def __init__(self, chosen: EvaluationSet) -> None:
        self.metric = MeanIoU(chosen.data.spec.labels)

    def update(self, output: ImageOutput, sample: Sample) -> None:
        predicted = semantic_prediction(output.class_logits, output.mask_logits, output.valid_size, _size(sample))
        self.metric.update(predicted.cpu().numpy(), semantic_map(_segments(sample)))

    def values(self) -> dict[str, float]:
        scores = self.metric.compute()
        return {name: scores[name] for name in ("miou", "fwiou", "pixel_acc", "mean_acc")}


class _Instance:
    """Mask AP of the top 100 scored masks, which may overlap, at original size."""

    def __init__(self, chosen: EvaluationSet) -> None:
        self.metric = MaskAP(chosen.data.spec.labels)
        self.is_thing = chosen.data.spec.is_thing

    def update(self, output: ImageOutput, sample: Sample) -> None:
        predicted = instance_prediction(
            output.class_logits, output.mask_logits, output.is_thing, output.valid_size, _size(sample)
        )
        truth = sample.annotation
        if isinstance(truth, Segments):
            truth = instances_from_segments(truth, self.is_thing)
        self.metric.update(
            {
                "masks": predicted.masks.cpu().numpy(),
                "scores": predicted.scores.cpu().numpy(),
                "label_ids": predicted.label_ids.cpu().numpy(),
            },
            truth,
            image_size=_size(sample),
            image_id=sample.image_id,
        )

    def values(self) -> dict[str, float]:
        scores = self.metric.compute()
        return {f"mask_{name}": scores[name] for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")}


_SCORERS: Mapping[MetricName, type] = {"pq": _Panoptic, "miou": _Semantic, "mask_ap": _Instance}


def metric_names(chosen: EvaluationSet) -> list[str]:
    """Keys of what `evaluate` measures on a set."""
    return [f"{chosen.name}/{key}" for name in chosen.metrics for key in _SCORERS[name](chosen).values()]


def evaluate(
    model: DaTaSegModel,
    sets: Sequence[EvaluationSet],
    image_mean: Sequence[float],
    image_std: Sequence[float],
    rank: int = 0,
    world_size: int = 1,
    gather: Gather = lambda state: [state],
    progress: Callable[[int], Any] = lambda images: None,
) -> dict[str, float]:
    """All metrics of all sets, as fractions.

    Args:
        rank, world_size: This process scores every `world_size`-th image, so that none counts twice.
        gather: Collects an object from every process.
        progress: Called with the number of images just scored.
    """
    was_training = model.training
    model.eval()
    results: dict[str, float] = {}
    for chosen in sets:
        scorers = [_SCORERS[name](chosen) for name in chosen.metrics]
        indices = range(rank, len(chosen.data), world_size)
        for sample, output in predictions(model, chosen, indices, image_mean, image_std):
            for scorer in scorers:
                scorer.update(output, sample)
            progress(1)
        for scorer in scorers:
            states = gather(scorer.metric.state)
            scorer.metric.reset()
            for state in states:
                scorer.metric.merge(state)
            results.update({f"{chosen.name}/{name}": float(value) for name, value in scorer.values().items()})
    model.train(was_training)
    return results


def pictures(
    model: DaTaSegModel,
    chosen: EvaluationSet,
    count: int,
    image_mean: Sequence[float],
    image_std: Sequence[float],
) -> list[list[Image.Image]]:
    """Rows of image, truth and prediction for the first images of a set; as instances where those are scored."""
    model.eval()
    names = chosen.data.spec.labels
    rows = []
    indices = range(min(count, len(chosen.data)))
    for sample, output in predictions(model, chosen, indices, image_mean, image_std):
        image = Image.fromarray(sample.image)
        size = _size(sample)
        where = (output.class_logits, output.mask_logits)
        if isinstance(sample.annotation, Instances):
            best = instance_prediction(*where, output.is_thing, output.valid_size, size, threshold=0.3)
            segments = [
                {"label_id": label_id, "score": score}
                for label_id, score in zip(best.label_ids.tolist(), best.scores.tolist(), strict=True)
            ]
            drawn = overlay(image, best.masks.cpu().numpy(), segments, names)
        elif chosen.metrics[0] == "miou":
            semantic = semantic_prediction(*where, output.valid_size, size)
            drawn = semantic_overlay(image, semantic.cpu().numpy(), names)
        else:
            panoptic = _panoptic(output, sample, chosen)
            drawn = overlay(image, panoptic.segmentation.cpu().numpy(), panoptic.segments, names)
        rows.append([image, draw_truth(sample, names, chosen.metrics[0] == "miou"), drawn])
    return rows


def draw_truth(sample: Sample, names: Sequence[str], semantic: bool) -> Image.Image:
    """The annotation of a sample over its image; by class instead of by segment where `semantic`."""
    image, truth = Image.fromarray(sample.image), sample.annotation
    if isinstance(truth, Segments) and semantic:
        return semantic_overlay(image, semantic_map(truth), names)
    segments = [{"id": number, "label_id": int(label)} for number, label in enumerate(truth.class_labels)]
    if isinstance(truth, Segments):
        return overlay(image, truth.segment_map, segments, names)
    if truth.masks is None:
        raise ValueError(f"image {sample.image_id}: held-out instances need masks as truth, this set has boxes only")
    return overlay(image, truth.masks, segments, names)


def _panoptic(output: ImageOutput, sample: Sample, chosen: EvaluationSet) -> PanopticPrediction:
    return panoptic_prediction(
        output.class_logits,
        output.mask_logits,
        ~output.is_thing,
        output.valid_size,
        _size(sample),
        threshold=chosen.threshold,
        overlap_mask_area_threshold=chosen.overlap_threshold,
    )


def _segments(sample: Sample) -> Segments:
    if not isinstance(sample.annotation, Segments):
        raise ValueError(f"image {sample.image_id}: pq and miou need a segment map as truth, this set has instances")
    return sample.annotation


def _size(sample: Sample) -> tuple[int, int]:
    height, width = sample.image.shape[:2]
    return height, width
