"""Mask2Former's pixel decoder: multi-scale deformable attention over three feature maps, plain
PyTorch.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_dataseg import DaTaSegConfig
from .layers_dataseg import (
    FeedForward,
    MaskedGroupNorm,
    NormedConvolution,
    resize_valid_mask,
    sine_positions,
)
from .pixel_decoder_dataseg import QUERY_LEVELS, PixelFeatures, channels_last, enlarge

POINTS = 4  # sampled per head and level (Deformable DETR)
GROUPS = 32  # of every GroupNorm (Mask2Former)

Size = tuple[int, int]


def sample_points(value: Tensor, sizes: Sequence[Size], places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples from several maps; outside of a map is zero.

    One point at a time is added up: the samples of all points together would need 12 times the
    memory of the result.

    Args:
        value: float32 [B, A, d, S], the maps' cells one after the other, S = sum of h * w.
        sizes: (h, w) per map.
        places: float32 [B, A, L, P, 2, Q], x and y, -1 and 1 = the edges of each map.
        weights: [B, A, L, P, Q].

    Returns:
        float32 [B, A * d, Q].
    """
    batch, heads, channels, _ = value.shape
    # coordinates stay in separate planes: the view is what grid_sample reads fastest, and needs no
    # copy
    grids = places.flatten(0, 1).transpose(-1, -2)
    shares = weights.flatten(0, 1)[:, None]
    total = value.new_zeros(batch * heads, channels, places.shape[-1])
    cells = value.flatten(0, 1).split([height * width for height, width in sizes], dim=-1)
    for level, size in enumerate(sizes):
        level_map = cells[level].unflatten(-1, size)
        for point in range(places.shape[3]):
            grid = grids[:, level, point].unsqueeze(1)
            sampled = F.grid_sample(
                level_map, grid, mode="bilinear", padding_mode="zeros", align_corners=False
            )
            total.addcmul_(sampled[:, :, 0], shares[:, :, level, point])
    return total.unflatten(0, (batch, heads)).flatten(1, 2)


class ChannelsFirstLinear(nn.Linear):
    """A linear layer whose result lies in memory as [B, C, S]: sampling reads one channel at a
    time.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, S, d] -> [B, C, S]."""
        weight = self.weight.expand(input.shape[0], -1, -1)
        return torch.baddbmm(self.bias[:, None], weight, input.transpose(1, 2))


class SamplingOffsets(ChannelsFirstLinear):
    """Offsets x, y of every head, map and point, in cells of that map."""

    def __init__(self, hidden_dim: int, heads: int) -> None:
        super().__init__(hidden_dim, heads * QUERY_LEVELS * POINTS * 2)
        self.heads = heads

    def start(self) -> None:
        """Every head looks in its own direction, point p at distance p cells (Deformable DETR)."""
        angle = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, POINTS + 1, dtype=torch.float32)[:, None]
        init.zeros_(self.weight)
        init.copy_(
            self.bias,
            (direction[:, None, None] * distance).expand(-1, QUERY_LEVELS, -1, -1).flatten(),
        )


class SamplingWeights(ChannelsFirstLinear):
    """Logits of the attention weights of every head, map and point."""

    def __init__(self, hidden_dim: int, heads: int) -> None:
        super().__init__(hidden_dim, heads * QUERY_LEVELS * POINTS)

    def start(self) -> None:
        """Equal weights (Deformable DETR)."""
        init.zeros_(self.weight)
        init.zeros_(self.bias)


class DeformableAttention(nn.Module):
    """Multi-scale deformable self-attention (Deformable DETR, Zhu et al., ICLR 2021).

    Each cell attends, per head, to `POINTS` places of every map at learned offsets from its own.
    """

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.offsets = SamplingOffsets(config.hidden_dim, self.heads)
        self.weights = SamplingWeights(config.hidden_dim, self.heads)
        self.value = ChannelsFirstLinear(config.hidden_dim, config.hidden_dim)
        self.output = nn.Linear(config.hidden_dim, config.hidden_dim)

    def forward(
        self,
        hidden_states: Tensor,
        positions: Tensor,
        centers: Tensor,
        valid_mask: Tensor,
        sizes: Sequence[Size],
    ) -> Tensor:
        """Attention of all cells to places around them.

        Args:
            hidden_states, positions: [B, S, hidden_dim], the cells of all maps.
            centers: float32 [2, S], where on the canvas a cell lies: x and y, -1 and 1 = the edges.
            valid_mask: bool [B, S], false in the padding, which gives nothing.
            sizes: (h, w) per map.
        """
        with_pos = hidden_states + positions
        offsets = self.offsets(with_pos).unflatten(1, (self.heads, QUERY_LEVELS, POINTS, 2))
        weights = self.weights(with_pos).unflatten(1, (self.heads, QUERY_LEVELS * POINTS))
        value = self.value(hidden_states).masked_fill(~valid_mask[:, None], 0.0)
        # half precision would miss the place by half a cell
        with torch.autocast(hidden_states.device.type, enabled=False):
            mixed = sample_points(
                value.float().unflatten(1, (self.heads, -1)),
                sizes,
                sampling_places(centers, offsets.float(), sizes),
                weights.float().softmax(2).unflatten(2, (QUERY_LEVELS, POINTS)),
            )
        return self.output(mixed.transpose(1, 2).to(hidden_states.dtype))


def sampling_places(centers: Tensor, offsets: Tensor, sizes: Sequence[Size]) -> Tensor:
    """[B, A, L, P, 2, S], from the cells' centers [2, S] and offsets [B, A, L, P, 2, S] in cells of
    each map.
    """
    cell = torch.tensor([(2 / width, 2 / height) for height, width in sizes], device=offsets.device)
    return torch.addcmul(centers, offsets, cell[:, None, :, None])


class DeformableEncoderLayer(GradientCheckpointingLayer):
    """Deformable self-attention and a feed-forward block, post-norm."""

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.attention = DeformableAttention(config)
        self.norm = nn.LayerNorm(config.hidden_dim)
        self.feed_forward = FeedForward(config.hidden_dim, config.encoder_feedforward_dim)

    def forward(
        self,
        hidden_states: Tensor,
        positions: Tensor,
        centers: Tensor,
        valid_mask: Tensor,
        sizes: Sequence[Size],
    ) -> Tensor:
        """One layer, [B, S, hidden_dim]; arguments as `DeformableAttention.forward`."""
        mixed = self.attention(hidden_states, positions, centers, valid_mask, sizes)
        return self.feed_forward(self.norm(hidden_states + mixed))


class DeformablePixelDecoder(nn.Module):
    """Deformable attention among the three coarsest maps, then a feature pyramid up to the finest
    (Mask2Former).

    Equal to Mask2Former's where no image is padded; padded cells give nothing to others, which it
    does not prevent.
    """

    def __init__(self, config: DaTaSegConfig, channels: Sequence[int]) -> None:
        super().__init__()
        if len(channels) <= QUERY_LEVELS:
            raise ValueError(
                f"the deformable pixel decoder needs feature maps at {QUERY_LEVELS + 1} or more "
                f"strides, the backbone gives {len(channels)}: name more stages in "
                "`backbone_config.out_features`, or use the 'fpn' one"
            )
        dim = config.hidden_dim
        self.position_in_cell = float(config.position_in_cell)
        self.projections = nn.ModuleList(
            NormedConvolution(nn.Conv2d(c, dim, 1), MaskedGroupNorm(GROUPS, dim))
            for c in reversed(channels[-QUERY_LEVELS:])
        )
        self.level_embedding = nn.Embedding(QUERY_LEVELS, dim)
        self.encoder = nn.ModuleList(
            DeformableEncoderLayer(config) for _ in range(config.encoder_layers)
        )
        finer = list(reversed(channels[:-QUERY_LEVELS]))
        self.laterals = nn.ModuleList(
            NormedConvolution(nn.Conv2d(c, dim, 1, bias=False), MaskedGroupNorm(GROUPS, dim))
            for c in finer
        )
        self.outputs = nn.ModuleList(
            NormedConvolution(
                nn.Conv2d(dim, dim, 3, padding=1, bias=False),
                MaskedGroupNorm(GROUPS, dim),
                nn.ReLU(inplace=True),
            )
            for _ in finer
        )
        self.mask_projection = nn.Conv2d(dim, config.mask_dim, 1)

    def forward(self, feature_maps: Sequence[Tensor], valid_mask: Tensor) -> PixelFeatures:
        """The features of B images, in the order and shapes of `PixelFeatures`.

        Args:
            feature_maps: finest first, [B, C_l, h_l, w_l].
            valid_mask: bool [B, H, W], false in the padding.
        """
        coarsest_first = [channels_last(x) for x in reversed(feature_maps)]
        grids = [resize_valid_mask(valid_mask, x.shape[-2:]) for x in coarsest_first]
        maps = [
            project(x, grid)
            for project, x, grid in zip(self.projections, coarsest_first, grids, strict=False)
        ]
        levels = self.encode(maps, grids[:QUERY_LEVELS])
        finest = levels[-1]
        for lateral, output, feature, grid in zip(
            self.laterals,
            self.outputs,
            coarsest_first[QUERY_LEVELS:],
            grids[QUERY_LEVELS:],
            strict=True,
        ):
            sideways = lateral(feature, grid)
            finest = output(sideways + enlarge(finest, sideways), grid)
        return PixelFeatures(self.mask_projection(finest), levels)

    def encode(self, maps: Sequence[Tensor], grids: Sequence[Tensor]) -> list[Tensor]:
        """Attention among all cells of the maps [B, d, h_l, w_l], coarsest first; the shapes stay.

        Args:
            grids: bool [B, h_l, w_l], false in the padding.
        """
        sizes = [(x.shape[-2], x.shape[-1]) for x in maps]
        hidden_states = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
        levels = self.level_embedding(torch.arange(QUERY_LEVELS, device=hidden_states.device))
        positions = torch.cat(
            [
                sine_positions(grid, x.shape[1], self.position_in_cell).to(x.dtype) + level
                for level, grid, x in zip(levels, grids, maps, strict=True)
            ],
            dim=1,
        )
        centers = torch.cat([cell_centers(size, hidden_states.device) for size in sizes], dim=1)
        valid_cells = torch.cat([grid.flatten(1) for grid in grids], dim=1)
        for layer in self.encoder:
            hidden_states = layer(hidden_states, positions, centers, valid_cells, sizes)
        parts = hidden_states.split([height * width for height, width in sizes], dim=1)
        return [
            part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes, strict=True)
        ]


def cell_centers(size: Size, device: torch.device) -> Tensor:
    """x and y of the cells' centers of a map (h, w), -1 and 1 = its edges: float32 [2, h * w]."""
    y, x = ((2 * torch.arange(side, device=device) + 1) / side - 1 for side in size)
    return torch.stack([x.expand(size), y[:, None].expand(size)]).flatten(1)
