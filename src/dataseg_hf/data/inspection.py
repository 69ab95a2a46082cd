"""Whether a dataset can be trained on: its rows loaded once, counted, and held against what a
Sample promises.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..messages import first_few
from ..model.degrees_dataseg import Degree
from .degree_counts import DegreeTally, degrees_of
from .faults import classes_without_target, dataset_faults, ignored_objects, too_many_targets
from .image_values import ImageFacts, ValueTally, watched_images
from .inspection_report import ClassCount, Inspection
from .problems import Problem, remark_lines
from .sample import (
    BadSampleError,
    Census,
    DatasetSpec,
    Instances,
    SampleDataset,
    SampleStream,
    Segments,
)
from .sample_faults import sample_faults

_MAX_NAMES = 8  # in a note


def inspect_dataset(
    name: str,
    data: SampleDataset | SampleStream,
    check: int | None,
    num_workers: int = 0,
    num_queries: int | None = None,
) -> Inspection:
    """Load rows of a dataset, with a progress bar on stderr, and say what is in them and what is
    wrong with them.

    Args:
        name: of the entry, for the report.
        data: its `problems` and `notes` are taken over.
        check: so many rows, evenly spaced (the first ones of a stream), or all for None.
        num_workers: processes that load; a stream is read by this one.
        num_queries: mask proposals of the model to be trained, where it is known.
    """
    size = data.size if isinstance(data, SampleStream) else len(data)
    tally = _Tally(data.spec)
    positions = range(0) if isinstance(data, SampleStream) else spaced(len(data), check)
    total = len(positions) or (size if check is None else check)
    examined = _examined(data, positions, check, num_workers)
    with tqdm(examined, desc=f"check {name}", total=total, unit="image") as bar:
        for position, found in bar:
            tally.add(position, found)
    complete = check is None or (size is not None and tally.checked >= size)
    census = tally.census() if complete else None
    if isinstance(data, SampleDataset) and data.census:
        census = data.census
    notes = [
        *(data.notes if isinstance(data, SampleDataset) else ()),
        *tally.notes(complete, data.spec, census),
    ]
    return Inspection(
        name=name,
        dataset=data.spec.name,
        task=data.spec.task,
        images=size,
        checked=tally.checked,
        classes=tally.classes,
        void_share=tally.void / tally.area if tally.area else None,
        problems=_problems(data, tally, census, num_queries),
        notes=notes,
        usable=tally.usable,
        ignored_as=data.ignored_as if isinstance(data, SampleDataset) else "crowd",
    )


def _problems(
    data: SampleDataset | SampleStream,
    tally: "_Tally",
    census: Census | None,
    num_queries: int | None,
) -> list[Problem]:
    """What is wrong with the dataset, its files, its images and its counts, in this order."""
    listed: Sequence[BadSampleError] = data.problems if isinstance(data, SampleDataset) else ()
    problems = [
        *map(Problem, dataset_faults(data)),
        *map(Problem.of, listed),
        *tally.problems,
        *tally.all_tiny(),
    ]
    if isinstance(data, SampleDataset):
        problems += _repeated(data.rows, tally.image_ids)
    if not tally.usable:
        message = "no image of it can be used; correct the others first"
        problems.append(Problem(f"dataset '{data.spec.name}': {message}"))
    if census is not None:
        problems += map(Problem, ignored_objects(data, census))
        problems += map(Problem, too_many_targets(census, num_queries) if num_queries else [])
    return problems


def spaced(size: int, count: int | None) -> range | list[int]:
    """At most `count` indices below `size`, evenly spaced; all for None."""
    if count is None or count >= size:
        return range(size)
    return [i * size // count for i in range(count)]


# --- one image


@dataclass
class _Found:
    """What one row holds; small, as it comes from another process.

    Args:
        image_id, file: None where the row names none.
        faults: why it cannot be used; the other fields are empty then.
        labels, is_crowd, pixels: [M], per segment or object.
        degrees: what is known of each object, in the task `objects`.
        incomplete: as in `Sample`.
        void, area: pixels; 0 for objects.
        digest: of the image's pixels.
        remarks: of the sample.
        images: how the reader read them, one as a rule.
    """

    image_id: int | str | None
    file: str | None
    faults: list[Problem]
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    is_crowd: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    degrees: tuple[int, ...] = ()
    incomplete: tuple[int, ...] = ()
    void: int = 0
    area: int = 0
    digest: bytes = b""
    remarks: tuple[str, ...] = ()
    images: list[ImageFacts] = field(default_factory=list)


def _examine(data: SampleDataset | SampleStream, row: Any) -> _Found:
    try:
        with watched_images() as images:
            sample = data.load(row)
    except BadSampleError as error:
        named = row if isinstance(row, Mapping) else {}
        image_id, file = named.get("image_id"), named.get("image")
        file = file if isinstance(file, str) else None
        return _Found(image_id, file, [Problem.of(error, image_id, file)])
    faults = [
        Problem(fault, sample.image_id, sample.file_name)
        for fault in sample_faults(sample, data.spec)
    ]
    found = _Found(sample.image_id, sample.file_name, faults, images=images, remarks=sample.remarks)
    if not faults:
        annotation = sample.annotation
        found.labels, found.is_crowd = annotation.class_labels, annotation.is_crowd
        found.pixels = _pixels(annotation)
        found.incomplete = tuple(sample.incomplete)
        found.degrees = tuple(degrees_of(annotation))
        if isinstance(annotation, Segments):
            found.area = annotation.segment_map.size
            found.void = found.area - int(found.pixels.sum())
        shape = str(sample.image.shape).encode()
        found.digest = blake2b(sample.image.tobytes(), digest_size=16, key=shape).digest()
    return found


def _pixels(annotation: Segments | Instances) -> NDArray[np.int64]:
    """Pixels per segment; area of the box where there are no masks."""
    if isinstance(annotation, Segments):
        inside = annotation.segment_map[annotation.segment_map >= 0]
        return np.bincount(inside, minlength=len(annotation.class_labels)).astype(np.int64)
    of_boxes = (annotation.boxes[:, 2:] - annotation.boxes[:, :2]).prod(axis=1).round()
    if annotation.masks is None:
        return of_boxes.astype(np.int64)
    of_masks = annotation.masks.sum(axis=(1, 2), dtype=np.int64)
    if annotation.degrees is None:
        return of_masks
    return np.where(annotation.degrees == Degree.MASK, of_masks, of_boxes).astype(np.int64)


# --- many images


class _Rows:
    """The rows at some positions, examined: a dataset for torch's loader."""

    def __init__(self, data: SampleDataset, positions: Sequence[int]) -> None:
        self.data, self.positions = data, positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> tuple[int, _Found]:
        position = self.positions[index]
        return position, _examine(self.data, self.data.rows[position])


def _as_it_is(found: Any) -> Any:
    return found


def _examined(
    data: SampleDataset | SampleStream,
    positions: Sequence[int],
    check: int | None,
    num_workers: int,
) -> Iterable[tuple[int, _Found]]:
    if isinstance(data, SampleStream):
        return (
            (number, _examine(data, row)) for number, row in enumerate(islice(data.epoch(0), check))
        )
    if not positions:
        return ()
    rows: Any = _Rows(data, positions)
    return DataLoader(rows, batch_size=None, collate_fn=_as_it_is, num_workers=num_workers)


class _Tally:
    """Sums over the examined images."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.classes = [ClassCount(label) for label in spec.labels]
        self.problems: list[Problem] = []
        self.usable: list[int] = []
        self.image_ids: list[int | str] = []
        self.checked = self.void = self.area = 0
        self._empty: list[str] = []
        self._remarks: list[str] = []
        self._fewest: int | None = None
        self._without_pixels = 0
        self._values = ValueTally()
        self._degrees = DegreeTally(spec)
        self._files_of_digest: defaultdict[bytes, list[str]] = defaultdict(list)

    def add(self, position: int, found: _Found) -> None:
        """Count one image."""
        self.checked += 1
        self.problems += found.faults
        self._remarks += found.remarks
        if found.image_id is not None:
            self.image_ids.append(found.image_id)
        if found.faults:
            return
        self.usable.append(position)
        self._values.add(found.images)
        self._degrees.add(found.labels.tolist(), found.degrees, found.incomplete)
        self.void += found.void
        self.area += found.area
        self._without_pixels += int((found.pixels == 0).sum())
        self._files_of_digest[found.digest].append(str(found.file))
        targets = int((~found.is_crowd).sum())
        self._fewest = targets if self._fewest is None else min(self._fewest, targets)
        if len(found.labels) == 0:
            self._empty.append(str(found.file))
        self._count_classes(found)

    def _count_classes(self, found: _Found) -> None:
        for label, is_crowd, pixels in zip(found.labels, found.is_crowd, found.pixels, strict=True):
            count = self.classes[label]
            count.segments += 1
            count.crowds += int(is_crowd)
            count.pixels += int(pixels)
        for label in np.unique(found.labels):
            self.classes[label].images += 1

    def all_tiny(self) -> list[Problem]:
        """Whether no object of any image has a pixel, as one problem."""
        if not self._without_pixels or self._without_pixels < sum(
            count.segments for count in self.classes
        ):
            return []
        return [
            Problem(
                f"none of {self._without_pixels} objects covers a pixel; likely cause: coordinates "
                "in 0..1, where the "
                "format has pixels: multiply them by the image's width and height"
            )
        ]

    def census(self) -> Census:
        """The counts over the images so far."""
        objects, crowds = (
            [getattr(c, key) for c in self.classes] for key in ("segments", "crowds")
        )
        return Census(
            np.array(objects, dtype=np.int64), np.array(crowds, dtype=np.int64), self._fewest or 0
        )

    def notes(self, complete: bool, spec: DatasetSpec, census: Census | None) -> Iterator[str]:
        """What may be meant. complete: whether every image was checked. census: of all images,
        where it is known.
        """
        yield from remark_lines(self._remarks)
        if self._empty:
            yield (
                f"{len(self._empty)} images without annotation: "
                f"{first_few(self._empty, _MAX_NAMES)}"
            )
        if self._without_pixels:
            yield f"{self._without_pixels} segments or objects have no pixel of their own"
        yield from self._values.notes()
        yield from self._degrees.notes()
        for files in self._files_of_digest.values():
            if len(files) > 1:
                yield f"{len(files)} images have equal pixels: {first_few(files, _MAX_NAMES)}"
        absent = [count.name for count in self.classes if count.segments == 0]
        if census is not None and self.usable:
            yield from classes_without_target(spec, census)
        elif absent and self.usable and not complete:
            yield (
                f"{len(absent)} of {len(self.classes)} classes were not seen among the "
                f"{self.checked} images checked: {first_few(absent, _MAX_NAMES)}"
            )


def _repeated(rows: Sequence[Any], checked_ids: Sequence[int | str]) -> Iterator[Problem]:
    """Ids and files of more than one row; over all rows where they name them, else over the ids
    that were seen.
    """
    ids: Sequence[Any] = checked_ids
    files: Sequence[Any] = ()
    if isinstance(rows, Dataset) and "image_id" in rows.column_names:
        ids = rows["image_id"][:]
    if isinstance(rows, Dataset) and getattr(rows.features.get("image"), "dtype", None) == "string":
        files = rows["image"][:]
    for image_id, count in _more_than_once(ids):
        yield Problem(f"the id belongs to {count} images; give each its own", image_id)
    for file, count in _more_than_once(files):
        yield Problem(f"{file}: the image of {count} rows; keep one annotation of it", file=file)


def _more_than_once(values: Iterable[Hashable]) -> list[tuple[Any, int]]:
    counts: dict[Hashable, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return [(value, count) for value, count in counts.items() if count > 1]
