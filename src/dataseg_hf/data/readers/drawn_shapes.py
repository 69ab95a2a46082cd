"""Shapes drawn in annotation tools, as the rows of a dataset hold them, and what a task makes of
them.

A pixel (row, column) covers [column, column + 1) x [row, row + 1); it belongs to a shape if its
center lies in it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...model.degrees_dataseg import Degree
from ...model.image_reading_dataseg import Size
from ..masks import box_of_mask
from ..sample import Annotation, BadSampleError, DatasetSpec, Instances, Sample, Segments
from .boxes import checked_box
from .class_ids import VOID
from .images import read_image, require_same_size
from .objects_of_degrees import ObjectsOfDegrees
from .shapes_to_masks import checked_polygon, ellipse_to_mask, polygons_to_mask, rectangle_to_mask

ShapeKind: TypeAlias = Literal["polygon", "rectangle", "ellipse", "mask", "points", "tag"]
Parts: TypeAlias = Sequence[Mapping[str, Any]]
"""Shapes of a row, of an image or of one object."""
DecodeMask: TypeAlias = Callable[[Mapping[str, Any], Size], NDArray[np.bool_]]
"""(a row's shape of kind "mask", height and width of the image) -> bool [H, W]."""


@dataclass(frozen=True)
class DrawnShape:
    """One shape of an image.

    Args:
        class_index: VOID (-1) where the spec calls its label void.
        object: equal for the shapes that are one object together.
        kind: what the numbers mean.
        points: polygon: x1, y1, x2, y2, ...; rectangle: left, top, right, bottom, the last two
            exclusive; ellipse: center x, y, the two radii, and the angle in degrees by which it is
            turned clockwise; mask: left, top, right and bottom of the window that is stored, the
            last two exclusive; points: inside of the object, x1, y1, x2, y2, ...; tag: none. In
            pixels.
        holes: of a polygon, each x1, y1, x2, y2, ...
        mask: of kind "mask", as text that the reader's `DecodeMask` understands.
        where: file and number of the shape, with which messages begin.
        is_crowd: a region of many objects.
    """

    class_index: int
    object: int
    kind: ShapeKind
    points: Sequence[float]
    where: str
    holes: Sequence[Sequence[float]] = ()
    mask: str | None = None
    is_crowd: bool = False

    def row(self) -> dict[str, Any]:
        """As an entry of a column of type `SHAPES_TYPE`."""
        return dict(vars(self))  # a shallow copy: `asdict` copies every number


SHAPES_TYPE = pa.list_(
    pa.struct([
        ("class_index", pa.int64()),
        ("object", pa.int64()),
        ("kind", pa.string()),
        ("points", pa.list_(pa.float64())),
        ("where", pa.string()),
        ("holes", pa.list_(pa.list_(pa.float64()))),
        ("mask", pa.string()),
        ("is_crowd", pa.bool_()),
    ])
)  # fmt: skip
"""Arrow type of a row's shapes."""

SHAPE_ROWS: Mapping[str, pa.DataType] = {
    "image": pa.string(),
    "annotation": pa.string(),
    "image_id": pa.string(),
    "file_name": pa.string(),
    "size": pa.list_(pa.int64()),
    "shapes": SHAPES_TYPE,
}
"""Columns of a reader of drawn shapes; size: height and width of the image on which they were
drawn.
"""


def check_shape(shape: DrawnShape, size: Size, spec: DatasetSpec) -> None:
    """Refuse a shape that has no area or does not lie in its image of `size` (height, width).

    Raises:
        BadSampleError: as `checked_polygon` and `checked_box`.
    """
    if shape.kind == "tag":
        return
    if shape.kind == "points":
        _check_points(shape.points, size, shape.where)
        return
    if shape.kind == "polygon":
        for ring in (shape.points, *shape.holes):
            checked_polygon(ring, size, shape.where, spec.outside)
    if shape.kind != "mask":
        checked_box(_extent(shape.row()), size, shape.where, spec.outside)
        return
    left, top, right, bottom = shape.points
    if not (0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]):
        raise BadSampleError(
            f"{shape.where}: a mask from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) does not "
            f"lie in the image of {size[0]} x {size[1]} pixels (height x width); remove it"
        )


def _check_points(points: Sequence[float], size: Size, where: str) -> None:
    for x, y in zip(points[0::2], points[1::2], strict=True):
        if not (0 <= x <= size[1] and 0 <= y <= size[0]):
            raise BadSampleError(
                f"{where}: the point ({x:g}, {y:g}) lies outside the image of {size[0]} x "
                f"{size[1]} pixels (height x width); correct or remove it"
            )


def objects_of(shapes: Sequence[DrawnShape], spec: DatasetSpec) -> list[DrawnShape]:
    """The shapes that the task needs: in semantic annotation void ones too, as they lie on top of
    others.
    """
    return [shape for shape in shapes if spec.label_form == "classes" or shape.class_index != VOID]


def load_shapes(
    row: Mapping[str, Any],
    *,
    spec: DatasetSpec,
    decode_mask: DecodeMask,
    background: int = VOID,
    incomplete: Sequence[int] = (),
) -> Sample:
    """The sample of a row of `SHAPE_ROWS`, as the spec's task needs it.

    Args:
        row: of a dataset.
        spec: the dataset.
        decode_mask: decodes shapes of kind "mask".
        background: class of the pixels in no shape (semantic annotation).
        incomplete: as in `Sample`.

    Raises:
        BadSampleError: for an image that cannot be read or is not of the listed size, and damaged
            masks.
    """
    size = (row["size"][0], row["size"][1])
    image = read_image(row["image"], row["image"], size)
    require_same_size(image, row["image"], size, row["annotation"])
    annotation = _annotation(row["shapes"], spec, size, decode_mask, background)
    return image.sample(annotation, row["image_id"], row["file_name"], incomplete=tuple(incomplete))


def _annotation(
    shapes: Parts, spec: DatasetSpec, size: Size, decode_mask: DecodeMask, background: int
) -> Annotation:
    if spec.label_form == "classes":
        return _segments(shapes, len(spec.classes), size, decode_mask, background)
    if spec.label_form == "degrees":
        return _objects(shapes, size, decode_mask)
    return _instances(shapes, spec, size, decode_mask)


def segments_of_classes(class_map: NDArray[np.integer], num_classes: int) -> Segments:
    """One segment per class that occurs in a map of class indices [H, W], VOID where unlabeled."""
    # of void, then of the classes
    pixels = np.bincount(class_map.ravel() + 1, minlength=num_classes + 1)
    present = np.flatnonzero(pixels[1:])
    segment_of = np.full(len(pixels), -1, dtype=np.int32)
    segment_of[present + 1] = np.arange(len(present))
    return Segments(
        segment_of[class_map + 1], present.astype(np.int64), np.zeros(len(present), dtype=bool)
    )


def _segments(
    shapes: Sequence[Mapping[str, Any]],
    num_classes: int,
    size: Size,
    decode_mask: DecodeMask,
    background: int,
) -> Segments:
    class_map = np.full(size, background, dtype=np.int32)
    for shape in shapes:
        class_map[shape_mask(shape, size, decode_mask)] = (
            VOID if shape["is_crowd"] else shape["class_index"]
        )
    return segments_of_classes(class_map, num_classes)


DEGREES: Mapping[str, Degree] = {
    "tag": Degree.TAG,
    "points": Degree.POINT,
    "rectangle": Degree.BOX,
    "polygon": Degree.MASK,
    "ellipse": Degree.MASK,
    "mask": Degree.MASK,
}
"""What each kind of shape says of an object (task `objects`)."""


def _objects(shapes: Parts, size: Size, decode_mask: DecodeMask) -> Instances:
    """What the most telling shapes of each object say."""
    builder = ObjectsOfDegrees(size)
    for parts in _by_object(shapes):
        degree = max(DEGREES[part["kind"]] for part in parts)
        telling = [part for part in parts if DEGREES[part["kind"]] == degree]
        mask = box = None
        points: list[float] = []
        if degree == Degree.MASK:
            mask = np.any([shape_mask(part, size, decode_mask) for part in telling], axis=0)
        elif degree == Degree.BOX:
            box = _joined([_box(part, size, None) for part in telling])
        elif degree == Degree.POINT:
            points = [value for part in telling for value in part["points"]]
        builder.add(parts[0]["class_index"], parts[0]["is_crowd"], mask, box, points)
    return builder.instances()


def _by_object(shapes: Parts) -> list[list[Mapping[str, Any]]]:
    parts_of: dict[int, list[Mapping[str, Any]]] = {}
    for shape in shapes:
        parts_of.setdefault(shape["object"], []).append(shape)
    return list(parts_of.values())


def _joined(boxes: Sequence[Sequence[float]]) -> list[float]:
    """xyxy of all boxes together."""
    corners = np.array(boxes)
    return [*corners[:, :2].min(axis=0).tolist(), *corners[:, 2:].max(axis=0).tolist()]


def _instances(
    shapes: Sequence[Mapping[str, Any]], spec: DatasetSpec, size: Size, decode_mask: DecodeMask
) -> Instances:
    objects = _by_object(shapes)
    boxes = np.zeros((len(objects), 4), dtype=np.float32)
    masks = None if spec.label_form == "boxes" else np.zeros((len(objects), *size), dtype=bool)
    for index, parts in enumerate(objects):
        part_boxes = []
        for shape in parts:
            needs_pixels = masks is not None or shape["kind"] == "mask"
            part = shape_mask(shape, size, decode_mask) if needs_pixels else None
            part_boxes.append(_box(shape, size, part))
            if masks is not None:
                masks[index] |= part
        boxes[index] = _joined(part_boxes)
    return Instances(
        class_labels=np.array([first["class_index"] for first, *_ in objects], dtype=np.int64),
        boxes=boxes,
        is_crowd=np.array([first["is_crowd"] for first, *_ in objects], dtype=bool),
        masks=masks,
    )


def shape_mask(shape: Mapping[str, Any], size: Size, decode_mask: DecodeMask) -> NDArray[np.bool_]:
    """bool [H, W] of any kind of shape that `check_shape` let pass; one of less than a pixel may
    come out empty.
    """
    kind, points = shape["kind"], shape["points"]
    if kind == "polygon":
        mask = polygons_to_mask([points], size, shape["where"], "clip")
        if shape["holes"]:
            mask &= ~polygons_to_mask(shape["holes"], size, shape["where"], "clip")
        return mask
    if kind == "rectangle":
        return rectangle_to_mask(points, size)
    if kind == "ellipse":
        return ellipse_to_mask(points[:2], points[2:4], points[4], size)
    return decode_mask(shape, size)


def placed(
    pixels: NDArray[np.bool_], window: tuple[int, int, int, int], size: Size, where: str
) -> NDArray[np.bool_]:
    """A mask of a window (left, top, right, bottom) in an image of `size`: bool [H, W].

    Raises:
        BadSampleError: for a mask of another size than its window, and one without a pixel.
    """
    left, top, right, bottom = window
    if pixels.shape != (bottom - top, right - left):
        raise BadSampleError(
            f"{where}: {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), but its "
            f"place spans {bottom - top} x {right - left}; draw it anew"
        )
    if not pixels.any():
        raise BadSampleError(f"{where}: has no pixel; draw it anew, or remove it")
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = pixels
    return mask


def _box(shape: Mapping[str, Any], size: Size, mask: NDArray[np.bool_] | None) -> Sequence[float]:
    """xyxy in pixels, within the image; of a shape of kind "mask" that of its pixels."""
    if shape["kind"] == "mask" and mask is not None:
        return [*map(float, box_of_mask(mask))]
    return checked_box(_extent(shape), size, shape["where"], "clip")


def _extent(shape: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """xyxy of a polygon, rectangle or ellipse."""
    points = shape["points"]
    if shape["kind"] == "ellipse":
        x, y, radius_x, radius_y, angle = points
        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        half_width, half_height = (
            np.hypot(radius_x * cos, radius_y * sin),
            np.hypot(radius_x * sin, radius_y * cos),
        )
        return (
            float(x - half_width),
            float(y - half_height),
            float(x + half_width),
            float(y + half_height),
        )
    xs, ys = points[0::2], points[1::2]
    return min(xs), min(ys), max(xs), max(ys)
