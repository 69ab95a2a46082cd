"""Boxes in Pascal VOC's XML, one file per image
(http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html).
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import pyarrow as pa

from ...model.image_reading_dataseg import Size
from ..sample import BadSampleError, DatasetSpec, Instances, Sample, SampleDataset
from .boxes import Outside, checked_box, without_repeats
from .class_ids import VOID, ClassIds, TargetCounts
from .images import read_image, require_same_size
from .paths import (
    IMAGE_SUFFIXES,
    MissingImages,
    StrPath,
    Suffixes,
    files_by_name,
    image_files,
    missing_image,
    require_folder,
    split_names,
)
from .reader_tasks import require_task
from .rows import Rows, require_images
from .values import LONGEST_SIDE, flag
from .xml_files import xml_root

_OBJECTS_TYPE = pa.list_(
    pa.struct(
        [
            ("class_index", pa.int64()),
            ("is_difficult", pa.bool_()),
            ("corners", pa.list_(pa.float64())),
        ]
    )
)
_ROWS: Mapping[str, pa.DataType] = {
    "image": pa.string(),
    "annotation": pa.string(),
    "image_id": pa.string(),
    "file_name": pa.string(),
    "size": pa.list_(pa.int64()),
    "objects": _OBJECTS_TYPE,
}


class Coordinates(TypedDict):
    """How boxes count pixels.

    Args:
        origin: 1, as VOC counts, the last pixel included: (xmin, ymin, xmax, ymax) covers
            (xmin - 1, ymin - 1, xmax, ymax). 0, as datumaro, globox and X-AnyLabeling write: the
            four numbers are the corners of the box.
    """

    origin: Literal[0, 1]


def read_pascal_voc(
    spec: DatasetSpec,
    images: StrPath,
    annotations: StrPath,
    *,
    split_file: StrPath | None = None,
    image_suffix: Suffixes = IMAGE_SUFFIXES,
    missing_images: MissingImages = "error",
    coordinates: Coordinates | None = None,
    difficult: Literal["ignore", "as_objects"] = "ignore",
) -> SampleDataset:
    """A folder of images and one of XML files with a box per object, as Pascal VOC and LabelImg
    write them.

    `a/b<image_suffix>` belongs to `a/b.xml`, sub-folders included; `a/b` is the image id
    (`<filename>` is not read). Objects marked `<difficult>` are ignored: neither target nor
    background (our setting). Objects of a category that the spec calls void are left out, repeated
    ones are with a note. An XML without objects is a sample with M = 0. Rows are sorted by image
    id, objects keep the order of the file.

    Args:
        spec: the dataset, of task `boxes`; its raw ids are the words in `<name>`.
        images: folder of the images.
        annotations: folder of the XML files.
        split_file: text file with an image id per line (`ImageSets/Main/train.txt`); all XML files
            without it, and images that have none are left out with a note.
        image_suffix: how image names end, one ending or several; upper case counts as lower.
        missing_images: what to do with an XML, or a line of `split_file`, that has no image; "skip"
            leaves it out.
        coordinates: how boxes count pixels. By default from 0 where a box begins at 0, which proves
            it for the whole set, else as VOC does, from 1, with a note.
        difficult: "as_objects" takes objects marked `<difficult>` as ordinary ones.

    Raises:
        FileNotFoundError: for a missing folder or split file.
        ValueError: for another task, no image at all. Faults of single images are `problems` of the
            dataset (broken XML, one with a DOCTYPE, a missing element, a box that is none, an
            unknown name), or a BadSampleError on loading (an image of another size than `<size>`, a
            box outside the image).
    """
    require_task(spec, "pascal_voc")
    files = _Files.of_folders(images, annotations, image_suffix, split_file)
    if not files.image_of:
        raise ValueError(
            f"dataset '{spec.name}': no images in {files.image_dir} that end in {image_suffix}"
        )
    names = sorted(files.xml_of) if split_file is None else split_names(split_file)
    rows, tally = Rows(_ROWS, missing_images), _Tally(spec, difficult == "ignore")
    for name in names:
        with rows.image():
            rows.add(**tally.row(name, *files.pair(name), files.image_dir))
    origin = coordinates["origin"] if coordinates else 0 if tally.begins_at_zero else 1
    notes = tally.class_ids.notes()
    if coordinates is None:
        notes.append(_origin_note(tally.begins_at_zero, files.annotation_dir))
    notes += tally.difficult_notes()
    notes += rows.absent_notes(len(names), f"annotations have no image in {files.image_dir}")
    notes += [*files.unlabeled_notes(), *tally.repeated_notes(files.annotation_dir)]
    data = SampleDataset(
        spec,
        rows.dataset(),
        partial(
            _load,
            origin=origin,
            ignore_difficult=difficult == "ignore",
            outside=spec.outside,
        ),
        rows.problems,
        notes,
        census=tally.counts.census(),
        ignored_as="difficult",
    )
    return require_images(data, files.image_dir)


@dataclass(frozen=True)
class _Files:
    """The images and XML files of two folders, by image id."""

    image_dir: Path
    annotation_dir: Path
    image_of: Mapping[str, Path]
    xml_of: Mapping[str, Path]
    split_file: StrPath | None

    @classmethod
    def of_folders(
        cls, images: StrPath, annotations: StrPath, suffix: Suffixes, split_file: StrPath | None
    ) -> "_Files":
        """What lies in them.

        Raises:
            FileNotFoundError: for a folder that is missing.
        """
        image_dir, annotation_dir = require_folder(images), require_folder(annotations)
        found = image_files(image_dir, suffix), files_by_name(annotation_dir, ".xml")
        return cls(image_dir, annotation_dir, *found, split_file)

    def pair(self, name: str) -> tuple[Path, Path]:
        """Image and XML of an image id.

        Raises:
            BadSampleError: if one of them is missing.
        """
        if name not in self.image_of:
            listed = f"'{name}' of {self.split_file}"
            source = f"the image of {self.xml_of[name]}" if name in self.xml_of else listed
            raise missing_image(self.image_dir / f"{name}.*", source)
        if name not in self.xml_of:
            raise BadSampleError(
                f"{self.annotation_dir / f'{name}.xml'}: missing, '{name}' of {self.split_file}; "
                "add it, or remove the line"
            )
        return self.image_of[name], self.xml_of[name]

    def unlabeled_notes(self) -> list[str]:
        """The note on images without an XML, unless a split file names the images."""
        unlabeled = sorted(self.image_of.keys() - self.xml_of.keys())
        if not unlabeled or self.split_file is not None:
            return []
        return [
            f"{len(unlabeled)} images have no XML in {self.annotation_dir}, such as "
            f"'{unlabeled[0]}': left out"
        ]


class _Tally:
    """Makes rows of XML files, and counts what they hold.

    Args:
        spec: the dataset.
        ignore_difficult: whether difficult objects are neither target nor background.
    """

    def __init__(self, spec: DatasetSpec, ignore_difficult: bool) -> None:
        self.class_ids, self.counts = ClassIds(spec), TargetCounts(len(spec.classes))
        self.ignore_difficult = ignore_difficult
        self.begins_at_zero = False  # whether a box does, to the left or above
        self._repeated = self._difficult = 0

    def row(self, name: str, image: Path, xml: Path, image_dir: Path) -> dict[str, Any]:
        """The row of an image.

        Raises:
            BadSampleError: for a damaged XML.
        """
        size, objects = _parse(xml, self.class_ids)
        unique = without_repeats(objects, "class_index", "corners")
        self._repeated += len(objects) - len(unique)
        self._difficult += sum(found["is_difficult"] for found in unique)
        self.begins_at_zero |= any(0 in found["corners"][:2] for found in unique)
        is_ignored = [found["is_difficult"] and self.ignore_difficult for found in unique]
        self.counts.add([found["class_index"] for found in unique], is_ignored)
        return {
            "image": str(image),
            "annotation": str(xml),
            "image_id": name,
            "file_name": image.relative_to(image_dir).as_posix(),
            "size": size,
            "objects": unique,
        }

    def difficult_notes(self) -> list[str]:
        """The note on ignored objects."""
        if not self._difficult or not self.ignore_difficult:
            return []
        return [f"{self._difficult} objects are marked <difficult>: neither target nor background"]

    def repeated_notes(self, folder: Path) -> list[str]:
        """The note on objects that stand twice in their XML."""
        if not self._repeated:
            return []
        return [f"{self._repeated} objects in {folder} repeat another of their image: left out"]


def _origin_note(begins_at_zero: bool, annotation_dir: Path) -> str:
    if begins_at_zero:
        return (
            f"boxes in {annotation_dir} begin at 0: taken as counted from 0 (`coordinates: "
            f"{{origin: 0}}`)"
        )
    return (
        f"no box in {annotation_dir} begins at 0, which would tell where pixels are counted from: "
        "taken as from 1, as "
        "VOC does; datumaro, globox and X-AnyLabeling count from 0: set `coordinates: {origin: 0}` "
        "for theirs"
    )


# --- the XML of an image


def _parse(path: Path, class_ids: ClassIds) -> tuple[Size | None, list[dict[str, Any]]]:
    """Height and width, if stated, and the objects whose category is not void."""
    root = xml_root(path, "annotation", "Pascal VOC")
    size = _size(root, str(path))
    objects = []
    for number, element in enumerate(root.findall("object"), start=1):
        where = f"{path}: object {number}"
        class_index = class_ids.index(_text(element, "name", where))
        is_difficult = _flag(element, "difficult", where)
        corners = _corners(element, size, where, class_ids.spec.outside)
        if class_index != VOID:
            objects.append(
                {"class_index": class_index, "is_difficult": is_difficult, "corners": corners}
            )
    class_ids.end_image(str(path))
    return size, objects


def _size(root: ET.Element, where: str) -> Size | None:
    element = root.find("size")
    if element is None:
        return None
    height, width = (_number(element, side, f"{where}: size") for side in ("height", "width"))
    are_whole = height.is_integer() and width.is_integer()
    if min(height, width) < 1 or max(height, width) > LONGEST_SIDE or not are_whole:
        raise BadSampleError(
            f"{where}: size {height:g} x {width:g} (height x width) is none; correct or remove "
            "<size>"
        )
    return int(height), int(width)


def _corners(
    element: ET.Element, size: Size | None, where: str, outside: Outside
) -> tuple[float, float, float, float]:
    """xmin, ymin, xmax, ymax as they stand there; errors as `checked_box`."""
    box = element.find("bndbox")
    if box is None:
        raise BadSampleError(f"{where}: <bndbox> is missing; add it, or remove the object")
    left, top, right, bottom = (
        _number(box, edge, f"{where}: bndbox") for edge in ("xmin", "ymin", "xmax", "ymax")
    )
    checked_box((left - 1, top - 1, right, bottom), size, where, outside)
    return left, top, right, bottom


def _flag(element: ET.Element, tag: str, where: str) -> bool:
    return flag(element.findtext(tag, "0").strip() or "0", f"{where}: <{tag}>")


def _number(element: ET.Element, tag: str, where: str) -> float:
    text = _text(element, tag, where)
    try:
        return float(text)
    except ValueError as error:
        raise BadSampleError(
            f"{where}: <{tag}> must be a number, not '{text}'; correct it"
        ) from error


def _text(element: ET.Element, tag: str, where: str) -> str:
    text = element.findtext(tag, "").strip()
    if not text:
        raise BadSampleError(f"{where}: <{tag}> is missing or empty; add it")
    return text


# --- loading


def _load(
    row: Mapping[str, Any], *, origin: int, ignore_difficult: bool, outside: Outside
) -> Sample:
    size = None if row["size"] is None else (row["size"][0], row["size"][1])
    image = read_image(row["image"], row["image"], size)
    if size is not None:
        require_same_size(image, row["image"], size, row["annotation"])
    boxes = []
    for found in row["objects"]:
        left, top, right, bottom = found["corners"]
        box = (left - origin, top - origin, right, bottom)
        boxes.append(checked_box(box, image.size, row["annotation"], outside))
    annotation = Instances(
        class_labels=np.array([found["class_index"] for found in row["objects"]], dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        is_crowd=np.array(
            [found["is_difficult"] and ignore_difficult for found in row["objects"]], dtype=bool
        ),
    )
    return image.sample(annotation, row["image_id"], row["file_name"])
