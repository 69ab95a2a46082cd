"""Learnable queries become proposals: Mask2Former's masked-attention decoder, and what its heads
see.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_dataseg import DaTaSegConfig
from .layers_dataseg import (
    MLP,
    Attention,
    FeedForward,
    additive_mask,
    resize_valid_mask,
    sine_positions,
)
from .masked_features_dataseg import MaskedFeatures, masked_mean
from .pixel_decoder_dataseg import QUERY_LEVELS, PixelFeatures
from .proposals_dataseg import dot_product


class MaskView(nn.Module):
    """Encodes the shape of a query's own mask for the class head (our setting).

    The mask (detached) is sampled on a square around its mean, `mask_view_extent` times its RMS
    radius to each side.
    """

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.size, self.extent = config.mask_view_size, float(config.mask_view_extent)
        side = math.ceil(math.ceil(self.size / 2) / 2)
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.GELU(),
        )
        self.projection = nn.Sequential(
            nn.Linear(32 * side * side, config.hidden_dim),
            nn.GELU(),
            nn.Linear(config.hidden_dim, config.hidden_dim),
        )
        self.norm = nn.LayerNorm(config.hidden_dim)

    def forward(self, mask_logits: Tensor, valid_mask: Tensor) -> Tensor:
        """mask_logits [B, N, h, w], valid_mask bool [B, h, w] -> [B, N, hidden_dim]."""
        batch, queries = mask_logits.shape[:2]
        masks = mask_logits.detach().float().sigmoid() * valid_mask[:, None]
        crops = F.grid_sample(
            masks.flatten(0, 1)[:, None], self.window(masks).flatten(0, 1), align_corners=False
        )
        code = self.convolutions(crops.to(mask_logits.dtype)).flatten(1)
        return self.norm(self.projection(code)).view(batch, queries, -1)

    @torch.no_grad()
    def silence(self) -> None:
        """Start from adding nothing, in a model whose class head knows its queries already; it
        learns from there.
        """
        self.norm.weight.zero_()
        self.norm.bias.zero_()

    def window(self, masks: Tensor) -> Tensor:
        """Sampling grid around each mask [B, N, h, w], in grid_sample's coordinates: [B, N, size,
        size, 2].
        """
        height, width = masks.shape[-2:]
        masks = masks.float()
        mass = masks.sum((-2, -1)).clamp(min=1e-6)
        x = torch.arange(width, device=masks.device) + 0.5
        y = torch.arange(height, device=masks.device) + 0.5
        columns, rows = masks.sum(-2), masks.sum(-1)
        # no matrix product: autocast would compute it in half precision, in which the squares
        # overflow
        mean_x, mean_y = (columns * x).sum(-1) / mass, (rows * y).sum(-1) / mass
        variance = (
            (columns * (x - mean_x[..., None]).square()).sum(-1)
            + (rows * (y - mean_y[..., None]).square()).sum(-1)
        ) / mass
        half_side = self.extent * variance.clamp(min=0.25).sqrt()
        step = torch.linspace(-1, 1, self.size, device=masks.device)
        sample_x = (mean_x[..., None] + half_side[..., None] * step) * (2 / width) - 1
        sample_y = (mean_y[..., None] + half_side[..., None] * step) * (2 / height) - 1
        grid = (*sample_x.shape, self.size)
        return torch.stack(
            [
                sample_x[..., None, :].expand(grid[0], grid[1], self.size, self.size),
                sample_y[..., :, None].expand(grid[0], grid[1], self.size, self.size),
            ],
            dim=-1,
        )


class DecoderLayer(GradientCheckpointingLayer):
    """Masked cross-attention, self-attention, feed-forward (Mask2Former's order), post-norm."""

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.cross_attention = Attention(config)
        self.cross_norm = nn.LayerNorm(config.hidden_dim)
        self.self_attention = Attention(config)
        self.self_norm = nn.LayerNorm(config.hidden_dim)
        self.feed_forward = FeedForward(config.hidden_dim, config.dim_feedforward)

    def forward(
        self,
        queries: Tensor,
        query_positions: Tensor,
        memory: Tensor,
        memory_with_pos: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """One layer.

        Args:
            queries, query_positions: [B, N, d].
            memory, memory_with_pos: [B, K, d], without and with its positions.
            mask: additive [B, 1, N, K].
        """
        seen = self.cross_attention(queries + query_positions, memory_with_pos, memory, mask)
        queries = self.cross_norm(queries + seen)
        with_pos = queries + query_positions
        queries = self.self_norm(queries + self.self_attention(with_pos, with_pos, queries))
        return self.feed_forward(queries)


class ClassViews(NamedTuple):
    """What the class head may look at under a query's mask.

    Args:
        feature_maps: of the backbone, finest first, [B, C_l, h_l, w_l].
        cell_embeddings: of the cell classifier, [B, h', w', D], if there is one.
        valid_mask: bool [B, H, W], false in the padding.
    """

    feature_maps: Sequence[Tensor]
    cell_embeddings: Tensor | None
    valid_mask: Tensor


class QueryDecoder(nn.Module):
    """Learnable queries, the masked-attention decoder and the two embedding heads."""

    def __init__(self, config: DaTaSegConfig, channels: Sequence[int]) -> None:
        """channels: of the backbone's feature maps, finest first."""
        super().__init__()
        self.position_in_cell = float(config.position_in_cell)
        self.queries = nn.Embedding(config.num_queries, config.hidden_dim)
        self.query_positions = nn.Embedding(config.num_queries, config.hidden_dim)
        self.level_embedding = nn.Embedding(QUERY_LEVELS, config.hidden_dim)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.hidden_dim)
        self.mask_head = MLP(config.hidden_dim, config.mask_dim)
        self.class_head = MLP(
            config.hidden_dim, config.text_embedding_dim, config.class_head_layers
        )
        self.mask_view = MaskView(config) if config.class_head_sees_mask else None
        self.masked_features = (
            MaskedFeatures(config, channels) if config.class_head_sees_features else None
        )
        self.cell_gain = nn.Parameter(torch.empty(1)) if config.cell_classifier else None

    def forward(
        self, features: PixelFeatures, seen: ClassViews, every_layer: bool
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Class embeddings [B, N, D] and mask embeddings [B, N, mask_dim] of every layer, or of the
        last one only; and the mask logits of the last one, [B, N, h, w].

        Args:
            features: of the pixel decoder.
            seen: what the class head looks at, and which cells lie in the image.
            every_layer: without it, the masks of earlier layers are computed at the resolution of
                the attention that reads them.
        """
        valid_mask = seen.valid_mask
        batch = valid_mask.shape[0]  # not len(), which fixes the size in an exported graph
        memory, with_pos, grids = self.memory(features, valid_mask)
        coarse = self.coarse_features(features)
        # looked up, not read from the weight, which may lie elsewhere: on a disk, on another device
        every = torch.arange(self.queries.num_embeddings, device=valid_mask.device)
        queries = self.queries(every).expand(batch, -1, -1)
        query_positions = self.query_positions(every).expand(batch, -1, -1)
        heads = []
        for number, layer in enumerate(self.layers):
            level = number % len(memory)
            mask_embeddings = self.mask_head(self.norm(queries))
            if every_layer:
                # only the class head sees these masks, and it takes no gradient from them
                with torch.no_grad():
                    mask_logits = dot_product(mask_embeddings, features.mask_features)
                classes = self.class_embeddings(queries, mask_logits, seen)
                heads.append((classes, mask_embeddings))
            mask = self.attention_mask(mask_embeddings, coarse[level], grids[level])
            queries = layer(queries, query_positions, memory[level], with_pos[level], mask)
        mask_embeddings = self.mask_head(self.norm(queries))
        mask_logits = dot_product(mask_embeddings, features.mask_features)
        classes = self.class_embeddings(queries, mask_logits, seen)
        heads.append((classes, mask_embeddings))
        return heads, mask_logits

    def memory(
        self, features: PixelFeatures, valid_mask: Tensor
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Per level: cells [B, h * w, d], the same plus their positions, and which lie in the
        image, [B, h, w].
        """
        memory, with_pos, grids = [], [], []
        embeddings = self.level_embedding(torch.arange(QUERY_LEVELS, device=valid_mask.device))
        # a backbone may have fewer
        for level, embedding in zip(features.levels, embeddings, strict=False):
            grid = resize_valid_mask(valid_mask, level.shape[-2:])
            # contiguous, so that the layers that read it do not each keep a copy of their own
            cells = level.flatten(2).transpose(1, 2).contiguous()
            memory.append(cells + embedding)
            with_pos.append(
                memory[-1]
                + sine_positions(grid, level.shape[1], self.position_in_cell).to(level.dtype)
            )
            grids.append(grid)
        return memory, with_pos, grids

    def class_embeddings(self, queries: Tensor, mask_logits: Tensor, seen: ClassViews) -> Tensor:
        """Class embeddings [B, N, D] of the queries [B, N, d] with the masks [B, N, h, w].

        With a cell classifier, the head adds to the mean embedding of the cells under the mask.
        """
        grid = resize_valid_mask(seen.valid_mask, mask_logits.shape[-2:])
        code = self.norm(queries)
        if self.mask_view is not None:
            code = code + self.mask_view(mask_logits, grid)
        if self.masked_features is not None:
            code = code + self.masked_features(seen.feature_maps, mask_logits, grid)
        embeddings = self.class_head(code)
        if self.cell_gain is None or seen.cell_embeddings is None:
            return embeddings
        masks = mask_logits.detach().float().sigmoid() * grid[:, None]
        cells = F.normalize(seen.cell_embeddings.float(), dim=-1).permute(0, 3, 1, 2)
        of_cells = F.normalize(masked_mean(cells, masks), dim=-1)
        return F.normalize(embeddings.float(), dim=-1) + self.cell_gain * of_cells

    @torch.no_grad()
    def silence_views(self) -> None:
        """Let the class head start from the queries alone, which it knows already."""
        for view in (self.mask_view, self.masked_features):
            if view is not None:
                view.silence()

    @staticmethod
    @torch.no_grad()
    def coarse_features(features: PixelFeatures) -> list[Tensor]:
        """The mask features at the grid of each level, [B, mask_dim, h_l, w_l], for the masks of
        the attention.

        Resizing commutes with the dot product, so the features are resized once instead of N masks
        in every layer.
        """
        return [
            F.interpolate(
                features.mask_features, size=level.shape[-2:], mode="bilinear", align_corners=False
            )
            for level in features.levels
        ]

    @staticmethod
    @torch.no_grad()
    def attention_mask(mask_embeddings: Tensor, coarse_features: Tensor, grid: Tensor) -> Tensor:
        """Additive mask [B, 1, N, h * w]: a query sees the cells of its own mask, or all if it is
        empty.
        """
        valid_mask = grid.flatten(1)[:, None]
        outside = (dot_product(mask_embeddings, coarse_features) < 0).flatten(2) | ~valid_mask
        blocked = outside & ~(outside.all(-1, keepdim=True) & valid_mask)
        return additive_mask(blocked, coarse_features.dtype)[:, None]


class DatasetDecoders(nn.Module):
    """A query decoder for each stored vocabulary: the baseline of `dataset_decoders`."""

    def __init__(self, config: DaTaSegConfig, channels: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.channels = list(channels)
        for name in config.vocabularies or {}:
            self.add(name)

    def add(self, name: str) -> QueryDecoder:
        """A decoder for a vocabulary that had none; returns it, for its initialization."""
        decoder = QueryDecoder(self.config, self.channels)
        self.add_module(f"of_{name}", decoder)
        return decoder

    def of(self, name: str) -> QueryDecoder:
        """The decoder of a stored vocabulary."""
        return cast(QueryDecoder, self.get_submodule(f"of_{name}"))
