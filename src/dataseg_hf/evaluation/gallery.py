"""Images with truth and prediction beside each other: the first of a set, or its best and worst."""

import math
from collections.abc import Iterator, Sequence

from PIL import Image

from ..data.sample import Instances, Sample, Segments
from ..metrics import semantic_map
from ..modeling_dataseg import DaTaSegModel
from ..visualization import boxes_overlay, overlay, prediction_grid, semantic_overlay
from .inference import (
    ImageOutput,
    Inference,
    instances_output,
    panoptic_output,
    proposals_of,
    semantic_output,
)
from .scorers import SCORERS, objects_of
from .scoring import ImageScore
from .sets import EvaluationSet

TITLES = ("image", "truth", "prediction")
LEAST_SCORE = 0.3
"""Of a drawn instance (our setting); scored are those below it too."""


def pictures(
    model: DaTaSegModel,
    chosen: EvaluationSet,
    count: int,
    image_mean: Sequence[float],
    image_std: Sequence[float],
) -> list[list[Image.Image]]:
    """Rows of image, truth and prediction for the first images of a set, drawn as its first metric sees them."""
    indices = range(min(count, len(chosen.data)))
    return list(picture_rows(model, chosen, indices, Inference(image_mean, image_std)))


def picture_rows(
    model: DaTaSegModel, chosen: EvaluationSet, indices: Sequence[int], inference: Inference
) -> Iterator[list[Image.Image]]:
    """The same for any images of the set, in the order of `indices`."""
    was_training = model.training
    model.eval()
    batches = [list(indices[start : start + chosen.batch_size]) for start in range(0, len(indices), chosen.batch_size)]
    for _, sample, output in proposals_of(model, chosen, batches, inference):
        yield [Image.fromarray(sample.image), draw_truth(sample, chosen), draw_output(output, sample, chosen)]
    model.train(was_training)


def best_and_worst(scores: Sequence[ImageScore], count: int) -> tuple[list[ImageScore], list[ImageScore]]:
    """The `count` images with the highest and the lowest score, the extreme ones first; no image is in both."""
    ranked = sorted((s for s in scores if not math.isnan(s.value)), key=lambda s: (-s.value, s.index))
    best = ranked[: min(count, math.ceil(len(ranked) / 2))]
    return best, ranked[len(best) :][-count:][::-1]


def gallery(
    model: DaTaSegModel, chosen: EvaluationSet, scores: Sequence[ImageScore], inference: Inference
) -> Image.Image:
    """Rows of image, truth and prediction, each under its image's id and score."""
    rows = list(picture_rows(model, chosen, [score.index for score in scores], inference))
    scorer = SCORERS[chosen.metrics[0]]
    what = f"{scorer.prefix}{scorer.keys[0]}"
    captions = [f"{score.image_id}: {what} {score.value:.3f}" for score in scores]
    return prediction_grid(rows, TITLES, captions=captions)


def draw_truth(sample: Sample, chosen: EvaluationSet) -> Image.Image:
    """The annotation of a sample over its image, as the first metric of its set sees it."""
    image, truth, names = Image.fromarray(sample.image), sample.annotation, chosen.data.spec.labels
    kind = SCORERS[chosen.metrics[0]].kind
    if isinstance(truth, Segments) and kind == "semantic":
        return semantic_overlay(image, semantic_map(truth), names)
    if isinstance(truth, Segments) and kind == "panoptic":
        segments = [{"id": number, "label_id": int(label)} for number, label in enumerate(truth.class_labels)]
        return overlay(image, truth.segment_map, segments, names)
    return _draw_objects(image, objects_of(sample, chosen.data.spec), chosen)


def _draw_objects(image: Image.Image, objects: Instances, chosen: EvaluationSet) -> Image.Image:
    names, label_ids = chosen.data.spec.labels, objects.class_labels.tolist()
    if objects.masks is None or chosen.metrics[0] == "box_ap":
        return boxes_overlay(image, objects.boxes, label_ids, names)
    return overlay(image, objects.masks, [{"label_id": label_id} for label_id in label_ids], names)


def draw_output(output: ImageOutput, sample: Sample, chosen: EvaluationSet) -> Image.Image:
    """What the model makes of the image, as the first metric of its set sees it."""
    image, names = Image.fromarray(sample.image), chosen.data.spec.labels
    kind = SCORERS[chosen.metrics[0]].kind
    if kind == "semantic":
        return semantic_overlay(image, semantic_output(output, sample), names)
    if kind == "panoptic":
        panoptic = panoptic_output(output, sample, chosen)
        return overlay(image, panoptic.segmentation, panoptic.segments, names)
    best = instances_output(output, sample, threshold=LEAST_SCORE)
    label_ids = best.label_ids.tolist()
    if chosen.metrics[0] == "box_ap":
        return boxes_overlay(image, best.boxes, label_ids, names)
    segments = [
        {"label_id": label_id, "score": score} for label_id, score in zip(label_ids, best.scores.tolist(), strict=True)
    ]
    return overlay(image, best.masks, segments, names)
