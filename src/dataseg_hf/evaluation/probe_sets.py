"""Which sets of a run a linear probe learns from, and on which it is scored."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..data.mixing import TrainingSet
from ..data.sample import DatasetSpec, SampleDataset
from ..errors import ConfigError
from ..model.tasks_dataseg import get_task
from ..settings.datasets import load_held_out, source_spec, training_set
from ..settings.entries import EvalEntry, Source
from ..settings.run import RunConfig
from .sets import missing_truth

LOG = logging.getLogger(__name__)

Labels: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """A held-out set: its name, settings and data."""

    name: str
    entry: EvalEntry
    data: SampleDataset


@dataclass(frozen=True)
class ProbeSets:
    """The sets of one vocabulary, which share a probe.

    Args:
        labels: its names.
        training: sets with a class per pixel.
        held_out: sets with a class per pixel and the same names.
    """

    labels: list[str]
    training: list[TrainingSet]
    held_out: list[HeldOut]

    @property
    def images(self) -> int | None:
        """How many there are; None where a stream does not tell."""
        sizes = [dataset.size for dataset in self.training]
        sizes += [len(held_out.data) for held_out in self.held_out]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None


def probe_sets(config: RunConfig) -> list[ProbeSets]:
    """The sets of each vocabulary that has some to learn from and some to be scored on.

    Sets that have no part in it are named in the log.

    Raises:
        ConfigError: if there is no such vocabulary, and for data that cannot be read.
    """
    learned = _by_labels(_with_pixels(config.datasets, "datasets"))
    if not learned:
        raise ConfigError(
            f"datasets: a probe learns from a class per pixel, which none of "
            f"{sorted(config.datasets)} has; add a panoptic or semantic set"
        )
    if not config.evaluation:
        raise ConfigError("evaluation: the settings name no held-out set; add an entry")
    scored = _by_labels(_with_pixels(config.evaluation, "evaluation"))
    for labels in (labels for labels in scored if labels not in learned):
        LOG.info(
            f"Left out {_listed('evaluation', scored[labels])}: no set of the mix has its names "
            "and a class per pixel."
        )
    for labels in (labels for labels in learned if labels not in scored):
        LOG.info(f"Left out {_listed('datasets', learned[labels])}: no held-out set has its names.")
    shared = [labels for labels in learned if labels in scored]
    if not shared:
        raise ConfigError(
            f"evaluation: none of {sorted(config.evaluation)} has the names of a training set and "
            "a class per pixel, so nothing scores a probe; add such an entry"
        )
    return [
        ProbeSets(
            list(labels),
            [training_set(n, config.datasets[n], config.on_bad_sample) for n in learned[labels]],
            [_held_out(name, config) for name in scored[labels]],
        )
        for labels in shared
    ]


def _held_out(name: str, config: RunConfig) -> HeldOut:
    entry = config.evaluation[name]
    return HeldOut(name, entry, load_held_out(entry, f"evaluation.{name}", config.on_bad_sample))


def _with_pixels(entries: Mapping[str, Source], key: str) -> dict[str, DatasetSpec]:
    """Specs of the entries whose annotation has a class per pixel; the others are logged."""
    specs = {name: source_spec(entry, f"{key}.{name}") for name, entry in entries.items()}
    found = {name: spec for name, spec in specs.items() if missing_truth("miou", spec) is None}
    for name in (name for name in specs if name not in found):
        summary = get_task(specs[name].task).summary
        LOG.info(f"Left out {key}.{name}: {summary}, not a class per pixel.")
    return found


def _by_labels(specs: Mapping[str, DatasetSpec]) -> dict[Labels, list[str]]:
    """Names of the entries of each vocabulary."""
    groups: dict[Labels, list[str]] = {}
    for name, spec in specs.items():
        groups.setdefault(tuple(spec.labels), []).append(name)
    return groups


def _listed(key: str, names: list[str]) -> str:
    return " and ".join(f"{key}.{name}" for name in names)
