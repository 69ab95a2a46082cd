"""Metrics against published numbers, independent implementations, hand-worked cases and properties."""

import copy
import json
import math
import os
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataseg_hf.data.sample import Instances, Segments
from dataseg_hf.metrics import MaskAP, MeanIoU, PanopticQuality, instances_from_segments, semantic_map

LABELS = ["person", "dog", "grass", "sky"]
IS_THING = [True, True, False, False]


@pytest.fixture
def data() -> Path:
    if "DATASEG_DATA" not in os.environ:
        pytest.skip("DATASEG_DATA is not set")
    return Path(os.environ["DATASEG_DATA"])


@pytest.fixture
def expected(data):
    return json.loads((data / "metric_fixtures/EXPECTED.json").read_text())


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


def assert_same(a, b):
    """Nested results are equal up to the order of summation; nan equals nan."""
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, dict):
            assert_same(value, b[key])
        else:
            assert value == pytest.approx(b[key], abs=1e-12, nan_ok=True), key


# --- panoptic quality -------------------------------------------------------------------------------------------------


def slow_counts(pred_map, labels, truth: Segments):
    """COCO's rules pixel by pixel, from their description: {class: [iou, tp, fp, fn]}."""
    pixels = [
        (int(t), int(p) if int(p) in labels else None)
        for t, p in zip(truth.segment_map.ravel(), np.asarray(pred_map).ravel(), strict=True)
    ]
    truth_pixels, pred_pixels = defaultdict(set), defaultdict(set)
    for i, (t, p) in enumerate(pixels):
        truth_pixels[t].add(i)
        pred_pixels[p].add(i)
    void = truth_pixels[-1]
    stat = defaultdict(lambda: [0.0, 0, 0, 0])
    matched_truth, matched_pred = set(), set()
    for t, label in enumerate(truth.class_labels.tolist()):
        for p, pred_label in labels.items():
            if truth.is_crowd[t] or label != pred_label:
                continue
            iou = len(truth_pixels[t] & pred_pixels[p]) / max(len(truth_pixels[t] | (pred_pixels[p] - void)), 1)
            if iou > 0.5:
                stat[label][0] += iou
                stat[label][1] += 1
                matched_truth.add(t)
                matched_pred.add(p)
    for t, label in enumerate(truth.class_labels.tolist()):
        if t not in matched_truth and not truth.is_crowd[t]:
            stat[label][3] += 1
    for p, pred_label in labels.items():
        if p in matched_pred:
            continue
        excused = set(void)
        for t, label in enumerate(truth.class_labels.tolist()):
            if truth.is_crowd[t] and label == pred_label:
                excused |= truth_pixels[t]
        if len(pred_pixels[p] & excused) / len(pred_pixels[p]) <= 0.5:
            stat[pred_label][2] += 1
    return stat


def assert_counts(metric: PanopticQuality, stat):
    for c in range(len(metric.labels)):
        iou, *counts = stat[c]
        assert metric.state["iou"][c] == pytest.approx(iou, abs=1e-12)
        assert [metric.state[key][c] for key in ("tp", "fp", "fn")] == counts


@st.composite
def random_panoptic(draw):
    """Blocky random truth and a prediction that keeps some of its segments, void, crowds and stray ids included."""
    height, width = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    count = draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth = Segments(
        rng.integers(-1, max(count, 1), (height, width), dtype=np.int32)
        if count
        else np.full((height, width), -1, "i4"),
        rng.integers(0, 4, count),
        rng.random(count) < 0.3,
    )
    noise = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.2, 0.6]))
    pred_map = np.where(noise, rng.integers(-1, 8, (height, width)), truth.segment_map * 7)
    ids = [int(i) for i in np.unique(pred_map) if i >= 0 and rng.random() < 0.8]
    labels = {
        i: int(truth.class_labels[i // 7]) if i // 7 < count and i % 7 == 0 else int(rng.integers(4)) for i in ids
    }
    return truth, pred_map, labels


@given(random_panoptic())
@settings(max_examples=150, deadline=None)
def test_panoptic_counts_follow_the_published_rules(case):
    truth, pred_map, labels = case
    metric = PanopticQuality(LABELS, IS_THING)
    metric.update(pred_map, listed(labels), truth)
    assert_counts(metric, slow_counts(pred_map, labels, truth))


def test_panoptic_hand_worked():
    # One row of 12 pixels. person 0-3; grass 4-9; 10 and 11 void.
    truth = segments([[0, 0, 0, 0, 1, 1, 1, 1, 1, 1, -1, -1]], [0, 2])
    # person on 0-2 (IoU 3/4); grass on 6-11 (4 of 6, the two in void leave the union: 4/6); dog on 3-5: false positive.
    pred_map = np.array([[7, 7, 7, 9, 9, 9, 5, 5, 5, 5, 5, 5]])
    metric = PanopticQuality(LABELS, IS_THING)
    metric.update(pred_map, listed({7: 0, 5: 2, 9: 1}), truth)
    result = metric.compute()
    assert result["per_class"]["person"] == {"pq": 0.75, "sq": 0.75, "rq": 1.0, "tp": 1, "fp": 0, "fn": 0}
    assert result["per_class"]["grass"]["pq"] == pytest.approx(2 / 3)
    assert result["per_class"]["dog"] == {"pq": 0.0, "sq": 0.0, "rq": 0.0, "tp": 0, "fp": 1, "fn": 0}
    assert math.isnan(result["per_class"]["sky"]["pq"])
    assert result["pq"] == pytest.approx((0.75 + 2 / 3 + 0) / 3)
    assert result["pq_things"] == pytest.approx(0.375)
    assert result["rq_things"] == pytest.approx(0.5)
    assert result["pq_stuff"] == result["sq_stuff"] == pytest.approx(2 / 3)


def test_iou_of_exactly_one_half_is_no_match():
    metric = PanopticQuality(LABELS, IS_THING)
    metric.update([[1, 1, 2, 2]], listed({1: 0}), segments([[0, -1, 0, -1]], [0]))
    assert [metric.state[k][0] for k in ("tp", "fp", "fn")] == [0, 1, 1]  # half in void does not excuse either


@pytest.mark.parametrize(("label", "false_positives"), [(0, 0), (1, 1)])
def test_a_crowd_excuses_its_own_class_only(label, false_positives):
    metric = PanopticQuality(LABELS, IS_THING)
    metric.update([[1, 1, 1, 0]], listed({1: label}), segments([[0, 0, 1, 1]], [0, 2], crowd=[0]))
    assert metric.state["fp"].sum() == false_positives
    assert metric.state["fn"].tolist() == [0, 0, 1, 0]  # the crowd itself is never missed


def test_unlisted_ids_are_unassigned_and_repeated_ids_are_one_segment():
    truth = segments([[0, 0, 1, 1]], [0, 2])
    metric = PanopticQuality(LABELS, IS_THING)
    metric.update([[4, 4, -1, 999]], [*listed({4: 0}), *listed({4: 0})], truth)
    assert [metric.state[k].tolist() for k in ("tp", "fp", "fn")] == [[1, 0, 0, 0], [0] * 4, [0, 0, 1, 0]]


def test_truth_segment_without_pixels_is_missed():
    metric = PanopticQuality(LABELS, IS_THING)
    metric.update([[0]], [], segments([[-1]], [1]))
    assert metric.state["fn"].tolist() == [0, 1, 0, 0]


def deeplab2_segments(folder: Path, name: str, facts):
    """Truth and prediction of one image of deeplab2's test; the ignored class 0 is void and unassigned."""
    gt_file = folder / ("team_gt_instance.png" if name == "team" else f"{name}_gt.png")
    gt = np.array(Image.open(gt_file).convert("RGB"))[..., 0]
    classes = {int(i): c for i, c in facts["gt_instance_to_class"][name].items() if c != 0}
    segment_map = np.full(gt.shape, -1, dtype=np.int32)
    for index, value in enumerate(classes):
        segment_map[gt == value] = index
    colours = np.array(Image.open(folder / f"{name}_pred_class.png").convert("RGB"))
    pred_class = np.full(gt.shape, -1)
    for colour, class_id in facts["class_colors"].items():
        pred_class[(colours == [int(v) for v in colour.split(",")]).all(axis=-1)] = class_id
    assert pred_class.min() >= 0
    pred_instance = np.array(Image.open(folder / f"{name}_pred_instance.png").convert("L")).astype(np.int64)
    pred_map = np.where(pred_class == 0, -1, pred_class * 256 + pred_instance)
    labels = {int(i): int(i) // 256 for i in np.unique(pred_map) if i >= 0}
    return pred_map, listed(labels), segments(segment_map, list(classes.values()))


@pytest.mark.parametrize(("names", "key"), [(["team"], "single_team"), (["bird", "cat", "team"], "three_images")])
def test_panoptic_quality_of_deeplab2(data, expected, names, key):
    facts = expected["deeplab2_team"]
    metric = PanopticQuality([str(c) for c in range(7)], [True] * 7)
    for name in names:
        metric.update(*deeplab2_segments(data / "metric_fixtures/deeplab2_pq", name, facts))
    result, published = metric.compute(), facts[key]
    for ours, theirs in (("pq", "PQ"), ("sq", "SQ"), ("rq", "RQ")):
        assert result[ours] == pytest.approx(published[theirs], abs=1e-6)
    occurred = metric.state["tp"] + metric.state["fp"] + metric.state["fn"] > 0
    for ours, theirs in (("tp", "TP_mean"), ("fp", "FP_mean"), ("fn", "FN_mean")):
        assert metric.state[ours][occurred].mean() == pytest.approx(published[theirs])


def coco_panoptic_sample(folder: Path):
    """(truth, is_thing, names) of the official panoptic sample, ids mapped to class indices."""
    annotations = json.loads((folder / "panoptic_examples.json").read_text())
    categories = annotations["categories"]
    index = {c["id"]: i for i, c in enumerate(categories)}
    truths = []
    for annotation in annotations["annotations"]:
        rgb = np.array(Image.open(folder / "panoptic_examples" / annotation["file_name"])).astype(np.int64)
        ids = rgb @ [1, 256, 256**2]
        segment_map = np.full(ids.shape, -1, dtype=np.int32)
        for i, info in enumerate(annotation["segments_info"]):
            segment_map[ids == info["id"]] = i
        infos = annotation["segments_info"]
        crowd = [i for i, info in enumerate(infos) if info["iscrowd"]]
        truths.append(segments(segment_map, [index[info["category_id"]] for info in infos], crowd))
    return truths, [bool(c["isthing"]) for c in categories], [c["name"] for c in categories]


def test_panoptic_quality_of_the_coco_sample(data):
    truths, is_thing, names = coco_panoptic_sample(data / "panopticapi_sample")
    rng = random.Random(0)
    metric, total = PanopticQuality(names, is_thing), defaultdict(lambda: [0.0, 0, 0, 0])
    for truth in truths:
        # A prediction with every kind of error: shifted by 5 and 9 pixels, some segments renamed, fused or unassigned.
        fate = {
            i: rng.choice(["keep", "keep", "keep", "rename", "drop", "fuse"]) for i in range(len(truth.class_labels))
        }
        pred_map = np.roll(truth.segment_map, (5, 9), axis=(0, 1)) * 1000
        labels = {i * 1000: int(truth.class_labels[i]) for i in fate if fate[i] != "drop"}
        for i, what in fate.items():
            if what == "rename":
                labels[i * 1000] = (labels[i * 1000] + 1) % len(names)
            if what == "fuse":
                pred_map[pred_map == i * 1000] = 777_777_777
                labels.pop(i * 1000)
                labels[777_777_777] = int(truth.class_labels[i])
        labels = {i: label for i, label in labels.items() if (pred_map == i).any()}
        metric.update(pred_map, listed(labels), truth)
        for label, values in slow_counts(pred_map, labels, truth).items():
            total[label] = [a + b for a, b in zip(total[label], values, strict=True)]
    assert_counts(metric, total)
    assert all(metric.state[key].sum() > 3 for key in ("tp", "fp", "fn"))
    assert 0 < metric.compute()["pq"] < 1


def test_500_segments():
    truth = segments(np.arange(500).reshape(20, 25).repeat(4, 0).repeat(4, 1), np.arange(500) % 4)
    metric = PanopticQuality(LABELS, IS_THING)
    metric.update(*as_prediction(truth), truth)
    assert metric.state["tp"].sum() == 500
    assert metric.compute()["pq"] == 1.0


@pytest.mark.parametrize(
    ("pred_map", "pred_segments", "truth", "message"),
    [
        ([[0, 0]], [], segments([[0], [0]], [0]), "post-process the prediction"),
        ([[0.5]], [], segments([[0]], [0]), "integer map"),
        ([[1]], listed({1: 4}), segments([[0]], [0]), "label_id 4"),
        ([[1]], listed({-1: 0}), segments([[0]], [0]), "negative"),
        ([[1]], [*listed({1: 0}), *listed({1: 1})], segments([[0]], [0]), "listed with labels 0 and 1"),
        ([[1]], listed({2: 0}), segments([[0]], [0]), "segment 2 has no pixel"),
        ([[1]], [], segments([[0]], [4]), "class index 4 is out of range"),
        ([[1]], [], segments([[1]], [0]), "outside -1..0"),
        ([[1]], [], segments([[-2]], [0]), "outside -1..0"),
    ],
)
def test_panoptic_refuses_bad_input(pred_map, pred_segments, truth, message):
    metric = PanopticQuality(LABELS, IS_THING)
    with pytest.raises(ValueError, match=message):
        metric.update(pred_map, pred_segments, truth)
    assert not any(value.any() for value in metric.state.values())


# --- mean IoU ---------------------------------------------------------------------------------------------------------


def test_miou_of_bdd100k(data, expected):
    folder, published = data / "metric_fixtures/bdd_sem_seg", expected["bdd_sem_seg"]
    metric = MeanIoU(["road", "sidewalk", "wall"])
    metric.update(np.array(Image.open(folder / "pred/a.png")), np.array(Image.open(folder / "gt/a.png")))
    result = metric.compute()
    assert metric.state["confusion"].tolist() == [[93, 1, 0, 0], [4, 2, 0, 0], [0, 0, 0, 0]]
    assert 100 * result["miou"] == pytest.approx(published["mIoU"])
    assert 100 * result["fwiou"] == pytest.approx(published["fIoU"])
    assert 100 * result["pixel_acc"] == pytest.approx(published["pAcc"])


def test_an_image_without_prediction_counts_as_wrong_as_in_bdd100k(data):
    folder = data / "metric_fixtures/bdd_sem_seg"
    metric = MeanIoU(["road", "sidewalk"])
    metric.update(np.array(Image.open(folder / "pred/a.png")), np.array(Image.open(folder / "gt+/a.png")))
    metric.update(np.full((10, 10), 255), np.array(Image.open(folder / "gt+/b.png")))
    result = metric.compute()
    # Published in bdd100k's own test (bdd100k/eval/seg_test.py, test_blank_dir).
    assert 100 * result["per_class"]["road"]["iou"] == pytest.approx(48.4375)
    assert 100 * result["per_class"]["sidewalk"]["iou"] == pytest.approx(15.3846153846)
    assert 100 * result["miou"] == pytest.approx(31.9110576923)


def test_miou_hand_worked():
    metric = MeanIoU(LABELS)
    metric.update([[0, 0, 1, 2, 9, -1]], [[0, 1, 1, -1, 1, 1]])
    assert metric.state["confusion"].tolist() == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 2], [0] * 5, [0] * 5]
    result = metric.compute()
    # person: 1 of 2; dog: 1 of 4 (two predictions are no class); grass was predicted on void only: it does not occur.
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
            assert result["per_class"][str(c)]["iou"] == pytest.approx((found & true).sum() / (found | true).sum())
        else:
            assert math.isnan(result["per_class"][str(c)]["iou"])


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
        ([[0]], [[4]], r"truth: values 4\.\.4 are outside -1\.\.3"),
        ([[0]], [[-2]], "truth: values"),
        ([0], [[0]], "pred: expected an integer map"),
        ([[0]], [[0.0]], "truth: expected an integer map"),
    ],
)
def test_miou_refuses_bad_input(pred, truth, message):
    with pytest.raises(ValueError, match=message):
        MeanIoU(LABELS).update(pred, truth)


# --- average precision ------------------------------------------------------------------------------------------------


def xyxy(bbox):
    x, y, width, height = bbox
    return [x, y, x + width, y + height]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (np.float64, 1e-6),
        (np.float32, 5e-4),  # a box of image 192 has an IoU of exactly 0.8 in float64, and 0.7999998 in float32
    ],
)
def test_box_ap_of_coco(data, expected, dtype, tolerance):
    folder, published = data / "metric_fixtures/coco_bbox100", expected["coco_bbox100"]
    truth = json.loads((folder / "sampled_gts_bbox_area.json").read_text())
    found = json.loads((folder / "sampled_bbox_results.json").read_text())["annotations"]
    index = {c["id"]: i for i, c in enumerate(truth["categories"])}
    by_image = {image["id"]: ([], []) for image in truth["images"]}
    for annotation in truth["annotations"]:
        by_image[annotation["image_id"]][0].append(annotation)
    for annotation in found:
        by_image[annotation["image_id"]][1].append(annotation)
    size = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    metric = MaskAP([c["name"] for c in truth["categories"]], "bbox")
    for image_id in sorted(by_image):
        true, pred = by_image[image_id]
        predictions = {
            "boxes": np.array([xyxy(p["bbox"]) for p in pred]).reshape(-1, 4),
            "scores": np.array([p["score"] for p in pred]),
            "label_ids": np.array([index[p["category_id"]] for p in pred], dtype=np.int64),
        }
        annotation = boxes_truth([], [index[t["category_id"]] for t in true])
        annotation.boxes = np.array([xyxy(t["bbox"]) for t in true], dtype=dtype).reshape(-1, 4)
        metric.update(predictions, annotation, size[image_id])
    result = metric.compute()
    names = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "APs", "ap_medium": "APm", "ap_large": "APl"}
    for ours, theirs in names.items():
        assert result[ours] == pytest.approx(published[theirs], abs=tolerance), ours


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
def test_mask_ap_of_coco_equals_pycocotools_on_json(data):
    """The same images through pycocotools' own route: annotation file, loadRes, summarize."""
    from pycocotools import mask as coco_mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = json.loads((data / "coco128/instances_train2017_first128.json").read_text())
    crowded = {a["image_id"] for a in content["annotations"] if a["iscrowd"]}
    chosen = sorted(content["images"], key=lambda image: (image["id"] not in crowded, image["id"]))[:8]
    ids = {image["id"] for image in chosen}
    content |= {"images": chosen, "annotations": [a for a in content["annotations"] if a["image_id"] in ids]}
    coco = COCO()
    coco.dataset = copy.deepcopy(content)
    coco.createIndex()
    categories = sorted(coco.getCatIds())
    index = {c: i for i, c in enumerate(categories)}
    metric = MaskAP([coco.cats[c]["name"] for c in categories])
    rng, results = np.random.default_rng(0), []
    for image in sorted(chosen, key=lambda image: image["id"]):
        anns = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        size = (image["height"], image["width"])
        masks = np.array([coco.annToMask(a) for a in anns], dtype=bool).reshape(-1, *size)
        labels = [index[a["category_id"]] for a in anns]
        crowd = [i for i, a in enumerate(anns) if a["iscrowd"]]
        found = np.array([np.roll(m, rng.integers(-6, 7, 2), axis=(0, 1)) for m in masks], dtype=bool).reshape(
            masks.shape
        )
        scores = rng.random(len(anns))
        metric.update(
            {"masks": found, "scores": scores, "label_ids": np.array(labels, dtype=np.int64)},
            boxes_truth([xyxy(a["bbox"]) for a in anns], labels, crowd, masks),
            size,
        )
        for mask, a, score in zip(found, anns, scores, strict=True):
            rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            result = {"image_id": image["id"], "category_id": a["category_id"], "segmentation": rle}
            results.append(result | {"score": float(score)})
    for a in coco.dataset["annotations"]:  # the file's areas are those of the polygons; ours are those of the masks
        a["area"] = float(coco_mask.area(coco.annToRLE(a)))
    evaluation = COCOeval(coco, coco.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ours = metric.compute()
    keys = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
    assert [ours[key] for key in keys] == pytest.approx(evaluation.stats[:6].tolist(), abs=1e-9)
    assert any(crowded & ids)
    assert 0.1 < ours["ap"] < 0.9


def two_objects(iou_type):
    """Hits at scores 0.9 and 0.7 with a miss at 0.8 between them; one object is small, one is medium."""
    true = [[0, 0, 10, 10], [20, 20, 60, 60]]
    found = [[0, 0, 10, 10], [70, 70, 80, 80], [20, 20, 60, 60]]
    size = (80, 80)
    truth = boxes_truth(true, [0, 0], masks=box_masks(true, size))
    predictions = {"scores": np.array([0.9, 0.8, 0.7]), "label_ids": np.array([0, 0, 0])}
    predictions |= {"masks": box_masks(found, size)} if iou_type == "segm" else {"boxes": np.array(found)}
    return predictions, truth, size


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_ap_hand_worked(iou_type):
    metric = MaskAP(LABELS, iou_type)
    metric.update(*two_objects(iou_type))
    result = metric.compute()
    # Precision 1 up to recall 1/2 (51 of the 101 recalls), 2/3 up to recall 1 (the other 50), at every threshold.
    for key in ("ap", "ap50", "ap75"):
        assert result[key] == pytest.approx((51 + 50 * 2 / 3) / 101), key
    assert result["ap_small"] == pytest.approx(1.0)  # the hit comes before the small miss
    assert result["ap_medium"] == pytest.approx(1.0)  # the other two are small and match nothing: ignored
    assert math.isnan(result["ap_large"])
    assert result["per_class"]["person"]["ap"] == result["ap"]
    assert math.isnan(result["per_class"]["dog"]["ap"])


def test_ap_counts_the_thresholds_below_the_iou():
    metric = MaskAP(LABELS, "bbox")
    # IoU 0.72: a hit at 0.50, 0.55, 0.60, 0.65, 0.70, a miss at the other five thresholds.
    predictions = {"boxes": [[0, 0, 72, 100]], "scores": [0.5], "label_ids": [1]}
    metric.update(predictions, boxes_truth([[0, 0, 100, 100]], [1]), (100, 100))
    result = metric.compute()
    assert (result["ap"], result["ap50"], result["ap75"]) == (pytest.approx(0.5), pytest.approx(1.0), 0.0)


def test_a_crowd_swallows_predictions_and_need_not_be_found():
    metric = MaskAP(LABELS, "bbox")
    truth = boxes_truth([[0, 0, 50, 50], [60, 60, 90, 90]], [0, 0], crowd=[0])
    boxes = [[5, 5, 15, 15], [20, 20, 30, 30], [60, 60, 90, 90]]
    metric.update({"boxes": boxes, "scores": [0.9, 0.8, 0.1], "label_ids": [0, 0, 0]}, truth, (100, 100))
    assert metric.compute()["ap"] == pytest.approx(1.0)


def test_box_areas_follow_the_mask_where_there_is_one():
    box = [[0, 0, 100, 100]]  # large as a box, small as a mask
    masks = box_masks([[0, 0, 10, 10]], (100, 100))
    for truth, kind in ((boxes_truth(box, [0]), "ap_large"), (boxes_truth(box, [0], masks=masks), "ap_small")):
        metric = MaskAP(LABELS, "bbox")
        metric.update({"boxes": box, "scores": [1.0], "label_ids": [0]}, truth, (100, 100))
        assert metric.compute()[kind] == pytest.approx(1.0)


def test_the_best_100_of_all_classes_count():
    count = 150
    boxes = [[i, 0, i + 1, 1] for i in range(count)]
    labels = np.arange(count) % 2
    scores = 1 - np.arange(count) / 1000
    metric = MaskAP(LABELS, "bbox")
    metric.update(
        {"boxes": boxes, "scores": scores, "label_ids": labels}, boxes_truth(boxes, labels.tolist()), (1, count)
    )
    assert len(metric.state["images"][0]["predictions"]) == 100
    # 50 of 75 found in each class: precision 1 at the 67 recalls 0, 0.01, ..., 0.66.
    assert metric.compute()["ap"] == pytest.approx(67 / 101)


def test_rle_and_arrays_give_the_same_state():
    from pycocotools import mask as coco_mask

    predictions, truth, size = two_objects("segm")
    from_arrays, from_rle = MaskAP(LABELS), MaskAP(LABELS)
    from_arrays.update(predictions, truth, size)
    rles = [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in predictions["masks"]]
    from_rle.update(predictions | {"masks": rles}, truth, size)
    assert from_arrays.state == from_rle.state


NOTHING = {
    "masks": np.zeros((0, 4, 5), dtype=bool),
    "boxes": np.zeros((0, 4)),
    "scores": np.zeros(0),
    "label_ids": np.zeros(0, dtype=np.int64),
}


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_ap_of_nothing(iou_type):
    masks = box_masks([[0, 0, 2, 2]], (4, 5))
    truth = boxes_truth([[0, 0, 2, 2]], [0], masks=masks)
    no_truth = boxes_truth([], [], masks=np.zeros((0, 4, 5), dtype=bool))
    one = {"masks": masks, "boxes": [[0, 0, 2, 2]], "scores": [0.5], "label_ids": [0]}
    metric = MaskAP(LABELS, iou_type)
    assert math.isnan(metric.compute()["ap"])  # no image
    metric.update(NOTHING, no_truth, (4, 5))
    metric.update(one, no_truth, (4, 5))
    assert math.isnan(metric.compute()["ap"])  # no truth
    metric.reset()
    metric.update({"masks": [], "boxes": [], "scores": [], "label_ids": []}, truth, (4, 5))
    assert metric.compute()["ap"] == 0.0  # nothing found


def test_compute_is_silent_and_repeatable(capsys):
    metric = MaskAP(LABELS)
    metric.update(*two_objects("segm"))
    assert_same(metric.compute(), metric.compute())
    assert capsys.readouterr() == ("", "")


def test_instances_from_segments():
    truth = segments([[0, 0, 1, 2], [3, 0, 1, -1]], [1, 2, 0, 0, 1], crowd=[2])
    instances = instances_from_segments(truth, IS_THING)
    assert instances.class_labels.tolist() == [1, 0, 0, 1]
    assert instances.is_crowd.tolist() == [False, True, False, False]
    assert instances.boxes.tolist() == [[0, 0, 2, 2], [3, 0, 4, 1], [0, 1, 1, 2], [0, 0, 0, 0]]
    assert instances.boxes.dtype == np.float32
    assert instances.masks.sum(axis=(1, 2)).tolist() == [3, 1, 1, 0]
    assert instances_from_segments(segments([[0]], [3]), IS_THING).masks.shape == (0, 1, 1)


def test_500_instances():
    truth = segments(np.arange(500).reshape(20, 25).repeat(4, 0).repeat(4, 1), np.zeros(500))
    instances = instances_from_segments(truth, IS_THING)
    metric = MaskAP(LABELS)
    predictions = {"masks": instances.masks, "scores": np.ones(500), "label_ids": instances.class_labels}
    metric.update(predictions, instances, (80, 100))
    assert metric.compute()["ap"] == pytest.approx(21 / 101)  # 100 of 500 may count: recalls 0 to 0.20


TWO_MASKS = box_masks([[0, 0, 2, 2]] * 2, (4, 5))


@pytest.mark.parametrize(
    ("iou_type", "change", "truth", "message"),
    [
        ("segm", {"masks": np.zeros((1, 5, 4), dtype=bool)}, {}, r"predictions.masks: expected bool \(1, 4, 5\)"),
        ("segm", {"masks": np.zeros((1, 4, 5))}, {}, "got float64"),
        ("segm", {"masks": [{"size": [5, 4], "counts": b"04"}]}, {}, r"RLE of size \(5, 4\)"),
        ("segm", {"masks": [[0, 1]]}, {}, "RLE dicts"),
        ("segm", {"masks": []}, {}, "0 masks for 1 label_ids"),
        ("segm", {"label_ids": [4]}, {}, "predictions.label_ids: class index 4"),
        ("segm", {"scores": [0.5, 0.5]}, {}, "predictions.scores"),
        ("segm", {"scores": [float("nan")]}, {}, "predictions.scores"),
        ("segm", {}, {"masks": None}, "needs masks in the truth"),
        ("segm", {}, {"masks": TWO_MASKS}, "truth.masks"),
        ("segm", {}, {"class_labels": np.array([-1])}, "truth.class_labels: class index -1"),
        ("bbox", {"boxes": [[3, 3, 2, 4]]}, {}, "boxes are xyxy"),
        ("bbox", {"boxes": [[0, 0, math.inf, 1]]}, {}, "finite boxes"),
        ("bbox", {}, {"boxes": np.zeros((2, 4), dtype=np.float32)}, "truth.boxes"),
    ],
)
def test_ap_refuses_bad_input(iou_type, change, truth, message):
    masks = box_masks([[0, 0, 2, 2]], (4, 5))
    predictions = {"masks": masks, "boxes": [[0, 0, 2, 2]], "scores": [0.5], "label_ids": [0]} | change
    annotation = boxes_truth([[0, 0, 2, 2]], [0], masks=masks)
    for name, value in truth.items():
        setattr(annotation, name, value)
    with pytest.raises(ValueError, match=message):
        MaskAP(LABELS, iou_type).update(predictions, annotation, (4, 5))


def test_missing_predictions_are_named():
    with pytest.raises(ValueError, match=r"\['masks', 'scores'\] missing"):
        MaskAP(LABELS).update({"label_ids": []}, boxes_truth([], [], masks=np.zeros((0, 4, 5), dtype=bool)), (4, 5))


# --- what all three share ---------------------------------------------------------------------------------------------


def random_images(seed: int, count: int):
    """(truth, pred_map, labels of the prediction, predictions of instances) per image; scores never tie."""
    rng = np.random.default_rng(seed)
    scores = rng.permutation(1000) / 1000
    for image in range(count):
        number = int(rng.integers(1, 5))
        blocks = rng.integers(-1, number, (3, 4)).astype(np.int32)
        truth = Segments(blocks.repeat(4, 0).repeat(4, 1), rng.integers(0, 4, number), rng.random(number) < 0.2)
        pred_map = np.roll(truth.segment_map, (1, 0), axis=(0, 1))
        labels = {int(i): int(truth.class_labels[i]) for i in np.unique(pred_map) if i >= 0}
        masks = np.array([pred_map == i for i in labels], dtype=bool).reshape(-1, 12, 16)
        best = scores[image * 10 : image * 10 + len(labels)]
        yield (
            truth,
            pred_map,
            labels,
            {"masks": masks, "scores": best, "label_ids": np.array(list(labels.values()), int)},
        )


def new_metrics():
    return {"pq": PanopticQuality(LABELS, IS_THING), "miou": MeanIoU(LABELS), "ap": MaskAP(LABELS)}


def measure(images):
    metrics = new_metrics()
    for truth, pred_map, labels, predictions in images:
        metrics["pq"].update(pred_map, listed(labels), truth)
        metrics["miou"].update(
            semantic_map(Segments(pred_map, truth.class_labels, truth.is_crowd)), semantic_map(truth)
        )
        metrics["ap"].update(predictions, instances_from_segments(truth, [True] * 4), truth.segment_map.shape)
    return metrics


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_merge_is_associative_and_shards_equal_a_single_run(seed):
    images = list(random_images(seed, 6))
    for name, single in measure(images).items():
        a, b, c = (measure(images[i::3])[name] for i in range(3))  # as a distributed sampler deals them
        left, right, pair = new_metrics()[name], new_metrics()[name], new_metrics()[name]
        for part in (a, b, c):
            left.merge(part.state)
        pair.merge(b.state)
        pair.merge(c.state)
        right.merge(a.state)
        right.merge(pair.state)
        assert_same(left.compute(), right.compute())
        assert_same(left.compute(), single.compute())


def test_merge_leaves_the_other_state_alone():
    for name, metric in measure(random_images(0, 2)).items():
        before = copy.deepcopy(metric.state)
        other = new_metrics()[name]
        other.merge(metric.state)
        other.merge(metric.state)
        np.testing.assert_equal(metric.state, before)


def test_reset_forgets_everything():
    for name, metric in measure(random_images(0, 2)).items():
        metric.reset()
        np.testing.assert_equal(metric.state, new_metrics()[name].state)


def test_merge_refuses_other_metrics():
    with pytest.raises(ValueError, match="same classes"):
        PanopticQuality(LABELS, IS_THING).merge(PanopticQuality(LABELS[:2], IS_THING[:2]).state)
    with pytest.raises(ValueError, match="same classes"):
        MeanIoU(LABELS).merge(MaskAP(LABELS).state)
    with pytest.raises(ValueError, match="'images'"):
        MaskAP(LABELS).merge(MeanIoU(LABELS).state)
    boxes = MaskAP(LABELS, "bbox")
    boxes.update(*two_objects("bbox"))
    with pytest.raises(ValueError, match="not of a segm metric"):
        MaskAP(LABELS, "segm").merge(boxes.state)


def test_callers_arrays_are_not_changed():
    images = list(random_images(3, 2))
    before = copy.deepcopy(images)
    for metric in measure(images).values():
        metric.compute()
    for (truth, *rest), (old_truth, *old_rest) in zip(images, before, strict=True):
        np.testing.assert_equal(vars(truth), vars(old_truth))
        np.testing.assert_equal(rest, old_rest)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_truth_itself_scores_one(seed):
    truth = next(random_images(seed, 1))[0]
    truth.is_crowd[:] = False
    present = np.unique(truth.segment_map[truth.segment_map >= 0])
    if len(present) < len(truth.class_labels):  # a segment without pixels cannot be found
        return
    metrics = new_metrics()
    metrics["pq"].update(*as_prediction(truth), truth)
    metrics["miou"].update(semantic_map(truth), semantic_map(truth))
    instances = instances_from_segments(truth, [True] * 4)
    predictions = {"masks": instances.masks, "scores": np.ones(len(present)), "label_ids": instances.class_labels}
    metrics["ap"].update(predictions, instances, truth.segment_map.shape)
    for metric, keys in (("pq", ["pq", "sq", "rq"]), ("miou", ["miou", "fwiou", "pixel_acc"]), ("ap", ["ap", "ap75"])):
        result = metrics[metric].compute()
        assert [result[key] for key in keys] == pytest.approx([1.0] * len(keys))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (3, 4)])
def test_void_alone_measures_nothing(shape):
    truth = segments(np.full(shape, -1), [])
    metrics = new_metrics()
    pred_map = np.full(shape, 2)
    metrics["pq"].update(pred_map, listed({2: 1}) if pred_map.size else [], truth)
    metrics["miou"].update(pred_map, semantic_map(truth))
    assert all(not value.any() for value in (*metrics["pq"].state.values(), metrics["miou"].state["confusion"]))
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
    metrics["ap"].update(predictions, instances_from_segments(truth, IS_THING), (1, 1))
    assert metrics["pq"].compute()["pq_things"] == 1.0
    assert math.isnan(metrics["pq"].compute()["pq_stuff"])
    assert metrics["miou"].compute()["miou"] == 1.0
    assert metrics["ap"].compute()["ap_small"] == pytest.approx(1.0)


@pytest.mark.parametrize("labels", [[], ["dog", "cat", "dog"]])
def test_labels_must_be_distinct(labels):
    for make in (MeanIoU, MaskAP, lambda names: PanopticQuality(names, [True] * len(names))):
        with pytest.raises(ValueError, match="labels: "):
            make(labels)


def test_constructors_name_what_does_not_fit():
    with pytest.raises(ValueError, match="expected 4 flags"):
        PanopticQuality(LABELS, [True])
    with pytest.raises(ValueError, match="'keypoints' is not one of"):
        MaskAP(LABELS, "keypoints")
