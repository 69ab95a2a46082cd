"""`score_weights`: scores of a COCO file become weights of the masks, and stay with their objects."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataseg_hf.data.category_map import map_categories
from dataseg_hf.data.collate import Normalization, collate
from dataseg_hf.data.readers import read_coco_instances, read_coco_panoptic
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, Instances, Sample, SampleDataset
from dataseg_hf.data.transforms import Augmentation, augment
from helpers.annotation_files import rgb_of, save, write_json

PLAIN = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CLASSES = (ClassInfo("cat", True), ClassInfo("sky", False), ClassInfo("sea", False))
SPEC = DatasetSpec("pets", "panoptic", CLASSES, {1: 0, 2: 1, 3: 2}, void_ids=frozenset({9}))
SIDE = 32
COUNT = 8  # columns of four pixels, an object each


def instances(folder: Path, objects: list[dict[str, Any]]) -> SampleDataset:
    """The objects, beginning with the left column."""
    annotations = [
        {
            "id": n,
            "image_id": 1,
            "category_id": 1,
            "bbox": [4 * n, 0, 4, SIDE],
            "segmentation": [[4 * n, 0, 4 * n + 4, 0, 4 * n + 4, SIDE, 4 * n, SIDE]],
            **one,
        }
        for n, one in enumerate(objects)
    ]
    _write(folder, annotations)
    spec = replace(SPEC, task="instance")
    return read_coco_instances(spec, folder, folder / "a.json", score_weights=True)


def panoptic(folder: Path, segments: list[dict[str, Any]]) -> SampleDataset:
    """The segments, beginning with the left column; the file lists them from the right."""
    ids = np.repeat(np.arange(1, COUNT + 1), 4)[None].repeat(SIDE, axis=0)
    ids[ids > len(segments)] = 0
    save(folder / "maps/a.png", rgb_of(ids))
    infos = [{"id": n, "category_id": 1, **one} for n, one in enumerate(segments, start=1)]
    _write(folder, [{"image_id": 1, "file_name": "a.png", "segments_info": infos[::-1]}])
    return read_coco_panoptic(SPEC, folder, folder / "maps", folder / "a.json", score_weights=True)


def _write(folder: Path, annotations: list[dict[str, Any]]) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(folder / "a.jpg")
    image = {"id": 1, "file_name": "a.jpg", "height": SIDE, "width": SIDE}
    write_json(folder / "a.json", {"images": [image], "annotations": annotations})


FORMATS = [instances, panoptic]
SCORED = [{"score": n / 16} for n in range(COUNT)]


def weights_of(sample: Sample) -> list[float]:
    assert sample.annotation.weights is not None
    return [float(weight) for weight in sample.annotation.weights]


@pytest.mark.parametrize("read", FORMATS)
def test_a_mask_counts_as_much_as_its_score_says(read: Any, tmp_path: Path) -> None:
    """One that a person drew has none; the score of an object of a map of classes tells of its
    division, not of its pixels.
    """
    objects = [{"score": 0.25, "source": "box"}, {}, {"score": 0.5, "source": "class"}]
    assert weights_of(read(tmp_path, objects)[0]) == [0.25, 1.0, 1.0]


@pytest.mark.parametrize("read", FORMATS)
def test_what_the_reader_leaves_out_takes_its_score_along(read: Any, tmp_path: Path) -> None:
    objects = [{"score": 0.1, "category_id": 9}, {"score": 0.25}, {"score": 0.5, "iscrowd": 1}]
    assert weights_of(read(tmp_path, objects)[0]) == [0.25, 0.5]


def test_a_segment_that_was_painted_over_takes_its_score_along(tmp_path: Path) -> None:
    data = panoptic(tmp_path, [{"score": 0.25}, {"score": 0.5}])
    ids = np.full((SIDE, SIDE), 2)
    save(tmp_path / "maps/a.png", rgb_of(ids))
    assert weights_of(data[0]) == [0.5]


def test_a_box_without_area_takes_its_score_along(tmp_path: Path) -> None:
    flat = {"score": 0.1, "bbox": [0, 0, 0, 4], "segmentation": [[0, 0, 4, 0, 4, 4]]}
    assert weights_of(instances(tmp_path, [flat, {"score": 0.25}])[0]) == [0.25]


@pytest.mark.parametrize("read", FORMATS)
def test_weights_stay_with_their_objects_through_a_crop(read: Any, tmp_path: Path) -> None:
    """Objects are told apart by their weights, and found again at their columns."""
    data = read(tmp_path, SCORED)
    settings = Augmentation(SIDE, (2.0, 2.0), horizontal_flip=0.0)
    for seed in range(8):
        seen = augment(data[0], settings, np.random.default_rng(seed))
        weights = seen.annotation.weights
        assert weights is not None
        assert 0 < len(weights) == len(seen.annotation.class_labels) < COUNT
        if isinstance(seen.annotation, Instances):
            assert seen.annotation.masks is not None
            firsts = seen.annotation.masks.any(1).argmax(1)
        else:
            segments = range(len(weights))
            firsts = np.array(
                [(seen.annotation.segment_map[0] == number).argmax() for number in segments]
            )
        assert (np.diff(firsts) > 0).all()
        np.testing.assert_array_equal(np.diff(weights * 16), 1)
        task = data.spec.task
        (labels,) = collate([seen], canvas=SIDE, task=task, normalization=PLAIN)["labels"]
        np.testing.assert_array_equal(labels["mask_weights"].numpy(), weights)


def test_crowds_are_no_targets_of_maps(tmp_path: Path) -> None:
    sample = panoptic(tmp_path, [{"score": 0.25}, {"score": 0.5, "iscrowd": 1}, {}])[0]
    seen = augment(sample, Augmentation(SIDE, horizontal_flip=0.0), np.random.default_rng(0))
    (labels,) = collate([seen], canvas=SIDE, task="panoptic", normalization=PLAIN)["labels"]
    assert labels["mask_weights"].tolist() == [0.25, 1.0]


def test_stuff_that_is_joined_weighs_as_the_least(tmp_path: Path) -> None:
    stuff = [{"category_id": 2, "score": 0.5}, {"category_id": 3, "score": 0.25}]
    data = panoptic(tmp_path, [{"score": 0.75}, *stuff])
    joined = map_categories(data, {"sky": "nature", "sea": "nature"})
    assert weights_of(joined[0]) == [0.75, 0.25]
    assert weights_of(map_categories(data, {"cat": None})[0]) == [0.5, 0.25]


@pytest.mark.parametrize("read", FORMATS)
def test_scores_are_read_where_they_are_asked_for(read: Any, tmp_path: Path) -> None:
    read(tmp_path, SCORED)
    if read is instances:
        spec = replace(SPEC, task="instance")
        plain = read_coco_instances(spec, tmp_path, tmp_path / "a.json")
    else:
        plain = read_coco_panoptic(SPEC, tmp_path, tmp_path / "maps", tmp_path / "a.json")
    assert plain[0].annotation.weights is None


@pytest.mark.parametrize("read", FORMATS)
@pytest.mark.parametrize("score", [1.5, -0.1, "high", True])
def test_a_score_out_of_range_is_named(read: Any, score: Any, tmp_path: Path) -> None:
    (problem,) = read(tmp_path, [{"score": score}]).problems
    assert re.search(r"image 1, .*: `score` must be a number in 0\.\.1, not ", str(problem))
