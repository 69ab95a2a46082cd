"""The page of the metric: inputs as JSON."""

from pathlib import Path

import evaluate

from dataseg_hf.metrics.widget import metric_page

EXAMPLE = {
    "predictions": [
        {
            "boxes": [[0, 0, 72, 100], [5, 5, 9, 9]],
            "scores": [0.9, 0.4],
            "label_ids": [0, 1],
            "masks": [],
        }
    ],
    "references": [{"boxes": [[0, 0, 100, 100]], "label_ids": [0], "iscrowd": [0], "masks": []}],
    "labels": ["cat", "dog"],
    "iou_type": "bbox",
}
demo = metric_page(evaluate.load(str(Path(__file__).with_name("mask_ap.py"))), EXAMPLE)

if __name__ == "__main__":
    demo.launch()
