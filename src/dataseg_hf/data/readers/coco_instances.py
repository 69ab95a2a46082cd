"""COCO instances format, LVIS v1 included: one JSON file with an entry per object
(https://cocodataset.org/#format-data).
"""

import json
from collections.abc import Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from ...model.degrees_dataseg import Degree
from ...model.image_reading_dataseg import Size
from ..sample import BadSampleError, DatasetSpec, Instances, RawId, Sample, SampleDataset, Segments
from .class_ids import VOID, TargetCounts, background_class
from .coco_json import (
    Crowd,
    ListedImage,
    image_key,
    listed_images,
    stated_categories,
    stated_frequencies,
)
from .coco_objects import ObjectIndex, class_or_void, read_objects
from .drawn_shapes import segments_of_classes
from .images import ReadImage, read_image, require_same_size
from .paths import MissingImages, StrPath, file_locator, require_file, require_folder
from .reader_tasks import require_task
from .rle import decode_rle
from .rows import Rows, id_type, require_images
from .shapes_to_masks import polygons_to_mask


def read_coco_instances(
    spec: DatasetSpec,
    images: StrPath,
    annotation_file: StrPath,
    *,
    missing_images: MissingImages = "error",
    file_name_pattern: Sequence[str] | None = None,
    crowd: Crowd = "ignore",
    background: RawId | None = None,
    score_weights: bool = False,
) -> SampleDataset:
    """COCO instances format: masks (task `instance`), boxes (task `boxes`), either (task `objects`)
    or a class per pixel (task `semantic`).

    Segmentations may be polygons, compressed or uncompressed run lengths; instances may overlap;
    crowd regions are kept and flagged. In task `objects`, one without segmentation has a box. What
    LVIS says of classes that were looked for (`neg_category_ids`, `not_exhaustive_category_ids`)
    is kept. Objects of a category that the spec calls void are left out.
    An image without objects is a sample with M = 0. In semantic annotation smaller objects lie on
    larger ones, those of a void category make their pixels void, and pixels in no object are void
    (our setting). Rows are sorted by image id, objects keep the order of the file. Entries of
    `annotations` are copied once into an Arrow file (`arrow_cache`), so that memory does not grow
    with the JSON.

    Args:
        spec: the dataset; its raw ids are the JSON's category ids.
        images: folder of the images.
        annotation_file: the JSON file.
        missing_images: what to do with a listed image that is not in `images`; "skip" leaves it
            out.
        file_name_pattern: (pattern, replacement) for `re.sub`, from the listed file names to those
            below `images`.
        crowd: "as_objects" takes objects with `iscrowd: 1` as ordinary ones: several exporters
            write every object that is stored as run lengths so.
        background: raw id of the pixels in no object (semantic annotation).
        score_weights: whether the `score` of an object weighs its mask in the losses, as files of
            `dataseg complete` have it; objects without one count whole.

    Raises:
        FileNotFoundError: for a missing folder or JSON file.
        ValueError: for a file that is no such JSON, no image at all, or a `background` that is no
            class. Faults of single images and their objects are `problems` of the dataset, or a
            BadSampleError on loading (an image of another size than listed).
    """
    require_task(spec, "coco_instances")
    image_dir, annotation_file = (
        require_folder(images),
        require_file(annotation_file, "the annotation file"),
    )
    in_no_object = background_class(spec, background)
    notes: list[str] = []
    listed, size_of = listed_images(
        annotation_file, image_dir, missing_images, file_locator(file_name_pattern), notes
    )
    objects = read_objects(annotation_file, size_of, spec, score_weights)
    found = ObjectIndex(spec, objects, annotation_file)
    rows, counts = _rows_of_images(listed, found, crowd)
    load = partial(
        _load,
        objects=objects,
        spec=spec,
        annotation_file=annotation_file,
        crowd=crowd,
        background=in_no_object,
        score_weights=score_weights,
    )
    data = SampleDataset(
        spec,
        rows.dataset(),
        load,
        [*rows.problems, *_strays(found, size_of)],
        [*notes, *found.notes()],
        stated_categories(annotation_file),
        counts.census(),
        frequencies=stated_frequencies(annotation_file),
    )
    return require_images(data, image_dir)


def _strays(found: ObjectIndex, known: Container[str]) -> list[BadSampleError]:
    """A problem for each image that has annotations but is not listed; `known`: `image_key` of
    those that are.
    """
    return [
        BadSampleError(
            f"{found.annotation_file}: image {key}: has annotations, but is not listed in "
            "`images`; list it, or remove them"
        )
        for key in found.image_keys()
        if key not in known
    ]


def _rows_of_images(
    listed: Sequence[ListedImage], found: ObjectIndex, crowd: Crowd
) -> tuple[Rows, TargetCounts]:
    """A row for each image that can be used, and what was counted."""
    counts = TargetCounts(len(found.spec.classes))
    rows = Rows({
        "image": pa.string(),
        "image_id": id_type((image.image_id for image in listed), found.annotation_file),
        "file_name": pa.string(),
        "height": pa.int64(),
        "width": pa.int64(),
        "objects": pa.list_(pa.int64()),
        "absent": pa.list_(pa.int64()),
        "in_part": pa.list_(pa.int64()),
    })  # fmt: skip
    for image in listed:
        with rows.image():
            if image.problem is not None:
                raise BadSampleError(image.problem)
            assert image.size is not None  # it is the image's own where the file states none
            indices = found.indices_of(image_key(image.image_id, ""))
            counts.add(found.classes[indices], found.is_crowd[indices] & (crowd == "ignore"))
            rows.add(
                image=image.path,
                image_id=image.image_id,
                file_name=image.file_name,
                height=image.size[0],
                width=image.size[1],
                objects=indices,
                absent=_classes_of(image.absent, found.spec),
                in_part=_classes_of(image.in_part, found.spec),
            )
    return rows, counts


def _classes_of(raw_ids: Sequence[int] | None, spec: DatasetSpec) -> list[int] | None:
    """Class indices of a list of LVIS; None where the file has none."""
    if raw_ids is None:
        return None
    return [index for raw_id in raw_ids if (index := class_or_void(spec, raw_id)) != VOID]


# --- loading


def _image(row: dict[str, Any], annotation_file: Path) -> tuple[ReadImage, Size]:
    """The image of a row and its height and width; BadSampleError if the JSON states others."""
    size = (row["height"], row["width"])
    image = read_image(row["image"], row["image"], size)
    require_same_size(image, row["image"], size, annotation_file)
    return image, size


def _load(
    row: dict[str, Any],
    *,
    objects: Dataset,
    spec: DatasetSpec,
    annotation_file: Path,
    crowd: Crowd,
    background: int,
    score_weights: bool,
) -> Sample:
    image, size = _image(row, annotation_file)
    found = objects[row["objects"]]
    instances = Instances(
        class_labels=np.array([class_or_void(spec, c) for c in found["category_id"]], np.int64),
        boxes=np.array(found["box"], dtype=np.float32).reshape(-1, 4),
        is_crowd=np.array(found["is_crowd"], dtype=bool) & (crowd == "ignore"),
    )
    if score_weights:
        instances.weights = np.array(found["weight"], dtype=np.float32)
    if spec.label_form != "boxes":
        where = f"{annotation_file}: image {row['image_id']}"
        instances.masks = _masks(found["segmentation"], size, where)
    if spec.label_form == "degrees":
        has_mask = [text is not None for text in found["segmentation"]]
        instances.degrees = np.where(has_mask, Degree.MASK, Degree.BOX).astype(np.int8)
    if spec.label_form != "classes":
        incomplete = _incomplete(row, instances.class_labels, len(spec.classes))
        remarks = _contradictions(row, instances.class_labels, spec)
        return image.sample(
            instances, row["image_id"], row["file_name"], remarks, tuple(incomplete)
        )
    painted = _painted(instances, len(spec.classes), size, background)
    return image.sample(painted, row["image_id"], row["file_name"])


def _incomplete(row: Mapping[str, Any], present: NDArray[np.int64], num_classes: int) -> list[int]:
    """Classes of which the image may show more than is annotated, by LVIS's two lists: those that
    are neither annotated nor known to be absent, and those annotated in part.
    """
    in_part = row["in_part"] or []
    if row["absent"] is None:  # nothing says what was looked for
        return sorted(set(in_part))
    looked_for = {*present.tolist(), *row["absent"]} - set(in_part)
    return [index for index in range(num_classes) if index not in looked_for]


def _contradictions(
    row: Mapping[str, Any], present: NDArray[np.int64], spec: DatasetSpec
) -> tuple[str, ...]:
    """What LVIS's lists say of classes that are annotated all the same."""
    return tuple(
        f"'{spec.labels[index]}' is annotated, though `neg_category_ids` says that the image shows "
        "none; the objects count"
        for index in sorted({*present.tolist()} & {*(row["absent"] or [])})
    )


def _painted(instances: Instances, num_classes: int, size: Size, background: int) -> Segments:
    """A class per pixel: smaller objects on larger ones, crowds void and below them."""
    assert instances.masks is not None
    class_map = np.full(size, background, dtype=np.int32)
    areas = instances.masks.sum(axis=(1, 2))
    # crowds first, then by falling area
    for place in np.lexsort((-areas, ~instances.is_crowd)).tolist():
        class_map[instances.masks[place]] = (
            VOID if instances.is_crowd[place] else instances.class_labels[place]
        )
    return segments_of_classes(class_map, num_classes)


def _masks(segmentations: Sequence[str | None], size: Size, where: str) -> NDArray[np.bool_]:
    """bool [M, H, W] of segmentations as JSON; empty for an object without one."""
    masks = np.zeros((len(segmentations), *size), dtype=bool)
    for mask, text in zip(masks, segmentations, strict=True):
        if text is not None:
            mask[:] = _mask(json.loads(text), size, where)
    return masks


def _mask(segmentation: Any, size: Size, where: str) -> NDArray[np.bool_]:
    if isinstance(segmentation, list):
        # what must not be cut was refused before
        return polygons_to_mask(segmentation, size, where, "clip")
    return decode_rle(segmentation, size, where)
