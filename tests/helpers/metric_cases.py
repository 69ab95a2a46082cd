"""Annotations and predictions that the tests of the metrics share."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataseg_hf.data.sample import Instances, Segments
from dataseg_hf.metrics import (
    AveragePrecision,
    MeanIoU,
    PanopticQuality,
    instances_from_segments,
    semantic_map,
)
from helpers.paths import ROOT

_spec = importlib.util.spec_from_file_location("peers", ROOT / "benchmarks" / "peers.py")
peers = importlib.util.module_from_spec(_spec)
"""The reference algorithms, which the benchmarks time too."""
sys.modules["peers"] = peers
_spec.loader.exec_module(peers)

LABELS = ["person", "dog", "grass", "sky"]
IS_THING = [True, True, False, False]


def data_folder() -> Path:
    """The folder of real data; skips the test where there is none."""
    if "DATASEG_DATA" not in os.environ:
        pytest.skip("DATASEG_DATA is not set")
    return Path(os.environ["DATASEG_DATA"])


def published(name: str) -> dict[str, Any]:
    """Published numbers of one metric fixture."""
    return json.loads((data_folder() / "metric_fixtures/EXPECTED.json").read_text())[name]


def segments(segment_map, class_labels, crowd=()) -> Segments:
    return Segments(
        np.array(segment_map, dtype=np.int32),
        np.array(class_labels, dtype=np.int64),
        np.array([i in crowd for i in range(len(class_labels))], dtype=bool),
    )


def listed(labels: dict[int, int]) -> list[dict[str, int]]:
    return [{"id": i, "label_id": label} for i, label in labels.items()]


def as_prediction(truth: Segments):
    """The truth itself, as ids from 1 on and the list of those that have pixels."""
    present = np.unique(truth.segment_map[truth.segment_map >= 0])
    return truth.segment_map + 1, listed({int(i) + 1: int(truth.class_labels[i]) for i in present})


def boxes_truth(boxes, labels, crowd=(), masks=None) -> Instances:
    return Instances(
        np.array(labels, dtype=np.int64),
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array([i in crowd for i in range(len(labels))], dtype=bool),
        masks,
    )


def box_masks(boxes, size) -> np.ndarray:
    masks = np.zeros((len(boxes), *size), dtype=bool)
    for mask, (x0, y0, x1, y1) in zip(masks, np.asarray(boxes, dtype=int), strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def two_objects(iou_type):
    """Hits at scores 0.9 and 0.7 with a miss at 0.8 between them; one object is small, one is
    medium.
    """
    true = [[0, 0, 10, 10], [20, 20, 60, 60]]
    found = [[0, 0, 10, 10], [70, 70, 80, 80], [20, 20, 60, 60]]
    size = (80, 80)
    truth = boxes_truth(true, [0, 0], masks=box_masks(true, size))
    predictions = {"scores": np.array([0.9, 0.8, 0.7]), "label_ids": np.array([0, 0, 0])}
    predictions |= (
        {"masks": box_masks(found, size)} if iou_type == "segm" else {"boxes": np.array(found)}
    )
    return predictions, truth, size


def random_images(seed: int, count: int, first_id: int = 0):
    """(image id, truth, pred_map, labels of the prediction, predictions of instances) per image;
    scores often tie.
    """
    rng = np.random.default_rng(seed)
    images = []
    for image_id in range(first_id, first_id + count):
        number = int(rng.integers(1, 5))
        blocks = rng.integers(-1, number, (3, 4)).astype(np.int32)
        truth = Segments(
            blocks.repeat(4, 0).repeat(4, 1), rng.integers(0, 4, number), rng.random(number) < 0.2
        )
        pred_map = np.roll(truth.segment_map, (1, 0), axis=(0, 1))
        labels = {int(i): int(truth.class_labels[i]) for i in np.unique(pred_map) if i >= 0}
        masks = np.array([pred_map == i for i in labels], dtype=bool).reshape(-1, 12, 16)
        scores, label_ids = (
            rng.integers(1, 4, len(labels)) / 4,
            np.array(list(labels.values()), dtype=np.int64),
        )
        images.append(
            (
                image_id,
                truth,
                pred_map,
                labels,
                {"masks": masks, "scores": scores, "label_ids": label_ids},
            )
        )
    return images


def new_metrics():
    return {
        "pq": PanopticQuality(LABELS, IS_THING),
        "miou": MeanIoU(LABELS),
        "ap": AveragePrecision(LABELS),
    }


def measure(images):
    """The three metrics after these images."""
    metrics = new_metrics()
    for image_id, truth, pred_map, labels, predictions in images:
        metrics["pq"].update(pred_map, listed(labels), truth)
        predicted = semantic_map(Segments(pred_map, truth.class_labels, truth.is_crowd))
        metrics["miou"].update(predicted, semantic_map(truth))
        metrics["ap"].update(
            predictions, instances_from_segments(truth, [True] * 4), pred_map.shape, image_id
        )
    return metrics


def rle_of(mask):
    from pycocotools import mask as coco_mask

    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
