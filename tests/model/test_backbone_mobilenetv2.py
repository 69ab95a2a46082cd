"""MobileNetV2 backbone against transformers' own model, inside a saved and loaded parent, and with
real weights.
"""

import importlib.util
import json
import math
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2Model,
    PreTrainedModel,
)
from transformers.models.mobilenet_v2.modeling_mobilenet_v2 import apply_tf_padding

from dataseg_hf.model.backbone_mobilenetv2_dataseg import MobileNetV2Backbone, centered
from helpers.paths import ROOT

LAST_LAYERS = (1, 4, 11, 15)


def tiny_config(**options: object) -> MobileNetV2Config:
    return MobileNetV2Config(depth_multiplier=0.25, **options)


def randomize(model: nn.Module) -> None:
    """Weights and batch-norm statistics that are not what a fresh model has."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator) * 0.1
            tensor.copy_(
                noise.abs() + 1 if name.endswith(("running_var", "normalization.weight")) else noise
            )


class Parent(PreTrainedModel):
    """A model that holds the backbone as DaTaSeg does."""

    config_class = MobileNetV2Config
    main_input_name = "pixel_values"

    def __init__(self, config: MobileNetV2Config) -> None:
        super().__init__(config)
        self.backbone = MobileNetV2Backbone(config)
        self.head = nn.Conv2d(self.backbone.channels[-1], 2, 1)
        self.post_init()

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.head(self.backbone(pixel_values).feature_maps[-1])


@pytest.mark.parametrize("tf_padding", [True, False])
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
@pytest.mark.parametrize("coarsest", [16, 32])
def test_maps_are_hidden_states_of_the_whole_model(
    tf_padding: bool, size: tuple[int, int], coarsest: int
) -> None:
    whole = MobileNetV2Model(tiny_config(tf_padding=tf_padding, output_stride=coarsest)).eval()
    randomize(whole)
    backbone = MobileNetV2Backbone(whole.config).eval()
    left_out = backbone.load_state_dict(whole.state_dict(), strict=False)
    assert left_out.missing_keys == []
    assert all(key.startswith("conv_1x1.") for key in left_out.unexpected_keys)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        maps = backbone(images).feature_maps
        hidden = whole(images, output_hidden_states=True).hidden_states
    assert len(maps) == 4
    for stride, channels, feature_map, index in zip(
        (4, 8, 16, coarsest), backbone.channels, maps, LAST_LAYERS, strict=True
    ):
        assert feature_map.shape == (
            2,
            channels,
            math.ceil(size[0] / stride),
            math.ceil(size[1] / stride),
        )
        assert torch.equal(feature_map, hidden[index])


def test_channels_are_those_of_the_paper() -> None:
    # table 2 of arXiv 1801.04381
    assert MobileNetV2Backbone(MobileNetV2Config()).channels == [24, 32, 96, 320]


def test_every_parameter_takes_part_in_the_maps() -> None:
    backbone = MobileNetV2Backbone(tiny_config())
    sum(
        feature_map.sum() for feature_map in backbone(torch.randn(2, 3, 64, 64)).feature_maps
    ).backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []


def test_another_output_stride_is_refused() -> None:
    with pytest.raises(ValueError, match=r"output_stride must be 16 or 32, got 8"):
        MobileNetV2Backbone(tiny_config(output_stride=8))


def test_a_parent_saves_and_loads_with_equal_outputs(tmp_path: Path) -> None:
    parent = Parent(tiny_config()).eval()
    randomize(parent)
    parent.save_pretrained(tmp_path)
    loaded, info = Parent.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert "backbone.layer.0.conv_3x3.convolution.weight" in loaded.state_dict()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), parent(images))


def test_a_parent_loaded_without_backbone_weights_is_initialized(tmp_path: Path) -> None:
    parent = Parent(tiny_config())
    head = {key: value for key, value in parent.state_dict().items() if key.startswith("head.")}
    parent.save_pretrained(tmp_path, state_dict=head)
    backbone = Parent.from_pretrained(tmp_path).backbone
    state = backbone.state_dict()
    for ending, value in {
        "weight": 1,
        "bias": 0,
        "running_mean": 0,
        "running_var": 1,
        "num_batches_tracked": 0,
    }.items():
        tensors = [
            tensor for key, tensor in state.items() if key.endswith(f"normalization.{ending}")
        ]
        assert len(tensors) == 51
        assert all(bool((tensor == value).all()) for tensor in tensors)
    weights = torch.cat(
        [p.flatten() for n, p in backbone.named_parameters() if n.endswith("convolution.weight")]
    )
    assert float(weights.detach().std()) == pytest.approx(
        backbone.config.initializer_range, rel=0.05
    )


@pytest.mark.parametrize("whole_class", [MobileNetV2Model, MobileNetV2ForImageClassification])
def test_any_mobilenet_checkpoint_is_read(
    tmp_path: Path, whole_class: type[PreTrainedModel]
) -> None:
    whole = whole_class(tiny_config())
    randomize(whole)
    whole.save_pretrained(tmp_path)
    backbone, info = MobileNetV2Backbone.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    expected = whole.base_model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in backbone.state_dict().items())


# The converter, with the real ImageNet weights


@pytest.fixture(scope="module")
def converter() -> ModuleType:
    path = ROOT / "benchmarks" / "photos" / "convert_mobilenet_v2.py"
    spec = importlib.util.spec_from_file_location("convert_mobilenet_v2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data() -> Path:
    if "DATASEG_DATA" not in os.environ:
        pytest.skip("DATASEG_DATA is not set")
    return Path(os.environ["DATASEG_DATA"])


@pytest.fixture(scope="module")
def arrays(data: Path) -> dict[str, np.ndarray]:
    with np.load(data / "backbone_mobilenet_v2" / "mobilenet_v2_1.0_224_uint8_weights.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def classifier(
    converter: ModuleType, data: Path, arrays: dict[str, np.ndarray]
) -> MobileNetV2ForImageClassification:
    names = (
        (data / "backbone_mobilenet_v2" / "imagenet_labels.txt")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    return converter.build_classifier(arrays, names)


def photo(data: Path, name: str) -> Path:
    return data / "coco128" / "images" / f"{name}.jpg"


def coco_categories(data: Path, name: str) -> set[str]:
    """Names of COCO's categories annotated in a photograph."""
    split, stem = name.split("/")
    content = json.loads((data / "coco128" / "panoptic" / f"panoptic_{split}.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    annotation = next(a for a in content["annotations"] if a["image_id"] == int(stem))
    return {names[segment["category_id"]] for segment in annotation["segments_info"]}


@pytest.mark.parametrize(
    ("name", "category", "label"),
    [
        ("train2017/000000000034", "zebra", "zebra"),
        ("train2017/000000000312", "elephant", "African elephant, Loxodonta africana"),
        ("train2017/000000000397", "pizza", "pizza, pizza pie"),
        ("train2017/000000000471", "bus", "school bus"),
        ("train2017/000000000510", "bench", "park bench"),
        ("train2017/000000000036", "umbrella", "umbrella"),
        ("val2017/000000000285", "bear", "brown bear, bruin, Ursus arctos"),
        ("val2017/000000000776", "teddy bear", "teddy, teddy bear"),
        ("val2017/000000001675", "keyboard", "computer keyboard, keypad"),
        ("val2017/000000003661", "banana", "banana"),
    ],
)
def test_photographs_get_their_imagenet_label(
    converter: ModuleType,
    data: Path,
    classifier: MobileNetV2ForImageClassification,
    name: str,
    category: str,
    label: str,
) -> None:
    assert category in coco_categories(data, name)
    labels = [found for found, _ in converter.top_labels(classifier, photo(data, name))]
    assert label in labels


def plain_maps(arrays: dict[str, np.ndarray], images: Tensor) -> list[Tensor]:
    """The network of table 2 (arXiv 1801.04381) without batch norm, for sides divisible by 32: its
    four maps.
    """
    index = 0

    def convolve(x: Tensor, stride: int = 1, relu6: bool = True) -> Tensor:
        nonlocal index
        q, scale, zero, bias = (
            torch.from_numpy(arrays[f"{index:02d}.{key}"]) for key in ("q", "scale", "zero", "bias")
        )
        weight = (q.float() - zero.float()) * scale
        if weight.shape[-1] == 3:
            # "SAME": the odd row goes to the bottom right
            x = F.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
        x = F.conv2d(x, weight, bias, stride, groups=x.shape[1] if weight.shape[1] == 1 else 1)
        index += 1
        return x.clamp(0, 6) if relu6 else x

    x = convolve(convolve(convolve(images, 2)), relu6=False)
    maps = []
    for channels, repeats, first_stride in (
        (24, 2, 2),
        (32, 3, 2),
        (64, 4, 2),
        (96, 3, 1),
        (160, 3, 2),
        (320, 1, 1),
    ):
        for repeat in range(repeats):
            y = convolve(convolve(convolve(x), first_stride if repeat == 0 else 1), relu6=False)
            x = x + y if repeat else y
        assert x.shape[1] == channels
        maps.append(x)
    return [maps[0], maps[1], maps[3], maps[5]]


def test_converted_backbone_equals_the_network_of_the_paper(
    converter: ModuleType,
    data: Path,
    arrays: dict[str, np.ndarray],
    classifier: MobileNetV2ForImageClassification,
    tmp_path: Path,
) -> None:
    converter.build_backbone(classifier).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    backbone = MobileNetV2Backbone.from_pretrained(tmp_path).eval()
    image = converter.read_photo(photo(data, "train2017/000000000034"))
    with torch.no_grad():
        maps = backbone(image).feature_maps
        hidden = classifier(image, output_hidden_states=True).hidden_states
        plain = plain_maps(arrays, image)
    for feature_map, index, expected in zip(maps, LAST_LAYERS, plain, strict=True):
        assert torch.equal(feature_map, hidden[index])
        torch.testing.assert_close(feature_map, expected, atol=1e-3, rtol=1e-4)


def test_a_wrong_array_file_is_refused(
    converter: ModuleType, arrays: dict[str, np.ndarray]
) -> None:
    with pytest.raises(
        ValueError,
        match=r"convolution 03: \[96, 16, 1, 2\] in the file, \[96, 16, 1, 1\] in the network",
    ):
        converter.build_classifier(arrays | {"03.q": np.zeros((96, 16, 1, 2), dtype=np.uint8)})
    with pytest.raises(ValueError, match="4 arrays for each of 53 convolutions, got 208 arrays"):
        converter.build_classifier(
            {key: value for key, value in arrays.items() if not key.startswith("52")}
        )


# --- centered maps --------------------------------------------------------------------------------


def views_of_a_ramp(side: int, halvings: int) -> Tensor:
    """Where the cells of strided convolutions with TensorFlow's padding look, in pixels: each takes
    the mean of 3 x 3 values of an image whose values are the column's center.
    """
    mean = nn.Conv2d(1, 1, 3, stride=2, bias=False)
    nn.init.constant_(mean.weight, 1 / 9)
    values = (torch.arange(side) + 0.5).expand(1, 1, side, side)
    with torch.no_grad():
        for _ in range(halvings):
            values = mean(apply_tf_padding(values, mean))
    return values


@pytest.mark.parametrize("halvings", [2, 3, 4])
def test_centered_maps_lie_where_the_image_does(halvings: int) -> None:
    side, stride = 256, 2**halvings
    views = views_of_a_ramp(side, halvings)
    inner = slice(3, -3)  # where no padding is seen
    cells = torch.arange(side // stride)[inner]
    moved = centered(views, (side, side))[0, 0, inner, inner]
    expected = ((cells + 0.5) * stride).expand_as(moved)
    torch.testing.assert_close(moved, expected, atol=1e-3, rtol=0)
    late = views[0, 0, inner, inner] - moved
    torch.testing.assert_close(late, torch.full_like(late, (stride - 1) / 2), atol=1e-3, rtol=0)


def test_maps_of_odd_sides_stay() -> None:
    feature_map = torch.randn(1, 2, 33, 33)
    assert torch.equal(centered(feature_map, (513, 513)), feature_map)


def test_a_centered_network_moves_all_its_maps() -> None:
    options = {"tf_padding": True, "output_stride": 16}
    plain = MobileNetV2Backbone(tiny_config(**options)).eval()
    moved = MobileNetV2Backbone(tiny_config(**options, centered_maps=True)).eval()
    moved.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps, others = plain(images).feature_maps, moved(images).feature_maps
    for feature_map, other in zip(maps, others, strict=True):
        assert torch.equal(other, centered(feature_map, (64, 64)))
        assert not torch.equal(other, feature_map)


def test_centered_maps_need_the_padding_that_moves_them() -> None:
    with pytest.raises(ValueError, match="for `tf_padding: true` alone"):
        MobileNetV2Backbone(tiny_config(tf_padding=False, centered_maps=True))
