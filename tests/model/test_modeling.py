"""The model: contracts of forward, vocabularies, loading and saving, backbones, precision, and that
it can learn.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from dataseg_hf.model.configuration_dataseg import DaTaSegConfig
from dataseg_hf.model.modeling_dataseg import DaTaSegModel, DaTaSegOutput
from dataseg_hf.model.pixel_decoder_dataseg import PixelFeatures
from dataseg_hf.model.query_decoder_dataseg import ClassViews
from dataseg_hf.model.resizing_dataseg import resize_masks
from dataseg_hf.model.targets_dataseg import count_targets
from helpers.predictions import instance_prediction, panoptic_prediction, semantic_prediction
from helpers.tiny_backbones import MULTI_SCALE, WITH_BATCH_NORM, backbone

ConfigFactory = Callable[..., DaTaSegConfig]
ModelFactory = Callable[..., DaTaSegModel]
LabelFactory = Callable[..., dict[str, Tensor]]

ALL_TASKS = ["panoptic", "semantic", "instance", "boxes", "objects"]
CIRCLE, SQUARE, SKY = 0, 1, 2
SIZE = (64, 64)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, *SIZE)


@pytest.fixture
def batch(images: Tensor, scene_labels: LabelFactory) -> Callable[[str], dict[str, Any]]:
    """Arguments of forward for a training step of a task."""

    def make(task: str) -> dict[str, Any]:
        labels = [
            scene_labels(
                task, SIZE, (SKY, 0, 0, 64, 50), (CIRCLE, 8, 8, 30, 40), (SQUARE, 35, 4, 60, 30)
            ),
            scene_labels(task, SIZE, (CIRCLE, 20, 20, 50, 60)),
        ]
        return {"pixel_values": images, "labels": labels, "task": task}

    return make


BatchFactory = Callable[[str], dict[str, Any]]


def padded(images: Tensor, *sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Images cut to `sizes` and padded with zeros again, and their pixel masks."""
    mask = torch.zeros(len(sizes), *images.shape[-2:])
    for row, (height, width) in zip(mask, sizes, strict=True):
        row[:height, :width] = 1
    return images * mask[:, None], mask


def all_gradients(model: DaTaSegModel) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def without_gradient(model: nn.Module) -> list[str]:
    """Trainable parameters that a backward pass did not reach: what DistributedDataParallel
    stumbles over.
    """
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


# --- forward --------------------------------------------------------------------------------------


def test_shapes_and_names(tiny_model: ModelFactory, images: Tensor) -> None:
    with torch.no_grad():
        output = tiny_model()(images)
    assert isinstance(output, DaTaSegOutput)
    assert {name: tuple(value.shape) for name, value in output.items()} == {
        "class_queries_logits": (2, 8, 4),
        "masks_queries_logits": (2, 8, 16, 16),
        "class_embeddings": (2, 8, 16),
        "is_thing": (2, 3),
        "valid_size": (2, 2),
    }
    assert output["is_thing"].tolist() == [[True, True, False]] * 2
    assert output["valid_size"].tolist() == [[1.0, 1.0]] * 2


def test_valid_size_is_the_share_of_the_canvas(tiny_model: ModelFactory, images: Tensor) -> None:
    with torch.no_grad():
        output = tiny_model()(*padded(images, (32, 64), (64, 16)))
    assert output.valid_size is not None
    assert output.valid_size.tolist() == [[0.5, 1.0], [1.0, 0.25]]


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (96, 33)])
def test_any_canvas(tiny_model: ModelFactory, size: tuple[int, int]) -> None:
    with torch.no_grad():
        masks = tiny_model()(torch.randn(1, 3, *size)).masks_queries_logits
    assert masks.shape == (1, 8, size[0] // 4, size[1] // 4)
    assert torch.isfinite(masks).all()


def test_a_canvas_whose_coarsest_map_is_one_cell(tiny_model: ModelFactory) -> None:
    model = tiny_model().train()
    output = model(torch.randn(1, 3, 32, 32))
    assert output.masks_queries_logits.shape == (1, 8, 8, 8)
    assert torch.isfinite(output.masks_queries_logits).all()


def test_class_logits_are_scaled_cosines_with_the_background_last(
    tiny_model: ModelFactory, images: Tensor
) -> None:
    model = tiny_model(initial_logit_scale=7.0)
    with torch.no_grad():
        output = model(images)
    names = torch.cat([model.vocabularies.get("world"), model.classifier.background[None]])
    cosine = F.cosine_similarity(output.class_embeddings[:, :, None], names, dim=-1)
    close(output.class_queries_logits, 7 * cosine)
    assert output.class_queries_logits.dtype == torch.float32


@pytest.mark.parametrize("task", ALL_TASKS)
def test_the_loss_is_the_sum_of_its_terms(
    task: str, tiny_model: ModelFactory, batch: BatchFactory
) -> None:
    output = tiny_model()(**batch(task))
    of_masks, of_boxes = {"loss_mask", "loss_dice"}, {"loss_projection", "loss_color_affinity"}
    further = {"boxes": of_boxes, "objects": of_masks | of_boxes | {"loss_point"}}
    assert set(output.loss_dict) == {"loss_class", *further.get(task, of_masks)}
    close(output.loss, sum(output.loss_dict.values()))
    assert next(iter(output)) == "loss"
    assert int(output.unmatched_targets) == 0


def test_loss_weights_can_be_overridden(tiny_model: ModelFactory, batch: BatchFactory) -> None:
    model = tiny_model()
    plain = model(**batch("instance")).loss_dict
    doubled = model(
        **batch("instance"), loss_weights={"class": 4.0, "mask": 5.0, "dice": 5.0}
    ).loss_dict
    close(doubled["loss_class"], 2 * plain["loss_class"])


@pytest.mark.parametrize("task", ALL_TASKS)
def test_micro_batches_add_up_to_the_whole(
    task: str, tiny_model: ModelFactory, batch: BatchFactory
) -> None:
    model, whole = tiny_model(), batch(task)
    totals = {
        "num_targets": torch.tensor(count_targets(whole["labels"])),
        "num_images": torch.tensor(2),
    }
    parts = [
        model(
            whole["pixel_values"][i : i + 1], labels=whole["labels"][i : i + 1], task=task, **totals
        ).loss
        for i in range(2)
    ]
    close(parts[0] + parts[1], model(**whole).loss)


def test_sampling_seeds_fix_the_points(tiny_model: ModelFactory, batch: BatchFactory) -> None:
    model = tiny_model(train_num_points=50)
    seeds = torch.tensor([1, 2])
    first = model(**batch("panoptic"), sampling_seeds=seeds).loss
    assert torch.equal(model(**batch("panoptic"), sampling_seeds=seeds).loss, first)
    assert not torch.equal(model(**batch("panoptic"), sampling_seeds=seeds + 10).loss, first)


def test_labels_need_a_known_task_and_its_annotation(
    tiny_model: ModelFactory, batch: BatchFactory
) -> None:
    model, arguments = tiny_model(), batch("panoptic")
    with pytest.raises(ValueError, match="`labels` are given without `task`"):
        model(**{**arguments, "task": None})
    with pytest.raises(ValueError, match="unknown task 'panoptics'"):
        model(**{**arguments, "task": "panoptics"})
    with pytest.raises(ValueError, match=r"task 'boxes' needs \['boxes'\] in labels\[0\]"):
        model(**{**arguments, "task": "boxes"})


def test_a_pixel_mask_of_another_size_is_refused(tiny_model: ModelFactory, images: Tensor) -> None:
    with pytest.raises(ValueError, match="pixel_mask"):
        tiny_model()(images, torch.ones(2, 32, 32))


def test_outputs_as_a_tuple(tiny_model: ModelFactory, batch: BatchFactory) -> None:
    model = tiny_model()
    as_tuple = model(**batch("instance"), return_dict=False)
    assert isinstance(as_tuple, tuple)
    close(as_tuple[0], model(**batch("instance")).loss)


def test_auxiliary_logits_are_those_of_the_earlier_layers(
    tiny_model: ModelFactory, images: Tensor
) -> None:
    model = tiny_model()
    with torch.no_grad():
        plain, full = model(images), model(images, output_auxiliary_logits=True)
    assert plain.auxiliary_class_queries_logits is None is plain.auxiliary_masks_queries_logits
    # one before the first of three layers, and one after each but the last
    assert [tuple(x.shape) for x in full.auxiliary_class_queries_logits] == [(2, 8, 4)] * 3
    assert [tuple(x.shape) for x in full.auxiliary_masks_queries_logits] == [(2, 8, 16, 16)] * 3


def test_inference_gives_the_final_logits_of_training(
    tiny_model: ModelFactory, images: Tensor, batch: BatchFactory
) -> None:
    """Inference computes the earlier masks at the resolution of the attention only."""
    model = tiny_model()
    with torch.no_grad():
        inference, every_layer, training = (
            model(images),
            model(images, output_auxiliary_logits=True),
            model(**batch("panoptic")),
        )
    for other in (every_layer, training):
        close(other.class_queries_logits, inference.class_queries_logits)
        close(other.masks_queries_logits, inference.masks_queries_logits)


def assert_same_outputs(one: list[Tensor], other: list[Tensor]) -> None:
    """Post-processed outputs agree, but for pixels whose float32 scores tie."""
    for first, second in zip(one, other, strict=True):
        if first.is_floating_point():
            close(first, second, tolerance=1e-3)
        else:
            assert first.shape == second.shape
            assert (first == second).float().mean() > 0.995


def outputs_of_image(output: DaTaSegOutput, image: int) -> list[Tensor]:
    classes, masks = output["class_queries_logits"][image], output["masks_queries_logits"][image]
    things, valid, size = output["is_thing"][image], output["valid_size"][image], (40, 30)
    panoptic = panoptic_prediction(classes, masks, ~things, valid, size, 0.0, 0.5, 0.0)
    instances = instance_prediction(classes, masks, things, valid, size)
    return [
        semantic_prediction(classes, masks, valid, size),
        panoptic.segmentation,
        torch.tensor([segment["score"] for segment in panoptic.segments]),
        instances.masks,
        instances.scores,
    ]


def test_an_image_in_a_batch_equals_the_image_alone(tiny_model: ModelFactory) -> None:
    model = tiny_model(initial_logit_scale=10.0)
    pixels, mask = padded(torch.randn(3, 3, *SIZE), (64, 48), (40, 64), (64, 64))
    with torch.no_grad():
        together = model(pixels, mask)
        for image in range(3):
            alone = model(pixels[image : image + 1], mask[image : image + 1])
            close(alone.class_queries_logits[0], together.class_queries_logits[image])
            close(alone.masks_queries_logits[0], together.masks_queries_logits[image])
            assert_same_outputs(outputs_of_image(alone, 0), outputs_of_image(together, image))


def test_queries_do_not_see_features_of_the_padding(tiny_model: ModelFactory) -> None:
    decoder = tiny_model().query_decoder
    valid_mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    valid_mask[:, :, :32] = True
    levels = [torch.randn(1, 32, side, side) for side in (2, 4, 8)]
    views = ClassViews((), None, valid_mask)
    features = PixelFeatures(torch.randn(1, 16, 16, 16), levels)
    changed = PixelFeatures(features.mask_features.clone(), [level.clone() for level in levels])
    for level in (changed.mask_features, *changed.levels):
        level[..., level.shape[-1] // 2 :] += 5 * torch.randn_like(
            level[..., level.shape[-1] // 2 :]
        )
    with torch.no_grad():
        [(classes, _)], masks = decoder(features, views, every_layer=False)
        [(other_classes, _)], other_masks = decoder(changed, views, every_layer=False)
    close(other_classes, classes)
    close(other_masks[..., :8], masks[..., :8])


def test_the_encoder_does_not_see_the_padding(tiny_model: ModelFactory) -> None:
    decoder = tiny_model().pixel_decoder
    valid_mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    valid_mask[:, :, :32] = True
    coarsest = torch.randn(1, 32, 4, 4)
    changed = coarsest.clone()
    changed[..., 2:] += 5 * torch.randn(1, 32, 4, 2)
    with torch.no_grad():
        close(
            decoder.encode(changed, valid_mask)[..., :2],
            decoder.encode(coarsest, valid_mask)[..., :2],
        )


def test_a_query_with_an_empty_mask_sees_the_whole_image(tiny_model: ModelFactory) -> None:
    features = torch.ones(1, 1, 4, 4)
    features[..., :2, :2] = -1
    grid = torch.ones(1, 4, 4, dtype=torch.bool)
    grid[..., 3] = False
    allowed = (
        tiny_model().query_decoder.attention_mask(
            torch.tensor([[[1.0], [-1.0], [0.0]]]), features, grid
        )
        == 0
    )
    rows = allowed[0, 0].view(3, 4, 4).int().tolist()
    assert rows[0] == [[0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]]
    assert rows[1] == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert rows[2] == [[1, 1, 1, 0]] * 4


@pytest.mark.parametrize("task", ALL_TASKS)
def test_forward_never_changes_state(
    task: str, tiny_model: ModelFactory, batch: BatchFactory
) -> None:
    model = tiny_model(backbone_config=backbone("resnet")).train()
    config, state = copy.deepcopy(model.config.to_dict()), copy.deepcopy(model.state_dict())
    model(**batch(task)).loss.backward()
    model(
        batch(task)["pixel_values"],
        text_embeddings=torch.randn(2, 16),
        is_thing=torch.tensor([True, False]),
        output_auxiliary_logits=True,
    )
    assert model.config.to_dict() == config
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model.training


# --- training on edge cases -----------------------------------------------------------------------


@pytest.mark.parametrize("task", ALL_TASKS)
def test_every_parameter_gets_a_finite_gradient(
    task: str, tiny_model: ModelFactory, batch: BatchFactory
) -> None:
    model = tiny_model().train()
    output = model(**batch(task))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert without_gradient(model) == []
    gradients = all_gradients(model)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    silent = {name for name, gradient in gradients.items() if gradient.abs().max() == 0}
    # softmax does not see what the key's bias adds to every score alike
    assert {name for name in silent if not name.endswith("key.bias")} == set()


@pytest.mark.parametrize("content", ["mixed", "nothing", "all void"])
@pytest.mark.parametrize("task", ALL_TASKS)
def test_images_without_objects_train(
    task: str, content: str, tiny_model: ModelFactory, images: Tensor, scene_labels: LabelFactory
) -> None:
    model = tiny_model().train()
    empty = scene_labels(task, SIZE)
    full = scene_labels(task, SIZE, (SKY, 0, 0, 64, 64), (CIRCLE, 8, 8, 30, 40))
    labels = {"mixed": [full, empty], "nothing": [empty, empty], "all void": [empty, empty]}[
        content
    ]
    if content == "all void":
        crowd = scene_labels(task, SIZE, (CIRCLE, 0, 0, 64, 64), crowd=(0,))
        labels = [crowd, crowd] if task in ("instance", "boxes", "objects") else labels
    output = model(images, labels=labels, task=task)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert without_gradient(model) == []
    assert all(torch.isfinite(gradient).all() for gradient in all_gradients(model).values())


@pytest.mark.parametrize("task", ["instance", "boxes"])
def test_more_objects_than_queries_train_and_are_counted(
    task: str, tiny_model: ModelFactory, images: Tensor, scene_labels: LabelFactory
) -> None:
    rectangles = [(i % 2, i % 50, i // 10, i % 50 + 9, i // 10 + 9) for i in range(500)]
    model = tiny_model().train()
    output = model(images[:1], labels=[scene_labels(task, SIZE, *rectangles)], task=task)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert int(output.unmatched_targets) == 492
    assert without_gradient(model) == []


def test_exploded_weights_are_reported_with_the_image(
    tiny_model: ModelFactory, batch: BatchFactory
) -> None:
    model, arguments = tiny_model(), batch("instance")
    arguments["pixel_values"][1] = float("nan")
    with pytest.raises(FloatingPointError, match="image 1 of the batch is not finite"):
        model(**arguments)


# --- vocabularies ---------------------------------------------------------------------------------


def test_given_embeddings_equal_the_stored_vocabulary(
    tiny_model: ModelFactory, images: Tensor
) -> None:
    model = tiny_model()
    embeddings = model.vocabularies.get("world").clone()
    things = torch.tensor([True, True, False])
    with torch.no_grad():
        stored, named = model(images), model(images, vocabulary="world")
        given = model(images, text_embeddings=embeddings, is_thing=things)
        subset = model(images, text_embeddings=embeddings[[2, 0]])
    for other in (named, given):
        assert torch.equal(other.class_queries_logits, stored.class_queries_logits)
        assert torch.equal(other.masks_queries_logits, stored.masks_queries_logits)
        assert torch.equal(other.is_thing, stored.is_thing)
    close(subset.class_queries_logits, stored.class_queries_logits[..., [2, 0, 3]])
    assert subset.is_thing.tolist() == [[True, True]] * 2


def test_a_second_vocabulary_is_used_by_name_and_leaves_the_default(
    tiny_model: ModelFactory, images: Tensor
) -> None:
    model = tiny_model()
    model.add_vocabulary("two-words_1", ["car", "road"], [True, False], torch.randn(2, 16))
    assert model.config.default_vocabulary == "world"
    with torch.no_grad():
        assert model(images, vocabulary="two-words_1").class_queries_logits.shape[-1] == 3
        assert model(images).class_queries_logits.shape[-1] == 4


def test_set_vocabulary_updates_id2label(tiny_model: ModelFactory, images: Tensor) -> None:
    model = tiny_model()
    model.add_vocabulary("road", ["car", "road"], [True, False], torch.randn(2, 16))
    model.set_vocabulary("road")
    assert model.config.id2label == {0: "car", 1: "road"}
    assert model.config.label2id == {"car": 0, "road": 1}
    assert model.config.num_labels == 2
    with torch.no_grad():
        assert model(images).is_thing.tolist() == [[True, False]] * 2


def test_set_vocabulary_with_words_stores_them(tiny_model: ModelFactory) -> None:
    model = tiny_model(text_encoder={"kind": "hashed_ngrams", "dim": 16})
    model.set_vocabulary(["cat", "grass", "dog"], is_thing=[True, False, True])
    assert model.config.default_vocabulary == "custom"
    assert model.config.id2label == {0: "cat", 1: "grass", 2: "dog"}
    assert model.stored_vocabulary("custom")["is_thing"] == [True, False, True]
    close(model.vocabularies.get("custom").norm(dim=-1), torch.ones(3))
    model.set_vocabulary(("tree",))
    assert model.vocabularies.get("custom").shape == (1, 16)
    assert sorted(model.config.to_dict()["vocabularies"]) == ["custom", "world"]


def test_the_first_vocabulary_becomes_the_default(tiny_model: ModelFactory, images: Tensor) -> None:
    model = tiny_model(vocabularies={}, default_vocabulary=None)
    with pytest.raises(ValueError, match="the model has no vocabulary yet"):
        model(images)
    model.add_vocabulary("first", ["a", "b"], text_embeddings=torch.randn(2, 16))
    assert model.config.default_vocabulary == "first"
    assert model.stored_vocabulary("first")["is_thing"] == [True, True]
    assert model.config.id2label == {0: "a", 1: "b"}


def test_what_does_not_fit_the_text_space_is_refused(
    tiny_model: ModelFactory, images: Tensor
) -> None:
    model = tiny_model()
    for wrong in (torch.randn(3, 17), torch.randn(16), torch.randn(1, 3, 16)):
        with pytest.raises(ValueError, match=r"`text_embeddings` must be \[C, 16\], got"):
            model(images, text_embeddings=wrong)
    with pytest.raises(
        ValueError, match=r"have shape \(2, 16\), but 3 labels in a 16-dimensional text space"
    ):
        model.add_vocabulary("x", ["a", "b", "c"], text_embeddings=torch.randn(2, 16))
    with pytest.raises(ValueError, match="text embeddings are not finite"):
        model.add_vocabulary("x", ["a"], text_embeddings=torch.full((1, 16), float("nan")))
    with pytest.raises(ValueError, match="has 2 labels and 1 thing flags"):
        model.add_vocabulary("x", ["a", "b"], [True], torch.randn(2, 16))
    with pytest.raises(ValueError, match=r"names a category twice: \['a'\]"):
        model.add_vocabulary("x", ["a", "a"], text_embeddings=torch.randn(2, 16))
    with pytest.raises(
        ValueError, match=r"no vocabulary 'x' in this model; stored are \['world'\]"
    ):
        model.set_vocabulary("x")
    with pytest.raises(
        ValueError, match=r"no vocabulary 'x' in this model; stored are \['world'\]"
    ):
        model(images, vocabulary="x")
    with pytest.raises(
        ValueError, match=r"no `text_encoder`; pass `text_embeddings` for \['a'\], .*: \['world'\]"
    ):
        model.add_vocabulary("x", ["a"])
    with pytest.raises(ValueError, match="give either `text_embeddings` or `vocabulary`"):
        model(images, vocabulary="world", text_embeddings=torch.randn(3, 16))


def test_flags_that_do_not_fit_the_embeddings_are_refused(
    tiny_model: ModelFactory, images: Tensor
) -> None:
    with pytest.raises(ValueError, match="is_thing"):
        tiny_model()(images, text_embeddings=torch.randn(3, 16), is_thing=torch.tensor([True]))


def test_flags_without_embeddings_are_refused(tiny_model: ModelFactory, images: Tensor) -> None:
    with pytest.raises(ValueError, match="is_thing"):
        tiny_model()(images, is_thing=torch.tensor([True, True, True]))


def test_choosing_a_stored_vocabulary_takes_no_new_flags(tiny_model: ModelFactory) -> None:
    with pytest.raises(ValueError, match="is_thing"):
        tiny_model().set_vocabulary("world", is_thing=[False, False, False])


@pytest.mark.parametrize(
    "wrong", [["circle"], ("circle",), 3, {"labels": ["circle"]}, b"world", torch.zeros(2, 16)]
)
def test_a_vocabulary_of_a_call_is_a_name(
    tiny_model: ModelFactory, images: Tensor, wrong: Any
) -> None:
    with pytest.raises(
        ValueError, match=r"`vocabulary` of a call names a stored vocabulary.*set_vocabulary.*embed"
    ):
        tiny_model()(images, vocabulary=wrong)


def test_no_name_is_not_the_default_vocabulary(tiny_model: ModelFactory, images: Tensor) -> None:
    with pytest.raises(ValueError, match="no vocabulary ''"):
        tiny_model()(images, vocabulary="")


@pytest.mark.parametrize("wrong", [[[0.0] * 16], np.zeros((1, 16)), "circle", ["circle"]])
def test_text_embeddings_are_a_tensor(tiny_model: ModelFactory, images: Tensor, wrong: Any) -> None:
    with pytest.raises(
        ValueError, match=r"`text_embeddings` must be a tensor \[C, 16\].*model.embed\(words\)"
    ):
        tiny_model()(images, text_embeddings=wrong)


@pytest.mark.parametrize("flags", [[True, False], np.array([True, False]), (1, 0)])
def test_flags_of_a_call_may_be_a_list(
    tiny_model: ModelFactory, images: Tensor, flags: Any
) -> None:
    with torch.no_grad():
        output = tiny_model()(images, text_embeddings=torch.randn(2, 16), is_thing=flags)
    assert output.is_thing.tolist() == [[True, False]] * len(images)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("Panoptic", "unknown task 'Panoptic'.*did you mean 'panoptic'"),
        ("instances", "unknown task 'instances'.*did you mean 'instance'"),
        (["panoptic"], "unknown task"),
        ({"task": "panoptic"}, "unknown task"),
        (3, "unknown task 3"),
    ],
)
@pytest.mark.parametrize("labeled", [True, False])
def test_a_task_that_is_none_is_refused(
    tiny_model: ModelFactory, batch: BatchFactory, task: Any, message: str, labeled: bool
) -> None:
    inputs = {**batch("panoptic"), "task": task}
    with pytest.raises(ValueError, match=message):
        tiny_model()(
            **inputs if labeled else {key: inputs[key] for key in ("pixel_values", "task")}
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels[0], "`labels` must be a list with a dict per image, got dict"),
        (
            lambda labels: torch.zeros(2),
            "`labels` must be a list with a dict per image, got Tensor",
        ),
        (lambda labels: "panoptic", "`labels` must be a list with a dict per image, got str"),
        (lambda labels: labels[:1], "`labels` must hold a dict per image: got 1 for 2 images"),
        (
            lambda labels: [None, *labels[1:]],
            r"labels\[0\] must be a dict of tensors, got NoneType",
        ),
        (
            lambda labels: [labels[0], labels[1]["class_labels"]],
            r"labels\[1\] must be a dict of tensors, got Tensor",
        ),
        (
            lambda labels: [{**labels[0], "class_labels": [0, 1]}, labels[1]],
            r"\['class_labels'\] must be a tensor, got list",
        ),
        (
            lambda labels: [{**labels[0], "segment_map": None}, labels[1]],
            r"\['segment_map'\] must be a tensor, got N",
        ),
    ],
)
def test_labels_of_the_wrong_form_are_refused(
    tiny_model: ModelFactory, batch: BatchFactory, change: Any, message: str
) -> None:
    inputs = batch("panoptic")
    inputs["labels"] = change(inputs["labels"])
    with pytest.raises(ValueError, match=message):
        tiny_model()(**inputs)


# --- words of a model that cannot embed


@pytest.mark.parametrize("encoder", [None, {"kind": "precomputed", "source": "names.npy"}])
def test_stored_names_are_words_without_a_text_encoder(
    tiny_model: ModelFactory, encoder: Any
) -> None:
    model = tiny_model(text_encoder=encoder)
    model.add_vocabulary("more", ["dark-red  Car", "sky"], text_embeddings=torch.randn(2, 16))
    stored = model.vocabularies.get("world")
    model.set_vocabulary(["Dark_red car", "SKY", "circle"])
    assert model.config.id2label == {0: "Dark_red car", 1: "SKY", 2: "circle"}
    # the default's before others'
    expected = torch.stack([model.vocabularies.get("more")[0], stored[2], stored[0]])
    assert torch.equal(model.vocabularies.get("custom"), expected)


@pytest.mark.parametrize("encoder", [None, {"kind": "precomputed", "source": "names.npy"}])
def test_other_words_are_answered_with_those_it_knows(
    tiny_model: ModelFactory, encoder: Any
) -> None:
    model = tiny_model(text_encoder=encoder)
    with pytest.raises(
        ValueError, match=r"for \['tree'\], .*\(circle, square, sky\).* by name: \['world'\]"
    ):
        model.set_vocabulary(["circle", "tree"])


def test_words_that_are_stored_need_no_tower(tiny_model: ModelFactory, tmp_path: Path) -> None:
    model = tiny_model(text_encoder={"kind": "hub", "name_or_path": str(tmp_path / "nowhere")})
    assert torch.equal(model.embed(["Sky"])[0], model.vocabularies.get("world")[2])
    with pytest.raises(OSError, match="cannot be loaded"):
        model.embed(["sky", "tree"])


@pytest.mark.parametrize("part", ["dataset_classifiers", "dataset_decoders"])
def test_a_model_with_parts_of_each_dataset_takes_no_words(
    tiny_model: ModelFactory, part: str
) -> None:
    model = tiny_model(**{part: True}, text_encoder={"kind": "hashed_ngrams", "dim": 16})
    with pytest.raises(
        ValueError, match=r"knows no other words: choose a stored vocabulary: \['world'\]"
    ):
        model.set_vocabulary(["circle"])


@pytest.mark.parametrize("wrong", ["wrld", "World", "world ", "circle, square"])
def test_an_unknown_vocabulary_is_answered_with_what_was_meant(
    tiny_model: ModelFactory, wrong: str
) -> None:
    meant = (
        r"words are given as a list: \['circle', 'square'\]"
        if "," in wrong
        else "did you mean 'world'"
    )
    with pytest.raises(ValueError, match=meant):
        tiny_model().set_vocabulary(wrong)


def test_a_vocabulary_without_embeddings_is_refused(
    tiny_config: ConfigFactory, images: Tensor, batch: BatchFactory
) -> None:
    """A model built from a config alone knows the names, but not their embeddings."""
    model = DaTaSegModel(tiny_config()).eval()
    assert model.vocabularies.text_world.isnan().all()
    with pytest.raises(ValueError, match="vocabulary 'world' has no text embeddings"):
        model(images)
    with pytest.raises(ValueError, match="vocabulary 'world' has no text embeddings"):
        model(**batch("panoptic"))


# --- saving and loading ---------------------------------------------------------------------------


def randomize(model: nn.Module) -> None:
    """Parameters and buffers that no initialization would give."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn_like(tensor).abs() + 0.1)


@pytest.mark.parametrize("kind", ["convnext", "resnet", "mobilenet_v2", "swinv2"])
def test_every_parameter_and_buffer_survives_saving(
    kind: str, tiny_model: ModelFactory, tmp_path: Path
) -> None:
    model = tiny_model(backbone_config=backbone(kind))
    model.add_vocabulary("second-one", ["a", "b"], [False, True], torch.randn(2, 16))
    model.set_vocabulary("second-one")
    randomize(model)
    model.save_pretrained(tmp_path)
    loaded, report = DaTaSegModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not loaded.training
    assert set(loaded.state_dict()) == set(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
        assert loaded.state_dict()[name].dtype == value.dtype, name
    buffers = dict(model.named_buffers())  # those not saved as well
    assert all(torch.equal(value, buffers[name]) for name, value in loaded.named_buffers())
    assert loaded.config.default_vocabulary == "second-one"
    assert loaded.config.id2label == {0: "a", 1: "b"}
    images = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        close(loaded(images).masks_queries_logits, model(images).masks_queries_logits)


def test_half_precision_keeps_the_logit_scale(
    tiny_model: ModelFactory, tmp_path: Path, images: Tensor
) -> None:
    model = tiny_model()
    init.constant_(model.classifier.logit_scale, 3.1415927)
    model.save_pretrained(tmp_path)
    loaded = DaTaSegModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    others = {p.dtype for name, p in loaded.named_parameters() if name != "classifier.logit_scale"}
    assert others == {torch.bfloat16}
    assert loaded.classifier.logit_scale.dtype == torch.float32
    assert torch.equal(loaded.classifier.logit_scale, model.classifier.logit_scale)
    with torch.no_grad():
        output = loaded(images)
    assert output.class_queries_logits.dtype == torch.float32
    assert torch.isfinite(output.class_queries_logits).all()


@pytest.mark.parametrize("task", ALL_TASKS)
def test_half_precision_weights_train(
    task: str, tiny_model: ModelFactory, tmp_path: Path, batch: BatchFactory
) -> None:
    tiny_model().save_pretrained(tmp_path)
    model = DaTaSegModel.from_pretrained(tmp_path, dtype=torch.bfloat16).train()
    arguments = batch(task)
    output = model(**{**arguments, "pixel_values": arguments["pixel_values"].bfloat16()})
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(gradient).all() for gradient in all_gradients(model).values())


# --- backbones ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MULTI_SCALE)
def test_backbones_run_forward_and_backward(
    kind: str, tiny_model: ModelFactory, batch: BatchFactory
) -> None:
    model = tiny_model(backbone_config=backbone(kind)).train()
    output = model(**batch("panoptic"))
    output.loss.backward()
    assert output.masks_queries_logits.shape == (2, 8, 16, 16)
    assert torch.isfinite(output.loss)
    assert without_gradient(model) == []
    assert all(torch.isfinite(gradient).all() for gradient in all_gradients(model).values())


def test_two_feature_maps_are_enough_and_one_is_refused(
    tiny_model: ModelFactory, batch: BatchFactory
) -> None:
    two = {**backbone("convnext"), "out_features": ["stage2", "stage4"]}
    model = tiny_model(backbone_config=two).train()
    output = model(**batch("semantic"))
    output.loss.backward()
    assert output.masks_queries_logits.shape == (2, 8, 8, 8)
    assert without_gradient(model) == []
    with pytest.raises(
        ValueError, match="the backbone gives 1 feature map; DaTaSeg needs two or more"
    ):
        tiny_model(backbone_config={**two, "out_features": ["stage4"]})


def batch_norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def assert_batch_norms_stay(model: DaTaSegModel, arguments: dict[str, Any]) -> None:
    norms = batch_norms(model)
    before = copy.deepcopy([norm.state_dict() for norm in norms])
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    model(**arguments).loss.backward()
    optimizer.step()
    assert len(norms) > 0
    for norm, state in zip(norms, before, strict=True):
        assert not norm.training
        assert not any(p.requires_grad for p in norm.parameters())
        assert all(torch.equal(value, state[name]) for name, value in norm.state_dict().items())


@pytest.mark.parametrize("kind", WITH_BATCH_NORM)
def test_batch_norms_stay_frozen_in_training(
    kind: str, tiny_model: ModelFactory, batch: BatchFactory
) -> None:
    assert_batch_norms_stay(tiny_model(backbone_config=backbone(kind)).train(), batch("instance"))


@pytest.mark.parametrize("kind", WITH_BATCH_NORM)
def test_batch_norms_of_a_loaded_model_stay_frozen(
    kind: str, tiny_model: ModelFactory, batch: BatchFactory, tmp_path: Path
) -> None:
    tiny_model(backbone_config=backbone(kind)).save_pretrained(tmp_path)
    assert_batch_norms_stay(DaTaSegModel.from_pretrained(tmp_path).train(), batch("instance"))


# --- ways to compute the same ---------------------------------------------------------------------


def test_sdpa_equals_eager_attention(tiny_model: ModelFactory) -> None:
    model = tiny_model()
    pixels, mask = padded(torch.randn(2, 3, *SIZE), (64, 40), (30, 64))
    outputs = {}
    for implementation in ("sdpa", "eager"):
        model.set_attn_implementation({"": implementation})
        with torch.no_grad():
            outputs[implementation] = model(pixels, mask)
    close(outputs["eager"].masks_queries_logits, outputs["sdpa"].masks_queries_logits)
    close(
        outputs["eager"].class_queries_logits, outputs["sdpa"].class_queries_logits, tolerance=1e-3
    )


def test_a_model_without_the_view_runs(tiny_model: ModelFactory, batch: BatchFactory) -> None:
    model = tiny_model(class_head_sees_mask=False).train()
    assert model.query_decoder.mask_view is None
    model(**batch("panoptic")).loss.backward()
    assert without_gradient(model) == []


# --- mixed precision ------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["dataset_classifiers", "dataset_decoders"])
def test_parts_for_each_dataset(
    part: str, tiny_model: ModelFactory, batch: BatchFactory, tmp_path: Path, images: Tensor
) -> None:
    model = tiny_model(**{part: True})
    model.add_vocabulary("other", ["square", "circle"], text_embeddings=torch.eye(2, 16))
    own, of_other = {name for name, _ in model.named_parameters() if "world" in name}, "other"
    assert own
    model(**batch("panoptic"), vocabulary="world").loss.backward()
    touched = set(all_gradients(model))
    assert own <= touched
    assert not any(of_other in name for name in touched)

    model.save_pretrained(tmp_path)
    loaded = DaTaSegModel.from_pretrained(tmp_path)
    model.eval()
    for name in ("world", "other"):
        with torch.no_grad():
            before, after = model(images, vocabulary=name), loaded(images, vocabulary=name)
        assert torch.equal(before.class_queries_logits, after.class_queries_logits)
        assert torch.equal(before.masks_queries_logits, after.masks_queries_logits)
    with pytest.raises(ValueError, match=r"parts of its own for each dataset.*'other', 'world'"):
        model(images, text_embeddings=torch.randn(2, 16))


def test_classifiers_for_each_dataset_do_not_start_from_text(tiny_model: ModelFactory) -> None:
    model = tiny_model(dataset_classifiers=True)
    same = torch.eye(2, 16)
    for name in ("one", "two"):
        model.add_vocabulary(name, ["square", "circle"], text_embeddings=same)
    one, two = model.vocabularies.get("one"), model.vocabularies.get("two")
    assert not torch.equal(one, two)
    assert not torch.equal(one, same)
    close(one.norm(dim=-1), torch.ones(2))


@pytest.mark.parametrize("task", ALL_TASKS)
def test_bfloat16_autocast_trains(task: str, tiny_model: ModelFactory, batch: BatchFactory) -> None:
    model = tiny_model().train()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch(task))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(gradient).all() for gradient in all_gradients(model).values())


def test_autocast_leaves_the_classifier_in_full_precision(tiny_model: ModelFactory) -> None:
    """Cosines of names that lie close differ by less than bfloat16 resolves, and are multiplied by
    100.
    """
    classifier = tiny_model().classifier
    embeddings, names = torch.randn(1, 8, 16), torch.randn(1, 16) + 0.01 * torch.randn(5, 16)
    expected = classifier(embeddings, names)
    with torch.autocast("cpu", torch.bfloat16):
        found = classifier(embeddings, names)
    assert found.dtype == torch.float32
    close(found, expected)


# --- learning -------------------------------------------------------------------------------------


def painted(labels: dict[str, Tensor]) -> Tensor:
    """An image that shows its segment map: a color per class, [1, 3, H, W]."""
    colors = torch.tensor([[1.5, -1.0, -1.0], [-1.0, 1.5, -1.0], [-0.5, 0.0, 1.0]])
    return colors[labels["class_labels"]][labels["segment_map"].long()].permute(2, 0, 1)[None]


@pytest.mark.slow
def test_a_tiny_model_learns_two_images(
    tiny_model: ModelFactory, scene_labels: LabelFactory
) -> None:
    """Every segment comes out as one of its class with IoU above 0.8: the whole path from image to
    segments works.
    """
    model = tiny_model(initial_logit_scale=20.0).train()
    labels = [
        scene_labels(
            "panoptic", SIZE, (SKY, 0, 0, 64, 64), (CIRCLE, 8, 8, 28, 36), (SQUARE, 36, 24, 60, 56)
        ),
        scene_labels(
            "panoptic", SIZE, (SKY, 0, 0, 64, 64), (SQUARE, 4, 4, 24, 24), (CIRCLE, 36, 12, 60, 36)
        ),
    ]
    pixels = torch.cat([painted(label) for label in labels])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        model(pixels, labels=labels, task="panoptic").loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    model.eval()
    with torch.no_grad():
        output = model(pixels)
    for image, label in enumerate(labels):
        result = panoptic_prediction(
            output.class_queries_logits[image],
            output.masks_queries_logits[image],
            ~output.is_thing[image],
            output.valid_size[image],
            SIZE,
        )
        for number, category in enumerate(label["class_labels"].tolist()):
            truth = label["segment_map"] == number
            overlaps = [
                float(
                    ((result.segmentation == s["id"]) & truth).sum()
                    / ((result.segmentation == s["id"]) | truth).sum()
                )
                for s in result.segments
                if s["label_id"] == category
            ]
            assert max(overlaps, default=0.0) > 0.8


def test_resize_masks_of_the_output_follow_the_image(tiny_model: ModelFactory) -> None:
    """The mask of a padded image, resized to the image, has the image's corners at its corners."""
    pixels, mask = padded(torch.randn(1, 3, *SIZE), (64, 32))
    with torch.no_grad():
        output = tiny_model()(pixels, mask)
    masks = output.masks_queries_logits[0]
    close(resize_masks(masks, output.valid_size[0], (16, 8)), masks[..., :8])
