"""What the class head sees of the image under a query's mask."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_dataseg import DaTaSegConfig


class MaskedFeatures(nn.Module):
    """Encodes the backbone's two coarsest maps under a query's own mask for the class head (our
    setting).

    Each map is averaged under the mask (detached). So the class head gets what the backbone knows
    of the region directly, not through the queries, which learn slowly from few images.
    """

    MAPS = 2

    def __init__(self, config: DaTaSegConfig, channels: Sequence[int]) -> None:
        super().__init__()
        width, hidden_dim = sum(channels[-self.MAPS :]), config.hidden_dim
        self.projection = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
        )
        self.norm = nn.LayerNorm(hidden_dim)

    def forward(
        self, feature_maps: Sequence[Tensor], mask_logits: Tensor, valid_mask: Tensor
    ) -> Tensor:
        """The encodings [B, N, hidden_dim].

        Args:
            feature_maps: of the backbone, finest first, [B, C_l, h_l, w_l].
            mask_logits: [B, N, h, w].
            valid_mask: bool [B, h, w], false in the padding.
        """
        masks = mask_logits.detach().float().sigmoid() * valid_mask[:, None]
        means = [masked_mean(features, masks) for features in feature_maps[-self.MAPS :]]
        return self.norm(self.projection(torch.cat(means, dim=-1)))

    @torch.no_grad()
    def silence(self) -> None:
        """Start from adding nothing, as `MaskView.silence`."""
        self.norm.weight.zero_()
        self.norm.bias.zero_()


def masked_mean(features: Tensor, masks: Tensor) -> Tensor:
    """Mean of a map under each mask: [B, C, h, w], float32 [B, N, H, W] in 0..1 -> [B, N, C].

    Masks are resized to the map by area. The mean of an empty mask is 0.
    """
    weights = F.interpolate(masks, size=features.shape[-2:], mode="area").flatten(2)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
    return weights.to(features.dtype) @ features.flatten(2).transpose(1, 2)


__all__ = ["MaskedFeatures", "masked_mean"]
