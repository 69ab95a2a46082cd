"""What keeps the mask AP of a model low: masks, their classes or their order.

    python -m benchmarks.ap_limits --model outputs/photos --held_out coco_val

Scores a held-out set of the run in the model's folder as it is; with the true class given to every
mask that overlaps an object by half; with right predictions put before wrong ones; and with both.
And counts the objects for which there is such a mask at all, by COCO's sizes.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.sample import Instances, Sample
from dataseg_hf.evaluation.inference import (
    ImageOutput,
    Inference,
    InstanceOutput,
    as_arrays,
    proposals_of,
    share_of_batches,
    size_of,
)
from dataseg_hf.evaluation.run import evaluation_set
from dataseg_hf.evaluation.scorers import objects_of
from dataseg_hf.evaluation.sets import EvaluationSet
from dataseg_hf.evaluation.settings import EvaluationOptions, read_held_out
from dataseg_hf.metrics import AveragePrecision
from dataseg_hf.metrics.instances import MAX_DETS
from dataseg_hf.model.postprocessing_dataseg import instance_prediction
from dataseg_hf.model.thresholds_dataseg import Thresholds
from dataseg_hf.sharing.checkpoint import load_checkpoint

HALF = 0.5  # IoU
SIZES = {"small": 0, "medium": 32**2, "large": 96**2}  # pixels, at least
Change = Callable[[InstanceOutput, Instances, NDArray[np.float64]], None]


def with_true_classes(found: InstanceOutput, truth: Instances, ious: NDArray[np.float64]) -> None:
    """Give each mask of an object its class."""
    classes = np.asarray(truth.class_labels)[ious.argmax(1)]
    found.label_ids = np.where(ious.max(1) >= HALF, classes, found.label_ids)


def right_ones_first(found: InstanceOutput, truth: Instances, ious: NDArray[np.float64]) -> None:
    """Let predictions that overlap an object of their class by half have the highest scores."""
    same = np.asarray(truth.class_labels)[None] == found.label_ids[:, None]
    right = ((ious >= HALF) & same).any(1)
    found.scores = (found.scores + right) / 2


def both(found: InstanceOutput, truth: Instances, ious: NDArray[np.float64]) -> None:
    """Classes first, then their order."""
    with_true_classes(found, truth, ious)
    right_ones_first(found, truth, ious)


def nothing(found: InstanceOutput, truth: Instances, ious: NDArray[np.float64]) -> None:
    """As the model says."""


CHANGES: dict[str, Change] = {
    "as predicted": nothing,
    "classes given": with_true_classes,
    "order given": right_ones_first,
    "both given": both,
}


def mask_ious(masks: NDArray[np.bool_], others: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU [K, M] of masks [K, H, W] and [M, H, W]."""
    one, other = (a.reshape(len(a), -1).astype(np.float32) for a in (masks, others))
    shared = one @ other.T
    return shared / np.maximum(one.sum(1)[:, None] + other.sum(1)[None] - shared, 1)


def outputs(folder: Path, name: str) -> tuple[EvaluationSet, list[tuple[Sample, ImageOutput]]]:
    """The held-out set of a run, and what its model proposes."""
    model, processor = load_checkpoint(str(folder))
    held_out = read_held_out(str(folder / "run_config.yaml"))
    entry = held_out.entries([name])[name]
    options = EvaluationOptions(model=str(folder))
    eval_set = evaluation_set(name, entry, options, held_out, model.eval())
    inference = Inference(Normalization(processor.image_mean, processor.image_std))
    batches = share_of_batches(len(eval_set.data), eval_set.batch_size)
    found = proposals_of(model, eval_set, batches, inference)
    return eval_set, [(sample, output) for _, sample, output in found]


def instances(sample: Sample, output: ImageOutput) -> InstanceOutput:
    """The best 100 predictions of an image."""
    prediction = instance_prediction(output.proposals, size_of(sample), Thresholds(score=0.0))
    found = as_arrays(prediction)
    assert isinstance(found, InstanceOutput)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="folder of a run")
    parser.add_argument("--held_out", required=True, help="entry of its evaluation")
    options = parser.parse_args(arguments)
    eval_set, found = outputs(options.model, options.held_out)
    spec = eval_set.data.spec
    metrics = {name: AveragePrecision(spec.labels, "segm", MAX_DETS) for name in CHANGES}
    counts = {size: np.zeros(3, int) for size in SIZES}
    for sample, output in found:
        truth = objects_of(sample, spec)
        for name, change in CHANGES.items():
            predicted = instances(sample, output)
            if truth.masks is not None and len(truth.masks) and len(predicted.scores):
                ious = mask_ious(predicted.masks, truth.masks)
                if change is nothing:
                    count(predicted, truth, ious, counts)
                change(predicted, truth, ious)
            scored: Any = vars(predicted)
            metrics[name].update(scored, truth, size_of(sample), sample.image_id)
    for name, metric in metrics.items():
        result = metric.compute()
        print(f"{name:<14} AP {result['ap']:.3f}  AP50 {result['ap50']:.3f}")
    for size, (objects, masks, classes) in counts.items():
        print(f"{size:<14} {objects} objects, {masks} with a mask, {classes} of the right class")


def count(
    found: InstanceOutput,
    truth: Instances,
    ious: NDArray[np.float64],
    counts: dict[str, NDArray[np.int_]],
) -> None:
    """Add the objects of an image: all, those with a mask, and with one of their class."""
    assert truth.masks is not None
    for number, class_label in enumerate(truth.class_labels):
        area = int(truth.masks[number].sum())
        size = max((name for name in SIZES if area >= SIZES[name]), key=SIZES.__getitem__)
        near = ious[:, number] >= HALF
        counts[size] += [1, near.any(), (near & (found.label_ids == class_label)).any()]


if __name__ == "__main__":
    main()
