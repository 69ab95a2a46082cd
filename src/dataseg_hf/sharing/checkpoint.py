"""Checkpoints that carry their own code, so that they load without this package
(`trust_remote_code=True`).
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig
from transformers.utils import CONFIG_NAME

from ..data.hub_names import hub_reference, is_missing_path, loading_failure
from ..errors import ConfigError
from ..model.configuration_dataseg import DaTaSegConfig
from ..model.image_processing_dataseg import DaTaSegImageProcessor
from ..model.modeling_dataseg import DaTaSegModel
from ..model.shipped_code_dataseg import AUTO_MAP, CUSTOM_PIPELINES, PIPELINE_TASK


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
        state_dict: the weights by name, in the shapes [...] of the model's own, where a wrapper
            spreads them over processes; by default the model's own.
    """
    model.save_pretrained(folder, state_dict=state_dict)
    processor.save_pretrained(folder)


def load_checkpoint(
    name_or_path: str, key: str = "--model", dtype: torch.dtype | None = None
) -> tuple[DaTaSegModel, DaTaSegImageProcessor]:
    """A checkpoint and its processor.

    Args:
        name_or_path: folder, or `org/name` or `org/name@revision` on the Hub.
        key: the option that names it, for messages.
        dtype: of the weights; by default as they were saved.

    Raises:
        ConfigError: for what is not there, cannot be read, or is another kind of model.
    """
    fault = _fault_of_place(name_or_path)
    if fault:
        raise ConfigError(f"{key}: {name_or_path}{fault}")
    path, revision = hub_reference(name_or_path)
    options: dict[str, Any] = (
        {"revision": revision} if dtype is None else {"revision": revision, "dtype": dtype}
    )
    try:
        config = AutoConfig.from_pretrained(path, revision=revision)
        if not isinstance(config, DaTaSegConfig):
            raise ConfigError(
                f"{key}: {name_or_path} is a '{config.model_type}' model, not DaTaSeg"
            )
        model = DaTaSegModel.from_pretrained(path, **options)
        return model, DaTaSegImageProcessor.from_pretrained(path, revision=revision)
    except ConfigError:
        raise
    except (pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"{key}: {path}: the weights are damaged ({reason}); save or download them again"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{key}: {loading_failure(path, error)}") from error


def _fault_of_place(name_or_path: str) -> str:
    """Why no checkpoint of that name can be loaded, as far as this machine can tell without asking
    the Hub; empty if it can.
    """
    place = Path(name_or_path)
    if place.is_file():
        return " is a file; name its folder"
    if place.is_dir():
        found = (place / CONFIG_NAME).is_file()
        return "" if found else f": no model in it yet (no {CONFIG_NAME}); was the run finished?"
    owner, slash, _ = name_or_path.rpartition("/")
    # models on the Hub have an owner
    if is_missing_path(name_or_path) or not slash:
        return ": no such folder; check the path"
    if "@" not in name_or_path and Path(owner).is_dir():
        return (
            f": no such folder in '{owner}'; check the path, or write {name_or_path}@main to ask "
            "the Hub"
        )
    return ""


__all__ = ["AUTO_MAP", "CUSTOM_PIPELINES", "PIPELINE_TASK", "load_checkpoint", "save_checkpoint"]
