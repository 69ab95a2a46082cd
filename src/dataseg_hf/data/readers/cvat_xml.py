"""Shapes drawn in CVAT: one XML of "CVAT for images 1.1"
(https://docs.cvat.ai/docs/manual/advanced/xml_format/).
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...messages import shown
from ...model.image_reading_dataseg import Size
from ..name_checks import classes_not_listed, label_list_notes
from ..sample import BadSampleError, DatasetSpec, RawId, SampleDataset
from .class_ids import background_class, background_notes
from .drawn_shapes import DrawnShape, ShapeKind, check_shape, objects_of, placed
from .images import size_of_file
from .objects_of_degrees import along_line
from .paths import (
    MissingImages,
    StrPath,
    file_locator,
    inside,
    require_file,
    require_folder,
    require_image,
)
from .rows import require_images
from .shape_rows import ShapeRows
from .shapes_to_masks import rotated_rectangle
from .values import flag, number, side, whole_number
from .xml_files import xml_children

_LEFT_OUT = frozenset({"points", "polyline", "skeleton", "cuboid", "tag"})
# unless of each object what is known is asked for
_OF_DEGREES = frozenset({"points", "polyline", "tag"})


def read_cvat_xml(
    spec: DatasetSpec,
    images: StrPath,
    annotation_file: StrPath,
    *,
    background: str | None = None,
    missing_images: MissingImages = "error",
    file_name_pattern: Sequence[str] | None = None,
) -> SampleDataset:
    """CVAT's export "CVAT for images 1.1", as semantic annotation, instance masks or boxes: what
    the spec's task says.

    Polygons, boxes, ellipses (both may be rotated) and masks are read. A pixel belongs to a shape
    if its center lies in it. CVAT's own mask exports do the same for polygons, but they round
    ellipses to whole pixels and forget a box's rotation. Points, polylines, skeletons, cuboids,
    tags and shapes marked `outside` are left out with a note. Shapes of one label and one
    `group_id` other than 0 are one object. In semantic annotation the higher `z_order` lies on top,
    of equal ones the later shape; pixels in no shape are void unless `background` names their id.
    In the other tasks shapes of a category that the spec calls void are left out. The image id is
    the path of the image below `images`: its `name`, or `subset/name` where only that is there.
    Classes that the file's list of labels lacks count as not looked for (`Sample.incomplete`).
    Rows are sorted by image id, objects keep the order of the file. The XML is read as a stream.

    Args:
        spec: the dataset, of task `semantic`, `instance`, `boxes` or `objects`; its raw ids are the
            words in `label`.
        images: folder of the images.
        annotation_file: the XML, such as `annotations.xml`.
        background: raw id of the pixels in no shape (semantic annotation).
        missing_images: what to do with a listed image that is not in `images`; "skip" leaves it
            out.
        file_name_pattern: (pattern, replacement) for `re.sub`, from the listed names to those below
            `images`.

    Raises:
        FileNotFoundError: for a missing folder or XML.
        ValueError: for a file that is no such XML (tracks of "CVAT for video 1.1" among them), or
            no image at all. Faults of single images are `problems` of the dataset (a missing
            attribute, an unknown label, a shape that is none or lies outside the image, an image
            listed twice), or a BadSampleError on loading (an image of another size than listed,
            damaged run lengths).
    """
    image_dir, annotation_file = require_folder(images), require_file(annotation_file, "the XML")
    locate, background_index = file_locator(file_name_pattern), background_class(spec, background)
    found = _Images(image_dir, annotation_file, locate, ShapeRows(spec, missing_images))
    labels: list[str] = []
    for element in xml_children(annotation_file, "annotations", "CVAT for images 1.1"):
        if element.tag == "meta":
            labels += _listed_labels(element)
        elif element.tag == "track":
            raise ValueError(
                f"{annotation_file}: has tracks, as of 'CVAT for video 1.1'; export the task as "
                "'CVAT for images 1.1'"
            )
        elif element.tag == "image":
            found.add(element)
    if not found.total:
        raise ValueError(
            f"{annotation_file}: lists no <image>; export the task as 'CVAT for images 1.1'"
        )
    notes = [*label_list_notes(spec, labels, annotation_file), *background_notes(spec, background)]
    names: dict[RawId, str] = {label: label for label in labels}
    data = found.rows.samples(
        _mask_of_runs,
        background_index,
        [*notes, *found.notes()],
        names,
        classes_not_listed(spec, labels),
    )
    return require_images(data, image_dir)


class _Images:
    """Makes rows of the images of a file, one after the other.

    Args:
        image_dir: folder of the images.
        annotation_file: the XML.
        locate: from a listed name to the path below `image_dir`.
        rows: to which the images are added.
    """

    def __init__(
        self,
        image_dir: Path,
        annotation_file: Path,
        locate: Callable[[str], str],
        rows: ShapeRows,
    ) -> None:
        self.image_dir, self.annotation_file = image_dir, annotation_file
        self.locate, self.rows = locate, rows
        self.total = self._empty = 0
        self._listed: set[str] = set()

    def add(self, element: ET.Element) -> None:
        """Add an `<image>`, or its problem."""
        self.total += 1
        with self.rows.image():
            where = f"{self.annotation_file}: image {element.get('name', f'number {self.total}')!r}"
            path = _image_path(element, self.image_dir, self.locate, where)
            require_image(path, f"an image of {self.annotation_file}", self.image_dir)
            name = path.relative_to(self.image_dir).as_posix()
            if name in self._listed:
                raise BadSampleError(f"{where}: listed twice; remove one of the entries")
            self._listed.add(name)
            size = _size(element, path, where)
            shapes = _parse_shapes(element, self.rows, size, where)
            self._empty += not shapes
            self.rows.add_image(
                path, self.annotation_file, image_id=name, file_name=name, size=size, shapes=shapes
            )

    def notes(self) -> list[str]:
        """For a user."""
        file, rows = self.annotation_file, self.rows
        notes = rows.absent_notes(
            self.total, f"images listed in {file} are not in {self.image_dir}"
        )
        if self._empty:
            notes.append(
                f"{self._empty} of {self.total} images of {file} have no shape; CVAT lists "
                "unfinished ones, too"
            )
        return [*notes, *rows.not_read_notes(f"shapes of {file}")]


# --- the XML


def _listed_labels(meta: ET.Element) -> list[str]:
    """The labels of a task, job or project; those of a skeleton's joints, which have a <parent>,
    are left out.
    """
    labels = [
        label for label in meta.iterfind("*/labels/label") if not label.findtext("parent", "")
    ]
    return [name for label in labels if (name := label.findtext("name", "").strip())]


def _image_path(
    element: ET.Element, image_dir: Path, locate: Callable[[str], str], where: str
) -> Path:
    path = inside(image_dir, locate(_attribute(element, "name", where)), where)
    subset = element.get("subset")
    if subset and not path.is_file():  # a project's export has its images in a folder per subset
        in_subset = inside(image_dir, f"{subset}/{path.relative_to(image_dir).as_posix()}", where)
        return in_subset if in_subset.is_file() else path
    return path


def _size(element: ET.Element, path: Path, where: str) -> Size:
    """Height and width as listed, or, where a tool leaves them out, of the image."""
    if element.get("height") is None and element.get("width") is None:
        return size_of_file(path)
    height, width = (_attribute(element, key, where) for key in ("height", "width"))
    return side(height, f"{where}: height"), side(width, f"{where}: width")


def _parse_shapes(image: ET.Element, rows: ShapeRows, size: Size, where: str) -> list[DrawnShape]:
    """The shapes that the task needs, the lowest first; those not read are counted in `rows`."""
    left_out = _LEFT_OUT - (_OF_DEGREES if rows.spec.label_form == "degrees" else set())
    shapes: list[tuple[int, DrawnShape]] = []
    object_of: dict[tuple[str, int], int] = {}
    for position, element in enumerate(image, start=1):
        place = f"{where}: {element.tag} {position} ({element.get('label')!r})"
        if element.tag in left_out or flag(element.get("outside"), f"{place}: outside"):
            rows.not_read[element.tag if element.tag in left_out else "outside"] += 1
            continue
        label = _attribute(element, "label", place)
        group = whole_number(element.get("group_id", "0"), f"{place}: group_id")
        joined = object_of.setdefault((label, group), position) if group else position
        kind, points, runs = _outline(element, place)
        class_index = rows.class_ids.index(label)
        shape = DrawnShape(class_index, joined, kind, points, place, mask=runs)
        check_shape(shape, size, rows.spec)
        shapes.append((whole_number(element.get("z_order", "0"), f"{place}: z_order"), shape))
    rows.class_ids.end_image(where)
    if rows.spec.label_form == "classes":
        shapes.sort(key=lambda pair: pair[0])
    return objects_of([shape for _, shape in shapes], rows.spec)


def _outline(element: ET.Element, where: str) -> tuple[ShapeKind, list[float], str | None]:
    """Kind and numbers of a shape, as `DrawnShape` has them, and the run lengths of a mask."""
    if element.tag == "polygon":
        return "polygon", _points(_attribute(element, "points", where), where), None
    if element.tag == "box":
        box = _numbers(element, ("xtl", "ytl", "xbr", "ybr"), where)
        angle = number(element.get("rotation", "0"), f"{where}: rotation")
        if angle % 360 == 0:
            return "rectangle", box, None
        center = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        return "polygon", rotated_rectangle(box, center, angle), None
    if element.tag == "ellipse":
        angle = number(element.get("rotation", "0"), f"{where}: rotation")
        return "ellipse", [*_numbers(element, ("cx", "cy", "rx", "ry"), where), angle], None
    if element.tag == "mask":
        left, top, width, height = (
            whole_number(_attribute(element, key, where), f"{where}: {key}")
            for key in ("left", "top", "width", "height")
        )
        return "mask", [left, top, left + width, top + height], _attribute(element, "rle", where)
    if element.tag == "tag":
        return "tag", [], None
    if element.tag in ("points", "polyline"):
        points = _points(_attribute(element, "points", where), where)
        return "points", points if element.tag == "points" else along_line(points), None
    raise BadSampleError(
        f"{where}: shapes of kind <{element.tag}> are not supported; draw a polygon, or remove it"
    )


def _points(text: str, where: str) -> list[float]:
    """x1, y1, x2, y2, ... of "x1,y1;x2,y2;...", the numbers not yet checked to be finite."""
    try:
        pairs = [pair.split(",") for pair in text.split(";")]
        return [float(value) for x, y in pairs for value in (x, y)]
    except ValueError as error:
        raise BadSampleError(
            f"{where}: points are 'x,y;x,y;...', not {shown(text)}; correct or remove it"
        ) from error


def _numbers(element: ET.Element, keys: Sequence[str], where: str) -> list[float]:
    return [number(_attribute(element, key, where), f"{where}: {key}") for key in keys]


def _attribute(element: ET.Element, key: str, where: str) -> str:
    value = element.get(key)
    if not value:
        raise BadSampleError(
            f"{where}: attribute '{key}' of <{element.tag}> is missing or empty; add it"
        )
    return value


# --- loading


def _mask_of_runs(shape: Mapping[str, Any], size: Size) -> NDArray[np.bool_]:
    """bool [H, W] of run lengths of 0 and 1 in turn, along the rows of the mask's window."""
    where = f"{shape['where']}: rle"
    left, top, right, bottom = (int(value) for value in shape["points"])
    area = (bottom - top) * (right - left)
    try:
        runs = [int(run) for run in shape["mask"].split(",")]
    except ValueError as error:
        raise BadSampleError(
            f"{where}: expected run lengths '3, 5, 7', ({error}); draw it anew"
        ) from error
    if min(runs) < 0 or sum(runs) != area:
        raise BadSampleError(
            f"{where}: run lengths must be >= 0 and add up to width * height = {area} pixels, not "
            f"{sum(runs)}; draw it anew"
        )
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(bottom - top, right - left)
    return placed(pixels, (left, top, right, bottom), size, where)
