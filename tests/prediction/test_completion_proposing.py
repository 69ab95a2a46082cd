"""A model's proposals in the words of a set and of the whole mix."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dataseg_hf import DaTaSegModel
from dataseg_hf.data.sample import SampleDataset
from dataseg_hf.data.shapes import SHAPES_SEMANTIC, shapes_dataset
from dataseg_hf.errors import ConfigError
from dataseg_hf.model.proposals_dataseg import ImageProposals
from dataseg_hf.prediction.completion import Proposer, spec_of_mix
from helpers.checkpoint_models import checkpoint_processor

ENCODER = {"kind": "hashed_ngrams", "dim": 16}
PROPOSALS = ("class_logits", "mask_logits", "is_thing")
ModelFactory = Callable[..., DaTaSegModel]


@pytest.fixture
def data() -> SampleDataset:
    found = shapes_dataset("shapes_boxes", "train", count=2)
    assert isinstance(found, SampleDataset)
    return found


def proposer_of(model: DaTaSegModel, data: SampleDataset) -> Proposer:
    mix = spec_of_mix(data.spec, [SHAPES_SEMANTIC])
    return Proposer.of(model, checkpoint_processor(), "boxes", data.spec, 64, 2, mix)


def differences(one: ImageProposals, other: ImageProposals) -> float:
    pairs = [(getattr(one, name).float(), getattr(other, name).float()) for name in PROPOSALS]
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.mark.parametrize(("with_cells", "looks"), [(False, 1), (True, 2)])
def test_one_look_is_enough_where_masks_do_not_depend_on_the_words(
    tiny_model: ModelFactory, data: SampleDataset, with_cells: bool, looks: int
) -> None:
    model = tiny_model(cell_classifier=with_cells, text_encoder=ENCODER, text_embedding_dim=16)
    proposer = proposer_of(model, data)
    seen: list[Any] = []
    handle = model.backbone.register_forward_hook(lambda *call: seen.append(call))
    samples = [data[0], data[1]]
    found = proposer.in_all_words(samples)
    handle.remove()
    assert len(seen) == looks
    inputs = proposer._inputs(samples)
    for number, classes in enumerate((proposer.classes, proposer.classes_of_mix)):
        with torch.no_grad():
            expected = ImageProposals.of_batch(model(**inputs, **classes))
        for pair, one in zip(found, expected, strict=True):
            of_words = pair[number]
            assert of_words is not None
            assert differences(of_words, one) < 1e-4


def test_a_model_with_parts_for_each_dataset_has_no_words_of_the_mix(
    tiny_model: ModelFactory, data: SampleDataset
) -> None:
    model = tiny_model(dataset_classifiers=True)
    model.add_vocabulary("boxes", data.spec.labels, data.spec.is_thing)
    with pytest.raises(ConfigError, match="--second_layer: the model has parts of its own"):
        proposer_of(model, data)
