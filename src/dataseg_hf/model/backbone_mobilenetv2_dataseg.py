"""MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381) as a backbone, which transformers does
not offer itself.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import MobileNetV2Config, MobileNetV2Model, MobileNetV2PreTrainedModel
from transformers.modeling_outputs import BackboneOutput
from transformers.models.mobilenet_v2.modeling_mobilenet_v2 import MobileNetV2ConvLayer


class DeepLabHead(nn.Module):
    """The head of transformers' `MobileNetV2ForSemanticSegmentation` (DeepLabV3, Chen et al., 2017)
    but for its classifier: what each cell shows, joined with what the whole canvas does.

    Parameters are named as there, so that its checkpoints load.
    """

    channels = 256

    def __init__(self, config: MobileNetV2Config, width: int) -> None:
        """width: channels of the map that it sees."""
        super().__init__()

        def convolution(inputs: int) -> nn.Module:
            return MobileNetV2ConvLayer(
                config,
                in_channels=inputs,
                out_channels=self.channels,
                kernel_size=1,
                use_activation="relu",
                layer_norm_eps=1e-5,
            )

        self.conv_pool = convolution(width)
        self.conv_aspp = convolution(width)
        self.conv_projection = convolution(2 * self.channels)

    def forward(self, features: Tensor) -> Tensor:
        """[B, width, h, w] -> [B, 256, h, w]."""
        of_cells = self.conv_aspp(features)
        of_canvas = self.conv_pool(features.mean((2, 3), keepdim=True)).expand_as(of_cells)
        return cast(Tensor, self.conv_projection(torch.cat([of_canvas, of_cells], dim=1)))


class MobileNetV2Backbone(MobileNetV2PreTrainedModel):
    """Feature maps at strides 4, 8, 16 and 32: the outputs of the last inverted residual at each
    stride.

    At stride 32 that is the bottleneck of 320 channels, not the 1x1 convolution to 1280 channels
    after it, which serves the classifier and is no part of this module. Parameters are named as in
    `MobileNetV2Model`, so `from_pretrained` reads any transformers MobileNetV2 checkpoint. The
    config has no output features to choose, so this is no `BackboneMixin`: all four maps always
    come out. With `output_stride: 16`, as segmentation models are trained (DeepLab), the last
    blocks are dilated instead of strided, and the last two maps are both at stride 16. With
    `segmentation_head: true` (our option) the coarsest map is what such a model's head makes of
    it, see `DeepLabHead`. With `centered_maps: true` (our option) the maps of a network with
    TensorFlow's padding lie where the image does, see `centered`.

    Attributes:
        channels: channels of the four maps, finest first; `[24, 32, 96, 320]` at depth multiplier
            1.

    Raises:
        ValueError: for an `output_stride` other than 16 and 32, and for `centered_maps` without
            `tf_padding`.
    """

    _keys_to_ignore_on_load_unexpected = [r"conv_1x1\.", r"^classifier\.", r"^segmentation_head\."]  # noqa: RUF012
    # of the 16 inverted residuals, the last one at each stride from 4 to 32 of the plain network
    _LAST_LAYERS = (1, 4, 11, 15)

    def __init__(self, config: MobileNetV2Config) -> None:
        super().__init__(config)
        if config.output_stride not in (16, 32):
            raise ValueError(
                f"backbone_config.output_stride must be 16 or 32, got {config.output_stride}"
            )
        whole = MobileNetV2Model(config, add_pooling_layer=False)
        self.conv_stem = whole.conv_stem
        self.layer = whole.layer
        self.channels: list[int] = [
            self.layer[i].reduce_1x1.convolution.out_channels for i in self._LAST_LAYERS
        ]
        self.centered_maps = bool(getattr(config, "centered_maps", False))
        if self.centered_maps and not config.tf_padding:
            raise ValueError("backbone_config.centered_maps is for `tf_padding: true` alone")
        self.segmentation_head = None
        if getattr(config, "segmentation_head", False):
            self.segmentation_head = DeepLabHead(config, self.channels[-1])
            self.channels[-1] = self.segmentation_head.channels
        self.post_init()

    def forward(self, pixel_values: Tensor) -> BackboneOutput:
        """Feature maps [B, channels[i], H / stride, W / stride] (rounded up) of images [B, 3, H,
        W].
        """
        features = self.conv_stem(pixel_values)
        feature_maps = []
        for index, layer in enumerate(self.layer):
            features = layer(features)
            if index in self._LAST_LAYERS:
                feature_maps.append(features)
        if self.segmentation_head is not None:
            feature_maps[-1] = self.segmentation_head(feature_maps[-1])
        if self.centered_maps:
            feature_maps = [centered(x, pixel_values.shape[-2:]) for x in feature_maps]
        return BackboneOutput(feature_maps=tuple(feature_maps))


def centered(feature_map: Tensor, image_size: Sequence[int]) -> Tensor:
    """A map [B, C, h, w] moved back to where the image lies.

    TensorFlow pads a side of even length at its end alone, so that a cell of a strided convolution
    sees half a pixel too far to the bottom and the right; at stride 16 of a side of 512 pixels this
    is 7.5 pixels. Networks trained on odd sides, such as 513, do not know of it.

    Args:
        image_size: height and width, in pixels.
    """
    for axis, side in zip((-2, -1), image_size, strict=True):
        cells = feature_map.shape[axis]
        first, others = feature_map.narrow(axis, 0, 1), feature_map.narrow(axis, 0, cells - 1)
        before = torch.cat([first, others], dim=axis)
        feature_map = torch.lerp(feature_map, before, _offset(side, cells))
    return feature_map


def _offset(side: int, cells: int) -> float:
    """How far a cell's view lies behind the cell on an axis, in cells."""
    stride, pixels = 1, 0.0
    while side > cells:
        pixels += 0.0 if side % 2 else stride / 2
        side, stride = (side + 1) // 2, 2 * stride
    return pixels / stride
