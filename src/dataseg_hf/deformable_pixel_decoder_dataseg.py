"""Mask2Former's pixel decoder: multi-scale deformable attention over three feature maps, plain PyTorch."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_dataseg import DaTaSegConfig
from .layers_dataseg import FeedForward, resize_inside, sine_positions
from .pixel_decoder_dataseg import QUERY_LEVELS, PixelFeatures, enlarge

POINTS = 4  # sampled per head and level (Deformable DETR)
GROUPS = 32  # of every GroupNorm (Mask2Former)

Size = tuple[int, int]


def sample_points(value: Tensor, sizes: Sequence[Size], places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples from several maps; outside of a map is zero.

    One point at a time is added up: the samples of all points together would need 12 times the memory of the result.

    Args:
        value: [B, A, d, S], the maps' cells one after the other, S = sum of h * w.
        sizes: (h, w) per map.
        places: [B, A, L, P, Q, 2], x and y in 0..1 of each map's canvas.
        weights: [B, A, L, P, Q].

    Returns:
        [B, A * d, Q].
    """
    batch, heads, channels, _ = value.shape
    grids = (2 * places - 1).flatten(0, 1)
    shares = weights.flatten(0, 1)[:, None]
    total = value.new_zeros(batch * heads, channels, places.shape[4])
    cells = value.flatten(0, 1).split([height * width for height, width in sizes], dim=-1)
    for level, size in enumerate(sizes):
        level_map = cells[level].unflatten(-1, size)
        for point in range(places.shape[3]):
            grid = grids[:, level, point].unsqueeze(1)
            sampled = F.grid_sample(level_map, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            total = torch.addcmul(total, sampled[:, :, 0], shares[:, :, level, point])
    return total.unflatten(0, (batch, heads)).flatten(1, 2)


class DeformableAttention(nn.Module):
    """Multi-scale deformable self-attention (Deformable DETR, Zhu et al., ICLR 2021).

    Each cell attends, per head, to `POINTS` places of every map at learned offsets from its own.
    """

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        points = self.heads * QUERY_LEVELS * POINTS
        self.offsets = nn.Linear(config.hidden_dim, 2 * points)
        self.weights = nn.Linear(config.hidden_dim, points)
        self.value = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.output = nn.Linear(config.hidden_dim, config.hidden_dim)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Every head looks in its own direction, point p at distance p cells, with equal weights (Deformable DETR)."""
        angle = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, POINTS + 1, dtype=torch.float32)[:, None]
        start = (direction[:, None, None] * distance).expand(-1, QUERY_LEVELS, -1, -1)
        init.zeros_(self.offsets.weight)
        init.copy_(self.offsets.bias, start.reshape(-1))
        init.zeros_(self.weights.weight)
        init.zeros_(self.weights.bias)

    def forward(
        self, hidden_states: Tensor, positions: Tensor, centres: Tensor, inside: Tensor, sizes: Sequence[Size]
    ) -> Tensor:
        """Attention of all cells to places around them.

        Args:
            hidden_states, positions: [B, S, hidden_dim], the cells of all maps.
            centres: [S, 2], where on the canvas a cell lies, x and y in 0..1.
            inside: bool [B, S], false in the padding, which gives nothing.
            sizes: (h, w) per map.
        """
        located = hidden_states + positions
        per_point = (self.heads, QUERY_LEVELS, POINTS)
        offsets = self.offsets(located).unflatten(-1, (*per_point, 2)).permute(0, 2, 3, 4, 1, 5)
        weights = self.weights(located).unflatten(-1, (self.heads, -1)).softmax(-1)
        weights = weights.unflatten(-1, per_point[1:]).permute(0, 2, 3, 4, 1)
        extent = torch.tensor([(width, height) for height, width in sizes], device=offsets.device).to(offsets.dtype)
        places = centres + offsets / extent[:, None, None]
        value = self.value(hidden_states).masked_fill(~inside[..., None], 0.0)
        value = value.transpose(1, 2).unflatten(1, (self.heads, -1))
        return self.output(sample_points(value, sizes, places, weights).transpose(1, 2))


class DeformableEncoderLayer(GradientCheckpointingLayer):
    """Deformable self-attention and a feed-forward block, post-norm."""

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.attention = DeformableAttention(config)
        self.norm = nn.LayerNorm(config.hidden_dim)
        self.feed_forward = FeedForward(config.hidden_dim, config.encoder_feedforward_dim)

    def forward(
        self, hidden_states: Tensor, positions: Tensor, centres: Tensor, inside: Tensor, sizes: Sequence[Size]
    ) -> Tensor:
        """Arguments and result as `DeformableAttention.forward`."""
        mixed = self.attention(hidden_states, positions, centres, inside, sizes)
        return self.feed_forward(self.norm(hidden_states + mixed))


class DeformablePixelDecoder(nn.Module):
    """Deformable attention among the three coarsest maps, then a feature pyramid up to the finest (Mask2Former).

    Equal to Mask2Former's where no image is padded; padded cells give nothing to others, which it does not prevent.
    """

    def __init__(self, config: DaTaSegConfig, channels: Sequence[int]) -> None:
        super().__init__()
        if len(channels) <= QUERY_LEVELS:
            raise ValueError(
                f"the deformable pixel decoder needs feature maps at {QUERY_LEVELS + 1} or more strides, the backbone "
                f"gives {len(channels)}: name more stages in `backbone_config.out_features`, or use the 'fpn' one"
            )
        dim = config.hidden_dim
        self.position_in_cell = float(config.position_in_cell)
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, dim, 1), nn.GroupNorm(GROUPS, dim)) for c in reversed(channels[-QUERY_LEVELS:])
        )
        self.level_embedding = nn.Embedding(QUERY_LEVELS, dim)
        self.encoder = nn.ModuleList(DeformableEncoderLayer(config) for _ in range(config.encoder_layers))
        finer = list(reversed(channels[:-QUERY_LEVELS]))
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, dim, 1, bias=False), nn.GroupNorm(GROUPS, dim)) for c in finer
        )
        self.outputs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, dim), nn.ReLU())
            for _ in finer
        )
        self.mask_projection = nn.Conv2d(dim, config.mask_dim, 1)

    def forward(self, feature_maps: Sequence[Tensor], inside: Tensor) -> PixelFeatures:
        """feature_maps: finest first, [B, C_l, h_l, w_l]. inside: bool [B, H, W], false in the padding."""
        coarsest_first = list(reversed(feature_maps))
        maps = [project(x) for project, x in zip(self.projections, coarsest_first, strict=False)]
        levels = self.encode(maps, inside)
        finest = levels[-1]
        for lateral, output, feature in zip(self.laterals, self.outputs, coarsest_first[QUERY_LEVELS:], strict=True):
            sideways = lateral(feature)
            finest = output(sideways + enlarge(finest, sideways))
        return PixelFeatures(self.mask_projection(finest), levels)

    def encode(self, maps: Sequence[Tensor], inside: Tensor) -> list[Tensor]:
        """Attention among all cells of the maps [B, d, h_l, w_l], coarsest first -> the same shapes."""
        sizes = [(x.shape[-2], x.shape[-1]) for x in maps]
        grids = [resize_inside(inside, size) for size in sizes]
        hidden_states = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
        positions = torch.cat(
            [
                sine_positions(grid, x.shape[1], self.position_in_cell).to(x.dtype) + self.level_embedding.weight[level]
                for level, (grid, x) in enumerate(zip(grids, maps, strict=True))
            ],
            dim=1,
        )
        centres = torch.cat([cell_centres(size, hidden_states) for size in sizes])
        cells_inside = torch.cat([grid.flatten(1) for grid in grids], dim=1)
        for layer in self.encoder:
            hidden_states = layer(hidden_states, positions, centres, cells_inside, sizes)
        parts = hidden_states.split([height * width for height, width in sizes], dim=1)
        return [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]


def cell_centres(size: Size, like: Tensor) -> Tensor:
    """x and y of the cells' centres of a map (h, w), in 0..1 of its canvas: [h * w, 2]."""
    y, x = (((torch.arange(side, device=like.device) + 0.5) / side).to(like.dtype) for side in size)
    return torch.stack([x.expand(size), y[:, None].expand(size)], dim=-1).flatten(0, 1)
