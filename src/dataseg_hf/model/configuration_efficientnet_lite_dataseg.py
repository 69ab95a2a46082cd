"""Settings of an EfficientNet-Lite, and the five sizes that were published."""

from typing import NamedTuple

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class EfficientNetLiteConfig(PreTrainedConfig):
    """Configuration of `EfficientNetLiteBackbone`; the defaults are Lite0.

    Args:
        width_coefficient (`float`, defaults to 1.0): Factor of the channels of all stages; the
            stem is not scaled.
        depth_coefficient (`float`, defaults to 1.0): Factor of the number of blocks per stage,
            rounded up; the first and the last stage are not scaled.
    """

    model_type = "efficientnet_lite"

    width_coefficient: float | int = 1.0
    depth_coefficient: float | int = 1.0

    def validate_coefficients(self) -> None:
        """Refuse coefficients that no network can have.

        Raises:
            ValueError: names the option.
        """
        for name in ("width_coefficient", "depth_coefficient"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}")


class Coefficients(NamedTuple):
    """Width and depth of one published size, relative to Lite0."""

    width: float
    depth: float


SIZES = {
    "efficientnet-lite0": Coefficients(1.0, 1.0),
    "efficientnet-lite1": Coefficients(1.0, 1.1),
    "efficientnet-lite2": Coefficients(1.1, 1.2),
    "efficientnet-lite3": Coefficients(1.2, 1.4),
    "efficientnet-lite4": Coefficients(1.4, 1.8),
}
# the published weights read (pixel - 127) / 128; ours are means and deviations of pixels in 0..1
IMAGE_MEAN = (127 / 255, 127 / 255, 127 / 255)
IMAGE_STD = (128 / 255, 128 / 255, 128 / 255)


def published_config(size: str) -> EfficientNetLiteConfig:
    """The config of one of SIZES."""
    width, depth = SIZES[size]
    return EfficientNetLiteConfig(width_coefficient=width, depth_coefficient=depth)
