"""What the metrics share: states, shards, edge cases."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataseg_hf.metrics import (
    AveragePrecision,
    MeanIoU,
    PanopticQuality,
    instances_from_segments,
    semantic_map,
)
from helpers.metric_cases import (
    IS_THING,
    LABELS,
    as_prediction,
    listed,
    measure,
    new_metrics,
    random_images,
    segments,
    two_objects,
)


@given(st.integers(0, 2**32 - 1), st.integers(0, 7))
@settings(max_examples=12, deadline=None)
def test_merge_is_associative_and_shards_equal_a_single_run_to_the_last_bit(seed, count):
    images = random_images(seed, count)
    for name, single in measure(images).items():
        # as a distributed sampler deals them
        a, b, c = (measure(images[i::3])[name] for i in range(3))
        left, right, pair = new_metrics()[name], new_metrics()[name], new_metrics()[name]
        for part in (a, b, c):
            left.merge(part.state)
        pair.merge(b.state)
        pair.merge(c.state)
        right.merge(pair.state)
        right.merge(a.state)
        np.testing.assert_equal(left.compute(), single.compute())
        np.testing.assert_equal(right.compute(), single.compute())


def test_merge_leaves_the_other_state_alone():
    for name, metric in measure(random_images(0, 2)).items():
        before = copy.deepcopy(metric.state)
        other = new_metrics()[name]
        other.merge(metric.state)
        other.merge(measure(random_images(1, 2, first_id=2))[name].state)
        np.testing.assert_equal(metric.state, before)


def test_states_of_counts_do_not_grow_with_images():
    for name in ("pq", "miou"):
        sizes = {
            len(pickle.dumps(measure(random_images(0, count))[name].state)) for count in (2, 40)
        }
        assert max(sizes) - min(sizes) < 100, name


def test_reset_forgets_everything():
    for name, metric in measure(random_images(0, 2)).items():
        metric.reset()
        np.testing.assert_equal(metric.state, new_metrics()[name].state)


def test_merge_refuses_other_metrics():
    with pytest.raises(ValueError, match="same classes"):
        PanopticQuality(LABELS, IS_THING).merge(PanopticQuality(LABELS[:2], IS_THING[:2]).state)
    with pytest.raises(ValueError, match="same classes"):
        MeanIoU(LABELS).merge(AveragePrecision(LABELS).state)
    with pytest.raises(ValueError, match="'images'"):
        AveragePrecision(LABELS).merge(MeanIoU(LABELS).state)
    boxes = AveragePrecision(LABELS, "bbox")
    boxes.update(*two_objects("bbox"), 1)
    with pytest.raises(ValueError, match="not of a segm metric"):
        AveragePrecision(LABELS, "segm").merge(boxes.state)


def test_callers_arrays_are_not_changed():
    images = random_images(3, 2)
    before = copy.deepcopy(images)
    for metric in measure(images).values():
        metric.compute()
    for (_, truth, *rest), (_, old_truth, *old_rest) in zip(images, before, strict=True):
        np.testing.assert_equal(vars(truth), vars(old_truth))
        np.testing.assert_equal(rest, old_rest)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_truth_itself_scores_one(seed):
    truth = random_images(seed, 1)[0][1]
    truth.is_crowd[:] = False
    present = np.unique(truth.segment_map[truth.segment_map >= 0])
    if len(present) < len(truth.class_labels):  # a segment without pixels cannot be found
        return
    metrics = new_metrics()
    metrics["pq"].update(*as_prediction(truth), truth)
    metrics["miou"].update(semantic_map(truth), semantic_map(truth))
    instances = instances_from_segments(truth, [True] * 4)
    predictions = {
        "masks": instances.masks,
        "scores": np.ones(len(present)),
        "label_ids": instances.class_labels,
    }
    metrics["ap"].update(predictions, instances, truth.segment_map.shape, 1)
    for metric, keys in (
        ("pq", ["pq", "sq", "rq"]),
        ("miou", ["miou", "fwiou", "pixel_acc"]),
        ("ap", ["ap", "ap75"]),
    ):
        result = metrics[metric].compute()
        assert [result[key] for key in keys] == pytest.approx([1.0] * len(keys))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (3, 4)])
def test_void_alone_measures_nothing(shape):
    truth = segments(np.full(shape, -1), [])
    metrics = new_metrics()
    pred_map = np.full(shape, 2)
    metrics["pq"].update(pred_map, listed({2: 1}) if pred_map.size else [], truth)
    metrics["miou"].update(pred_map, semantic_map(truth))
    assert all(
        not value.any()
        for value in (*metrics["pq"].state.values(), metrics["miou"].state["confusion"])
    )
    for metric in metrics.values():
        result = metric.compute()
        assert all(math.isnan(value) for key, value in result.items() if key != "per_class")
        assert list(result["per_class"]) == LABELS


def test_one_pixel():
    truth = segments([[0]], [1])
    metrics = new_metrics()
    metrics["pq"].update([[1]], listed({1: 1}), truth)
    metrics["miou"].update([[1]], semantic_map(truth))
    predictions = {"masks": np.ones((1, 1, 1), dtype=bool), "scores": [1.0], "label_ids": [1]}
    metrics["ap"].update(predictions, instances_from_segments(truth, IS_THING), (1, 1), 1)
    assert metrics["pq"].compute()["pq_things"] == 1.0
    assert math.isnan(metrics["pq"].compute()["pq_stuff"])
    assert metrics["miou"].compute()["miou"] == 1.0
    assert metrics["ap"].compute()["ap_small"] == pytest.approx(1.0)


@pytest.mark.parametrize("labels", [[], ["dog", "cat", "dog"]])
def test_labels_must_be_distinct(labels):
    for make in (
        MeanIoU,
        AveragePrecision,
        lambda names: PanopticQuality(names, [True] * len(names)),
    ):
        with pytest.raises(ValueError, match="labels: "):
            make(labels)


def test_constructors_name_what_does_not_fit():
    with pytest.raises(ValueError, match="expected 4 flags"):
        PanopticQuality(LABELS, [True])
    with pytest.raises(ValueError, match="'keypoints' is not one of"):
        AveragePrecision(LABELS, "keypoints")
