"""Options of `read_hub`, written once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, signature
from typing import Any, Literal, TypeAlias, TypeVar, get_type_hints

from ..sample import DatasetSpec
from .coco_json import Crowd

DataFiles: TypeAlias = str | Sequence[str] | Mapping[str, str | Sequence[str]]
BoxFormat: TypeAlias = Literal["xywh", "xyxy", "cxcywh"]
Options = TypeVar("Options")
Data = TypeVar("Data")

SHUFFLE_BUFFER = 1000  # rows, our setting: with images of 100 kB they take 100 MB


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where the rows of a dataset hold what.

    Args:
        image_column: column of the images.
        image_id_column: column of image ids, numbers or words.
        label_column: column of the maps of ids (semantic, panoptic).
        segments_column: column of the segments (panoptic).
        objects_column: column of the objects (boxes, instance).
        bbox_key: box of an object.
        category_key: category of an object.
        segmentation_key: segmentation of an object (instance).
        crowd_key: whether an object is a region of many.
        crowd: "as_objects" takes objects and segments with a crowd flag as ordinary ones.
        box_format: "xywh" (left, top, width, height), "xyxy" (left, top, right, bottom; right and
            bottom exclusive) or "cxcywh" (center, width, height).
        normalized: boxes are fractions of the image's width and height, not pixels.
    """

    image_column: str = "image"
    image_id_column: str | None = None
    label_column: str | None = None
    segments_column: str | None = None
    objects_column: str | None = None
    bbox_key: str = "bbox"
    category_key: str = "category"
    segmentation_key: str | None = None
    crowd_key: str | None = None
    crowd: Crowd = "ignore"
    box_format: BoxFormat = "xywh"
    normalized: bool = False

    def encoded_images(self) -> list[str]:
        """Columns that hold encoded images."""
        return [self.image_column, *([] if self.label_column is None else [self.label_column])]

    def read(self) -> list[str]:
        """All columns that are read, each once."""
        others = [self.segments_column, self.objects_column, self.image_id_column]
        named = [column for column in others if column is not None]
        return list(dict.fromkeys([*self.encoded_images(), *named]))


@dataclass(frozen=True, kw_only=True)
class HubOptions(Columns):
    """Which rows of which dataset are read, and where they hold what.

    Args:
        path: id of a dataset on the Hub, a folder, or the name of a format such as "parquet" with
            `data_files`.
        name: configuration of the dataset, where it has several.
        split: its split.
        revision: branch, tag or commit on the Hub; only a commit makes a run repeatable.
        data_files: files, or patterns of them, in place of all of the dataset.
        data_dir: sub-folder of the dataset.
        streaming: read rows in passing, without a copy on disk; the result is a `SampleStream`.
        shuffle_buffer: rows held to shuffle a stream (see `stream_order`).
    """

    path: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    data_files: DataFiles | None = None
    data_dir: str | None = None
    streaming: bool = False
    shuffle_buffer: int = SHUFFLE_BUFFER

    def of_rows(self) -> dict[str, Any]:
        """What `datasets.load_dataset` is told."""
        names = ("path", "name", "split", "revision", "data_files", "data_dir", "streaming")
        return {name: getattr(self, name) for name in names}


def takes(
    kind: type[Options],
) -> Callable[[Callable[[DatasetSpec, Options], Data]], Callable[..., Data]]:
    """Give a reader the fields of a dataclass as keyword arguments, in its signature too, which
    settings are checked against.
    """
    options = [
        parameter.replace(kind=Parameter.KEYWORD_ONLY)
        for parameter in signature(kind).parameters.values()
    ]

    def decorate(read: Callable[[DatasetSpec, Options], Data]) -> Callable[..., Data]:
        @wraps(read)
        def reader(spec: DatasetSpec, **given: Any) -> Data:
            return read(spec, kind(**given))

        own = signature(read)
        first = next(iter(own.parameters.values()))
        reader.__signature__ = own.replace(parameters=[first, *options])  # type: ignore[attr-defined]
        hints = get_type_hints(read)
        reader.__annotations__ = {**get_type_hints(kind), first.name: hints[first.name]}
        reader.__annotations__["return"] = hints["return"]
        return reader

    return decorate
