"""One row of a Hub or parquet dataset -> Sample: which columns hold what, and how each layout is
read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from ...model.image_reading_dataseg import Size
from ..sample import BadSampleError, DatasetSpec, Instances, Sample, Segments
from .boxes import Outside, checked_box, is_box, refuse_contradiction, refuse_far_outside
from .class_ids import VOID, ClassIds
from .hub_options import Columns
from .id_maps import read_id_map, read_rgb_ids
from .images import read_image, require_same_size
from .map_classes import MapClasses
from .map_segments import semantic_segments_of
from .panoptic_segments import panoptic_segments, require_segment_ids, without_pixel
from .rle import decode_rle
from .shapes_to_masks import extent_of_segmentation, polygons_to_mask
from .values import flag, require_key

ROW_NUMBER = "row number"
"""Column that the reader adds: an int, or "shard-row" where the rows are a stream."""


@dataclass(frozen=True)
class RowLoader:
    """Rows of a dataset -> Samples; pickles to workers.

    Args:
        spec: the dataset.
        columns: where rows hold what.
        name: dataset and split, with which messages begin.
        by_path: whether a row may name a file in place of an image's bytes. Only the folders that
            `datasets` has listed itself may: in any other data a path is the author's, and could be
            that of any file of this machine.
    """

    spec: DatasetSpec
    columns: Columns
    name: str
    by_path: bool

    def __call__(self, row: Mapping[str, Any]) -> Sample:
        """The sample of a row.

        Raises:
            BadSampleError: for an image or annotation that cannot be used; the message begins with
                dataset, split, row number, and image id where there is one.
        """
        columns, image_id = self.columns, row[ROW_NUMBER]
        where = f"{self.name}, row {image_id}"
        if columns.image_id_column is not None:
            image_id = row[columns.image_id_column]
            if image_id is None:
                raise BadSampleError(
                    f"{where}: column '{columns.image_id_column}' is empty; give the image an id"
                )
            where = f"{where} (image {image_id})"

        remarks: tuple[str, ...] = ()
        source = self._encoded(row, columns.image_column, where)
        image_name = f"{where}: column '{columns.image_column}'"
        annotation: Segments | Instances
        if columns.label_column is not None:
            label_name = f"column '{columns.label_column}'"
            label = self._encoded(row, columns.label_column, where)
            annotation, remarks = self._segments(row, label, where, f"{where}: {label_name}")
            size = annotation.segment_map.shape
            image = read_image(source, image_name, (size[0], size[1]))
            require_same_size(image, image_name, size, label_name)
        else:
            image = read_image(source, image_name)
            annotation = self._instances(row, image.size, where)
        path = row[columns.image_column]["path"]
        return image.sample(
            annotation,
            image_id,
            str(image_id) if path is None else _file_name(path),
            remarks,
        )

    def _encoded(self, row: Mapping[str, Any], column: str, where: str) -> str | bytes:
        """The bytes of an encoded image, or the path of a file."""
        value = row[column] or {}
        content, path = value.get("bytes"), value.get("path")
        if content is not None:
            return content
        if path is None:
            raise BadSampleError(
                f"{where}: column '{column}' is empty; give the image, or remove the row"
            )
        if not self.by_path:
            raise BadSampleError(
                f"{where}: column '{column}' names the file {path!r} instead of holding its bytes; "
                "write the dataset with its files embedded"
            )
        return _fetched(path, where) if "://" in path else path

    def _segments(
        self, row: Mapping[str, Any], label: str | bytes, where: str, label_name: str
    ) -> tuple[Segments, tuple[str, ...]]:
        """The segments, and remarks on the image."""
        column = self.columns.segments_column
        if column is None:
            return semantic_segments_of(
                read_id_map(label, label_name), MapClasses(self.spec), label_name
            )
        listed = []
        class_ids = ClassIds(self.spec, "segment")
        for info in _entries(row, column, ("id", "category_id"), where):
            is_crowd = flag(info.get("iscrowd"), f"{where}: segment {info['id']}, 'iscrowd'")
            class_index = class_ids.index(info["category_id"])
            listed.append((info["id"], class_index, is_crowd and self.columns.crowd == "ignore"))
        class_ids.end_image(f"{where}: column '{column}'")
        require_segment_ids(
            [segment_id for segment_id, _, _ in listed], f"{where}: column '{column}'"
        )
        segments, hidden = panoptic_segments(read_rgb_ids(label, label_name), listed, label_name)
        return segments, without_pixel(hidden, label_name)

    def _instances(self, row: Mapping[str, Any], size: Size, where: str) -> Instances:
        columns = self.columns
        assert columns.objects_column is not None  # `read_hub` has checked it
        class_labels: list[int] = []
        boxes: list[tuple[float, float, float, float]] = []
        is_crowd: list[bool] = []
        masks: list[NDArray[np.bool_]] = []
        class_ids = ClassIds(self.spec)
        keys = [columns.bbox_key, columns.category_key, columns.segmentation_key, columns.crowd_key]
        for place, entry in enumerate(
            _entries(row, columns.objects_column, [k for k in keys if k], where)
        ):
            object_name = f"{where}: object {place} of column '{columns.objects_column}'"
            class_index = class_ids.index(entry[columns.category_key])
            left, top, right, bottom = _corners(entry[columns.bbox_key], columns, size, object_name)
            if class_index == VOID or left == right or top == bottom:
                continue
            class_labels.append(class_index)
            boxes.append(
                checked_box((left, top, right, bottom), size, object_name, self.spec.outside)
            )
            is_flagged = columns.crowd_key is not None and flag(
                entry[columns.crowd_key], f"{object_name}, crowd"
            )
            is_crowd.append(is_flagged and columns.crowd == "ignore")
            if columns.segmentation_key is not None:
                segmentation = entry[columns.segmentation_key]
                self._check_extent(segmentation, (left, top, right, bottom), size, object_name)
                masks.append(_mask(segmentation, size, object_name, self.spec.outside))
        class_ids.end_image(f"{where}: column '{columns.objects_column}'")
        instances = Instances(
            class_labels=np.array(class_labels, dtype=np.int64),
            boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
            is_crowd=np.array(is_crowd, dtype=bool),
        )
        if columns.segmentation_key is not None:
            instances.masks = np.stack(masks) if masks else np.zeros((0, *size), dtype=bool)
        return instances

    def _check_extent(
        self, segmentation: Any, box: Sequence[float], size: Size, where: str
    ) -> None:
        """BadSampleError for an outline that reaches far beyond the image, or is not that of its
        box.
        """
        extent = extent_of_segmentation(segmentation, size, where)
        if extent is None:
            return
        if self.spec.outside == "error":
            refuse_far_outside(extent, size, where)
        refuse_contradiction(
            box, extent, where, self.columns.bbox_key, f"{self.columns.box_format} (`box_format`)"
        )


def _file_name(path: str) -> str:
    """The last part of a path of any system, or of a file in an archive (`zip://a/b.png::c.zip`)."""
    return PureWindowsPath(path.split("::")[0]).name


def _fetched(url: str, where: str) -> bytes:
    """The content of a file on the Hub or in an archive, such as
    `zip://a.png::hf://datasets/...`.
    """
    try:
        with fsspec.open(url, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise BadSampleError(f"{where}: {url}: no such file; add it, or remove the row") from error


def _entries(
    row: Mapping[str, Any], column: str, keys: Sequence[str], where: str
) -> list[Mapping[str, Any]]:
    """The structs of a column, which holds a list of structs or a struct of lists; each has the
    `keys`.
    """
    value = row[column]
    name = f"{where}: column '{column}'"
    if isinstance(value, Mapping):
        lists = {key: entries for key, entries in value.items() if isinstance(entries, list)}
        for key in keys:
            require_key(lists, key, name)
        lengths = {key: len(entries) for key, entries in lists.items()}
        if len(set(lengths.values())) > 1:
            raise BadSampleError(
                f"{name} has lists of different lengths {lengths}; give every entry all of them"
            )
        return [
            dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)
        ]
    if value is None or None in value:
        raise BadSampleError(
            f"{name} is empty, or has an empty entry; an image without entries has an empty list"
        )
    return value


def _corners(
    box: Any, columns: Columns, size: Size, where: str
) -> tuple[float, float, float, float]:
    """xyxy in pixels, not clipped yet."""
    if not is_box(box):
        raise BadSampleError(
            f"{where}: '{columns.bbox_key}' must be four finite numbers ({columns.box_format}), "
            f"not {box}; correct or remove it"
        )
    a, b, c, d = box
    if columns.box_format == "xywh":
        a, b, c, d = a, b, a + c, b + d
    elif columns.box_format == "cxcywh":
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    if not columns.normalized:
        return a, b, c, d
    if min(a, b, c, d) < -1 or max(a, b, c, d) > 2:
        raise BadSampleError(
            f"{where}: the box {list(box)} is no fraction of the image; is `normalized` right?"
        )
    height, width = size
    return a * width, b * height, c * width, d * height


def _mask(segmentation: Any, size: Size, where: str, outside: Outside) -> NDArray[np.bool_]:
    if isinstance(segmentation, Mapping):
        return decode_rle(segmentation, size, where)
    if isinstance(segmentation, list):
        return polygons_to_mask(segmentation, size, where, outside)
    raise BadSampleError(
        f"{where}: a segmentation is a list of polygons or run lengths, not {segmentation!r}"
    )
