"""The categories of all sets of a mix, asked of a model at once, and each set's own among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...data.sample import DatasetSpec
from ...errors import ConfigError
from ...model.modeling_dataseg import DaTaSegModel


@dataclass(frozen=True)
class Words:
    """The categories of one set.

    Args:
        name: of the set.
        labels: [C] names.
        is_thing: bool [C].
        start: of its categories among those of all sets.
    """

    name: str
    labels: Sequence[str]
    is_thing: Sequence[bool]
    start: int

    @property
    def columns(self) -> slice:
        """Where its categories stand among those of all sets."""
        return slice(self.start, self.start + len(self.labels))


def words_of_mix(name: str, specs: Mapping[str, DatasetSpec]) -> list[Words]:
    """The categories of a set, and after them those of the others.

    Args:
        name: of the set.
        specs: of all sets of the mix, by name.
    """
    found: list[Words] = []
    start = 0
    for other in (name, *(key for key in specs if key != name)):
        spec = specs[other]
        found.append(Words(other, spec.labels, spec.is_thing, start))
        start += len(spec.labels)
    return found


def embedded(words: Sequence[Words], model: DaTaSegModel) -> dict[str, Any]:
    """What the model's `forward` is told of the categories.

    Raises:
        ConfigError: for names that the model cannot embed.
    """
    labels = [label for one in words for label in one.labels]
    try:
        embeddings = model.embed(labels).to(model.device)
    except (ValueError, OSError) as error:
        raise ConfigError(f"datasets.{words[0].name}: {error}") from error
    is_thing = [thing for one in words for thing in one.is_thing]
    return {
        "text_embeddings": embeddings,
        "is_thing": torch.tensor(is_thing, device=model.device),
    }


__all__ = ["Words", "embedded", "words_of_mix"]
