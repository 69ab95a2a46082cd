"""From backbone features to multi-scale features for the queries and one high-resolution map for
the masks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_dataseg import DaTaSegConfig
from .layers_dataseg import (
    Attention,
    FeedForward,
    NormedConvolution,
    additive_mask,
    group_norm,
    resize_valid_mask,
    sine_positions,
)

QUERY_LEVELS = 3


class PixelFeatures(NamedTuple):
    """What the pixel decoder makes of the backbone's feature maps.

    Args:
        mask_features: F, [B, mask_dim, h, w] at the backbone's finest stride.
        levels: [B, hidden_dim, h_l, w_l], coarsest first, for the queries' cross-attention.
    """

    mask_features: Tensor
    levels: list[Tensor]


class EncoderLayer(GradientCheckpointingLayer):
    """Self-attention over the cells of one feature map, post-norm."""

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.norm = nn.LayerNorm(config.hidden_dim)
        self.feed_forward = FeedForward(config.hidden_dim, config.encoder_feedforward_dim)

    def forward(self, hidden_states: Tensor, positions: Tensor, attention_mask: Tensor) -> Tensor:
        """hidden_states, positions [B, h * w, d]; additive attention_mask [B, 1, 1, h * w]."""
        with_pos = hidden_states + positions
        mixed = self.attention(with_pos, with_pos, hidden_states, attention_mask)
        return self.feed_forward(self.norm(hidden_states + mixed))


class PixelDecoder(nn.Module):
    """Feature pyramid (FPN) with attention layers on its coarsest map."""

    def __init__(self, config: DaTaSegConfig, channels: Sequence[int]) -> None:
        super().__init__()
        if len(channels) < 2:
            raise ValueError(
                f"the backbone gives {len(channels)} feature map; DaTaSeg needs two or more "
                "strides: name several stages in `backbone_config.out_features`"
            )
        # the finest map has the most cells by far, so its width is a setting of its own
        dims = [config.mask_dim] + [config.hidden_dim] * (len(channels) - 1)
        self.position_in_cell = float(config.position_in_cell)
        self.laterals = nn.ModuleList(
            NormedConvolution(nn.Conv2d(c, dim, 1, bias=False), group_norm(dim))
            for c, dim in zip(channels, dims, strict=True)
        )
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.mask_reduction = nn.Conv2d(config.hidden_dim, config.mask_dim, 1)
        self.outputs = nn.ModuleList(
            NormedConvolution(
                nn.Conv2d(dim, dim, 3, padding=1, bias=False),
                group_norm(dim),
                nn.ReLU(inplace=True),
            )
            for dim in dims[:-1]
        )
        self.mask_projection = nn.Conv2d(config.mask_dim, config.mask_dim, 1)

    def forward(self, feature_maps: Sequence[Tensor], valid_mask: Tensor) -> PixelFeatures:
        """The features of B images, in the order and shapes of `PixelFeatures`.

        Args:
            feature_maps: finest first, [B, C_l, h_l, w_l].
            valid_mask: bool [B, H, W], false in the padding.
        """
        grids = [resize_valid_mask(valid_mask, x.shape[-2:]) for x in feature_maps]
        finest, *coarser = [
            lateral(channels_last(x), grid)
            for lateral, x, grid in zip(self.laterals, feature_maps, grids, strict=True)
        ]
        finest_output, *outputs = self.outputs
        levels = [self.encode(coarser[-1], valid_mask)]
        for lateral, output, grid in zip(
            reversed(coarser[:-1]), reversed(outputs), reversed(grids[1:-1]), strict=True
        ):
            levels.append(output(lateral + enlarge(levels[-1], lateral), grid))
        mask_features = finest_output(
            finest + enlarge(self.mask_reduction(levels[-1]), finest), grids[0]
        )
        return PixelFeatures(self.mask_projection(mask_features), levels[:QUERY_LEVELS])

    def encode(self, coarsest: Tensor, valid_mask: Tensor) -> Tensor:
        """Attention among all cells of the coarsest map, padding left out: [B, d, h, w] -> same
        shape.
        """
        grid = resize_valid_mask(valid_mask, coarsest.shape[-2:])
        hidden_states = coarsest.flatten(2).transpose(1, 2)
        positions = sine_positions(grid, hidden_states.shape[-1], self.position_in_cell).to(
            hidden_states.dtype
        )
        mask = additive_mask(~grid.flatten(1), hidden_states.dtype)[:, None, None]
        for layer in self.encoder:
            hidden_states = layer(hidden_states, positions, mask)
        return hidden_states.transpose(1, 2).view_as(coarsest)


def channels_last(x: Tensor) -> Tensor:
    """The same map [B, C, h, w], laid out as the cells of attention are; on CPUs 1x1 convolutions
    and resizing of what follows then take half the time, and no cells are copied.
    """
    return x.contiguous(memory_format=torch.channels_last)


def enlarge(coarse: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of a map [B, C, h, w] to the grid of a finer one."""
    return F.interpolate(coarse, size=like.shape[-2:], mode="bilinear", align_corners=False)
