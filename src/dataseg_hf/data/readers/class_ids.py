"""From the raw category ids of files to class indices, and what was counted on the way."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..sample import Census, DatasetSpec, RawId, UnknownIdsError, unknown_ids_text

VOID = -1


class ClassIds:
    """Class indices for a reader's objects. Unknown ids are gathered, so that one message names all
    of an image.

    Args:
        spec: the dataset.
        unit: what has the ids: "object", "segment" or "pixel".
    """

    def __init__(self, spec: DatasetSpec, unit: str = "object") -> None:
        self.spec, self.unit = spec, unit
        self._unknown: Counter[RawId] = Counter()
        self._taken_as_void: Counter[RawId] = Counter()

    def index(self, raw_id: RawId) -> int:
        """Class index of a raw id; VOID for one that the spec calls void, or does not know."""
        if not self.spec.knows(raw_id):
            self._unknown[raw_id] += 1
            return VOID
        class_index = self.spec.class_index(raw_id, "")
        return VOID if class_index is None else class_index

    def end_image(self, where: str) -> None:
        """To be called after the objects of an image.

        Raises:
            UnknownIdsError: for ids since the last call that the spec does not know, unless they
                count as void.
        """
        unknown, self._unknown = self._unknown, Counter()
        if unknown and self.spec.unknown_ids == "error":
            raise UnknownIdsError(where, self.spec.name, unknown, self.unit)
        self._taken_as_void += unknown

    def notes(self) -> list[str]:
        """What was taken as void though the spec does not name it."""
        if not self._taken_as_void:
            return []
        return [taken_as_void(self.spec.name, self._taken_as_void, self.unit)]


def taken_as_void(dataset: str, counts: Mapping[RawId, int], unit: str) -> str:
    """The note on unknown ids where they count as void."""
    return (
        "taken as void (`unknown_ids: void`): "
        f"{unknown_ids_text(dataset, counts, unit).partition(';')[0]}"
    )


def background_class(spec: DatasetSpec, background: RawId | None) -> int:
    """Class of the pixels in no shape (semantic annotation): that of the raw id `background`, VOID
    for None.

    Raises:
        ValueError: for an id that the spec does not know, and in other tasks, where there is no
            such class.
    """
    if background is None:
        return VOID
    if spec.label_form != "classes":
        raise ValueError(
            f"background: task '{spec.task}' has no class for what is in no shape; leave the "
            "option out"
        )
    if not isinstance(background, int | str) or not spec.knows(background):
        raise ValueError(
            f"background: {background!r} is no id of dataset '{spec.name}', which has "
            f"{list(spec.id_map)[:20]}"
        )
    class_index = spec.class_index(background, "")
    return VOID if class_index is None else class_index


def background_notes(spec: DatasetSpec, background: RawId | None) -> list[str]:
    """A hint where the spec has a class that sounds like all that no shape covers, and the option
    is not set.
    """
    if spec.label_form != "classes" or background is not None or not spec.knows("background"):
        return []
    return [
        "pixels in no shape are void; if they are of class 'background', set `background: "
        "background` in the entry's `options`"
    ]


class TargetCounts:
    """Counts the targets of a dataset while its files are read."""

    def __init__(self, num_classes: int) -> None:
        self._objects = np.zeros(num_classes, dtype=np.int64)
        self._crowds = np.zeros(num_classes, dtype=np.int64)
        self._fewest: int | None = None

    def add(
        self,
        class_labels: Sequence[int] | NDArray[np.int64],
        is_crowd: Sequence[bool] | NDArray[np.bool_],
    ) -> None:
        """Count the objects of one image; those of class VOID are left out.

        Args:
            class_labels: int [M], class index of each object.
            is_crowd: bool [M].
        """
        labels, crowd = np.asarray(class_labels, dtype=np.int64), np.asarray(is_crowd, dtype=bool)
        kept = labels != VOID
        np.add.at(self._objects, labels[kept], 1)
        np.add.at(self._crowds, labels[kept & crowd], 1)
        targets = int((kept & ~crowd).sum())
        self._fewest = targets if self._fewest is None else min(self._fewest, targets)

    def census(self) -> Census:
        """The counts so far."""
        return Census(self._objects.copy(), self._crowds.copy(), self._fewest or 0)
