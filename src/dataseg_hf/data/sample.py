"""What a reader hands on: one image with its annotation in original resolution, and the dataset it belongs to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

TaskName: TypeAlias = Literal["panoptic", "semantic", "instance", "boxes"]


@dataclass(frozen=True)
class ClassInfo:
    """One category: its name, as the text encoder reads it, and whether it is countable."""

    name: str
    is_thing: bool


@dataclass(frozen=True)
class DatasetSpec:
    """The facts of one dataset, independent of where its files lie and of any run.

    `id_map` maps every raw category id to an index into `classes`; `void_ids` lists the raw ids that mean "unlabelled".
    A raw id in neither is an error of the reader, never a guess.
    """

    name: str
    task: TaskName
    classes: tuple[ClassInfo, ...]
    id_map: Mapping[int, int]
    void_ids: frozenset[int] = frozenset()
    licence: str = "unknown"
    homepage: str = ""

    @property
    def labels(self) -> list[str]:
        """Category names in class order."""
        return [c.name for c in self.classes]

    @property
    def is_thing(self) -> list[bool]:
        """Thing flags in class order."""
        return [c.is_thing for c in self.classes]

    def class_index(self, raw_id: int, where: str) -> int | None:
        """Class index of a raw id, None for void.

        Raises:
            ValueError: for an id that the spec neither maps nor calls void; `where` (file, image id) is in the message.
        """
        if raw_id in self.id_map:
            return self.id_map[raw_id]
        if raw_id in self.void_ids:
            return None
        raise ValueError(
            f"{where}: category id {raw_id} is not in the id map of dataset '{self.name}'; "
            "add it to `id_map`, or to `void_ids` if its pixels are to count as unlabelled"
        )


@dataclass
class Segments:
    """Annotation in which a pixel belongs to at most one segment (panoptic, semantic).

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

    class_labels: int64 [M]. boxes: float32 [M, 4], xyxy in pixels of the image. is_crowd: bool [M]: a region of many
    objects that is neither target nor background. masks: bool [M, H, W], or None where only boxes are annotated.
    """

    class_labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    is_crowd: NDArray[np.bool_]
    masks: NDArray[np.bool_] | None = None


Annotation: TypeAlias = Segments | Instances


@dataclass
class Sample:
    """One image with its annotation. image: uint8 RGB [H, W, 3], same height and width as the annotation."""

    image: NDArray[np.uint8]
    annotation: Annotation
    image_id: int | str
    file_name: str


@dataclass(frozen=True)
class SampleDataset:
    """A map-style dataset: rows that are cheap to hold (paths, ids), and the function that loads one of them.

    `load(row)` reads the files and returns the Sample; rows hold no pixels. Indexable from any worker process.
    """

    spec: DatasetSpec
    rows: Sequence[Any] = field(repr=False)
    load: Callable[[Any], Sample] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        return self.load(self.rows[index])

    def part(self, index: int, of: int) -> "SampleDataset":
        """Every `of`-th row, starting at `index`: disjoint parts by a fixed rule."""
        rows = [self.rows[i] for i in range(index, len(self.rows), of)]
        return SampleDataset(self.spec, rows, self.load)
