"""The page of the metric: inputs as JSON."""

from pathlib import Path

import evaluate

from dataseg_hf.metrics.widget import metric_page

FOUND = [{"id": 7, "label_id": 0}, {"id": 5, "label_id": 1}]
TRUE = [{"id": 1, "label_id": 0, "iscrowd": 0}, {"id": 2, "label_id": 1, "iscrowd": 0}]
EXAMPLE = {
    "predictions": [{"segmentation": [[7, 7, 5, 5]], "segments_info": FOUND}],
    "references": [{"segmentation": [[1, 1, 1, 2]], "segments_info": TRUE}],
    "labels": ["cat", "grass"],
    "is_thing": [True, False],
}
demo = metric_page(evaluate.load(str(Path(__file__).with_name("panoptic_quality.py"))), EXAMPLE)

if __name__ == "__main__":
    demo.launch()
