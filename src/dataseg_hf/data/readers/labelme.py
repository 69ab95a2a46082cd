"""Outlines drawn in LabelMe, and in tools that write its JSON: one file per image
(https://github.com/wkentaro/labelme).
"""

import base64
import binascii
import os
import posixpath
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...messages import shown
from ...model.image_reading_dataseg import Size
from ..sample import BadSampleError, DatasetSpec, SampleDataset
from .class_ids import VOID
from .drawn_shapes import DrawnShape, ShapeKind, check_shape, objects_of, placed
from .images import open_image, size_of_file
from .json_files import read_json
from .objects_of_degrees import along_line
from .paths import (
    IMAGE_SUFFIXES,
    LONGEST_NAME,
    MissingImages,
    StrPath,
    files_by_name,
    inside,
    require_folder,
    require_image,
)
from .reader_tasks import require_task
from .shape_rows import ShapeRows
from .values import is_finite_number, require_key, side

BACKGROUND = "_background_"  # LabelMe's name for what no shape covers
_WITHOUT_AREA = frozenset({"line", "linestrip", "point", "points"})
# X-AnyLabeling writes the last two, and rectangles of four corners
_FOUR_CORNERS = frozenset({"rectangle", "oriented_rectangle", "rotation", "quadrilateral"})


def read_labelme(
    spec: DatasetSpec,
    annotations: StrPath,
    *,
    images: StrPath | None = None,
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """A folder of LabelMe's JSON files, as semantic annotation, instance masks or boxes: what the
    spec's task says.

    Shapes may be polygons, rectangles (of two or four corners, turned or not), circles and masks;
    points and lines have no area and are left out with a note. A rectangle covers the pixels whose
    centers lie in it: from (2, 3) to (6, 8) 20 of them, where LabelMe's own conversion fills both
    borders, 30. Shapes of one label and one `group_id` are one object. In semantic annotation later
    shapes lie on top, and pixels in no shape belong to the raw id `_background_` where the spec
    maps it, else they are void. In the other tasks shapes of a category that the spec calls void
    are left out. `a/b` of `a/b.json` is the image id; `imagePath` counts from the folder of its
    JSON, or the same sub-folder of `images`. Rows are sorted by image id, objects keep the order of
    the file. Pixels that a JSON embeds (`imageData`) are not read.

    Args:
        spec: the dataset, of task `semantic`, `instance`, `boxes` or `objects`; its raw ids are the
            words in `label`.
        annotations: folder of the JSON files, sub-folders included.
        images: folder that no `imagePath` may leave; the folder of the JSON files if they lie
            beside their images.
        missing_images: what to do with a JSON whose image is not there; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder.
        ValueError: for another task, or no JSON at all. Faults of single images are `problems` of
            the dataset (broken JSON, a missing key, an unknown label, a shape that is none or lies
            outside the image, an image that two files name), or a BadSampleError on loading (an
            image of another size than listed, a damaged mask).
    """
    require_task(spec, "labelme")
    annotation_dir = require_folder(annotations)
    image_dir = annotation_dir if images is None else require_folder(images)
    json_of = files_by_name(annotation_dir, ".json")
    if not json_of:
        raise ValueError(
            f"dataset '{spec.name}': no JSON files in {annotation_dir}; check the path"
        )
    rows = ShapeRows(spec, missing_images)
    json_of_image: dict[str, Path] = {}
    for name, path in json_of.items():
        with rows.image():
            content = read_json(path)
            file_name = _image_name(content, name, image_dir, path)
            if file_name in json_of_image:
                raise BadSampleError(
                    f"{path}: {json_of_image[file_name]} names {file_name}, too; remove one of them"
                )
            json_of_image[file_name] = path
            image = require_image(image_dir / file_name, f"the image of {path}")
            size = _size(content, path, image)
            shapes = _parse_shapes(content, rows, size, path)
            rows.add_image(
                image, path, image_id=name, file_name=file_name, size=size, shapes=shapes
            )
    notes = []
    notes += rows.absent_notes(len(json_of), f"annotations have no image in {image_dir}")
    if unlabeled := sorted(_image_files(image_dir) - json_of_image.keys()):
        notes.append(
            f"{len(unlabeled)} images are named by no readable JSON, such as {unlabeled[0]}: left "
            "out"
        )
    if rows.not_read:
        notes.append(
            f"{rows.not_read.total()} shapes in {annotation_dir} are points or lines, without "
            "area: left out"
        )
    return rows.samples(_embedded_mask, spec.id_map.get(BACKGROUND, VOID), notes)


def _image_files(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return {path.relative_to(folder).as_posix() for path in paths}


# --- the JSON of an image


def _image_name(content: Any, name: str, image_dir: Path, path: Path) -> str:
    """Path of the image below `image_dir`; LabelMe writes `..` for images in a folder beside, and
    `\\` on Windows.
    """
    image_path = require_key(content, "imagePath", path)
    if not isinstance(image_path, str) or not image_path:
        raise BadSampleError(
            f"{path}: imagePath must be a file name, not {image_path!r}; correct it"
        )
    if len(max(image_path.split("/"), key=len).encode()) > LONGEST_NAME:
        raise BadSampleError(
            f"{path}: imagePath {shown(image_path)} cannot be a file name: it is longer than "
            f"{LONGEST_NAME} bytes; correct it"
        )
    where = f"{path}: imagePath {image_path!r} leaves {image_dir}"
    if PureWindowsPath(image_path).anchor:  # absolute, on either system
        return inside(image_dir, image_path, where).relative_to(image_dir).as_posix()
    forward = image_path.replace("\\", "/")
    stated, root = (Path(os.path.abspath(place)) for place in (path.parent / forward, image_dir))
    if stated.is_relative_to(root) and stated.is_file():
        return stated.relative_to(root).as_posix()
    below = posixpath.normpath(posixpath.join(posixpath.dirname(name), forward))
    return inside(image_dir, below, where).relative_to(image_dir).as_posix()


def _size(content: Any, path: Path, image: Path) -> Size:
    """Height and width as stated, or, where a tool leaves them out, of the image."""
    stated = [content.get(key) for key in ("imageHeight", "imageWidth")]
    if stated == [None, None]:
        return size_of_file(image)
    return side(stated[0], f"{path}: imageHeight"), side(stated[1], f"{path}: imageWidth")


def _parse_shapes(content: Any, rows: ShapeRows, size: Size, path: Path) -> list[DrawnShape]:
    """The shapes that the task needs; those without area are counted in `rows.not_read`."""
    listed = require_key(content, "shapes", path)
    if not isinstance(listed, list):
        raise BadSampleError(f"{path}: `shapes` must be a list; correct it")
    keeps_points = rows.spec.label_form == "degrees"
    shapes = _tags(content, rows, path) if keeps_points else []
    object_of: dict[tuple[str, Any], int] = {}
    for number, entry in enumerate(listed, start=1):
        label = require_key(entry, "label", f"{path}: shape {number}")
        where = f"{path}: shape {number} ({label!r})"
        kind = entry.get("shape_type")
        if isinstance(kind, str) and kind in _WITHOUT_AREA and not keeps_points:
            rows.not_read[kind] += 1
            continue
        if not isinstance(label, str):
            raise BadSampleError(f"{where}: the label must be a word; correct it")
        group = _group(entry, where)
        outline, points = _outline(entry, where)
        shape = DrawnShape(
            class_index=rows.class_ids.index(label),
            object=number if group is None else object_of.setdefault((label, group), number),
            kind=outline,
            points=points,
            mask=_png(entry, where) if outline == "mask" else None,
            where=where,
        )
        check_shape(shape, size, rows.spec)
        shapes.append(shape)
    rows.class_ids.end_image(str(path))
    return objects_of(shapes, rows.spec)


def _tags(content: Mapping[str, Any], rows: ShapeRows, path: Path) -> list[DrawnShape]:
    """Flags of the image that are set and named as a class: what it shows somewhere."""
    flags = content.get("flags") or {}
    if not isinstance(flags, dict):
        raise BadSampleError(f"{path}: `flags` must be a mapping; correct it")
    named = [name for name, value in flags.items() if value is True and rows.spec.knows(name)]
    return [
        DrawnShape(rows.class_ids.index(name), -number, "tag", (), f"{path}: flag {name!r}")
        for number, name in enumerate(named, start=1)
    ]


def _group(entry: Mapping[str, Any], where: str) -> int | str | None:
    """What joins shapes of one label to one object; None for a shape by itself."""
    group = entry.get("group_id")
    if isinstance(group, float) and group.is_integer():
        return int(group)
    if not isinstance(group, int | str | None):
        raise BadSampleError(f"{where}: group_id must be a number, not {group!r}; correct it")
    return group


def _outline(entry: Mapping[str, Any], where: str) -> tuple[ShapeKind, list[float]]:
    """Kind and numbers of a shape, as `DrawnShape` has them."""
    kind = entry.get("shape_type")
    if kind is None:  # in LabelMe 3, which has polygons alone
        kind = "polygon"
    if not isinstance(kind, str) or not kind:
        raise BadSampleError(f"{where}: shape_type must be a word, not {shown(kind)}; correct it")
    points = _points(require_key(entry, "points", where), where)
    if kind == "polygon":
        return "polygon", points
    if kind in _WITHOUT_AREA and points:
        return "points", points if kind in ("point", "points") else along_line(points)
    if kind in _FOUR_CORNERS and len(points) == 8:
        xs, ys = set(points[0::2]), set(points[1::2])
        if kind != "rectangle" or len(xs) != 2 or len(ys) != 2:
            return "polygon", points
    elif kind not in ("rectangle", "circle", "mask"):
        raise BadSampleError(
            f"{where}: {len(points) // 2} points of shape_type {kind!r} are not supported; draw a "
            "polygon, or remove it"
        )
    elif len(points) != 4:
        raise BadSampleError(
            f"{where}: a {kind} has 2 points, not {len(points) // 2}; correct or remove it"
        )
    if kind == "circle":
        radius = float(np.hypot(points[2] - points[0], points[3] - points[1]))
        return "ellipse", [*points[:2], radius, radius, 0.0]
    left, top, right, bottom = (
        min(points[0::2]),
        min(points[1::2]),
        max(points[0::2]),
        max(points[1::2]),
    )
    if kind == "mask":  # from its first to its last pixel
        return "mask", [left, top, right + 1, bottom + 1]
    return "rectangle", [left, top, right, bottom]


def _points(points: Any, where: str) -> list[float]:
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 for point in points
    ):
        raise BadSampleError(
            f"{where}: `points` must be a list of pairs [x, y]; correct or remove it"
        )
    coordinates = [value for point in points for value in point]
    if not all(is_finite_number(value) for value in coordinates):
        raise BadSampleError(f"{where}: `points` must be finite numbers; correct or remove it")
    return [float(value) for value in coordinates]


def _png(entry: Mapping[str, Any], where: str) -> str:
    mask = require_key(entry, "mask", where)
    if not isinstance(mask, str):
        raise BadSampleError(f"{where}: `mask` must be a PNG in base64; correct or remove it")
    return mask


# --- loading


def _embedded_mask(shape: Mapping[str, Any], size: Size) -> NDArray[np.bool_]:
    """The PNG of a mask, put to its place."""
    where = f"{shape['where']}: mask"
    left, top, right, bottom = (int(value) for value in shape["points"])
    try:
        content = base64.b64decode(shape["mask"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSampleError(
            f"{where}: cannot be read as base64 ({error}); draw it anew"
        ) from error
    png = open_image(content, where, min_side=1)
    if png.mode not in ("1", "L"):
        raise BadSampleError(f"{where}: expected a gray PNG, not {png.mode}; draw it anew")
    return placed(np.asarray(png) > 0, (left, top, right, bottom), size, where)
