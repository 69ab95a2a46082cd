"""What is written into annotation files: the segments of an image, the categories, and how masks
are told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ..segments import Segment, Size

Outlines: TypeAlias = Literal["polygons", "masks"]
LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves the files below its LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT."""


@dataclass(frozen=True)
class Category:
    """One category.

    Args:
        id: in files that number categories.
        name: in all files.
    """

    id: int
    name: str
    is_thing: bool


@dataclass(frozen=True)
class AnnotatedImage:
    """One image with its segments.

    Args:
        image_id: in files that number images.
        name: of the annotation file where a format has one for each image, without its ending.
        file_name: of the image, below the folder that holds all images; `/` separates folders.
        size: height and width in pixels.
        segments: their `label_id` is an index into the categories; they may overlap.
        path: where the image lies; None where it is no file.
    """

    image_id: int | str
    name: str
    file_name: str
    size: Size
    segments: Sequence[Segment]
    path: Path | None = None


@dataclass(frozen=True)
class AnnotationStyle:
    """What all images of a file have in common.

    Args:
        categories: in the order of the segments' `label_id`.
        outlines: "polygons" writes a polygon where one tells every pixel (see
            `outlines.outline_polygons`) and a bitmap otherwise; "masks" writes bitmaps only.
        image_url_prefix: what comes before the file name in Label Studio's image addresses.
    """

    categories: Sequence[Category]
    outlines: Outlines = "polygons"
    image_url_prefix: str = LOCAL_FILES
