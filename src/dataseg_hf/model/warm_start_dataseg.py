"""Weights to start from: transformers' Mask2Former, whose decoders and masks ours can equal, or a
backbone alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    MobileNetV2Config,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.backbone_utils import BackboneConfigMixin

from .configuration_efficientnet_lite_dataseg import EfficientNetLiteConfig, published_config
from .efficientnet_lite_weights_dataseg import lite_size, lite_weights

LEVELS = 3  # feature maps that Mask2Former's queries read

# transformers' names -> ours; the cross-attention's fused projection and the pyramid's order are
# dealt with in code
RENAMED = (
    (r"^model\.pixel_level_module\.encoder\.", "backbone."),
    (r"^model\.pixel_level_module\.decoder\.level_embed$", "pixel_decoder.level_embedding.weight"),
    (r"^model\.pixel_level_module\.decoder\.input_projections\.", "pixel_decoder.projections."),
    (r"^model\.pixel_level_module\.decoder\.encoder\.layers\.", "pixel_decoder.encoder."),
    (r"^model\.pixel_level_module\.decoder\.", "pixel_decoder."),
    (r"\.self_attn\.sampling_offsets\.", ".attention.offsets."),
    (r"\.self_attn\.attention_weights\.", ".attention.weights."),
    (r"\.self_attn\.value_proj\.", ".attention.value."),
    (r"\.self_attn\.output_proj\.", ".attention.output."),
    (r"^(pixel_decoder\.encoder\.\d+)\.self_attn_layer_norm\.", r"\1.norm."),
    (r"^model\.transformer_module\.queries_features\.", "query_decoder.queries."),
    (r"^model\.transformer_module\.queries_embedder\.", "query_decoder.query_positions."),
    (r"^model\.transformer_module\.level_embed\.", "query_decoder.level_embedding."),
    (r"^model\.transformer_module\.decoder\.layernorm\.", "query_decoder.norm."),
    (
        r"^model\.transformer_module\.decoder\.mask_predictor\.mask_embedder\.0\.0\.",
        "query_decoder.mask_head.0.",
    ),
    (
        r"^model\.transformer_module\.decoder\.mask_predictor\.mask_embedder\.1\.0\.",
        "query_decoder.mask_head.2.",
    ),
    (
        r"^model\.transformer_module\.decoder\.mask_predictor\.mask_embedder\.2\.0\.",
        "query_decoder.mask_head.4.",
    ),
    (r"^model\.transformer_module\.decoder\.layers\.", "query_decoder.layers."),
    (r"\.self_attn_layer_norm\.", ".self_norm."),
    (r"\.cross_attn_layer_norm\.", ".cross_norm."),
    (r"\.self_attn\.q_proj\.", ".self_attention.query."),
    (r"\.self_attn\.k_proj\.", ".self_attention.key."),
    (r"\.self_attn\.v_proj\.", ".self_attention.value."),
    (r"\.self_attn\.out_proj\.", ".self_attention.output."),
    (r"\.cross_attn\.out_proj\.", ".cross_attention.output."),
    (r"^((?:pixel_decoder\.encoder|query_decoder\.layers)\.\d+)\.fc1\.", r"\1.feed_forward.inner."),
    (r"^((?:pixel_decoder\.encoder|query_decoder\.layers)\.\d+)\.fc2\.", r"\1.feed_forward.outer."),
    (
        r"^((?:pixel_decoder\.encoder|query_decoder\.layers)\.\d+)\.final_layer_norm\.",
        r"\1.feed_forward.norm.",
    ),
)
FUSED = re.compile(r"^(query_decoder\.layers\.\d+)\.cross_attn\.in_proj_(weight|bias)$")
PYRAMID = re.compile(r"^pixel_decoder\.(adapter|layer)_(\d+)\.(.+)$")
# no part of the network: the classifier is read by `align_classifier`, the other is the loss's
NOT_MAPPED = ("class_predictor.", "criterion.")


@dataclass
class WarmStart:
    """What a warm start did.

    Args:
        taken: Names of the model's weights that came from the checkpoint.
        new: Names of those that were initialized anew.
        unused: Names of the checkpoint's weights that found no place.
        explained: With an aligned classifier, the share of the variance of the checkpoint's class
            weights that the text embeddings can express: 1 when there are fewer labels than text
            dimensions.
    """

    taken: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    explained: float | None = None

    def summary(self) -> str:
        """Counts, and the modules that hold what is new, in one line."""
        modules = sorted({".".join(name.split(".")[:2]) for name in self.new})
        aligned = (
            ""
            if self.explained is None
            else f"; classifier aligned, {self.explained:.1%} explained"
        )
        return (
            f"{len(self.taken)} weights taken, {len(self.new)} initialized anew "
            f"({', '.join(modules) or 'none'}), "
            f"{len(self.unused)} of the checkpoint unused{aligned}"
        )


def read_mask2former(
    name_or_path: str | Path, revision: str | None
) -> Mask2FormerForUniversalSegmentation:
    """A transformers Mask2Former from the Hub or a folder, in float32.

    Raises:
        ValueError: for any other architecture.
    """
    config = AutoConfig.from_pretrained(name_or_path, revision=revision)
    if not isinstance(config, Mask2FormerConfig):
        raise ValueError(
            f"'{name_or_path}' is a '{config.model_type}' checkpoint, not a 'mask2former' one"
        )
    _check_form(config, str(name_or_path))
    return Mask2FormerForUniversalSegmentation.from_pretrained(
        name_or_path, config=config, revision=revision, dtype=torch.float32, use_safetensors=True
    )


def mask2former_labels(name_or_path: str | Path, revision: str | None = None) -> list[str]:
    """The category names of a checkpoint, in the order of its ids."""
    config = AutoConfig.from_pretrained(name_or_path, revision=revision)
    return [config.id2label[index] for index in range(config.num_labels)]


def _check_form(config: Mask2FormerConfig, name: str) -> None:
    """Raise ValueError for the forms of Mask2Former that no released checkpoint has and ours cannot
    take.
    """
    wrong = []
    if config.pre_norm:
        wrong.append("pre_norm=True")
    if config.enforce_input_projection or config.feature_size != config.hidden_dim:
        wrong.append("an input projection of the transformer decoder")
    if config.activation_function != "relu":
        wrong.append(f"activation_function='{config.activation_function}'")
    finer = [
        stride for stride in config.feature_strides[:-LEVELS] if stride >= config.common_stride
    ]
    if len(finer) != len(config.feature_strides) - LEVELS or not finer:
        wrong.append(
            f"common_stride={config.common_stride} and "
            f"feature_strides={list(config.feature_strides)}"
        )
    if wrong:
        raise ValueError(f"'{name}': cannot start from a Mask2Former with {' and '.join(wrong)}")


def mask2former_settings(config: Mask2FormerConfig) -> dict[str, Any]:
    """Options of `DaTaSegConfig` with which the network is the given Mask2Former, up to the
    classifier.
    """
    return {
        "backbone_config": config.backbone_config.to_dict(),
        "pixel_decoder": "deformable",
        "hidden_dim": config.hidden_dim,
        "mask_dim": config.mask_feature_size,
        "encoder_layers": config.encoder_layers,
        "encoder_feedforward_dim": config.encoder_feedforward_dim,
        # theirs counts the prediction before the first layer
        "decoder_layers": config.decoder_layers - 1,
        "dim_feedforward": config.dim_feedforward,
        "num_attention_heads": config.num_attention_heads,
        "num_queries": config.num_queries,
        "position_in_cell": 1.0,
        "class_weight": config.class_weight,
        "mask_weight": config.mask_weight,
        "dice_weight": config.dice_weight,
        "no_object_weight": config.no_object_weight,
        "train_num_points": config.train_num_points,
        "oversample_ratio": config.oversample_ratio,
        "importance_sample_ratio": config.importance_sample_ratio,
    }


def mask2former_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Mask2Former's weights [...] under our names."""
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith(NOT_MAPPED):
            continue
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        fused = FUSED.match(name)
        if fused:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[f"{fused[1]}.cross_attention.{part}.{fused[2]}"] = third
        else:
            renamed[name] = value
    finer = max((int(match[2]) for match in map(PYRAMID.match, renamed) if match), default=0)
    return {_pyramid_name(name, finer): value for name, value in renamed.items()}


def _pyramid_name(name: str, finer: int) -> str:
    """Theirs counts the pyramid's maps from the finest, from 1; ours from the coarsest, from 0."""
    match = PYRAMID.match(name)
    if not match:
        return name
    part = "laterals" if match[1] == "adapter" else "outputs"
    return f"pixel_decoder.{part}.{finer - int(match[2])}.{match[3]}"


def take_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> WarmStart:
    """Copy the weights [...] whose name and shape fit into the model, and say which did."""
    own = model.state_dict()
    fitting = {
        name: value
        for name, value in weights.items()
        if name in own and own[name].shape == value.shape
    }
    model.load_state_dict(fitting, strict=False)
    return WarmStart(
        taken=sorted(fitting),
        new=sorted(set(own) - set(fitting)),
        unused=sorted(set(weights) - set(fitting)),
    )


def checkpoint_config(name_or_path: str | Path, revision: str | None = None) -> PreTrainedConfig:
    """The config of a checkpoint, or of a file of EfficientNet-Lite weights, which has none.

    Raises:
        OSError: for a checkpoint that cannot be fetched.
    """
    size = lite_size(name_or_path)
    if size is not None:
        return published_config(size)
    settings, _ = PreTrainedConfig.get_config_dict(name_or_path, revision=revision)
    if settings.get("model_type") == EfficientNetLiteConfig.model_type:
        return EfficientNetLiteConfig.from_dict(settings)
    return AutoConfig.from_pretrained(name_or_path, revision=revision)


def backbone_settings(
    name_or_path: str | Path, revision: str | None, one_stride: Sequence[str]
) -> PreTrainedConfig:
    """The config of a checkpoint, as that of a backbone whose every stage gives a feature map.

    Of the architectures in `one_stride`, whose maps are all of one size, only the last stage does.

    Raises:
        ValueError: for a checkpoint that is no backbone.
    """
    config = checkpoint_config(name_or_path, revision)
    if isinstance(config, (MobileNetV2Config, EfficientNetLiteConfig)):
        return config
    if not isinstance(config, BackboneConfigMixin):
        raise ValueError(
            f"'{name_or_path}' is a '{config.model_type}' checkpoint, which is no backbone"
        )
    stages = [stage for stage in config.stage_names if stage != "stem"]
    config.out_features = stages[-1:] if config.model_type in one_stride else stages
    return config


def take_backbone(
    backbone: nn.Module, name_or_path: str | Path, revision: str | None = None
) -> WarmStart:
    """Copy the weights of any checkpoint of the backbone's architecture, with or without heads,
    into the backbone.

    Args:
        name_or_path: Hub id or folder; for EfficientNet-Lite also the name of a size, whose
            package is installed, or its file of weights.

    Raises:
        ImportError: for the name of a size whose package is not installed.
        OSError: for a checkpoint that cannot be fetched.
        ValueError: for one of another architecture or, of EfficientNet-Lite, another size.
    """
    own = cast(PreTrainedModel, backbone)
    found = checkpoint_config(name_or_path, revision)
    if found.model_type != own.config.model_type:
        raise ValueError(
            f"'{name_or_path}' is a '{found.model_type}' checkpoint, the model's backbone a "
            f"'{own.config.model_type}'"
        )
    if isinstance(found, EfficientNetLiteConfig):
        _check_size(found, own.config, str(name_or_path))
        if lite_size(name_or_path) is not None:
            return take_weights(own, lite_weights(name_or_path))
    # the class itself: AutoBackbone.from_pretrained reads no local folders
    pretrained, info = type(own).from_pretrained(
        name_or_path,
        config=own.config,
        revision=revision,
        use_safetensors=True,
        output_loading_info=True,
    )
    weights = {
        name: value
        for name, value in pretrained.state_dict().items()
        if name not in info["missing_keys"]
    }
    return take_weights(own, weights)


def _check_size(
    found: EfficientNetLiteConfig, own: EfficientNetLiteConfig, name_or_path: str
) -> None:
    """Raise ValueError for weights of another width or depth, of which some would fit."""
    for option in ("width_coefficient", "depth_coefficient"):
        theirs, ours = getattr(found, option), getattr(own, option)
        if theirs != ours:
            raise ValueError(
                f"'{name_or_path}' has {option} {theirs}, the model's `backbone_config` {ours}: "
                f"set it to {theirs}"
            )


class AlignedClassifier(NamedTuple):
    """A class embedding head (weight [D, d], bias [D]), a background embedding [D], and
    `WarmStart.explained`.
    """

    weight: Tensor
    bias: Tensor
    background: Tensor
    explained: float


def align_classifier(weight: Tensor, bias: Tensor, text_embeddings: Tensor) -> AlignedClassifier:
    """The head whose dot products with the text embeddings are nearest to a linear classifier's
    logits (our setting).

    Softmax does not see what is added to all logits, so both sides are centered over the classes;
    the head is then the least-squares solution of least norm. Where the embeddings of the names are
    independent the products are the logits. The cosine keeps their order, but divides by the class
    embedding's length: see `mean_length`.

    Args:
        weight, bias: [C + 1, d], [C + 1] of the linear classifier, last = background.
        text_embeddings: [C, D].
    """
    weight, bias, text = (
        weight.double(),
        bias.double(),
        F.normalize(text_embeddings.double(), dim=-1),
    )
    # unlike every name, those to come included
    background = -F.normalize(text.mean(0), dim=-1)
    names = torch.cat([text, background[None]])
    centered = names - names.mean(0)
    wanted = weight - weight.mean(0)
    solve = torch.linalg.pinv(centered)
    head, offset = solve @ wanted, solve @ (bias - bias.mean())
    missed = centered @ head - wanted
    explained = float(1 - missed.square().sum() / wanted.square().sum())
    return AlignedClassifier(head.float(), offset.float(), background.float(), explained)


@torch.no_grad()
def mean_length(model: nn.Module) -> float:
    """Mean length of the class embeddings on smooth noise, which is much that on images
    (`docs/warm_start.md`).

    As the factor of the cosine it gives back the length that the cosine takes away, in the mean.
    """
    coarse = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = F.interpolate(coarse, size=(256, 256), mode="bicubic", align_corners=False)
    return float(model(noise).class_embeddings.norm(dim=-1).mean())
