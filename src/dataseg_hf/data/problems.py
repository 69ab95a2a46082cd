"""What is wrong with a dataset's images, and one line for each kind of it."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .sample import BadSampleError, RawId, UnknownIdsError, unknown_ids_text

MAX_EXAMPLES = 3  # images named in a line
# what differs between two messages of one kind: quoted words, paths and file names, numbers
_PARTICULARS = re.compile(
    r"'[^']*'|\"[^\"]*\"|\S*[/\\]\S*|\b[\w-]+\.[A-Za-z]{3,4}\b|[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
)


@dataclass(frozen=True)
class Problem:
    """What would stop training or silently train wrong.

    Args:
        message: the file, what is wrong, what to do.
        image_id, file: None where the reader left the image out of the rows; the message names it
            then.
        unknown_ids: how often each category id occurs that the spec does not know.
        unit: what they were counted in.
    """

    message: str
    image_id: int | str | None = None
    file: str | None = None
    unknown_ids: dict[RawId, int] = field(default_factory=dict)
    unit: str = ""
    dataset: str = ""

    @classmethod
    def of(
        cls, error: BadSampleError, image_id: int | str | None = None, file: str | None = None
    ) -> "Problem":
        """The problem that a reader raised."""
        if isinstance(error, UnknownIdsError):
            return cls(str(error), image_id, file, dict(error.counts), error.unit, error.dataset)
        return cls(str(error), image_id, file)

    @property
    def kind(self) -> str:
        """Equal for problems that differ only in names, files and numbers."""
        return f"unknown {self.unit}" if self.unknown_ids else kind_of(self.message)

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "message": self.message,
            "image_id": self.image_id,
            "file": self.file,
            "kind": self.kind,
        }

    def __str__(self) -> str:
        return self.message if self.image_id is None else f"image {self.image_id}: {self.message}"


def kind_of(message: str) -> str:
    """A message without its particulars: names, files, numbers."""
    return _PARTICULARS.sub("*", message)


def problem_lines(problems: Iterable[Problem]) -> list[str]:
    """One line for each kind of problem, the most frequent first: how many, the first of them, more
    examples.
    """
    of_kind: dict[str, list[Problem]] = {}
    for problem in problems:
        of_kind.setdefault(problem.kind, []).append(problem)
    return [_line(alike) for alike in sorted(of_kind.values(), key=len, reverse=True)]


def _line(alike: Sequence[Problem]) -> str:
    first = alike[0]
    if len(alike) == 1:
        return str(first)
    examples = [
        str(problem.image_id) for problem in alike[:MAX_EXAMPLES] if problem.image_id is not None
    ]
    head = f"{len(alike)} times" + (f" (images {', '.join(examples)}, ...)" if examples else "")
    if first.unknown_ids:
        total: Counter[RawId] = Counter()
        for problem in alike:
            total.update(problem.unknown_ids)
        return f"{len(alike)} images: {unknown_ids_text(first.dataset, total, first.unit)}"
    return f"{head}, first: {first.message}"


def remark_lines(remarks: Sequence[str]) -> list[str]:
    """One line for each kind of remark on images."""
    of_kind: dict[str, list[str]] = {}
    for remark in remarks:
        of_kind.setdefault(kind_of(remark), []).append(remark)
    return [
        alike[0] if len(alike) == 1 else f"{len(alike)} times, first: {alike[0]}"
        for alike in of_kind.values()
    ]
