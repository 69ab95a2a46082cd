"""What a prediction leaves in its folder beside pictures: id maps, COCO json and files for labeling
tools.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.coco_format import (
    coco_annotations,
    coco_categories,
    coco_panoptic_annotation,
    rgb_ids,
)
from ..files.writing import replaced
from ..model.tasks_dataseg import get_task
from .annotation_files import (
    AnnotatedImage,
    AnnotationFormat,
    AnnotationStyle,
    AnnotationWriter,
    Category,
    Outlines,
)
from .segments import Segment, Size, id_map

OVERLAYS, IDS, RESULTS, ANNOTATIONS = "overlays", "ids", "predictions.json", "annotations"
UNFINISHED = "predictions.unfinished.jsonl"


class ResultWriter:
    """Writes the id map of one image after the other, and at last the json of all. Until then, what
    belongs there is kept in a file of lines, so that no end of the process loses it.

    Args:
        folder: made if missing.
        task: name of a task that can be asked for.
        names: of the C categories.
        is_thing: bool [C], whether each is countable.
    """

    def __init__(
        self, folder: Path, task: str, names: Sequence[str], is_thing: Sequence[bool]
    ) -> None:
        self.folder, self.task, self.names = folder, get_task(task), list(names)
        self.categories = coco_categories(self.names, is_thing)
        self.images = self.annotations = 0  # so many
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = (folder / UNFINISHED).open("w", encoding="utf-8")
        if not self.task.may_overlap:  # which an id map cannot show
            (folder / IDS).mkdir(exist_ok=True)

    def add(self, name: str, file_name: str, size: Size, segments: Sequence[Segment]) -> None:
        """Write the id map of an image of that height and width, and its part of the json."""
        image_id = self.images + 1
        annotations = self._annotations(name, image_id, size, segments)
        image = {"id": image_id, "file_name": file_name, "height": size[0], "width": size[1]}
        self._lines.write(json.dumps({"image": image, "annotations": annotations}) + "\n")
        self._lines.flush()
        self.images, self.annotations = image_id, self.annotations + len(annotations)

    def _annotations(
        self, name: str, image_id: int, size: Size, segments: Sequence[Segment]
    ) -> list[dict[str, Any]]:
        """COCO's annotations of an image, whose id map is written."""
        if self.task.output == "panoptic":
            map_file = self.folder / IDS / f"{name}.png"
            ids = id_map(segments, range(1, len(segments) + 1), size)
            Image.fromarray(rgb_ids(ids)).save(map_file)
            return [coco_panoptic_annotation(segments, image_id, map_file.name)]
        if self.task.sums_proposals:
            ids = id_map(segments, [segment.label_id + 1 for segment in segments], size)
            narrow = np.uint8 if len(self.names) < 256 else np.uint16
            Image.fromarray(ids.astype(narrow)).save(self.folder / IDS / f"{name}.png")
        return coco_annotations(segments, image_id, size, first_id=self.annotations + 1)

    def close(self) -> None:
        """Write the json of all images so far."""
        self._lines.close()
        with replaced(self.folder / RESULTS) as file:
            for key, entries in (
                ("images", (line["image"] for line in self._read())),
                ("annotations", (one for line in self._read() for one in line["annotations"])),
            ):
                file.write(f'{", " if key != "images" else "{"}"{key}": [')
                for number, entry in enumerate(entries):
                    file.write((", " if number else "") + json.dumps(entry))
                file.write("]")
            file.write(f', "categories": {json.dumps(list(self.categories))}}}')
        (self.folder / UNFINISHED).unlink()

    def _read(self) -> Iterator[dict[str, Any]]:
        with (self.folder / UNFINISHED).open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


class LabelingFiles:
    """Writes the files for labeling tools; they name images by their path below the folder that
    holds all of them.

    Args:
        folder: of the results; the files go to `annotations` in it.
        formats: one file or folder of files for each.
        categories: of COCO, with "id", "name" and "isthing".
        sources: all images, by the name of their results.
        outlines: "polygons" where they tell every pixel, or "masks".
        image_url_prefix: of Label Studio's image addresses.
    """

    def __init__(
        self,
        folder: Path,
        formats: Sequence[AnnotationFormat],
        categories: Sequence[Mapping[str, Any]],
        sources: Mapping[str, Path],
        outlines: Outlines,
        image_url_prefix: str,
    ) -> None:
        folders = [os.path.abspath(source.parent) for source in sources.values()]
        self.root = os.path.commonpath(folders)
        known = [
            Category(category["id"], category["name"], bool(category["isthing"]))
            for category in categories
        ]
        style = AnnotationStyle(known, outlines, image_url_prefix)
        self.writer = AnnotationWriter(folder / ANNOTATIONS, formats, style)
        self.writer.check(map(self.file_name, sources.values()))
        self.images = 0

    def file_name(self, source: Path) -> str:
        """The path of an image below the common folder, with `/` on every system."""
        return Path(os.path.relpath(source, self.root)).as_posix()

    def add(self, name: str, source: Path, size: Size, segments: Sequence[Segment]) -> None:
        """The objects of an image."""
        self.images += 1
        self.writer.add(
            self.images,
            AnnotatedImage(self.images, name, self.file_name(source), size, segments, source),
        )

    def close(self) -> None:
        """Write what belongs to all images."""
        self.writer.finish()
        if self.writer.empty_segments:
            print(
                f"{self.writer.empty_segments} segments without a pixel are not in "
                f"{self.writer.folder}"
            )
