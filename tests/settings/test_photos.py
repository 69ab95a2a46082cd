"""The photographs' settings against the real files."""

import os

import pytest
import torch

from dataseg_hf.settings.datasets import load_source, training_set
from dataseg_hf.settings.run import RunConfig, parse_run_config
from dataseg_hf.training.run import build_model, run_text_encoder
from helpers.paths import ROOT

PHOTOS = ROOT / "src/dataseg_hf/configs/photos.yaml"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "DATASEG_DATA" not in os.environ, reason="the real data is named by DATASEG_DATA"
    ),
]


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return parse_run_config(["--config", str(PHOTOS), "--backbone_weights", "null"], PHOTOS)


def ids(config: RunConfig, name: str) -> set[int]:
    data = training_set(name, config.datasets[name]).data
    return {int(data[index].image_id) for index in range(len(data))}


def test_the_coco_images_are_split_into_three_disjoint_parts(config: RunConfig) -> None:
    panoptic, semantic, boxes = (
        ids(config, name) for name in ("coco_panoptic", "coco_semantic", "coco_boxes")
    )
    assert (len(panoptic), len(semantic), len(boxes)) == (34, 33, 33)
    assert len(panoptic | semantic | boxes) == 100
    assert ids(config, "coco_instances") == panoptic


def test_held_out_images_are_the_52_of_coco_and_the_12_of_camvid(config: RunConfig) -> None:
    sizes = {name: len(load_source(entry, name)) for name, entry in config.evaluation.items()}
    assert sizes == {"coco_val": 52, "camvid_test": 12}


def test_every_name_has_a_real_embedding_and_aliases_share_theirs(config: RunConfig) -> None:
    encoder = run_text_encoder(config)
    members = [training_set(name, entry) for name, entry in config.datasets.items()]
    model = build_model(config, members, encoder)
    camvid = dict(zip(members[3].data.spec.labels, model.vocabularies.get("camvid"), strict=True))
    coco = dict(
        zip(members[0].data.spec.labels, model.vocabularies.get("coco_panoptic"), strict=True)
    )
    assert torch.equal(camvid["pedestrian"], coco["person"])
    assert torch.equal(camvid["car"], coco["car"])
    assert model.config.text_encoder is not None
    assert model.config.text_encoder["kind"] == "precomputed"
