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
from ..masks import box_of_mask
from ..sample import BadSampleError, DatasetSpec, Instances, RawId, Sample, SampleDataset
from .boxes import Outside, checked_box
from .class_ids import VOID, ClassIds, TargetCounts
from .images import decoded, read_image
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
    subset: str | None = None,
) -> SampleDataset:
    """Open Images, of any version from V4 on, or an export in its format (CVAT, Datumaro).

    `annotations` holds, at any depth, `*annotations-bbox.csv`, or `*annotations-object-
    segmentation.csv` with the masks as PNGs, or both, and where there are such files
    `*human-imagelabels*.csv`, `*class-descriptions*.csv` and `*hierarchy.json`. Equal lines count
    once. All images of the folder are read, and no other. The id of an image is its name without
    the ending, as in Open Images, or its path below the folder without the ending, as in exports,
    whichever more lines of the files have.

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
        subset: of an export with several: its CSVs have the name before `-annotations`, its masks
            lie in a folder of that name.

    Raises:
        FileNotFoundError: for a missing folder.
        ValueError: for another task, no image, two images of one name, no CSV of boxes or masks,
            one that cannot be read, or none that has a line for one of the images. Faults of single
            images are `problems` of the dataset (an unknown class, a missing mask), or a
            BadSampleError on loading.
    """
    require_task(spec, "open_images")
    image_dir, folder = require_folder(images), require_folder(annotations)
    files = {kind: find(folder, kind, subset) for kind in (BOXES, MASKS, LABELS)}
    if not files[BOXES] and not files[MASKS]:
        of_subset = "" if subset is None else f" and of subset '{subset}'"
        raise ValueError(
            f"dataset '{spec.name}': no file in {folder} is named {BOXES} or {MASKS}{of_subset}; "
            "check the path"
        )
    image_of = _images_by_id(image_files(image_dir, image_suffixes), files, spec)
    found = _Annotation(spec, folder, files, sorted(image_of), subset)
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
    images: Mapping[str, Path], files: Mapping[str, Sequence[Path]], spec: DatasetSpec
) -> dict[str, Path]:
    """The images by the ids that the files have for them: names, or paths below the folder.

    Raises:
        ValueError: for two images of one name, and where the files know none of the images.
    """

    def lines(ids: Iterable[str]) -> int:
        return sum(
            int(grouped_lines(files[kind], kind, list(ids)).starts[-1]) for kind in (BOXES, MASKS)
        )

    by_name: dict[str, Path] = {}
    twice: list[Path] = []
    for path in images.values():
        other = by_name.setdefault(path.stem, path)
        if other != path:
            twice = twice or [other, path]
    of_paths, of_names = lines(images), lines(by_name)
    if images and not max(of_paths, of_names):
        listed = ", ".join(str(path) for kind in (BOXES, MASKS) for path in files[kind])
        raise ValueError(
            f"dataset '{spec.name}': no line of {listed} belongs to an image, such as "
            f"'{next(iter(by_name))}'; check that both are of one part of the set"
        )
    if of_paths > of_names:
        return dict(images)
    if twice:
        raise ValueError(
            f"dataset '{spec.name}': {twice[0]} and {twice[1]} have one name, which is the id of "
            "an image here; read their folders as two datasets"
        )
    return by_name


# --- what the files say of an image


class _Annotation:
    """The files of a folder, as far as they tell of some images."""

    def __init__(
        self,
        spec: DatasetSpec,
        folder: Path,
        files: Mapping[str, Sequence[Path]],
        image_ids: list[str],
        subset: str | None,
    ) -> None:
        self.spec, self._files, self._subset = spec, files, subset
        self.names: dict[RawId, str] = class_names(find(folder, NAMES))
        self._boxes, self._masks, self._labels = (
            grouped_lines(files[kind], kind, image_ids) for kind in (BOXES, MASKS, LABELS)
        )
        self._narrower = parts_of_classes(find(folder, HIERARCHY))
        self._mask_files = _masks_by_name(folder, subset)
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
        for one in objects:
            is_needed = self.spec.label_form == "degrees" or one["box"] is None
            if one["mask"] is None or one["class_index"] == VOID or not is_needed:
                one["mask"] = None
            else:
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
            # exports leave the box empty where a mask has none
            sides = [line[f"Box{side}"] for side in ("XMin", "YMin", "XMax", "YMax")]
            box = None if np.isnan(sides).any() else sides
            one = _of_box(objects, line["LabelName"], box)
            if one is None:
                index = self._class_index(line["LabelName"])
                one = {"label": line["LabelName"], "class_index": index, "box": box}
                one |= {"is_crowd": False, "mask": None}
                objects.append(one)
            one["mask"] = line["MaskPath"]
        return objects

    def _class_index(self, label: str) -> int:
        """By the id, or by the name of a class whose id the spec does not have."""
        known = label if self.spec.knows(label) else self.names.get(label, label)
        return self._class_ids.index(known)

    def _mask_file(self, name: str, where: str) -> str:
        paths = self._mask_files.get(Path(name).stem, [])
        if not paths:
            raise BadSampleError(
                f"{where}: the mask {name} is not there; unpack the mask archives into that folder"
            )
        if len(paths) > 1:
            raise BadSampleError(
                f"{where}: the mask {name} may be {paths[0]} or {paths[1]}; name the `subset`, or "
                "remove one of them"
            )
        return str(paths[0])

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
        if len(self._files[BOXES]) > 1 and self._subset is None:
            notes.append(
                f"boxes are read from {len(self._files[BOXES])} files, such as "
                f"{self._files[BOXES][1]}; where they are subsets with the same image ids, name "
                "one: `options: {subset: train}`"
            )
        if not self._files[LABELS]:
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


def _masks_by_name(folder: Path, subset: str | None) -> dict[str, list[Path]]:
    """The PNGs below a folder by their names without the ending; those below a folder of the
    subset's name, where there are such.
    """
    paths = list(files_by_name(folder, ".png").values())
    of_subset = [path for path in paths if subset in path.relative_to(folder).parts[:-1]]
    found: dict[str, list[Path]] = {}
    for path in of_subset or paths:
        found.setdefault(path.stem, []).append(path)
    return found


def _of_box(
    objects: list[dict[str, Any]], label: str, box: list[float] | None
) -> dict[str, Any] | None:
    """The object without a mask that has this label and box."""
    for one in objects:
        if box is None or one["box"] is None or one["mask"] is not None or one["label"] != label:
            continue
        if max(abs(a - b) for a, b in zip(one["box"], box, strict=True)) < _SAME_BOX:
            return one
    return None


# --- loading


def _load(row: dict[str, Any], form: LabelForm, outside: Outside) -> Sample:
    image = read_image(row["image"], row["image"])
    size = image.size
    scale = np.array([size[1], size[0], size[1], size[0]])
    objects = ObjectsOfDegrees(size)
    for one in row["objects"]:
        mask = None if one["mask"] is None else _mask(one["mask"], size)
        box: Sequence[float]
        if one["box"] is None:
            box = box_of_mask(_with_pixels(mask, one["mask"]))
        else:
            where = f"{row['image']}: box {one['box']}"
            box = checked_box((np.array(one["box"]) * scale).tolist(), size, where, outside)
        objects.add(one["class_index"], one["is_crowd"], mask if form == "degrees" else None, box)
    for class_index in row["tags"]:
        objects.add(class_index, False)
    instances = objects.instances()
    if form == "boxes":
        instances = Instances(instances.class_labels, instances.boxes, instances.is_crowd)
    return image.sample(
        instances, row["image_id"], row["file_name"], incomplete=tuple(row["incomplete"])
    )


def _with_pixels(mask: NDArray[np.bool_] | None, path: str) -> NDArray[np.bool_]:
    if mask is None or not mask.any():
        raise BadSampleError(f"{path}: the mask has no pixel and no box; remove its line")
    return mask


def _mask(path: str, size: Size) -> NDArray[np.bool_]:
    """bool [H, W]. The files have sizes of their own, of the same shape as the image."""

    def resized(image: Image.Image) -> NDArray[np.bool_]:
        gray = image.convert("L").resize((size[1], size[0]), Image.Resampling.NEAREST)
        return np.asarray(gray) > 0

    return decoded(path, path, resized)


__all__ = ["read_open_images"]
