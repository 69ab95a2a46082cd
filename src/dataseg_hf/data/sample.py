"""What a reader hands on: one image with its annotation in original resolution, and the dataset it belongs to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

TaskName: TypeAlias = Literal["panoptic", "semantic", "instance", "boxes"]
RawId: TypeAlias = int | str
"""How a file names a category, by a number (COCO, PNGs, YOLO) or a word (Pascal VOC, LabelMe)."""


class BadSampleError(ValueError):
    """An image or its annotation cannot be used; the message names the file or image id, what is wrong, what to do."""


@dataclass(frozen=True)
class ClassInfo:
    """One category: its name, as the text encoder reads it, and whether it is countable."""

    name: str
    is_thing: bool


@dataclass(frozen=True)
class DatasetSpec:
    """The facts of one dataset, independent of where its files lie and of any run.

    `id_map` maps every raw category id to an index into `classes`; `void_ids` lists the raw ids that mean "unlabelled".
    A raw id in neither is an error of the reader, never a guess. `reader` names the format of the published files (see
    `data.readers.READERS`), `reader_options` what that reader must know of them, such as file name endings.
    """

    name: str
    task: TaskName
    classes: tuple[ClassInfo, ...]
    id_map: Mapping[RawId, int]
    void_ids: frozenset[RawId] = frozenset()
    licence: str = "unknown"
    homepage: str = ""
    reader: str = ""
    reader_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """Category names in class order."""
        return [c.name for c in self.classes]

    @property
    def is_thing(self) -> list[bool]:
        """Thing flags in class order."""
        return [c.is_thing for c in self.classes]

    def class_index(self, raw_id: RawId, where: str) -> int | None:
        """Class index of a raw id, None for void.

        Raises:
            BadSampleError: for an id that the spec neither maps nor calls void; the message begins with `where` (file,
                image id).
        """
        if raw_id in self.id_map:
            return self.id_map[raw_id]
        if raw_id in self.void_ids:
            return None
        raise BadSampleError(
            f"{where}: category id {raw_id!r} is not in the id map of dataset '{self.name}'; "
            "add it to `id_map`, or to `void_ids` if its pixels are to count as unlabelled"
        )


@dataclass
class Segments:
    """Annotation in which a pixel belongs to at most one segment (panoptic, semantic).

    Args:
        segment_map: int32 [H, W], index into `class_labels`, -1 where void (unlabelled).
        class_labels: int64 [M], class index per segment. Semantic annotation has one segment per class that occurs.
        is_crowd: bool [M]; a crowd segment is neither target nor background in training, and excuses predictions of its
            class in panoptic quality (COCO's rule).
    """

    segment_map: NDArray[np.int32]
    class_labels: NDArray[np.int64]
    is_crowd: NDArray[np.bool_]


@dataclass
class Instances:
    """Annotation by object; objects may overlap (instance masks, boxes).

    Args:
        class_labels: int64 [M].
        boxes: float32 [M, 4], xyxy in pixels of the image.
        is_crowd: bool [M]: a region of many objects that is neither target nor background.
        masks: bool [M, H, W], or None where only boxes are annotated.
    """

    class_labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    is_crowd: NDArray[np.bool_]
    masks: NDArray[np.bool_] | None = None


Annotation: TypeAlias = Segments | Instances


@dataclass
class Sample:
    """One image with its annotation.

    Args:
        image: uint8 RGB [H, W, 3].
        annotation: of the same height and width.
    """

    image: NDArray[np.uint8]
    annotation: Annotation
    image_id: int | str
    file_name: str


@dataclass(frozen=True)
class SampleDataset:
    """A map-style dataset: rows that are cheap to hold (paths, ids), and the function that loads one of them.

    Args:
        rows: a `datasets.Dataset` of paths and ids (or any sequence); rows hold no pixels.
        load: `load(row)` reads the files and returns the Sample, or raises BadSampleError. Indexable from any worker
            process.
        problems: one message per image that had to be left out of the rows, as its annotation cannot be used.
        notes: what a user should know of and may be meant, such as listed images that are absent from a subset.
    """

    spec: DatasetSpec
    rows: Sequence[Any] = field(repr=False)
    load: Callable[[Any], Sample] = field(repr=False)
    problems: Sequence[str] = field(default=(), repr=False)
    notes: Sequence[str] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        return self.load(self.rows[index])

    def select(self, indices: range) -> "SampleDataset":
        """The rows of those indices, in their order."""
        if isinstance(self.rows, Dataset):
            return replace(self, rows=self.rows.select(indices))
        return replace(self, rows=[self.rows[i] for i in indices])

    def part(self, index: int, of: int) -> "SampleDataset":
        """Every `of`-th row, starting at `index`: disjoint parts by a fixed rule."""
        return self.select(range(index, len(self.rows), of))


@dataclass(frozen=True)
class SampleStream:
    """A dataset that can only be read in order (a Hub dataset with `streaming=True`).

    Args:
        epoch: `epoch(seed)` starts a pass: an iterator over rows in an order that is a function of the seed; rows may
            hold encoded images.
        load: as in `SampleDataset`.
        size: number of rows where it is known.
    """

    spec: DatasetSpec
    epoch: Callable[[int], Iterator[Any]] = field(repr=False)
    load: Callable[[Any], Sample] = field(repr=False)
    size: int | None = None
