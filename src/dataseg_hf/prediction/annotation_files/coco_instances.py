"""COCO instances format (https://cocodataset.org/#format-data), with a `score` for each object.

Each part of an object is a polygon; a mask that polygons cannot tell is written as run lengths,
with `iscrowd` 0, as it is one object. Reading gives the same pixels.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

from ...data.rle import run_lengths
from ..segments import Segment, Size
from .image import AnnotatedImage, AnnotationStyle
from .outlines import outline_polygons


def coco_entry(image: AnnotatedImage, style: AnnotationStyle) -> str:
    """An image and its objects, not numbered yet, as JSON texts with tabs between them."""
    height, width = image.size
    facts = {"id": image.image_id, "file_name": image.file_name, "height": height, "width": width}
    objects = [_annotation(segment, image, style) for segment in image.segments]
    return "\t".join(json.dumps(part) for part in (facts, *objects))


def coco_file(entries: Iterable[str], style: AnnotationStyle) -> Iterator[str]:
    """The text of the file in pieces.

    Args:
        entries: of `coco_entry`; they are gone through twice.
        style: as for them.
    """
    categories = json.dumps([category.as_coco() for category in style.categories])
    yield f'{{"info": {{}}, "licenses": [], "categories": {categories}, "images": ['
    yield from _joined(entry.split("\t", 1)[0] for entry in entries)
    yield '], "annotations": ['
    numbers = count(1)
    yield from _joined(
        f'{{"id": {next(numbers)}, {annotation[1:]}'
        for entry in entries
        for annotation in entry.split("\t")[1:]
    )
    yield "]}\n"


def _annotation(segment: Segment, image: AnnotatedImage, style: AnnotationStyle) -> dict[str, Any]:
    annotation = {
        "image_id": image.image_id,
        "category_id": style.categories[segment.label_id].id,
        "bbox": list(segment.box),
        "area": segment.area,
        "iscrowd": 0,
        "segmentation": _segmentation(segment, image.size, style),
    }
    return annotation if segment.score is None else {**annotation, "score": float(segment.score)}


def _segmentation(segment: Segment, size: Size, style: AnnotationStyle) -> Any:
    polygons = outline_polygons(segment) if style.outlines == "polygons" else None
    if polygons is not None:
        return [[value for point in polygon for value in point] for polygon in polygons]
    whole = segment.within(slice(0, size[0]), slice(0, size[1]))
    return {"size": list(size), "counts": run_lengths(whole)}


def _joined(texts: Iterable[str]) -> Iterator[str]:
    separator = "\n"
    for text in texts:
        yield separator + text
        separator = ",\n"
