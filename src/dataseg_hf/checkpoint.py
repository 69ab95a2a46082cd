"""Checkpoints that carry their own code, so that they load without this package (`trust_remote_code=True`)."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .image_processing_dataseg import DaTaSegImageProcessor
from .modeling_dataseg import DaTaSegModel
from .shipped_code_dataseg import AUTO_MAP, CUSTOM_PIPELINES, PIPELINE_TASK


def save_checkpoint(
    model: DaTaSegModel,
    processor: DaTaSegImageProcessor,
    folder: str | Path,
    state_dict: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights (safetensors), config, processor and all code that loads them into a folder.

    The same as `save_pretrained` of both.

    Args:
        model: the bare model, without wrappers of a training framework.
        processor: with the image size of the model's default vocabulary.
        folder: made if missing.
        state_dict: the weights, where a wrapper spreads them over processes; by default the model's own.
    """
    model.save_pretrained(folder, state_dict=state_dict)
    processor.save_pretrained(folder)


__all__ = ["AUTO_MAP", "CUSTOM_PIPELINES", "PIPELINE_TASK", "save_checkpoint"]
