"""Scoring: what the truth itself would get, what a truth allows, shares of several processes, and
errors.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from conftest import ModelFactory
from dataseg_hf import HashedNgramEncoder
from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.sample import BadSampleError, Instances, Sample, SampleDataset, Segments
from dataseg_hf.data.shapes import SHAPES_SPECS, shapes_dataset
from dataseg_hf.errors import ConfigError
from dataseg_hf.evaluation import EvaluationSet, evaluate, metric_names, pictures
from dataseg_hf.evaluation.gallery import best_and_worst
from dataseg_hf.evaluation.inference import ImageOutput, Inference, output_of, share_of_batches
from dataseg_hf.evaluation.scoring import ImageScore, Processes, score
from dataseg_hf.evaluation.sets import possible_metrics
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from dataseg_hf.model.proposals_dataseg import ImageProposals
from dataseg_hf.sharing.model_card import METRICS
from helpers.noisy_truth import NoisyTruth

NORMALIZATION = Normalization([0.5] * 3, [0.25] * 3)
ALL: list[Any] = ["pq", "miou", "mask_ap", "box_ap"]


def held_out(name: str, metrics: list[Any], count: int = 5) -> EvaluationSet:
    labels = SHAPES_SPECS[name].labels
    data = shapes_dataset(name, "eval", count=count, size=32)
    return EvaluationSet(
        name, data, HashedNgramEncoder(16)(labels), metrics, batch_size=2, image_size=32
    )


def only_boxes(data: SampleDataset) -> SampleDataset:
    """The same objects without their masks."""

    def load(row: Any) -> Sample:
        sample = data.load(row)
        assert isinstance(sample.annotation, Instances)
        return replace(sample, annotation=replace(sample.annotation, masks=None))

    return replace(data, spec=replace(data.spec, task="boxes"), load=load)


# --- scores


@pytest.mark.parametrize(
    ("name", "metrics", "perfect"),
    [
        ("shapes_panoptic", ALL, ["pq", "pq_things", "pq_stuff", "miou", "mask_ap", "box_ap"]),
        # whose training truth is semantic only
        ("shapes_semantic", ALL, ["pq", "miou", "mask_ap", "box_ap"]),
        (
            "shapes_boxes",
            ["mask_ap", "box_ap"],
            ["mask_ap", "mask_ap50", "mask_ap75", "box_ap", "box_ap75"],
        ),
    ],
)
def test_the_truth_scores_one(name: str, metrics: list[Any], perfect: list[str]) -> None:
    eval_set = held_out(name, metrics)
    results = evaluate(NoisyTruth(eval_set, 0.5, 0.25), [eval_set], NORMALIZATION)  # type: ignore[arg-type]
    assert {metric: results[f"{name}/{metric}"] for metric in perfect} == pytest.approx(
        dict.fromkeys(perfect, 1.0)
    )


def test_boxes_alone_are_truth_enough_for_box_ap() -> None:
    with_masks = held_out("shapes_boxes", ["box_ap"])
    model = NoisyTruth(with_masks, 0.5, 0.25, noise=0.6)
    without = replace(with_masks, data=only_boxes(with_masks.data))
    results = [evaluate(model, [eval_set], NORMALIZATION) for eval_set in (with_masks, without)]  # type: ignore[arg-type]
    assert 0 < results[0]["shapes_boxes/box_ap"] < 1
    for key in ("ap", "ap50", "ap75"):  # small, medium and large go by the mask where there is one
        assert results[0][f"shapes_boxes/box_{key}"] == results[1][f"shapes_boxes/box_{key}"]


@pytest.mark.parametrize(("left", "ap50", "ap75"), [(10, 1, 1), (9, 0, 0), (10.5, 1, 0)])
def test_predicted_boxes_are_those_of_the_masks(left: float, ap50: float, ap75: float) -> None:
    """By hand: a mask of columns 10 and 11, rows 4 to 6, whose annotated box begins at `left` and
    is as large.

    One column off, 3 of 9 pixels are shared; half a column off, 4.5 of 7.5.
    """
    mask = np.zeros((1, 32, 32), dtype=bool)
    mask[0, 4:7, 10:12] = True
    objects = Instances(
        np.array([3]), np.array([[left, 4, left + 2, 7]], np.float32), np.array([False]), mask
    )
    eval_set = held_out("shapes_boxes", ["box_ap"], count=1)
    sample = Sample(np.zeros((32, 32, 3), np.uint8), objects, 1, "1")
    eval_set = replace(eval_set, data=replace(eval_set.data, load=lambda _: sample))
    results = evaluate(NoisyTruth(eval_set, 0.5, 0.25), [eval_set], NORMALIZATION)  # type: ignore[arg-type]
    found = results["shapes_boxes/box_ap50"], results["shapes_boxes/box_ap75"]
    assert found == pytest.approx((ap50, ap75))


def test_more_than_100_predictions_of_an_image_count_where_asked_for() -> None:
    """150 queries, each sure of one pixel of its own; what counts are pairs of a query and a
    class.
    """
    sample = held_out("shapes_boxes", ["box_ap"], count=1).data[0]
    masks = torch.full((150, 32 * 32), -9.0)
    masks[torch.arange(150), torch.arange(150)] = 9
    classes = (
        torch.eye(len(SHAPES_SPECS["shapes_boxes"].classes) + 1)[torch.zeros(150, dtype=torch.long)]
        * 9
    )
    things = torch.tensor(SHAPES_SPECS["shapes_boxes"].is_thing)
    seen = ImageProposals(classes, masks.view(150, 32, 32), torch.ones(2), things)
    for max_dets, counted in ((20, 100), (100, 100), (300, 300)):
        eval_set = replace(held_out("shapes_boxes", ["box_ap"]), max_dets=max_dets)
        found = output_of(ImageOutput(seen, seen), sample, eval_set, "instance")
        assert len(found.scores) == counted
        model: Any = NoisyTruth(eval_set, 0.5, 0.25)
        assert (
            f"ar{max_dets}"
            in score(model, eval_set, Inference(NORMALIZATION), Processes()).metrics["box_ap"]
        )


def test_an_image_is_ranked_by_the_metric_of_that_image_alone() -> None:
    for name, metric, key in (
        ("shapes_panoptic", "pq", "pq"),
        ("shapes_panoptic", "miou", "miou"),
        ("shapes_boxes", "mask_ap", "mask_ap"),
        ("shapes_boxes", "box_ap", "box_ap"),
    ):
        eval_set = held_out(name, [metric], count=4)
        model: Any = NoisyTruth(eval_set, 0.5, 0.25, noise=0.5)
        found = score(
            model, eval_set, Inference(NORMALIZATION), Processes(), rank_images=True
        ).image_scores
        alone = []
        for index in range(4):
            one = replace(eval_set, data=eval_set.data.select(range(index, index + 1)))
            alone.append(evaluate(model, [one], NORMALIZATION)[f"{name}/{key}"])
        assert [image.value for image in found] == pytest.approx(alone)
        assert [image.image_id for image in found] == [eval_set.data[i].image_id for i in range(4)]
        assert len(set(alone)) > 1


def test_metric_names_are_those_that_evaluate_gives(tiny_model: ModelFactory) -> None:
    eval_set = held_out("shapes_panoptic", ALL, count=1)
    assert metric_names(eval_set) == list(evaluate(tiny_model(), [eval_set], NORMALIZATION))
    # all have a name in model cards
    assert {name.split("/")[1] for name in metric_names(eval_set)} <= METRICS.keys()


# --- truth


def test_the_truth_says_what_can_be_measured() -> None:
    spec = SHAPES_SPECS["shapes_panoptic"]
    allowed = {
        task: possible_metrics(replace(spec, task=task))
        for task in ("panoptic", "semantic", "instance", "boxes")
    }
    assert allowed == {
        "panoptic": ("pq", "miou", "mask_ap", "box_ap"),
        "semantic": ("miou",),
        "instance": ("mask_ap", "box_ap"),
        "boxes": ("box_ap",),
    }


def test_a_metric_without_its_truth_is_refused_with_key_and_remedy() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^evaluation\.shapes_boxes\.metrics: 'pq' needs panoptic truth, but that of",
    ) as e:
        held_out("shapes_boxes", ["mask_ap", "pq"])
    assert str(e.value).endswith("'shapes_boxes' is instance; choose from ['mask_ap', 'box_ap']")


def test_ap_without_a_class_of_things_is_refused() -> None:
    eval_set = held_out("shapes_panoptic", ["pq"])
    stuff = tuple(replace(c, is_thing=False) for c in eval_set.data.spec.classes)
    data = replace(eval_set.data, spec=replace(eval_set.data.spec, classes=stuff))
    with pytest.raises(ConfigError, match="marks no class as a thing; choose from"):
        replace(eval_set, data=data, metrics=["mask_ap"])


# --- processes


@pytest.mark.parametrize("count", [1, 4, 5, 9])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_image_is_in_one_batch_of_one_process(count: int, world_size: int) -> None:
    alone = share_of_batches(count, 2)
    shared = [share_of_batches(count, 2, rank, world_size) for rank in range(world_size)]
    # whole batches, the same ones
    assert sorted(batch for batches in shared for batch in batches) == alone
    assert [index for batch in alone for index in batch] == list(range(count))


def in_turn(model: Any, sets: list[EvaluationSet], world_size: int) -> list[dict[str, float]]:
    """What each of several processes returns, run one after the other; real ones are in
    test_evaluate_command.py.
    """
    shares: list[list[Any]] = [[] for _ in sets]
    for rank in range(world_size):
        places = iter(shares)
        evaluate(
            model,
            sets,
            NORMALIZATION,
            rank,
            world_size,
            gather=lambda state, places=places: next(places).append(state) or [state],
        )
    results = []
    for rank in range(world_size):
        gathered = iter(shares)
        results.append(
            evaluate(
                model,
                sets,
                NORMALIZATION,
                rank,
                world_size,
                gather=lambda _, gathered=gathered: next(gathered),
            )
        )
    return results


def test_shares_of_processes_merge_to_the_whole_bit_for_bit(tiny_model: ModelFactory) -> None:
    sets = [
        held_out("shapes_panoptic", ALL),
        held_out("shapes_boxes", ["mask_ap", "box_ap"], count=3),
    ]
    whole = evaluate(tiny_model(), sets, NORMALIZATION)
    for world_size in (2, 3):
        for result in in_turn(tiny_model(), sets, world_size):
            np.testing.assert_equal(result, whole)


def test_an_unreadable_image_is_named_on_every_process(tiny_model: ModelFactory) -> None:
    eval_set = held_out("shapes_boxes", ["mask_ap"])

    def load(row: int) -> Sample:
        if row == 3:
            raise BadSampleError("image 3: cannot be read")
        return eval_set.data.load(row)

    broken = replace(eval_set, data=replace(eval_set.data, load=load))
    with pytest.raises(BadSampleError, match=r"^evaluation\.shapes_boxes: image 3: cannot be read"):
        evaluate(tiny_model(), [broken], NORMALIZATION)
    shares: list[Any] = []
    with pytest.raises(BadSampleError):  # rank 1 has images 2 and 3
        evaluate(
            tiny_model(),
            [broken],
            NORMALIZATION,
            1,
            2,
            gather=lambda share: shares.append(share) or shares,
        )
    with pytest.raises(BadSampleError, match="image 3"):
        evaluate(tiny_model(), [broken], NORMALIZATION, 0, 2, gather=lambda share: [share, *shares])


def test_progress_counts_every_image_once(tiny_model: ModelFactory) -> None:
    counted: list[int] = []
    evaluate(
        tiny_model(),
        [held_out("shapes_boxes", ["mask_ap"])],
        NORMALIZATION,
        progress=counted.append,
    )
    assert sum(counted) == 5


def test_evaluation_leaves_the_mode_as_it_was(tiny_model: ModelFactory) -> None:
    model: DaTaSegModel = tiny_model().train()
    evaluate(model, [held_out("shapes_boxes", ["mask_ap"], count=1)], NORMALIZATION)
    assert model.training


# --- pictures


@pytest.mark.parametrize(
    ("name", "metrics"),
    [("shapes_panoptic", ["pq"]), ("shapes_semantic", ["miou"]), ("shapes_boxes", ["mask_ap"]),
     ("shapes_panoptic", ["mask_ap"]), ("shapes_boxes", ["box_ap"])],
)  # fmt: skip
def test_pictures_have_image_truth_and_prediction(
    tiny_model: ModelFactory, name: str, metrics: list[Any]
) -> None:
    rows = pictures(tiny_model(), held_out(name, metrics), 3, NORMALIZATION)
    assert [len(row) for row in rows] == [3, 3, 3]


def test_pictures_of_truth_that_is_boxes_only(tiny_model: ModelFactory) -> None:
    eval_set = held_out("shapes_boxes", ["box_ap"])
    rows = pictures(
        tiny_model(), replace(eval_set, data=only_boxes(eval_set.data)), 1, NORMALIZATION
    )
    drawn = np.asarray(rows[0][1].convert("RGB"))
    assert (
        len(np.unique(drawn.reshape(-1, 3), axis=0))
        > len(np.unique(np.asarray(rows[0][0]).reshape(-1, 3), axis=0))
        > 1
    )


def test_best_and_worst_images_share_none_and_leave_out_the_undefined() -> None:
    values = [0.5, float("nan"), 0.9, 0.1, 0.5]
    scores = [ImageScore(index, f"i{index}", value) for index, value in enumerate(values)]
    best, worst = best_and_worst(scores, 2)
    assert [s.index for s in best] == [2, 0]
    assert [s.index for s in worst] == [3, 4]
    best, worst = best_and_worst(scores[:1], 2)
    assert ([s.index for s in best], worst) == ([0], [])


def test_segments_that_a_reader_does_not_give_are_an_error(tiny_model: ModelFactory) -> None:
    eval_set = held_out("shapes_boxes", ["mask_ap"])
    claimed = replace(
        eval_set,
        data=replace(eval_set.data, spec=replace(eval_set.data.spec, task="panoptic")),
        metrics=["pq"],
    )
    with pytest.raises(TypeError, match="image shapes_boxes_eval_00000: the reader gave objects"):
        evaluate(tiny_model(), [claimed], NORMALIZATION)
    assert isinstance(held_out("shapes_open", ["pq"]).data[0].annotation, Segments)


# --- groups of classes ----------------------------------------------------------------------------


def test_groups_of_classes_have_metrics_of_their_own() -> None:
    eval_set = held_out("shapes_panoptic", ["pq", "miou", "mask_ap"])
    names = eval_set.data.spec.labels
    groups = {"novel": names[:2], "base": names[2:], "sand": ["sandy ground"]}
    eval_set = replace(eval_set, class_groups=groups)
    result = score(
        NoisyTruth(eval_set, 0.5, 0.25, 0.8), eval_set, Inference(NORMALIZATION), Processes()
    )
    values = result.values()
    assert sorted(values) == sorted(name.partition("/")[2] for name in metric_names(eval_set))
    for key, metric, of_class in (
        ("pq", "pq", "pq"),
        ("miou", "miou", "iou"),
        ("mask_ap", "mask_ap", "ap"),
        ("mask_ap50", "mask_ap", "ap50"),
    ):
        per_class = result.metrics[metric]["per_class"]  # type: ignore[index]
        for group, labels in groups.items():
            defined = [per_class[n][of_class] for n in labels if per_class[n][of_class] >= 0]
            expected = np.mean(defined) if defined else np.nan
            assert values[f"{key}_{group}"] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(values["mask_ap_sand"]), "stuff has no average precision"


def test_a_group_of_unknown_classes_is_refused() -> None:
    eval_set = held_out("shapes_panoptic", ["pq"])
    with pytest.raises(ConfigError, match=r"class_groups\.novel: .* has no classes \['zebra'\]"):
        replace(eval_set, class_groups={"novel": ["zebra"]})
