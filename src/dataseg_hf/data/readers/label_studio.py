"""Regions drawn in Label Studio: its export "JSON", one list of tasks (https://labelstud.io/guide/export)."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...image_reading_dataseg import Size
from ..brush_rle import brush_size, decode_brush
from ..sample import BadSampleError, DatasetSpec, SampleDataset
from .class_ids import background_class, background_notes
from .drawn_shapes import DrawnShape, ShapeKind, check_shape, objects_of, placed
from .images import upright_size
from .json_files import json_list
from .paths import IMAGE_SUFFIXES, MissingImages, StrPath, require_file, require_folder
from .rows import require_images
from .shape_rows import ShapeRows
from .shapes_to_masks import rotated_rectangle
from .stated_paths import StatedPaths
from .values import flag, number, number_pairs, require_key, side

_KINDS = ("polygon", "rectangle", "ellipse", "brush")
_KIND_OF_TYPE = {**{kind: kind for kind in _KINDS}, **{f"{kind}labels": kind for kind in _KINDS}}
_KEY_OF_KIND = {"rle": "brush", "points": "polygon", "radiusX": "ellipse", "width": "rectangle"}  # for type "labels"


def read_label_studio(
    spec: DatasetSpec,
    images: StrPath,
    annotation_file: StrPath,
    *,
    image_key: str | None = None,
    completed_by: int | str | None = None,
    predictions: bool = False,
    background: str | None = None,
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """Label Studio's export "JSON", as semantic annotation, instance masks or boxes: what the spec's task says.

    Brush masks, polygons, rectangles and ellipses (both may be rotated) are read; they are percents of the original
    image. A pixel belongs to an outline if its center lies in it, to a brush mask if its alpha is above 128. Other
    results (keypoints, choices, bitmasks, ...) are left out with a note, predictions too. Of several annotations of a
    task the newest counts that was not cancelled (`updated_at`, else `created_at`, else the order of the file). In
    semantic annotation later regions lie on top, and pixels in no region are void unless `background` names their id.
    In the other tasks regions of a category that the spec calls void are left out. Tasks without annotation are left
    out with a note; a task with an empty one is an image without objects.

    The image of a task is the file below `images` whose path there is the longest tail of the task's path or address,
    with or without the prefix of 8 digits that an upload gets (`StatedPaths`); its path below `images` is the image id.
    Rows are sorted by image id, objects keep the order of the file. The JSON is read task by task.

    Args:
        spec: the dataset, of task `semantic`, `instance` or `boxes`; its raw ids are the labels' values.
        images: folder of the images.
        annotation_file: the JSON.
        image_key: of a task's `data`, where the image's address stands; else the one named like the results'
            `to_name`, or the only one that ends like an image.
        completed_by: number or e-mail of the annotator whose annotations count; those of all by default.
        predictions: read a task's newest prediction instead of its annotations (pre-annotations, such as
            `examples/predict.py` writes).
        background: raw id of the pixels in no region (semantic annotation).
        missing_images: what to do with a task whose image is not in `images`; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder or JSON.
        ValueError: for a file that is no such JSON (JSON-MIN among them), or no image at all. Faults of single images
            are `problems` of the dataset (a missing key, an unknown label, a region with several labels or none, one
            that lies outside the image, an image rotated in the tool, an image that two tasks name), or a
            BadSampleError on loading (an image of another size than listed, damaged run lengths).
    """
    image_dir, annotation_file = require_folder(images), require_file(annotation_file, "the JSON export")
    background_index = background_class(spec, background)
    rows, tally = ShapeRows(spec, missing_images), _Tally()
    task_of_image: dict[str, str] = {}
    stated_paths = StatedPaths(image_dir)
    for place, task in enumerate(json_list(annotation_file, "the export 'JSON' of Label Studio"), start=1):
        _refuse_other_export(task, annotation_file)
        tally.tasks += 1
        with rows.image():
            where = f"{annotation_file}: task {_task_name(task, place)}"
            annotation = _chosen_annotation(task, completed_by, predictions, tally, where)
            if annotation is None:
                continue
            results = _results(annotation, where)
            address = _image_address(require_key(task, "data", where), results, image_key, where)
            path = stated_paths.find(address, where)
            name = path.relative_to(image_dir).as_posix()
            if name in task_of_image:
                raise BadSampleError(
                    f"{where}: its image {address[:200]!r} is {name}, as that of task {task_of_image[name]}; remove "
                    "one of the tasks, or give `images` the folders that tell them apart"
                )
            task_of_image[name] = _task_name(task, place)
            size = _size(results, path, where)
            shapes = _parse_regions(results, rows, size, where)
            rows.add_image(path, annotation_file, image_id=name, file_name=name, size=size, shapes=shapes)
    if not tally.tasks:
        raise ValueError(f"{annotation_file}: holds no task; export the project as 'JSON'")
    notes = [*background_notes(spec, background), *tally.notes(annotation_file)]
    notes += rows.absent_notes(tally.tasks, f"tasks of {annotation_file} have no image in {image_dir}")
    notes += rows.not_read_notes(f"results of {annotation_file}")
    data = rows.samples(_brush_mask, background_index, notes)
    if not len(data) and not rows.problems and tally.without == tally.tasks:
        raise ValueError(f"{annotation_file}: none of its {tally.tasks} tasks has an annotation that counts")
    return require_images(data, image_dir)


@dataclass
class _Tally:
    """What was left out, or chosen among several, in a file."""

    tasks: int = 0
    without: int = 0
    predicted: int = 0
    several: int = 0

    def notes(self, path: Path) -> list[str]:
        """For a user."""
        notes = []
        if self.without:
            notes.append(f"{self.without} of {self.tasks} tasks of {path} have no annotation that counts: left out")
        if self.several:
            notes.append(f"{self.several} tasks of {path} have several annotations: the newest of each is taken")
        if self.predicted:
            notes.append(f"{self.predicted} tasks of {path} have predictions, which are not read")
        return notes


# --- the tasks of a file


def _refuse_other_export(task: Any, path: Path) -> None:
    if isinstance(task, Mapping) and "data" not in task and ("annotation_id" in task or "annotator" in task):
        raise ValueError(f"{path}: is the export 'JSON-MIN', which leaves out what is needed; export it as 'JSON'")


def _task_name(task: Any, place: int) -> str:
    identity = task.get("id") if isinstance(task, Mapping) else None
    return str(identity) if isinstance(identity, int | str) else f"number {place} of the file"


def _chosen_annotation(task: Any, completed_by: int | str | None, predictions: bool, tally: _Tally, where: str) -> Any:
    """The newest annotation, or prediction, that counts; None where the task has none."""
    key = "completions" if isinstance(task, Mapping) and "completions" in task else "annotations"  # before 1.0
    if predictions:
        key = "predictions"
    elif isinstance(task, Mapping) and key not in task and task.get("predictions"):
        raise BadSampleError(f"{where}: has predictions and no annotations; set `predictions: true` to read them")
    listed = require_key(task, key, where)
    if not isinstance(listed, list) or not all(isinstance(annotation, Mapping) for annotation in listed):
        raise BadSampleError(f"{where}: `{key}` must be a list of annotations; export the project as 'JSON'")
    tally.predicted += bool(task.get("predictions")) and not predictions
    counting = [
        annotation
        for annotation in listed
        if not flag(annotation.get("was_cancelled"), f"{where}: was_cancelled")
        and (completed_by is None or _is_by(annotation.get("completed_by"), completed_by))
    ]
    if not counting:
        tally.without += 1
        return None
    tally.several += len(counting) > 1
    return max(enumerate(counting), key=lambda pair: (_time(pair[1]), pair[0]))[1]


def _time(annotation: Mapping[str, Any]) -> str:
    """When it was changed last; ISO 8601 sorts as text."""
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _is_by(annotator: Any, wanted: int | str) -> bool:
    names = [annotator.get("id"), annotator.get("email")] if isinstance(annotator, Mapping) else [annotator]
    return str(wanted) in [str(name) for name in names]


def _results(annotation: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    results = require_key(annotation, "result", where)
    if not isinstance(results, list) or not all(isinstance(result, Mapping) for result in results):
        raise BadSampleError(f"{where}: `result` must be a list of results; export the project as 'JSON'")
    return results


def _image_address(data: Any, results: Sequence[Mapping[str, Any]], image_key: str | None, where: str) -> str:
    """The address of the image that was labelled."""
    if not isinstance(data, Mapping):
        raise BadSampleError(f"{where}: `data` must hold the image's address; export the project as 'JSON'")
    if image_key is not None:
        address = require_key(data, image_key, f"{where}: data")
        if not isinstance(address, str) or not address:
            raise BadSampleError(f"{where}: data: {image_key!r} must be the address of one image; correct it")
        return address
    labelled = sorted({str(result["to_name"]) for result in results if _kind(result) and "to_name" in result})
    if len(labelled) > 1:
        raise BadSampleError(f"{where}: regions on several images ({', '.join(labelled)}); make a task of each image")
    addresses = {key: value for key, value in data.items() if _ends_like_image(value)}
    if labelled and labelled[0] in addresses:
        return addresses[labelled[0]]
    lists = [key for key, value in data.items() if isinstance(value, list) and any(map(_ends_like_image, value))]
    if lists:
        raise BadSampleError(f"{where}: data: {lists[0]!r} lists several images; make a task of each image")
    if len(addresses) != 1:
        found = (
            f"{len(addresses)} values of `data` ({', '.join(map(str, addresses))}) end"
            if addresses
            else "nothing in `data` ends"
        )
        raise BadSampleError(
            f"{where}: {found} like an image; name the key of the right one as `image_key` in `options`"
        )
    return next(iter(addresses.values()))


def _ends_like_image(address: Any) -> bool:
    if not isinstance(address, str):
        return False
    path = address.split("?d=", 1)[-1] if "?d=" in address else address.split("?", 1)[0]
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def _size(results: Sequence[Mapping[str, Any]], path: Path, where: str) -> Size:
    """Height and width as the results state them, or, where there is none, of the image."""
    sizes = set()
    for result in results:
        if _kind(result) is None:
            continue
        height, width = (require_key(result, key, where) for key in ("original_height", "original_width"))
        sizes.add((side(height, f"{where}: original_height"), side(width, f"{where}: original_width")))
        if number(result.get("image_rotation") or 0, f"{where}: image_rotation") % 360:
            raise BadSampleError(
                f"{where}: the image was rotated by {result['image_rotation']} degrees in Label Studio, where it is "
                "unclear which way regions lie; rotate it back there and check them, or rotate the file"
            )
    if len(sizes) > 1:
        raise BadSampleError(f"{where}: regions on images of several sizes, {sorted(sizes)}; correct or remove them")
    return sizes.pop() if sizes else upright_size(path)


# --- the regions of a task


@dataclass
class _Region:
    """What the results of one id say together; with <Labels> beside <Rectangle>, outline and label stand apart."""

    place: int
    kind: str
    outline: Mapping[str, Any]
    labels: list[Any] = field(default_factory=list)


def _kind(result: Mapping[str, Any]) -> str | None:
    """The kind of outline that a result has, of `_KINDS`."""
    stated, value = result.get("type"), result.get("value")
    if not isinstance(stated, str) or not isinstance(value, Mapping):
        return None
    if stated.lower() == "labels":
        return next((kind for key, kind in _KEY_OF_KIND.items() if key in value), None)
    return _KIND_OF_TYPE.get(stated.lower())


def _parse_regions(results: Sequence[Mapping[str, Any]], rows: ShapeRows, size: Size, where: str) -> list[DrawnShape]:
    """The shapes that the task needs; results not read are counted in `rows`."""
    shapes = []
    for region in _regions(results, where, rows.not_read):
        place = f"{where}: result {region.place} ({region.kind})"
        label = _label(region.labels, place)
        place = f"{where}: result {region.place} ({region.kind} {label!r})"
        kind, points, brush = _outline(region.kind, region.outline, size, place)
        shape = DrawnShape(rows.class_ids.index(label), region.place, kind, points, place, mask=brush)
        check_shape(shape, size, rows.spec)
        shapes.append(shape)
    rows.class_ids.end_image(where)
    return objects_of(shapes, rows.spec)


def _regions(results: Sequence[Mapping[str, Any]], where: str, not_read: Counter[str]) -> list[_Region]:
    """The outlines with their labels, in the order of the file; others are counted in `not_read`."""
    regions: list[_Region] = []
    region_of: dict[Any, _Region] = {}
    for place, result in enumerate(results, start=1):
        kind = _kind(result)
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
                raise BadSampleError(f"{where}: result {place}: `{key}` must be a list of labels; correct it")
            known.labels += labels
    return regions


def _is_same_outline(region: _Region, kind: str, value: Mapping[str, Any]) -> bool:
    without_labels = ({k: v for k, v in outline.items() if "labels" not in k} for outline in (region.outline, value))
    return region.kind == kind and next(without_labels) == next(without_labels)


def _label(labels: Sequence[Any], where: str) -> str:
    if not all(isinstance(label, str) for label in labels):
        raise BadSampleError(f"{where}: labels must be words, not {list(labels)!r}; correct it")
    distinct = list(dict.fromkeys(labels))
    if len(distinct) != 1:
        many = f"has {len(distinct)} labels, {distinct}; keep one" if distinct else "has no label; give it one"
        raise BadSampleError(f"{where}: {many}, or remove the region")
    return distinct[0]


def _outline(kind: str, value: Mapping[str, Any], size: Size, where: str) -> tuple[ShapeKind, list[float], str | None]:
    """Kind and numbers of a shape in pixels, as `DrawnShape` has them, and the bytes of a brush mask in base64."""
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
        return "ellipse", [left, top, along("radiusX", width), along("radiusY", height), angle], None
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
        raise BadSampleError(f"{where}: `rle` must be a list of numbers from 0 to 255; correct or remove it")
    if brush_size(content) != 4 * size[0] * size[1]:
        raise BadSampleError(
            f"{where}: `rle` holds {brush_size(content)} values, not four for each of the {size[0]} x {size[1]} pixels "
            "(height x width) of the image; draw it anew"
        )
    return base64.b64encode(content).decode("ascii")


# --- loading


def _brush_mask(shape: Mapping[str, Any], size: Size) -> NDArray[np.bool_]:
    """bool [H, W] of a brush mask, which covers the whole image."""
    where = f"{shape['where']}: rle"
    try:
        mask = decode_brush(base64.b64decode(shape["mask"]), size[0] * size[1])
    except ValueError as error:
        raise BadSampleError(f"{where}: cannot be read ({error}); draw it anew") from error
    return placed(mask.reshape(size), (0, 0, size[1], size[0]), size, where)
