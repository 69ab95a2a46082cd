"""A look ahead: two steps on every dataset and one small evaluation, and what the whole run would
take.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..data.collate import Normalization
from ..data.mixing import MixingSampler, TrainingSet, mixing_loader
from ..evaluation import EvaluationSet
from ..settings.run import RunConfig
from .log import peak_memory
from .loop import CoTraining, Evaluate
from .schedule import Schedule


@dataclass(frozen=True)
class DatasetCost:
    """What a step on a dataset takes: seconds, of them waiting for images; and the process's peak
    so far in bytes.
    """

    name: str
    share: float
    seconds: float
    data_seconds: float
    memory: float


@dataclass(frozen=True)
class Projection:
    """What the whole run would take, in seconds, without pictures and checkpoints.

    Args:
        image_seconds: to score an image.
        train_seconds: of all steps, as if there were no time limit.
        max_seconds: the limit.
    """

    datasets: Sequence[DatasetCost]
    image_seconds: float
    train_seconds: float
    evaluate_seconds: float
    max_seconds: float | None = None

    def table(self) -> str:
        """For the eye."""
        width = max(len("dataset"), *(len(cost.name) for cost in self.datasets))
        lines = [
            f"{'dataset':<{width}} {'share':>6} {'s/step':>8} {'of it data':>10} {'peak GB':>8}"
        ]
        for cost in self.datasets:
            waiting = cost.data_seconds / cost.seconds
            times = f"{cost.seconds:>8.3f} {waiting:>10.1%}"
            lines.append(
                f"{cost.name:<{width}} {cost.share:>6.1%} {times} {cost.memory / 1e9:>8.2f}"
            )
        lines.append(
            f"projected: {_hours(self.train_seconds)} of training, {_hours(self.evaluate_seconds)} "
            f"of evaluation ({self.image_seconds:.2f} s per image)"
        )
        if self.max_seconds is not None and self.train_seconds > self.max_seconds:
            lines.append(
                f"max_minutes ends training after {_hours(self.max_seconds)}, about "
                f"{self.max_seconds / self.train_seconds:.0%} of the steps; the learning rate "
                "comes down by then"
            )
        return "\n".join(lines)


def dry_run(
    training: CoTraining,
    held_out: Sequence[EvaluationSet],
    few: Sequence[EvaluationSet],
    evaluate: Evaluate,
) -> Projection:
    """Train two steps on each dataset, the second of which counts, and score a few images of each
    held-out set.

    Args:
        few: the held-out sets with few images, which `evaluate` scores.
    """
    total = sum(dataset.ratio for dataset in training.datasets)
    costs = []
    for number, dataset in enumerate(training.datasets):
        seconds, data_seconds = _second_step(training, number)
        memory = peak_memory(training.accelerator.device)
        costs.append(
            DatasetCost(dataset.name, dataset.ratio / total, seconds, data_seconds, memory)
        )
    started = time.perf_counter()
    evaluate(training.result(), training.step, [eval_set.name for eval_set in held_out])
    scored = sum(len(eval_set.data) for eval_set in few)
    image_seconds = (time.perf_counter() - started) / scored if scored else 0.0
    images = evaluated_images(training.schedule, held_out)
    return Projection(
        costs,
        image_seconds,
        train_seconds=training.schedule.max_steps
        * sum(cost.share * cost.seconds for cost in costs),
        evaluate_seconds=images * image_seconds,
        max_seconds=training.schedule.max_seconds,
    )


def few_images(held_out: Sequence[EvaluationSet], processes: int) -> list[EvaluationSet]:
    """The held-out sets with few images each: a batch for every process."""
    return [
        replace(one, data=one.data.select(range(min(one.batch_size * processes, len(one.data)))))
        for one in held_out
    ]


def evaluated_images(schedule: Schedule, held_out: Sequence[EvaluationSet]) -> int:
    """Images scored in all evaluations of a run: those at intervals, and the one at the end."""
    total = 0
    for eval_set in held_out:
        every = schedule.evaluate_every[eval_set.name]
        # the last step has the final evaluation only
        before_the_end = (schedule.max_steps - 1) // every if every else 0
        total += (before_the_end + 1) * len(eval_set.data)
    return total


def _second_step(training: CoTraining, number: int) -> tuple[float, float]:
    """Seconds of the second step on a dataset, and how many of them it waited for images."""
    config: RunConfig = training.config
    dataset: TrainingSet = training.datasets[number]
    size = config.gradient_accumulation_steps
    sampler = MixingSampler(
        [dataset],
        config.seed,
        0,
        2,
        size,
        training.accelerator.process_index,
        training.accelerator.num_processes,
    )
    loader = mixing_loader(
        sampler,
        Normalization(config.image_mean, config.image_std),
        config.num_workers,
        training.accelerator.device,
    )
    for _ in range(2):
        started = time.perf_counter()
        batches = [replace(next(loader), dataset=number) for _ in range(size)]
        data_seconds = time.perf_counter() - started
        training.optimize(batches, data_seconds)
        seconds = time.perf_counter() - started
    return seconds, data_seconds


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
