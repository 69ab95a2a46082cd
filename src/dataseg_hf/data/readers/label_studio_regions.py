"""The results of a Label Studio task: regions of an image, in percent of its sides."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...model.image_reading_dataseg import Size
from ..brush_rle import brush_size, decode_brush
from ..sample import BadSampleError
from .drawn_shapes import DrawnShape, ShapeKind, check_shape, objects_of, placed
from .images import size_of_file
from .shape_rows import ShapeRows
from .shapes_to_masks import rotated_rectangle
from .values import number, number_pairs, require_key, side

_KINDS = ("polygon", "rectangle", "ellipse", "brush")
_KIND_OF_TYPE = {**{kind: kind for kind in _KINDS}, **{f"{kind}labels": kind for kind in _KINDS}}
# for type "labels"
_KEY_OF_KIND = {"rle": "brush", "points": "polygon", "radiusX": "ellipse", "width": "rectangle"}


def stated_size(results: Sequence[Mapping[str, Any]], path: Path, where: str) -> Size:
    """Height and width as the results state them; those of the image file if none does.

    Raises:
        BadSampleError: for results that state several sizes or none that is valid, and for an image
            that was rotated in Label Studio.
    """
    sizes = set()
    for result in results:
        if kind_of(result) is None:
            continue
        height, width = (
            require_key(result, key, where) for key in ("original_height", "original_width")
        )
        sizes.add(
            (side(height, f"{where}: original_height"), side(width, f"{where}: original_width"))
        )
        if number(result.get("image_rotation") or 0, f"{where}: image_rotation") % 360:
            raise BadSampleError(
                f"{where}: the image was rotated by {result['image_rotation']} degrees in Label "
                "Studio, where it is unclear which way regions lie; rotate it back there and check "
                "them, or rotate the file"
            )
    if len(sizes) > 1:
        raise BadSampleError(
            f"{where}: regions on images of several sizes, {sorted(sizes)}; correct or remove them"
        )
    return sizes.pop() if sizes else size_of_file(path)


@dataclass
class _Region:
    """What the results of one id say together; with <Labels> beside <Rectangle>, outline and label
    stand apart.
    """

    place: int
    kind: str
    outline: Mapping[str, Any]
    labels: list[Any] = field(default_factory=list)


def kind_of(result: Mapping[str, Any]) -> str | None:
    """The kind of outline that a result has, of `_KINDS`."""
    stated, value = result.get("type"), result.get("value")
    if not isinstance(stated, str) or not isinstance(value, Mapping):
        return None
    if stated.lower() == "labels":
        return next((kind for key, kind in _KEY_OF_KIND.items() if key in value), None)
    return _KIND_OF_TYPE.get(stated.lower())


def parse_regions(
    results: Sequence[Mapping[str, Any]], rows: ShapeRows, size: Size, where: str
) -> list[DrawnShape]:
    """The shapes that the task needs; results not read are counted in `rows`."""
    shapes = []
    for region in _regions(results, where, rows.not_read):
        place = f"{where}: result {region.place} ({region.kind})"
        label = _label(region.labels, place)
        place = f"{where}: result {region.place} ({region.kind} {label!r})"
        kind, points, brush = _outline(region.kind, region.outline, size, place)
        shape = DrawnShape(
            rows.class_ids.index(label), region.place, kind, points, place, mask=brush
        )
        check_shape(shape, size, rows.spec)
        shapes.append(shape)
    rows.class_ids.end_image(where)
    return objects_of(shapes, rows.spec)


def _regions(
    results: Sequence[Mapping[str, Any]], where: str, not_read: Counter[str]
) -> list[_Region]:
    """The outlines with their labels, in the order of the file; others count in `not_read`."""
    regions: list[_Region] = []
    region_of: dict[Any, _Region] = {}
    for place, result in enumerate(results, start=1):
        kind = kind_of(result)
        if kind is None:
            not_read[str(result.get("type"))[:40]] += 1
            continue
        value, identity = result["value"], result.get("id")
        known = region_of.get(identity) if isinstance(identity, str | int) else None
        if known is None or not _is_same_outline(known, kind, value):
            known = _Region(place, kind, value)
            regions.append(known)
            if isinstance(identity, str | int):
                region_of[identity] = known
        for key in (f"{kind}labels", "labels"):
            labels = value.get(key) or []
            if not isinstance(labels, list):
                message = f"result {place}: `{key}` must be a list of labels; correct it"
                raise BadSampleError(f"{where}: {message}")
            known.labels += labels
    return regions


def _is_same_outline(region: _Region, kind: str, value: Mapping[str, Any]) -> bool:
    without_labels = (
        {k: v for k, v in outline.items() if "labels" not in k}
        for outline in (region.outline, value)
    )
    return region.kind == kind and next(without_labels) == next(without_labels)


def _label(labels: Sequence[Any], where: str) -> str:
    if not all(isinstance(label, str) for label in labels):
        raise BadSampleError(f"{where}: labels must be words, not {list(labels)!r}; correct it")
    distinct = list(dict.fromkeys(labels))
    if len(distinct) != 1:
        many = (
            f"has {len(distinct)} labels, {distinct}; keep one"
            if distinct
            else "has no label; give it one"
        )
        raise BadSampleError(f"{where}: {many}, or remove the region")
    return distinct[0]


def _outline(
    kind: str, value: Mapping[str, Any], size: Size, where: str
) -> tuple[ShapeKind, list[float], str | None]:
    """Kind and numbers of a shape in pixels, as `DrawnShape` has them, and a brush's base64."""
    height, width = size

    def along(key: str, length: int) -> float:
        return number(require_key(value, key, where), f"{where}: {key}") / 100 * length

    if kind == "polygon":
        percents = number_pairs(require_key(value, "points", where), f"{where}: points")
        return "polygon", (percents / 100 * (width, height)).ravel().tolist(), None
    if kind == "brush":
        return "mask", [0, 0, width, height], _brush(require_key(value, "rle", where), size, where)
    angle = number(value.get("rotation") or 0, f"{where}: rotation")
    left, top = along("x", width), along("y", height)
    if kind == "ellipse":
        radii = along("radiusX", width), along("radiusY", height)
        return "ellipse", [left, top, *radii, angle], None
    box = [left, top, left + along("width", width), top + along("height", height)]
    if angle % 360 == 0:
        return "rectangle", box, None
    return "polygon", rotated_rectangle(box, (left, top), angle), None


def _brush(rle: Any, size: Size, where: str) -> str:
    try:
        content = bytes(rle) if isinstance(rle, list) else None
    except (TypeError, ValueError):
        content = None
    if content is None:
        raise BadSampleError(
            f"{where}: `rle` must be a list of numbers from 0 to 255; correct or remove it"
        )
    if brush_size(content) != 4 * size[0] * size[1]:
        raise BadSampleError(
            f"{where}: `rle` holds {brush_size(content)} values, not four for each of the "
            f"{size[0]} x {size[1]} pixels (height x width) of the image; draw it anew"
        )
    return base64.b64encode(content).decode("ascii")


def brush_mask(shape: Mapping[str, Any], size: Size) -> NDArray[np.bool_]:
    """A brush mask as bool [H, W]; it covers the whole image.

    Raises:
        BadSampleError: for damaged run lengths, and a mask without pixels.
    """
    where = f"{shape['where']}: rle"
    try:
        mask = decode_brush(base64.b64decode(shape["mask"]), size[0] * size[1])
    except ValueError as error:
        raise BadSampleError(f"{where}: cannot be read ({error}); draw it anew") from error
    return placed(mask.reshape(size), (0, 0, size[1], size[0]), size, where)
