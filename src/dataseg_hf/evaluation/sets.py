"""A held-out set, how it is scored, and whether its truth allows that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from ..data.sample import DatasetSpec, SampleDataset
from ..metrics.instances import MAX_DETS
from ..model.tasks_dataseg import TASKS, OutputKind, Task, get_task
from ..settings.run import ConfigError, EvalEntry, MetricName


@dataclass
class EvaluationSet:
    """A held-out set and how it is scored.

    Args:
        text_embeddings: [C, D] of the names of its spec, in their order.
        vocabulary: that of the model with these names; asked for instead of them in a model that
            has parts of its own for each.
        image_size: side of the square canvas.
        shortest_edge: see `resize_only`.
        threshold, overlap_threshold: least class probability of a panoptic segment, and least share
            of its own mask.
        max_dets: best predictions per image and class that count for AP.

    Raises:
        ConfigError: for a metric that the truth of the set cannot give.
    """

    name: str
    data: SampleDataset
    text_embeddings: Tensor
    metrics: Sequence[MetricName]
    batch_size: int
    image_size: int
    shortest_edge: int | None = None
    threshold: float = 0.5
    overlap_threshold: float = 0.8
    vocabulary: str | None = None
    max_dets: int = MAX_DETS

    @classmethod
    def of(
        cls, name: str, entry: EvalEntry, data: SampleDataset, text_embeddings: Tensor
    ) -> "EvaluationSet":
        """The set that an entry of the settings describes."""
        return cls(
            name=name,
            data=data,
            text_embeddings=text_embeddings,
            metrics=entry.metrics,
            batch_size=entry.batch_size,
            image_size=entry.image_size,
            shortest_edge=entry.shortest_edge,
            threshold=entry.threshold,
            overlap_threshold=entry.overlap_threshold,
            vocabulary=entry.vocabulary,
            max_dets=entry.max_dets,
        )

    def __post_init__(self) -> None:
        for metric in self.metrics:
            problem = missing_truth(metric, self.data.spec)
            if problem is not None:
                possible = list(possible_metrics(self.data.spec))
                raise ConfigError(
                    f"evaluation.{self.name}.metrics: {problem}; choose from {possible}"
                )

    def predicting_task(self, kind: OutputKind) -> Task:
        """The task whose prediction is scored as that kind of output: the set's own where it gives
        that kind.
        """
        own = get_task(self.data.spec.task)
        return own if own.output == kind else get_task(kind)


def possible_metrics(spec: DatasetSpec) -> tuple[MetricName, ...]:
    """The metrics that the truth of a dataset allows."""
    return tuple(metric for metric in get_args(MetricName) if missing_truth(metric, spec) is None)


def missing_truth(metric: MetricName, spec: DatasetSpec) -> str | None:
    """Why a metric cannot be measured on a dataset; None where it can."""
    if metric not in get_task(spec.task).metrics:
        needed = " or ".join(name for name, task in TASKS.items() if metric in task.metrics)
        return f"'{metric}' needs {needed} truth, but that of '{spec.name}' is {spec.task}"
    if metric in ("mask_ap", "box_ap") and not any(spec.is_thing):
        return f"'{metric}' scores things, but '{spec.name}' marks no class as a thing"
    return None
