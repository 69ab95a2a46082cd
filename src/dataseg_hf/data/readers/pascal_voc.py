"""Boxes in Pascal VOC's XML, one file per image (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html)."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..sample import BadSampleError, DatasetSpec, Instances, Sample, SampleDataset
from .boxes import checked_box, without_repeats
from .files import (
    MissingImages,
    Rows,
    Size,
    StrPath,
    class_index_or_void,
    files_by_name,
    missing_image,
    read_rgb,
    require_folder,
    require_images,
    require_same_size,
    split_names,
)

_OBJECTS_TYPE = pa.list_(
    pa.struct([("class_index", pa.int64()), ("is_crowd", pa.bool_()), ("box", pa.list_(pa.float64()))])
)


def read_pascal_voc(
    spec: DatasetSpec,
    images: StrPath,
    annotations: StrPath,
    *,
    split_file: StrPath | None = None,
    image_suffix: str = ".jpg",
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """A folder of images and one of XML files with a box per object, as Pascal VOC and LabelImg write them.

    `a/b<image_suffix>` belongs to `a/b.xml`, sub-folders included; `a/b` is the image id (`<filename>` is not read).
    VOC counts pixels from 1 and includes the last: (xmin, ymin, xmax, ymax) becomes (xmin - 1, ymin - 1, xmax, ymax).
    Objects marked `<difficult>` are crowd: neither target nor background (our setting). Objects of a category that the
    spec calls void are left out, repeated ones are with a note. An XML without objects is a sample with M = 0. Rows are
    sorted by image id, objects keep the order of the file.

    Args:
        spec: the dataset, of task `boxes`; its raw ids are the words in `<name>`.
        images: folder of the images.
        annotations: folder of the XML files.
        split_file: text file with an image id per line (`ImageSets/Main/train.txt`); all XML files without it, and
            images that have none are left out with a note.
        image_suffix: how image names end; upper case counts as lower.
        missing_images: what to do with an XML, or a line of `split_file`, that has no image; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder or split file.
        ValueError: for another task, or no image at all. Faults of single images are `problems` of the dataset (broken
            XML, one with a DOCTYPE, a missing element, a box that is none, an unknown name), or a BadSampleError on
            loading (an image of another size than `<size>`, a box outside the image).
    """
    if spec.task != "boxes":
        raise ValueError(f"dataset '{spec.name}': Pascal VOC XML holds boxes, it cannot serve task '{spec.task}'")
    image_dir, annotation_dir = require_folder(images), require_folder(annotations)
    image_of, xml_of = files_by_name(image_dir, image_suffix), files_by_name(annotation_dir, ".xml")
    if not image_of:
        raise ValueError(f"dataset '{spec.name}': no images in {image_dir} that end in {image_suffix}")
    names = sorted(xml_of) if split_file is None else split_names(split_file)
    rows = Rows({
        "image": pa.string(),
        "annotation": pa.string(),
        "image_id": pa.string(),
        "file_name": pa.string(),
        "size": pa.list_(pa.int64()),
        "objects": _OBJECTS_TYPE,
    })  # fmt: skip
    absent = repeated = 0
    for name in names:
        with rows.image():
            if name not in image_of:
                if missing_images == "skip":
                    absent += 1
                    continue
                source = f"the image of {xml_of[name]}" if name in xml_of else f"'{name}' of {split_file}"
                raise BadSampleError(missing_image(image_dir / (name + image_suffix), source))
            if name not in xml_of:
                path = annotation_dir / f"{name}.xml"
                raise BadSampleError(f"{path}: missing, '{name}' of {split_file}; add it, or remove the line")
            size, objects = _parse(xml_of[name], spec)
            unique = without_repeats(objects, "class_index", "box")
            repeated += len(objects) - len(unique)
            rows.add(
                image=str(image_of[name]),
                annotation=str(xml_of[name]),
                image_id=name,
                file_name=image_of[name].relative_to(image_dir).as_posix(),
                size=size,
                objects=unique,
            )
    unlabelled = sorted(image_of.keys() - xml_of.keys()) if split_file is None else []
    notes = []
    if absent:
        notes.append(f"{absent} of {len(names)} annotations have no image in {image_dir}: left out")
    if unlabelled:
        notes.append(f"{len(unlabelled)} images have no XML in {annotation_dir}, such as '{unlabelled[0]}': left out")
    if repeated:
        notes.append(f"{repeated} objects in {annotation_dir} repeat another of their image: left out")
    return require_images(SampleDataset(spec, rows.dataset(), _load, rows.problems, notes), image_dir)


# --- the XML of an image


class _NoDoctype(ET.TreeBuilder):
    """Refuses a DOCTYPE before its entities are read: they can grow to gigabytes, and VOC has none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise BadSampleError(f"a DOCTYPE '{name}' is refused, since entities can exhaust memory; remove it")


def _parse(path: Path, spec: DatasetSpec) -> tuple[Size | None, list[dict[str, Any]]]:
    """Height and width, if stated, and the objects whose category is not void."""
    try:
        root = ET.parse(path, ET.XMLParser(target=_NoDoctype())).getroot()
    except BadSampleError as error:
        raise BadSampleError(f"{path}: {error}") from error
    except (ET.ParseError, ValueError, LookupError) as error:  # the latter two for encodings that expat does not know
        raise BadSampleError(f"{path}: not valid XML: {error}; correct it") from error
    if root.tag != "annotation":
        raise BadSampleError(f"{path}: expected <annotation> at the top, not <{root.tag}>; is it Pascal VOC?")
    size = _size(root, str(path))
    objects = []
    for number, element in enumerate(root.findall("object"), start=1):
        where = f"{path}: object {number}"
        class_index = class_index_or_void(spec, _text(element, "name", where), where)
        is_crowd, box = _flag(element, "difficult", where), _box(element, where)
        if class_index >= 0:
            objects.append({"class_index": class_index, "is_crowd": is_crowd, "box": box})
    return size, objects


def _size(root: ET.Element, where: str) -> Size | None:
    element = root.find("size")
    if element is None:
        return None
    height, width = (_number(element, side, f"{where}: size") for side in ("height", "width"))
    if min(height, width) < 1 or not (height.is_integer() and width.is_integer()):
        raise BadSampleError(f"{where}: size {height:g} x {width:g} (height x width) is none; correct or remove <size>")
    return int(height), int(width)


def _box(element: ET.Element, where: str) -> tuple[float, float, float, float]:
    """xyxy in pixels, right and bottom exclusive; not yet clipped."""
    box = element.find("bndbox")
    if box is None:
        raise BadSampleError(f"{where}: <bndbox> is missing; add it, or remove the object")
    left, top, right, bottom = (_number(box, edge, f"{where}: bndbox") for edge in ("xmin", "ymin", "xmax", "ymax"))
    return checked_box((left - 1, top - 1, right, bottom), None, where)


def _flag(element: ET.Element, tag: str, where: str) -> bool:
    value = element.findtext(tag, "0").strip()
    if value not in ("0", "1"):
        raise BadSampleError(f"{where}: <{tag}> must be 0 or 1, not '{value}'; correct it")
    return value == "1"


def _number(element: ET.Element, tag: str, where: str) -> float:
    text = _text(element, tag, where)
    try:
        return float(text)
    except ValueError as error:
        raise BadSampleError(f"{where}: <{tag}> must be a number, not '{text}'; correct it") from error


def _text(element: ET.Element, tag: str, where: str) -> str:
    text = element.findtext(tag, "").strip()
    if not text:
        raise BadSampleError(f"{where}: <{tag}> is missing or empty; add it")
    return text


# --- loading


def _load(row: dict[str, Any]) -> Sample:
    size = None if row["size"] is None else (row["size"][0], row["size"][1])
    image = read_rgb(row["image"], row["image"], size)
    if size is not None:
        require_same_size(image, row["image"], size, row["annotation"])
    boxes = [checked_box(found["box"], (image.shape[0], image.shape[1]), row["annotation"]) for found in row["objects"]]
    annotation = Instances(
        class_labels=np.array([found["class_index"] for found in row["objects"]], dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        is_crowd=np.array([found["is_crowd"] for found in row["objects"]], dtype=bool),
    )
    return Sample(image, annotation, row["image_id"], row["file_name"])
