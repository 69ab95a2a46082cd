"""Figures drawn in Supervisely: a project's folder (https://docs.supervisely.com/data-organization/00_ann_format_navi)."""

import base64
import binascii
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..names import label_list_notes
from ..sample import BadSampleError, DatasetSpec, RawId, SampleDataset
from .boxes import checked_box
from .class_ids import ClassIds, TargetCounts, background_class, background_notes
from .drawn_shapes import SHAPE_ROWS, DrawnShape, check_shape, load_shapes, objects_of, placed
from .files import (
    MissingImages,
    Rows,
    Size,
    StrPath,
    missing_image,
    open_image,
    read_text,
    require_folder,
    require_images,
    require_key,
    upright_size,
)
from .lattice_polygons import fill_lattice_polygon
from .shapes_to_masks import checked_points
from .values import number, number_pairs, side, whole_number

_READ = frozenset({"bitmap", "polygon", "rectangle"})
_PNG_HEADER = 24  # bytes, up to width and height
_META = "meta.json"


def read_supervisely(
    spec: DatasetSpec,
    annotations: StrPath,
    *,
    background: RawId | None = None,
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """A Supervisely project, or one dataset of it, as semantic annotation, instance masks or boxes, by the spec's task.

    `ann/NAME.EXT.json` belongs to `img/NAME.EXT` beside it; `meta.json` of the project, which lists its classes, lies
    in `annotations` or in a folder above. Bitmaps, polygons with holes and rectangles are read; other geometries are
    left out with a note. Supervisely's SDK writes the numbers of pixels: a rectangle holds both its corners, a polygon
    its whole border (`cv2.fillPoly`), a hole is cut out with its border, and so it is here. In a file with a fraction
    in any corner, which the SDK never writes, corners lie between pixels instead, and a pixel belongs to an outline if
    its center lies in it. Figures of one class that are bound together (`instance`) are one object. In semantic
    annotation later figures lie on top, and pixels in no figure are void unless `background` names their id. In the
    other tasks figures of a class that the spec calls void are left out. The image id is `DATASET/NAME.EXT`. Rows are
    sorted by it, objects keep the order of the file.

    Args:
        spec: the dataset, of task `semantic`, `instance` or `boxes`; its raw ids are the words in `classTitle`, or,
            where all of them are numbers, `classId`.
        annotations: folder of the project, or of one of its datasets.
        background: raw id of the pixels in no figure (semantic annotation).
        missing_images: what to do with an annotation that has no image; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder.
        ValueError: for a damaged `meta.json`, or no annotation at all. Faults of single images are `problems` of the
            dataset (broken JSON, a missing key, an unknown class, a figure that is none or lies outside the image), or
            a BadSampleError on loading (an image of another size than listed, a damaged bitmap).
    """
    folder = require_folder(annotations)
    paths = sorted(path for path in folder.rglob("*.json") if path.parent.name == "ann")
    if not paths:
        raise ValueError(
            f"dataset '{spec.name}': no ann/*.json in {folder}; name the folder of a project in Supervisely's format"
        )
    load = partial(load_shapes, spec=spec, decode_mask=_figure_mask, background=background_class(spec, background))
    meta, figures = _read_meta(folder), _Figures(spec)
    rows, counts = Rows(SHAPE_ROWS), TargetCounts(len(spec.classes))
    absent = 0
    for path in paths:
        with rows.image():
            image = path.parent.parent / "img" / path.name.removesuffix(".json")
            if not image.is_file():
                if missing_images == "skip":
                    absent += 1
                    continue
                raise BadSampleError(missing_image(image, f"the image of {path}"))
            content = _read_json(path)
            size = _size(content, path, image)
            shapes = figures.parse(content, meta, size, path)
            counts.add([shape.class_index for shape in shapes], [shape.is_crowd for shape in shapes])
            rows.add(
                image=str(image),
                annotation=str(path),
                image_id=(path.parent.parent.relative_to(folder) / image.name).as_posix(),
                file_name=image.relative_to(folder).as_posix(),
                size=size,
                shapes=[shape.row() for shape in shapes],
            )
    notes = [*figures.notes(folder), *_meta_notes(spec, meta, folder), *background_notes(spec, background)]
    if absent:
        notes.append(f"{absent} of {len(paths)} annotations in {folder} have no image: left out")
    if unlabelled := _images_without_annotation(paths):
        notes.append(f"{len(unlabelled)} images in {folder} have no annotation, such as {unlabelled[0]}: left out")
    data = SampleDataset(
        spec,
        rows.dataset(sort_by="image_id"),
        load,
        rows.problems,
        notes,
        stated_names=meta.stated_names(spec),
        census=counts.census(),
    )
    return require_images(data, folder)


def _images_without_annotation(paths: Sequence[Path]) -> list[str]:
    annotated = {(path.parent.parent / "img", path.name.removesuffix(".json")) for path in paths}
    folders = sorted({folder for folder, _ in annotated if folder.is_dir()})
    images = [(folder, path.name) for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]
    return [str(folder / name) for folder, name in images if (folder, name) not in annotated]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise BadSampleError(f"{path}: not valid JSON ({error}); export it anew") from error


# --- the classes of a project


@dataclass
class _Meta:
    """path: of the meta.json, None where there is none. title_of, shape_of: by id, by title; where they are stated."""

    path: Path | None = None
    titles: list[str] = field(default_factory=list)
    title_of: dict[RawId, str] = field(default_factory=dict)
    shape_of: dict[str, str] = field(default_factory=dict)

    def stated_names(self, spec: DatasetSpec) -> Mapping[RawId, str]:
        """Titles by raw id of the spec."""
        return {**self.title_of} if _ids_are_numbers(spec) else {title: title for title in self.titles}


def _read_meta(folder: Path) -> _Meta:
    """The classes of the project that a folder is, or belongs to."""
    above = [folder.resolve(), *folder.resolve().parents][:4]  # datasets may lie in datasets
    path = next((parent / _META for parent in above if (parent / _META).is_file()), None)
    if path is None:
        return _Meta()
    classes = require_key(_read_json(path), "classes", path)
    if not isinstance(classes, list):
        raise ValueError(f"{path}: `classes` must be a list; export the project anew")
    meta = _Meta(path)
    for place, entry in enumerate(classes, start=1):
        where = f"{path}: class {place}"
        title, shape = require_key(entry, "title", where), entry.get("shape")
        if not isinstance(title, str) or title in meta.titles:
            raise ValueError(f"{where}: the title {title!r} must be a word of its own; correct it")
        meta.titles.append(title)
        if entry.get("id") is not None:
            meta.title_of[whole_number(entry["id"], f"{where}: id")] = title
        if isinstance(shape, str):
            meta.shape_of[title] = shape
    return meta


def _meta_notes(spec: DatasetSpec, meta: _Meta, folder: Path) -> list[str]:
    if meta.path is None:
        return [f"no {_META} in {folder} or above: the names of its classes are not compared with the spec"]
    return [] if _ids_are_numbers(spec) else label_list_notes(spec, meta.titles, meta.path)


def _ids_are_numbers(spec: DatasetSpec) -> bool:
    return all(isinstance(raw_id, int) for raw_id in spec.id_map)


# --- the figures of an image


def _size(content: Any, path: Path, image: Path) -> Size:
    """Height and width as stated, or, where a tool leaves them out, of the image."""
    stated = require_key(content, "size", path)
    if stated is None:
        return upright_size(image)
    height, width = (require_key(stated, key, f"{path}: size") for key in ("height", "width"))
    return side(height, f"{path}: height"), side(width, f"{path}: width")


class _Figures:
    """Turns the figures of files into shapes, and counts those that are left out."""

    def __init__(self, spec: DatasetSpec) -> None:
        self._class_ids = ClassIds(spec)
        self._by_number = _ids_are_numbers(spec)
        self._left_out: Counter[str] = Counter()

    def parse(self, content: Any, meta: _Meta, size: Size, path: Path) -> list[DrawnShape]:
        """The shapes of an image that the task needs."""
        listed = require_key(content, "objects", path)
        if not isinstance(listed, list) or not all(isinstance(entry, Mapping) for entry in listed):
            raise BadSampleError(f"{path}: `objects` must be a list of figures; correct it")
        read = []
        for place, entry in enumerate(listed, start=1):
            geometry = _geometry(entry, meta)
            if geometry not in _READ:
                self._left_out[geometry] += 1
                continue
            where = f"{path}: object {place}"
            raw_id = self._raw_id(entry, meta, where)
            where = f"{where} ({geometry} {raw_id!r})"
            rings = [] if geometry == "bitmap" else _rings(require_key(entry, "points", where), where)
            read.append((place, entry, geometry, raw_id, rings, where))
        between_pixels = any((ring % 1).any() for *_, rings, _ in read for ring in rings)
        object_of: dict[tuple[RawId, str], int] = {}
        shapes = []
        for place, entry, geometry, raw_id, rings, where in read:
            spec, bound = self._class_ids.spec, entry.get("instance")
            is_bitmap = geometry == "bitmap"
            numbers = (
                _bitmap(entry, where) if is_bitmap else _outline(geometry, rings, size, between_pixels, spec, where)
            )
            shape = DrawnShape(
                class_index=self._class_ids.index(raw_id),
                object=place if not isinstance(bound, str) else object_of.setdefault((raw_id, bound), place),
                where=where,
                **numbers,
            )
            check_shape(shape, size, spec)
            shapes.append(shape)
        self._class_ids.end_image(str(path))
        return objects_of(shapes, self._class_ids.spec)

    def _raw_id(self, entry: Mapping[str, Any], meta: _Meta, where: str) -> RawId:
        if self._by_number:
            return whole_number(require_key(entry, "classId", where), f"{where}: classId")
        title = entry.get("classTitle")
        if title is None and entry.get("classId") is not None:
            title = meta.title_of.get(whole_number(entry["classId"], f"{where}: classId"))
        if not isinstance(title, str):
            raise BadSampleError(f"{where}: `classTitle` must be a word, not {title!r}; add it")
        return title

    def notes(self, folder: Path) -> list[str]:
        """What was left out, for a user."""
        notes = self._class_ids.notes()
        if self._left_out:
            named = ", ".join(f"{count} {geometry}" for geometry, count in self._left_out.most_common())
            notes.append(f"objects in {folder} of geometries that are not read: {named}: left out")
        return notes


def _geometry(entry: Mapping[str, Any], meta: _Meta) -> str:
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
    geometry: str,
    rings: Sequence[NDArray[np.float64]],
    size: Size,
    between_pixels: bool,
    spec: DatasetSpec,
    where: str,
) -> dict[str, Any]:
    """Kind, points, holes and mask of a `DrawnShape`."""
    exterior = rings[0]
    if geometry == "rectangle":
        if len(exterior) != 2:
            raise BadSampleError(f"{where}: a rectangle has 2 corners, not {len(exterior)}; correct or remove it")
        last = exterior.max(axis=0) + (0 if between_pixels else 1)
        return {"kind": "rectangle", "points": [*exterior.min(axis=0).tolist(), *last.tolist()]}
    flat = [ring.ravel() for ring in rings]
    if between_pixels:
        return {"kind": "polygon", "points": flat[0].tolist(), "holes": [ring.tolist() for ring in flat[1:]]}
    cut = [checked_points(ring, size, where, spec.outside).reshape(-1, 2) for ring in flat]
    extent = [*exterior.min(axis=0).tolist(), *(exterior.max(axis=0) + 1).tolist()]
    window = checked_box(extent, size, where, spec.outside)
    if spec.task == "boxes":
        return {"kind": "rectangle", "points": window}
    return {"kind": "mask", "points": window, "mask": json.dumps([ring.astype(np.int64).tolist() for ring in cut])}


def _bitmap(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    bitmap = require_key(entry, "bitmap", where)
    data, origin = require_key(bitmap, "data", where), require_key(bitmap, "origin", where)
    if not isinstance(origin, list) or len(origin) != 2:
        raise BadSampleError(f"{where}: `origin` must be [x, y], not {str(origin)[:40]}; correct or remove it")
    left, top = (floor(number(value, f"{where}: origin")) for value in origin)
    header = _png(data, where, _PNG_HEADER)
    width, height = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
    return {"kind": "mask", "points": [left, top, left + width, top + height], "mask": data}


def _png(data: Any, where: str, max_bytes: int = 0) -> bytes:
    """The PNG of a bitmap, or its beginning: base64, within it zlib unless an old tool left it out."""
    try:
        content = base64.b64decode(data, validate=True)
        if not content.startswith(b"\x89PNG"):
            content = zlib.decompressobj().decompress(content, max_bytes)
    except (binascii.Error, zlib.error, ValueError, TypeError) as error:
        raise BadSampleError(f"{where}: bitmap: cannot be read as base64 of zlib ({error}); draw it anew") from error
    return content


# --- loading


def _figure_mask(shape: Mapping[str, Any], size: Size) -> NDArray[np.bool_]:
    """bool [H, W] of a bitmap, or of a polygon of pixels with its holes, which is a JSON list."""
    left, top, right, bottom = (int(value) for value in shape["points"])
    if not shape["mask"].startswith("["):
        return placed(_bitmap_pixels(shape), (left, top, right, bottom), size, f"{shape['where']}: bitmap")
    exterior, *holes = json.loads(shape["mask"])
    mask = fill_lattice_polygon(exterior, size)
    for hole in holes:
        mask &= ~fill_lattice_polygon(hole, size)
    if not mask.any():
        raise BadSampleError(f"{shape['where']}: has no pixel, as its holes cover it; draw it anew, or remove it")
    return mask


def _bitmap_pixels(shape: Mapping[str, Any]) -> NDArray[np.bool_]:
    where = f"{shape['where']}: bitmap"
    left, top, right, bottom = shape["points"]
    max_bytes = 2048 + int(9 * (right - left + 1) * (bottom - top))  # above any PNG of its size, to stop bombs
    png = open_image(_png(shape["mask"], shape["where"], max_bytes), where, min_side=1)
    if png.mode in ("LA", "RGBA") or "transparency" in png.info:
        return np.asarray(png.convert("RGBA"))[..., 3] > 0
    pixels = np.asarray(png.convert("RGB") if png.mode == "P" else png)
    return (pixels if pixels.ndim == 2 else pixels.max(axis=-1)) > 0
