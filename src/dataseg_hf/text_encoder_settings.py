"""The text encoder that the settings of a run describe, with paths expanded and names out of the catalog."""

from collections.abc import Mapping
from typing import Any

from .run_config import ConfigError, expand
from .sources import get_spec
from .text_embeddings_dataseg import TextEncoder, build_text_encoder


def configured_text_encoder(settings: Mapping[str, Any], key: str = "text_encoder") -> TextEncoder:
    """As `build_text_encoder`; a file may name its rows by a catalogued dataset (`names_of`).

    Raises:
        ConfigError: for settings that describe no encoder; `key` is where they stand.
    """
    resolved = dict(settings)
    if resolved.get("kind") == "file":
        resolved = _file_settings(resolved, key)
    elif resolved.get("kind") == "files":
        resolved["files"] = [
            _file_settings(file, f"{key}.files.{number}") for number, file in enumerate(resolved["files"])
        ]
    try:
        return build_text_encoder(resolved)
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(f"{key}: {error}") from error


def _file_settings(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    resolved = dict(settings)
    if "names_of" in resolved:
        resolved["names"] = get_spec(resolved.pop("names_of"), f"{key}.names_of").labels
    for option in ("path", "names"):
        if isinstance(resolved.get(option), str):
            resolved[option] = expand(resolved[option], f"{key}.{option}")
    return resolved
