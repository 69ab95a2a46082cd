"""Open Images (https://storage.googleapis.com/openimages/web/index.html): boxes for all objects,
masks for some, and classes that people have looked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from ...model.image_reading_dataseg import Size
from ...model.tasks_dataseg import LabelForm
from ..sample import BadSampleError, DatasetSpec, Instances, RawId, Sample, SampleDataset
from .boxes import Outside, checked_box
from .class_ids import VOID, ClassIds, TargetCounts
from .images import decoded, read_rgb
from .objects_of_degrees import ObjectsOfDegrees
from .open_images_files import (
    BOXES,
    HIERARCHY,
    LABELS,
    MASKS,
    NAMES,
    class_names,
    find,
    grouped_lines,
    parts_of_classes,
)
from .paths import IMAGE_SUFFIXES, StrPath, Suffixes, files_by_name, image_files, require_folder
from .reader_tasks import require_task
from .rows import Rows, require_images

_SAME_BOX = 1e-3
"""Greatest difference of the sides of one box in two files, which round differently (our
setting).
"""
_ROWS: Mapping[str, pa.DataType] = {
    "image": pa.string(),
    "image_id": pa.string(),
    "file_name": pa.string(),
    "objects": pa.list_(
        pa.struct(
            [
                ("class_index", pa.int64()),
                ("box", pa.list_(pa.float64())),
                ("is_crowd", pa.bool_()),
                ("mask", pa.string()),
            ]
        )
    ),
    "tags": pa.list_(pa.int64()),
    "incomplete": pa.list_(pa.int64()),
}


def read_open_images(
    spec: DatasetSpec,
    images: StrPath,
    annotations: StrPath,
    *,
    image_suffixes: Suffixes = IMAGE_SUFFIXES,
) -> SampleDataset:
    """Open Images, of any version from V4 on, or an export in its format (CVAT, Datumaro).

    `annotations` holds, at any depth, `*annotations-bbox.csv`, and where there are such files
    `*annotations-object-segmentation.csv` with the masks as PNGs, `*human-imagelabels*.csv`,
    `*class-descriptions*.csv` and `*hierarchy.json`. Equal lines count once. All images of the
    folder are read, and no other; the image id is the id that the files have for it, the file's
    name without its ending, with or without the folders above it.

    An object has a mask where there is one, else a box; groups (`IsGroupOf`) are crowds. Where an
    image has verified labels, a class without any is one that nobody looked for (`incomplete`). A
    class that was found in an image and has no box there is a tag (task `objects`), unless a
    narrower class has one: then it is incomplete too, as in task `boxes`. Without verified labels
    all objects of all classes count as annotated.

    Args:
        spec: the dataset, of task `objects` or `boxes`; its raw ids are those of the files
            (`/m/0cmf2`), or the names that they state for them.
        images: folder of the images, sub-folders included.
        annotations: folder of the CSV files and the masks.
        image_suffixes: how image names end; upper case counts as lower.

    Raises:
        FileNotFoundError: for a missing folder.
        ValueError: for another task, no image, two images of one name, no CSV of boxes, one that
            cannot be read, or none that has a line for one of the images. Faults of single images
            are `problems` of the dataset (an unknown class, a missing mask), or a BadSampleError on
            loading.
    """
    require_task(spec, "open_images")
    image_dir, folder = require_folder(images), require_folder(annotations)
    if not find(folder, BOXES):
        raise ValueError(
            f"dataset '{spec.name}': no file in {folder} is named {BOXES}; check the path"
        )
    image_of = _images_by_id(image_files(image_dir, image_suffixes), find(folder, BOXES), spec)
    found = _Annotation(spec, folder, sorted(image_of))
    rows, counts = Rows(_ROWS), TargetCounts(len(spec.classes))
    for number, name in enumerate(sorted(image_of)):
        with rows.image():
            row = found.row(number, f"{folder}: image {name}")
            objects = row["objects"]
            counts.add(
                [*(one["class_index"] for one in objects), *row["tags"]],
                [*(one["is_crowd"] for one in objects), *(False for _ in row["tags"])],
            )
            path = image_of[name]
            relative = path.relative_to(image_dir).as_posix()
            rows.add(image=str(path), image_id=name, file_name=relative, **row)
    load = partial(_load, form=spec.label_form, outside=spec.outside)
    data = SampleDataset(
        spec, rows.dataset(), load, rows.problems, found.notes(), found.names, counts.census()
    )
    return require_images(data, image_dir)


def _images_by_id(
    images: Mapping[str, Path], boxes: Sequence[Path], spec: DatasetSpec
) -> dict[str, Path]:
    """The images by the ids of the files: the name alone, as in Open Images, or the path below the
    folder of images, as some exports have it; without an ending both.

    Raises:
        ValueError: for two images of one name, and where the files know none of the images.
    """
    if not images:
        return {}
    by_name: dict[str, Path] = {}
    for path in images.values():
        other = by_name.setdefault(path.stem, path)
        if other != path:
            if grouped_lines(boxes, BOXES, list(images)).starts[-1]:
                return dict(images)
            raise ValueError(
                f"dataset '{spec.name}': {other} and {path} have one name, which is the id of an "
                "image here; read their folders as two datasets"
            )
    ways = (by_name, dict(images))
    known = [int(grouped_lines(boxes, BOXES, list(way)).starts[-1]) for way in ways]
    if not max(known):
        raise ValueError(
            f"dataset '{spec.name}': no line of {', '.join(map(str, boxes))} belongs to an image, "
            f"such as '{next(iter(by_name))}'; check that both are of one part of the set"
        )
    return ways[1] if known[1] > known[0] else ways[0]


# --- what the files say of an image


class _Annotation:
    """The files of a folder, as far as they tell of some images."""

    def __init__(self, spec: DatasetSpec, folder: Path, image_ids: list[str]) -> None:
        self.spec = spec
        self.names: dict[RawId, str] = class_names(find(folder, NAMES))
        self._boxes, self._masks, self._labels = (
            grouped_lines(find(folder, kind), kind, image_ids) for kind in (BOXES, MASKS, LABELS)
        )
        self._has_labels = bool(find(folder, LABELS))
        self._narrower = parts_of_classes(find(folder, HIERARCHY))
        self._mask_files = {path.stem: path for path in files_by_name(folder, ".png").values()}
        self._class_ids = ClassIds(spec)
        self._without_labels = 0
        self._images = len(image_ids)
        self._ids_of = [
            {raw_id for raw_id, index in spec.id_map.items() if index == number}
            for number in range(len(spec.classes))
        ]

    def row(self, number: int, where: str) -> dict[str, Any]:
        """The objects, tags and incomplete classes of an image."""
        objects = self._objects(number)
        self._class_ids.end_image(where)
        for one in objects if self.spec.label_form == "degrees" else ():
            if one["mask"] is not None and one["class_index"] != VOID:
                one["mask"] = self._mask_file(one["mask"], where)
        tags, incomplete = self._looked_for(number, {one["label"] for one in objects})
        for one in objects:
            del one["label"]
        kept = [one for one in objects if one["class_index"] != VOID]
        return {"objects": kept, "tags": sorted(tags), "incomplete": sorted(incomplete)}

    def _objects(self, number: int) -> list[dict[str, Any]]:
        """Those with boxes, each with the name of its mask where there is one; then masks without a
        box.
        """
        objects = [
            {
                "label": line["LabelName"],
                "class_index": self._class_index(line["LabelName"]),
                "box": [line["XMin"], line["YMin"], line["XMax"], line["YMax"]],
                "is_crowd": line["IsGroupOf"] == 1,
                "mask": None,
            }
            for line in _once(self._boxes.of_image(number))
        ]
        for line in _once(self._masks.of_image(number)):
            box = [line[f"Box{side}"] for side in ("XMin", "YMin", "XMax", "YMax")]
            one = _of_box(objects, line["LabelName"], box)
            if one is None:
                index = self._class_index(line["LabelName"])
                one = {"label": line["LabelName"], "class_index": index, "box": box}
                objects.append({**one, "is_crowd": False, "mask": None})
                one = objects[-1]
            one["mask"] = line["MaskPath"]
        return objects

    def _class_index(self, label: str) -> int:
        """By the id, or by the name of a class whose id the spec does not have."""
        known = label if self.spec.knows(label) else self.names.get(label, label)
        return self._class_ids.index(known)

    def _mask_file(self, name: str, where: str) -> str:
        path = self._mask_files.get(Path(name).stem)
        if path is None:
            raise BadSampleError(
                f"{where}: the mask {name} is not there; unpack the mask archives into that folder"
            )
        return str(path)

    def _looked_for(self, number: int, present: set[str]) -> tuple[set[int], set[int]]:
        """Classes that are in the image, though nobody says where, and those of which it may show
        more than is annotated.
        """
        lines = list(self._labels.of_image(number))
        if not lines:
            self._without_labels += 1
            return set(), set()
        shown = {line["LabelName"] for line in lines if line["Confidence"] == 1}
        absent = {line["LabelName"] for line in lines if line["Confidence"] == 0} - shown
        without_box = shown - present
        tags = {label for label in without_box if not self._narrower.get(label, set()) & present}
        if self.spec.label_form == "boxes":
            tags = set()
        certain = self._known(present | tags | absent)
        # a class of several ids was looked for where all of them were
        incomplete = {number for number, ids in enumerate(self._ids_of) if not ids <= certain}
        return {self._class_ids.index(raw_id) for raw_id in self._known(tags)} - {VOID}, incomplete

    def _known(self, labels: Iterable[str]) -> set[RawId]:
        """Raw ids of the labels that the spec knows; most of Open Images' 20,000 it does not."""
        raw_ids = {raw_id for label in labels for raw_id in (label, self.names.get(label, label))}
        return {raw_id for raw_id in raw_ids if self.spec.knows(raw_id)}

    def notes(self) -> list[str]:
        """What a user should know."""
        notes = self._class_ids.notes()
        if not self._has_labels:
            return [*notes, f"no file is named {LABELS}: every class counts as annotated in whole"]
        if self._without_labels:
            notes.append(
                f"{self._without_labels} of {self._images} images have no verified labels: every "
                "class counts as annotated in whole there"
            )
        return notes


def _once(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Equal lines once: one file may be there under two names."""
    return list({tuple(line.values()): line for line in lines}.values())


def _of_box(objects: list[dict[str, Any]], label: str, box: list[float]) -> dict[str, Any] | None:
    """The object without a mask that has this label and box."""
    for one in objects:
        difference = max(abs(a - b) for a, b in zip(one["box"], box, strict=True))
        if one["label"] == label and one["mask"] is None and difference < _SAME_BOX:
            return one
    return None


# --- loading


def _load(row: dict[str, Any], form: LabelForm, outside: Outside) -> Sample:
    image = read_rgb(row["image"], row["image"])
    size: Size = image.shape[0], image.shape[1]
    scale = np.array([size[1], size[0], size[1], size[0]])
    objects = ObjectsOfDegrees(size)
    for one in row["objects"]:
        where = f"{row['image']}: box {one['box']}"
        box = checked_box((np.array(one["box"]) * scale).tolist(), size, where, outside)
        mask = None
        if one["mask"] is not None and form == "degrees":
            mask = _mask(one["mask"], size)
        objects.add(one["class_index"], one["is_crowd"], mask, box)
    for class_index in row["tags"]:
        objects.add(class_index, False)
    instances = objects.instances()
    if form == "boxes":
        instances = Instances(instances.class_labels, instances.boxes, instances.is_crowd)
    return Sample(
        image, instances, row["image_id"], row["file_name"], incomplete=tuple(row["incomplete"])
    )


def _mask(path: str, size: Size) -> NDArray[np.bool_]:
    """bool [H, W]. The files have sizes of their own, of the same shape as the image."""

    def resized(image: Image.Image) -> NDArray[np.bool_]:
        gray = image.convert("L").resize((size[1], size[0]), Image.Resampling.NEAREST)
        return np.asarray(gray) > 0

    return decoded(path, path, resized)


__all__ = ["read_open_images"]
