"""Paths in settings: which there are, and their environment variables expanded."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import ConfigError
from .entries import Source
from .run import RunConfig


def expand(path: str, key: str) -> str:
    """A path with its environment variables and `~` expanded.

    Raises:
        ConfigError: for a variable that is not set.
    """
    expanded = os.path.expanduser(os.path.expandvars(path))
    if "$" in expanded:
        raise ConfigError(
            f"{key}: '{path}' names an environment variable that is not set; set it, or write the "
            "path out"
        )
    return expanded


def run_reads(config: RunConfig, config_files: Sequence[str]) -> dict[str, str]:
    """Files and folders that a run reads, by the setting that names them."""
    sources: dict[str, Source] = {
        f"datasets.{name}": entry for name, entry in config.datasets.items()
    }
    sources |= {f"evaluation.{name}": entry for name, entry in config.evaluation.items()}
    models = {
        name: getattr(config, name)
        for name in ("model_weights", "backbone_weights", "mask2former_weights")
    }
    files = {f"--config ({number})": file for number, file in enumerate(config_files, start=1)}
    return {**files, **paths_read(sources, config.text_encoder, models)}


def paths_read(
    sources: Mapping[str, Source],
    text_encoder: Mapping[str, Any] | None,
    models: Mapping[str, str | None],
) -> dict[str, str]:
    """All that settings may name on this machine, expanded, by key.

    Args:
        sources: datasets, by key.
        text_encoder: settings of the text encoder.
        models: checkpoints, by key.
    """
    named: dict[str, Any] = {"text_encoder": text_encoder, **models}
    for key, source in sources.items():
        for name in ("images", "annotations", "annotation_file", "options"):
            named[f"{key}.{name}"] = getattr(source, name)
    return {key: os.path.expanduser(os.path.expandvars(text)) for key, text in _texts(named, "")}


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """All texts in nested settings, with their keys."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, Sequence):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{key}.{number}")
