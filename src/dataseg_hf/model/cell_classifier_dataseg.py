"""A class for every cell of a map: a text classifier per pixel beside the one per proposal."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_dataseg import DaTaSegConfig
from .layers_dataseg import NormedConvolution, group_norm, resize_valid_mask
from .pixel_decoder_dataseg import QUERY_LEVELS, PixelFeatures, enlarge


class CellClassifier(nn.Module):
    """Class embeddings of the cells of the queries' finest level (our setting).

    The sum of a linear map of the backbone's own features, which can be fitted before training
    (`training.linear_start`), and of a head on the pixel decoder, which starts from nothing.
    """

    feature_mean: Tensor
    feature_deviation: Tensor

    def __init__(self, config: DaTaSegConfig, channels: Sequence[int]) -> None:
        """channels: of the backbone's feature maps, finest first."""
        super().__init__()
        width = sum(channels)
        self.coarsest_width = channels[-1]
        self.dropout = float(config.cell_dropout)
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_deviation", torch.ones(width))
        self.linear = nn.Linear(width, config.text_embedding_dim)
        self.hidden = NormedConvolution(
            nn.Conv2d(config.hidden_dim, config.hidden_dim, 3, padding=1, bias=False),
            group_norm(config.hidden_dim),
            nn.ReLU(inplace=True),
        )
        self.output = nn.Linear(config.hidden_dim, config.text_embedding_dim)

    def forward(
        self,
        feature_maps: Sequence[Tensor],
        features: PixelFeatures,
        valid_mask: Tensor,
        seeds: Tensor | None = None,
    ) -> Tensor:
        """Class embeddings [B, h, w, D].

        Args:
            feature_maps: of the backbone, finest first, [B, C_l, h_l, w_l].
            features: of the pixel decoder; the finest of its levels has h x w cells.
            valid_mask: bool [B, H, W], false in the padding.
            seeds: int64 [B], of what training drops, see `dropped`.
        """
        finest = features.levels[-1]
        learned = self.hidden(finest, resize_valid_mask(valid_mask, finest.shape[-2:]))
        known = (self.cell_features(feature_maps) - self.feature_mean) / self.feature_deviation
        # a linear part that does not learn does not learn too much
        if self.training and self.dropout and self.linear.weight.requires_grad:
            known = dropped(known, self.dropout, seeds)
        return cast(Tensor, self.linear(known) + self.output(learned.permute(0, 2, 3, 1)))

    @staticmethod
    def cell_features(feature_maps: Sequence[Tensor]) -> Tensor:
        """All maps of the backbone on the grid of the queries' finest level: [B, h, w, F].

        Finer maps are averaged, coarser ones enlarged.
        """
        level = max(1, len(feature_maps) - QUERY_LEVELS)
        like = feature_maps[level]
        finer = [F.interpolate(x, size=like.shape[-2:], mode="area") for x in feature_maps[:level]]
        coarser = [enlarge(x, like) for x in feature_maps[level + 1 :]]
        return torch.cat([*finer, like, *coarser], dim=1).permute(0, 2, 3, 1)

    @torch.no_grad()
    def standardize(self, mean: Tensor, deviation: Tensor) -> None:
        """Let the linear map see `(features - mean) / deviation`, [F] each."""
        self.feature_mean.copy_(mean)
        self.feature_deviation.copy_(deviation.clamp(min=1e-6))


def dropped(features: Tensor, share: float, seeds: Tensor | None) -> Tensor:
    """Dropout of features [B, ..., F], each cell for itself.

    Args:
        share: of the features that become 0; in [0, 1).
        seeds: int64 [B], one per image, so that what is dropped does not depend on its batch; None
            draws from torch's global generator.
    """
    if seeds is None:
        return F.dropout(features, share)
    keep = torch.empty_like(features)
    for of_image, seed in zip(keep, seeds.tolist(), strict=True):
        generator = torch.Generator(features.device).manual_seed(seed)
        of_image.bernoulli_(1 - share, generator=generator)
    return features * keep / (1 - share)


__all__ = ["CellClassifier"]
