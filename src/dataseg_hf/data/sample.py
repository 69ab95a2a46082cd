"""What a reader hands on: one image with its annotation in original resolution, and the dataset it
belongs to.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..messages import first_few, shortened
from ..model.tasks_dataseg import LabelForm, get_task
from ..model.tasks_dataseg import TaskName as TaskName
from .names import plain_name

RawId: TypeAlias = int | str
"""How a file names a category, by a number (COCO, PNGs, YOLO) or a word (Pascal VOC, LabelMe)."""


Frequency: TypeAlias = Literal["rare", "common", "frequent"]
"""Of a class in training: in up to 10, in up to 100, or in more of LVIS's images."""
FREQUENCIES: tuple[Frequency, ...] = get_args(Frequency)
"""In ascending order."""


Coverage: TypeAlias = Literal["everything", "objects"]
"""What was annotated in a dataset, see `DatasetSpec`."""


class BadSampleError(ValueError):
    """An image or its annotation cannot be used; the message names the file or image id, what is
    wrong, what to do, in at most 2,000 letters.
    """

    def __init__(self, message: object) -> None:
        super().__init__(shortened(str(message)))


class UnknownIdsError(BadSampleError):
    """An image has category ids that the spec neither maps nor calls void.

    Args:
        where: file, key or image id, with which the message begins.
        dataset: name of the dataset.
        counts: how often each id occurs in the image, in `unit`.
        unit: "object", "segment" or "pixel".
    """

    def __init__(self, where: str, dataset: str, counts: Mapping[RawId, int], unit: str) -> None:
        super().__init__(f"{where}: {unknown_ids_text(dataset, counts, unit)}")
        self.where, self.dataset, self.counts, self.unit = where, dataset, Counter(counts), unit

    # exceptions pickle by their `args`, which hold the message only
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.where, self.dataset, self.counts, self.unit)


MAX_NAMED_IDS = 8  # in a message


def unknown_ids_text(dataset: str, counts: Mapping[RawId, int], unit: str) -> str:
    """What is said of unknown category ids: how many, which, how often, the remedy."""
    most_frequent = Counter(counts).most_common()
    named = [
        f"{raw_id!r} ({count} {unit}{'' if count == 1 else 's'})" for raw_id, count in most_frequent
    ]
    subject = (
        "1 category id is" if len(most_frequent) == 1 else f"{len(most_frequent)} category ids are"
    )
    return (
        f"{subject} not in the spec of dataset '{dataset}': {first_few(named, MAX_NAMED_IDS)}; "
        "add each to the `ids` of a class or to `void_ids`, or set `unknown_ids: void` in the entry"
    )


@dataclass(frozen=True)
class ClassInfo:
    """One category.

    Args:
        name: as the text encoder reads it.
        is_thing: whether it is countable.
        aliases: what the dataset's own files call it where that is not the name.
        exhaustive: whether an image shows none of it where none is annotated.
    """

    name: str
    is_thing: bool
    aliases: tuple[str, ...] = ()
    exhaustive: bool = True


@dataclass(frozen=True)
class DatasetSpec:
    """The facts of one dataset, independent of where its files lie and of any run.

    `id_map` maps every raw category id to an index into `classes`; `void_ids` lists the raw ids
    that mean "unlabeled". A raw id in neither is an error of the reader, or void where
    `unknown_ids` says so, never a guess. Words match whatever their case, spaces, hyphens and
    underscores are. `reader` names the format of the published files (see `data.readers.READERS`),
    `reader_options` what that reader must know of them, such as file name endings. `outside` says
    what becomes of outlines that reach far out of their image. `annotated` says what an image shows
    where nothing is annotated: nothing that other datasets of a mix name ("everything"), or perhaps
    their stuff ("objects"; annotation by object only).
    """

    name: str
    task: TaskName
    classes: tuple[ClassInfo, ...]
    id_map: Mapping[RawId, int]
    void_ids: frozenset[RawId] = frozenset()
    license: str = "unknown"
    homepage: str = ""
    reader: str = ""
    reader_options: Mapping[str, Any] = field(default_factory=dict)
    unknown_ids: Literal["error", "void"] = "error"
    outside: Literal["error", "clip"] = "error"
    annotated: Coverage = "everything"

    @property
    def label_form(self) -> LabelForm:
        """What its annotation holds, by its task."""
        return get_task(self.task).label_form

    @property
    def labels(self) -> list[str]:
        """Category names in class order."""
        return [c.name for c in self.classes]

    @property
    def is_thing(self) -> list[bool]:
        """Thing flags in class order."""
        return [c.is_thing for c in self.classes]

    @cached_property
    def _class_of_word(self) -> Mapping[str, int | None]:
        """Class index, None for void, of raw ids that are words, by their plain name; ambiguous
        ones are left out.
        """
        words: dict[str, set[int | None]] = {}
        for raw_id, class_index in [
            *self.id_map.items(),
            *((raw_id, None) for raw_id in self.void_ids),
        ]:
            if isinstance(raw_id, str):
                words.setdefault(plain_name(raw_id), set()).add(class_index)
        return {word: next(iter(found)) for word, found in words.items() if len(found) == 1}

    def knows(self, raw_id: RawId) -> bool:
        """Whether the spec maps a raw id or calls it void."""
        known = raw_id in self.id_map or raw_id in self.void_ids
        return known or (isinstance(raw_id, str) and plain_name(raw_id) in self._class_of_word)

    def class_index(self, raw_id: RawId, where: str) -> int | None:
        """Class index of a raw id, None for void.

        Raises:
            UnknownIdsError: for an id that the spec neither maps nor calls void, unless
                `unknown_ids` is "void"; the message begins with `where` (file, image id).
        """
        if raw_id in self.id_map:
            return self.id_map[raw_id]
        if raw_id in self.void_ids:
            return None
        if isinstance(raw_id, str) and plain_name(raw_id) in self._class_of_word:
            return self._class_of_word[plain_name(raw_id)]
        if self.unknown_ids == "void":
            return None
        raise UnknownIdsError(where, self.name, {raw_id: 1}, "object")


@dataclass
class Segments:
    """Annotation in which a pixel belongs to at most one segment (panoptic, semantic).

    Args:
        segment_map: int32 [H, W], index into `class_labels`, -1 where void (unlabeled).
        class_labels: int64 [M], class index per segment. Semantic annotation has one segment per
            class that occurs.
        is_crowd: bool [M]; a crowd segment is neither target nor background in training, and
            excuses predictions of its class in panoptic quality (COCO's rule).
        weights: float32 [M], 0..1, of each segment in the mask losses; None for 1 everywhere.
    """

    segment_map: NDArray[np.int32]
    class_labels: NDArray[np.int64]
    is_crowd: NDArray[np.bool_]
    weights: NDArray[np.float32] | None = None


@dataclass
class Instances:
    """Annotation by object; objects may overlap (instance masks, boxes).

    Args:
        class_labels: int64 [M].
        boxes: float32 [M, 4], xyxy in pixels of the image; of objects without mask and box, the
            whole image.
        is_crowd: bool [M]: a region of many objects that is neither target nor background.
        masks: bool [M, H, W], or None where only boxes are annotated; empty for an object without
            mask.
        degrees: int8 [M], a `Degree` each, where objects differ in what is known of them (task
            `objects`).
        points: float32 [M, P, 2], (x, y) in pixels, points inside of objects of degree POINT, NaN
            elsewhere; None where there are none.
        weights: float32 [M], 0..1, of each object in the mask losses; None for 1 everywhere.
    """

    class_labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    is_crowd: NDArray[np.bool_]
    masks: NDArray[np.bool_] | None = None
    degrees: NDArray[np.int8] | None = None
    points: NDArray[np.float32] | None = None
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.class_labels)

    def select(self, kept: NDArray[np.bool_] | NDArray[np.intp]) -> "Instances":
        """The objects of these indices."""

        def part(values: Any) -> Any:
            return None if values is None else values[kept]

        return Instances(*(part(getattr(self, one.name)) for one in fields(self)))


Annotation: TypeAlias = Segments | Instances


@dataclass(frozen=True)
class Reduction:
    """How an image was decoded at a lower scale than it is stored in.

    Args:
        size: height and width of the image in its file, upright, to which annotation refers.
        window: left, top, right and bottom of that image, in pixels of the decoded one, whose last
            row and column it may fill in part.
    """

    size: tuple[int, int]
    window: tuple[float, float, float, float]


@dataclass
class Sample:
    """One image with its annotation.

    Args:
        image: uint8 RGB [H, W, 3].
        annotation: of the same height and width; of `reduction.size` where there is a reduction.
        remarks: what a user should know of this image though it can be used.
        incomplete: classes of which this image may show more than its annotation has, beside those
            of which every image may.
        reduction: of an image that was decoded smaller; only where `decoded_for` allows it.
    """

    image: NDArray[np.uint8]
    annotation: Annotation
    image_id: int | str
    file_name: str
    remarks: tuple[str, ...] = ()
    incomplete: Sequence[int] = ()
    reduction: Reduction | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the annotation."""
        if self.reduction is not None:
            return self.reduction.size
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class Census:
    """What a reader counted without loading an image.

    Args:
        objects: int64 [C], segments or objects of each class, crowds among them.
        crowds: int64 [C], how many of them are crowds.
        fewest: the smallest number of targets (crowds left out) in an image; 0 without images.
    """

    objects: NDArray[np.int64]
    crowds: NDArray[np.int64]
    fewest: int


@dataclass(frozen=True)
class SampleDataset:
    """A map-style dataset: rows that are cheap to hold (paths, ids), and the function that loads
    one of them.

    Args:
        rows: a `datasets.Dataset` of paths and ids (or any sequence); rows hold no pixels.
        load: `load(row)` reads the files and returns the Sample, or raises BadSampleError.
            Indexable from any worker process.
        problems: one for each image that had to be left out of the rows, as its annotation cannot
            be used.
        notes: what a user should know of and may be meant, such as listed images that are absent
            from a subset.
        stated_names: what the files call each raw id, where they do.
        census: what the reader counted; None where that takes loading the images.
        ignored_as: the files' own word for objects that are neither target nor background.
        ignored_remedy: what to do where all objects are ignored and should not be; empty for the
            reader's switch, an option of that word.
        frequencies: how often the training images show each raw id, where the files say so (LVIS).
    """

    spec: DatasetSpec
    rows: Sequence[Any] = field(repr=False)
    load: Callable[[Any], Sample] = field(repr=False)
    problems: Sequence[BadSampleError] = field(default=(), repr=False)
    notes: Sequence[str] = field(default=(), repr=False)
    stated_names: Mapping[RawId, str] = field(default_factory=dict, repr=False)
    census: Census | None = field(default=None, repr=False)
    ignored_as: str = "crowd"
    ignored_remedy: str = field(default="", repr=False)
    frequencies: Mapping[RawId, Frequency] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        return self.load(self.rows[index])

    def select(self, indices: range) -> "SampleDataset":
        """The rows of those indices, in their order; the census, which is of all rows, is
        dropped.
        """
        select = getattr(self.rows, "select", None)  # of a `datasets.Dataset`, slow to import
        if select is not None:
            return replace(self, rows=select(indices), census=None)
        return replace(self, rows=[self.rows[i] for i in indices], census=None)

    def part(self, index: int, of: int) -> "SampleDataset":
        """Every `of`-th row, starting at `index`: disjoint parts by a fixed rule."""
        return self.select(range(index, len(self.rows), of))


@dataclass(frozen=True)
class SampleStream:
    """A dataset that can only be read in order (a Hub dataset with `streaming=True`).

    Args:
        epoch: `epoch(seed)` starts a pass: an iterator over rows in an order that is a function of
            the seed; rows may hold encoded images.
        load: as in `SampleDataset`.
        size: number of rows where it is known.
        stated_names: as in `SampleDataset`.
    """

    spec: DatasetSpec
    epoch: Callable[[int], Iterator[Any]] = field(repr=False)
    load: Callable[[Any], Sample] = field(repr=False)
    size: int | None = None
    stated_names: Mapping[RawId, str] = field(default_factory=dict, repr=False)
