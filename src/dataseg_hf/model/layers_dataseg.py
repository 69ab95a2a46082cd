"""Building blocks shared by pixel decoder and query decoder."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_dataseg import DaTaSegConfig

# From so many channels on, torch's CPU takes two to four times as long for the gradient of a
# 3 x 3 kernel where channels lie last than where cells do (measured with torch 2.13; our setting).
PLANAR_CHANNELS = 128


class MaskedGroupNorm(nn.GroupNorm):
    """GroupNorm whose statistics leave the padding out, and whose result is zero there.

    A padded image is then normalized as it would be alone, and convolutions meet zeros at its edge,
    as at a canvas'.
    """

    def forward(self, input: Tensor, valid_mask: Tensor) -> Tensor:  # type: ignore[override]
        """input [B, C, h, w], valid_mask bool [B, h, w] -> [B, C, h, w]."""
        cells = valid_mask[:, None].to(torch.float32)
        values = input.float() * cells
        per_channel = self.num_channels // self.num_groups
        count = (per_channel * cells.sum((1, 2, 3))).clamp(min=1)[:, None]
        # first per channel, which any memory format allows; a norm, as a product would write a map
        # of its own
        sums, norms = values.sum((2, 3)), torch.linalg.vector_norm(values, dim=(2, 3))
        mean = sums.unflatten(1, (-1, per_channel)).sum(-1) / count
        square = norms.square().unflatten(1, (-1, per_channel)).sum(-1) / count
        variance = (square - mean.square()).clamp(min=0)
        scale = (
            torch.rsqrt(variance + self.eps).repeat_interleave(per_channel, 1) * self.weight.float()
        )
        shift = self.bias.float() - mean.repeat_interleave(per_channel, 1) * scale
        result = torch.addcmul(shift[..., None, None], values, scale[..., None, None])
        return result.mul_(cells).to(input.dtype)


def group_norm(channels: int) -> MaskedGroupNorm:
    """GroupNorm with 32 groups, fewer where they would have less than 8 channels: one value alone
    has no spread.
    """
    return MaskedGroupNorm(math.gcd(32, channels, max(channels // 8, 1)), channels)


class NormedConvolution(nn.Sequential):
    """A convolution, an `MaskedGroupNorm` and, where one is given, an activation."""

    def forward(self, input: Tensor, valid_mask: Tensor) -> Tensor:  # type: ignore[override]
        """input [B, C, h, w], valid_mask bool [B, h, w] -> [B, C', h, w]."""
        convolution, norm, *activation = self
        result = norm(_convolved(cast(nn.Conv2d, convolution), input), valid_mask)
        return activation[0](result) if activation else result


def _convolved(convolution: nn.Conv2d, input: Tensor) -> Tensor:
    """The convolution of a map [B, C, h, w], laid out so that its gradient is fast."""
    slow = (
        input.device.type == "cpu"
        and torch.is_grad_enabled()
        and convolution.kernel_size != (1, 1)
        and min(convolution.weight.shape[:2]) >= PLANAR_CHANNELS
    )
    if not slow:
        return convolution(input)
    weight = convolution.weight.contiguous()
    return F.conv2d(
        input.contiguous(), weight, convolution.bias, convolution.stride, convolution.padding
    )


def resize_valid_mask(valid_mask: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Nearest resize of a bool mask [B, H, W] to another grid: bool [B, *size]."""
    return F.interpolate(valid_mask[:, None].float(), size=tuple(size), mode="nearest")[:, 0] > 0.5


def sine_positions(
    valid_mask: Tensor, channels: int, position_in_cell: float = 0.5, temperature: float = 10000.0
) -> Tensor:
    """Sine position embedding of a grid, scaled to the image inside it (DETR): [B, h, w] -> [B, h *
    w, channels].

    Half of the channels are for y, half for x; sines and cosines alternate.

    Args:
        position_in_cell: 0.5 is a cell's center.
    """
    counted = valid_mask.float()
    positions = []
    for axis in (1, 2):
        position = counted.cumsum(axis) + (position_in_cell - 1)
        extent = counted.sum(axis, keepdim=True).amax(3 - axis, keepdim=True).clamp(min=1)
        frequency = torch.arange(channels // 4, device=valid_mask.device) * (4.0 / channels)
        angle = (position / extent * 2 * math.pi)[..., None] / temperature**frequency
        positions.append(torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2))
    return torch.cat(positions, dim=-1).flatten(1, 2)


def additive_mask(blocked: Tensor, dtype: torch.dtype) -> Tensor:
    """Bool mask [..., K], true = blocked, as the addend that attention takes."""
    return torch.zeros_like(blocked, dtype=dtype).masked_fill(blocked, torch.finfo(dtype).min)


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, Tensor]:
    """Plain attention for `attn_implementation="eager"`: heads [B, A, Q, d] -> [B, Q, A, d] and the
    weights.
    """
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.float().softmax(-1).to(query.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class Attention(nn.Module):
    """Multi-head attention through the attention interface of transformers."""

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_dim // config.num_attention_heads
        self.is_causal = False
        self.query = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.key = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.value = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.output = nn.Linear(config.hidden_dim, config.hidden_dim)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
    ) -> Tensor:
        """query [B, Q, d], key and value [B, K, d], additive mask broadcastable to [B, A, Q, K] ->
        [B, Q, d].
        """
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention
        )
        heads = [
            projection(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection, x in ((self.query, query), (self.key, key), (self.value, value))
        ]
        mixed, _ = attend(
            self, *heads, attention_mask, scaling=self.head_dim**-0.5, dropout=0.0, is_causal=False
        )
        return self.output(mixed.flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with a ReLU, residual and LayerNorm."""

    def __init__(self, hidden_dim: int, inner_dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden_dim, inner_dim)
        self.outer = nn.Linear(inner_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., hidden_dim] -> same shape."""
        return self.norm(
            hidden_states + self.outer(F.relu(self.inner(hidden_states), inplace=True))
        )


class MLP(nn.Sequential):
    """Linear layers with ReLUs between them: the embedding heads."""

    def __init__(self, hidden_dim: int, output_dim: int, layers: int = 3) -> None:
        hidden = [
            module
            for _ in range(layers - 1)
            for module in (nn.Linear(hidden_dim, hidden_dim), nn.ReLU())
        ]
        super().__init__(*hidden, nn.Linear(hidden_dim, output_dim))
