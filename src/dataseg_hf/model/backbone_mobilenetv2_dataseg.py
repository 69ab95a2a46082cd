"""MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381) as a backbone, which transformers does
not offer itself.
"""

from torch import Tensor
from transformers import MobileNetV2Config, MobileNetV2Model, MobileNetV2PreTrainedModel
from transformers.modeling_outputs import BackboneOutput


class MobileNetV2Backbone(MobileNetV2PreTrainedModel):
    """Feature maps at strides 4, 8, 16 and 32: the outputs of the last inverted residual at each
    stride.

    At stride 32 that is the bottleneck of 320 channels, not the 1x1 convolution to 1280 channels
    after it, which serves the classifier and is no part of this module. Parameters are named as in
    `MobileNetV2Model`, so `from_pretrained` reads any transformers MobileNetV2 checkpoint. The
    config has no output features to choose, so this is no `BackboneMixin`: all four maps always
    come out.

    Attributes:
        channels: channels of the four maps, finest first; `[24, 32, 96, 320]` at depth multiplier
            1.

    Raises:
        ValueError: for an `output_stride` other than 32.
    """

    _keys_to_ignore_on_load_unexpected = [r"conv_1x1\.", r"^classifier\.", r"^segmentation_head\."]  # noqa: RUF012
    # of the 16 inverted residuals, the last one at each stride from 4 to 32
    _LAST_LAYERS = (1, 4, 11, 15)

    def __init__(self, config: MobileNetV2Config) -> None:
        super().__init__(config)
        if config.output_stride != 32:
            raise ValueError(
                f"backbone_config.output_stride must be 32, got {config.output_stride}"
            )
        whole = MobileNetV2Model(config, add_pooling_layer=False)
        self.conv_stem = whole.conv_stem
        self.layer = whole.layer
        self.channels: list[int] = [
            self.layer[i].reduce_1x1.convolution.out_channels for i in self._LAST_LAYERS
        ]
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
        return BackboneOutput(feature_maps=tuple(feature_maps))
