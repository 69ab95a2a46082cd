"""Mean IoU as a module of `evaluate`; the counting is dataseg_hf.metrics'."""

from typing import Any

import datasets
import evaluate
import numpy as np

from dataseg_hf.metrics import MeanIoU as Counter

DESCRIPTION = """Mean IoU of semantic segmentation over the pixels of all images together,
frequency-weighted IoU, pixel and mean accuracy."""
INPUTS = """
Args:
    predictions: per image an int map [H, W], a class per pixel; a value that is no class counts as
    wrong.
    references: per image an int map [H, W].
    labels: class names; a class is a place among them.
    ignore_index: value of the references that is left out (255 if not given).
Returns:
    `miou`, `fwiou`, `pixel_acc`, `mean_acc` and `per_class`, as fractions.
"""
MAP = datasets.List(datasets.List(datasets.Value("int64")))


class MeanIou(evaluate.Metric):
    """Mean IoU of class maps."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": MAP, "references": MAP}),
        )

    def _compute(
        self,
        predictions: list[Any],
        references: list[Any],
        labels: list[str],
        ignore_index: int = 255,
    ) -> dict[str, Any]:
        metric = Counter(labels, ignore_index)
        for prediction, reference in zip(predictions, references, strict=True):
            metric.update(np.array(prediction, dtype=np.int64), np.array(reference, dtype=np.int64))
        return metric.compute()
