import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from dataseg_hf.data.catalog import CAMVID, CATALOG, COCO_BOXES, COCO_INSTANCES, COCO_PANOPTIC, COCO_SEMANTIC


@pytest.fixture(scope="module")
def data() -> Path:
    if "DATASEG_DATA" not in os.environ:
        pytest.skip("DATASEG_DATA is not set")
    return Path(os.environ["DATASEG_DATA"])


def readable(official: str) -> set[str]:
    """The words of an official COCO category name without its marks of the label merging."""
    words = official.replace("playingfield", "playing field").replace("-", " ").split()
    return set(words) - {"merged", "other", "stuff"}


@pytest.mark.parametrize("spec", CATALOG.values(), ids=CATALOG.keys())
def test_every_spec_is_consistent(spec):
    assert CATALOG[spec.name] is spec
    assert sorted(spec.id_map.values()) == list(range(len(spec.classes)))
    assert not spec.void_ids & spec.id_map.keys()
    assert len(set(spec.labels)) == len(spec.labels)
    for label in spec.labels:
        assert label == label.lower()
        assert label.replace(" ", "").isalpha(), "a name that a text encoder can read"
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_counts():
    assert len(COCO_PANOPTIC.classes) == len(COCO_SEMANTIC.classes) == 133
    assert sum(COCO_PANOPTIC.is_thing) == sum(COCO_SEMANTIC.is_thing) == 80
    assert len(COCO_INSTANCES.classes) == len(COCO_BOXES.classes) == 80
    assert all(COCO_INSTANCES.is_thing)
    assert len(CAMVID.classes) == 11
    assert [c.name for c in CAMVID.classes if c.is_thing] == ["car", "pedestrian", "bicyclist"]


def test_tasks():
    assert {name: spec.task for name, spec in CATALOG.items()} == {
        "coco_panoptic": "panoptic",
        "coco_semantic": "semantic",
        "coco_instances": "instance",
        "coco_boxes": "boxes",
        "camvid": "semantic",
    }


def test_ids_and_things_are_the_official_ones(data):
    categories = json.loads((data / "panopticapi_sample/panoptic_coco_categories.json").read_text())
    for spec in (COCO_PANOPTIC, COCO_SEMANTIC):
        assert spec.id_map == {category["id"]: i for i, category in enumerate(categories)}
        assert spec.is_thing == [bool(category["isthing"]) for category in categories]
    assert [set(name.split()) for name in COCO_PANOPTIC.labels] == [readable(c["name"]) for c in categories]

    instances = json.loads((data / "coco128/instances_train2017_first128.json").read_text())["categories"]
    for spec in (COCO_INSTANCES, COCO_BOXES):
        assert spec.labels == [category["name"] for category in instances]
        assert spec.id_map == {category["id"]: i for i, category in enumerate(instances)}


def test_class_order_is_that_of_the_stored_text_embeddings(data):
    rows = json.loads((data / "clip_text/row_names.json").read_text())
    assert [set(name.split()) for name in COCO_PANOPTIC.labels] == [readable(row) for row in rows["coco133"]]
    assert rows["coco80"] == COCO_INSTANCES.labels
    embeddings = np.load(data / "clip_text/openai_vitb16/coco_panoptic_clip_hand_craft_ViTB16.npy")
    assert len(embeddings) == len(COCO_PANOPTIC.classes)
