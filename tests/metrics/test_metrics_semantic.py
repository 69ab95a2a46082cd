"""Mean IoU against published numbers, `evaluate`'s algorithm, hand-worked cases and properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataseg_hf.metrics import MeanIoU, semantic_map
from helpers.metric_cases import LABELS, data_folder, peers, published, segments


def test_miou_of_bdd100k():
    folder, numbers = data_folder() / "metric_fixtures/bdd_sem_seg", published("bdd_sem_seg")
    metric = MeanIoU(["road", "sidewalk", "wall"])
    metric.update(
        np.array(Image.open(folder / "pred/a.png")), np.array(Image.open(folder / "gt/a.png"))
    )
    result = metric.compute()
    assert metric.state["confusion"].tolist() == [[93, 1, 0, 0], [4, 2, 0, 0], [0, 0, 0, 0]]
    assert 100 * result["miou"] == pytest.approx(numbers["mIoU"])
    assert 100 * result["fwiou"] == pytest.approx(numbers["fIoU"])
    assert 100 * result["pixel_acc"] == pytest.approx(numbers["pAcc"])


def test_an_image_without_prediction_counts_as_wrong_as_in_bdd100k():
    folder = data_folder() / "metric_fixtures/bdd_sem_seg"
    metric = MeanIoU(["road", "sidewalk"])
    metric.update(
        np.array(Image.open(folder / "pred/a.png")), np.array(Image.open(folder / "gt+/a.png"))
    )
    metric.update(np.full((10, 10), 255), np.array(Image.open(folder / "gt+/b.png")))
    result = metric.compute()
    # Published in bdd100k's own test (bdd100k/eval/seg_test.py, test_blank_dir).
    assert 100 * result["per_class"]["road"]["iou"] == pytest.approx(48.4375)
    assert 100 * result["per_class"]["sidewalk"]["iou"] == pytest.approx(15.3846153846)
    assert 100 * result["miou"] == pytest.approx(31.9110576923)


def test_miou_hand_worked():
    metric = MeanIoU(LABELS)
    metric.update([[0, 0, 1, 2, 9, -1]], [[0, 1, 1, -1, 1, 1]])
    assert metric.state["confusion"].tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 2],
        [0] * 5,
        [0] * 5,
    ]
    result = metric.compute()
    # person: 1 of 2; dog: 1 of 4 (two predictions are no class); grass was predicted on void only:
    # it does not occur.
    assert result["per_class"]["person"] == {"iou": 0.5, "acc": 1.0}
    assert result["per_class"]["dog"] == {"iou": 0.25, "acc": 0.25}
    assert math.isnan(result["per_class"]["grass"]["iou"])
    assert result["miou"] == pytest.approx(0.375)
    assert result["mean_acc"] == pytest.approx(0.625)
    assert result["pixel_acc"] == pytest.approx(0.4)
    assert result["fwiou"] == pytest.approx(0.2 * 0.5 + 0.8 * 0.25)


def test_a_class_that_is_only_predicted_lowers_miou():
    metric = MeanIoU(LABELS)
    metric.update([[0, 3]], [[0, 0]])
    result = metric.compute()
    assert result["miou"] == 0.25  # person 1/2, sky 0/1
    assert result["mean_acc"] == 0.5  # of person alone


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_iou_is_the_ratio_of_pixel_sets(seed, num_classes):
    rng = np.random.default_rng(seed)
    pred, truth = rng.integers(-3, 9, (6, 7)), rng.integers(-1, num_classes, (6, 7))
    metric = MeanIoU([str(c) for c in range(num_classes)])
    metric.update(pred, truth)
    result = metric.compute()
    for c in range(num_classes):
        found, true = (pred == c) & (truth >= 0), truth == c
        if (found | true).any():
            assert result["per_class"][str(c)]["iou"] == pytest.approx(
                (found & true).sum() / (found | true).sum()
            )
        else:
            assert math.isnan(result["per_class"][str(c)]["iou"])


@given(st.integers(0, 2**32 - 1), st.integers(1, 140), st.sampled_from([1, 7, 300]))
@settings(max_examples=60, deadline=None)
def test_counts_equal_those_of_evaluate(seed, num_classes, cell):
    rng = np.random.default_rng(seed)
    pred, truth = (
        (rng.integers(0, num_classes, (2, 300 // cell + 1, 300 // cell + 1), dtype=np.int16))
        .repeat(cell, 1)
        .repeat(cell, 2)
    )
    truth[rng.random(truth.shape) < 0.1] = 255
    metric = MeanIoU([str(c) for c in range(num_classes)], ignore_index=255)
    metric.update(pred, truth)
    confusion = metric.state["confusion"]
    right, predicted, true = peers.mean_iou_areas(pred, truth, num_classes, ignore_index=255)
    assert (np.diag(confusion) == right).all()
    assert (confusion[:, :-1].sum(axis=0) == predicted).all()
    assert (confusion.sum(axis=1) == true).all()


@pytest.mark.parametrize("ignored", [255, -1, 2])
def test_the_ignored_value_is_left_out_even_where_it_is_a_class(ignored):
    metric = MeanIoU(LABELS, ignore_index=ignored)
    metric.update(np.array([[0, 1, ignored, 0]]), np.array([[0, ignored, 0, ignored]]))
    result = metric.compute()
    assert metric.state["confusion"].sum() == 2  # pixels whose truth is not ignored
    assert result["pixel_acc"] == 0.5  # predicting the ignored value on a labeled pixel is wrong
    assert result["per_class"]["person"] == {"iou": 0.5, "acc": 0.5}


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint64])
def test_any_integer_type_and_values_far_outside(dtype):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    metric = MeanIoU(LABELS, ignore_index=3)
    metric.update(np.array([[low, high, 1, 1]], dtype=dtype), np.array([[1, 1, 1, 3]], dtype=dtype))
    assert metric.state["confusion"].tolist()[1] == (
        [1, 1, 0, 0, 1] if low == 0 else [0, 1, 0, 0, 2]
    )


def test_semantic_map_joins_segments_and_keeps_crowds():
    truth = segments([[0, 1, -1], [2, 2, 1]], [3, 0, 3], crowd=[1])
    assert semantic_map(truth).tolist() == [[3, 0, -1], [3, 3, 0]]
    assert semantic_map(segments([[-1, -1]], [])).tolist() == [[-1, -1]]
    with pytest.raises(ValueError, match=r"outside -1\.\.0"):
        semantic_map(segments([[1]], [0]))


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        ([[0]], [[0, 0]], "post-process the prediction"),
        ([[0]], [[4]], r"truth: value 4 is neither a class \(0\.\.3\) nor the ignored -1"),
        ([[0]], [[-2]], "truth: value -2"),
        ([0], [[0]], "pred: expected an integer map"),
        ([[0]], [[0.5]], "truth: expected an integer map"),
    ],
)
def test_miou_refuses_bad_input(pred, truth, message):
    with pytest.raises(ValueError, match=message):
        MeanIoU(LABELS).update(pred, truth)
