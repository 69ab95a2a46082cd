"""The page of the metric: inputs as JSON."""

from pathlib import Path

import evaluate

from dataseg_hf.metrics.widget import metric_page

EXAMPLE = {
    "predictions": [[[0, 0, 1, 1]]],
    "references": [[[0, 1, 1, 255]]],
    "labels": ["road", "wall"],
    "ignore_index": 255,
}
demo = metric_page(evaluate.load(str(Path(__file__).with_name("mean_iou.py"))), EXAMPLE)

if __name__ == "__main__":
    demo.launch()
