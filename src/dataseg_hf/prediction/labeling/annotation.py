"""The labels of images as files: PNGs of classes, COCO panoptic, or COCO instances.

A map is written image by image; the JSON of all images at the end, from what the journal kept.
"""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...data.coco_format import coco_panoptic_annotation, rgb_ids
from ...files.writing import replaced
from ...model.tasks_dataseg import TaskName, get_task
from ..annotation_files import AnnotatedImage, AnnotationStyle, Category
from ..annotation_files.coco_instances import coco_entry, coco_file
from ..segments import Size, id_map
from ..teachers.labels import Boxes, ClassMap, ImageLabels
from .journal import LabeledImage

MAPS, CLASS_FILE, ANNOTATION_FILE = "maps", "classes.csv", "annotations.json"


class AnnotationFiles:
    """Writes the files of one labeling.

    Args:
        folder: of the labeling.
        task: kind of the labels.
        names: [C], of the classes.
        is_thing: bool [C].
    """

    def __init__(
        self, folder: Path, task: TaskName, names: Sequence[str], is_thing: Sequence[bool]
    ) -> None:
        self.folder, self.task, self.names = folder, get_task(task), list(names)
        categories = [
            Category(number, name, thing)
            for number, (name, thing) in enumerate(zip(names, is_thing, strict=True), start=1)
        ]
        self.style = AnnotationStyle(categories)

    def add(self, name: str, file_name: str, size: Size, labels: ImageLabels) -> LabeledImage:
        """Write the map of an image, where its labels have one.

        Args:
            name: of the image, below the folder of images, without its ending.
            file_name: the same with its ending.
            size: height and width.
            labels: of the teacher.

        Returns:
            What is kept of it.
        """
        if isinstance(labels, ClassMap):
            return self._class_map(name, labels)
        if isinstance(labels, Boxes):
            entry = _boxes_entry(name, file_name, size, labels)
            found = labels.label_ids.tolist()
            return _of_objects(name, entry, size, found, labels.scores.tolist(), None)
        scores = [segment.score or 0.0 for segment in labels]
        found = [segment.label_id for segment in labels]
        image = AnnotatedImage(name, name, file_name, size, labels)
        if not self.task.has_segment_map:
            return _of_objects(name, coco_entry(image, self.style), size, found, scores, None)
        ids = id_map(labels, range(1, len(labels) + 1), size)
        self._save(rgb_ids(ids), name)
        annotation = coco_panoptic_annotation(labels, name, f"{name}.png")
        for info, segment in zip(annotation["segments_info"], labels, strict=True):
            info |= segment.facts
        entry = f"{json.dumps(_facts(name, file_name, size))}\t{json.dumps(annotation)}"
        return _of_objects(name, entry, size, found, scores, int((ids == 0).sum()))

    def _class_map(self, name: str, labels: ClassMap) -> LabeledImage:
        void, classes = void_id(self.names), labels.classes
        dtype = np.uint8 if void <= 255 else np.uint16
        self._save(np.where(classes < 0, void, classes).astype(dtype), name)
        found = classes >= 0
        counts = np.bincount(classes[found])
        return LabeledImage(
            name,
            "",
            {index: int(counts[index]) for index in counts.nonzero()[0].tolist()},
            int((~found).sum()),
            classes.size,
            float(labels.confidence[found].sum(dtype=np.float64)),
        )

    def _save(self, pixels: NDArray[Any], name: str) -> None:
        """Write a map so that it is on the disk whole before the journal says so."""
        target = self.folder / MAPS / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{target.name}.unfinished")
        with unfinished.open("wb") as file:
            Image.fromarray(pixels).save(file, format="PNG")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)

    def finish(self, entries: Iterable[str]) -> None:
        """Write what belongs to all images.

        Args:
            entries: of the images that are done; they are gone through twice.
        """
        if self.task.label_form == "classes":
            with replaced(self.folder / CLASS_FILE) as file:
                csv.writer(file, lineterminator="\n").writerows(enumerate(self.names))
            return
        with replaced(self.folder / ANNOTATION_FILE) as file:
            file.writelines(coco_file(entries, self.style))


def void_id(names: Sequence[str]) -> int:
    """The value of void pixels in class maps: 255, or 65535 where 255 is a class."""
    return 255 if len(names) <= 255 else 65535


def _facts(name: str, file_name: str, size: Size) -> dict[str, Any]:
    return {"id": name, "file_name": file_name, "height": size[0], "width": size[1]}


def _boxes_entry(name: str, file_name: str, size: Size, boxes: Boxes) -> str:
    """As `coco_entry`, of objects without masks."""
    parts = [_facts(name, file_name, size)]
    for corners, label, score in zip(
        boxes.corners.tolist(), boxes.label_ids.tolist(), boxes.scores.tolist(), strict=True
    ):
        left, top, right, bottom = corners
        width, height = right - left, bottom - top
        parts.append(
            {
                "image_id": name,
                "category_id": label + 1,
                "area": width * height,
                "bbox": [left, top, width, height],
                "iscrowd": 0,
                "score": score,
            }
        )
    return "\t".join(json.dumps(part) for part in parts)


def _of_objects(
    name: str,
    entry: str,
    size: Size,
    label_ids: Sequence[int],
    scores: Sequence[float],
    void: int | None,
) -> LabeledImage:
    counts = dict(sorted(Counter(label_ids).items()))
    return LabeledImage(name, entry, counts, void, size[0] * size[1], float(sum(scores)))
