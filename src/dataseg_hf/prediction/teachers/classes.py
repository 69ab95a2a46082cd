"""The classes of a dataset that a teacher labels, from the names in its config."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...data.catalog import CATALOG
from ...data.names import plain_name
from ...messages import first_few
from ...model.tasks_dataseg import TaskName, get_task

Background: TypeAlias = Literal["void", "class"]
_BACKGROUND = "background"
_PLACEHOLDERS = {"na", "n/a"}  # of DETR's checkpoints, for numbers that COCO skips
_UNNAMED = re.compile(r"LABEL_\d+")


@dataclass(frozen=True)
class LabelClasses:
    """Classes, and which outputs of the teacher mean them.

    Args:
        names: [C], all different.
        is_thing: bool [C], whether each is countable.
        of_output: int64 [L], the class of each output, -1 for one that is void.
    """

    names: list[str]
    is_thing: list[bool]
    of_output: NDArray[np.int64]

    @property
    def thing_outputs(self) -> NDArray[np.bool_]:
        """Which outputs mean something countable: bool [L]."""
        flags = np.array([*self.is_thing, False])
        return flags[self.of_output]


def label_classes(
    names: Sequence[str],
    is_thing: Sequence[bool] | None,
    kind: TaskName,
    background: Background = "void",
) -> LabelClasses:
    """The classes of a teacher's outputs. Outputs of one name are one class.

    Args:
        names: [L], of the outputs.
        is_thing: [L], where it is known; otherwise as the catalog has the names.
        kind: of the labels. Boxes are of things alone; instance labels leave out what is none.
        background: whether an output of that name, "everything else", is a class or void.

    Raises:
        ValueError: for a teacher without names.
    """
    if all(_UNNAMED.fullmatch(name) for name in names):
        raise ValueError(
            f"its {len(names)} classes have no names (`{names[0]}`, ...), and a mix learns from "
            "names; write them as `id2label` into its config.json"
        )
    dropped = {*_PLACEHOLDERS, *([_BACKGROUND] if background == "void" else [])}
    task = get_task(kind)
    if task.label_form == "boxes":
        is_thing = [True] * len(names)
    elif is_thing is None:
        is_thing = things_by_name(names)
    things = dict(zip(reversed(names), map(bool, reversed(is_thing)), strict=True))
    kept = [
        name
        for name in dict.fromkeys(names)
        if name.strip().lower() not in dropped and (things[name] or task.has_segment_map)
    ]
    if not kept:
        raise ValueError(f"none of its classes ({first_few(names, 5)}) is left for {kind} labels")
    place = {name: number for number, name in enumerate(kept)}
    of_output = np.array([place.get(name, -1) for name in names])
    return LabelClasses(kept, [things[name] for name in kept], of_output)


def things_by_name(names: Sequence[str]) -> list[bool]:
    """Whether each name is countable: as most datasets of the catalog have it, and True for a name
    that none has, but for the background.
    """
    votes: dict[str, int] = {}
    for spec in CATALOG.values():
        for known in spec.classes:
            for name in {plain_name(text) for text in (known.name, *known.aliases)}:
                votes[name] = votes.get(name, 0) + (1 if known.is_thing else -1)
    votes[_BACKGROUND] = -1
    return [votes.get(plain_name(name), 1) >= 0 for name in names]


def ordered_names(id2label: Mapping[int, str]) -> list[str]:
    """The names of a config in the order of the outputs."""
    return [str(id2label[number]) for number in sorted(id2label)]
