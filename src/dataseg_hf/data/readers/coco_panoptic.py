"""COCO panoptic format: one RGB PNG per image and one JSON file
(https://cocodataset.org/#format-data).
"""

from array import array
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..sample import BadSampleError, DatasetSpec, Sample, SampleDataset
from .class_ids import ClassIds, TargetCounts
from .coco_json import (
    Crowd,
    ListedImage,
    image_key,
    json_items,
    listed_images,
    require_image_id,
    stated_categories,
)
from .id_maps import read_rgb_ids
from .images import read_image, require_same_size
from .mask_weights import mask_weight
from .panoptic_segments import SEGMENTS_TYPE, panoptic_segments, require_segment_ids, without_pixel
from .paths import MissingImages, StrPath, file_locator, inside, require_folder
from .reader_tasks import require_task
from .rows import Rows, id_type, require_images
from .values import category_id, flag, require_key, whole_number


def read_coco_panoptic(
    spec: DatasetSpec,
    images: StrPath,
    annotations: StrPath,
    annotation_file: StrPath,
    *,
    missing_images: MissingImages = "error",
    file_name_pattern: Sequence[str] | None = None,
    crowd: Crowd = "ignore",
    score_weights: bool = False,
) -> SampleDataset:
    """COCO panoptic format: a pixel's segment id is R + 256 G + 65536 B; 0 is void.

    `segments_info` gives category and crowd flag per segment. Segments of a category that the spec
    calls void become void pixels; listed segments without a pixel are left out, with a remark. Rows
    are sorted by image id.

    Args:
        spec: the dataset; its raw ids are the JSON's category ids.
        images: folder of the images.
        annotations: folder of the PNGs.
        annotation_file: the JSON file.
        missing_images: what to do with a listed image that is not in `images`; "skip" leaves it
            out.
        file_name_pattern: (pattern, replacement) for `re.sub`, from the listed file names to those
            below `images`.
        crowd: "as_objects" takes segments with `iscrowd: 1` as ordinary ones.
        score_weights: whether the `score` of a segment weighs its mask in the losses, as files of
            `dataseg complete` have it; segments without one count whole.

    Raises:
        FileNotFoundError: for a missing folder or JSON file.
        ValueError: for a file that is no such JSON, or no image at all. Faults of single images are
            `problems` of the dataset, or a BadSampleError on loading (segments that differ between
            PNG and JSON, different sizes).
    """
    require_task(spec, "coco_panoptic")
    image_dir, annotation_dir = require_folder(images), require_folder(annotations)
    annotation_file = Path(annotation_file)
    notes: list[str] = []
    listed, size_of = listed_images(
        annotation_file, image_dir, missing_images, file_locator(file_name_pattern), notes
    )
    class_ids, counts = ClassIds(spec, "segment"), TargetCounts(len(spec.classes))
    entries, strays = _entries_of_images(
        annotation_file, class_ids, listed, size_of.keys(), score_weights
    )
    rows = Rows({
        "image": pa.string(),
        "annotation": pa.string(),
        "image_id": id_type((image.image_id for image in listed), annotation_file),
        "file_name": pa.string(),
        "segments": SEGMENTS_TYPE,
    })  # fmt: skip
    for image in listed:
        with rows.image():
            if image.problem is not None:
                raise BadSampleError(image.problem)
            found = entries.pop(image_key(image.image_id, ""), [])
            where = f"{annotation_file}: image {image.image_id}"
            map_path, segments, weights = _map_and_segments(found, annotation_dir, where)
            is_crowd = (segments[:, 2] == 1) & (crowd == "ignore")
            counts.add(segments[:, 1], is_crowd)
            rows.add(
                image=image.path,
                annotation=str(map_path),
                image_id=image.image_id,
                file_name=image.file_name,
                segments=_segment_rows(segments, is_crowd, weights),
            )
    data = SampleDataset(
        spec,
        rows.dataset(),
        _load,
        [*rows.problems, *strays],
        [*notes, *class_ids.notes()],
        stated_categories(annotation_file),
        counts.census(),
    )
    return require_images(data, image_dir)


_Entry: TypeAlias = tuple[Any, NDArray[np.int64], Sequence[float] | None]
"""File name of the PNG; its segments [M, 3]: segment id, class index or -1 for void, is crowd (0 or
1); their weights where scores are asked for.
"""


def _entries_of_images(
    annotation_file: Path,
    class_ids: ClassIds,
    listed: Sequence[ListedImage],
    known: Collection[str],
    score_weights: bool,
) -> tuple[dict[str, list[_Entry | BadSampleError]], list[BadSampleError]]:
    """The entries of `annotations` by `image_key`, of listed images that are there.

    Args:
        annotation_file: the JSON file.
        class_ids: of the dataset.
        listed: the images that are there.
        known: `image_key` of all entries of `images`.
        score_weights: whether scores are read.

    Returns:
        The entries, and a problem for each one of an image that `images` does not list.
    """
    entries: dict[str, list[_Entry | BadSampleError]] = {
        image_key(image.image_id, ""): [] for image in listed
    }
    strays: list[BadSampleError] = []
    for entry in json_items(annotation_file, "annotations"):
        image_id = require_image_id(entry, "image_id", f"{annotation_file}: annotations")
        key, where = image_key(image_id, ""), f"{annotation_file}: image {image_id}"
        if key in entries:
            entries[key].append(_entry(class_ids, entry, where, score_weights))
        elif key not in known:
            message = (
                f"{where}: has an annotation, but is not listed in `images`; list it, or remove "
                "the annotation"
            )
            strays.append(BadSampleError(message))
    return entries, strays


def _entry(
    class_ids: ClassIds, entry: Any, where: str, score_weights: bool
) -> _Entry | BadSampleError:
    """An entry of `annotations`, packed, since a file may have 120,000; or what is wrong with
    it.
    """
    try:
        infos = require_key(entry, "segments_info", where)
        if not isinstance(infos, list):
            raise BadSampleError(
                f"{where}: `segments_info` must be a list with an entry per segment, not {infos!r}"
            )
        segments = []
        for info in infos:
            raw_id = category_id(require_key(info, "category_id", where), f"{where}, `category_id`")
            segment_id = whole_number(require_key(info, "id", where), f"{where}, segment `id`")
            is_crowd = flag(info.get("iscrowd"), f"{where}, segment {segment_id}, `iscrowd`")
            segments.append((segment_id, class_ids.index(raw_id), is_crowd))
        class_ids.end_image(where)
        require_segment_ids([segment_id for segment_id, _, _ in segments], where)
        weights = None
        if score_weights:
            weights = array("f", [mask_weight(i, f"{where}, segment {i['id']}") for i in infos])
        packed = np.array(segments, dtype=np.int64).reshape(-1, 3)
        return require_key(entry, "file_name", where), packed, weights
    except BadSampleError as error:
        return error


def _segment_rows(
    segments: NDArray[np.int64], is_crowd: NDArray[np.bool_], weights: Sequence[float] | None
) -> list[dict[str, Any]]:
    """Entries of a column of type `SEGMENTS_TYPE`, of the segments [M, 3] of an `_Entry`."""
    known: Sequence[float | None] = [None] * len(segments) if weights is None else weights
    listed = zip(segments.tolist(), is_crowd.tolist(), known, strict=True)
    return [
        {"id": segment_id, "class_index": class_index, "is_crowd": flagged, "weight": weight}
        for (segment_id, class_index, _), flagged, weight in listed
    ]


def _map_and_segments(
    found: Sequence[_Entry | BadSampleError], annotation_dir: Path, where: str
) -> tuple[Path, NDArray[np.int64], Sequence[float] | None]:
    """The PNG of an image and its segments, as `_Entry`; BadSampleError where one is missing."""
    map_name, segments, weights = _only(found, where)
    map_path = inside(annotation_dir, map_name, where)
    if not map_path.is_file():
        raise BadSampleError(f"{map_path}: missing, the annotation of {where}; add it")
    return map_path, segments, weights


def _only(found: Sequence[_Entry | BadSampleError], where: str) -> _Entry:
    if not found:
        raise BadSampleError(
            f"{where}: listed in `images`, but has no entry in `annotations`; add one, or unlist it"
        )
    if len(found) > 1:
        raise BadSampleError(
            f"{where}: {len(found)} entries in `annotations`; panoptic format has one per image"
        )
    if isinstance(found[0], BadSampleError):
        raise found[0]
    return found[0]


def _load(row: dict[str, Any]) -> Sample:
    ids = read_rgb_ids(row["annotation"], row["annotation"])
    image = read_image(row["image"], row["image"], (ids.shape[0], ids.shape[1]))
    require_same_size(image, row["image"], ids.shape, row["annotation"])
    listed = [
        (segment["id"], segment["class_index"], segment["is_crowd"]) for segment in row["segments"]
    ]
    weights = [segment["weight"] for segment in row["segments"]]
    scored = weights if weights and weights[0] is not None else None
    segments, hidden = panoptic_segments(ids, listed, row["annotation"], scored)
    remarks = without_pixel(hidden, row["annotation"])
    return image.sample(segments, row["image_id"], row["file_name"], remarks)
