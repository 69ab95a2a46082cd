"""Panoptic quality against published numbers, panopticapi's algorithm, hand-worked cases and
properties.
"""

import json
import math
import random
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil
from transformers.models.mask2former.image_processing_pil_mask2former import (
    Mask2FormerImageProcessorPil,
)
from transformers.models.maskformer.image_processing_pil_maskformer import (
    MaskFormerImageProcessorPil,
)
from transformers.models.oneformer.image_processing_pil_oneformer import OneFormerImageProcessorPil

from dataseg_hf.data.sample import Segments
from dataseg_hf.metrics import PanopticQuality
from dataseg_hf.metrics.panoptic import panoptic_counts
from helpers.metric_cases import (
    IS_THING,
    LABELS,
    as_prediction,
    data_folder,
    listed,
    peers,
    published,
    segments,
)


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
            iou = len(truth_pixels[t] & pred_pixels[p]) / max(
                len(truth_pixels[t] | (pred_pixels[p] - void)), 1
            )
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
        crowds = [
            t
            for t, c in enumerate(truth.class_labels.tolist())
            if truth.is_crowd[t] and c == pred_label
        ]
        excused = void.union(*(truth_pixels[t] for t in crowds[-1:]))
        if len(pred_pixels[p] & excused) / len(pred_pixels[p]) <= 0.5:
            stat[pred_label][2] += 1
    return stat


def assert_counts(metric: PanopticQuality, stat):
    for c in range(len(metric.labels)):
        iou, *counts = stat[c]
        assert metric.state["iou_units"][c] / 2**53 == pytest.approx(iou, abs=1e-12)
        assert [metric.state[key][c] for key in ("tp", "fp", "fn")] == counts


@st.composite
def random_panoptic(draw):
    """Blocky random truth and a prediction that keeps some of its segments, void, crowds and stray
    ids included.
    """
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
        i: int(truth.class_labels[i // 7])
        if i // 7 < count and i % 7 == 0
        else int(rng.integers(4))
        for i in ids
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
    # person on 0-2 (IoU 3/4); grass on 6-11 (4 of 6, the two in void leave the union: 4/6); dog on
    # 3-5: false positive.
    pred_map = np.array([[7, 7, 7, 9, 9, 9, 5, 5, 5, 5, 5, 5]])
    metric = PanopticQuality(LABELS, IS_THING)
    metric.update(pred_map, listed({7: 0, 5: 2, 9: 1}), truth)
    result = metric.compute()
    assert result["per_class"]["person"] == {
        "pq": 0.75,
        "sq": 0.75,
        "rq": 1.0,
        "tp": 1,
        "fp": 0,
        "fn": 0,
    }
    assert result["per_class"]["grass"]["pq"] == pytest.approx(2 / 3)
    assert result["per_class"]["dog"] == {
        "pq": 0.0,
        "sq": 0.0,
        "rq": 0.0,
        "tp": 0,
        "fp": 1,
        "fn": 0,
    }
    assert math.isnan(result["per_class"]["sky"]["pq"])
    assert result["pq"] == pytest.approx((0.75 + 2 / 3 + 0) / 3)
    assert result["pq_things"] == pytest.approx(0.375)
    assert result["rq_things"] == pytest.approx(0.5)
    assert result["pq_stuff"] == result["sq_stuff"] == pytest.approx(2 / 3)


def test_iou_of_exactly_one_half_is_no_match():
    metric = PanopticQuality(LABELS, IS_THING)
    metric.update([[1, 1, 2, 2]], listed({1: 0}), segments([[0, -1, 0, -1]], [0]))
    # half in void does not excuse either
    assert [metric.state[k][0] for k in ("tp", "fp", "fn")] == [0, 1, 1]


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
    assert [metric.state[k].tolist() for k in ("tp", "fp", "fn")] == [
        [1, 0, 0, 0],
        [0] * 4,
        [0, 0, 1, 0],
    ]


def test_truth_segment_without_pixels_is_missed():
    metric = PanopticQuality(LABELS, IS_THING)
    metric.update([[0]], [], segments([[-1]], [1]))
    assert metric.state["fn"].tolist() == [0, 1, 0, 0]


def test_of_several_crowds_of_a_class_the_last_excuses_as_in_panopticapi():
    for crowd_pixels, false_positives in (([[0, 0, 0, 1]], 1), ([[1, 1, 1, 0]], 0)):
        metric = PanopticQuality(LABELS, IS_THING)
        metric.update([[1, 1, 1, 0]], listed({1: 0}), segments(crowd_pixels, [0, 0], crowd=[0, 1]))
        assert metric.state["fp"].sum() == false_positives


def test_sums_over_images_are_exact_in_any_order():
    # IoU 2/3, 3/4, 4/5, ... of one class in 40 images: fractions whose float sums depend on the
    # order.
    cases = [(segments([[0] * (n + 1)], [0]), [[1] * n + [0]]) for n in range(2, 42)]
    exact = sum(Fraction(n / (n + 1)) for n in range(2, 42))
    for order in (cases, cases[::-1]):
        metric = PanopticQuality(LABELS, IS_THING)
        for truth, pred_map in order:
            metric.update(pred_map, listed({1: 0}), truth)
        assert Fraction(int(metric.state["iou_units"][0]), 2**53) == exact
        assert metric.compute()["per_class"]["person"]["sq"] == float(exact) / 40


def panopticapi_case(seed):
    """Random maps with ids up to 2^24, void, crowds (several of one class among them), split and
    fused segments.
    """
    rng = np.random.default_rng(seed)
    height, width, cell = (
        int(rng.integers(4, 40)),
        int(rng.integers(4, 40)),
        int(rng.integers(1, 6)),
    )
    count, categories = (
        int(rng.integers(0, 25)),
        rng.permutation(2000)[: int(rng.integers(1, 12))].tolist(),
    )
    ids = np.append(0, 1 + rng.choice(2**24 - 1, 2 * count + 5, replace=False))
    blocks = rng.integers(0, count + 1, (-(-height // cell), -(-width // cell)))
    true = blocks.repeat(cell, 0).repeat(cell, 1)[:height, :width]
    pred = np.where(
        rng.random((height, width)) < rng.choice([0.0, 0.1, 0.4]),
        rng.integers(0, len(ids), true.shape),
        true,
    )
    pred = np.roll(pred, rng.integers(-1, 2, 2), axis=(0, 1))

    def infos(places, crowd_share, category_of):
        return [
            {
                "id": int(ids[i]),
                "category_id": category_of[i],
                "iscrowd": int(rng.random() < crowd_share),
            }
            for i in rng.permutation([i for i in places if i])
        ]

    category_of = rng.choice(categories, len(ids)).tolist()
    renamed = [
        rng.choice(categories).item() if rng.random() < 0.2 else category
        for category in category_of
    ]
    missing = [count + 1] if rng.random() < 0.3 else []  # a truth segment without pixels
    true_infos = infos([*np.unique(true), *missing], 0.25, category_of)
    return categories, ids[true], true_infos, ids[pred], infos(np.unique(pred), 0, renamed)


def test_200_random_images_equal_panopticapi_bit_for_bit():
    matches = large_ids = excused = 0
    for seed in range(200):
        categories, true, true_infos, pred, pred_infos = panopticapi_case(seed)
        totals = peers.PanopticTotals()
        peers.add_panoptic_image(totals, true, true_infos, pred, pred_infos)
        index = {category: c for c, category in enumerate(categories)}
        truth_listed, pred_listed = (
            [info | {"label_id": index[info["category_id"]]} for info in infos]
            for infos in (true_infos, pred_infos)
        )
        metric = PanopticQuality(
            [str(category) for category in categories], [True] * len(categories)
        )
        counts = panoptic_counts(pred, pred_listed, true, truth_listed, len(categories))
        for key in ("iou", "tp", "fp", "fn"):
            theirs = [getattr(totals, key).get(category, 0) for category in categories]
            assert getattr(counts, key).tolist() == theirs, (seed, key)
        metric.add(counts)
        result = metric.compute()
        if counts.tp.sum() + counts.fp.sum() + counts.fn.sum():
            assert (result["pq"], result["sq"], result["rq"]) == totals.quality(categories), seed
        matches += counts.tp.sum()
        large_ids += sum(info["id"] > 65_535 for info in true_infos)
        excused += len(pred_infos) - counts.tp.sum() - counts.fp.sum()
    assert min(matches, large_ids, excused) > 200


def deeplab2_segments(folder: Path, name: str, facts):
    """Truth and prediction of one image of deeplab2's test; the ignored class 0 is void and
    unassigned.
    """
    gt_file = folder / ("team_gt_instance.png" if name == "team" else f"{name}_gt.png")
    gt = np.array(Image.open(gt_file).convert("RGB"))[..., 0]
    classes = {int(i): c for i, c in facts["gt_instance_to_class"][name].items() if c != 0}
    segment_map = np.full(gt.shape, -1, dtype=np.int32)
    for index, value in enumerate(classes):
        segment_map[gt == value] = index
    colors = np.array(Image.open(folder / f"{name}_pred_class.png").convert("RGB"))
    pred_class = np.full(gt.shape, -1)
    for color, class_id in facts["class_colors"].items():
        pred_class[(colors == [int(v) for v in color.split(",")]).all(axis=-1)] = class_id
    assert pred_class.min() >= 0
    pred_instance = np.array(Image.open(folder / f"{name}_pred_instance.png").convert("L")).astype(
        np.int64
    )
    pred_map = np.where(pred_class == 0, -1, pred_class * 256 + pred_instance)
    labels = {int(i): int(i) // 256 for i in np.unique(pred_map) if i >= 0}
    return pred_map, listed(labels), segments(segment_map, list(classes.values()))


@pytest.mark.parametrize(
    ("names", "key"), [(["team"], "single_team"), (["bird", "cat", "team"], "three_images")]
)
def test_panoptic_quality_of_deeplab2(names, key):
    facts = published("deeplab2_team")
    metric = PanopticQuality([str(c) for c in range(7)], [True] * 7)
    for name in names:
        metric.update(
            *deeplab2_segments(data_folder() / "metric_fixtures/deeplab2_pq", name, facts)
        )
    result, numbers = metric.compute(), facts[key]
    for ours, theirs in (("pq", "PQ"), ("sq", "SQ"), ("rq", "RQ")):
        assert result[ours] == pytest.approx(numbers[theirs], abs=1e-6)
    occurred = metric.state["tp"] + metric.state["fp"] + metric.state["fn"] > 0
    for ours, theirs in (("tp", "TP_mean"), ("fp", "FP_mean"), ("fn", "FN_mean")):
        assert metric.state[ours][occurred].mean() == pytest.approx(numbers[theirs])


def coco_panoptic_sample(folder: Path):
    """(truth, is_thing, names) of the official panoptic sample, ids mapped to class indices."""
    annotations = json.loads((folder / "panoptic_examples.json").read_text())
    categories = annotations["categories"]
    index = {c["id"]: i for i, c in enumerate(categories)}
    truths = []
    for annotation in annotations["annotations"]:
        rgb = np.array(Image.open(folder / "panoptic_examples" / annotation["file_name"])).astype(
            np.int64
        )
        ids = rgb @ [1, 256, 256**2]
        segment_map = np.full(ids.shape, -1, dtype=np.int32)
        for i, info in enumerate(annotation["segments_info"]):
            segment_map[ids == info["id"]] = i
        infos = annotation["segments_info"]
        crowd = [i for i, info in enumerate(infos) if info["iscrowd"]]
        truths.append(segments(segment_map, [index[info["category_id"]] for info in infos], crowd))
    return truths, [bool(c["isthing"]) for c in categories], [c["name"] for c in categories]


def test_panoptic_quality_of_the_coco_sample():
    truths, is_thing, names = coco_panoptic_sample(data_folder() / "panopticapi_sample")
    rng = random.Random(0)
    metric, total = PanopticQuality(names, is_thing), defaultdict(lambda: [0.0, 0, 0, 0])
    for truth in truths:
        # A prediction with every kind of error: shifted by 5 and 9 pixels, some segments renamed,
        # fused or unassigned.
        fate = {
            i: rng.choice(["keep", "keep", "keep", "rename", "drop", "fuse"])
            for i in range(len(truth.class_labels))
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


# --- maps as transformers returns them

STUFF = {2, 3}


def found_by(name, class_logits, mask_logits):
    """One image through the post-processing of a model of transformers."""
    outputs = SimpleNamespace(
        class_queries_logits=class_logits[None], masks_queries_logits=mask_logits[None]
    )
    options = {"threshold": 0.3, "overlap_mask_area_threshold": 0.05}
    size = list(mask_logits.shape[1:])
    if name == "eomt":
        processor = EomtImageProcessorPil(size={"shortest_edge": size[0], "longest_edge": size[1]})
        options |= {"stuff_classes": list(STUFF), "target_sizes": [size]}
    elif (
        name == "oneformer"
    ):  # its constructor fetches a file of class names, which post-processing does not need
        processor = OneFormerImageProcessorPil.__new__(OneFormerImageProcessorPil)
        options |= {"label_ids_to_fuse": STUFF}
    else:
        processor = {
            "mask2former": Mask2FormerImageProcessorPil,
            "maskformer": MaskFormerImageProcessorPil,
        }[name]()
        options |= {"label_ids_to_fuse": STUFF, "target_sizes": [size]}
    (result,) = processor.post_process_panoptic_segmentation(outputs, **options)
    return result["segmentation"], result["segments_info"]


def random_logits(seed, queries=8, side=24):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, queries, 3, 3, generator=generator) * 6
    masks = torch.nn.functional.interpolate(coarse, size=(side, side))[0]
    return torch.randn(queries, len(LABELS) + 1, generator=generator) * 3, masks


@pytest.mark.filterwarnings("ignore:pred_segments")
@pytest.mark.parametrize("name", ["mask2former", "maskformer", "oneformer", "eomt"])
def test_maps_of_transformers(name):
    """A prediction that is its own truth is perfect; nothing found is float32 -1 everywhere, and
    misses all.
    """
    perfect, misses = PanopticQuality(LABELS, IS_THING), PanopticQuality(LABELS, IS_THING)
    number = unassigned = 0
    for seed in range(40):
        class_logits, mask_logits = random_logits(seed)
        id_map, infos = found_by(name, class_logits.requires_grad_(), mask_logits.requires_grad_())
        # of an id listed twice the last
        label_of = {info["id"]: info["label_id"] for info in infos}
        ids = sorted(label_of)
        truth_map = np.full(id_map.shape, -1)
        for place, segment_id in enumerate(ids):
            truth_map[id_map.detach().numpy() == segment_id] = place
        truth = segments(truth_map, [label_of[segment_id] for segment_id in ids])
        perfect.update(id_map, infos, truth)
        number += len(ids)
        unassigned += int((truth_map < 0).sum())
        class_logits.detach()[:, -1] = 99
        nothing, none = found_by(name, class_logits, mask_logits)
        assert nothing.dtype == torch.float32
        misses.update(nothing, none, truth)
    counts = {key: int(perfect.state[key].sum()) for key in ("tp", "fp", "fn")}
    assert counts == {"tp": number, "fp": 0, "fn": 0}
    assert perfect.compute()["sq"] == 1.0
    assert int(misses.state["fn"].sum()) == number > 60
    assert not misses.state["tp"].any()
    assert unassigned > 0, "void, by -1 or by an id that is not listed, is part of the test"


def test_an_id_with_two_labels_is_the_last_one():
    """As transformers numbers segments once it has fused stuff twice; panopticapi's dict of
    segments does the same.
    """
    metric = PanopticQuality(LABELS, IS_THING)
    with pytest.warns(
        UserWarning, match="id 1 is listed with labels 0 and 1, and counts as the last one"
    ):
        metric.update([[1, 1]], [*listed({1: 0}), *listed({1: 1})], segments([[0, 0]], [1]))
    assert metric.compute()["pq"] == 1.0


@pytest.mark.parametrize(
    ("pred_map", "pred_segments", "truth", "message"),
    [
        ([[0, 0]], [], segments([[0], [0]], [0]), "post-process the prediction"),
        ([[0.5]], [], segments([[0]], [0]), "integer map"),
        ([[1]], listed({1: 4}), segments([[0]], [0]), "label_id 4"),
        ([[1]], listed({-1: 0}), segments([[0]], [0]), "negative"),
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
