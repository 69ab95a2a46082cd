"""Label Studio's tasks with pre-annotations (https://labelstud.io/guide/predictions), and the
labeling setup for them.

A mask that is no single polygon becomes a brush mask. Polygons are in percent of the image, as
float64: reading gives the same pixels.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from ...data.brush_rle import encode_brush
from ..segments import Segment
from .image import AnnotatedImage, AnnotationStyle
from .outlines import outline_polygons

IMAGE, POLYGON, BRUSH = "image", "polygon", "brush"  # names of the tags in the labeling setup
MODEL_VERSION = "dataseg_hf"


def label_studio_entry(image: AnnotatedImage, style: AnnotationStyle) -> str:
    """The task of an image, on one line."""
    prediction: dict[str, Any] = {
        "model_version": MODEL_VERSION,
        "result": [
            _region(segment, image, style, number)
            for number, segment in enumerate(image.segments, start=1)
        ],
    }
    scores = [segment.score for segment in image.segments if segment.score is not None]
    if scores:
        prediction["score"] = float(sum(scores) / len(scores))  # by which Label Studio sorts tasks
    url = style.image_url_prefix + quote(image.file_name)
    return json.dumps({"data": {IMAGE: url}, "predictions": [prediction]})


def label_studio_file(entries: Iterable[str]) -> Iterator[str]:
    """The text of the file in pieces.

    Args:
        entries: what `label_studio_entry` returned.
    """
    separator = "[\n"
    for entry in entries:
        yield separator + entry
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def labeling_setup(style: AnnotationStyle) -> str:
    """The XML for the project's labeling setup, in which the regions of the tasks find their tags
    and labels.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": IMAGE, "value": f"${IMAGE}", "zoom": "true"})
    for name, tag in ((POLYGON, "PolygonLabels"), (BRUSH, "BrushLabels")):
        control = ElementTree.SubElement(view, tag, {"name": name, "toName": IMAGE})
        for category in style.categories:
            ElementTree.SubElement(control, "Label", {"value": category.name})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _region(
    segment: Segment, image: AnnotatedImage, style: AnnotationStyle, number: int
) -> dict[str, Any]:
    height, width = image.size
    labels = [style.categories[segment.label_id].name]
    polygons = outline_polygons(segment) if style.outlines == "polygons" else None
    if polygons is not None and len(polygons) == 1:
        name, kind = POLYGON, "polygonlabels"
        points = [[x / width * 100, y / height * 100] for x, y in polygons[0]]
        value: dict[str, Any] = {"points": points, "closed": True}
    else:
        name, kind = BRUSH, "brushlabels"
        whole = segment.within(slice(0, height), slice(0, width))
        value = {"format": "rle", "rle": encode_brush(whole)}
    return {
        "id": str(number),
        "type": kind,
        "from_name": name,
        "to_name": IMAGE,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**value, kind: labels},
        **({} if segment.score is None else {"score": float(segment.score)}),
    }
