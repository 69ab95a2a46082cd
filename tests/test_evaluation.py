"""Scoring: what the truth itself would get, shares of several processes, and errors."""

from typing import Any

import pytest
import torch
from conftest import ModelFactory

from dataseg_hf import HashedNgramEncoder
from dataseg_hf.data.shapes import SHAPES_SPECS, shapes_dataset
from dataseg_hf.evaluation import EvaluationSet, evaluate, pictures
from dataseg_hf.modeling_dataseg import DaTaSegModel, DaTaSegOutput

MEAN, STD = [0.5] * 3, [0.25] * 3


def held_out(name: str, metrics: list[Any], count: int = 5) -> EvaluationSet:
    labels = SHAPES_SPECS[name].labels
    data = shapes_dataset(name, "eval", count=count, size=32)
    return EvaluationSet(name, data, HashedNgramEncoder(16)(labels), metrics, batch_size=2, image_size=32)


class Oracle(torch.nn.Module):
    """Answers with the truth of the next images of a set, as a model with as many queries as targets would."""

    def __init__(self, chosen: EvaluationSet) -> None:
        super().__init__()
        self.chosen, self.next, self.device = chosen, 0, torch.device("cpu")

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> DaTaSegOutput:
        classes = len(self.chosen.data.spec.labels)
        logits = torch.zeros(len(pixel_values), 12, classes + 1)
        logits[..., -1] = 20.0
        masks = torch.full((len(pixel_values), 12, 32, 32), -20.0)
        for place in range(len(pixel_values)):
            truth = self.chosen.data[self.next].annotation
            self.next += 1
            for number, label in enumerate(truth.class_labels.tolist()):
                logits[place, number, label] = 40.0
                own = truth.masks[number] if hasattr(truth, "masks") else truth.segment_map == number
                masks[place, number][torch.from_numpy(own)] = 20.0
        return DaTaSegOutput(
            class_queries_logits=logits, masks_queries_logits=masks, valid_size=torch.ones(len(pixel_values), 2)
        )


@pytest.mark.parametrize(
    ("name", "metrics", "perfect"),
    [
        ("shapes_panoptic", ["pq", "miou", "mask_ap"], ["pq", "pq_things", "pq_stuff", "miou", "mask_ap"]),
        ("shapes_boxes", ["mask_ap"], ["mask_ap", "mask_ap50", "mask_ap75"]),
    ],
)
def test_the_truth_scores_one(name: str, metrics: list[Any], perfect: list[str]) -> None:
    chosen = held_out(name, metrics)
    results = evaluate(Oracle(chosen), [chosen], MEAN, STD)  # type: ignore[arg-type]
    assert {metric: results[f"{name}/{metric}"] for metric in perfect} == pytest.approx(dict.fromkeys(perfect, 1.0))


def test_shares_of_two_processes_merge_to_the_whole(tiny_model: ModelFactory) -> None:
    model = tiny_model()
    sets = [held_out("shapes_panoptic", ["pq", "miou"]), held_out("shapes_boxes", ["mask_ap"])]
    whole = evaluate(model, sets, MEAN, STD)
    first: list[Any] = []

    def keep(state: Any) -> list[Any]:
        first.append(state)
        return [state]

    evaluate(model, sets, MEAN, STD, rank=0, world_size=2, gather=keep)
    both = evaluate(model, sets, MEAN, STD, rank=1, world_size=2, gather=lambda state: [first.pop(0), state])
    assert both == pytest.approx(whole, nan_ok=True)


def test_progress_counts_every_image_once(tiny_model: ModelFactory) -> None:
    counted: list[int] = []
    evaluate(tiny_model(), [held_out("shapes_boxes", ["mask_ap"])], MEAN, STD, progress=counted.append)
    assert sum(counted) == 5


def test_evaluation_leaves_the_mode_as_it_was(tiny_model: ModelFactory) -> None:
    model: DaTaSegModel = tiny_model().train()
    evaluate(model, [held_out("shapes_boxes", ["mask_ap"], count=1)], MEAN, STD)
    assert model.training


def test_pq_without_a_segment_map_is_refused(tiny_model: ModelFactory) -> None:
    with pytest.raises(ValueError, match="image shapes_boxes_eval_00000: pq and miou need a segment map"):
        evaluate(tiny_model(), [held_out("shapes_boxes", ["pq"])], MEAN, STD)


def test_pictures_have_image_truth_and_prediction(tiny_model: ModelFactory) -> None:
    for name, metrics in (("shapes_panoptic", ["pq"]), ("shapes_semantic", ["miou"]), ("shapes_boxes", ["mask_ap"])):
        rows = pictures(tiny_model(), held_out(name, metrics), 3, MEAN, STD)
        assert [len(row) for row in rows] == [3, 3, 3]
