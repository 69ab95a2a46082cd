"""Small random models of every family that can label, saved as checkpoints with their processors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    DetrConfig,
    DetrForSegmentation,
    EomtConfig,
    EomtForUniversalSegmentation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    MobileNetV2Config,
    MobileNetV2ForSemanticSegmentation,
    PreTrainedModel,
    ResNetConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
    YolosConfig,
    YolosForObjectDetection,
)
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil
from transformers.models.mask2former.image_processing_pil_mask2former import (
    Mask2FormerImageProcessorPil,
)
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil
from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor

NAMES = ["background", "cat", "dog", "sky"]
NAMED = {
    "id2label": dict(enumerate(NAMES)),
    "label2id": {name: number for number, name in enumerate(NAMES)},
}
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def save_segformer(folder: Path) -> Path:
    """Semantic; images are squeezed to 64 x 64."""
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        **NAMED,
    )
    processor = SegformerImageProcessorPil(size={"height": 64, "width": 64})
    model = SegformerForSemanticSegmentation(config)
    model.decode_head.classifier.weight.data.mul_(40)  # so that classes differ
    return _saved(model, processor, folder)


def save_mobilenet(folder: Path) -> Path:
    """Semantic, without a processor, as `deeplabv3_mnv2_voc`; cells lie on every 16th pixel."""
    config = MobileNetV2Config(
        depth_multiplier=0.25, image_size=65, output_stride=16, tf_padding=True, **NAMED
    )
    model = MobileNetV2ForSemanticSegmentation(config)
    return _saved(model, None, folder)


def save_mask2former(folder: Path) -> Path:
    """Universal; the longer side becomes 64 pixels, padded to a multiple of 32."""
    backbone = SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, image_size=64,
        out_features=STAGES,
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, hidden_dim=32, mask_feature_size=32,
        encoder_layers=1, encoder_feedforward_dim=32, decoder_layers=3, dim_feedforward=32,
        num_attention_heads=2, num_queries=8, **NAMED,
    )  # fmt: skip
    model = Mask2FormerForUniversalSegmentation(config)
    model.class_predictor.weight.data.mul_(60)  # so that queries are sure of something
    processor = Mask2FormerImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 64}, size_divisor=32
    )
    return _saved(model, processor, folder)


def save_detr_segmentation(folder: Path) -> Path:
    """Universal, of the older kind with other names of outputs."""
    backbone = ResNetConfig(
        hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1], embedding_size=8, layer_type="basic",
        out_features=STAGES,
    )  # fmt: skip
    config = DetrConfig(
        backbone_config=backbone, d_model=128, encoder_layers=1, decoder_layers=1,
        encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=8,
        decoder_attention_heads=8, num_queries=5, **NAMED,
    )  # fmt: skip
    processor = DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 64})
    return _saved(DetrForSegmentation(config), processor, folder)


def save_eomt(folder: Path) -> Path:
    """Universal; pads to a square and tells nobody."""
    config = EomtConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16,
        num_blocks=1, num_queries=5, num_upscale_blocks=2, **NAMED,
    )  # fmt: skip
    processor = EomtImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True)
    return _saved(EomtForUniversalSegmentation(config), processor, folder)


def save_yolos(folder: Path) -> Path:
    """A detector."""
    config = YolosConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=[64, 64], patch_size=16, num_detection_tokens=6, **NAMED,
    )  # fmt: skip
    processor = YolosImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    return _saved(YolosForObjectDetection(config), processor, folder)


def save_own(folder: Path) -> Path:
    """A DaTaSeg model with the vocabularies "scene" and "pets"."""
    save_checkpoint(checkpoint_model(), checkpoint_processor(), folder)
    return folder


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "segformer": save_segformer,
    "mask2former": save_mask2former,
    "detr_segmentation": save_detr_segmentation,
    "eomt": save_eomt,
    "yolos": save_yolos,
    "own": save_own,
}


def save_photographs(folder: Path, count: int = 5) -> Path:
    """Pictures of several sizes, one in a sub-folder with a blank in its name."""
    rng = np.random.default_rng(0)
    names = ["a.jpg", "b.png", "inner/c d.jpg", *(f"e{k}.png" for k in range(count - 3))]
    for name, size in zip(names, [(40, 64), (64, 48), (40, 64), *[(50, 50)] * count], strict=False):
        blocks = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(blocks).resize(size[::-1], Image.Resampling.BICUBIC)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / name)
    return folder


def _saved(model: PreTrainedModel, processor: Any, folder: Path) -> Path:
    model.eval().save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return folder


def seeded(save: Callable[[Path], Path], folder: Path) -> Path:
    """A teacher with the same weights each time."""
    torch.manual_seed(0)
    return save(folder)
