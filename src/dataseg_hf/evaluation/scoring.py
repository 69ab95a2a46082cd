"""Scores of a model on held-out sets: (model, sets) -> {"{set}/{metric}": value}, on any number of
processes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.collate import Normalization
from ..data.sample import BadSampleError
from ..metrics.instances import ApCurves, AveragePrecision, average_precision
from ..metrics.semantic import MeanIoU
from ..model.modeling_dataseg import DaTaSegModel
from ..model.tasks_dataseg import OutputKind
from ..processes import Gather, Processes
from ..settings.entries import MetricName
from .export import Exporter, SetExport
from .inference import Inference, outputs_of, proposals_of, share_of_batches
from .notes import Summary, no_images, notes_of, summarize
from .scorers import SCORERS
from .sets import EvaluationSet


@dataclass(frozen=True, order=True)
class ImageScore:
    """The headline of a set's first metric for one image alone, `nan` where undefined.

    Args:
        index: its place in the set.
    """

    index: int
    image_id: int | str = field(compare=False)
    value: float = field(compare=False)


@dataclass
class SetResult:
    """Everything measured on a set.

    Args:
        metrics: by name what the metric computes, per class too.
        image_scores: of all images in order, where asked for.
        confusion: int64 [C, C + 1] (`metrics.semantic`).
        curves: of mask and box AP.
        class_groups: classes of which the metrics are also given by themselves, by name.
        notes: what is odd about the predictions as a whole (`evaluation.notes`).
        nothing_found: whether the output that the first metric scores is empty in all images.
    """

    name: str
    images: int
    labels: list[str]
    metrics: dict[MetricName, dict[str, Any]]
    image_scores: list[ImageScore]
    confusion: NDArray[np.int64] | None
    curves: dict[MetricName, ApCurves]
    class_groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    nothing_found: bool = False

    def values(self) -> dict[str, float]:
        """The numbers over all classes, as fractions, e.g. `pq`, `mask_ap50`; then over each group,
        e.g. `pq_novel`.
        """
        return {
            key: value
            for name in self.metrics
            for key, value in SCORERS[name].values(self.metrics[name], self.class_groups).items()
        }


def metric_names(eval_set: EvaluationSet) -> list[str]:
    """Keys of what `evaluate` measures on a set."""
    return [
        f"{eval_set.name}/{SCORERS[name].prefix}{key}"
        for name in eval_set.metrics
        for key in SCORERS[name].reported(eval_set.class_groups)
    ]


def evaluate(
    model: DaTaSegModel,
    sets: Sequence[EvaluationSet],
    normalization: Normalization,
    rank: int = 0,
    world_size: int = 1,
    gather: Gather = lambda state: [state],
    progress: Callable[[int], Any] = lambda images: None,
) -> dict[str, float]:
    """All metrics of all sets, as fractions.

    Args:
        rank, world_size: This process scores every `world_size`-th batch, so that no image counts
            twice.
        gather: Collects an object from every process.
        progress: Called with the number of images just scored.

    Raises:
        BadSampleError: for an image that cannot be read, on every process.
    """
    inference, processes = Inference(normalization), Processes(rank, world_size, gather)
    return values_of([score(model, eval_set, inference, processes, progress) for eval_set in sets])


def values_of(results: Sequence[SetResult]) -> dict[str, float]:
    """The numbers of all sets as `{set}/{metric}`."""
    return {
        f"{result.name}/{key}": value
        for result in results
        for key, value in result.values().items()
    }


def score(
    model: DaTaSegModel,
    eval_set: EvaluationSet,
    inference: Inference,
    processes: Processes,
    progress: Callable[[int], Any] = lambda images: None,
    rank_images: bool = False,
    exporter: Exporter | None = None,
) -> SetResult:
    """All metrics of one set; the same on every process.

    Args:
        progress: Called with the number of images just scored by this process.
        rank_images: Also score each image by itself.
        exporter: Writes predictions and truth into files.

    Raises:
        BadSampleError: for an image that cannot be read, on every process.
    """
    was_training = model.training
    model.eval()
    share = _score_share(model, eval_set, inference, processes, progress, rank_images, exporter)
    model.train(was_training)
    shares: list[_Share] = processes.gather(share)
    for other in shares:
        if other.failure is not None:
            raise BadSampleError(f"evaluation.{eval_set.name}: {other.failure}")
    spec = eval_set.data.spec
    metrics: dict[MetricName, Any] = {
        name: SCORERS[name].new(spec, eval_set.max_dets) for name in eval_set.metrics
    }
    for other in shares:
        for name, metric in metrics.items():
            metric.merge(other.states[name])
    if exporter is not None and processes.rank == 0:
        exporter.finish([other.export for other in shares if other.export is not None], metrics)
    summaries = {
        kind: sum((other.summaries[kind] for other in shares), no_images(spec))
        for kind in share.summaries
    }
    curves = {
        name: metric.curves()
        for name, metric in metrics.items()
        if isinstance(metric, AveragePrecision)
    }
    return SetResult(
        name=eval_set.name,
        images=len(eval_set.data),
        labels=spec.labels,
        metrics={
            name: average_precision(curves[name], spec.labels)
            if name in curves
            else metric.compute()
            for name, metric in metrics.items()
        },
        image_scores=sorted(image_score for other in shares for image_score in other.image_scores),
        confusion=next(
            (m.state["confusion"] for m in metrics.values() if isinstance(m, MeanIoU)), None
        ),
        curves=curves,
        class_groups=eval_set.class_groups,
        notes=[
            note
            for kind, summary in summaries.items()
            for note in notes_of(summary, kind, eval_set)
        ],
        nothing_found=summaries[SCORERS[eval_set.metrics[0]].kind].is_empty,
    )


@dataclass
class _Share:
    """What one process found: states of its metrics, scores of its images, what it exported; or
    what went wrong.
    """

    states: dict[MetricName, Any]
    summaries: dict[OutputKind, Summary] = field(default_factory=dict)
    image_scores: list[ImageScore] = field(default_factory=list)
    export: SetExport | None = None
    failure: str | None = None


def _score_share(
    model: DaTaSegModel,
    eval_set: EvaluationSet,
    inference: Inference,
    processes: Processes,
    progress: Callable[[int], Any],
    rank_images: bool,
    exporter: Exporter | None,
) -> _Share:
    """The images of this process. A failure is handed on, because the other processes wait at the
    gathering.
    """
    spec = eval_set.data.spec
    metrics = {name: SCORERS[name].new(spec, eval_set.max_dets) for name in eval_set.metrics}
    kinds = list(dict.fromkeys(SCORERS[name].kind for name in eval_set.metrics))
    share = _Share(
        {}, dict.fromkeys(kinds, no_images(spec)), export=None if exporter is None else SetExport()
    )
    batches = share_of_batches(
        len(eval_set.data), eval_set.batch_size, processes.rank, processes.world_size
    )
    try:
        for index, sample, proposals in proposals_of(model, eval_set, batches, inference):
            outputs = outputs_of(proposals, sample, eval_set, kinds)
            for name, metric in metrics.items():
                scorer = SCORERS[name]
                of_image = scorer.new(spec, eval_set.max_dets)
                scorer.update(of_image, outputs[scorer.kind], sample, spec)
                metric.merge(of_image.state)
                if rank_images and name == eval_set.metrics[0]:
                    share.image_scores.append(
                        ImageScore(index, sample.image_id, scorer.headline(of_image))
                    )
            for kind in kinds:
                share.summaries[kind] += summarize(outputs[kind], proposals, sample, spec)
            if exporter is not None and share.export is not None:
                exporter.write(share.export, index, sample, outputs)
            progress(1)
    except BadSampleError as error:
        share.failure = str(error)
    share.states = {name: metric.state for name, metric in metrics.items()}
    return share
