"""EfficientNet-Lite (Tan and Le, ICML 2019, arXiv 1905.11946; Lite: no squeeze-and-excitation,
ReLU6) as a backbone, which transformers does not offer.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BackboneOutput

from .configuration_efficientnet_lite_dataseg import EfficientNetLiteConfig

STEM_CHANNELS = 32
NORM_EPS = 1e-3
CHANNEL_STEP = 8  # channels are rounded to multiples of it


class Stage(NamedTuple):
    """Blocks of one width, before scaling. The first block has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
LAST_STAGES = (1, 2, 4, 6)  # at strides 4, 8, 16 and 32


class SameConv2d(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow's "SAME": at stride 2 and an even size the
    padding is one less on top and left.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=kernel // 2 if stride == 1 else 0,
            groups=groups,
            bias=False,
        )

    def forward(self, input: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H / stride, W / stride], rounded up."""
        if self.stride[0] == 2:
            after = self.kernel_size[0] // 2
            top, left = (after - 1 + side % 2 for side in input.shape[-2:])
            input = F.pad(input, (left, after, top, after))
        return super().forward(input)


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless it is linear, ReLU6."""

    def __init__(self, convolution: SameConv2d, linear: bool = False) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = nn.BatchNorm2d(convolution.out_channels, eps=NORM_EPS, momentum=0.01)
        self.linear = linear

    def forward(self, features: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H / stride, W / stride], rounded up."""
        features = self.norm(self.convolution(features))
        return features if self.linear else F.relu6(features, inplace=True)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection; with the input added where the
    shapes agree.
    """

    def __init__(self, in_channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner, out = in_channels * stage.expansion, stage.channels
        self.expand: nn.Module = nn.Identity()
        if stage.expansion > 1:
            self.expand = ConvNorm(SameConv2d(in_channels, inner, 1))
        self.depthwise = ConvNorm(SameConv2d(inner, inner, stage.kernel, stride, inner))
        self.project = ConvNorm(SameConv2d(inner, out, 1), linear=True)
        self.adds_input = stride == 1 and in_channels == out

    def forward(self, features: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, channels, H / stride, W / stride], rounded up."""
        projected = self.project(self.depthwise(self.expand(features)))
        return projected + features if self.adds_input else projected


class EfficientNetLiteBackbone(PreTrainedModel):
    """Feature maps at strides 4, 8, 16 and 32: the outputs of the last block at each stride.

    At stride 32 that is the projection to 320 channels (of Lite0), not the 1x1 convolution to 1280
    after it, which serves the classifier. All four maps always come out. Maps are channels last,
    with which forward and backward take less time on a CPU.

    Attributes:
        channels: channels of the four maps, finest first; `[24, 40, 112, 320]` for Lite0.
    """

    config: EfficientNetLiteConfig
    config_class = EfficientNetLiteConfig
    base_model_prefix = "efficientnet_lite"
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        stages = scaled_stages(config)
        self.stem = ConvNorm(SameConv2d(3, STEM_CHANNELS, 3, stride=2))
        self.blocks = nn.ModuleList(_blocks(stages))
        ends = [sum(stage.blocks for stage in stages[: i + 1]) - 1 for i in LAST_STAGES]
        self.last_blocks = tuple(ends)
        self.channels: list[int] = [stages[i].channels for i in LAST_STAGES]
        self.post_init()

    def forward(self, pixel_values: Tensor) -> BackboneOutput:
        """Feature maps [B, channels[i], H / stride, W / stride] (rounded up) of images [B, 3, H,
        W].
        """
        features = self.stem(pixel_values.contiguous(memory_format=torch.channels_last))
        feature_maps = []
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in self.last_blocks:
                feature_maps.append(features)
        return BackboneOutput(feature_maps=tuple(feature_maps))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            # frozen batch norms do not rescale: a fixed deviation would let the features vanish
            fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
            init.normal_(module.weight, std=math.sqrt(2 / fan_out))


def scaled_stages(config: EfficientNetLiteConfig) -> list[Stage]:
    """The stages of a network with the config's width and depth."""
    fixed = (0, len(STAGES) - 1)
    return [
        stage._replace(
            channels=_scaled_channels(stage.channels, config.width_coefficient),
            blocks=stage.blocks
            if i in fixed
            else math.ceil(stage.blocks * config.depth_coefficient),
        )
        for i, stage in enumerate(STAGES)
    ]


def _scaled_channels(channels: int, factor: float) -> int:
    """The nearest multiple of CHANNEL_STEP, or the next one where that loses more than 10 %."""
    wanted = channels * factor
    nearest = max(CHANNEL_STEP, int(wanted + CHANNEL_STEP / 2) // CHANNEL_STEP * CHANNEL_STEP)
    return nearest + CHANNEL_STEP if nearest < 0.9 * wanted else nearest


def _blocks(stages: list[Stage]) -> Iterator[InvertedResidual]:
    channels = STEM_CHANNELS
    for stage in stages:
        for number in range(stage.blocks):
            yield InvertedResidual(channels, stage, stage.stride if number == 0 else 1)
            channels = stage.channels
