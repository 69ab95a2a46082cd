"""Entries of `datasets` that name a set which `dataseg complete` wrote."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from .paths import expand

ENTRY_FILE = "dataset.yaml"
"""In the folder of a completed set: the settings of its source."""


def with_completed(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, not checked yet, in which each entry with `completed` has the source that the
    folder states, except for keys that the entry has itself. An entry that says all of its source
    stays as it is, so that the settings of an earlier run do not need the folder.

    Raises:
        ConfigError: for a folder without a completed set.
    """
    datasets = settings.get("datasets")
    if not isinstance(datasets, Mapping):
        return settings
    return {**settings, "datasets": {name: _entry(datasets[name], name) for name in datasets}}


def _entry(entry: Any, name: str) -> Any:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("completed"), str):
        return entry
    options = entry.get("options") or {}
    if {"spec", "reader"} <= entry.keys() and "score_weights" in options:
        return entry  # pasted, or of an earlier run: it says all that the folder would
    key = f"datasets.{name}.completed"
    for stated in ("spec", "reader"):
        if stated in entry:
            raise ConfigError(
                f"datasets.{name}.{stated}: a completed set states its classes and its reader; "
                "leave it out, or `completed`"
            )
    folder = Path(expand(entry["completed"], key))
    file = folder / ENTRY_FILE
    try:
        (source,) = yaml.safe_load(file.read_text(encoding="utf-8"))["datasets"].values()
        found = _moved(source, folder.absolute())
    except (OSError, yaml.YAMLError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{key}: {file}: no entry of a completed set there ({type(error).__name__}); name the "
            "folder of a set, OUTPUT/NAME, that `dataseg complete` has finished"
        ) from error
    return {**found, **entry, "options": {**found.get("options", {}), **options}}


def _moved(source: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The source with its paths in a folder that was moved or copied since it was written; images
    that a second layer shares with the first lie beside it.
    """
    written = Path(source["completed"])
    found = dict(source)
    for key in ("images", "annotations", "annotation_file"):
        path = Path(source.get(key, written))
        for old, new in ((written, folder), (written.parent / "images", folder.parent / "images")):
            if key in source and path.is_relative_to(old):
                found[key] = str(new / path.relative_to(old))
                break
    return found


__all__ = ["ENTRY_FILE", "with_completed"]
