"""What an examination leaves in its folder: suggestions for people and for programs, and the order
in which images are worth annotating.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ...data.names import plain_name
from ...files.writing import replaced
from ..annotation_files import (
    AnnotatedImage,
    AnnotationFormat,
    AnnotationStyle,
    AnnotationWriter,
    Category,
)
from ..annotation_files.coco_instances import coco_entry, coco_file
from ..segments import Segment
from .doubts import DOUBT_KINDS
from .examination import Examination
from .top import Found
from .words import Words

SUGGESTIONS, LIST, IMAGES, PEOPLE = (
    "suggestions.json", "suggestions.csv", "images.csv", "annotations"
)  # fmt: skip


@dataclass(frozen=True)
class SuggestionFiles:
    """The folder of one dataset.

    Args:
        path: of the folder.
        images: folder of the dataset's images; that in which those with suggestions are written
            where it has none as files.
        words: of all sets, the dataset's own first.
    """

    path: Path
    images: Path
    words: Sequence[Words]

    @cached_property
    def categories(self) -> list[Category]:
        """One for each name, those of the dataset first."""
        found: dict[str, Category] = {}
        for one in self.words:
            for label, thing in zip(one.labels, one.is_thing, strict=True):
                found.setdefault(plain_name(label), Category(len(found) + 1, label, thing))
        return list(found.values())

    def write(self, examination: Examination, formats: Sequence[AnnotationFormat]) -> None:
        """Write all files.

        Args:
            formats: further ones, for labeling tools.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        style = AnnotationStyle(self.categories)
        images = [self._annotated(found) for found in examination.top.by_image()]
        with replaced(self.path / SUGGESTIONS) as file:
            file.writelines(coco_file([coco_entry(image, style) for image in images], style))
        if formats:
            writer = AnnotationWriter(self.path / PEOPLE, formats, style)
            for rank, image in enumerate(images):
                writer.add(rank, image)
            writer.finish()
        self._write_list(examination)
        with replaced(self.path / IMAGES) as file:
            rows = [(name, f"{worth:.4f}") for name, worth in examination.worth_annotating()]
            csv.writer(file, lineterminator="\n").writerows([("image", "worth"), *rows])

    def _annotated(self, found: Sequence[Found]) -> AnnotatedImage:
        name = found[0].name
        segments = [self._segment(one) for one in found]
        # with its ending, as two images may differ in that only
        return AnnotatedImage(name, name, name, found[0].size, segments, self.images / name)

    def _segment(self, found: Found) -> Segment:
        """The segment of a doubt, in the categories of the file."""
        doubt = found.doubt
        facts: dict[str, Any] = {"doubt": doubt.kind, "text": doubt.text}
        if doubt.place is not None:
            facts["object"] = doubt.place + 1
        name = plain_name(self.labels[doubt.segment.label_id])
        return replace(doubt.segment, label_id=self._category_of_name[name], facts=facts)

    @cached_property
    def labels(self) -> list[str]:
        """Names of all categories of all sets, as segments of doubts count them."""
        return [label for one in self.words for label in one.labels]

    @cached_property
    def _category_of_name(self) -> dict[str, int]:
        return {plain_name(one.name): place for place, one in enumerate(self.categories)}

    def _write_list(self, examination: Examination) -> None:
        with replaced(self.path / LIST) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("doubt", "score", "image", "object", "class", "text"))
            for kind in DOUBT_KINDS:
                for found in examination.top.of_kind(kind):
                    doubt = found.doubt
                    place = "" if doubt.place is None else doubt.place + 1
                    label = self.labels[doubt.segment.label_id]
                    score = f"{doubt.score:.4f}"
                    writer.writerow((kind, score, found.name, place, label, doubt.text))


__all__ = ["SuggestionFiles"]
