"""The backbone that a config names."""

from typing import cast

from torch import nn
from transformers import MobileNetV2Config, PreTrainedConfig
from transformers.backbone_utils import load_backbone

from .backbone_efficientnet_lite_dataseg import EfficientNetLiteBackbone
from .backbone_mobilenetv2_dataseg import MobileNetV2Backbone
from .configuration_dataseg import DaTaSegConfig
from .configuration_efficientnet_lite_dataseg import EfficientNetLiteConfig
from .feature_pyramid_dataseg import PLAIN_TRANSFORMERS, FeaturePyramid

# what no feature map of these architectures uses: without a gradient it stops distributed training
UNUSED_IN_BACKBONE = {
    "swin": "swin.layernorm.",
    "bit": "bit.norm.",
    "dinov2": "transformer.embeddings.mask_token",
    "dinov2_with_registers": "transformer.embeddings.mask_token",
    "dinov3_vit": "transformer.embeddings.mask_token",
}


def build_backbone(config: DaTaSegConfig) -> nn.Module:
    """The backbone of a config: transformers' AutoBackbone, or one of ours, MobileNetV2 or
    EfficientNet-Lite.

    Plain vision transformers, which have one stride, get a feature pyramid.
    """
    backbone_config = cast(PreTrainedConfig, config.backbone_config)
    if isinstance(backbone_config, MobileNetV2Config):
        return MobileNetV2Backbone(backbone_config)
    # without the package, the config's class is that of another copy of a checkpoint's code
    if backbone_config.model_type == EfficientNetLiteConfig.model_type:
        return EfficientNetLiteBackbone(cast(EfficientNetLiteConfig, backbone_config))
    backbone = load_backbone(config)
    if backbone_config.model_type in PLAIN_TRANSFORMERS:
        return FeaturePyramid(backbone, backbone_config)
    return backbone
