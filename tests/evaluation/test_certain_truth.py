"""Metrics where annotation is incomplete: what is not known excuses predictions, as LVIS has it."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import hotcoco
import numpy as np
import pytest
import torch

from dataseg_hf.data.readers.objects_of_degrees import ObjectsOfDegrees
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, Sample, SampleDataset, Segments
from dataseg_hf.evaluation.inference import InstanceOutput, PanopticOutput
from dataseg_hf.evaluation.notes import notes_of, summarize
from dataseg_hf.evaluation.scorers import SCORERS
from dataseg_hf.evaluation.sets import frequency_groups

SIDE, CLASSES, IMAGES = 40, 4, 8
SPEC = DatasetSpec(
    name="tiny",
    task="objects",
    classes=tuple(ClassInfo(f"class {number}", True) for number in range(CLASSES)),
    id_map={number: number for number in range(CLASSES)},
)

LETTERS = "rcff"
NAMES: Any = {"r": "rare", "c": "common", "f": "frequent"}
DATA = SampleDataset(
    SPEC, [], lambda row: row, frequencies={n: NAMES[letter] for n, letter in enumerate(LETTERS)}
)


def box_mask(box: np.ndarray) -> np.ndarray:
    left, top, right, bottom = box.astype(int)
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.integers(0, SIDE - 16, (count, 2))
    return np.concatenate([corner, corner + rng.integers(6, 16, (count, 2))], axis=1).astype(float)


class Case:
    """Images of which every class was annotated, in whole or in part, or found absent, or not
    looked for; and predictions near the objects and elsewhere.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.images: list[dict[str, Any]] = []
        for number in range(IMAGES):
            states = rng.choice(["whole", "in part", "absent", "unknown"], CLASSES)
            truth = [
                (label, box)
                for label, state in enumerate(states)
                if state in ("whole", "in part")
                for box in random_boxes(rng, int(rng.integers(1, 4)))
            ]
            near = [
                (label, np.clip(box + rng.integers(-2, 3, 4), 0, SIDE))
                for label, box in truth
                if rng.random() < 0.8
            ]
            anywhere = [
                (int(rng.integers(CLASSES)), box) for box in random_boxes(rng, int(rng.integers(6)))
            ]
            predictions = [(label, box, rng.random()) for label, box in [*near, *anywhere]]
            self.images.append(
                {"id": number + 1, "states": states, "truth": truth, "predictions": predictions}
            )

    def of_state(self, image: dict[str, Any], *states: str) -> list[int]:
        return [label for label, state in enumerate(image["states"]) if state in states]

    def by_lvis(self) -> list[float]:
        """AP and AP50, and AP of each group of classes, by hotcoco's port of lvis-api."""
        data: dict[str, Any] = {
            "images": [
                {
                    "id": image["id"],
                    "height": SIDE,
                    "width": SIDE,
                    "neg_category_ids": [c + 1 for c in self.of_state(image, "absent")],
                    "not_exhaustive_category_ids": [c + 1 for c in self.of_state(image, "in part")],
                }
                for image in self.images
            ],
            "categories": [
                {"id": c + 1, "name": f"class {c}", "frequency": letter}
                for c, letter in enumerate(LETTERS)
            ],
            "annotations": [],
        }
        found = []
        for image in self.images:
            for label, box in image["truth"]:
                data["annotations"].append(
                    {
                        "id": len(data["annotations"]) + 1,
                        "image_id": image["id"],
                        "category_id": label + 1,
                        "bbox": [*box[:2], *(box[2:] - box[:2])],
                        "area": float(np.prod(box[2:] - box[:2])),
                        "iscrowd": 0,
                    }
                )
            for label, box, score in image["predictions"]:
                found.append(
                    {
                        "image_id": image["id"],
                        "category_id": label + 1,
                        "bbox": [*box[:2], *(box[2:] - box[:2])],
                        "score": score,
                    }
                )
        truth = hotcoco.COCO(data)
        scored = hotcoco.LVISEval(truth, truth.load_res(found), "bbox")
        scored.evaluate()
        scored.accumulate()
        precision = np.array(scored.eval["precision"])[:, :, :, 0, -1]  # IoU, recall, class
        scored.summarize()
        found = scored.get_results()
        by_group = [found[key] if found[key] > -1 else np.nan for key in ("APr", "APc", "APf")]
        return [_mean(precision), _mean(precision[0]), *by_group]

    def by_us(self) -> list[float]:
        scorer = SCORERS["box_ap"]
        metric = scorer.new(SPEC, 300)
        for image in self.images:
            objects = ObjectsOfDegrees((SIDE, SIDE))
            for label, box in image["truth"]:
                objects.add(label, False, mask=box_mask(box))
            sample = Sample(
                np.zeros((SIDE, SIDE, 3), np.uint8),
                objects.instances(),
                image["id"],
                "x.png",
                incomplete=self.of_state(image, "in part", "unknown"),
            )
            scorer.update(metric, output(image["predictions"]), sample, SPEC)
        result = scorer.values(metric.compute(), frequency_groups(DATA))
        groups = [f"box_ap_{group}" for group in ("rare", "common", "frequent")]
        return [result[key] for key in ("box_ap", "box_ap50", *groups)]


def _mean(precision: np.ndarray) -> float:
    defined = precision[precision > -1]
    return float(defined.mean())


def output(predictions: list[tuple[int, np.ndarray, float]]) -> InstanceOutput:
    boxes = np.array([box for _, box, _ in predictions]).reshape(-1, 4)
    return InstanceOutput(
        masks=[],  # type: ignore[arg-type]
        boxes=boxes,
        scores=np.array([score for *_, score in predictions]),
        label_ids=np.array([label for label, *_ in predictions], dtype=np.int64),
    )


@pytest.mark.parametrize("seed", range(100))
def test_ap_equals_that_of_lvis(seed: int) -> None:
    case = Case(seed)
    assert case.by_us() == pytest.approx(case.by_lvis(), abs=1e-9, nan_ok=True)


def one_image(**what: Any) -> tuple[Sample, np.ndarray]:
    box = np.array([4.0, 4.0, 20.0, 20.0])
    objects = ObjectsOfDegrees((SIDE, SIDE))
    objects.add(0, False, mask=box_mask(np.array([25.0, 25, 35, 35])))
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    return Sample(image, objects.instances(), 1, "x.png", **what), box


@pytest.mark.parametrize(("incomplete", "ap"), [((), 0.5), ((0,), 1.0), ((1,), 0.5)])
def test_an_unmatched_prediction_of_an_open_class_counts_nowhere(
    incomplete: tuple[int, ...], ap: float
) -> None:
    sample, wrong = one_image(incomplete=incomplete)
    scorer = SCORERS["box_ap"]
    metric = scorer.new(SPEC, 100)
    right = np.array([25.0, 25, 35, 35])
    scorer.update(metric, output([(0, wrong, 0.9), (0, right, 0.8)]), sample, SPEC)
    assert metric.compute()["ap50"] == pytest.approx(ap)


def test_an_object_without_mask_excuses_masks_in_its_box() -> None:
    objects = ObjectsOfDegrees((SIDE, SIDE))
    right, boxed = np.array([25.0, 25, 35, 35]), np.array([4.0, 4.0, 20.0, 20.0])
    objects.add(0, False, mask=box_mask(right))
    objects.add(0, False, box=boxed.tolist())
    sample = Sample(np.zeros((SIDE, SIDE, 3), np.uint8), objects.instances(), 1, "x.png")
    scorer = SCORERS["mask_ap"]
    metric = scorer.new(SPEC, 100)
    inside = np.array([6.0, 6.0, 12.0, 18.0])
    predicted = output([(0, inside, 0.9), (0, right, 0.8)])
    predicted.masks = np.stack([box_mask(inside), box_mask(right)])
    scorer.update(metric, predicted, sample, SPEC)
    assert metric.compute()["ap50"] == pytest.approx(1.0)


# --- segments and pixels --------------------------------------------------------------------------

THINGS = replace(SPEC, task="panoptic")


def halves(left: int, right: int) -> Segments:
    """An image of two segments, of these classes."""
    segment_map = np.zeros((SIDE, SIDE), np.int32)
    segment_map[:, SIDE // 2 :] = 1
    return Segments(segment_map, np.array([left, right]), np.zeros(2, bool))


def predicted_halves(left: int, right: int) -> PanopticOutput:
    segments = [{"id": 1, "label_id": left}, {"id": 2, "label_id": right}]
    return PanopticOutput(halves(left, right).segment_map + 1, segments)


@pytest.mark.parametrize(
    ("incomplete", "pq", "unjudged"),
    [((), [1.0, np.nan, 0.0, 0.0], 0), ((2,), [1.0, np.nan, np.nan, 0.0], 800)],
)
def test_an_unmatched_segment_of_an_open_class_counts_nowhere(
    incomplete: tuple[int, ...], pq: list[float], unjudged: int
) -> None:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    sample = Sample(image, halves(0, 3), 1, "x.png", incomplete=incomplete)
    scorer = SCORERS["pq"]
    metric = scorer.new(THINGS, 100)
    scorer.update(metric, predicted_halves(0, 2), sample, THINGS)
    found = [values["pq"] for values in metric.compute()["per_class"].values()]
    np.testing.assert_equal(found, pq)
    assert unjudged_of(predicted_halves(0, 2), sample) == unjudged


@pytest.mark.parametrize(("exhaustive", "accuracy", "unjudged"), [(True, 0.5, 0), (False, 1, 800)])
def test_pixels_of_an_open_class_are_left_out_where_another_is_annotated(
    exhaustive: bool, accuracy: float, unjudged: int
) -> None:
    classes = list(THINGS.classes)
    classes[2] = replace(classes[2], exhaustive=exhaustive)
    spec = replace(THINGS, classes=tuple(classes))
    sample = Sample(np.zeros((SIDE, SIDE, 3), np.uint8), halves(0, 3), 1, "x.png")
    predicted = predicted_halves(0, 2).classes
    scorer = SCORERS["miou"]
    metric = scorer.new(spec, 100)
    scorer.update(metric, predicted, sample, spec)
    assert metric.compute()["pixel_acc"] == accuracy
    assert unjudged_of(predicted, sample, spec) == unjudged


def test_void_pixels_are_counted_among_those_that_cannot_be_judged() -> None:
    truth = halves(0, 3)
    truth.segment_map[:4] = -1
    sample = Sample(np.zeros((SIDE, SIDE, 3), np.uint8), truth, 1, "x.png", incomplete=(2,))
    assert unjudged_of(predicted_halves(0, 3), sample) == 4 * SIDE


def unjudged_of(predicted: Any, sample: Sample, spec: DatasetSpec = THINGS) -> int:
    """Pixels that the note on a set says cannot be judged."""
    logits = torch.zeros(1, CLASSES + 1)
    proposals = SimpleNamespace(proposals=SimpleNamespace(class_logits=logits))
    summary = summarize(predicted, proposals, sample, spec)  # type: ignore[arg-type]
    eval_set: Any = SimpleNamespace(threshold=0.5, overlap_threshold=0.5, data=None)
    kind: Any = "panoptic" if isinstance(predicted, PanopticOutput) else "semantic"
    notes = [note for note in notes_of(summary, kind, eval_set) if "count nowhere" in note]
    if not notes:
        return 0
    (note,) = notes
    count, total = re.match(r"([\d,]+) of ([\d,]+) pixels", note).groups()  # type: ignore[union-attr]
    assert total == f"{SIDE * SIDE:,}"
    return int(count.replace(",", ""))
