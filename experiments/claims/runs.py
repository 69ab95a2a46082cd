"""The runs of the experiments: `shapes.yaml` and `photos.yaml` read, and merged into settings."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

Settings: TypeAlias = dict[str, Any]

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
DROP = "<drop>"
"""In the place of a value: remove the key."""
FOLDERS = ("output_dir", "model_weights")
FORMER_NAMES = {"color_jitter": "colour_jitter"}
"""Settings that were renamed after results with them were recorded: {name today: name then}."""


@dataclass(frozen=True)
class Run:
    """One configuration, trained once per seed.

    Args:
        name: key in the YAML file, in the results and on the page.
        world: the file it is from, `shapes` or `photos`.
        base: settings that the runs of this file share.
        quick_steps: steps that stand for the base's `max_steps` in a quick run.
        keep: entries of `datasets` to keep; None keeps all.
        steps: optimizer steps; None takes the base's.
        changes: settings to merge into the base, one after the other.
        start: run whose final model this one starts from.
    """

    name: str
    world: str
    base: Settings
    quick_steps: int
    keep: Sequence[str] | None = None
    steps: int | None = None
    changes: Sequence[Settings] = ()
    start: str | None = None


def read_runs(world: str) -> dict[str, Run]:
    """All runs of `{world}.yaml` by name."""
    file = yaml.safe_load((HERE / f"{world}.yaml").read_text())
    shared = (world, file["base"], file["quick_steps"])
    return {name: Run(name, *shared, **entry) for name, entry in file["runs"].items()}


RUNS: dict[str, Run] = {**read_runs("shapes"), **read_runs("photos")}


def composed(
    run: Run, seed: int, output_dir: str, start: str | None = None, quick: bool = False
) -> Settings:
    """The settings of a run, as `examples/cotrain.py` reads them.

    `start` is the folder of the model that `run.start` left. With `quick` a run takes a few steps
    and images only, to try that all of it works.
    """
    settings = merged(run.base, {})
    if run.keep is not None:
        settings["datasets"] = {name: settings["datasets"][name] for name in run.keep}
    for changes in run.changes:
        settings = merged(settings, changes)
    steps = run.steps or settings["max_steps"]
    if quick:
        steps = max(1, round(steps * run.quick_steps / settings["max_steps"]))
        for entry in settings["evaluation"].values():
            entry["max_samples"] = 8
    settings |= {"seed": seed, "output_dir": output_dir, "max_steps": steps}
    if start is not None:
        settings |= {"model_weights": start, "model": {}}
    return settings


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Settings:
    """A copy of the base with the changes in it; mappings are merged key by key."""
    result = copy.deepcopy(dict(base))
    for key, value in changes.items():
        if value == DROP:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def digest(settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that change with any setting but the folders.

    Renamed settings count under their former name, so that a rename asks for no new training.
    """
    kept = {key: value for key, value in settings.items() if key not in FOLDERS}
    former = json.loads(json.dumps(kept), object_pairs_hook=_with_former_names)
    return hashlib.sha256(json.dumps(former, sort_keys=True).encode()).hexdigest()[:16]


def _with_former_names(pairs: list[tuple[str, Any]]) -> Settings:
    return {FORMER_NAMES.get(name, name): value for name, value in pairs}
