"""Ways to train for less that must not change what is learned: checkpointing of activations,
compiled parts.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from helpers.tiny_backbones import backbone

pytestmark = pytest.mark.slow

ModelFactory = Callable[..., DaTaSegModel]
LabelFactory = Callable[..., dict[str, Tensor]]
PIXEL_DECODERS = ["fpn", "deformable"]
SIZE = (64, 64)


@pytest.fixture
def step(scene_labels: LabelFactory) -> Callable[..., dict[str, Any]]:
    """Arguments of a training step of a task with a vocabulary."""

    def make(task: str, vocabulary: str = "world", objects: int = 2) -> dict[str, Any]:
        things = [(0, 8, 8, 30, 40), (1, 35, 4, 60, 30), (0, 40, 40, 60, 60)][:objects]
        labels = [
            scene_labels(task, SIZE, (2, 0, 0, 64, 50), *things),
            scene_labels(task, SIZE, (0, 20, 20, 50, 60)),
        ]
        return {
            "vocabulary": vocabulary,
            "task": task,
            "labels": labels,
            "sampling_seeds": torch.tensor([3, 4]),
        }

    return make


def trained(
    model: DaTaSegModel, images: Tensor, arguments: dict[str, Any]
) -> tuple[Tensor, dict[str, Tensor], int]:
    """Loss and gradients of a step, and the bytes that its forward keeps for its backward pass."""
    model.zero_grad()
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(images, **arguments).loss
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), gradients, sum(kept.values())


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Up to rounding, which is all that parameters without any influence, such as biases of keys,
    have.
    """
    assert set(found) == set(expected)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() < 1e-5 * largest, name


# the layers of these backbones take part; those of convolutional ones cannot in transformers
@pytest.mark.parametrize("kind", ["swin", "dinov2"])
@pytest.mark.parametrize("pixel_decoder", PIXEL_DECODERS)
def test_checkpointing_keeps_less_and_gives_the_same_gradients(
    pixel_decoder: str, kind: str, tiny_model: ModelFactory, step: Callable[..., dict[str, Any]]
) -> None:
    model = tiny_model(
        backbone_config=backbone(kind), pixel_decoder=pixel_decoder, encoder_layers=2
    ).train()
    images, arguments = torch.randn(2, 3, *SIZE), step("panoptic")
    loss, gradients, kept = trained(model, images, arguments)
    model.gradient_checkpointing_enable()
    layers = [
        module for module in model.modules() if getattr(module, "gradient_checkpointing", False)
    ]
    assert {*model.pixel_decoder.encoder, *model.query_decoder.layers} <= set(layers)
    assert any(layer in set(model.backbone.modules()) for layer in layers)
    again, gradients_again, kept_again = trained(model, images, arguments)
    assert torch.equal(again, loss)
    assert_same(gradients_again, gradients)
    assert kept_again < 0.9 * kept


@pytest.mark.parametrize("pixel_decoder", PIXEL_DECODERS)
def test_compiled_parts_train_alike_whatever_the_task_and_vocabulary(
    pixel_decoder: str, tiny_model: ModelFactory, step: Callable[..., dict[str, Any]]
) -> None:
    """One graph per part serves all datasets: neither the name of a vocabulary nor a task is part
    of it.
    """
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = tiny_model(pixel_decoder=pixel_decoder).train()
    model.add_vocabulary(
        "other", ["circle", "square", "sky", "sea"], [True, True, False, False], torch.randn(4, 16)
    )
    images = torch.randn(2, 3, *SIZE)
    parts: list[nn.Module] = [model.backbone, model.pixel_decoder, model.query_decoder]
    for part in parts:
        part.compile(backend="aot_eager", fullgraph=True)
    for task in ("panoptic", "semantic", "instance", "boxes"):
        for vocabulary, objects in (("world", 2), ("other", 3)):
            arguments = step(task, vocabulary, objects)
            loss, gradients, _ = trained(model, images, arguments)
            with torch.compiler.set_stance("force_eager"):
                expected_loss, expected, _ = trained(model, images, arguments)
            torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=1e-5)
            assert_same(gradients, expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == len(parts)
