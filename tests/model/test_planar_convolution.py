"""Wide convolutions change their layout for the sake of their gradients, and nothing else."""

import copy

import pytest
import torch
from torch import nn

from dataseg_hf.model.layers_dataseg import PLANAR_CHANNELS, NormedConvolution, group_norm


@pytest.mark.parametrize("channels", [PLANAR_CHANNELS - 8, PLANAR_CHANNELS])
def test_results_and_gradients_are_those_of_the_plain_convolution(channels: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    normed = NormedConvolution(copy.deepcopy(plain), group_norm(channels))
    normed.to(memory_format=torch.channels_last)
    x = torch.randn(2, channels, 9, 7).contiguous(memory_format=torch.channels_last)
    valid = torch.ones(2, 9, 7, dtype=torch.bool)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = normed(ours, valid), group_norm(channels)(plain(theirs), valid)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    found.square().sum().backward()
    expected.square().sum().backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-2, rtol=1e-3)
    gradient = normed.get_parameter("0.weight").grad
    torch.testing.assert_close(gradient, plain.weight.grad, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize(
    ("channels", "planar"), [(PLANAR_CHANNELS - 8, False), (PLANAR_CHANNELS, True)]
)
def test_only_what_is_trained_is_laid_out_anew(channels: int, planar: bool) -> None:
    normed = NormedConvolution(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False), seen := Seen()
    )
    x = torch.randn(1, channels, 5, 6).contiguous(memory_format=torch.channels_last)
    normed(x, torch.ones(1, 5, 6, dtype=torch.bool))
    assert seen.planar == planar
    with torch.inference_mode():
        normed(x, torch.ones(1, 5, 6, dtype=torch.bool))
    assert not seen.planar


class Seen(nn.Module):
    """Stands for the norm; notes how what it gets is laid out."""

    planar: bool

    def forward(self, x: torch.Tensor, valid_mask: torch.Tensor) -> torch.Tensor:
        self.planar = x.is_contiguous()
        return x
