"""How long a run is and how often it does what, in steps, known once at the start."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..data.mixing import TrainingSet, batches_per_step
from ..errors import ConfigError
from ..settings.durations import Duration, parse_duration
from ..settings.run import RunConfig

CLOCK_BEGINS = 0.5
"""Share of the time limit before which the clock has no say (our setting): a slow start does not
change the rate.
"""


@dataclass(frozen=True)
class Schedule:
    """The durations of a run in optimizer steps. 0 means never, and for evaluation and checkpoints,
    only at the end.

    Args:
        evaluate_every: per held-out set.
        max_seconds: of training, over all parts of a resumed run.
        first_step, first_seconds: where warm-up and decay of the rate begin: after 0 if a run was
            made longer.
    """

    max_steps: int
    warmup_steps: int
    checkpoint_every: int
    evaluate_every: Mapping[str, int]
    max_seconds: float | None = None
    first_step: int = 0
    first_seconds: float = 0.0

    def progress(self, step: int, seconds: float = 0.0) -> float:
        """How far the decay of the rate has come when `step` steps are done, from 0 to 1.

        The share of the steps; or, if it is ahead, the clock, which runs from 0 to 1 in the second
        half of the time limit. So a run that is going to finish its steps in time follows the steps
        alone, and one that is not has come down when its time is over.

        Args:
            seconds: of training so far, the same on all processes.
        """
        by_steps = (step - self.first_step) / (self.max_steps - self.first_step)
        if self.max_seconds is None:
            return by_steps
        spent = (seconds - self.first_seconds) / (self.max_seconds - self.first_seconds)
        return min(1.0, max(by_steps, (spent - CLOCK_BEGINS) / (1 - CLOCK_BEGINS)))

    def as_progress(self) -> dict[str, float]:
        """What a checkpoint remembers of the schedule, for `continued`."""
        return {
            "max_steps": self.max_steps,
            **{key: asdict(self)[key] for key in ("first_step", "first_seconds")},
        }

    def evaluations_due(self, step: int) -> list[str]:
        """Held-out sets that are scored after `step` steps, before the end."""
        return [name for name, every in self.evaluate_every.items() if every and step % every == 0]

    def checkpoint_due(self, step: int) -> bool:
        """Whether the training state is written after `step` steps, before the end."""
        return self.checkpoint_every > 0 and step % self.checkpoint_every == 0


def resolve_schedule(config: RunConfig, datasets: Sequence[TrainingSet]) -> Schedule:
    """The run's durations in steps, rounded up.

    Raises:
        ConfigError: for the epochs of a stream of unknown size.
    """
    every = {
        name: config.evaluate_every if e.every is None else e.every
        for name, e in config.evaluation.items()
    }
    return Schedule(
        max_steps=in_steps(config.max_steps, "max_steps", datasets),
        warmup_steps=in_steps(config.warmup_steps, "warmup_steps", datasets),
        checkpoint_every=in_steps(config.checkpoint_every, "checkpoint_every", datasets),
        evaluate_every={
            name: in_steps(duration, f"evaluation.{name}.every", datasets)
            for name, duration in every.items()
        },
        max_seconds=None if config.max_minutes is None else 60 * config.max_minutes,
    )


def continued(schedule: Schedule, config: RunConfig, progress: Mapping[str, Any]) -> Schedule:
    """The schedule of a run that goes on from a checkpoint; if its length has changed, the rate
    starts again there.

    A warm restart (Loshchilov and Hutter 2017): warm-up and decay over the remaining steps. A
    constant rate stays.

    Args:
        schedule: of the settings. progress: of the checkpoint (`RunFolder.progress_of`).

    Raises:
        ConfigError: for a length that the checkpoint is beyond, or a new one whose time is over.
    """
    step, seconds = int(progress["step"]), float(progress["train_seconds"])
    if step > schedule.max_steps:
        raise ConfigError(
            f"max_steps: {schedule.max_steps}, but the checkpoint has {step} steps; give more, or "
            "resume an earlier checkpoint by its path"
        )
    if progress["max_steps"] == schedule.max_steps or config.schedule == "constant":
        return replace(
            schedule,
            first_step=int(progress["first_step"]),
            first_seconds=float(progress["first_seconds"]),
        )
    if (
        schedule.max_seconds is not None
        and seconds >= schedule.max_seconds
        and step < schedule.max_steps
    ):
        raise ConfigError(
            f"max_minutes: {config.max_minutes}, but the run has trained for {seconds / 60:.1f} "
            f"minutes and is to go on to {schedule.max_steps} steps; give more minutes"
        )
    return replace(schedule, first_step=step, first_seconds=seconds)


def in_steps(duration: Duration, key: str, datasets: Sequence[TrainingSet]) -> int:
    """Optimizer steps that a duration takes on average over the mix, rounded up.

    Raises:
        ConfigError: for epochs of a stream whose size is unknown.
    """
    parsed = parse_duration(duration)
    if parsed.unit == "steps":
        return math.ceil(parsed.amount)
    ratios = {dataset.name: 1.0 if dataset.in_every_step else dataset.ratio for dataset in datasets}
    total = 1.0 if batches_per_step(datasets) > 1 else sum(ratios.values())
    if parsed.unit == "images":
        images_per_step = (
            sum(ratios[dataset.name] * dataset.batch_size for dataset in datasets) / total
        )
        return math.ceil(parsed.amount / images_per_step)
    dataset = next(dataset for dataset in datasets if dataset.name == parsed.dataset)
    if dataset.size is None:
        raise ConfigError(
            f"{key}: '{dataset.name}' is a stream of unknown size; give steps or images"
        )
    # rounded first: one epoch of 16 images, 8 of them in a third of the steps, is 6 steps and no
    # fraction more
    return math.ceil(
        round(parsed.amount * dataset.size * total / (ratios[dataset.name] * dataset.batch_size), 6)
    )
