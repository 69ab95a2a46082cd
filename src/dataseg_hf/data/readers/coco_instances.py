"""COCO instances format: one JSON file with an entry per object (https://cocodataset.org/#format-data)."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from ..sample import BadSampleError, DatasetSpec, Instances, Sample, SampleDataset
from .arrow_cache import cached_rows
from .boxes import checked_box, is_finite_number
from .coco_json import json_items, listed_images, require_image_id
from .files import (
    MAX_PIXELS,
    MissingImages,
    Rows,
    Size,
    StrPath,
    class_index_or_void,
    file_locator,
    id_type,
    read_rgb,
    require_file,
    require_folder,
    require_images,
    require_key,
    require_same_size,
)
from .rle import checked_runs, decode_rle
from .shapes_to_masks import checked_polygon, polygons_to_mask

_OBJECTS = pa.schema([
    ("image_id", pa.string()),  # as JSON, since ids are numbers or words
    ("category_id", pa.int64()),
    ("is_crowd", pa.bool_()),
    ("box", pa.list_(pa.float64())),  # xyxy
    ("segmentation", pa.string()),  # as JSON
    ("problem", pa.string()),
])  # fmt: skip
_OBJECTS_PER_BATCH = 5_000


def read_coco_instances(
    spec: DatasetSpec,
    images: StrPath,
    annotation_file: StrPath,
    *,
    missing_images: MissingImages = "error",
    file_name_pattern: Sequence[str] | None = None,
) -> SampleDataset:
    """COCO instances format, as masks or, where the spec's task is `boxes`, as boxes.

    Segmentations may be polygons, compressed or uncompressed run lengths; instances may overlap; crowd regions are
    kept and flagged. Objects of a category that the spec calls void are left out. An image without objects is a
    sample with M = 0. Rows are sorted by image id, objects keep the order of the file. Entries of `annotations` are
    copied once into an Arrow file (`arrow_cache`), so that memory does not grow with the JSON.

    Args:
        spec: the dataset; its raw ids are the JSON's category ids.
        images: folder of the images.
        annotation_file: the JSON file.
        missing_images: what to do with a listed image that is not in `images`; "skip" leaves it out.
        file_name_pattern: (pattern, replacement) for `re.sub`, from the listed file names to those below `images`.

    Raises:
        FileNotFoundError: for a missing folder or JSON file.
        ValueError: for a file that is no such JSON, or no image at all. Faults of single images and their objects are
            `problems` of the dataset, or a BadSampleError on loading (an image of another size than listed).
    """
    image_dir, annotation_file = require_folder(images), require_file(annotation_file, "the annotation file")
    with_masks = spec.task != "boxes"
    notes: list[str] = []
    listed, size_of = listed_images(annotation_file, image_dir, missing_images, file_locator(file_name_pattern), notes)
    objects = cached_rows(
        annotation_file,
        f"instances with_masks={with_masks}",
        _OBJECTS,
        partial(_write_objects, annotation_file=annotation_file, size_of=size_of, with_masks=with_masks),
    )
    found = _ObjectIndex(spec, objects, annotation_file)
    rows = Rows({
        "image": pa.string(),
        "image_id": id_type(size_of, annotation_file),
        "file_name": pa.string(),
        "height": pa.int64(),
        "width": pa.int64(),
        "objects": pa.list_(pa.int64()),
    })  # fmt: skip
    for image in listed:
        with rows.image():
            problem = image.problem or found.problem_of(image.image_id)
            if problem is not None:
                raise BadSampleError(problem)
            if image.size is None:
                raise BadSampleError(f"{annotation_file}: image {image.image_id}: `height` and `width` are missing")
            rows.add(
                image=image.path,
                image_id=image.image_id,
                file_name=image.file_name,
                height=image.size[0],
                width=image.size[1],
                objects=found.indices_of(image.image_id),
            )
    strays = [
        f"{annotation_file}: image {image_id}: has annotations, but is not listed in `images`; list it, or remove them"
        for image_id in found.image_ids()
        if image_id not in size_of
    ]
    if found.without_area:
        notes.append(f"{found.without_area} boxes of {annotation_file} have no width or no height: left out")
    load = partial(
        _load, objects=objects, class_of=found.class_of, annotation_file=annotation_file, with_masks=with_masks
    )
    return require_images(SampleDataset(spec, rows.dataset(), load, [*rows.problems, *strays], notes), image_dir)


# --- the objects of a file


def _write_objects(
    writer: pa.RecordBatchStreamWriter,
    *,
    annotation_file: Path,
    size_of: Mapping[int | str, Size | None],
    with_masks: bool,
) -> None:
    """Every entry of `annotations` as a row of `_OBJECTS`, with what is wrong with it."""
    entries = json_items(annotation_file, "annotations")
    while batch := list(islice(entries, _OBJECTS_PER_BATCH)):
        rows = [_object(entry, annotation_file, size_of, with_masks) for entry in batch]
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=_OBJECTS))


def _object(
    entry: Any, annotation_file: Path, size_of: Mapping[int | str, Size | None], with_masks: bool
) -> dict[str, Any]:
    image_id = require_image_id(entry, "image_id", f"{annotation_file}: annotations")
    where = f"{annotation_file}: image {image_id}, annotation {entry.get('id')}"
    row: dict[str, Any] = {"image_id": json.dumps(image_id)}
    try:
        category_id = require_key(entry, "category_id", where)
        if not isinstance(category_id, int):
            raise BadSampleError(f"{where}: category id {category_id!r} is no number; correct it")
        row |= {"category_id": category_id, "is_crowd": bool(entry.get("iscrowd", 0))}
        row["box"] = _checked_xywh(require_key(entry, "bbox", where), size_of.get(image_id), where)
        if with_masks:
            segmentation = require_key(entry, "segmentation", where)
            _check_segmentation(segmentation, size_of.get(image_id), where)
            row["segmentation"] = json.dumps(segmentation)
    except BadSampleError as error:
        row["problem"] = str(error)
    return row


def _checked_xywh(box: Any, size: Size | None, where: str) -> list[float] | None:
    """xyxy, clipped to the image; None for a box without area, which COCO's own files have."""
    if not isinstance(box, list) or len(box) != 4:
        raise BadSampleError(f"{where}: `bbox` must be [x, y, width, height], not {box}; correct or remove it")
    if all(is_finite_number(value) for value in box) and min(box[2:]) == 0:
        return None
    left, top, width, height = box
    try:
        return list(checked_box([left, top, left + width, top + height], size, where))
    except TypeError as error:
        raise BadSampleError(f"{where}: `bbox` must be four numbers, not {box}; correct or remove it") from error


def _check_segmentation(segmentation: Any, size: Size | None, where: str) -> None:
    if isinstance(segmentation, list):
        if not segmentation:
            raise BadSampleError(f"{where}: has no polygon; draw one, or remove the annotation")
        for polygon in segmentation:
            checked_polygon(polygon, size or (MAX_PIXELS, MAX_PIXELS), where)
    elif isinstance(segmentation, dict):
        checked_runs(segmentation, where)
    else:
        raise BadSampleError(f"{where}: a segmentation is a list of polygons or run lengths, not {segmentation!r}")


class _ObjectIndex:
    """Which objects belong to which image, and what is wrong with them; arrays, since a file may have millions."""

    def __init__(self, spec: DatasetSpec, objects: Dataset, annotation_file: Path) -> None:
        # The long column, `segmentation`, stays on disk: to combine its chunks would copy it into memory.
        has_area = objects.data.table["box"].is_valid().to_numpy()
        table = objects.data.table.select(["image_id", "category_id", "problem"]).combine_chunks()
        keys = table["image_id"].combine_chunks().dictionary_encode()
        self._image_of_code = [json.loads(key) for key in keys.dictionary.to_pylist()]
        self._code_of_image = {image_id: code for code, image_id in enumerate(self._image_of_code)}
        codes = keys.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[order], np.arange(len(self._image_of_code) + 1))

        problems = table["problem"].to_pylist()
        whole = np.array([problem is None for problem in problems], dtype=bool)
        categories = table["category_id"].fill_null(0).to_numpy()
        self.class_of: dict[int, int] = {}
        self._problem_of_code: dict[int, str] = {}
        for place in np.flatnonzero(~whole).tolist():
            self._problem_of_code.setdefault(int(codes[place]), problems[place])
        for category_id in np.unique(categories[whole]).tolist():
            places = np.flatnonzero(whole & (categories == category_id))
            for place in places.tolist():
                where = f"{annotation_file}: image {self._image_of_code[codes[place]]}"
                try:
                    self.class_of[category_id] = class_index_or_void(spec, category_id, where)
                    break
                except BadSampleError as error:
                    self._problem_of_code.setdefault(int(codes[place]), str(error))

        is_void = np.isin(categories, [c for c, class_index in self.class_of.items() if class_index == -1])
        self.without_area = int((whole & ~has_area).sum())
        usable = (whole & has_area & ~is_void)[order]
        self._indices = [order[a:b][usable[a:b]] for a, b in pairwise(bounds.tolist())]

    def image_ids(self) -> Sequence[int | str]:
        """Images that have objects."""
        return self._image_of_code

    def problem_of(self, image_id: int | str) -> str | None:
        """What is wrong with the objects of an image."""
        code = self._code_of_image.get(image_id)
        return None if code is None else self._problem_of_code.get(code)

    def indices_of(self, image_id: int | str) -> NDArray[np.int64]:
        """Rows of the usable objects of an image, in the order of the file."""
        code = self._code_of_image.get(image_id)
        return np.array([], dtype=np.int64) if code is None else self._indices[code]


# --- loading


def _load(
    row: dict[str, Any], *, objects: Dataset, class_of: Mapping[int, int], annotation_file: Path, with_masks: bool
) -> Sample:
    size = (row["height"], row["width"])
    image = read_rgb(row["image"], row["image"], size)
    require_same_size(image, row["image"], size, annotation_file)
    found = objects[row["objects"]]
    annotation = Instances(
        class_labels=np.array([class_of[category_id] for category_id in found["category_id"]], dtype=np.int64),
        boxes=np.array(found["box"], dtype=np.float32).reshape(-1, 4),
        is_crowd=np.array(found["is_crowd"], dtype=bool),
    )
    if with_masks:
        where = f"{annotation_file}: image {row['image_id']}"
        masks = [_mask(json.loads(text), size, where) for text in found["segmentation"]]
        annotation.masks = np.stack(masks) if masks else np.zeros((0, *size), dtype=bool)
    return Sample(image, annotation, row["image_id"], row["file_name"])


def _mask(segmentation: Any, size: Size, where: str) -> NDArray[np.bool_]:
    if isinstance(segmentation, list):
        return polygons_to_mask(segmentation, size, where)
    return decode_rle(segmentation, size, where)
