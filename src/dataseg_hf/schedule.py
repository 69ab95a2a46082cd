"""How long a run is and how often it does what, in steps, known once at the start."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .data.mixing import TrainingSet, batches_per_step
from .durations import Duration, parse_duration
from .run_config import ConfigError, RunConfig


@dataclass(frozen=True)
class Schedule:
    """The durations of a run in optimiser steps. 0 means never, and for evaluation and checkpoints, only at the end.

    Args:
        evaluate_every: per held-out set.
    """

    max_steps: int
    warmup_steps: int
    checkpoint_every: int
    evaluate_every: Mapping[str, int]

    def evaluations_due(self, step: int) -> list[str]:
        """Held-out sets that are scored after `step` steps, before the end."""
        return [name for name, every in self.evaluate_every.items() if every and step % every == 0]

    def checkpoint_due(self, step: int) -> bool:
        """Whether the training state is written after `step` steps, before the end."""
        return self.checkpoint_every > 0 and step % self.checkpoint_every == 0


def resolve_schedule(config: RunConfig, members: Sequence[TrainingSet]) -> Schedule:
    """The run's durations in steps, rounded up; ConfigError for the epochs of a stream of unknown size."""
    every = {name: config.evaluate_every if e.every is None else e.every for name, e in config.evaluation.items()}
    return Schedule(
        max_steps=in_steps(config.max_steps, "max_steps", members),
        warmup_steps=in_steps(config.warmup_steps, "warmup_steps", members),
        checkpoint_every=in_steps(config.checkpoint_every, "checkpoint_every", members),
        evaluate_every={
            name: in_steps(duration, f"evaluation.{name}.every", members) for name, duration in every.items()
        },
    )


def in_steps(duration: Duration, key: str, members: Sequence[TrainingSet]) -> int:
    """Optimiser steps that a duration takes on average over the mix, rounded up."""
    parsed = parse_duration(duration)
    if parsed.unit == "steps":
        return math.ceil(parsed.amount)
    ratios = {member.name: 1.0 if member.in_every_step else member.ratio for member in members}
    total = 1.0 if batches_per_step(members) > 1 else sum(ratios.values())
    if parsed.unit == "images":
        images_per_step = sum(ratios[member.name] * member.batch_size for member in members) / total
        return math.ceil(parsed.amount / images_per_step)
    member = next(member for member in members if member.name == parsed.dataset)
    if member.size is None:
        raise ConfigError(f"{key}: '{member.name}' is a stream of unknown size; give steps or images")
    # rounded first: one epoch of 16 images, 8 of them in a third of the steps, is 6 steps and no fraction more
    return math.ceil(round(parsed.amount * member.size * total / (ratios[member.name] * member.batch_size), 6))
