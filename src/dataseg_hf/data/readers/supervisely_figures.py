"""The figures of an image in Supervisely's JSON: bitmaps, polygons with holes, rectangles."""

import base64
import binascii
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...messages import shown
from ...model.image_reading_dataseg import Size
from ..sample import BadSampleError, DatasetSpec, RawId
from .boxes import checked_box
from .drawn_shapes import DrawnShape, check_shape, objects_of, placed
from .images import open_image, size_of_file
from .lattice_polygons import fill_lattice_polygon
from .shape_rows import ShapeRows
from .shapes_to_masks import checked_points
from .supervisely_meta import Meta, ids_are_numbers
from .values import number, number_pairs, require_key, side, whole_number

_READ = frozenset({"bitmap", "polygon", "rectangle"})
_PNG_HEADER = 24  # bytes, up to width and height


def stated_size(content: Any, path: Path, image: Path) -> Size:
    """Height and width as stated, or, where a tool leaves them out, of the image."""
    stated = require_key(content, "size", path)
    if stated is None:
        return size_of_file(image)
    height, width = (require_key(stated, key, f"{path}: size") for key in ("height", "width"))
    return side(height, f"{path}: height"), side(width, f"{path}: width")


@dataclass(frozen=True)
class _Figure:
    """An object of a file. place: its number there. rings: outline and holes, of a bitmap none."""

    place: int
    entry: Mapping[str, Any]
    geometry: str
    raw_id: RawId
    rings: Sequence[NDArray[np.float64]]
    where: str


def parse_figures(
    content: Any, meta: Meta, rows: ShapeRows, size: Size, path: Path
) -> list[DrawnShape]:
    """The shapes of an image that the task needs; figures not read are counted in `rows`."""
    figures = list(_read_figures(content, meta, rows, path))
    between_pixels = any((ring % 1).any() for figure in figures for ring in figure.rings)
    object_of: dict[tuple[RawId, str], int] = {}
    shapes = []
    for figure in figures:
        number, bound = figure.place, figure.entry.get("instance")
        if isinstance(bound, str):
            number = object_of.setdefault((figure.raw_id, bound), number)
        if figure.geometry == "bitmap":
            numbers = _bitmap(figure.entry, figure.where)
        else:
            numbers = _outline(figure, size, between_pixels, rows.spec)
        class_index = rows.class_ids.index(figure.raw_id)
        shape = DrawnShape(class_index, number, where=figure.where, **numbers)
        check_shape(shape, size, rows.spec)
        shapes.append(shape)
    rows.class_ids.end_image(str(path))
    return objects_of(shapes, rows.spec)


def _read_figures(content: Any, meta: Meta, rows: ShapeRows, path: Path) -> Iterator[_Figure]:
    listed = require_key(content, "objects", path)
    if not isinstance(listed, list) or not all(isinstance(entry, Mapping) for entry in listed):
        raise BadSampleError(f"{path}: `objects` must be a list of figures; correct it")
    for place, entry in enumerate(listed, start=1):
        geometry = _geometry(entry, meta)
        if geometry not in _READ:
            rows.not_read[geometry] += 1
            continue
        where = f"{path}: object {place}"
        raw_id = _raw_id(entry, rows.spec, meta, where)
        where = f"{where} ({geometry} {raw_id!r})"
        rings = [] if geometry == "bitmap" else _rings(require_key(entry, "points", where), where)
        yield _Figure(place, entry, geometry, raw_id, rings, where)


def _raw_id(entry: Mapping[str, Any], spec: DatasetSpec, meta: Meta, where: str) -> RawId:
    """The number or the title of an object's class, whichever the spec has as raw ids."""
    if ids_are_numbers(spec):
        return whole_number(require_key(entry, "classId", where), f"{where}: classId")
    title = entry.get("classTitle")
    if title is None and entry.get("classId") is not None:
        title = meta.title_of.get(whole_number(entry["classId"], f"{where}: classId"))
    if not isinstance(title, str):
        raise BadSampleError(f"{where}: `classTitle` must be a word, not {title!r}; add it")
    return title


def _geometry(entry: Mapping[str, Any], meta: Meta) -> str:
    """The geometry that an object states, or its class where an old file does not."""
    stated = entry.get("geometryType")
    if stated is None and isinstance(entry.get("classTitle"), str):
        stated = meta.shape_of.get(entry["classTitle"])
    return str(stated)[:40]


def _rings(points: Any, where: str) -> list[NDArray[np.float64]]:
    """The corners [N, 2] of an outline and of each of its holes."""
    exterior = number_pairs(require_key(points, "exterior", where), f"{where}: exterior")
    interior = points.get("interior") or []
    if not isinstance(interior, list):
        raise BadSampleError(f"{where}: `interior` must be a list of holes; correct or remove it")
    return [exterior, *(number_pairs(hole, f"{where}: interior") for hole in interior)]


def _outline(
    figure: _Figure, size: Size, between_pixels: bool, spec: DatasetSpec
) -> dict[str, Any]:
    """Kind, points, holes and mask of a `DrawnShape`."""
    rings, where = figure.rings, figure.where
    exterior = rings[0]
    if figure.geometry == "rectangle":
        if len(exterior) != 2:
            raise BadSampleError(
                f"{where}: a rectangle has 2 corners, not {len(exterior)}; correct or remove it"
            )
        last = exterior.max(axis=0) + (0 if between_pixels else 1)
        return {"kind": "rectangle", "points": [*exterior.min(axis=0).tolist(), *last.tolist()]}
    flat = [ring.ravel() for ring in rings]
    if between_pixels:
        return {
            "kind": "polygon",
            "points": flat[0].tolist(),
            "holes": [ring.tolist() for ring in flat[1:]],
        }
    cut = [checked_points(ring, size, where, spec.outside).reshape(-1, 2) for ring in flat]
    extent = [*exterior.min(axis=0).tolist(), *(exterior.max(axis=0) + 1).tolist()]
    window = checked_box(extent, size, where, spec.outside)
    if spec.label_form == "boxes":
        return {"kind": "rectangle", "points": window}
    return {
        "kind": "mask",
        "points": window,
        "mask": json.dumps([ring.astype(np.int64).tolist() for ring in cut]),
    }


def _bitmap(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    bitmap = require_key(entry, "bitmap", where)
    data, origin = require_key(bitmap, "data", where), require_key(bitmap, "origin", where)
    if not isinstance(origin, list) or len(origin) != 2:
        raise BadSampleError(
            f"{where}: `origin` must be [x, y], not {shown(origin)}; correct or remove it"
        )
    left, top = (floor(number(value, f"{where}: origin")) for value in origin)
    header = _png(data, where, _PNG_HEADER)
    width, height = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
    return {"kind": "mask", "points": [left, top, left + width, top + height], "mask": data}


def _png(data: Any, where: str, max_bytes: int = 0) -> bytes:
    """The PNG of a bitmap, or its beginning: base64, within it zlib unless an old tool left
    it out.
    """
    try:
        content = base64.b64decode(data, validate=True)
        if not content.startswith(b"\x89PNG"):
            content = zlib.decompressobj().decompress(content, max_bytes)
    except (binascii.Error, zlib.error, ValueError, TypeError) as error:
        raise BadSampleError(
            f"{where}: bitmap: cannot be read as base64 of zlib ({error}); draw it anew"
        ) from error
    return content


def figure_mask(shape: Mapping[str, Any], size: Size) -> NDArray[np.bool_]:
    """A bitmap, or a polygon of pixels with its holes (a JSON list), as bool [H, W].

    Raises:
        BadSampleError: for a damaged bitmap, and a shape without pixels.
    """
    left, top, right, bottom = (int(value) for value in shape["points"])
    if not shape["mask"].startswith("["):
        return placed(
            _bitmap_pixels(shape), (left, top, right, bottom), size, f"{shape['where']}: bitmap"
        )
    exterior, *holes = json.loads(shape["mask"])
    mask = fill_lattice_polygon(exterior, size)
    for hole in holes:
        mask &= ~fill_lattice_polygon(hole, size)
    if not mask.any():
        raise BadSampleError(
            f"{shape['where']}: has no pixel, as its holes cover it; draw it anew, or remove it"
        )
    return mask


def _bitmap_pixels(shape: Mapping[str, Any]) -> NDArray[np.bool_]:
    where = f"{shape['where']}: bitmap"
    left, top, right, bottom = shape["points"]
    # above any PNG of its size, to stop bombs
    max_bytes = 2048 + int(9 * (right - left + 1) * (bottom - top))
    png = open_image(_png(shape["mask"], shape["where"], max_bytes), where, min_side=1)
    if png.mode in ("LA", "RGBA") or "transparency" in png.info:
        return np.asarray(png.convert("RGBA"))[..., 3] > 0
    pixels = np.asarray(png.convert("RGB") if png.mode == "P" else png)
    return (pixels if pixels.ndim == 2 else pixels.max(axis=-1)) > 0
