"""The metrics of a held-out set: which output of the model each scores, and how."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from types import MappingProxyType
from typing import Any

from ..data.sample import DatasetSpec, Instances, Sample, Segments
from ..data.transforms import TransformedSample
from ..metrics import (
    AveragePrecision,
    MeanIoU,
    PanopticQuality,
    instances_from_segments,
    semantic_map,
)
from ..metrics.instances import ImageRecord, IouType, ap_summary, precision_and_recall
from ..model.degrees_dataseg import Degree
from ..model.tasks_dataseg import OutputKind
from ..settings.entries import MetricName
from .certain_truth import certain_objects, certain_pixels, open_classes, with_excuses
from .inference import InstanceOutput, PanopticOutput, size_of


@dataclass(frozen=True)
class Scorer:
    """How a metric of an evaluation is measured.

    Args:
        kind: the output of the model that it scores.
        prefix, keys: what of the computed metric is reported, the headline first, under
            `{prefix}{key}`.
        new: the metric of no image, given the spec and `max_dets` (for AP).
        update: adds an image, given the metric, the output, the sample and the spec.
        headline: the first of the keys for a metric of one image.
        by_class: of which of the keys groups of classes have a mean, and what it is called of one
            class.
    """

    kind: OutputKind
    prefix: str
    keys: tuple[str, ...]
    new: Callable[[DatasetSpec, int], Any]
    update: Callable[[Any, Any, Sample, DatasetSpec], None]
    headline: Callable[[Any], float]
    by_class: Mapping[str, str]

    def reported(self, groups: Iterable[str]) -> list[str]:
        """Keys of what is reported, of a set with those groups of classes."""
        return [*self.keys, *(f"{key}_{group}" for group in groups for key in self.by_class)]

    def values(
        self, result: Mapping[str, Any], groups: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> dict[str, float]:
        """What is reported of a computed metric: over all classes, and over those of each group
        that can be measured.
        """
        found = {key: float(result[key]) for key in self.keys}
        for group, labels in groups.items():
            for key, of_class in self.by_class.items():
                measured = [result["per_class"][label][of_class] for label in labels]
                defined = [value for value in measured if not math.isnan(value)]
                found[f"{key}_{group}"] = fmean(defined) if defined else math.nan
        return {f"{self.prefix}{key}": value for key, value in found.items()}


# --- panoptic


def _new_pq(spec: DatasetSpec, max_dets: int) -> PanopticQuality:
    return PanopticQuality(spec.labels, spec.is_thing)


def _update_pq(
    metric: PanopticQuality, predicted: PanopticOutput, sample: Sample, spec: DatasetSpec
) -> None:
    open_here = open_classes(sample, spec)
    metric.update(predicted.segmentation, predicted.segments, segments_of(sample), open_here)


# --- semantic


def _new_miou(spec: DatasetSpec, max_dets: int) -> MeanIoU:
    return MeanIoU(spec.labels)


def _update_miou(metric: MeanIoU, predicted: Any, sample: Sample, spec: DatasetSpec) -> None:
    truth = semantic_map(segments_of(sample))
    metric.update(predicted, certain_pixels(truth, predicted, open_classes(sample, spec)))


# --- masks and boxes


def _new_ap(spec: DatasetSpec, max_dets: int, iou_type: IouType) -> AveragePrecision:
    return AveragePrecision(spec.labels, iou_type, max_dets)


def _update_ap(
    metric: AveragePrecision, predicted: InstanceOutput, sample: Sample, spec: DatasetSpec
) -> None:
    least = Degree.MASK if metric.iou_type == "segm" else Degree.BOX
    size = size_of(sample)
    # only classes with predictions need an excuse
    excused = open_classes(sample, spec) & set(predicted.label_ids.tolist())
    truth = with_excuses(objects_of(sample, spec, least), excused, size)
    metric.update(
        {
            "masks": predicted.masks,
            "boxes": predicted.boxes,
            "scores": predicted.scores,
            "label_ids": predicted.label_ids,
        },
        truth,
        size,
        sample.image_id,
    )


def _image_ap(metric: AveragePrecision) -> float:
    """AP of the one image of a metric. Only the classes of its truth count, so only they are looked
    at.
    """
    ((image_id, record),) = metric.state["images"].items()
    present = sorted({annotation["category_id"] for annotation in record["truth"]})
    place = {class_index: number for number, class_index in enumerate(present)}
    truth, predictions = (
        [
            {**entry, "category_id": place[entry["category_id"]]}
            for entry in entries
            if entry["category_id"] in place
        ]
        for entries in (record["truth"], record["predictions"])
    )
    reduced: ImageRecord = {"size": record["size"], "truth": truth, "predictions": predictions}
    curves = precision_and_recall(
        {image_id: reduced}, max(1, len(present)), metric.iou_type, metric.max_dets
    )
    return ap_summary(curves)["ap"]


_AP_KEYS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
_AP_BY_CLASS = {"ap": "ap", "ap50": "ap50"}

SCORERS: Mapping[MetricName, Scorer] = {
    "pq": Scorer(
        "panoptic",
        "",
        ("pq", "pq_things", "pq_stuff", "sq", "rq"),
        _new_pq,
        _update_pq,
        lambda metric: metric.compute()["pq"],
        {"pq": "pq"},
    ),
    "miou": Scorer(
        "semantic",
        "",
        ("miou", "fwiou", "pixel_acc", "mean_acc"),
        _new_miou,
        _update_miou,
        lambda metric: metric.compute()["miou"],
        {"miou": "iou"},
    ),
    "mask_ap": Scorer(
        "instance",
        "mask_",
        _AP_KEYS,
        partial(_new_ap, iou_type="segm"),
        _update_ap,
        _image_ap,
        _AP_BY_CLASS,
    ),
    "box_ap": Scorer(
        "instance",
        "box_",
        _AP_KEYS,
        partial(_new_ap, iou_type="bbox"),
        _update_ap,
        _image_ap,
        _AP_BY_CLASS,
    ),
}


def objects_of(sample: Sample, spec: DatasetSpec, least: Degree = Degree.MASK) -> Instances:
    """The true objects of a sample: as annotated, those of which less than `least` is known as
    crowds; or the things of its segments.
    """
    if isinstance(sample.annotation, Segments):
        return instances_from_segments(sample.annotation, spec.is_thing)
    return certain_objects(sample.annotation, least, size_of(sample))


def segments_of(sample: Sample | TransformedSample) -> Segments:
    """The segments of a sample.

    Raises:
        TypeError: for one that has objects.
    """
    if not isinstance(sample.annotation, Segments):
        raise TypeError(
            f"image {sample.image_id}: the reader gave objects, but the task of its dataset says "
            "segments"
        )
    return sample.annotation
