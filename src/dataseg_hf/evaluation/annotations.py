"""The predicted objects of a held-out set as files for labeling tools, one folder for each kind of
output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Value

from ..data.readers.paths import inside
from ..data.sample import BadSampleError, Sample
from ..errors import ConfigError
from ..model.tasks_dataseg import OutputKind
from ..prediction.annotation_files import (
    LOCAL_FILES,
    AnnotatedImage,
    AnnotationFormat,
    AnnotationStyle,
    AnnotationWriter,
    Category,
    Outlines,
)
from ..prediction.segments import Segment, cropped
from .inference import InstanceOutput, PanopticOutput, size_of
from .sets import EvaluationSet

FOLDER = "annotations"


@dataclass(frozen=True)
class AnnotationSettings:
    """Which annotation files are written, and how (see `annotation_files`)."""

    formats: Sequence[AnnotationFormat] = ()
    outlines: Outlines = "polygons"
    image_url_prefix: str = LOCAL_FILES


class AnnotationExport:
    """Writes the annotation files of one set.

    Objects of instance output count from the set's `threshold` on. Images are named as the set
    names them.

    Args:
        folder: of the set's exports.
        eval_set: the set.
        category_ids: of its classes, in their order.
        kinds: the outputs that are written.
        settings: formats and outlines.
        rank: of this process.

    Raises:
        ConfigError: for a category name that one of the formats cannot hold.
    """

    def __init__(
        self,
        folder: Path,
        eval_set: EvaluationSet,
        category_ids: Sequence[int],
        kinds: Sequence[OutputKind],
        settings: AnnotationSettings,
        rank: int = 0,
    ) -> None:
        self.eval_set = eval_set
        classes = zip(category_ids, eval_set.data.spec.classes, strict=True)
        categories = [Category(category_id, c.name, c.is_thing) for category_id, c in classes]
        style = AnnotationStyle(categories, settings.outlines, settings.image_url_prefix)
        try:
            self.writers = {
                kind: AnnotationWriter(folder / kind / FOLDER, settings.formats, style, rank)
                for kind in kinds
            }
        except ValueError as error:
            raise ConfigError(f"--annotations: {eval_set.name}: {error}") from error

    @property
    def empty_segments(self) -> int:
        """Segments without a pixel, which were left out."""
        return sum(writer.empty_segments for writer in self.writers.values())

    def write(self, index: int, sample: Sample, outputs: Mapping[OutputKind, Any]) -> None:
        """The objects of an image.

        Raises:
            BadSampleError: for an image id that is no file name, and names that one of the formats
                cannot hold.
        """
        where = f"image {sample.image_id}: cannot be exported"
        path = _image_file(self.eval_set, index)
        for kind, writer in self.writers.items():
            inside(writer.folder, f"{sample.image_id}.json", where)
            segments = segments_of(outputs[kind], self.eval_set.threshold)
            image = AnnotatedImage(
                sample.image_id,
                str(sample.image_id),
                sample.file_name,
                size_of(sample),
                segments,
                path,
            )
            try:
                writer.add(index, image)
            except ValueError as error:
                raise BadSampleError(f"{where}: {error}") from error

    def finish(self, processes: int) -> None:
        """Write the files of all images, from what so many processes have; to be called by one of
        them.
        """
        for writer in self.writers.values():
            writer.finish(processes)


def segments_of(output: Any, threshold: float) -> list[Segment]:
    """The segments of an output of any kind.

    Args:
        threshold: least score of a segment of instance output.
    """
    if isinstance(output, PanopticOutput):
        return [
            cropped(output.segmentation == info["id"], info["label_id"], info.get("score"))
            for info in output.segments
        ]
    if isinstance(output, InstanceOutput):
        found = zip(output.masks, output.label_ids.tolist(), output.scores.tolist(), strict=True)
        return [
            cropped(mask, label_id, score) for mask, label_id, score in found if score >= threshold
        ]
    return [
        cropped(output == label_id, int(label_id), None)
        for label_id in np.unique(output)
        if label_id >= 0
    ]


def _image_file(eval_set: EvaluationSet, index: int) -> Path | None:
    """Where an image lies; None in sets whose images are no files (drawn scenes, the Hub)."""
    rows: Any = eval_set.data.rows
    columns = getattr(rows, "features", None) or {}
    if columns.get("image") != Value("string"):
        return None
    return Path(rows[index]["image"])
