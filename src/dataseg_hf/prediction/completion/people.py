"""Completed annotation as files for labeling tools, those images first that need a look most."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.readers.id_maps import read_rgb_ids
from ...data.readers.rle import decode_rle
from ...data.readers.shapes_to_masks import polygons_to_mask
from ..annotation_files import (
    AnnotatedImage,
    AnnotationFormat,
    AnnotationStyle,
    AnnotationWriter,
    Category,
)
from ..labeling.annotation import MAPS
from ..labeling.journal import LabeledImage
from ..segments import Segment, Size, cropped
from .completed_folder import IMAGES, CompletedFolder, segments_of_entry
from .journals import Journals

PEOPLE = "annotations"
"""Folder of the files."""


def write_for_people(
    folder: CompletedFolder, formats: Sequence[AnnotationFormat]
) -> list[AnnotationFormat]:
    """Write the segments of all images, but for crowds, which these tools do not know.

    Args:
        folder: whose images are all done.
        formats: which files.

    Returns:
        Formats whose files were there already: they may have been corrected, and stay.
    """
    categories = [
        Category(number, c.name, c.is_thing)
        for number, c in enumerate(folder.spec.classes, start=1)
    ]
    target, style = folder.path / PEOPLE, AnnotationStyle(categories)
    there = [
        one
        for one in formats
        if any(path.exists() for path in AnnotationWriter(target, [one], style).targets())
    ]
    left = [one for one in formats if one not in there]
    if not left:
        return there
    unfinished = target.with_name(f"{PEOPLE}.unfinished")  # beside it, as files name images
    if unfinished.exists():
        shutil.rmtree(unfinished)
    writer = AnnotationWriter(unfinished, left, style)
    journals = Journals(folder.path)
    order = sorted((*_urgency(image), place) for place, image in enumerate(journals.labeled()))
    for rank, (*_, place) in enumerate(order):
        writer.add(rank, _annotated(folder, journals.at(place)))
    writer.finish()
    target.mkdir(exist_ok=True)
    for path in writer.targets():
        if path.exists():  # a folder is made for its first image
            path.rename(target / path.name)
    unfinished.rmdir()
    return there


def _urgency(image: LabeledImage) -> tuple[int, float]:
    """Less for images that need a look more: first those with segments to review, by the least
    score.
    """
    _, _, segments = segments_of_entry(image.entry)
    scores = [one["score"] for one in segments if one["review"]]
    return (0, min(scores)) if scores else (1, 0.0)


def _annotated(folder: CompletedFolder, image: LabeledImage) -> AnnotatedImage:
    """An image with its segments, from what is written of it."""
    file_name, size, entries = segments_of_entry(image.entry)
    ids = None
    if entries and "segmentation" not in entries[0]:
        path = folder.path / MAPS / f"{image.name}.png"
        ids = read_rgb_ids(path, path)
    segments = [_segment(one, size, ids, image.name) for one in entries if not one["iscrowd"]]
    path = (folder.images or folder.path / IMAGES) / file_name
    return AnnotatedImage(image.name, image.name, file_name, size, segments, path)


def _segment(
    entry: Mapping[str, Any], size: Size, ids: NDArray[np.integer] | None, where: str
) -> Segment:
    """A segment from its entry in a COCO file, or its id in a map [H, W]."""
    shape = entry.get("segmentation")
    if ids is not None:
        mask = ids == entry["id"]
    elif isinstance(shape, list):
        mask = polygons_to_mask(shape, size, where, "clip")
    else:
        mask = decode_rle(shape, size, where)
    return cropped(mask, entry["category_id"] - 1, entry.get("score"))


__all__ = ["PEOPLE", "write_for_people"]
