"""COCO's average precision of masks or boxes as a module of `evaluate`; the counting is
dataseg_hf.metrics'.
"""

from typing import Any

import datasets
import evaluate
import numpy as np

from dataseg_hf.metrics import AveragePrecision as Counter

DESCRIPTION = """Average precision and recall of scored instances, masks or boxes, equal to
pycocotools. Masks may overlap and stay run-length encoded throughout."""
INPUTS = """
Args:
    predictions: per image a dict with `scores` [K], `label_ids` [K], `masks`, K RLE dicts (`size`
    [height, width] and
        `counts`, COCO's compressed text), and `boxes` [K, 4], xyxy in pixels. Of the last two the
        one that is scored
        must be there, the other may be empty.
    references: per image a dict with `label_ids` [M], `iscrowd` [M] (0 or 1), `masks` and `boxes`
    as above.
    labels: class names; a label id is a place among them.
    iou_type: "segm" for masks (if not given), "bbox" for boxes.
    max_dets: predictions per image and class that count, the best ones (100 if not given).
Returns:
    `ap`, `ap50`, `ap75`, `ap_small`, `ap_medium`, `ap_large`, `ar1`, `ar10`, `ar100` (that of
    `max_dets`),
    `ar_small`, `ar_medium`, `ar_large` and `per_class`, as fractions.
"""
CITATION = """@inproceedings{lin2014microsoft,
  title={Microsoft {COCO}: Common Objects in Context},
  author={Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James and Perona,
    Pietro and Ramanan, Deva and Doll{\\'a}r, Piotr and Zitnick, C. Lawrence},
  booktitle={ECCV},
  year={2014}
}"""
INTEGERS, NUMBERS = datasets.List(datasets.Value("int64")), datasets.List(datasets.Value("float64"))
SHAPES = {
    "masks": datasets.List({"size": INTEGERS, "counts": datasets.Value("string")}),
    "boxes": datasets.List(NUMBERS),
    "label_ids": INTEGERS,
}


class AveragePrecision(evaluate.Metric):
    """Average precision of instances."""

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": {**SHAPES, "scores": NUMBERS},
            "references": {**SHAPES, "iscrowd": INTEGERS},
        }
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(features),
        )

    def _compute(
        self,
        predictions: list[Any],
        references: list[Any],
        labels: list[str],
        iou_type: str = "segm",
        max_dets: int = 100,
    ) -> dict[str, Any]:
        metric = Counter(labels, iou_type, max_dets)
        for number, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
            masks = [*reference["masks"], *prediction["masks"]]
            size = tuple(masks[0]["size"]) if masks else (0, 0)
            metric.update(_given(prediction), _given(reference), size, number)
        return metric.compute()


def _given(instances: dict[str, Any]) -> dict[str, Any]:
    """As the metric takes them: without shapes that are left empty although there are instances."""
    label_ids = np.array(instances["label_ids"], dtype=np.int64)
    absent = {key for key in ("masks", "boxes") if len(label_ids) and not len(instances[key])}
    return {key: value for key, value in instances.items() if key not in absent} | {
        "label_ids": label_ids
    }
