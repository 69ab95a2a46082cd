"""The completed annotation of a whole dataset, image by image, into a folder.

The folder holds COCO files (`annotations.json`, and for maps of classes `maps/`), with a score, a
source and what there is to review for each segment; `dataset.yaml`, the entry that reads it in a
mix; `review.csv`, what a person should look at, the most doubtful first.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from PIL import Image
from tqdm.auto import tqdm

from ...data.sample import BadSampleError, DatasetSpec, Instances, Segments, TaskName
from ...files.writing import replaced
from ..labeling.annotation import ANNOTATION_FILE, MAPS, AnnotationFiles
from ..labeling.journal import Batch, Journal, LabeledImage
from ..segments import Segment, Size, cropped
from .proposing import Proposed
from .sample import CompletedSample, complete_sample

JOURNAL_FILE, REVIEW_FILE, ENTRY_FILE = "completed_images.jsonl", "review.csv", "dataset.yaml"
IMAGES = "images"
"""Folder of the images of a set that has no files of its own."""


@dataclass(frozen=True)
class CompletedFolder:
    """Where the completed annotation of a dataset goes.

    Args:
        path: of the dataset.
        spec: of the dataset.
        images: folder of its images, below which samples have their `file_name`; None where they
            are no files there, so that they are written, too.
        value_range: as the entry of the dataset states it.
    """

    path: Path
    spec: DatasetSpec
    images: Path | None
    value_range: tuple[float, float] | None = None

    @property
    def task(self) -> TaskName:
        """That of the completed annotation."""
        maps = self.spec.label_form in ("classes", "segments")
        return "panoptic" if maps else "instance"

    def journal(self) -> Journal:
        """The images that are done, in a file that is made at the first of them."""
        self.path.mkdir(parents=True, exist_ok=True)
        return Journal(self.path / JOURNAL_FILE)

    def files(self) -> AnnotationFiles:
        """What writes the annotation."""
        return AnnotationFiles(self.path, self.task, self.spec.labels, self.spec.is_thing)


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


def complete_images(
    folder: CompletedFolder, batches: Iterable[Proposed], total: int
) -> CompletionSummary:
    """Complete the images that are not done yet, and write the files of all. A batch is done as a
    whole, so that a completion that was stopped goes on with the same batches and gives the same
    files.

    Args:
        folder: of the dataset.
        batches: of the images that its journal does not know.
        total: images of the dataset.
    """
    journal, files = folder.journal(), folder.files()
    with tqdm(total=total, initial=len(journal.done), unit="image") as bar:
        for batch in batches:
            done = [complete_sample(sample, folder.spec, found) for sample, found in batch]
            journal.add(Batch([_written(one, folder, files) for one in done]))
            bar.update(len(batch))
    entries = journal.entries()
    files.finish(entries)
    _write_review(folder, entries)
    _write_entry(folder)
    return _summary(entries)


def image_name(file_name: str, image_id: int | str, has_files: bool) -> str:
    """What the annotation calls an image: its path below the folder of images, or else its id.

    Raises:
        BadSampleError: for a name that leads out of a folder.
    """
    name = file_name if has_files else str(image_id)
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or not path.parts:
        raise BadSampleError(
            f"image {image_id}: its name {name!r} leads out of the folder in which its annotation "
            "is to be written; rename it"
        )
    return path.as_posix()


def _written(
    done: CompletedSample, folder: CompletedFolder, files: AnnotationFiles
) -> LabeledImage:
    """Write what belongs to one image."""
    sample = done.sample
    name = image_name(sample.file_name, sample.image_id, folder.images is not None)
    file_name = name
    if folder.images is None:
        file_name = f"{name}.png"
        target = folder.path / IMAGES / file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.image).save(target)
    size = (sample.image.shape[0], sample.image.shape[1])
    image = files.add(name, file_name, size, segments_of(done))
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


# --- the files of all images


def segments_of_entry(entry: str) -> tuple[str, Size, list[dict[str, Any]]]:
    """The file of an image, its height and width, and what is written of its segments."""
    image, *rest = (json.loads(part) for part in entry.split("\t"))
    if rest and "segments_info" in rest[0]:
        rest = rest[0]["segments_info"]
    return image["file_name"], (image["height"], image["width"]), rest


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
            "name": f"{spec.name}, completed",
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
    }
    if folder.value_range is not None and folder.images is not None:
        entry["value_range"] = list(folder.value_range)
    text = yaml.safe_dump({"datasets": {folder.path.name: entry}}, sort_keys=False)
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


__all__ = [
    "CompletedFolder",
    "CompletionSummary",
    "complete_images",
    "image_name",
    "segments_of",
    "segments_of_entry",
]
