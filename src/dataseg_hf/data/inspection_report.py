"""What was found in a dataset, as text and as JSON."""

from dataclasses import asdict, dataclass, field
from typing import Any

from .problems import Problem, problem_lines

MAX_LINES = 20  # of classes, and of kinds of problems, in `Inspection.text`


@dataclass
class ClassCount:
    """How often a class occurs.

    Args:
        segments: segments or objects, crowds among them.
        pixels: of masks, else of boxes.
    """

    name: str
    images: int = 0
    segments: int = 0
    crowds: int = 0
    pixels: int = 0


@dataclass
class Inspection:
    """What was found in a dataset.

    Args:
        name: of its entry.
        dataset, task: of its spec.
        images: how many it has; None where a stream does not tell.
        checked: how many were loaded, or failed to load.
        classes: in the order of the spec.
        void_share: share of unlabeled pixels, 0..1; None for objects, whose surroundings are
            background.
        problems: what is wrong.
        notes: what may be meant.
        usable: positions of the checked rows without a problem.
        ignored_as: the files' word for objects that are neither target nor background.
    """

    name: str
    dataset: str
    task: str
    images: int | None
    checked: int
    classes: list[ClassCount]
    void_share: float | None
    problems: list[Problem]
    notes: list[str]
    usable: list[int] = field(repr=False)
    ignored_as: str = "crowd"

    def as_dict(self) -> dict[str, Any]:
        """All of it but `usable`, of types that JSON has."""
        facts = {key: value for key, value in asdict(self).items() if key != "usable"}
        return {**facts, "problems": [problem.as_dict() for problem in self.problems]}

    def text(self) -> str:
        """The histogram of the classes, the notes, and a line for each kind of problem."""
        images = "a stream" if self.images is None else f"{self.images} images"
        lines = [f"{self.name}: {self.dataset}, {self.task}, {images}, {self.checked} checked"]
        lines += self._class_lines()
        if self.void_share is not None:
            lines.append(f"  void: {self.void_share:.1%} of all pixels")
        lines += [f"  note: {note}" for note in self.notes]
        kinds = problem_lines(self.problems)
        lines += [f"  problem: {line}" for line in kinds[:MAX_LINES]]
        if len(kinds) > MAX_LINES:
            lines.append(f"  and {len(kinds) - MAX_LINES} more kinds of problems: --json lists all")
        return "\n".join(lines)

    def _class_lines(self) -> list[str]:
        """A table of the classes that occur, those with the most pixels first."""
        seen = sorted((c for c in self.classes if c.segments), key=lambda c: -c.pixels)
        if not seen:
            return []
        pixels = max(1, sum(c.pixels for c in seen))
        width = max(len("class"), *(len(c.name) for c in seen[:MAX_LINES]))
        ignored = f"{self.ignored_as}s" if self.ignored_as == "crowd" else self.ignored_as
        column = max(7, len(ignored))
        lines = [
            f"  {'class':<{width}} {'images':>8} {'segments':>9} {ignored:>{column}} "
            f"{'pixels':>12} {'share':>6}",
            *(
                f"  {c.name:<{width}} {c.images:>8} {c.segments:>9} {c.crowds:>{column}} "
                f"{c.pixels:>12} {c.pixels / pixels:>6.1%}"
                for c in seen[:MAX_LINES]
            ),
        ]
        if len(seen) > MAX_LINES:
            lines.append(f"  and {len(seen) - MAX_LINES} more classes: --json lists them")
        return lines
