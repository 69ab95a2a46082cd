"""Images with truth and prediction beside each other: the first of a set, or its best and worst."""

import math
from collections.abc import Iterator, Sequence

from PIL import Image

from ..data.collate import Normalization
from ..data.sample import Instances, Sample, Segments
from ..metrics import semantic_map
from ..model.modeling_dataseg import DaTaSegModel
from ..pictures.overlay import boxes_overlay, overlay, prediction_grid, semantic_overlay
from .inference import (
    ImageOutput,
    Inference,
    InstanceOutput,
    PanopticOutput,
    best_proposals,
    output_of,
    proposals_of,
)
from .notes import MIN_SCORE
from .scorers import SCORERS, objects_of
from .scoring import ImageScore
from .sets import EvaluationSet

TITLES = ("image", "truth", "prediction")
MAX_PROPOSALS = 5
"""Drawn of an image where the model finds nothing in a whole set (our setting)."""


def pictures(
    model: DaTaSegModel,
    eval_set: EvaluationSet,
    count: int,
    normalization: Normalization,
    nothing_found: bool = False,
) -> list[list[Image.Image]]:
    """Rows of image, truth and prediction for the first images of a set, drawn as its first metric
    sees them.

    Args:
        nothing_found: whether the model finds nothing in the whole set; the best proposals then
            stand for the prediction.
    """
    indices = range(min(count, len(eval_set.data)))
    return list(picture_rows(model, eval_set, indices, Inference(normalization), nothing_found))


def titles(nothing_found: bool) -> list[str]:
    """Titles of the columns: image, truth and prediction."""
    return [
        *TITLES[:2],
        f"{MAX_PROPOSALS} best proposals (nothing found)" if nothing_found else TITLES[2],
    ]


def picture_rows(
    model: DaTaSegModel,
    eval_set: EvaluationSet,
    indices: Sequence[int],
    inference: Inference,
    nothing_found: bool = False,
) -> Iterator[list[Image.Image]]:
    """The same for any images of the set, in the order of `indices`."""
    was_training = model.training
    model.eval()
    batches = [
        list(indices[start : start + eval_set.batch_size])
        for start in range(0, len(indices), eval_set.batch_size)
    ]
    for _, sample, output in proposals_of(model, eval_set, batches, inference):
        draw = draw_proposals if nothing_found else draw_output
        yield [
            Image.fromarray(sample.image),
            draw_truth(sample, eval_set),
            draw(output, sample, eval_set),
        ]
    model.train(was_training)


def best_and_worst(
    scores: Sequence[ImageScore], count: int
) -> tuple[list[ImageScore], list[ImageScore]]:
    """The `count` images with the highest and the lowest score, the extreme ones first; no image is
    in both.
    """
    ranked = sorted(
        (s for s in scores if not math.isnan(s.value)), key=lambda s: (-s.value, s.index)
    )
    best = ranked[: min(count, math.ceil(len(ranked) / 2))]
    return best, ranked[len(best) :][-count:][::-1]


def gallery(
    model: DaTaSegModel,
    eval_set: EvaluationSet,
    scores: Sequence[ImageScore],
    inference: Inference,
    nothing_found: bool = False,
) -> Image.Image:
    """Rows of image, truth and prediction, each under its image's id and score; `nothing_found` as
    for `pictures`.
    """
    rows = list(
        picture_rows(model, eval_set, [score.index for score in scores], inference, nothing_found)
    )
    scorer = SCORERS[eval_set.metrics[0]]
    what = f"{scorer.prefix}{scorer.keys[0]}"
    captions = [f"{score.image_id}: {what} {score.value:.3f}" for score in scores]
    return prediction_grid(rows, titles(nothing_found), captions=captions)


def draw_truth(sample: Sample, eval_set: EvaluationSet) -> Image.Image:
    """The annotation of a sample over its image, as the first metric of its set sees it."""
    image, truth, names = (
        Image.fromarray(sample.image),
        sample.annotation,
        eval_set.data.spec.labels,
    )
    task = eval_set.predicting_task(SCORERS[eval_set.metrics[0]].kind)
    if not isinstance(truth, Segments) or task.may_overlap:
        return _draw_objects(image, objects_of(sample, eval_set.data.spec), eval_set)
    if task.sums_proposals:
        return semantic_overlay(image, semantic_map(truth), names)
    segments = [
        {"id": number, "label_id": int(label)} for number, label in enumerate(truth.class_labels)
    ]
    return overlay(image, truth.segment_map, segments, names)


def _draw_objects(image: Image.Image, objects: Instances, eval_set: EvaluationSet) -> Image.Image:
    names, label_ids = eval_set.data.spec.labels, objects.class_labels.tolist()
    if objects.masks is None or eval_set.metrics[0] == "box_ap":
        return boxes_overlay(image, objects.boxes, label_ids, names)
    return overlay(image, objects.masks, [{"label_id": label_id} for label_id in label_ids], names)


def draw_output(output: ImageOutput, sample: Sample, eval_set: EvaluationSet) -> Image.Image:
    """What the model makes of the image, as the first metric of its set sees it."""
    image, names = Image.fromarray(sample.image), eval_set.data.spec.labels
    found = output_of(output, sample, eval_set, SCORERS[eval_set.metrics[0]].kind, MIN_SCORE)
    if isinstance(found, InstanceOutput):
        return _draw_scored(found, image, eval_set)
    if isinstance(found, PanopticOutput):
        return overlay(image, found.segmentation, found.segments, names)
    return semantic_overlay(image, found, names)


def draw_proposals(output: ImageOutput, sample: Sample, eval_set: EvaluationSet) -> Image.Image:
    """What the model is surest of in an image of a set in which it finds nothing."""
    task = eval_set.predicting_task(SCORERS[eval_set.metrics[0]].kind)
    best = best_proposals(output, sample, MAX_PROPOSALS, things_only=task.may_overlap)
    return _draw_scored(best, Image.fromarray(sample.image), eval_set)


def _draw_scored(found: InstanceOutput, image: Image.Image, eval_set: EvaluationSet) -> Image.Image:
    """Scored objects as boxes or masks."""
    names, label_ids = eval_set.data.spec.labels, found.label_ids.tolist()
    if eval_set.metrics[0] == "box_ap":
        return boxes_overlay(image, found.boxes, label_ids, names)
    segments = [
        {"label_id": label_id, "score": score}
        for label_id, score in zip(label_ids, found.scores.tolist(), strict=True)
    ]
    return overlay(image, found.masks, segments, names)
