"""The images that are done, a line of JSON for each batch, in a file that only grows.

A line is on the disk whole or is dropped when the labeling goes on, so that a process may be killed
at any moment. Memory holds names only.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LabeledImage:
    """What is kept of an image until all are done.

    Args:
        name: its path below the folder of images, without the ending.
        entry: of the annotation file; empty where the labels have none.
        counts: pixels (semantic labels) or objects of each class, by its index.
        void: pixels without a label; None for labels that say nothing of pixels.
        pixels: of the image.
        confidence: sum over what is counted.
        row: its place in the set, where it belongs to one.
    """

    name: str
    entry: str
    counts: Mapping[int, int]
    void: int | None
    pixels: int
    confidence: float
    row: int | None = None


@dataclass(frozen=True)
class Batch:
    """Images that were labeled together.

    Args:
        labeled: those that are done.
        unread: what is wrong with the others, by name.
    """

    labeled: Sequence[LabeledImage] = ()
    unread: Mapping[str, str] = field(default_factory=dict)


class Journal:
    """The file.

    Args:
        file: made at the first batch. A last line that is not whole is cut off.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._cut_unfinished()
        self.done: set[str] = set()
        """Names of the labeled images."""
        self.unread: dict[str, str] = {}
        """What was wrong with the images that could not be read when they were tried last."""
        for batch in self.batches():
            self._note(batch)

    def add(self, batch: Batch) -> None:
        """Append a batch, and wait until it is on the disk."""
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(batch)) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
        self._note(batch)

    def batches(self) -> Iterator[Batch]:
        """All batches, read anew."""
        return (batch for _, batch in self.placed())

    def placed(self) -> Iterator[tuple[int, Batch]]:
        """All batches with their places, at which `at` finds them again."""
        if not self.file.exists():
            return
        with self.file.open("rb") as lines:
            start = 0
            for line in lines:
                yield start, _batch(line)
                start += len(line)

    def at(self, start: int) -> Batch:
        """The batch at a place."""
        with self.file.open("rb") as lines:
            lines.seek(start)
            return _batch(lines.readline())

    def labeled(self) -> Iterator[LabeledImage]:
        """All labeled images, in the order in which they were done."""
        for batch in self.batches():
            yield from batch.labeled

    def entries(self) -> "Entries":
        """The entries of all images, read anew each time they are gone through."""
        return Entries(self.labeled)

    def _note(self, batch: Batch) -> None:
        names = {image.name for image in batch.labeled}
        self.done |= names
        self.unread |= batch.unread
        for name in names:
            self.unread.pop(name, None)

    def _cut_unfinished(self) -> None:
        """Drop what follows the last line break: a process was killed while it wrote."""
        if not self.file.exists():
            return
        with self.file.open("rb+") as content:
            end = content.seek(0, os.SEEK_END)
            whole = _after_last_break(content, end)
            if whole < end:
                content.truncate(whole)


class Entries:
    """The entries of images; may be gone through several times.

    Args:
        labeled: begins to read the images.
    """

    def __init__(self, labeled: Callable[[], Iterator[LabeledImage]]) -> None:
        self._labeled = labeled

    def __iter__(self) -> Iterator[str]:
        return (image.entry for image in self._labeled())


def _after_last_break(content: Any, end: int, block: int = 2**20) -> int:
    """Place behind the last line break of a file of `end` bytes; 0 where there is none."""
    while end > 0:
        start = max(0, end - block)
        content.seek(start)
        found = content.read(end - start).rfind(b"\n")
        if found >= 0:
            return int(start + found + 1)
        end = start
    return 0


def _batch(line: bytes) -> Batch:
    content = json.loads(line)
    return Batch([_image(entry) for entry in content["labeled"]], content["unread"])


def _image(entry: dict[str, Any]) -> LabeledImage:
    counts = {int(index): count for index, count in entry["counts"].items()}
    return LabeledImage(**{**entry, "counts": counts})
