"""Several strides from a backbone that has one (ViTDet's simple feature pyramid, Li et al., ECCV
2022).
"""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BackboneOutput

# architectures whose every stage has the stride of their patches
PLAIN_TRANSFORMERS = ("beit", "dinov2", "dinov2_with_registers", "dinov3_vit", "vitdet")


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map [B, C, h, w]."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, h, w] -> same shape."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FeaturePyramid(nn.Module):
    """A plain vision transformer with maps at a quarter, half, once and twice the stride of its
    patches.

    Images whose sides are no multiple of the coarsest stride are resized to the next one, so that
    all maps cover the whole image and their cells nest.
    """

    def __init__(self, transformer: nn.Module, config: PreTrainedConfig) -> None:
        super().__init__()
        channels = cast(Sequence[int], transformer.channels)
        if len(channels) != 1:
            raise ValueError(
                f"all stages of a '{config.model_type}' have one stride: name one of them in "
                f"`backbone_config.out_features`, not {transformer.out_features}"
            )
        self.transformer = transformer
        self.coarsest_stride = 2 * config.patch_size
        width = channels[0]
        self.channels = [width // 4, width // 2, width, width]
        self.to_quarter = nn.Sequential(
            nn.ConvTranspose2d(width, width // 2, 2, stride=2),
            ChannelLayerNorm(width // 2),
            nn.GELU(),
            nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2),
        )
        self.to_half = nn.ConvTranspose2d(width, width // 2, 2, stride=2)

    def forward(self, pixel_values: Tensor) -> BackboneOutput:
        """pixel_values [B, 3, H, W] -> `feature_maps`, finest first, [B, channels, h, w] each."""
        stride = self.coarsest_stride
        size = [-(-side // stride) * stride for side in pixel_values.shape[-2:]]
        if size != list(pixel_values.shape[-2:]):
            pixel_values = F.interpolate(
                pixel_values, size=size, mode="bilinear", align_corners=False
            )
        once = self.transformer(pixel_values).feature_maps[0]
        return BackboneOutput(
            feature_maps=(self.to_quarter(once), self.to_half(once), once, F.max_pool2d(once, 2))
        )
