"""Panoptic quality as a module of `evaluate`; the counting is dataseg_hf.metrics'."""

from typing import Any

import datasets
import evaluate
import numpy as np

from dataseg_hf.metrics import PanopticQuality as Counter
from dataseg_hf.metrics.panoptic import panoptic_counts

DESCRIPTION = """Panoptic quality, PQ = SQ * RQ, of all classes, things and stuff, by the rules of
COCO's panopticapi."""
INPUTS = """
Args:
    predictions: per image a dict with `segmentation`, int [H, W], a segment id per pixel, and
    `segments_info`, a list
        of dicts with `id` and `label_id` (what transformers' post_process_panoptic_segmentation
        returns). Ids that are
        not listed are unassigned.
    references: the same of the truth, with `iscrowd` (0 or 1) beside `id` and `label_id`. Ids that
    are not listed are
        void.
    labels: class names; `label_id` is a place among them.
    is_thing: per class whether it is countable.
Returns:
    `pq`, `sq`, `rq`, the same with `_things` and `_stuff`, and `per_class`, as fractions.
"""
CITATION = """@inproceedings{kirillov2019panoptic,
  title={Panoptic Segmentation},
  author={Kirillov, Alexander and He, Kaiming and Girshick, Ross and Rother, Carsten and
    Doll{\\'a}r, Piotr},
  booktitle={CVPR},
  year={2019}
}"""
MAP = datasets.List(datasets.List(datasets.Value("int64")))
SEGMENTS = datasets.Json()  # dicts whose keys may differ, as those of transformers do


class PanopticQuality(evaluate.Metric):
    """Panoptic quality of id maps."""

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": {"segmentation": MAP, "segments_info": SEGMENTS},
            "references": {"segmentation": MAP, "segments_info": SEGMENTS},
        }
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(features),
        )

    def _compute(
        self, predictions: list[Any], references: list[Any], labels: list[str], is_thing: list[bool]
    ) -> dict[str, Any]:
        metric = Counter(labels, is_thing)
        for prediction, reference in zip(predictions, references, strict=True):
            metric.add(
                panoptic_counts(
                    np.array(prediction["segmentation"], dtype=np.int64),
                    prediction["segments_info"],
                    np.array(reference["segmentation"], dtype=np.int64),
                    reference["segments_info"],
                    len(labels),
                )
            )
        return metric.compute()
