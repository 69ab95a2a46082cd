"""Pretrained weights for the backbone alone."""

from transformers import AutoBackbone, AutoConfig, MobileNetV2Config

from .backbone_mobilenetv2_dataseg import MobileNetV2Backbone
from .modeling_dataseg import DaTaSegModel
from .run_config import ConfigError


def load_pretrained_backbone(model: DaTaSegModel, name_or_path: str) -> None:
    """Copy the weights of a backbone checkpoint (Hub id or folder) into the model's backbone.

    Raises:
        ConfigError: for a checkpoint that is not there, or of another architecture.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path)
        if isinstance(config, MobileNetV2Config):
            pretrained = MobileNetV2Backbone.from_pretrained(name_or_path)
        else:
            # AutoBackbone.from_pretrained does not read local folders; the concrete class does
            concrete = type(AutoBackbone.from_config(model.config.backbone_config))
            pretrained = concrete.from_pretrained(name_or_path, config=model.config.backbone_config)
        model.backbone.load_state_dict(pretrained.state_dict())
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"backbone_weights: cannot load '{name_or_path}': {' '.join(str(error).split())}") from error
