"""Where nothing but objects was annotated, an image may show the stuff of other vocabularies."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import ModelFactory
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.errors import ConfigError
from dataseg_hf.model.modeling_dataseg import DaTaSegModel, DaTaSegOutput
from dataseg_hf.settings.datasets import training_set
from dataseg_hf.settings.entries import TrainEntry
from helpers.truths import make_truth

LabelFactory = Callable[..., dict[str, Tensor]]
SIZE = (64, 64)
STREETS = {"labels": ["car", "road", "sky"], "is_thing": [True, False, False]}
PARKS = {"labels": ["Sky", "lawn", "cat"], "is_thing": [False, False, True]}
BOX = (0, 8, 8, 40, 40)


@pytest.fixture
def model(tiny_model: ModelFactory) -> DaTaSegModel:
    """With three vocabularies, the first of things that have boxes."""
    model = tiny_model(no_object_weight=1.0)
    dim = model.config.text_embedding_dim
    model.add_vocabulary("boxes", ["cat", "dog"], [True, True], torch.randn(2, dim))
    for name, words in (("streets", STREETS), ("parks", PARKS)):
        model.add_vocabulary(name, words["labels"], words["is_thing"], torch.randn(3, dim))
    return model


def run(model: DaTaSegModel, label: dict[str, Tensor], **options: Any) -> DaTaSegOutput:
    torch.manual_seed(3)
    pixels = torch.randn(1, 3, *SIZE)
    options = {"vocabulary": "boxes", "task": "boxes", "labels": [label], **options}
    return model(pixels, sampling_seeds=torch.tensor([1]), **options)


def test_the_stuff_of_other_vocabularies_is_named_once(model: DaTaSegModel) -> None:
    found = model._stuff_of_others("boxes")
    places = {"world": 2, "streets": 1, "parks": 1}  # sky, road, lawn
    expected = [model.vocabularies.get(name)[place] for name, place in places.items()]
    assert found is not None
    torch.testing.assert_close(found, torch.stack(expected))


def test_results_have_the_set_s_own_names(model: DaTaSegModel, scene_labels: LabelFactory) -> None:
    label = scene_labels("boxes", SIZE, BOX)
    declared = label | {"objects_only": torch.tensor(True)}
    with torch.no_grad():
        one, other = run(model, label), run(model, declared, output_auxiliary_logits=True)
    assert one.class_queries_logits is not None
    assert one.class_queries_logits.shape[-1] == 3
    torch.testing.assert_close(other.class_queries_logits, one.class_queries_logits)
    assert other.auxiliary_class_queries_logits is not None
    assert {logits.shape[-1] for logits in other.auxiliary_class_queries_logits} == {3}


def test_a_proposal_of_other_stuff_is_no_mistake(
    model: DaTaSegModel, scene_labels: LabelFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries that are sure of a road, on the object and elsewhere: wrong where everything was
    annotated, and right where nothing but objects was.
    """
    road = model.vocabularies.get("streets")[1]
    dim = model.config.text_embedding_dim
    head = model.query_decoder.class_head
    monkeypatch.setattr(head, "forward", lambda x, *_: road.expand(*x.shape[:-1], dim))
    label = scene_labels("boxes", SIZE, (*BOX,), (*BOX,))
    label["is_crowd"] = torch.tensor([True, True])  # no target at all
    label["boxes"][:] = torch.tensor([0.0, 0.0, 0.01, 0.01])
    with torch.no_grad():
        wrong = run(model, label).loss_dict
        right = run(model, label | {"objects_only": torch.tensor(True)}).loss_dict
    assert wrong is not None
    assert right is not None
    assert wrong["loss_class"] > 0.3
    assert right["loss_class"] < 0.05


@pytest.mark.parametrize("options", [{"dataset_classifiers": True}, {"dataset_decoders": True}])
def test_vocabularies_with_parts_of_their_own_stay_apart(
    options: dict[str, Any], tiny_model: ModelFactory
) -> None:
    model = tiny_model(**options)
    dim = model.config.text_embedding_dim
    model.add_vocabulary("streets", STREETS["labels"], STREETS["is_thing"], torch.randn(3, dim))
    assert model._stuff_of_others("world") is None


def test_images_of_a_batch_may_differ_in_what_was_annotated(scene_labels: LabelFactory) -> None:
    labels = [scene_labels("boxes", SIZE, BOX) for _ in range(2)]
    assert make_truth(labels, SIZE).objects_only is None
    labels[1]["objects_only"] = torch.tensor(True)
    truth = make_truth(labels, SIZE, num_others=2)
    assert truth.exhaustive is not None
    assert truth.exhaustive.tolist() == [[True] * 5, [True] * 3 + [False] * 2]


# --- settings -------------------------------------------------------------------------------------


def entry(spec: str, **more: Any) -> TrainEntry:
    return TrainEntry(spec=spec, reader="shapes", count=2, image_size=64, **more)


@pytest.mark.parametrize("spec", ["shapes_boxes", "shapes_objects"])
def test_an_entry_says_that_nothing_but_objects_was_annotated(spec: str) -> None:
    assert training_set("a", entry(spec)).data.spec.annotated == "everything"
    declared = training_set("a", entry(spec, annotated="objects"))
    assert declared.data.spec.annotated == "objects"
    assert shapes_dataset(spec, "train").spec.annotated == "everything", "that of the world"


@pytest.mark.parametrize("spec", ["shapes_panoptic", "shapes_semantic"])
def test_maps_have_a_class_or_void_everywhere(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"datasets\.a\.annotated: 'objects' is for annotation"):
        training_set("a", entry(spec, annotated="objects"))
