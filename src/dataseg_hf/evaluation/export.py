"""Predictions and the truth they were scored against, in the formats that
`python -m dataseg_hf.metrics` reads.

    SET/panoptic/truth.json, truth/, predictions.json, predictions/       COCO panoptic (`pq`)
    SET/semantic/truth/, predictions/            a class index per pixel (`miou`)
    SET/instance/truth.json, predictions.json    COCO instances, results (`mask_ap`, `box_ap`)

The objects of each output for labeling tools (`annotation_files`) are in SET/panoptic/annotations/,
and so on.

Format: https://cocodataset.org/#format-data, https://cocodataset.org/#format-results.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.coco_format import (
    category_ids,
    coco_categories,
    coco_file,
    coco_panoptic_annotation,
    rgb_ids,
)
from ..data.readers.paths import inside
from ..data.sample import BadSampleError, DatasetSpec, Sample, Segments
from ..metrics import AveragePrecision, semantic_map
from ..metrics.instances import ImageId
from ..model.tasks_dataseg import OutputKind
from ..prediction.segments import cropped
from ..settings.entries import MetricName
from .annotations import AnnotationExport, AnnotationSettings
from .certain_truth import certain_pixels, open_classes
from .inference import PanopticOutput, size_of
from .scorers import SCORERS
from .sets import EvaluationSet

LOG = logging.getLogger(__name__)

Entry = dict[str, Any]


@dataclass
class SetExport:
    """What one process has to say of its images in the JSON files, by index of the image."""

    images: dict[int, Entry] = field(default_factory=dict)
    panoptic_truth: dict[int, Entry] = field(default_factory=dict)
    panoptic_predictions: dict[int, Entry] = field(default_factory=dict)
    empty_segments: int = 0


class Exporter:
    """Writes the files of one set: the pixels of every image at once, the JSON files when all
    processes are done.

    Category ids follow `data.coco_format.category_ids`. The JSON files list id and name of each.

    Args:
        folder: of the set's exports.
        eval_set: the set.
        for_metrics: whether predictions and truth are written, from which `dataseg_hf.metrics` gets
            the same numbers.
        annotations: which files for labeling tools are written.
        rank: of this process.
    """

    def __init__(
        self,
        folder: Path,
        eval_set: EvaluationSet,
        for_metrics: bool = True,
        annotations: AnnotationSettings | None = None,
        rank: int = 0,
    ) -> None:
        self.folder = folder
        self.spec = eval_set.data.spec
        self.category_ids = category_ids(len(self.spec.classes), self.spec.id_map)
        self.for_metrics = for_metrics
        self.annotations: AnnotationExport | None = None
        if annotations is not None and annotations.formats:
            kinds = list(dict.fromkeys(SCORERS[metric].kind for metric in eval_set.metrics))
            self.annotations = AnnotationExport(
                folder, eval_set, self.category_ids, kinds, annotations, rank
            )

    # --- every process

    def write(
        self, share: SetExport, index: int, sample: Sample, outputs: Mapping[OutputKind, Any]
    ) -> None:
        """Write the maps of an image, and note in `share` what belongs into the JSON files.

        Raises:
            BadSampleError: for an image id that is no file name.
        """
        height, width = size_of(sample)
        share.images[index] = {
            "id": sample.image_id, "file_name": sample.file_name, "height": height, "width": width
        }  # fmt: skip
        if self.annotations is not None:
            self.annotations.write(index, sample, outputs)
            share.empty_segments = self.annotations.empty_segments
        if not self.for_metrics:
            return
        if isinstance(sample.annotation, Segments) and "panoptic" in outputs:
            predicted: PanopticOutput = outputs["panoptic"]
            truth = sample.annotation
            flags = zip(truth.class_labels.tolist(), truth.is_crowd.tolist(), strict=True)
            share.panoptic_truth[index] = self._panoptic(
                "truth",
                sample,
                truth.segment_map + 1,
                [(number, *label_and_crowd) for number, label_and_crowd in enumerate(flags, 1)],
            )
            share.panoptic_predictions[index] = self._panoptic(
                "predictions",
                sample,
                predicted.segmentation,
                [(segment["id"], segment["label_id"], False) for segment in predicted.segments],
            )
        if isinstance(sample.annotation, Segments) and "semantic" in outputs:
            truth_map = semantic_map(sample.annotation)
            open_here = open_classes(sample, self.spec)
            self._semantic(
                "truth", sample, certain_pixels(truth_map, outputs["semantic"], open_here)
            )
            self._semantic("predictions", sample, outputs["semantic"])

    def _panoptic(
        self,
        side: str,
        sample: Sample,
        ids: NDArray[np.integer],
        listed: Sequence[tuple[int, int, bool]],
    ) -> Entry:
        """Write a map of segment ids, 0 = void, and return its annotation. listed: id, class and
        crowd flag of each.
        """
        name = f"{sample.image_id}.png"
        self._save(rgb_ids(ids), self.folder / "panoptic" / side, name, sample)
        return coco_panoptic_annotation(
            [cropped(ids == segment_id, label, None) for segment_id, label, _ in listed],
            sample.image_id,
            name,
            self.category_ids,
            [segment_id for segment_id, _, _ in listed],
            [is_crowd for _, _, is_crowd in listed],
        )

    def _semantic(self, side: str, sample: Sample, classes: NDArray[np.integer]) -> None:
        """Write a map of class indices, -1 = void as the ignored value."""
        ignored = ignore_index(self.spec)
        values = np.where(classes < 0, ignored, classes).astype(
            np.uint8 if ignored == 255 else np.uint16
        )
        self._save(values, self.folder / "semantic" / side, f"{sample.image_id}.png", sample)

    @staticmethod
    def _save(pixels: NDArray[Any], folder: Path, name: str, sample: Sample) -> None:
        path = inside(folder, name, f"image {sample.image_id}: cannot be exported")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    # --- the main process

    def finish(self, shares: Sequence[SetExport], metrics: Mapping[MetricName, Any]) -> None:
        """Write the JSON files.

        Args:
            shares: of all processes.
            metrics: those of the set, with the images of all processes.

        Raises:
            BadSampleError: where two images of the set have one id.
        """
        images = _in_order([share.images for share in shares])
        ids = [image["id"] for image in images]
        if len(set(ids)) < len(ids):
            twice = sorted({str(image_id) for image_id in ids if ids.count(image_id) > 1})
            raise BadSampleError(
                f"dataset '{self.spec.name}': image ids {twice[:3]} occur twice, so that files "
                "would be lost; rename them"
            )
        if self.annotations is not None:
            self.annotations.finish(len(shares))
            if left_out := sum(share.empty_segments for share in shares):
                LOG.warning(
                    "%d predicted segments without a pixel are not in the annotation files.",
                    left_out,
                )
        if not self.for_metrics:
            return
        for side in ("truth", "predictions"):
            annotations = _in_order([getattr(share, f"panoptic_{side}") for share in shares])
            if annotations:
                self._write_json("panoptic", side, self._listing(images, annotations))
        scored = [metric for metric in metrics.values() if isinstance(metric, AveragePrecision)]
        if scored:
            self._write_objects({metric.iou_type: metric for metric in scored}, images)

    def _write_objects(
        self, metric_of: Mapping[str, AveragePrecision], images: Sequence[Entry]
    ) -> None:
        """Write the objects that the metrics were computed from; one metric for each IoU type."""
        metrics, ids = list(metric_of.values()), [image["id"] for image in images]
        truth = _joined(metrics, "truth", ids, self.category_ids)
        for number, entry in enumerate(truth, start=1):
            entry["id"] = number
        self._write_json("instance", "truth", self._listing(images, truth))
        predictions = _joined(metrics, "predictions", ids, self.category_ids)
        self._write_json("instance", "predictions", predictions)

    def _listing(self, images: Sequence[Entry], annotations: Sequence[Entry]) -> Entry:
        categories = coco_categories(self.spec.labels, self.spec.is_thing, self.category_ids)
        return coco_file(images, annotations, categories)

    def _write_json(self, kind: OutputKind, side: str, content: Any) -> None:
        folder = self.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{side}.json").write_text(json.dumps(content))


def ignore_index(spec: DatasetSpec) -> int:
    """The value of void pixels in exported class maps: 255, or 65535 where 255 is a class."""
    return 255 if len(spec.classes) <= 255 else 65535


def _in_order(parts: Sequence[Mapping[int, Entry]]) -> list[Entry]:
    """The entries of all processes in the order of the images."""
    together = {index: entry for part in parts for index, entry in part.items()}
    return [together[index] for index in sorted(together)]


def _joined(
    metrics: Sequence[AveragePrecision],
    side: str,
    image_ids: Sequence[ImageId],
    categories: Sequence[int],
) -> list[Entry]:
    """The annotations of all images, each with what the metrics of masks and of boxes know of
    it.
    """
    entries: list[Entry] = []
    for image_id in image_ids:
        parts = [metric.state["images"][image_id][side] for metric in metrics]  # type: ignore[literal-required]
        for same in zip(*parts, strict=True):
            entry: Entry = {"image_id": image_id}
            for annotation in same:
                entry |= annotation
            entry["category_id"] = categories[entry["category_id"]]
            if "segmentation" in entry:
                rle = entry["segmentation"]
                entry["segmentation"] = {
                    "size": list(rle["size"]),
                    "counts": rle["counts"].decode("ascii"),
                }
            entries.append(entry)
    return entries
