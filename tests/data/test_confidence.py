"""Scores of a COCO file become weights of the masks, and stay with their objects."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataseg_hf.data.category_map import map_categories
from dataseg_hf.data.collate import Normalization, collate
from dataseg_hf.data.confidence import with_confidence
from dataseg_hf.data.sample import BadSampleError, SampleDataset, Segments
from dataseg_hf.data.shapes import SplitName, shapes_dataset
from dataseg_hf.data.transforms import Augmentation, augment

SPLITS: dict[str, SplitName] = {
    "shapes_panoptic": "train",
    "shapes_boxes": "eval",  # held-out boxes have masks
}
PLAIN = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def scored(name: str, tmp_path: Path, scores: list[Any] | None = None) -> SampleDataset:
    """One scene, and a file with a score for each of its objects, by default k / 16."""
    data = shapes_dataset(name, SPLITS.get(name, "train"), count=1)
    sample = data[0]
    count = len(sample.annotation.class_labels)
    scores = [number / 16 for number in range(count)] if scores is None else scores
    entries: list[dict[str, Any]] = [{} if s is None else {"score": s} for s in scores]
    if isinstance(sample.annotation, Segments):
        entries = [{"id": number, **entry} for number, entry in enumerate(entries, start=1)]
        listed = [{"image_id": sample.image_id, "segments_info": entries[::-1]}]  # in any order
    else:
        listed = [{"image_id": sample.image_id, **entry} for entry in entries]
    file = tmp_path / "scores.json"
    file.write_text(json.dumps({"annotations": listed}))
    return with_confidence(data, file)


def test_objects_without_a_score_count_whole(tmp_path: Path) -> None:
    count = len(shapes_dataset("shapes_panoptic", "train", count=1)[0].annotation.class_labels)
    data = scored("shapes_panoptic", tmp_path, [0.25, *[None] * (count - 1)])
    assert data[0].annotation.weights is not None
    assert data[0].annotation.weights.tolist() == [0.25, *[1.0] * (count - 1)]


def test_objects_of_a_map_of_classes_count_whole(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    sample = shapes_dataset("shapes_boxes", "train", count=1)[0]
    sources = ["class", *["box"] * (len(sample.annotation.class_labels) - 1)]
    entries = [{"image_id": sample.image_id, "score": 0.25, "source": one} for one in sources]
    file.write_text(json.dumps({"annotations": entries}))
    weights = with_confidence(shapes_dataset("shapes_boxes", "train", count=1), file)[0]
    assert weights.annotation.weights is not None
    assert weights.annotation.weights.tolist() == [1.0, *[0.25] * (len(sources) - 1)]


@pytest.mark.parametrize("name", list(SPLITS))
def test_weights_stay_with_their_objects_through_a_crop(name: str, tmp_path: Path) -> None:
    """Objects are told apart by their weights, and found again by the pixels they show."""
    data = scored(name, tmp_path)
    whole = data[0]
    settings = Augmentation(64, (2.0, 2.0), horizontal_flip=0.0)
    fewer = 0
    for seed in range(8):
        seen = augment(whole, settings, np.random.default_rng(seed))
        weights = seen.annotation.weights
        assert weights is not None
        assert len(weights) == len(seen.annotation.class_labels)
        fewer += len(weights) < len(whole.annotation.class_labels)
        places = (weights * 16).round().astype(int)
        np.testing.assert_array_equal(
            seen.annotation.class_labels, whole.annotation.class_labels[places]
        )
        assert (np.diff(places) > 0).all()
        task = data.spec.task
        labels = collate([seen], canvas=64, task=task, normalization=PLAIN)["labels"]
        np.testing.assert_array_equal(labels[0]["mask_weights"].numpy(), weights)
    assert fewer


def test_crowds_take_their_weights_along(tmp_path: Path) -> None:
    """They are no targets of maps."""
    sample = scored("shapes_panoptic", tmp_path)[0]
    crowd = np.zeros(len(sample.annotation.class_labels), dtype=bool)
    crowd[1] = True
    sample = replace(sample, annotation=replace(sample.annotation, is_crowd=crowd))
    seen = augment(sample, Augmentation(64, horizontal_flip=0.0), np.random.default_rng(0))
    (labels,) = collate([seen], canvas=64, task="panoptic", normalization=PLAIN)["labels"]
    expected = [number / 16 for number in range(len(crowd)) if number != 1]
    assert labels["mask_weights"].tolist() == expected


def test_classes_that_are_joined_weigh_as_the_least(tmp_path: Path) -> None:
    data = scored("shapes_panoptic", tmp_path)
    plain, spec = data[0].annotation, data.spec
    stuff = [name for name, thing in zip(spec.labels, spec.is_thing, strict=True) if not thing]
    joined = map_categories(data, dict.fromkeys(stuff, "ground"))
    found = joined[0].annotation
    assert found.weights is not None
    ground = joined.spec.labels.index("ground")
    is_stuff = [not spec.is_thing[label] for label in plain.class_labels.tolist()]
    least = min(number / 16 for number, one in enumerate(is_stuff) if one)
    assert found.weights[found.class_labels == ground].tolist() == [least]
    assert len(found.weights) == 1 + is_stuff.count(False)


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    data = scored("shapes_boxes", tmp_path, [0.5])
    with pytest.raises(BadSampleError, match=r"1 scores for \d+ objects; complete the set anew"):
        data[0]


@pytest.mark.parametrize("score", [1.5, -0.1, "high"])
def test_a_score_out_of_range_is_refused(score: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"image \S+: `score` must be a number in 0\.\.1, not"):
        scored("shapes_boxes", tmp_path, [score])


def test_a_file_without_any_score_is_no_completed_one(tmp_path: Path) -> None:
    count = len(shapes_dataset("shapes_boxes", "train", count=1)[0].annotation.class_labels)
    with pytest.raises(
        ValueError, match=r"no object has a `score` or a `source`.*take `completed`"
    ):
        scored("shapes_boxes", tmp_path, [None] * count)
