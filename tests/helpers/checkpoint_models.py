"""Small random models with a processor and two vocabularies, as checkpoints have them."""

from typing import Any

import torch
from transformers import ConvNextConfig, MobileNetV2Config, PreTrainedConfig

from dataseg_hf import DaTaSegConfig, DaTaSegImageProcessor, DaTaSegModel
from dataseg_hf.model.configuration_efficientnet_lite_dataseg import EfficientNetLiteConfig
from dataseg_hf.model.text_embeddings_dataseg import build_text_encoder

CANVAS = 64
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
VOCABULARIES = {
    "scene": (["cat", "dog", "grass", "sky"], [True, True, False, False]),
    "pets": (["cat", "dog", "hamster"], [True, True, True]),
}


def convnext() -> PreTrainedConfig:
    """Three stages, the first at stride 2."""
    return ConvNextConfig(
        patch_size=2,
        num_stages=3,
        hidden_sizes=[8, 8, 16],
        depths=[1, 1, 1],
        out_features=["stage1", "stage2", "stage3"],
    )


def mobilenet() -> PreTrainedConfig:
    """A third of the channels."""
    return MobileNetV2Config(depth_multiplier=0.35, depth_divisible_by=4, min_depth=4)


def efficientnet_lite() -> PreTrainedConfig:
    """A quarter of the channels, one block a stage."""
    return EfficientNetLiteConfig(width_coefficient=0.25, depth_coefficient=0.1)


def checkpoint_model(
    backbone: PreTrainedConfig | None = None, text_encoder: dict[str, Any] | None = None
) -> DaTaSegModel:
    """A random model with the vocabularies above, "scene" by default; it sees segments in any
    image.
    """
    torch.manual_seed(0)
    text_encoder = text_encoder or {"kind": "hashed_ngrams", "dim": 32}
    config = DaTaSegConfig(
        backbone_config=backbone or convnext(),
        hidden_dim=16,
        encoder_layers=1,
        encoder_feedforward_dim=16,
        decoder_layers=2,
        dim_feedforward=16,
        num_attention_heads=2,
        num_queries=8,
        text_embedding_dim=build_text_encoder(text_encoder).dim,
        mask_view_size=8,
        initial_logit_scale=20.0,
        text_encoder=text_encoder,
    )
    model = DaTaSegModel(config).eval()
    with torch.no_grad():
        model.classifier.background.zero_()  # cosine 0: some name is always more likely
        model.query_decoder.mask_head[-1].weight.mul_(4)
    for name, (labels, is_thing) in VOCABULARIES.items():
        model.add_vocabulary(name, labels, is_thing)
    return model


def checkpoint_processor(**options: Any) -> DaTaSegImageProcessor:
    """The processor of that model."""
    return DaTaSegImageProcessor(
        size={"longest_edge": CANVAS}, image_mean=MEAN, image_std=STD, **options
    )
