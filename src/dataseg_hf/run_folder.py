"""The folder of a run: checkpoints that are whole or not there, history, results."""

import csv
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from .run_config import ConfigError, RunConfig
from .sources import MixRow

HISTORY_FIELDS = (
    "step", "dataset", "loss", "loss_class", "loss_mask", "loss_dice", "loss_projection", "loss_color_affinity",
    "learning_rate", "gradient_norm", "unmatched_targets", "skipped_images", "seconds",
)  # fmt: skip

# settings that may differ between a run and its continuation
_FREE_SETTINGS = {"output_dir", "resume", "num_workers", "log_every", "checkpoint_every", "keep_checkpoints",
                  "evaluate_every", "num_pictures", "max_minutes", "check_samples"}  # fmt: skip


class RunFolder:
    """Paths and bookkeeping under `output_dir`; only the main process writes."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.results_file = self.path / "all_results.json"
        self.history_file = self.path / "history.csv"
        self.evaluations_file = self.path / "evaluations.jsonl"
        self.config_file = self.path / "run_config.yaml"
        self.pictures = self.path / "pictures"
        self.checkpoints = self.path / "checkpoints"

    # --- before training

    def set_aside(self) -> Path | None:
        """Move an earlier run away, so that a fresh start loses nothing; returns where it went."""
        if not self.path.exists() or not any(self.path.iterdir()):
            return None
        number = 1
        while (target := self.path.with_name(f"{self.path.name}.previous-{number}")).exists():
            number += 1
        self.path.rename(target)
        return target

    def write_config(self, config: RunConfig) -> None:
        """Save the resolved settings, from which the run can be repeated with `--config`."""
        self.path.mkdir(parents=True, exist_ok=True)
        settings = json.loads(json.dumps(asdict(config)))
        settings["resume"] = None
        self.config_file.write_text(yaml.safe_dump(settings, sort_keys=False))

    def write_mix(self, rows: Sequence[MixRow]) -> None:
        """Save the resolved mix: what is drawn how often."""
        text = json.dumps([asdict(row) for row in rows], indent=2) + "\n"
        (self.path / "mix.json").write_text(text)

    def check_same_run(self, config: RunConfig) -> None:
        """Refuse to continue a run with other settings: the result would be neither run's."""
        if not self.config_file.exists():
            return
        before = yaml.safe_load(self.config_file.read_text())
        now = json.loads(json.dumps(asdict(config)))
        changed = sorted(key for key in now if key not in _FREE_SETTINGS and before.get(key) != now[key])
        if changed:
            raise ConfigError(
                f"resume: {self.path} was started with other settings for {changed} "
                f"(see {self.config_file.name} there); keep them, or choose another output_dir"
            )

    # --- checkpoints

    def checkpoint(self, step: int) -> Path:
        """Folder of the checkpoint after `step` steps."""
        return self.checkpoints / f"step-{step:08d}"

    def complete_checkpoints(self) -> list[Path]:
        """Checkpoints that were written to the end, oldest first."""
        return sorted(path for path in self.checkpoints.glob("step-*") if (path / "progress.json").is_file())

    def find_checkpoint(self, resume: str) -> Path | None:
        """The checkpoint that `latest` or a path names; None where `latest` finds none."""
        if resume == "latest":
            complete = self.complete_checkpoints()
            return complete[-1] if complete else None
        path = Path(resume)
        if not (path / "progress.json").is_file():
            raise ConfigError(f"resume: '{resume}' is no complete checkpoint (it has no progress.json)")
        return path

    def begin_checkpoint(self, step: int) -> Path:
        """An empty folder beside the final one, to be filled and then passed to `finish_checkpoint`."""
        unfinished = self.checkpoint(step).with_name(f"unfinished-{step:08d}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        return unfinished

    def finish_checkpoint(self, unfinished: Path, progress: Mapping[str, Any], keep: int) -> Path:
        """Rename a filled checkpoint into place and drop all but the newest `keep`."""
        (unfinished / "progress.json").write_text(json.dumps(progress))
        final = self.checkpoint(progress["step"])
        shutil.rmtree(final, ignore_errors=True)
        unfinished.rename(final)
        for old in self.complete_checkpoints()[:-keep]:
            shutil.rmtree(old)
        return final

    # --- history and results

    def start_history(self, step: int) -> None:
        """Write the header, and keep the rows of the first `step` steps where a run continues."""
        rows = [row for row in self.read_history() if int(row["step"]) <= step]
        with self.history_file.open("w", newline="") as file:
            writer = csv.DictWriter(file, HISTORY_FIELDS)
            writer.writeheader()
            writer.writerows(rows)

    def append_history(self, rows: list[dict[str, Any]]) -> None:
        """Add one row per step."""
        with self.history_file.open("a", newline="") as file:
            csv.DictWriter(file, HISTORY_FIELDS).writerows(rows)

    def read_history(self) -> list[dict[str, str]]:
        """All rows, or none where there is no history yet."""
        if not self.history_file.exists():
            return []
        with self.history_file.open(newline="") as file:
            return list(csv.DictReader(file))

    def append_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a line of JSON with the metrics after `step` steps."""
        with self.evaluations_file.open("a") as file:
            file.write(json.dumps({"step": step, **_defined(metrics)}) + "\n")

    def finished_steps(self) -> int | None:
        """Steps of a run that ended and wrote its results, else None."""
        if not self.results_file.exists():
            return None
        return int(json.loads(self.results_file.read_text())["steps"])

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write `all_results.json`; a value that is not defined (not a number) is null."""
        self.results_file.write_text(json.dumps(_defined(results), indent=2) + "\n")


def _defined(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}
