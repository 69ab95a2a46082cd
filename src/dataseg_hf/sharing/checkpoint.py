"""Checkpoints that carry their own code, so that they load without this package
(`trust_remote_code=True`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig
from transformers.utils import CONFIG_NAME, logging

from ..data.hub_names import hub_reference, is_missing_path, loading_failure
from ..data.readers.values import is_finite_number
from ..errors import ConfigError
from ..messages import first_few, shown
from ..model.checksums_dataseg import CHECKSUMS_FILE, damaged_files
from ..model.configuration_dataseg import DaTaSegConfig
from ..model.image_processing_dataseg import DaTaSegImageProcessor
from ..model.modeling_dataseg import DaTaSegModel
from ..model.shipped_code_dataseg import AUTO_MAP, CUSTOM_PIPELINES, PIPELINE_TASK

_LONGEST_REASON = 1000  # letters


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
    """A checkpoint and its processor, whole: with every tensor of the network and no other.

    Args:
        name_or_path: folder, or `org/name` or `org/name@revision` on the Hub.
        key: the option that names it, for messages.
        dtype: of the weights; by default as they were saved.

    Raises:
        ConfigError: for what is not there, cannot be read, is another kind of model, lacks weights,
            or has changed on the disk since it was saved.
    """
    fault = _fault_of_place(name_or_path)
    if fault:
        raise ConfigError(f"{key}: {name_or_path}{fault}")
    path, revision = hub_reference(name_or_path)
    options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    try:
        model, processor, report = _loaded(path, revision, options, key)
    except ConfigError:
        raise
    except SafetensorError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"{key}: {path}: the weights are damaged ({reason}); save or download them again"
        ) from error
    except (OSError, ValueError) as error:
        place = f"{path}: " if Path(path).exists() else ""
        raise ConfigError(f"{key}: {place}{_shortened(loading_failure(path, error))}") from error
    except Exception as error:  # whatever a config that was changed by hand leads to
        reason = _shortened(f"{type(error).__name__}: {error}")
        raise ConfigError(f"{key}: {path} cannot be loaded: {reason}") from error
    faults = _faults_of_weights(report) or damaged_files(Path(path))
    if faults:
        raise ConfigError(
            f"{key}: {path}: the weights are not those of this model: {first_few(faults, 3)}; save "
            f"or download them again{_if_meant(faults)}"
        )
    return model, processor


def _loaded(
    path: str, revision: str | None, options: Mapping[str, Any], key: str
) -> tuple[DaTaSegModel, DaTaSegImageProcessor, dict[str, Any]]:
    """Model and processor, and what transformers reports of the weights; its errors, whatever they
    are, and ConfigError for another kind of model.
    """
    config = AutoConfig.from_pretrained(path, revision=revision)
    if not isinstance(config, DaTaSegConfig):
        raise ConfigError(f"{key}: {path} is a '{config.model_type}' model, not DaTaSeg")
    with _without_progress():
        model, report = DaTaSegModel.from_pretrained(
            path,
            revision=revision,
            ignore_mismatched_sizes=True,  # the report names them
            output_loading_info=True,
            **options,
        )
    processor = DaTaSegImageProcessor.from_pretrained(path, revision=revision)
    check_processor(processor)
    return model, processor, report


@contextmanager
def _without_progress() -> Iterator[None]:
    """Without the bar of transformers, which is over in a moment."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def check_processor(processor: DaTaSegImageProcessor) -> None:
    """Refuse (ValueError) a processor that cannot prepare any image."""
    for name, least in (("image_mean", -math.inf), ("image_std", 0.0)):
        values = getattr(processor, name)
        numbers = isinstance(values, (list, tuple)) and len(values) == 3
        if not numbers or not all(is_finite_number(v) and v > least for v in values):
            raise ValueError(
                f"preprocessor_config.json: `{name}` must be three numbers"
                f"{'' if least else ' above 0'}, got {shown(values)}"
            )


def _faults_of_weights(report: Mapping[str, Any]) -> list[str]:
    """What is wrong with the tensors of a checkpoint, a text for each."""
    return [
        *(f"{name} is missing" for name in sorted(report["missing_keys"])),
        *(f"{name} is unknown" for name in sorted(report["unexpected_keys"])),
        *(
            f"{name} has the shape {list(stored)} instead of {list(wanted)}"
            for name, stored, wanted in sorted(report["mismatched_keys"])
        ),
    ]


def _if_meant(faults: Sequence[str]) -> str:
    changed = any(fault.endswith("is not what was saved") for fault in faults)
    return f", or delete {CHECKSUMS_FILE} there if they were changed on purpose" if changed else ""


def _shortened(reason: str) -> str:
    """A reason as one line of a message."""
    return " ".join(reason.split())[:_LONGEST_REASON]


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
