"""Backbones: a pyramid for those of one stride, saving and loading of each, pretrained weights of
one alone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    BertConfig,
    Dinov2ForImageClassification,
    PreTrainedModel,
    ResNetForImageClassification,
    SwinForImageClassification,
)

from dataseg_hf.model.feature_pyramid_dataseg import FeaturePyramid
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from helpers.tiny_backbones import BACKBONES, SINGLE_SCALE, backbone

ModelFactory = Callable[..., DaTaSegModel]
LabelFactory = Callable[..., dict[str, Tensor]]


# --- single-scale backbones -----------------------------------------------------------------------


@pytest.mark.parametrize("pixel_decoder", ["fpn", "deformable"])
@pytest.mark.parametrize("kind", SINGLE_SCALE)
def test_plain_transformers_train_on_a_pyramid(
    kind: str, pixel_decoder: str, tiny_model: ModelFactory, scene_labels: LabelFactory
) -> None:
    model = tiny_model(backbone_config=backbone(kind), pixel_decoder=pixel_decoder).train()
    size = (2 * 28, 3 * 28) if BACKBONES[kind]["patch_size"] == 14 else (64, 96)
    labels = [scene_labels("panoptic", size, (2, 0, 0, 56, 50), (0, 8, 8, 30, 40))]
    output = model(torch.randn(1, 3, *size), labels=labels, task="panoptic")
    output.loss.backward()
    assert output.masks_queries_logits.shape[-2:] == (16, 24)  # 4 cells per patch and side
    assert torch.isfinite(output.loss)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trainable.items() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in trainable.values())


def test_the_maps_of_a_pyramid_nest(tiny_model: ModelFactory) -> None:
    pyramid = tiny_model(backbone_config=backbone("dinov3_vit")).backbone
    assert isinstance(pyramid, FeaturePyramid)
    with torch.no_grad():
        maps = pyramid(torch.randn(1, 3, 64, 96)).feature_maps
    assert [tuple(x.shape) for x in maps] == [
        (1, 4, 16, 24),
        (1, 8, 8, 12),
        (1, 16, 4, 6),
        (1, 16, 2, 3),
    ]
    assert pyramid.channels == [x.shape[1] for x in maps]


@pytest.mark.parametrize("kind", ["dinov2", "vitdet"])
def test_a_canvas_between_strides_is_covered_to_its_edge(
    kind: str, tiny_model: ModelFactory
) -> None:
    """The last cells change with the last pixels, which a patch that does not fit would drop."""
    pyramid = tiny_model(backbone_config=backbone(kind)).backbone
    images = torch.randn(1, 3, 70, 90)
    changed = images.clone()
    changed[..., -3:, -3:] += 5
    with torch.no_grad():
        before, after = pyramid(images).feature_maps[2], pyramid(changed).feature_maps[2]
    difference = (after - before).abs().amax(1)[0]
    assert difference[-1, -1] > 1e-3


def test_several_stages_of_one_stride_are_refused(tiny_model: ModelFactory) -> None:
    config = {**backbone("dinov2"), "out_features": ["stage1", "stage2"]}
    with pytest.raises(
        ValueError, match="all stages of a 'dinov2' have one stride: name one of them"
    ):
        tiny_model(backbone_config=config)


# --- saving and loading ---------------------------------------------------------------------------


def values(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are not saved as well."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("kind", sorted(BACKBONES))
def test_loading_restores_every_parameter_and_buffer(
    kind: str, tiny_model: ModelFactory, tmp_path: Path
) -> None:
    model = tiny_model(backbone_config=backbone(kind))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter))
    model.save_pretrained(tmp_path)
    loaded, info = DaTaSegModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    expected, found = values(model), values(loaded)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert not found[name].is_meta, name


# --- pretrained backbones -------------------------------------------------------------------------

CLASSIFIERS = {
    "swin": SwinForImageClassification,
    "resnet": ResNetForImageClassification,
    "dinov2": Dinov2ForImageClassification,
}


def save_classifier(kind: str, folder: Path) -> PreTrainedModel:
    settings = {key: value for key, value in backbone(kind).items() if key != "out_features"}
    model = CLASSIFIERS[kind](AutoConfig.for_model(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 2)
    model.save_pretrained(folder)
    return model


SMALL: dict[str, Any] = {
    "hidden_dim": 32,
    "mask_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 3,
    "num_queries": 4,
    "num_attention_heads": 2,
}


@pytest.mark.parametrize("kind", sorted(CLASSIFIERS))
def test_a_classifiers_backbone_is_taken(kind: str, tmp_path: Path) -> None:
    theirs = save_classifier(kind, tmp_path)
    model, report = DaTaSegModel.from_backbone(tmp_path, output_loading_info=True, **SMALL)
    own = model.pretrainable_backbone().state_dict()
    # the norms of the feature maps, which no classifier has
    assert {name.split(".")[0] for name in report.new} <= {"hidden_states_norms"}
    assert len(report.taken) > 10
    values = [
        value
        for name, value in theirs.state_dict().items()
        if value.dim() > 1 and "classifier" not in name
    ]
    taken = [value for name, value in own.items() if value.dim() > 1]
    assert sorted(float(v.sum()) for v in values) == pytest.approx(
        sorted(float(v.sum()) for v in taken)
    )
    assert len(model.backbone.channels) == 4


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    save_classifier("resnet", tmp_path)
    with pytest.raises(ValueError, match="is a 'resnet' checkpoint, the model's backbone a 'swin'"):
        DaTaSegModel.from_backbone(tmp_path, backbone_config=backbone("swin"), **SMALL)


def test_what_is_no_backbone_is_refused(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a 'bert' checkpoint, which is no backbone"):
        DaTaSegModel.from_backbone(tmp_path)
