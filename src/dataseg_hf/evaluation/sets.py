"""A held-out set, how it is scored, and whether its truth allows that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from torch import Tensor

from ..data.sample import FREQUENCIES, DatasetSpec, Frequency, SampleDataset
from ..errors import ConfigError
from ..metrics.instances import MAX_DETS
from ..model.tasks_dataseg import TASKS, OutputKind, Task, get_task
from ..settings.entries import EvalEntry, MetricName


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
        class_groups: names of classes of which the metrics are also given by themselves.

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
    class_groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

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
            class_groups={**frequency_groups(data), **entry.class_groups},
        )

    def __post_init__(self) -> None:
        for metric in self.metrics:
            problem = missing_truth(metric, self.data.spec)
            if problem is not None:
                possible = list(possible_metrics(self.data.spec))
                raise ConfigError(
                    f"evaluation.{self.name}.metrics: {problem}; choose from {possible}"
                )
        for group, labels in self.class_groups.items():
            unknown = sorted(set(labels) - set(self.data.spec.labels))
            if unknown:
                raise ConfigError(
                    f"evaluation.{self.name}.class_groups.{group}: '{self.data.spec.name}' has no "
                    f"classes {unknown}; choose from {self.data.spec.labels}"
                )

    def predicting_task(self, kind: OutputKind) -> Task:
        """The task whose prediction is scored as that kind of output: the set's own where it gives
        that kind.
        """
        own = get_task(self.data.spec.task)
        return own if own.output == kind else get_task(kind)


def frequency_groups(data: SampleDataset) -> dict[str, list[str]]:
    """Names of classes by how often training images show them, where the files say so (LVIS); a
    class of several raw ids is as frequent as the most frequent of them.
    """
    of_class: dict[str, Frequency] = {}
    for raw_id, frequency in data.frequencies.items():
        if raw_id in data.spec.id_map:
            label = data.spec.labels[data.spec.id_map[raw_id]]
            of_class[label] = max(of_class.get(label, frequency), frequency, key=FREQUENCIES.index)
    groups = {
        frequency: [label for label in data.spec.labels if of_class.get(label) == frequency]
        for frequency in FREQUENCIES
    }
    return {frequency: labels for frequency, labels in groups.items() if labels}


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
