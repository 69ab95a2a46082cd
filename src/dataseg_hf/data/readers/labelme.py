"""Outlines drawn in LabelMe: one JSON file per image (https://github.com/wkentaro/labelme)."""

import base64
import binascii
import json
import posixpath
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..sample import BadSampleError, DatasetSpec, Instances, Sample, SampleDataset, Segments
from ..transforms import boxes_of_masks
from .boxes import checked_box, is_finite_number
from .files import (
    IMAGE_SUFFIXES,
    MissingImages,
    Rows,
    Size,
    StrPath,
    class_index_or_void,
    files_by_name,
    inside,
    missing_image,
    open_image,
    read_rgb,
    require_folder,
    require_key,
    require_same_size,
)
from .shapes_to_masks import checked_polygon, circle_to_mask, polygons_to_mask, rectangle_to_mask

BACKGROUND = "_background_"  # LabelMe's name for what no shape covers
_WITHOUT_AREA = frozenset({"line", "linestrip", "point", "points"})
_SHAPES_TYPE = pa.list_(
    pa.struct([
        ("class_index", pa.int64()),  # -1 for void, in semantic annotation
        ("object", pa.int64()),  # equal for the shapes of one object
        ("kind", pa.string()),
        ("points", pa.list_(pa.float64())),  # x1, y1, x2, y2, ...
        ("mask", pa.string()),  # PNG in base64, of kind "mask" only
        ("where", pa.string()),
    ])
)  # fmt: skip


def read_labelme(
    spec: DatasetSpec,
    annotations: StrPath,
    *,
    images: StrPath | None = None,
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """A folder of LabelMe's JSON files, as semantic annotation, instance masks or boxes: what the spec's task says.

    Shapes may be polygons, rectangles, circles and masks; points and lines have no area and are left out with a note.
    Shapes of one label and one `group_id` are one object. In semantic annotation later shapes lie on top, and pixels
    in no shape belong to the raw id `_background_` where the spec maps it, else they are void. In the other tasks
    shapes of a category that the spec calls void are left out. `a/b` of `a/b.json` is the image id; `imagePath` counts
    from the folder of its JSON, or the same sub-folder of `images`. Rows are sorted by image id, objects keep the order
    of the file. Pixels that a JSON embeds (`imageData`) are not read.

    Args:
        spec: the dataset, of task `semantic`, `instance` or `boxes`; its raw ids are the words in `label`.
        annotations: folder of the JSON files, sub-folders included.
        images: folder that no `imagePath` may leave; the folder of the JSON files if they lie beside their images.
        missing_images: what to do with a JSON whose image is not there; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder.
        ValueError: for another task, or no JSON at all. Faults of single images are `problems` of the dataset (broken
            JSON, a missing key, an unknown label, a shape that is none or lies outside the image, an image that two
            files name), or a BadSampleError on loading (an image of another size than listed, a damaged mask).
    """
    if spec.task not in ("semantic", "instance", "boxes"):
        raise ValueError(f"dataset '{spec.name}': LabelMe's shapes cannot serve task '{spec.task}'")
    annotation_dir = require_folder(annotations)
    image_dir = annotation_dir if images is None else require_folder(images)
    json_of = files_by_name(annotation_dir, ".json")
    if not json_of:
        raise ValueError(f"dataset '{spec.name}': no JSON files in {annotation_dir}; check the path")
    rows = Rows({
        "image": pa.string(),
        "annotation": pa.string(),
        "image_id": pa.string(),
        "file_name": pa.string(),
        "size": pa.list_(pa.int64()),
        "shapes": _SHAPES_TYPE,
    })  # fmt: skip
    json_of_image: dict[str, Path] = {}
    absent = without_area = 0
    for name, path in json_of.items():
        with rows.image():
            content = _read_json(path)
            file_name = _image_name(content, name, image_dir, path)
            if file_name in json_of_image:
                raise BadSampleError(f"{path}: {json_of_image[file_name]} names {file_name}, too; remove one of them")
            json_of_image[file_name] = path
            if not (image_dir / file_name).is_file():
                if missing_images == "skip":
                    absent += 1
                    continue
                raise BadSampleError(missing_image(image_dir / file_name, f"the image of {path}"))
            size = _size(content, path)
            shapes, skipped = _parse_shapes(content, spec, size, path)
            without_area += skipped
            rows.add(
                image=str(image_dir / file_name),
                annotation=str(path),
                image_id=name,
                file_name=file_name,
                size=size,
                shapes=shapes,
            )
    notes = []
    if absent:
        notes.append(f"{absent} of {len(json_of)} annotations have no image in {image_dir}: left out")
    if unlabelled := sorted(_image_files(image_dir) - json_of_image.keys()):
        notes.append(f"{len(unlabelled)} images are named by no readable JSON, such as {unlabelled[0]}: left out")
    if without_area:
        notes.append(f"{without_area} shapes in {annotation_dir} are points or lines, without area: left out")
    load = partial(_load, spec=spec)
    return SampleDataset(spec, rows.dataset(), load, rows.problems, notes)


def _image_files(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return {path.relative_to(folder).as_posix() for path in paths}


# --- the JSON of an image


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadSampleError(f"{path}: not valid JSON: {error}; correct it") from error


def _image_name(content: Any, name: str, image_dir: Path, path: Path) -> str:
    """Path of the image below `image_dir`; LabelMe writes `..` for images in a folder beside, and `\\` on Windows."""
    image_path = require_key(content, "imagePath", path)
    if not isinstance(image_path, str) or not image_path:
        raise BadSampleError(f"{path}: imagePath must be a file name, not {image_path!r}; correct it")
    where = f"{path}: imagePath {image_path!r} leaves {image_dir}"
    below = posixpath.normpath(posixpath.join(posixpath.dirname(name), image_path.replace("\\", "/")))
    is_absolute = PureWindowsPath(image_path).anchor != ""  # of either system
    return inside(image_dir, image_path if is_absolute else below, where).relative_to(image_dir).as_posix()


def _size(content: Any, path: Path) -> Size:
    height, width = (require_key(content, key, path) for key in ("imageHeight", "imageWidth"))
    if not all(isinstance(side, int) and side > 0 for side in (height, width)):
        raise BadSampleError(f"{path}: imageHeight {height!r} and imageWidth {width!r} must be pixels; correct them")
    return height, width


def _parse_shapes(content: Any, spec: DatasetSpec, size: Size, path: Path) -> tuple[list[dict[str, Any]], int]:
    """The shapes that the task needs, and how many were left out as they have no area."""
    listed = require_key(content, "shapes", path)
    if not isinstance(listed, list):
        raise BadSampleError(f"{path}: `shapes` must be a list; correct it")
    shapes = []
    skipped = 0
    object_of: dict[tuple[str, Any], int] = {}
    for number, entry in enumerate(listed, start=1):
        label = require_key(entry, "label", f"{path}: shape {number}")
        where = f"{path}: shape {number} ({label!r})"
        kind = entry.get("shape_type", "polygon")  # absent in LabelMe 3, which has polygons alone
        if kind in _WITHOUT_AREA:
            skipped += 1
            continue
        if not isinstance(label, str):
            raise BadSampleError(f"{where}: the label must be a word; correct it")
        group = entry.get("group_id")
        if not isinstance(group, int | str | None):
            raise BadSampleError(f"{where}: group_id must be a number, not {group!r}; correct it")
        shape = {
            "class_index": class_index_or_void(spec, label, where),
            "object": number if group is None else object_of.setdefault((label, group), number),
            "kind": kind,
            "points": _points(require_key(entry, "points", where), where),
            "mask": require_key(entry, "mask", where) if kind == "mask" else None,
            "where": where,
        }
        _check_shape(shape, size)
        if shape["class_index"] >= 0 or spec.task == "semantic":
            shapes.append(shape)
    return shapes, skipped


def _points(points: Any, where: str) -> list[float]:
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise BadSampleError(f"{where}: `points` must be a list of pairs [x, y]; correct or remove it")
    coordinates = [value for point in points for value in point]
    if not all(is_finite_number(value) for value in coordinates):
        raise BadSampleError(f"{where}: `points` must be finite numbers; correct or remove it")
    return [float(value) for value in coordinates]


def _check_shape(shape: dict[str, Any], size: Size) -> None:
    """BadSampleError for a shape of an unknown kind, of a wrong number of points, without area or outside the image."""
    kind, points, where = shape["kind"], shape["points"], shape["where"]
    if kind == "polygon":
        checked_polygon(points, size, where)
    elif kind not in ("rectangle", "circle", "mask"):
        raise BadSampleError(f"{where}: shape_type {kind!r} is not supported; draw it as a polygon, or remove it")
    elif len(points) != 4:
        raise BadSampleError(f"{where}: a {kind} has 2 points, not {len(points) // 2}; correct or remove it")
    if kind == "mask":
        if not isinstance(shape["mask"], str):
            raise BadSampleError(f"{where}: `mask` must be a PNG in base64; correct or remove it")
        left, top, right, bottom = points
        if not (0 <= left <= right < size[1] and 0 <= top <= bottom < size[0]):
            raise BadSampleError(
                f"{where}: a mask from {points[:2]} to {points[2:]} does not lie in the image; remove it"
            )
    else:
        checked_box(_extent(kind, points), size, where)


def _extent(kind: str, points: list[float]) -> tuple[float, float, float, float]:
    """xyxy of a polygon, rectangle (two corners) or circle (centre and a point on it)."""
    xs, ys = points[0::2], points[1::2]
    if kind == "circle":
        radius = _radius(points)
        return xs[0] - radius, ys[0] - radius, xs[0] + radius, ys[0] + radius
    return min(xs), min(ys), max(xs), max(ys)


def _radius(points: list[float]) -> float:
    return float(np.hypot(points[2] - points[0], points[3] - points[1]))


# --- loading


def _load(row: dict[str, Any], spec: DatasetSpec) -> Sample:
    size = (row["size"][0], row["size"][1])
    image = read_rgb(row["image"], row["image"], size)
    require_same_size(image, row["image"], size, row["annotation"])
    annotation = (
        _segments(row["shapes"], spec, size) if spec.task == "semantic" else _objects(row["shapes"], spec, size)
    )
    return Sample(image, annotation, row["image_id"], row["file_name"])


def _segments(shapes: list[dict[str, Any]], spec: DatasetSpec, size: Size) -> Segments:
    class_map = np.full(size, spec.id_map.get(BACKGROUND, -1), dtype=np.int32)
    for shape in shapes:
        class_map[_mask(shape, size)] = shape["class_index"]
    pixels = np.bincount(class_map.ravel() + 1, minlength=len(spec.classes) + 1)  # of void, then of the classes
    present = np.flatnonzero(pixels[1:])
    segment_of = np.full(len(pixels), -1, dtype=np.int32)
    segment_of[present + 1] = np.arange(len(present))
    return Segments(segment_of[class_map + 1], present.astype(np.int64), np.zeros(len(present), dtype=bool))


def _objects(shapes: list[dict[str, Any]], spec: DatasetSpec, size: Size) -> Instances:
    parts_of: dict[int, list[dict[str, Any]]] = {}
    for shape in shapes:
        parts_of.setdefault(shape["object"], []).append(shape)
    parts = list(parts_of.values())
    boxes = np.zeros((len(parts), 4), dtype=np.float32)
    for box, shapes_of_object in zip(boxes, parts, strict=True):
        part_boxes = np.array([_box(shape, size) for shape in shapes_of_object])
        box[:2], box[2:] = part_boxes[:, :2].min(axis=0), part_boxes[:, 2:].max(axis=0)
    annotation = Instances(
        class_labels=np.array([first["class_index"] for first, *_ in parts], dtype=np.int64),
        boxes=boxes,
        is_crowd=np.zeros(len(parts), dtype=bool),
    )
    if spec.task == "instance":
        annotation.masks = np.zeros((len(parts), *size), dtype=bool)
        for mask, shapes_of_object in zip(annotation.masks, parts, strict=True):
            for shape in shapes_of_object:
                mask |= _mask(shape, size)
    return annotation


def _box(shape: dict[str, Any], size: Size) -> tuple[float, float, float, float]:
    if shape["kind"] == "mask":
        left, top, right, bottom = boxes_of_masks(_mask(shape, size)[None])[0].tolist()
        return left, top, right, bottom
    return checked_box(_extent(shape["kind"], shape["points"]), size, shape["where"])


def _mask(shape: dict[str, Any], size: Size) -> NDArray[np.bool_]:
    """bool [H, W] of any kind of shape; a polygon, rectangle or circle of less than a pixel may come out empty."""
    kind, points = shape["kind"], shape["points"]
    if kind == "polygon":
        return polygons_to_mask([points], size, shape["where"])
    if kind == "rectangle":
        return rectangle_to_mask(_extent(kind, points), size)
    if kind == "circle":
        return circle_to_mask(points[:2], _radius(points), size)
    return _embedded_mask(shape, size)


def _embedded_mask(shape: dict[str, Any], size: Size) -> NDArray[np.bool_]:
    """The PNG of a mask, put to its place: from its first to its last pixel, as its two points say."""
    where = f"{shape['where']}: mask"
    left, top, right, bottom = (int(value) for value in shape["points"])
    try:
        content = base64.b64decode(shape["mask"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSampleError(f"{where}: cannot be read as base64 ({error}); draw it anew") from error
    png = open_image(content, where, min_side=1)
    if png.mode not in ("1", "L"):
        raise BadSampleError(f"{where}: expected a grey PNG, not {png.mode}; draw it anew")
    pixels = np.asarray(png) > 0
    if pixels.shape != (bottom - top + 1, right - left + 1):
        raise BadSampleError(
            f"{where}: {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), but its points span "
            f"{bottom - top + 1} x {right - left + 1}; draw it anew"
        )
    if not pixels.any():
        raise BadSampleError(f"{where}: has no pixel; draw it anew, or remove it")
    mask = np.zeros(size, dtype=bool)
    mask[top : bottom + 1, left : right + 1] = pixels
    return mask
