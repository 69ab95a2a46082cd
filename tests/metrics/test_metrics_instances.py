"""Average precision against published numbers, pycocotools, hand-worked cases and properties."""

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataseg_hf.metrics import AveragePrecision, instances_from_segments
from dataseg_hf.metrics.rle import mask_annotations
from helpers.metric_cases import (
    IS_THING,
    LABELS,
    box_masks,
    boxes_truth,
    data_folder,
    published,
    rle_of,
    segments,
    two_objects,
)

COCO_STATS = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
# in the order of pycocotools' stats
COCO_STATS += ["ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"]
PUBLISHED_KEYS = [
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
]


def xyxy(bbox):
    x, y, width, height = bbox
    return [x, y, x + width, y + height]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (np.float64, 5e-7),  # all six printed digits
        # a box of image 192 has an IoU of exactly 0.8 in float64, and 0.7999998 in float32
        (np.float32, 1e-3),
    ],
)
def test_box_ap_of_coco(dtype, tolerance):
    folder, numbers = data_folder() / "metric_fixtures/coco_bbox100", published("coco_bbox100")
    truth = json.loads((folder / "sampled_gts_bbox_area.json").read_text())
    found = json.loads((folder / "sampled_bbox_results.json").read_text())["annotations"]
    index = {c["id"]: i for i, c in enumerate(truth["categories"])}
    by_image = {image["id"]: ([], []) for image in truth["images"]}
    for annotation in truth["annotations"]:
        by_image[annotation["image_id"]][0].append(annotation)
    for annotation in found:
        by_image[annotation["image_id"]][1].append(annotation)
    size = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    metric = AveragePrecision([c["name"] for c in truth["categories"]], "bbox")
    for image_id in sorted(by_image):
        true, pred = by_image[image_id]
        predictions = {
            "boxes": np.array([xyxy(p["bbox"]) for p in pred]).reshape(-1, 4),
            "scores": np.array([p["score"] for p in pred]),
            "label_ids": np.array([index[p["category_id"]] for p in pred], dtype=np.int64),
        }
        annotation = boxes_truth([], [index[t["category_id"]] for t in true])
        annotation.boxes = np.array([xyxy(t["bbox"]) for t in true], dtype=dtype).reshape(-1, 4)
        metric.update(predictions, annotation, size[image_id], image_id)
    result = metric.compute()
    for ours, theirs in zip(COCO_STATS, PUBLISHED_KEYS, strict=True):
        assert result[ours] == pytest.approx(numbers[theirs], abs=tolerance), ours


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
def test_mask_ap_of_coco_equals_pycocotools_on_json():
    """The same images through pycocotools' own route: annotation file, loadRes, summarize."""
    from pycocotools import mask as coco_mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = json.loads((data_folder() / "coco128/instances_train2017_first128.json").read_text())
    crowded = {a["image_id"] for a in content["annotations"] if a["iscrowd"]}
    chosen = sorted(content["images"], key=lambda image: (image["id"] not in crowded, image["id"]))[
        :8
    ]
    ids = {image["id"] for image in chosen}
    content |= {
        "images": chosen,
        "annotations": [a for a in content["annotations"] if a["image_id"] in ids],
    }
    coco = COCO()
    coco.dataset = copy.deepcopy(content)
    coco.createIndex()
    categories = sorted(coco.getCatIds())
    index = {c: i for i, c in enumerate(categories)}
    metric = AveragePrecision([coco.cats[c]["name"] for c in categories])
    rng, results = np.random.default_rng(0), []
    for image in sorted(chosen, key=lambda image: image["id"]):
        anns = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        size = (image["height"], image["width"])
        masks = np.array([coco.annToMask(a) for a in anns], dtype=bool).reshape(-1, *size)
        labels = [index[a["category_id"]] for a in anns]
        crowd = [i for i, a in enumerate(anns) if a["iscrowd"]]
        found = np.array(
            [np.roll(m, rng.integers(-6, 7, 2), axis=(0, 1)) for m in masks], dtype=bool
        ).reshape(masks.shape)
        scores = rng.random(len(anns))
        metric.update(
            {"masks": found, "scores": scores, "label_ids": np.array(labels, dtype=np.int64)},
            boxes_truth([xyxy(a["bbox"]) for a in anns], labels, crowd, masks),
            size,
            image["id"],
        )
        for mask, a, score in zip(found, anns, scores, strict=True):
            rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            result = {"image_id": image["id"], "category_id": a["category_id"], "segmentation": rle}
            results.append(result | {"score": float(score)})
    # the file's areas are those of the polygons; ours are those of the masks
    for a in coco.dataset["annotations"]:
        a["area"] = float(coco_mask.area(coco.annToRLE(a)))
    evaluation = COCOeval(coco, coco.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ours = metric.compute()
    assert [ours[key] for key in COCO_STATS] == pytest.approx(evaluation.stats.tolist(), abs=1e-9)
    assert any(crowded & ids)
    assert 0.1 < ours["ap"] < 0.9


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_ap_hand_worked(iou_type):
    metric = AveragePrecision(LABELS, iou_type)
    metric.update(*two_objects(iou_type), "scene")
    result = metric.compute()
    # Precision 1 up to recall 1/2 (51 of the 101 recalls), 2/3 up to recall 1 (the other 50), at
    # every threshold.
    for key in ("ap", "ap50", "ap75"):
        assert result[key] == pytest.approx((51 + 50 * 2 / 3) / 101), key
    assert result["ap_small"] == pytest.approx(1.0)  # the hit comes before the small miss
    # the other two are small and match nothing: ignored
    assert result["ap_medium"] == pytest.approx(1.0)
    assert math.isnan(result["ap_large"])
    assert result["per_class"]["person"]["ap"] == result["ap"]
    assert math.isnan(result["per_class"]["dog"]["ap"])


def test_ap_counts_the_thresholds_below_the_iou():
    metric = AveragePrecision(LABELS, "bbox")
    # IoU 0.72: a hit at 0.50, 0.55, 0.60, 0.65, 0.70, a miss at the other five thresholds.
    predictions = {"boxes": [[0, 0, 72, 100]], "scores": [0.5], "label_ids": [1]}
    metric.update(predictions, boxes_truth([[0, 0, 100, 100]], [1]), (100, 100), 1)
    result = metric.compute()
    assert (result["ap"], result["ap50"], result["ap75"]) == (
        pytest.approx(0.5),
        pytest.approx(1.0),
        0.0,
    )


def test_a_crowd_swallows_predictions_and_need_not_be_found():
    metric = AveragePrecision(LABELS, "bbox")
    truth = boxes_truth([[0, 0, 50, 50], [60, 60, 90, 90]], [0, 0], crowd=[0])
    boxes = [[5, 5, 15, 15], [20, 20, 30, 30], [60, 60, 90, 90]]
    metric.update(
        {"boxes": boxes, "scores": [0.9, 0.8, 0.1], "label_ids": [0, 0, 0]}, truth, (100, 100), 1
    )
    assert metric.compute()["ap"] == pytest.approx(1.0)


def test_box_areas_follow_the_mask_where_there_is_one():
    box = [[0, 0, 100, 100]]  # large as a box, small as a mask
    masks = box_masks([[0, 0, 10, 10]], (100, 100))
    for truth, kind in (
        (boxes_truth(box, [0]), "ap_large"),
        (boxes_truth(box, [0], masks=masks), "ap_small"),
    ):
        metric = AveragePrecision(LABELS, "bbox")
        metric.update({"boxes": box, "scores": [1.0], "label_ids": [0]}, truth, (100, 100), 1)
        assert metric.compute()[kind] == pytest.approx(1.0)


def test_the_best_100_of_each_class_count():
    count = 300
    boxes = [[i, 0, i + 1, 1] for i in range(count)]
    labels = np.arange(count) % 2
    metric = AveragePrecision(LABELS, "bbox")
    predictions = {"boxes": boxes, "scores": 1 - np.arange(count) / 1000, "label_ids": labels}
    metric.update(predictions, boxes_truth(boxes, labels.tolist()), (1, count), 1)
    result = metric.compute()
    # 100 of 150 found in each class: precision 1 at the 67 recalls 0, 0.01, ..., 0.66.
    assert result["ap"] == pytest.approx(67 / 101)
    assert [result[key] for key in ("ar1", "ar10", "ar100")] == pytest.approx(
        [1 / 150, 10 / 150, 100 / 150]
    )


def test_an_image_counts_once():
    metric, other = AveragePrecision(LABELS), AveragePrecision(LABELS)
    metric.update(*two_objects("segm"), "scene 7")
    other.update(*two_objects("segm"), "scene 7")
    for again in (
        lambda: metric.update(*two_objects("segm"), "scene 7"),
        lambda: metric.merge(other.state),
    ):
        with pytest.raises(ValueError, match="image scene 7 was added before"):
            again()


def test_the_order_of_images_does_not_matter_where_scores_tie():
    truth = boxes_truth([[0, 0, 10, 10]], [0])
    hit, miss = [[0, 0, 10, 10]], [[20, 20, 30, 30]]
    # At equal scores the image with the lower id comes first: hit, miss is precision 1 up to recall
    # 1/2 (51 recalls).
    for order in ([2, 10], [10, 2]):
        metric = AveragePrecision(LABELS, "bbox")
        for image_id in order:
            predictions = {
                "boxes": hit if image_id == 2 else miss,
                "scores": [0.5],
                "label_ids": [0],
            }
            metric.update(predictions, truth, (40, 40), image_id)
        assert metric.compute()["ap"] == pytest.approx(51 / 101)


@pytest.mark.parametrize("form", ["compressed", "text", "run lengths"])
def test_rle_and_arrays_give_the_same_state(form):
    predictions, truth, size = two_objects("segm")
    from_arrays, from_rle = AveragePrecision(LABELS), AveragePrecision(LABELS)
    from_arrays.update(predictions, truth, size, 1)
    masks = [*predictions["masks"], *truth.masks]
    rles = [rle_of(mask) for mask in masks]
    if form == "text":
        rles = [rle | {"counts": rle["counts"].decode()} for rle in rles]
    if form == "run lengths":
        rles = [rle | {"counts": counts_of(mask)} for rle, mask in zip(rles, masks, strict=True)]
    rle_truth = {"masks": rles[3:], "label_ids": truth.class_labels}
    from_rle.update(predictions | {"masks": rles[:3]}, rle_truth, size, 1)
    assert from_arrays.state == from_rle.state


def counts_of(mask) -> list[int]:
    """Run lengths of zeros and ones in turn, column by column, one pixel at a time."""
    counts, current = [0], False
    for value in mask.T.ravel().tolist():
        if value != current:
            counts.append(0)
            current = value
        counts[-1] += 1
    return counts


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
)
@settings(max_examples=200, deadline=None)
def test_masks_are_encoded_as_pycocotools_encodes_them(seed, height, width, density):
    mask = np.random.default_rng(seed).random((height, width)) < density
    before = mask.copy()
    [annotation] = mask_annotations(mask[None], 1, mask.shape, "masks")
    assert annotation == {"segmentation": rle_of(mask), "area": float(mask.sum())}
    assert (mask == before).all()


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
    metric = AveragePrecision(LABELS, iou_type)
    assert math.isnan(metric.compute()["ap"])  # no image
    metric.update(NOTHING, no_truth, (4, 5), 1)
    metric.update(one, no_truth, (4, 5), 2)
    assert math.isnan(metric.compute()["ap"])  # no truth
    metric.reset()
    metric.update({"masks": [], "boxes": [], "scores": [], "label_ids": []}, truth, (4, 5), 1)
    assert metric.compute()["ap"] == 0.0  # nothing found


def test_compute_is_silent_and_repeatable(capsys):
    metric = AveragePrecision(LABELS)
    metric.update(*two_objects("segm"), 1)
    np.testing.assert_equal(metric.compute(), metric.compute())
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
    metric = AveragePrecision(LABELS)
    predictions = {
        "masks": instances.masks,
        "scores": np.ones(500),
        "label_ids": instances.class_labels,
    }
    metric.update(predictions, instances, (80, 100), 1)
    # 100 of 500 may count: recalls 0 to 0.20
    assert metric.compute()["ap"] == pytest.approx(21 / 101)


TWO_MASKS = box_masks([[0, 0, 2, 2]] * 2, (4, 5))


@pytest.mark.parametrize(
    ("iou_type", "change", "truth", "message"),
    [
        (
            "segm",
            {"masks": np.zeros((1, 5, 4), dtype=bool)},
            {},
            r"predictions.masks: expected bool \(1, 4, 5\)",
        ),
        ("segm", {"masks": np.zeros((1, 4, 5))}, {}, "got float64"),
        ("segm", {"masks": [{"size": [5, 4], "counts": b"04"}]}, {}, r"RLE of size \(5, 4\)"),
        ("segm", {"masks": [[0, 1]]}, {}, "expected an RLE"),
        (
            "segm",
            {"masks": [{"size": [4, 5], "counts": b"04"}]},
            {},
            "add up to 4 pixels, the image has 20",
        ),
        ("segm", {"masks": [{"size": [4, 5], "counts": "0o"}]}, {}, "not COCO's compressed form"),
        (
            "segm",
            {"masks": [{"size": [4, 5], "counts": "zzzzz9"}]},
            {},
            "not COCO's compressed form",
        ),
        ("segm", {"masks": [{"size": [4, 5], "counts": [10, 11]}]}, {}, "that add up to 20"),
        ("segm", {"masks": [{"size": [4, 5], "counts": [21, -1]}]}, {}, "whole numbers >= 0"),
        ("segm", {"masks": []}, {}, "0 masks for 1 label_ids"),
        ("segm", {"label_ids": [4]}, {}, "predictions.label_ids: class index 4"),
        ("segm", {"scores": [0.5, 0.5]}, {}, "predictions.scores"),
        ("segm", {"scores": [float("nan")]}, {}, "predictions.scores"),
        ("segm", {}, {"masks": None}, "needs masks in the truth"),
        ("segm", {}, {"masks": TWO_MASKS}, "truth.masks"),
        ("segm", {}, {"class_labels": np.array([-1])}, "truth.label_ids: class index -1"),
        ("bbox", {"boxes": [[3, 3, 2, 4]]}, {}, "boxes are xyxy"),
        ("bbox", {"boxes": [[0, 0, math.inf, 1]]}, {}, "finite boxes"),
        ("bbox", {}, {"boxes": np.zeros((2, 4), dtype=np.float32)}, "truth.boxes"),
    ],
)
def test_ap_refuses_bad_input(iou_type, change, truth, message):
    masks = box_masks([[0, 0, 2, 2]], (4, 5))
    predictions = {
        "masks": masks,
        "boxes": [[0, 0, 2, 2]],
        "scores": [0.5],
        "label_ids": [0],
    } | change
    annotation = boxes_truth([[0, 0, 2, 2]], [0], masks=masks)
    for name, value in truth.items():
        setattr(annotation, name, value)
    with pytest.raises(ValueError, match=message):
        AveragePrecision(LABELS, iou_type).update(predictions, annotation, (4, 5), 1)


def test_missing_predictions_are_named():
    with pytest.raises(ValueError, match=r"\['masks', 'scores'\] missing"):
        AveragePrecision(LABELS).update(
            {"label_ids": []}, boxes_truth([], [], masks=np.zeros((0, 4, 5), dtype=bool)), (4, 5), 1
        )


# --- pycocotools on random cases ------------------------------------------------------------------


def random_case(seed):
    """Images with crowds, overlaps, empty truth, empty predictions, tied scores, more than 100
    predictions a class.
    """
    rng = np.random.default_rng(seed)
    num_classes, size = (
        int(rng.integers(1, 4)),
        (int(rng.integers(1, 140)), int(rng.integers(1, 140))),
    )

    def random_boxes(count):
        x, y = (np.sort(rng.integers(0, side + 1, (count, 2)), axis=1) for side in size[::-1])
        return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1).astype(np.float64)

    def ragged_masks(boxes):
        return box_masks(boxes.clip(0), size) & (rng.random((len(boxes), *size)) < 0.9)

    images = []
    for _ in range(int(rng.integers(1, 5))):
        count, found = (
            int(rng.choice([0, 1, 3, 8])),
            int(rng.choice([0, 2, 9, 320], p=[0.2, 0.35, 0.4, 0.05])),
        )
        true, pred = random_boxes(count), random_boxes(found)
        if count:
            near = rng.random(found) < 0.7
            pred[near] = true[rng.integers(0, count, near.sum())] + rng.integers(
                -2, 3, (near.sum(), 4)
            )
            pred[:, 2:] = np.maximum(pred[:, 2:], pred[:, :2])
        predictions = {
            "boxes": pred,
            "masks": ragged_masks(pred),
            "label_ids": rng.integers(0, num_classes, found),
        }
        truth = {
            "boxes": true,
            "masks": ragged_masks(true),
            "label_ids": rng.integers(0, num_classes, count),
        }
        images.append(
            (
                predictions | {"scores": rng.integers(0, 8, found) / 7},
                truth | {"iscrowd": rng.random(count) < 0.3},
                size,
            )
        )
    return num_classes, images


def pycocotools_stats(num_classes, images, iou_type):
    """The twelve numbers by pycocotools alone, -1 where undefined."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def coco(parts):
        content = COCO()
        annotations = []
        for image_id, part in enumerate(parts):
            for n, (box, mask, label) in enumerate(
                zip(part["boxes"], part["masks"], part["label_ids"], strict=True)
            ):
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label),
                }
                annotation["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
                annotation |= {"segmentation": rle_of(mask), "area": float(mask.sum())}
                if "scores" not in part:
                    annotation["iscrowd"] = int(part["iscrowd"][n])
                else:
                    annotation["score"] = float(part["scores"][n])
                    if iou_type == "bbox":  # as loadRes sets it
                        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
                annotations.append(annotation)
        height, width = images[0][2]
        content.dataset = {
            "images": [{"id": i, "height": height, "width": width} for i in range(len(images))],
            "annotations": annotations,
            "categories": [{"id": k} for k in range(num_classes)],
        }
        content.createIndex()
        return content

    evaluation = COCOeval(
        coco([truth for _, truth, _ in images]), coco([found for found, _, _ in images]), iou_type
    )
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats.tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_200_random_cases_equal_pycocotools(iou_type):
    measured = 0
    for seed in range(200):
        num_classes, images = random_case(seed)
        metric = AveragePrecision([str(k) for k in range(num_classes)], iou_type)
        for image_id, (predictions, truth, size) in enumerate(images):
            metric.update(predictions, truth, size, image_id)
        ours = metric.compute()
        values = [-1.0 if math.isnan(ours[key]) else ours[key] for key in COCO_STATS]
        assert values == pytest.approx(
            pycocotools_stats(num_classes, images, iou_type), abs=1e-9
        ), seed
        measured += 0.05 < ours["ap"] < 0.95
    assert measured > 50  # many cases are neither empty nor trivial
