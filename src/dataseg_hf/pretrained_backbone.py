"""Pretrained weights for the backbone alone, as a run's settings name them."""

from .modeling_dataseg import DaTaSegModel
from .run_config import ConfigError
from .warm_start_dataseg import take_backbone


def load_pretrained_backbone(model: DaTaSegModel, name_or_path: str) -> None:
    """Copy the weights of a backbone checkpoint (Hub id or folder) into the model's backbone.

    Raises:
        ConfigError: for a checkpoint that is not there, or of another architecture.
    """
    try:
        take_backbone(model.pretrainable_backbone(), name_or_path)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"backbone_weights: cannot load '{name_or_path}': {' '.join(str(error).split())}") from error
