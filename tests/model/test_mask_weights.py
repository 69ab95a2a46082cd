"""Masks that are not all sure count as much as their weights say."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from conftest import ModelFactory

SIZE = (64, 64)
FIRST, SECOND = (0, 8, 8, 40, 40), (1, 44, 44, 60, 60)
MASK_TERMS = ("loss_mask", "loss_dice")


@pytest.mark.parametrize("task", ["panoptic", "instance", "objects"])
def test_weights_scale_the_mask_losses_alone(
    task: str, tiny_model: ModelFactory, scene_labels: Callable[..., dict[str, Tensor]]
) -> None:
    model = tiny_model().eval()
    torch.manual_seed(3)
    pixels = torch.randn(1, 3, *SIZE)
    label = scene_labels(task, SIZE, FIRST, SECOND)

    def losses(*weights: float) -> dict[str, Tensor]:
        more = {"mask_weights": torch.tensor(weights)} if weights else {}
        with torch.no_grad():
            found = model(
                pixels, task=task, labels=[{**label, **more}], sampling_seeds=torch.tensor([1])
            ).loss_dict
        assert found is not None
        return found

    plain = losses()
    for name, value in losses(1, 1).items():
        torch.testing.assert_close(value, plain[name], rtol=0, atol=0)
    first, second, half = losses(1, 0), losses(0, 1), losses(0.5, 0.5)
    for name, value in plain.items():
        if name in MASK_TERMS:
            assert value > 0
            torch.testing.assert_close(first[name] + second[name], value)
            torch.testing.assert_close(half[name], value / 2)
        else:
            torch.testing.assert_close(half[name], value, rtol=0, atol=0)


def test_an_image_without_weights_counts_whole_beside_one_with(
    tiny_model: ModelFactory, scene_labels: Callable[..., dict[str, Tensor]]
) -> None:
    model = tiny_model().eval()
    torch.manual_seed(3)
    pixels = torch.randn(2, 3, *SIZE)
    label = scene_labels("instance", SIZE, FIRST, SECOND)
    nothing = label | {"mask_weights": torch.zeros(2)}

    def mask_loss(labels: list[dict[str, Tensor]]) -> Tensor:
        seeds = torch.tensor([1, 2])
        with torch.no_grad():
            found = model(pixels, task="instance", labels=labels, sampling_seeds=seeds).loss_dict
        assert found is not None
        return found["loss_mask"]

    both, one, other = (
        mask_loss([label, label]), mask_loss([label, nothing]), mask_loss([nothing, label])
    )  # fmt: skip
    assert one > 0
    torch.testing.assert_close(one + other, both)
