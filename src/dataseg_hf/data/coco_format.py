"""COCO's JSON and panoptic PNG, as every writer of this package fills them
(https://cocodataset.org/#format-data).

Needs numpy only, since the demo Space writes COCO files without the rest of the package.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .rle import run_lengths

Size = tuple[int, int]  # height, width
Entry = dict[str, Any]


class CocoSegment(Protocol):
    """What an annotation is written from; `prediction.segments.Segment` is one."""

    @property
    def label_id(self) -> int:
        """Index into the categories."""

    @property
    def score(self) -> float | None:
        """0..1; None for a result without scores."""

    @property
    def area(self) -> int:
        """Pixels."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width, height in pixels of the image."""

    def within(self, rows: slice, columns: slice) -> NDArray[np.bool_]:
        """The mask in a rectangle of the image: bool [h, w], the size of the rectangle."""


def category_ids(num_classes: int, id_map: Mapping[Any, int] | None = None) -> list[int]:
    """The category id of each class: the dataset's own where each class has exactly one whole
    number, otherwise 1, 2, 3, ... in the order of the classes.

    Args:
        num_classes: C.
        id_map: class index (0..C-1) of each raw id, as `DatasetSpec.id_map`; None where no dataset
            is known, as for the vocabulary of a checkpoint.

    Returns:
        Ids [C], all different.
    """
    counted = list(range(1, num_classes + 1))
    numbers: list[list[int]] = [[] for _ in range(num_classes)]
    for raw_id, class_index in (id_map or {}).items():
        if not isinstance(raw_id, int):
            return counted
        numbers[class_index].append(raw_id)
    return [ids[0] for ids in numbers] if all(len(ids) == 1 for ids in numbers) else counted


def coco_categories(
    names: Sequence[str], is_thing: Sequence[bool], ids: Sequence[int] | None = None
) -> list[Entry]:
    """`categories` of a COCO file.

    Args:
        names: [C].
        is_thing: bool [C], whether each is countable.
        ids: [C], of `category_ids`; None for 1, 2, 3, ...

    Raises:
        ValueError: for arguments of different lengths.
    """
    ids = category_ids(len(names)) if ids is None else ids
    return [
        {"id": category_id, "name": name, "isthing": int(thing)}
        for category_id, name, thing in zip(ids, names, is_thing, strict=True)
    ]


def coco_object(
    segment: CocoSegment, ids: Sequence[int] | None = None, is_crowd: bool = False
) -> Entry:
    """What all formats of COCO say of an object: category, area and box in pixels, crowd flag, and
    score where there is one.

    Args:
        segment: the object.
        ids: [C], of `category_ids`; None for 1, 2, 3, ...
        is_crowd: whether it is a group.
    """
    entry: Entry = {
        "category_id": segment.label_id + 1 if ids is None else ids[segment.label_id],
        "area": segment.area,
        "bbox": list(segment.box),
        "iscrowd": int(is_crowd),
    }
    return entry if segment.score is None else {**entry, "score": float(segment.score)}


def coco_rle(segment: CocoSegment, size: Size) -> Entry:
    """`segmentation` as uncompressed run lengths, in an image of that height and width."""
    whole = slice(0, size[0]), slice(0, size[1])
    return {"size": list(size), "counts": run_lengths(segment.within(*whole))}


def coco_annotations(
    segments: Sequence[CocoSegment],
    image_id: int | str,
    size: Size,
    first_id: int = 1,
    ids: Sequence[int] | None = None,
) -> list[Entry]:
    """`annotations` of COCO's instances format, with a score for each segment that has one.

    Args:
        segments: of one image.
        image_id: of the image.
        size: its height and width in pixels.
        first_id: of the annotations, which count on from it.
        ids: as for `coco_object`.
    """
    return [
        {
            "id": number,
            "image_id": image_id,
            **coco_object(segment, ids),
            "segmentation": coco_rle(segment, size),
        }
        for number, segment in enumerate(segments, start=first_id)
    ]


def coco_panoptic_annotation(
    segments: Sequence[CocoSegment],
    image_id: int | str,
    map_file: str,
    ids: Sequence[int] | None = None,
    segment_ids: Sequence[int] | None = None,
    is_crowd: Sequence[bool] | None = None,
) -> Entry:
    """The entry of an image in `annotations` of COCO's panoptic format.

    Args:
        segments: [M], of one image.
        image_id: of the image.
        map_file: name of its id map (`rgb_ids`).
        ids: as for `coco_object`.
        segment_ids: [M], of the segments in the id map; None for 1, 2, 3, ...
        is_crowd: [M], which segments are groups; None if no segment is.

    Raises:
        ValueError: for arguments of different lengths.
    """
    numbers = segment_ids or range(1, len(segments) + 1)
    crowds = is_crowd or [False] * len(segments)
    infos = [
        {"id": number, **coco_object(segment, ids, crowd)}
        for segment, number, crowd in zip(segments, numbers, crowds, strict=True)
    ]
    return {"image_id": image_id, "file_name": map_file, "segments_info": infos}


def coco_file(
    images: Iterable[Mapping[str, Any]],
    annotations: Iterable[Mapping[str, Any]],
    categories: Iterable[Mapping[str, Any]],
) -> Entry:
    """A whole COCO file; `images` have `id`, `file_name`, `height`, `width`."""
    return {
        "images": list(images),
        "annotations": list(annotations),
        "categories": list(categories),
    }


def rgb_ids(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Ids [H, W] as COCO's panoptic PNG holds them: uint8 [H, W, 3], id = R + 256 G + 65536 B."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
