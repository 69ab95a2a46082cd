"""How often an object is shown more than once, and what suppressing repeats by mask IoU (`nms`)
changes.

    python benchmarks/repeated_instances.py --model outputs/shapes \
    --config shapes \
        --datasets shapes_boxes --evaluation.shapes_boxes.count 200

Of each held-out set with objects: the objects shown above the threshold per true object, those of
them that are the second or later of their true object (IoU above 0.5, same category), and mask AP,
without `nms` and with several IoUs.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.sample import Instances
from dataseg_hf.evaluation.inference import (
    Inference,
    InstanceOutput,
    output_of,
    proposals_of,
    share_of_batches,
    size_of,
)
from dataseg_hf.evaluation.run import evaluation_set
from dataseg_hf.evaluation.scorers import objects_of
from dataseg_hf.evaluation.settings import EvaluationOptions, read_held_out
from dataseg_hf.metrics import AveragePrecision
from dataseg_hf.metrics.instances import Predictions
from dataseg_hf.model.mask_nms_dataseg import without_repeats
from dataseg_hf.settings.ready_configs import config_file
from dataseg_hf.sharing.checkpoint import load_checkpoint

IOUS = (None, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3)
MATCH = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default="outputs/shapes", help="folder of a checkpoint, or its id on the Hub"
    )
    parser.add_argument(
        "--config",
        default="shapes",
        help="settings with the held-out sets",
    )
    parser.add_argument("--datasets", nargs="+", required=True, help="entries of `evaluation`")
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="least score of an object that is shown"
    )
    options, overrides = parser.parse_known_args()
    settings = read_held_out(config_file(options.config), overrides)
    model, processor = load_checkpoint(options.model)
    model.eval()
    inference = Inference(Normalization(processor.image_mean, processor.image_std))
    for name, entry in settings.entries(options.datasets).items():
        held_out = evaluation_set(name, entry, EvaluationOptions(options.model), settings, model)
        spec, results = (
            held_out.data.spec,
            {iou: Result(AveragePrecision(held_out.data.spec.labels)) for iou in IOUS},
        )
        batches = share_of_batches(len(held_out.data), held_out.batch_size)
        for _, sample, output in proposals_of(model, held_out, batches, inference):
            truth = objects_of(sample, spec)
            found = output_of(output, sample, held_out, "instance")
            assert isinstance(found, InstanceOutput)
            for iou, result in results.items():
                result.add(
                    truth, reduced(found, iou), size_of(sample), sample.image_id, options.threshold
                )
        print(f"{name}: {len(held_out.data)} images, {results[None].objects} objects")
        print(
            "| nms | shown per object | repeated | objects found | mask AP | AP50 "
            "|\n|---|---|---|---|---|---|"
        )
        for iou, result in results.items():
            print(result.row("off" if iou is None else str(iou)), flush=True)


class Result:
    """Counts and AP of one setting."""

    def __init__(self, metric: AveragePrecision) -> None:
        self.metric = metric
        self.objects = self.shown = self.found = self.repeated = 0

    def add(
        self,
        truth: Instances,
        found: InstanceOutput,
        size: tuple[int, int],
        image_id: int | str,
        threshold: float,
    ) -> None:
        """One image."""
        if truth.masks is None:
            raise ValueError(f"image {image_id}: the truth has boxes only; masks are compared")
        predictions: Predictions = {
            "masks": found.masks,
            "scores": found.scores,
            "label_ids": found.label_ids,
        }
        self.metric.update(predictions, truth, size, image_id)
        shown = found.scores > threshold
        own = np.flatnonzero(~truth.is_crowd)
        masks = truth.masks[own].astype(bool)
        self.objects += len(own)
        self.shown += int(shown.sum())
        hits = [
            int(np.argmax(ious)) if len(ious) and ious.max() > MATCH else -1
            for ious in (
                same_class_ious(mask, label, masks, truth.class_labels[own])
                for mask, label in zip(found.masks[shown], found.label_ids[shown], strict=True)
            )
        ]
        matched = [hit for hit in hits if hit >= 0]
        self.found += len(set(matched))
        self.repeated += len(matched) - len(set(matched))

    def row(self, name: str) -> str:
        """A line of the table."""
        ap = self.metric.compute()
        shares = (
            self.shown / self.objects,
            self.repeated / self.objects,
            self.found / self.objects,
        )
        numbers = [f"{share:.2f}" for share in shares] + [
            f"{ap[key]:.3f}" for key in ("ap", "ap50")
        ]
        return " | ".join(["| " + name, *numbers]) + " |"


def reduced(found: InstanceOutput, iou: float | None) -> InstanceOutput:
    """What `nms` leaves."""
    if iou is None:
        return found
    whole = slice(0, found.masks.shape[1]), slice(0, found.masks.shape[2])
    areas = found.masks.sum((1, 2)).tolist()
    kept = without_repeats(
        list(found.masks), [whole] * len(areas), areas, found.label_ids.tolist(), iou
    )
    return InstanceOutput(
        found.masks[kept], found.boxes[kept], found.scores[kept], found.label_ids[kept]
    )


def same_class_ious(
    mask: NDArray[np.bool_],
    label: int,
    masks: NDArray[np.bool_],
    labels: Sequence[int] | NDArray[np.int64],
) -> NDArray[np.float64]:
    """IoU of a mask [H, W] with each of [M, H, W]; 0 where the category differs."""
    both, either = (masks & mask).sum((1, 2)), (masks | mask).sum((1, 2))
    return np.where(np.asarray(labels) == label, both / np.maximum(either, 1), 0.0)


if __name__ == "__main__":
    main()
