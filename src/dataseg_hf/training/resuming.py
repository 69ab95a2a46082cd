"""Which settings may change when a run is resumed."""

from collections.abc import Mapping, Set
from typing import Any

from ..settings.base import Settings
from ..settings.entries import TrainEntry
from ..settings.errors import RENAMED
from ..settings.run import RunConfig

# They change no result, or, as max_steps and max_minutes, only the length of the run.
_FREE_SETTINGS = {
    "output_dir",
    "resume",
    "dry_run",
    "max_steps",
    "max_minutes",
    "num_workers",
    "num_threads",
    "torch_compile",
    "gradient_checkpointing",
    "gradient_accumulation_steps",
    "log_every",
    "report_to",
    "checkpoint_every",
    "keep_checkpoints",
    "on_save_error",
    "on_bad_sample",
    "check_samples",
    "evaluation",
    "evaluate_every",
    "best_metric",
    "num_pictures",
    "default_vocabulary",
    "push_to_hub",
    "hub_private",
    "hub_license",
}
# Where the files of a dataset are, and how they are held.
_FREE_OF_A_DATASET = {"images", "annotations", "annotation_file", "keep_in_memory"}


def changed_settings(before: Mapping[str, Any], config: RunConfig) -> list[str]:
    """Keys of the settings that affect results and differ.

    Args:
        before: settings of the run so far, as `Settings.as_plain` gives them.
    """
    now = config.as_plain()
    changed = _changed(before, now, _FREE_SETTINGS | {"datasets"}, RunConfig)
    if list(before["datasets"]) != list(now["datasets"]):
        return [*changed, "datasets"]
    for name, entry in now["datasets"].items():
        entry_before = _renamed(before["datasets"][name])
        keys = _changed(entry_before, entry, _FREE_OF_A_DATASET, TrainEntry)
        changed += [f"datasets.{name}.{key}" for key in keys]
    return changed


def _changed(
    before: Mapping[str, Any], now: Mapping[str, Any], free: Set[str], kind: type[Settings]
) -> list[str]:
    """Keys that differ. A setting that an earlier version did not know had its default then."""
    defaults = {
        name: None if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in kind.model_fields.items()
    }
    return sorted(
        key for key in now if key not in free and before.get(key, _plain(defaults[key])) != now[key]
    )


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an earlier version by their names of today, those of an own spec included."""
    return {
        RENAMED.get(key, key): _renamed(value)
        if key == "spec" and isinstance(value, dict)
        else value
        for key, value in settings.items()
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
