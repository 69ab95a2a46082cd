"""The modules of `evaluate` under spaces/, loaded from their folders without the network, and their
pages.
"""

import importlib.util
import json
import socket

import numpy as np
import pytest

from dataseg_hf.data.sample import Segments
from dataseg_hf.metrics import instances_from_segments, semantic_map
from helpers.metric_cases import IS_THING, LABELS, measure, random_images, rle_of
from helpers.paths import ROOT

evaluate = pytest.importorskip("evaluate")
SPACES = ROOT / "spaces"
MODULES = ["panoptic_quality", "mean_iou", "mask_ap"]


@pytest.fixture
def load(evaluate_caches, monkeypatch):
    """`evaluate.load` with no way out of the machine."""

    def refuse(*_, **__):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return lambda name: evaluate.load(str(SPACES / name))


def add_all(metric, images):
    for _, truth, pred_map, labels, predictions in images:
        if metric.name == "panoptic_quality":
            infos = [
                {"id": i, "label_id": label, "score": 0.5, "was_fused": False}
                for i, label in labels.items()
            ]
            true_infos = [
                {"id": i, "label_id": int(label), "iscrowd": int(crowd)}
                for i, (label, crowd) in enumerate(
                    zip(truth.class_labels, truth.is_crowd, strict=True)
                )
            ]
            prediction = {"segmentation": pred_map, "segments_info": infos}
            metric.add(
                prediction=prediction,
                reference={"segmentation": truth.segment_map, "segments_info": true_infos},
            )
        elif metric.name == "mean_iou":
            predicted = semantic_map(Segments(pred_map, truth.class_labels, truth.is_crowd))
            metric.add(prediction=predicted, reference=semantic_map(truth))
        else:
            true = instances_from_segments(truth, [True] * 4)
            prediction = {
                "masks": texts(predictions["masks"]),
                "boxes": [],
                "scores": predictions["scores"].tolist(),
            }
            reference = {
                "masks": texts(true.masks),
                "boxes": [],
                "iscrowd": true.is_crowd.astype(int).tolist(),
            }
            metric.add(
                prediction=prediction | {"label_ids": predictions["label_ids"].tolist()},
                reference=reference | {"label_ids": true.class_labels.tolist()},
            )


def texts(masks):
    return [rle | {"counts": rle["counts"].decode()} for rle in map(rle_of, masks)]


@pytest.mark.parametrize(
    ("name", "ours", "arguments"),
    [
        ("panoptic_quality", "pq", {"is_thing": IS_THING}),
        ("mean_iou", "miou", {"ignore_index": -1}),
        ("mask_ap", "ap", {}),
    ],
)
def test_a_module_loads_offline_and_gives_the_numbers_of_the_library(load, name, ours, arguments):
    images = random_images(5, 6)
    metric = load(name)
    add_all(metric, images)
    result = metric.compute(labels=LABELS, **arguments)
    np.testing.assert_equal(result, measure(images)[ours].compute())
    assert 0 < result[ours] < 1


def test_boxes_are_scored_too(load):
    # IoU 0.72: a hit at 0.50, 0.55, 0.60, 0.65, 0.70, a miss at the other five thresholds.
    prediction = {"boxes": [[0, 0, 72, 100]], "masks": [], "scores": [0.5], "label_ids": [1]}
    reference = {"boxes": [[0, 0, 100, 100]], "masks": [], "iscrowd": [0], "label_ids": [1]}
    empty = {"boxes": [], "masks": [], "label_ids": []}
    result = load("mask_ap").compute(
        predictions=[prediction, empty | {"scores": []}],
        references=[reference, empty | {"iscrowd": []}],
        labels=LABELS,
        iou_type="bbox",
    )
    assert result["ap"] == pytest.approx(0.5)


def test_more_than_100_predictions_of_an_image(load):
    boxes = [[20 * k, 0, 20 * k + 10, 10] for k in range(150)]
    parts = {"boxes": boxes, "masks": [], "label_ids": [0] * 150}
    images = {
        "predictions": [parts | {"scores": [0.5] * 150}],
        "references": [parts | {"iscrowd": [0] * 150}],
    }
    module, settings = load("mask_ap"), {"labels": LABELS, "iou_type": "bbox"}
    assert module.compute(**images, **settings)["ar100"] == pytest.approx(100 / 150)
    assert module.compute(**images, **settings, max_dets=300)["ar300"] == 1.0


@pytest.mark.parametrize("name", MODULES)
def test_a_space_has_what_the_hub_needs(name):
    front_matter = (SPACES / name / "README.md").read_text().split("---")[1]
    assert "sdk: gradio" in front_matter
    assert "app_file: app.py" in front_matter
    assert (SPACES / name / "requirements.txt").read_text().splitlines()[1] == "dataseg-hf"


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("panoptic_quality", "pq", 1 / 3), ("mean_iou", "miou", 0.5), ("mask_ap", "ap", 0.5)],
)
def test_the_page_computes_its_example(name, key, value):
    pytest.importorskip("gradio")
    spec = importlib.util.spec_from_file_location(f"{name}_app", SPACES / name / "app.py")
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    [score] = [function for function in app.demo.fns.values() if function.api_name == "score"]
    assert score.fn(json.dumps(app.EXAMPLE))[key] == pytest.approx(value)
    with pytest.raises(Exception, match="labels"):
        score.fn(json.dumps(app.EXAMPLE | {"labels": []}))
