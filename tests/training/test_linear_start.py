"""The linear start: what is fitted before the first step."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from conftest import ModelFactory
from dataseg_hf import HashedNgramEncoder
from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.mixing import TrainingSet
from dataseg_hf.data.sample import SampleDataset, Segments
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.data.transforms import Augmentation
from dataseg_hf.errors import ConfigError
from dataseg_hf.metrics.semantic import MeanIoU, semantic_map
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from dataseg_hf.settings.entries import TrainEntry
from dataseg_hf.settings.run import RunConfig
from dataseg_hf.training.linear_start import check_linear_start, linear_start

NORMALIZATION = Normalization([0.5] * 3, [0.25] * 3)
SIZE = 64


def training_set(name: str, count: int = 16) -> TrainingSet:
    data = shapes_dataset(name, "train", count=count, size=SIZE)
    return TrainingSet(name, data, 1.0, 4, Augmentation(SIZE), {})


def model_of(tiny_model: ModelFactory, sets: list[TrainingSet], **options: object) -> DaTaSegModel:
    model = tiny_model(vocabularies={}, default_vocabulary=None, text_embedding_dim=128, **options)
    encoder = HashedNgramEncoder(model.config.text_embedding_dim)
    for member in sets:
        spec = member.data.spec
        model.add_vocabulary(member.name, spec.labels, spec.is_thing, encoder(spec.labels))
    return model.train()


def cell_accuracy(model: DaTaSegModel, member: TrainingSet) -> float:
    """Share of pixels whose class the cell classifier knows, of the set's own images."""
    assert model.cell_classifier is not None
    metric = MeanIoU(member.data.spec.labels)
    mean, std = NORMALIZATION.per_channel()
    with torch.no_grad():
        for index in range(len(member.data)):
            sample = member.data[index]
            pixels = (torch.from_numpy(sample.image).permute(2, 0, 1) / 255 - mean) / std
            maps = model.backbone(pixels[None]).feature_maps
            features = model.pixel_decoder(maps, torch.ones(1, SIZE, SIZE, dtype=torch.bool))
            cells = model.cell_classifier(
                maps, features, torch.ones(1, SIZE, SIZE, dtype=torch.bool)
            )
            logits = model.classifier(cells, model.vocabularies.get(member.name))[..., :-1]
            logits = torch.nn.functional.interpolate(
                logits.permute(0, 3, 1, 2), size=(SIZE, SIZE), mode="bilinear"
            )
            metric.update(logits[0].argmax(0).numpy(), semantic_map(sample.annotation))
    return float(metric.compute()["pixel_acc"])


def test_the_cells_are_known_before_the_first_step(tiny_model: ModelFactory) -> None:
    sets = [training_set("shapes_panoptic"), training_set("shapes_boxes")]
    model = model_of(tiny_model, sets, cell_classifier=True)
    before = cell_accuracy(model, sets[0])
    others = {
        name: value.clone()
        for name, value in model.state_dict().items()
        if not name.startswith(("cell_classifier.", "classifier.logit_scale"))
    }
    linear_start(model, sets, NORMALIZATION, steps=200, seed=0)
    assert cell_accuracy(model, sets[0]) > max(0.6, before + 0.2)
    state = model.state_dict()
    assert [name for name, value in others.items() if not torch.equal(value, state[name])] == []
    assert model.training


def test_the_same_seed_gives_the_same_start(tiny_model: ModelFactory) -> None:
    sets = [training_set("shapes_panoptic", count=4)]
    weights = []
    for seed in (3, 3, 4):
        torch.manual_seed(0)
        model = model_of(tiny_model, sets, cell_classifier=True)
        linear_start(model, sets, NORMALIZATION, steps=5, seed=seed)
        assert model.cell_classifier is not None
        weights.append(model.cell_classifier.linear.weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def settings(**options: Any) -> RunConfig:
    entry = TrainEntry(spec="shapes_panoptic", reader="shapes")
    return RunConfig(
        output_dir="unused",
        datasets={"shapes_panoptic": entry},
        text_encoder={"kind": "hashed_ngrams"},
        **options,
    )


def test_a_linear_start_needs_a_cell_classifier(tiny_model: ModelFactory) -> None:
    sets = [training_set("shapes_panoptic", count=2)]
    model = model_of(tiny_model, sets)
    check_linear_start(model, sets, settings())
    with pytest.raises(ConfigError, match=r"linear_start: the model has no cell classifier"):
        check_linear_start(model, sets, settings(linear_start=1))


def test_a_new_cell_classifier_needs_a_class_per_pixel(tiny_model: ModelFactory) -> None:
    sets = [training_set("shapes_boxes", count=2)]
    model = model_of(tiny_model, sets, cell_classifier=True)
    with pytest.raises(ConfigError, match=r"model\.cell_classifier: no dataset of the mix has"):
        check_linear_start(model, sets, settings())
    check_linear_start(model, sets, settings(model_weights="trained"))


def test_a_mix_of_void_alone_is_refused(tiny_model: ModelFactory) -> None:
    sets = [training_set("shapes_panoptic", count=2)]
    model = model_of(tiny_model, sets, cell_classifier=True)
    data = sets[0].data
    void = Segments(np.full((SIZE, SIZE), -1, np.int32), np.zeros(0, np.int64), np.zeros(0, bool))
    empty = [replace(data[index], annotation=void) for index in range(2)]
    sets = [replace(sets[0], data=SampleDataset(data.spec, empty, lambda sample: sample))]
    with pytest.raises(ConfigError, match="linear_start: no pixel of the mix has a class"):
        linear_start(model, sets, NORMALIZATION, steps=1, seed=0)
