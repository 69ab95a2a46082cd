"""What to say beside the metrics of a set whose predictions, as a whole, cannot be right: none, or
all of one class.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.sample import DatasetSpec, Sample, Segments
from ..metrics import semantic_map
from ..model.tasks_dataseg import OutputKind
from .certain_truth import certain_pixels, open_classes
from .inference import ImageOutput, InstanceOutput, Output, PanopticOutput
from .scorers import objects_of, segments_of
from .sets import EvaluationSet

MIN_SCORE = 0.3
"""Least score of a drawn instance (our setting); those below it are scored, too."""
ONE_CLASS, MAX_TRUE_SHARE = 0.99, 0.9
"""Share of the predictions above which they count as one class, unless it has that share of the
truth (our setting).
"""
NEXT_TO_NOTHING = 0.01
"""Predictions for each segment or object of the truth up to which a model finds nothing (our
setting).
"""

_UNITS: dict[OutputKind, str] = {"panoptic": "segment", "semantic": "pixel", "instance": "object"}
_METRIC_OF: dict[OutputKind, str] = {
    "panoptic": "panoptic quality",
    "semantic": "mean IoU",
    "instance": "average precision",
}


@dataclass
class Summary:
    """The predictions of one kind over some images.

    Args:
        images: how many.
        predicted, true: int64 [C], the number of pixels, segments, or objects (from `MIN_SCORE` on)
            of each class.
        highest: class probability or score of any proposal.
        unjudged, judged: in images with classes that are annotated in part, the pixels, or the
            predicted objects (from `MIN_SCORE` on), of which the truth does not tell whether they
            are right, and the others.
    """

    images: int
    predicted: NDArray[np.int64]
    true: NDArray[np.int64]
    highest: float
    unjudged: int = 0
    judged: int = 0

    def __add__(self, other: "Summary") -> "Summary":
        """The summary of the images of both."""
        return Summary(
            self.images + other.images,
            self.predicted + other.predicted,
            self.true + other.true,
            max(self.highest, other.highest),
            self.unjudged + other.unjudged,
            self.judged + other.judged,
        )

    @property
    def is_empty(self) -> bool:
        """Whether (next to) nothing was found in images that show something."""
        return bool(self.true.any()) and self.predicted.sum() <= NEXT_TO_NOTHING * self.true.sum()


def no_images(spec: DatasetSpec) -> Summary:
    """What summaries are added to."""
    none = np.zeros(len(spec.classes), np.int64)
    return Summary(0, none, none, 0.0)


def summarize(
    predicted: Output,
    output: ImageOutput,
    sample: Sample,
    spec: DatasetSpec,
) -> Summary:
    """The summary of one image.

    Args:
        predicted: the output of one kind, see `outputs_of`.
    """
    judged = _judged(predicted, sample, spec)
    truth = sample.annotation
    if isinstance(predicted, InstanceOutput):
        found, true = _shown(predicted), objects_of(sample, spec).class_labels
        highest = float(predicted.scores.max(initial=0.0))
        return Summary(1, _counts(found, spec), _counts(true, spec), highest, *judged)
    assert isinstance(truth, Segments)
    if isinstance(predicted, PanopticOutput):
        labels = np.array([segment["label_id"] for segment in predicted.segments], np.int64)
        highest = float(output.proposals.class_logits.float().softmax(-1)[:, :-1].max())
        return Summary(
            1, _counts(labels, spec), _counts(truth.class_labels, spec), highest, *judged
        )
    return Summary(1, _counts(predicted, spec), _counts(semantic_map(truth), spec), 1.0, *judged)


def _shown(predicted: InstanceOutput) -> NDArray[np.int64]:
    """The classes of the objects that a picture would show, [at most K]."""
    return predicted.label_ids[predicted.scores >= MIN_SCORE]


def _judged(predicted: Output, sample: Sample, spec: DatasetSpec) -> tuple[int, int]:
    """How many pixels or objects are unjudged, and how many are judged; (0, 0) where all classes
    are annotated in whole.
    """
    open_here = open_classes(sample, spec)
    if not open_here:
        return 0, 0
    if isinstance(predicted, InstanceOutput):
        unjudged = np.isin(_shown(predicted), list(open_here))
    else:
        truth = semantic_map(segments_of(sample))
        classes = predicted.classes if isinstance(predicted, PanopticOutput) else predicted
        unjudged = certain_pixels(truth, classes, open_here) < 0
    count = int(np.count_nonzero(unjudged))
    return count, unjudged.size - count


def notes_of(summary: Summary, kind: OutputKind, eval_set: EvaluationSet) -> list[str]:
    """What is odd about the predictions of a set, with the likely reason, and how many of them its
    truth cannot judge; nothing where they look alive and can be judged.
    """
    return [*_oddities(summary, kind, eval_set), *_unjudged_note(summary, kind)]


def _unjudged_note(summary: Summary, kind: OutputKind) -> list[str]:
    if not summary.unjudged + summary.judged:
        return []
    what = "pixels are void or are" if kind != "instance" else "objects are"
    total = summary.unjudged + summary.judged
    return [
        f"{summary.unjudged:,} of {total:,} {what} predicted as a class that these images may show "
        f"without annotation: where they meet none of it, they count nowhere in the "
        f"{_METRIC_OF[kind]}"
    ]


def _oddities(summary: Summary, kind: OutputKind, eval_set: EvaluationSet) -> list[str]:
    if summary.is_empty:
        if kind == "instance":
            what = (
                f"the highest score is {summary.highest:.2f}, and pictures show those from "
                f"{MIN_SCORE} on"
            )
        else:
            what = (
                f"the highest class probability is {summary.highest:.2f}, and a segment needs more "
                f"than the threshold {eval_set.threshold} and than 'nothing there', and "
                f"{eval_set.overlap_threshold} of its mask"
            )
        count = int(summary.predicted.sum())
        return [
            f"{count or 'no'} {_UNITS[kind]}{'s' * (count != 1)} in {summary.images} images, where "
            f"the truth has {summary.true.sum()}: {what}. Usual after a short training, when "
            f"scores are still low{'' if kind == 'instance' else '; a lower threshold shows more'}"
        ]
    total = summary.predicted.sum()
    first = int(summary.predicted.argmax())
    share = summary.predicted[first] / max(1, total)
    if share >= ONE_CLASS and summary.true[first] < MAX_TRUE_SHARE * summary.true.sum():
        return [
            f"{share:.0%} of the predicted {_UNITS[kind]}s are "
            f"'{eval_set.data.spec.labels[first]}', one of {np.count_nonzero(summary.true)} "
            "classes in the truth. Usual after a short training; later a sign of a rate too high, "
            "of a class that dominates the mix, or of names whose embeddings are alike"
        ]
    return []


def _counts(labels: NDArray[np.integer], spec: DatasetSpec) -> NDArray[np.int64]:
    return np.bincount(labels[labels >= 0], minlength=len(spec.classes)).astype(np.int64)
