"""AP where annotation is incomplete: what is not known excuses predictions, as LVIS has it."""

from typing import Any

import hotcoco
import numpy as np
import pytest

from dataseg_hf.data.readers.objects_of_degrees import ObjectsOfDegrees
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, Sample
from dataseg_hf.evaluation.inference import InstanceOutput
from dataseg_hf.evaluation.scorers import SCORERS

SIDE, CLASSES, IMAGES = 40, 4, 8
SPEC = DatasetSpec(
    name="tiny",
    task="objects",
    classes=tuple(ClassInfo(f"class {number}", True) for number in range(CLASSES)),
    id_map={number: number for number in range(CLASSES)},
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
        """AP and AP50, and AP of each class, by hotcoco's port of lvis-api."""
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
                {"id": c + 1, "name": f"class {c}", "frequency": "f"} for c in range(CLASSES)
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
        return [_mean(precision), _mean(precision[0])]

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
        result = metric.compute()
        return [result["ap"], result["ap50"]]


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
    assert case.by_us() == pytest.approx(case.by_lvis(), abs=1e-9)


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
