"""CVAT for images 1.1, one XML for all images
(https://docs.cvat.ai/docs/dataset_management/formats/xml_format/).

A mask that is no single polygon becomes a `mask`: run lengths, row by row, of its tight box. Each
object has its score as an attribute named `score`, which CVAT shows for labels that have such an
attribute and otherwise leaves out. Reading gives the same pixels.
"""

import re
from collections.abc import Iterable, Iterator
from xml.etree import ElementTree

from ...data.rle import run_lengths
from ..segments import Segment
from .image import AnnotatedImage, AnnotationStyle
from .outlines import outline_polygons

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def check_xml_text(text: str, what: str) -> None:
    """Check that an XML file can hold a text.

    Raises:
        ValueError: for characters that it cannot, such as control characters; the message says what
            has them.
    """
    if found := _NOT_XML.search(text):
        raise ValueError(
            f"{what} {text!r} has the character {found.group()!r}, which no XML can hold; rename it"
        )


def cvat_entry(image: AnnotatedImage, style: AnnotationStyle, index: int) -> str:
    """The `image` element, on one line.

    Raises:
        ValueError: for a file name that XML cannot hold.
    """
    check_xml_text(image.file_name, "file name")
    height, width = image.size
    facts = {"id": str(index), "name": image.file_name, "width": str(width), "height": str(height)}
    element = ElementTree.Element("image", facts)
    for segment in image.segments:
        element.append(_shape(segment, style))
    return ElementTree.tostring(element, encoding="unicode")


def cvat_file(entries: Iterable[str], style: AnnotationStyle) -> Iterator[str]:
    """The text of the file in pieces.

    Args:
        entries: what `cvat_entry` returned.

    Raises:
        ValueError: for a category name that XML cannot hold.
    """
    labels = ElementTree.Element("labels")
    for category in style.categories:
        check_xml_text(category.name, "category name")
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = category.name
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    yield f"<meta><task>{ElementTree.tostring(labels, encoding='unicode')}</task></meta>\n"
    for entry in entries:
        yield f"{entry}\n"
    yield "</annotations>\n"


def _shape(segment: Segment, style: AnnotationStyle) -> ElementTree.Element:
    facts = {
        "label": style.categories[segment.label_id].name,
        "source": "auto",
        "occluded": "0",
        "z_order": "0",
    }
    polygons = outline_polygons(segment) if style.outlines == "polygons" else None
    if polygons is not None and len(polygons) == 1:
        points = ";".join(f"{x},{y}" for x, y in polygons[0])
        shape = ElementTree.Element("polygon", {**facts, "points": points})
    else:
        shape = ElementTree.Element("mask", {**facts, **_bitmap(segment)})
    if segment.score is not None:
        ElementTree.SubElement(shape, "attribute", {"name": "score"}).text = f"{segment.score:.4f}"
    return shape


def _bitmap(segment: Segment) -> dict[str, str]:
    left, top, width, height = segment.box
    pixels = segment.within(slice(top, top + height), slice(left, left + width))
    runs = run_lengths(pixels.T)  # its columns are the rows
    place = {"left": left, "top": top, "width": width, "height": height}
    return {"rle": ", ".join(map(str, runs)), **{key: str(value) for key, value in place.items()}}
