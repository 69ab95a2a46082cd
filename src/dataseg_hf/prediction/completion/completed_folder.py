"""The folder of a set's completed annotation, and what is written of each image."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ...data.sample import DatasetSpec, Instances, Segments, TaskName
from ..labeling.annotation import AnnotationFiles
from ..labeling.journal import LabeledImage
from ..segments import Segment, Size, cropped
from .sample import CompletedSample

IMAGES = "images"
"""Folder of the images of a set that has no files of its own."""
SECOND_LAYER = "second_layer"
"""Folder of the second layer in that of the completed annotation."""


@dataclass(frozen=True)
class CompletedFolder:
    """Where the completed annotation of a dataset goes.

    Args:
        path: of the dataset.
        spec: of the dataset.
        images: folder of its images, below which samples have their `file_name`; None where they
            are no files there, so that they are written, too.
        value_range: as the entry of the dataset states it.
        first: the completed annotation of that folder, of which this one is the second layer.
    """

    path: Path
    spec: DatasetSpec
    images: Path | None
    value_range: tuple[float, float] | None = None
    first: "CompletedFolder | None" = None

    def second(self, spec: DatasetSpec) -> "CompletedFolder":
        """The folder of the second layer, which has the same images.

        Args:
            spec: of the second layer.
        """
        written = self.images is None  # as they are shown
        images = self.path / IMAGES if written else self.images
        value_range = None if written else self.value_range
        return CompletedFolder(self.path / SECOND_LAYER, spec, images, value_range, self)

    @property
    def entry_name(self) -> str:
        """That of the entry that reads the folder."""
        return self.path.name if self.first is None else f"{self.first.path.name}_{self.path.name}"

    @property
    def task(self) -> TaskName:
        """That of the completed annotation."""
        maps = self.spec.label_form in ("classes", "segments")
        return "panoptic" if maps else "instance"

    def files(self) -> AnnotationFiles:
        """What writes the annotation."""
        return AnnotationFiles(self.path, self.task, self.spec.labels, self.spec.is_thing)


def file_name_of(name: str, folder: CompletedFolder) -> str:
    """The file of an image, below the folder of images.

    Args:
        name: of the image, see `image_name`.
        folder: of the completed annotation, no second layer.
    """
    return f"{name}.png" if folder.images is None else name


def write_image(
    done: CompletedSample, name: str, row: int, folder: CompletedFolder
) -> LabeledImage:
    """Write what belongs to one image.

    Args:
        done: the image with its completed annotation.
        name: of the image, see `image_name`.
        row: of the image in its set.
        folder: of the set.

    Returns:
        What is kept of it for the files of all images.
    """
    sample, file_name = done.sample, file_name_of(name, folder)
    if folder.images is None:
        target = folder.path / IMAGES / file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.image).save(target)
    size = (sample.image.shape[0], sample.image.shape[1])
    image = replace(folder.files().add(name, file_name, size, segments_of(done)), row=row)
    if not sample.incomplete:
        return image
    # in LVIS's words: classes of which the image may show more
    facts, tab, rest = image.entry.partition("\t")
    in_part = sorted(index + 1 for index in sample.incomplete)
    told = json.dumps({**json.loads(facts), "not_exhaustive_category_ids": in_part})
    return replace(image, entry=f"{told}{tab}{rest}")


def segments_of(done: CompletedSample) -> list[Segment]:
    """The objects or segments of a completed sample, with what is noted of each, and the boxes of
    objects as they were annotated. Segments without a pixel are left out.
    """
    annotation = done.sample.annotation
    labels, crowds = annotation.class_labels.tolist(), annotation.is_crowd.tolist()
    boxes: list[list[float]] | None = None
    if isinstance(annotation, Segments):
        masks: Any = [annotation.segment_map == n for n in range(len(labels))]
    else:
        assert isinstance(annotation, Instances)
        assert annotation.masks is not None
        masks = annotation.masks
        boxes = annotation.boxes.astype(float).tolist()
    found = []
    for number, (mask, note) in enumerate(zip(masks, done.notes, strict=True)):
        if not mask.any():
            continue
        facts: dict[str, Any] = {"source": note.source, "review": note.review}
        facts["iscrowd"] = int(crowds[number])
        if boxes is not None:
            left, top, right, bottom = boxes[number]
            facts["bbox"] = [left, top, right - left, bottom - top]
        found.append(replace(cropped(mask, labels[number], note.score), facts=facts))
    return found


def segments_of_entry(entry: str) -> tuple[str, Size, list[dict[str, Any]]]:
    """The file of an image, its height and width, and what is written of its segments."""
    image, *rest = (json.loads(part) for part in entry.split("\t"))
    if rest and "segments_info" in rest[0]:
        rest = rest[0]["segments_info"]
    return image["file_name"], (image["height"], image["width"]), rest


__all__ = [
    "IMAGES",
    "CompletedFolder",
    "file_name_of",
    "segments_of",
    "segments_of_entry",
    "write_image",
]
