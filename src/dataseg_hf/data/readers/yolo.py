"""Boxes or polygons in YOLO's txt, one file per image and one line per object
(https://docs.ultralytics.com/datasets).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...model.degrees_dataseg import Degree
from ...model.image_reading_dataseg import Size
from ...model.tasks_dataseg import LabelForm
from ..sample import BadSampleError, DatasetSpec, Instances, Sample, SampleDataset
from .boxes import Outside, checked_box, without_repeats
from .class_ids import VOID, ClassIds, TargetCounts
from .images import read_image
from .paths import (
    IMAGE_SUFFIXES,
    MissingImages,
    StrPath,
    Suffixes,
    files_by_name,
    image_files,
    missing_image,
    read_text,
    require_folder,
)
from .reader_tasks import require_task
from .rows import Rows
from .shapes_to_masks import polygons_to_mask
from .yolo_names import NAME_FILES, stated_names

# part of the image by which a coordinate may leave it; beyond, it is taken for pixels (our setting)
_OUTSIDE = 0.01
_OBJECTS_TYPE = pa.list_(
    pa.struct(
        [("class_index", pa.int64()), ("line", pa.int64()), ("coordinates", pa.list_(pa.float64()))]
    )
)
_ROWS: Mapping[str, pa.DataType] = {
    "image": pa.string(),
    "annotation": pa.string(),
    "image_id": pa.string(),
    "file_name": pa.string(),
    "objects": _OBJECTS_TYPE,
}


def read_yolo(
    spec: DatasetSpec,
    images: StrPath,
    annotations: StrPath,
    *,
    image_suffixes: Suffixes = IMAGE_SUFFIXES,
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """A folder of images and one of txt files with a box or a polygon per line, in parts of the
    image's sides.

    A line is `class cx cy width height` or `class x1 y1 x2 y2 x3 y3 ...`; `a/b.jpg` belongs to
    `a/b.txt`, sub-folders included, and `a/b` is the image id. As masks where the spec's task is
    `instance`, which needs polygons; as boxes where it is `boxes`, a polygon's box being its
    extent. An image without a txt, or with an empty one, is a sample with M = 0; how many there are
    is noted. Objects of a category that the spec calls void are left out, repeated lines are with a
    note. Rows are sorted by image id, objects keep the order of the file. Names are stated by the
    nearest `data.yaml`, `classes.txt` or the like (`yolo_names`).

    Args:
        spec: the dataset, of task `boxes` or `instance`; its raw ids are the numbers at the start
            of the lines.
        images: folder of the images.
        annotations: folder of the txt files; a `classes.txt` in it that belongs to no image is no
            annotation.
        image_suffixes: how image names end; upper case counts as lower.
        missing_images: what to do with a txt that has no image; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder.
        ValueError: for another task, no image at all, or a folder in which no txt belongs to an
            image. Faults of single images are `problems` of the dataset (a line that cannot be
            read, by number, coordinates that are not in 0..1, an unknown class), or a
            BadSampleError on loading (an object outside the image, a damaged image).
    """
    require_task(spec, "yolo")
    image_dir, annotation_dir = require_folder(images), require_folder(annotations)
    image_of, txt_of = _files(spec, image_dir, image_suffixes, annotation_dir)
    rows = Rows(_ROWS)
    class_ids, counts = ClassIds(spec), TargetCounts(len(spec.classes))
    without_lines = repeated = 0
    for name, image in image_of.items():
        with rows.image():
            objects = _parse(txt_of[name], class_ids) if name in txt_of else []
            unique = without_repeats(objects, "class_index", "coordinates")
            repeated += len(objects) - len(unique)
            without_lines += not objects
            counts.add([found["class_index"] for found in unique], [False] * len(unique))
            rows.add(
                image=str(image),
                annotation=str(txt_of.get(name, annotation_dir / f"{name}.txt")),
                image_id=name,
                file_name=image.relative_to(image_dir).as_posix(),
                objects=unique,
            )
    strays = sorted(txt_of.keys() - image_of.keys())
    if missing_images == "error":
        rows.problems += [
            missing_image(image_dir / f"{name}.*", f"the image of {txt_of[name]}")
            for name in strays
        ]
    names, notes = stated_names(annotation_dir, image_dir)
    notes += class_ids.notes()
    if missing_images == "skip" and strays:
        notes.append(
            f"{len(strays)} of {len(txt_of)} annotations have no image in {image_dir}: left out"
        )
    if without_lines:
        notes.append(
            f"{without_lines} of {len(image_of)} images have no txt or no line in it: images "
            "without objects"
        )
    if repeated:
        notes.append(
            f"{repeated} lines in {annotation_dir} repeat another of their image: left out"
        )
    load = partial(_load, form=spec.label_form, outside=spec.outside)
    return SampleDataset(spec, rows.dataset(), load, rows.problems, notes, names, counts.census())


def _files(
    spec: DatasetSpec, image_dir: Path, image_suffixes: Suffixes, annotation_dir: Path
) -> tuple[dict[str, Path], dict[str, Path]]:
    """The images and the txt files, by image id; ValueError unless some belong together."""
    image_of, txt_of = image_files(image_dir, image_suffixes), files_by_name(annotation_dir, ".txt")
    for name in {Path(file).stem for file in NAME_FILES} - image_of.keys():
        txt_of.pop(name, None)
    if not image_of:
        raise ValueError(
            f"dataset '{spec.name}': no images in {image_dir} that end in {image_suffixes}"
        )
    if not image_of.keys() & txt_of.keys():
        raise ValueError(
            f"dataset '{spec.name}': no txt in {annotation_dir} belongs to an image in "
            f"{image_dir}, such as '{next(iter(image_of))}.txt'; check both paths"
        )
    return image_of, txt_of


# --- the txt of an image


def _parse(path: Path, class_ids: ClassIds) -> list[dict[str, Any]]:
    """The objects whose category is not void."""
    try:
        lines = read_text(path).split("\n")
    except ValueError as error:
        raise BadSampleError(str(error)) from error
    objects = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        raw_id, coordinates = _parse_line(
            line, class_ids.spec.label_form == "masks", f"{path}, line {number}"
        )
        class_index = class_ids.index(raw_id)
        if class_index != VOID:
            objects.append({"class_index": class_index, "line": number, "coordinates": coordinates})
    class_ids.end_image(str(path))
    return objects


def _parse_line(line: str, with_masks: bool, where: str) -> tuple[int, tuple[float, ...]]:
    """Class number, and 4 numbers of a box (center, width, height) or 6 and more of a polygon."""
    try:
        first, *coordinates = (float(word) for word in line.split())
    except ValueError as error:
        raise BadSampleError(
            f"{where}: expected numbers, parted by blanks ({error}); correct it"
        ) from error
    if not first.is_integer():
        raise BadSampleError(
            f"{where}: the class must be a whole number, not {first:g}; correct it"
        )
    if len(coordinates) < 4 or len(coordinates) % 2:
        raise BadSampleError(
            f"{where}: a class and 4 numbers of a box, or 3 and more pairs of a polygon, are "
            "expected, not "
            f"{len(coordinates) + 1} numbers; correct it (a confidence at the end has to go)"
        )
    # NaN is outside, too
    outside = [value for value in coordinates if not -_OUTSIDE <= value <= 1 + _OUTSIDE]
    if outside:
        raise BadSampleError(
            f"{where}: {outside[0]:g} is not in 0..1; coordinates are pixels divided by the "
            "image's width or height"
        )
    if len(coordinates) == 4 and with_masks:
        raise BadSampleError(
            f"{where}: a box (or a polygon of 2 points), but masks are asked for; give polygons of "
            "3 or more points, or set the task to 'boxes' or 'objects'"
        )
    left, top, right, bottom = _extent(np.array(coordinates))
    if right <= left or bottom <= top:
        what = (
            "the box has no width or no height"
            if len(coordinates) == 4
            else "all points lie on one line"
        )
        raise BadSampleError(f"{where}: {what}, the object has no area; remove the line")
    return int(first), tuple(coordinates)


def _extent(coordinates: NDArray[np.float64]) -> list[float]:
    """xyxy of a box (center, width, height), or of the points of a polygon."""
    if len(coordinates) == 4:
        center, half = coordinates[:2], coordinates[2:] / 2
        return [*(center - half).tolist(), *(center + half).tolist()]
    points = coordinates.reshape(-1, 2)
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


# --- loading


def _load(row: dict[str, Any], form: LabelForm, outside: Outside) -> Sample:
    image = read_image(row["image"], row["image"])
    size = image.size
    objects = row["objects"]
    scaled = [
        np.array(found["coordinates"]).reshape(-1, 2) * (size[1], size[0]) for found in objects
    ]
    where = [f"{row['annotation']}, line {found['line']}" for found in objects]
    boxes = [
        checked_box(_extent(points.ravel()), size, place, outside)
        for points, place in zip(scaled, where, strict=True)
    ]
    annotation = Instances(
        class_labels=np.array([found["class_index"] for found in objects], dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        is_crowd=np.zeros(len(objects), dtype=bool),
    )
    if form != "boxes":
        annotation.masks = _masks(scaled, size, where)
    if form == "degrees":
        is_polygon = [len(points) > 2 for points in scaled]
        annotation.degrees = np.where(is_polygon, Degree.MASK, Degree.BOX).astype(np.int8)
    return image.sample(annotation, row["image_id"], row["file_name"])


def _masks(
    objects: Sequence[NDArray[np.float64]], size: Size, where: Sequence[str]
) -> NDArray[np.bool_]:
    """bool [M, H, W] of objects by their points in pixels; empty for boxes, which have two."""
    masks = np.zeros((len(objects), *size), dtype=bool)
    for mask, points, place in zip(masks, objects, where, strict=True):
        if len(points) > 2:
            mask[:] = polygons_to_mask([points.ravel().tolist()], size, place)
    return masks
