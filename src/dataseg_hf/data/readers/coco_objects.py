"""The entries of `annotations` in COCO's instances format: read, checked one by one, and found by
image.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from ...messages import shown
from ...model.image_reading_dataseg import Size
from ..sample import BadSampleError, DatasetSpec, RawId, UnknownIdsError
from .arrow_cache import cached_rows
from .boxes import Outside, checked_box, is_box, refuse_contradiction, refuse_far_outside
from .class_ids import VOID, taken_as_void
from .coco_json import image_key, json_items, require_image_id
from .images import MAX_PIXELS
from .mask_weights import mask_weight
from .rle import checked_runs
from .shapes_to_masks import checked_polygon, extent_of_segmentation
from .values import flag, require_key, whole_number

OBJECTS = pa.schema([
    ("image", pa.string()),  # `image_key`
    ("category_id", pa.int64()),
    ("is_crowd", pa.bool_()),
    ("box", pa.list_(pa.float64())),  # xyxy
    ("segmentation", pa.string()),  # as JSON
    ("weight", pa.float32()),  # of the mask, where scores are asked for
    ("problem", pa.string()),
])  # fmt: skip
"""Columns of the objects of a file."""
_OBJECTS_PER_BATCH = 5_000


def read_objects(
    annotation_file: Path,
    size_of: Mapping[str, Size | None],
    spec: DatasetSpec,
    score_weights: bool = False,
) -> Dataset:
    """Every entry of `annotations` as a row of `OBJECTS`, with what is wrong with it; copied once
    into an Arrow file.

    Args:
        annotation_file: the JSON file.
        size_of: height and width by `image_key`, where they are known.
        spec: the dataset.
        score_weights: whether scores are read.
    """
    return cached_rows(
        annotation_file,
        f"instances {spec.task} outside={spec.outside} scores={score_weights} {_digest(size_of)}",
        OBJECTS,
        partial(
            _write_objects,
            annotation_file=annotation_file,
            size_of=size_of,
            spec=spec,
            score_weights=score_weights,
        ),
    )


def _digest(size_of: Mapping[str, Size | None]) -> str:
    """Sizes that come from image files instead of the JSON are part of what is cached."""
    return hashlib.sha256(repr(list(size_of.values())).encode()).hexdigest()[:16]


def _write_objects(
    writer: pa.RecordBatchStreamWriter,
    *,
    annotation_file: Path,
    size_of: Mapping[str, Size | None],
    spec: DatasetSpec,
    score_weights: bool,
) -> None:
    entries = json_items(annotation_file, "annotations")
    while batch := list(islice(entries, _OBJECTS_PER_BATCH)):
        rows = [_object(entry, annotation_file, size_of, spec, score_weights) for entry in batch]
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=OBJECTS))


def _object(
    entry: Any,
    annotation_file: Path,
    size_of: Mapping[str, Size | None],
    spec: DatasetSpec,
    score_weights: bool,
) -> dict[str, Any]:
    image_id = require_image_id(entry, "image_id", f"{annotation_file}: annotations")
    where = f"{annotation_file}: image {image_id}, annotation {entry.get('id')}"
    key = image_key(image_id, where)
    size = size_of.get(key)
    row: dict[str, Any] = {"image": key}
    try:
        raw_id = require_key(entry, "category_id", where)
        row["category_id"] = whole_number(raw_id, f"{where}, `category_id`")
        row["is_crowd"] = flag(entry.get("iscrowd"), f"{where}, `iscrowd`")
        if score_weights:
            row["weight"] = mask_weight(entry, where)
        segmentation = entry.get("segmentation")
        if spec.label_form == "degrees" and not segmentation:
            segmentation = None  # a box alone
        elif spec.label_form != "boxes":
            segmentation = require_key(entry, "segmentation", where)
            _check_segmentation(segmentation, size, where, spec.outside)
            row["segmentation"] = json.dumps(segmentation)
        elif isinstance(segmentation, dict):
            segmentation = None  # polygons tell their extent cheaply, run lengths do not
        extent = extent_of_segmentation(segmentation, size, where)
        row["box"] = _box(entry, extent, size, where, spec.outside)
    except BadSampleError as error:
        row["problem"] = str(error)
    except RecursionError:
        row["problem"] = f"{where}: lists in lists, nested too deep; correct or remove it"
    return row


def _box(
    entry: Mapping[str, Any],
    extent: list[float] | None,
    size: Size | None,
    where: str,
    outside: Outside,
) -> list[float] | None:
    """xyxy, clipped to the image; None for a box without area, which COCO's own files have."""
    box: list[float] | None = extent
    if entry.get("bbox") is not None or extent is None:
        box = _xyxy(require_key(entry, "bbox", where), where)
        if box is not None and extent is not None:
            refuse_contradiction(box, extent, where, "bbox", "[left, top, width, height]")
    return None if box is None else list(checked_box(box, size, where, outside))


def _xyxy(box: Any, where: str) -> list[float] | None:
    if not is_box(box):
        raise BadSampleError(
            f"{where}: `bbox` must be [x, y, width, height], not {shown(box)}; correct or remove it"
        )
    if min(box[2:]) == 0:
        return None
    left, top, width, height = box
    corners = [left, top, left + width, top + height]
    checked_box(corners, None, where)
    return corners


def _check_segmentation(segmentation: Any, size: Size | None, where: str, outside: Outside) -> None:
    if isinstance(segmentation, list):
        if not segmentation:
            raise BadSampleError(
                f"{where}: has no polygon; draw one, remove the annotation, or set the "
                "task to 'boxes' or 'objects'"
            )
        if all(isinstance(point, list) and len(point) == 2 for point in segmentation):
            raise BadSampleError(
                f"{where}: its segmentation is a list of points; write a list of polygons, [[x1, "
                "y1, x2, y2, ...]]"
            )
        for polygon in segmentation:
            points = checked_polygon(
                polygon, size or (MAX_PIXELS, MAX_PIXELS), where, outside
            ).reshape(-1, 2)
            if size is not None and outside == "error":
                refuse_far_outside(
                    [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()], size, where
                )
    elif isinstance(segmentation, dict):
        checked_runs(segmentation, where)
    else:
        raise BadSampleError(
            f"{where}: a segmentation is a list of polygons or run lengths, not "
            f"{shown(segmentation)}"
        )


class ObjectIndex:
    """Which objects belong to which image, and what is wrong with them; arrays, since a file may
    have millions.

    classes: int64, class index of each object, VOID where it has none. is_crowd: bool, as flagged.
    """

    def __init__(self, spec: DatasetSpec, objects: Dataset, annotation_file: Path) -> None:
        # The long column, `segmentation`, stays on disk: to combine its chunks would copy it into
        # memory.
        has_area = objects.data.table["box"].is_valid().to_numpy()
        short = ["image", "category_id", "is_crowd", "problem"]
        table = objects.data.table.select(short).combine_chunks()
        keys = table["image"].combine_chunks().dictionary_encode()
        self._key_of_code: list[str] = keys.dictionary.to_pylist()
        self._code_of_key = {key: code for code, key in enumerate(self._key_of_code)}
        self.spec, self.annotation_file = spec, annotation_file
        codes = keys.indices.to_numpy(zero_copy_only=False)
        is_whole = table["problem"].is_null().to_numpy()
        categories = table["category_id"].fill_null(0).to_numpy()
        self.is_crowd = table["is_crowd"].fill_null(False).to_numpy()
        messages = table["problem"].filter(~is_whole).to_pylist()
        self._problem_of_code = _first_of_each(codes[~is_whole], messages)

        raw_ids, place_of = np.unique(categories, return_inverse=True)
        is_known = np.array([spec.knows(raw_id) for raw_id in raw_ids.tolist()], dtype=bool)
        class_of_place = [class_or_void(spec, raw_id) for raw_id in raw_ids.tolist()]
        self.classes = np.array(class_of_place, dtype=np.int64)[place_of]
        is_unknown = is_whole & ~is_known[place_of]
        self._unknown_of_code = _counts_of_each(codes[is_unknown], categories[is_unknown])

        self.without_area = int((is_whole & ~has_area).sum())
        # in semantic annotation an object of a void category makes its pixels void
        usable = is_whole & has_area & ((self.classes != VOID) | (spec.label_form == "classes"))
        order = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[order], np.arange(len(self._key_of_code) + 1))
        self._indices = [order[a:b][usable[order[a:b]]] for a, b in pairwise(bounds.tolist())]

    def image_keys(self) -> Sequence[str]:
        """Images that have objects."""
        return self._key_of_code

    def notes(self) -> list[str]:
        """On boxes without area, and on raw ids that the spec does not name, taken as void."""
        notes = []
        if self.without_area:
            notes.append(
                f"{self.without_area} boxes of {self.annotation_file} have no width or no height: "
                "left out"
            )
        if self.spec.unknown_ids != "error" and self._unknown_of_code:
            total: Counter[RawId] = sum(self._unknown_of_code.values(), Counter())
            notes.append(taken_as_void(self.spec.name, total, "object"))
        return notes

    def indices_of(self, key: str) -> NDArray[np.int64]:
        """Rows of the usable objects of an image, int64 [M], in the order of the file.

        Raises:
            BadSampleError: for an image with an object that cannot be used.
            UnknownIdsError: for an image with a category that the spec does not know, unless the
                spec takes unknown ids as void.
        """
        code = self._code_of_key.get(key)
        if code is None:
            return np.array([], dtype=np.int64)
        if code in self._problem_of_code:
            raise BadSampleError(self._problem_of_code[code])
        if code in self._unknown_of_code and self.spec.unknown_ids == "error":
            where = f"{self.annotation_file}: image {key}"
            raise UnknownIdsError(where, self.spec.name, self._unknown_of_code[code], "object")
        return self._indices[code]


def _first_of_each(codes: NDArray[np.integer], values: Sequence[str]) -> dict[int, str]:
    first: dict[int, str] = {}
    for code, value in zip(codes.tolist(), values, strict=True):
        first.setdefault(code, value)
    return first


def _counts_of_each(
    codes: NDArray[np.integer], values: NDArray[np.int64]
) -> dict[int, Counter[RawId]]:
    counts: dict[int, Counter[RawId]] = {}
    for code, value in zip(codes.tolist(), values.tolist(), strict=True):
        counts.setdefault(code, Counter())[value] += 1
    return counts


def class_or_void(spec: DatasetSpec, raw_id: int) -> int:
    """Class index of a raw id; VOID for one that the spec calls void, or does not know."""
    class_index = spec.class_index(raw_id, "") if spec.knows(raw_id) else None
    return VOID if class_index is None else class_index
