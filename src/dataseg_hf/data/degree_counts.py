"""What is known of a dataset's objects, and what it leaves out: counted and in words."""

from collections import Counter
from collections.abc import Iterator, Sequence

from ..messages import first_few
from ..model.degrees_dataseg import Degree
from ..model.tasks_dataseg import get_task
from .sample import Annotation, DatasetSpec, Segments

_MAX_NAMES = 8
_ENOUGH_IMAGES = 20
"""With objects, before it is odd that none has those of two classes (our setting)."""
_WORDS = {
    Degree.MASK: "masks",
    Degree.BOX: "boxes",
    Degree.POINT: "points",
    Degree.TAG: "tags",
}


def degrees_of(annotation: Annotation) -> Sequence[int]:
    """What is known of each object, where they differ."""
    if isinstance(annotation, Segments) or annotation.degrees is None:
        return ()
    return [*annotation.degrees.tolist()]


class DegreeTally:
    """Counts over images: objects by what is known of them, and classes that may be missing."""

    def __init__(self, spec: DatasetSpec) -> None:
        self._spec = spec
        self._objects: Counter[int] = Counter()
        self._incomplete: Counter[int] = Counter()
        self._images = self._open_images = 0
        self._seen: set[int] = set()
        self._of_one_class = self._of_several = self._crowded = 0

    def add(self, labels: Sequence[int], degrees: Sequence[int], incomplete: Sequence[int]) -> None:
        """Count an image: class and degree of each object, and the classes of which it may show
        more.
        """
        self._images += 1
        self._objects.update(degrees)
        self._incomplete.update(incomplete)
        self._open_images += bool(incomplete)
        self._seen.update(int(label) for label in labels)
        self._of_one_class += len(set(labels)) == 1
        self._of_several += len(set(labels)) > 1
        self._crowded += len(labels) > 1

    def notes(self) -> Iterator[str]:
        """What a user should know."""
        if self._objects:
            total = self._objects.total()
            parts = [
                f"{self._objects[degree]} {word} ({self._objects[degree] / total:.0%})"
                for degree, word in _WORDS.items()
            ]
            yield f"what is known of {total} objects: {', '.join(parts)}"
        yield from self._open_notes()
        yield from self._one_class_notes()

    def _one_class_notes(self) -> Iterator[str]:
        """Whether images seem to have been annotated for one class each, though that is not
        declared.
        """
        is_declared = self._incomplete or not all(c.exhaustive for c in self._spec.classes)
        if is_declared or get_task(self._spec.task).output != "instance":
            return
        enough = self._of_one_class >= _ENOUGH_IMAGES and 2 * self._crowded > self._of_one_class
        if enough and len(self._seen) > 1 and not self._of_several:
            yield (
                f"none of {self._of_one_class} images has objects of two classes, though "
                f"{len(self._seen)} classes occur and many images have several objects. If each "
                "image was annotated for one class only, say so: `exhaustive: false` for these "
                "classes"
            )

    def _open_notes(self) -> Iterator[str]:
        """What is said of classes that are not exhaustive, by the spec or by an image."""
        if self._spec.annotated == "objects":
            yield "declared is that only objects were annotated: images may show others' stuff"
        open_names = [c.name for c in self._spec.classes if not c.exhaustive]
        if open_names:
            yield (
                f"{len(open_names)} of {len(self._spec.classes)} classes are declared not "
                f"exhaustive: {first_few(open_names, _MAX_NAMES)}"
            )
        if self._incomplete:
            named = [
                f"{self._spec.labels[index]} ({count})"
                for index, count in self._incomplete.most_common()
            ]
            yield (
                f"{self._open_images} of {self._images} images may show objects that are not "
                f"annotated, of {len(named)} classes: {first_few(named, _MAX_NAMES)}"
            )
        yield from self._useless_notes()

    def _useless_notes(self) -> Iterator[str]:
        """What is said of classes that no image tells of."""
        never_open = [
            self._spec.labels[index]
            for index, count in self._incomplete.items()
            if count == self._images and index not in self._seen
        ]
        if never_open:
            yield (
                "classes that were looked for in no image and have no object teach nothing; leave "
                f"them out: {first_few(sorted(never_open), _MAX_NAMES)}"
            )
