"""LabelMe's JSON, one file per image (https://github.com/wkentaro/labelme).

The parts of an object are polygons of one `group_id`; a mask that polygons cannot tell becomes a
shape of type `mask` (LabelMe 5.2 and later). Each shape has its `score` where X-AnyLabeling has it;
LabelMe keeps it when it saves. dataseg_hf reads the same pixels, and LabelMe draws the same
outlines. LabelMe's own conversion of polygons to pixels (`shapes_to_label`) also fills the pixels
that the right and the lower border touch.
"""

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..segments import Segment
from .image import AnnotatedImage, AnnotationStyle
from .outlines import outline_polygons

FORMAT_VERSION = "5.5.0"


def labelme_file(image: AnnotatedImage, style: AnnotationStyle, file: Path) -> str:
    """The text of an image's JSON.

    Args:
        image: its path is stated relative to the folder of `file`; its file name, where it is no
            file.
        style: how masks are told.
        file: what the text will be written into.
    """
    shapes: list[dict[str, Any]] = [
        {
            "label": style.categories[segment.label_id].name,
            **shape,
            "group_id": number if len(parts) > 1 else None,
            "flags": {},
            **({} if segment.score is None else {"score": float(segment.score)}),
        }
        for number, segment in enumerate(image.segments, start=1)
        for parts in [_parts(segment, style)]
        for shape in parts
    ]
    content: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": _image_path(image, file),
        "imageData": None,
        "imageHeight": image.size[0],
        "imageWidth": image.size[1],
    }
    return json.dumps(content, indent=1) + "\n"


def _parts(segment: Segment, style: AnnotationStyle) -> list[dict[str, Any]]:
    polygons = outline_polygons(segment) if style.outlines == "polygons" else None
    if polygons is None:
        return [_mask(segment)]
    return [{"shape_type": "polygon", "points": polygon} for polygon in polygons]


def _mask(segment: Segment) -> dict[str, Any]:
    """A PNG of the tight box, which is stated from its first to its last pixel."""
    left, top, width, height = segment.box
    pixels = segment.within(slice(top, top + height), slice(left, left + width))
    png = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(png, format="PNG")
    return {
        "shape_type": "mask",
        "points": [[left, top], [left + width - 1, top + height - 1]],
        "mask": base64.b64encode(png.getvalue()).decode("ascii"),
    }


def _image_path(image: AnnotatedImage, file: Path) -> str:
    if image.path is None:
        return image.file_name
    try:
        return Path(os.path.relpath(image.path, file.parent)).as_posix()
    except ValueError:  # another drive of Windows
        return image.path.resolve().as_posix()
