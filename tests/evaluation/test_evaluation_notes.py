"""What is said, and drawn, of a model that finds nothing or one class only, and of no other."""

from typing import Any

import numpy as np
import pytest
import torch
from test_evaluation import NORMALIZATION, held_out
from torch import Tensor

from conftest import ModelFactory
from dataseg_hf.evaluation import (
    EvaluationSet,
    Inference,
    Processes,
    SetResult,
    pictures,
    score,
    titles,
)
from dataseg_hf.model.modeling_dataseg import DaTaSegOutput
from helpers.noisy_truth import NoisyTruth


class Unsure(NoisyTruth):
    """The truth's masks, each with the same small probability for its class."""

    def __init__(self, chosen: EvaluationSet, probability: float) -> None:
        super().__init__(chosen, 0.5, 0.25)
        self.probability = probability

    def proposals(self, index: int, truth: Any) -> tuple[Tensor, Tensor]:
        logits, masks = super().proposals(index, truth)
        sure = logits.argmax(-1) < self.classes
        logits[:] = 0.0
        logits[sure, torch.as_tensor(truth.class_labels)] = 1.0
        one_class, nothing = self.probability, 1 - self.probability
        logits = torch.where(logits > 0, one_class, 1e-9)
        logits[:, -1] = nothing
        return logits.log(), masks


class OneClass(NoisyTruth):
    """Everything is of the first class."""

    def forward(self, pixel_values: Tensor, **options: Any) -> DaTaSegOutput:
        output = super().forward(pixel_values, **options)
        logits = torch.full_like(output.class_queries_logits, -20.0)
        logits[..., 0] = 20.0
        output.class_queries_logits = logits
        return output


def scored(model: Any, chosen: EvaluationSet) -> SetResult:
    return score(model, chosen, Inference(NORMALIZATION), Processes())


@pytest.mark.parametrize(
    ("name", "metrics"), [("shapes_panoptic", ["pq", "miou"]), ("shapes_boxes", ["mask_ap"])]
)
def test_nothing_is_said_of_a_model_that_works(name: str, metrics: list[Any]) -> None:
    chosen = held_out(name, metrics)
    for noise in (0.0, 0.5):
        result = scored(NoisyTruth(chosen, 0.5, 0.25, noise), chosen)
        assert (result.notes, result.nothing_found) == ([], False)


def test_a_model_below_the_threshold_everywhere() -> None:
    chosen = held_out("shapes_panoptic", ["pq"])
    result = scored(Unsure(chosen, 0.125), chosen)
    assert result.values()["pq"] == 0
    (note,) = result.notes
    segments = sum(len(chosen.data[index].annotation.class_labels) for index in range(5))  # type: ignore[union-attr]
    assert (
        f"no segments in 5 images, where the truth has {segments}: the highest class probability "
        "is 0.12" in note
    )
    assert "the threshold 0.5" in note
    assert result.nothing_found


@pytest.mark.parametrize("metric", ["mask_ap", "box_ap"])
def test_objects_that_no_picture_would_show(metric: Any) -> None:
    chosen = held_out("shapes_boxes", [metric])
    result = scored(Unsure(chosen, 0.25), chosen)
    # average precision goes by the order alone
    assert result.values()[metric] == pytest.approx(1.0)
    (note,) = result.notes
    assert "no objects in 5 images" in note
    assert "the highest score is 0.25, and pictures show those from 0.3 on" in note
    assert scored(Unsure(chosen, 0.35), chosen).notes == []


@pytest.mark.parametrize(
    ("name", "metric", "unit"),
    [
        ("shapes_panoptic", "pq", "segment"),
        ("shapes_semantic", "miou", "pixel"),
        ("shapes_boxes", "mask_ap", "object"),
    ],
)
def test_one_class_everywhere(name: str, metric: Any, unit: str) -> None:
    chosen = held_out(name, [metric])
    (note,) = scored(OneClass(chosen, 0.5, 0.25), chosen).notes
    assert f"100% of the predicted {unit}s are '{chosen.data.spec.labels[0]}', one of " in note


def test_one_class_is_right_where_the_truth_has_no_other() -> None:
    chosen = held_out("shapes_panoptic", ["miou"], count=1)
    sample = chosen.data[0]
    sample.annotation.class_labels[:] = 0  # type: ignore[union-attr]
    chosen.data = type(chosen.data)(chosen.data.spec, [0], lambda row: sample)
    assert scored(OneClass(chosen, 0.5, 0.25), chosen).notes == []


def test_images_without_objects_are_no_sign_of_anything(tiny_model: ModelFactory) -> None:
    chosen = held_out("shapes_boxes", ["mask_ap"], count=1)
    sample = chosen.data[0]
    objects: Any = sample.annotation
    for name in ("class_labels", "boxes", "is_crowd", "masks"):
        setattr(objects, name, getattr(objects, name)[:0])
    chosen.data = type(chosen.data)(chosen.data.spec, [0], lambda row: sample)
    assert scored(tiny_model(), chosen).notes == []


def test_shares_of_two_processes_are_one_set() -> None:
    chosen = held_out("shapes_panoptic", ["pq"])
    model: Any = Unsure(chosen, 0.125)
    shares: list[Any] = []
    for rank in range(2):
        score(
            model,
            chosen,
            Inference(NORMALIZATION),
            Processes(rank, 2, lambda share: shares.append(share) or [share]),
        )  # type: ignore[func-returns-value]
    together = score(model, chosen, Inference(NORMALIZATION), Processes(0, 2, lambda _: shares))
    assert together.notes == scored(model, chosen).notes


@pytest.mark.parametrize(
    ("name", "metric"),
    [("shapes_panoptic", "pq"), ("shapes_boxes", "mask_ap"), ("shapes_boxes", "box_ap")],
)
def test_pictures_show_the_best_proposals_where_nothing_is_found(name: str, metric: Any) -> None:
    chosen = held_out(name, [metric], count=1)
    model: Any = Unsure(chosen, 0.125)
    ((_, _, blank),) = pictures(model, chosen, 1, NORMALIZATION)
    ((_, _, shown),) = pictures(model, chosen, 1, NORMALIZATION, nothing_found=True)
    assert titles(True)[2] == "5 best proposals (nothing found)"
    assert titles(False) == ["image", "truth", "prediction"]
    assert blank.size != shown.size or (np.asarray(blank) != np.asarray(shown)).any()
