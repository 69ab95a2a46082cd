"""COCO instances format (https://cocodataset.org/#format-data), with a `score` for each object.

Each part of an object is a polygon; a mask that polygons cannot tell is written as run lengths,
with `iscrowd` 0, as it is one object. Reading gives the same pixels.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

from ...data.coco_format import coco_categories, coco_object, coco_rle
from ..segments import Segment, Size
from .image import AnnotatedImage, AnnotationStyle
from .outlines import outline_polygons


def coco_entry(image: AnnotatedImage, style: AnnotationStyle) -> str:
    """An image and its objects, not numbered yet, as JSON texts with tabs between them."""
    height, width = image.size
    facts = {"id": image.image_id, "file_name": image.file_name, "height": height, "width": width}
    ids = [category.id for category in style.categories]
    objects = [
        {
            "image_id": image.image_id,
            **coco_object(segment, ids),
            "segmentation": _segmentation(segment, image.size, style),
            **segment.facts,
        }
        for segment in image.segments
    ]
    return "\t".join(json.dumps(part) for part in (facts, *objects))


def coco_file(entries: Iterable[str], style: AnnotationStyle) -> Iterator[str]:
    """The text of the file in pieces.

    Args:
        entries: of `coco_entry`; they are gone through twice.
        style: as for them.
    """
    known = style.categories
    categories = json.dumps(
        coco_categories([c.name for c in known], [c.is_thing for c in known], [c.id for c in known])
    )
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


def _segmentation(segment: Segment, size: Size, style: AnnotationStyle) -> Any:
    polygons = outline_polygons(segment) if style.outlines == "polygons" else None
    if polygons is not None:
        return [[value for point in polygon for value in point] for polygon in polygons]
    return coco_rle(segment, size)


def _joined(texts: Iterable[str]) -> Iterator[str]:
    separator = "\n"
    for text in texts:
        yield separator + text
        separator = ",\n"
