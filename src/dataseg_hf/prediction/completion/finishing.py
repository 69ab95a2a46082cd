"""The files of a completion that belong to all images of a set.

`annotations.json` in COCO's formats; `dataset.yaml`, the entry that reads it in a mix;
`review.csv`, what a person should look at, the most doubtful first.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ...files.writing import replaced
from ..labeling.annotation import ANNOTATION_FILE, MAPS
from .completed_folder import IMAGES, CompletedFolder, segments_of_entry

REVIEW_FILE, ENTRY_FILE = "review.csv", "dataset.yaml"


@dataclass(frozen=True)
class CompletionSummary:
    """What a completion came to.

    Args:
        images: how many.
        sources: segments by what they were made from.
        to_review: segments that a person should look at.
    """

    images: int
    sources: Mapping[str, int]
    to_review: int

    def text(self) -> str:
        """For the terminal."""
        made = ", ".join(f"{count} {source}" for source, count in sorted(self.sources.items()))
        return f"{self.images} images: {made or 'nothing'}; {self.to_review} to review"


def finish(folder: CompletedFolder, entries: Iterable[str]) -> CompletionSummary:
    """Write the files of all images.

    Args:
        folder: of the set.
        entries: of the images in their order; they are gone through several times.
    """
    folder.files().finish(entries)
    _write_review(folder, entries)
    _write_entry(folder)
    return _summary(entries)


def _write_review(folder: CompletedFolder, entries: Iterable[str]) -> None:
    """What a person should look at: the least score first."""
    rows = []
    for entry in entries:
        file_name, _, segments = segments_of_entry(entry)
        for number, one in enumerate(segments, start=1):
            if one["review"]:
                label = folder.spec.labels[one["category_id"] - 1]
                rows.append((one["score"], file_name, number, label, one["source"], one["review"]))
    with replaced(folder.path / REVIEW_FILE) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("score", "image", "segment", "class", "source", "review"))
        writer.writerows((f"{score:.4f}", *row) for score, *row in sorted(rows))


def _write_entry(folder: CompletedFolder) -> None:
    """The entry of a mix that reads the folder."""
    maps = folder.task == "panoptic"
    spec = folder.spec
    entry: dict[str, Any] = {
        "spec": {
            "name": f"{spec.name}, {'completed' if folder.first is None else 'second layer'}",
            "task": folder.task,
            "license": spec.license,
            "classes": [
                {"name": c.name, "ids": [number], "thing": c.is_thing, "exhaustive": c.exhaustive}
                for number, c in enumerate(spec.classes, start=1)
            ],
            "annotated": spec.annotated,
        },
        "reader": "coco_panoptic" if maps else "coco_instances",
        "images": str(folder.images or folder.path / IMAGES),
        **({"annotations": str(folder.path / MAPS)} if maps else {}),
        "annotation_file": str(folder.path / ANNOTATION_FILE),
        "options": {"score_weights": True},
        "completed": str(folder.path),
    }
    if folder.value_range is not None and folder.images is not None:
        entry["value_range"] = list(folder.value_range)
    text = yaml.safe_dump({"datasets": {folder.entry_name: entry}}, sort_keys=False)
    with replaced(folder.path / ENTRY_FILE) as file:
        file.write(f"# Completed annotation: paste the entry into the `datasets` of a run.\n{text}")


def _summary(entries: Iterable[str]) -> CompletionSummary:
    sources: Counter[str] = Counter()
    images = to_review = 0
    for entry in entries:
        images += 1
        *_, segments = segments_of_entry(entry)
        sources.update(one["source"] for one in segments)
        to_review += sum(bool(one["review"]) for one in segments)
    return CompletionSummary(images, dict(sources), to_review)


__all__ = ["ENTRY_FILE", "REVIEW_FILE", "CompletionSummary", "finish"]
