"""The folder of a run: checkpoints, history, results. A partial checkpoint is never visible."""

import csv
import io
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from ..files.output_folder import resolved_folder
from ..files.writing import discard, flush_to_disk, put_in_place, replace_file
from ..messages import first_few
from ..metrics.report import nan_as_null
from ..model.checksums_dataseg import CHECKSUMS_FILE, damaged_files, write_checksums
from ..model.supervision_dataseg import LOSS_TERMS
from ..settings.datasets import MixRow
from ..settings.run import RunConfig
from .records import read_record, read_rows, read_table
from .resuming import changed_settings

LOG = logging.getLogger(__name__)

HISTORY_FIELDS = (
    "step",
    "dataset",
    "loss",
    *(f"loss_{term}" for term in LOSS_TERMS),
    "learning_rate",
    "gradient_norm",
    "unmatched_targets",
    "skipped_images",
    "seconds",
    "data_seconds",
)

PROGRESS_FILE = "progress.json"  # written last: a checkpoint that has it is complete
BEST_FILE = "best_metric.json"


class RunFolder:
    """Paths and bookkeeping under `output_dir`; only the main process writes."""

    def __init__(self, path: str | Path) -> None:
        self.path = resolved_folder(path, "output_dir")
        self.results_file = self.path / "all_results.json"
        self.history_file = self.path / "history.csv"
        self.evaluations_file = self.path / "evaluations.jsonl"
        self.notes_file = self.path / "evaluation_notes.json"
        self.config_file = self.path / "run_config.yaml"
        self.starts_file = self.path / "run.json"
        self.mix_file = self.path / "mix.json"
        self.pictures = self.path / "pictures"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / "best"

    # --- before training

    def write_config(self, config: RunConfig) -> None:
        """Save the resolved settings, from which the run can be repeated with `--config`."""
        self.path.mkdir(parents=True, exist_ok=True)
        settings = {**config.as_plain(), "resume": None}
        replace_file(self.config_file, yaml.safe_dump(settings, sort_keys=False))

    def write_mix(self, rows: Sequence[MixRow]) -> None:
        """Save the resolved mix: what is drawn how often."""
        replace_file(self.mix_file, json.dumps([asdict(row) for row in rows], indent=2) + "\n")

    def append_start(self, summary: Mapping[str, Any]) -> None:
        """Add the summary of a start to `run.json`, a list with an entry for each start."""
        starts = read_record(self.starts_file) or []
        replace_file(self.starts_file, json.dumps([*starts, summary], indent=2) + "\n")

    def check_same_mix(self, rows: Sequence[MixRow]) -> None:
        """Check that the data is that with which the run began.

        Raises:
            ConfigError: if it has changed, as images would be drawn in another order.
        """
        before = read_record(self.mix_file)
        if before is None:
            raise ConfigError(
                f"resume: {self.mix_file} is missing or damaged, so that nobody knows whether the "
                "data is still the same; restore it, or start afresh in another output_dir"
            )
        now = json.loads(json.dumps([asdict(row) for row in rows]))
        for old, new in zip(before, now, strict=True):
            changed = [f"{key} {old[key]} -> {new[key]}" for key in new if old.get(key) != new[key]]
            if changed:
                raise ConfigError(
                    f"resume: dataset '{new['name']}' has changed since {self.path} was started: "
                    f"{', '.join(changed)}; restore it, or start afresh in another output_dir"
                )

    def check_same_run(self, config: RunConfig) -> None:
        """Check that the settings which affect results are those with which the run began.

        Raises:
            ConfigError: if one has changed.
        """
        if not self.config_file.exists():
            return
        changed = changed_settings(self._settings_before(), config)
        if changed:
            complete = self.complete_checkpoints()
            raise ConfigError(
                f"resume: {self.path} was started with other settings for {changed} (see "
                f"{self.config_file.name} there); keep them, or train its model further as a run "
                f"of its own: --model_weights {complete[-1] if complete else self.path} "
                "--output_dir NEW, without --resume"
            )

    def _settings_before(self) -> dict[str, Any]:
        """The settings with which the run began; ConfigError where the file is damaged."""
        try:
            before = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError, yaml.YAMLError):
            before = None
        if not isinstance(before, dict) or not isinstance(before.get("datasets"), dict):
            raise ConfigError(
                f"resume: {self.config_file} is damaged, so that nobody knows whether the settings "
                "are still the same; delete it if they are, or start afresh in another output_dir"
            )
        return before

    # --- checkpoints

    def checkpoint(self, step: int) -> Path:
        """Folder of the checkpoint after `step` steps."""
        return self.checkpoints / f"step-{step:08d}"

    def complete_checkpoints(self) -> list[Path]:
        """Checkpoints that were written to the end, fewest steps first.

        A copy that a user has made beside them, under another name, is none.
        """
        steps = {path: self.steps_of(path) for path in self.checkpoints.glob("step-*")}
        own = {path: step for path, step in steps.items() if path == self.checkpoint(step)}
        return sorted(own, key=lambda path: own[path])

    def steps_of(self, checkpoint: Path) -> int:
        """Steps that a complete checkpoint holds; -1 where it is none."""
        progress = read_record(checkpoint / PROGRESS_FILE)
        step = progress.get("step") if isinstance(progress, dict) else None
        return step if isinstance(step, int) else -1

    def progress_of(self, checkpoint: Path) -> dict[str, float]:
        """What a complete checkpoint holds: step, train_seconds, and the schedule that it was part
        of.
        """
        progress = json.loads((checkpoint / PROGRESS_FILE).read_text())
        if "max_steps" not in progress:  # of a version in which a run could not be made longer
            progress |= {"max_steps": json.loads(self.starts_file.read_text())[0]["max_steps"]}
        return {"first_step": 0, "first_seconds": 0.0, **progress}

    def find_checkpoint(self, resume: str) -> Path | None:
        """The checkpoint that `latest` or a path names; None where `latest` finds none. A damaged
        one is named in a warning, and the newest undamaged one before it is taken.

        Raises:
            ConfigError: for a path that is no complete checkpoint, one of another run, and where
                all are damaged.
        """
        if resume == "latest":
            return self._newest_undamaged()
        path = Path(resume)
        if self.steps_of(path) < 0:
            raise ConfigError(
                f"resume: '{resume}' is no complete checkpoint (it has no progress.json); give the "
                "path of one, or `latest`"
            )
        if path.resolve().parent != self.checkpoints:
            raise ConfigError(
                f"resume: '{resume}' is no checkpoint of the run in {self.path}; give the "
                "output_dir of its run, or train its model further as a run of its own: "
                f"--model_weights {resume}, without --resume"
            )
        damage = damaged_files(path)
        if damage:
            raise ConfigError(
                f"resume: '{resume}' is damaged: {first_few(damage, 3)}; give an older one, or "
                "`latest`, which finds the newest that is whole"
            )
        return path

    def _newest_undamaged(self) -> Path | None:
        """ConfigError where there are checkpoints, and all are damaged."""
        complete = self.complete_checkpoints()
        for path in reversed(complete):
            damage = damaged_files(path)
            if not damage:
                return path
            LOG.warning(f"{path} is damaged and left out: {first_few(damage, 3)}")
        unreadable = [p for p in self.checkpoints.glob("step-*") if self.steps_of(p) < 0]
        if complete or unreadable:
            names = [path.name for path in [*complete, *unreadable]]
            raise ConfigError(
                f"resume: all checkpoints in {self.checkpoints} are damaged ({first_few(names, 3)})"
                "; restore one, or start afresh in another output_dir"
            )
        return None

    def unfinished_checkpoint(self, step: int) -> Path:
        """Folder beside the final one, in which a checkpoint is made."""
        return self.checkpoints / f"unfinished-{step:08d}"

    def begin_checkpoint(self, step: int) -> None:
        """Make the folder that is to be filled before `finish_checkpoint`."""
        unfinished = self.unfinished_checkpoint(step)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)

    def finish_checkpoint(self, step: int, progress: Mapping[str, Any], keep: int) -> None:
        """Rename the filled folder into place and drop all checkpoints but the newest `keep`."""
        unfinished, final = self.unfinished_checkpoint(step), self.checkpoint(step)
        (unfinished / PROGRESS_FILE).write_text(json.dumps(progress))
        write_checksums(
            unfinished,
            (f for f in unfinished.rglob("*") if f.is_file() and f.name != CHECKSUMS_FILE),
        )
        put_in_place(unfinished, final)
        for old in self.complete_checkpoints()[:-keep]:
            discard(old)

    def remove_unfinished(self) -> None:
        """Delete what a killed run left half written."""
        for leftover in [*self.path.glob("unfinished-*"), *self.checkpoints.glob("unfinished-*")]:
            shutil.rmtree(leftover)

    def supersede_after(self, step: int) -> list[Path]:
        """Rename what a continuation replaces: results, and checkpoints and best model of later
        steps. Returns the new paths.
        """
        later = [path for path in self.complete_checkpoints() if self.steps_of(path) > step]
        best = self.best / BEST_FILE
        if (read_record(best) or {}).get("step", -1) > step:
            later.append(self.best)
        if self.results_file.exists():
            # else the folder would look like that of a finished run
            later.append(self.results_file)
        renamed = []
        for path in later:
            target = path.with_name(f"superseded-{path.name}")
            shutil.rmtree(target, ignore_errors=True)
            renamed.append(path.replace(target))
        return renamed

    # --- models

    def write_model(self, write: Callable[[Path], None]) -> None:
        """Write the final model: `write` fills a temporary folder, whose files then take their
        places one by one.
        """
        unfinished = self._empty_folder("unfinished-model")
        write(unfinished)
        flush_to_disk(unfinished)
        for file in unfinished.iterdir():
            file.replace(self.path / file.name)
        unfinished.rmdir()

    def write_best(
        self, write: Callable[[Path], None], step: int, metric: str, value: float
    ) -> None:
        """The best model so far, in place of the one before."""
        unfinished = self._empty_folder("unfinished-best")
        write(unfinished)
        (unfinished / BEST_FILE).write_text(
            json.dumps({"step": step, "metric": metric, "value": value}) + "\n"
        )
        put_in_place(unfinished, self.best)

    def best_value(self, metric: str) -> float:
        """The best value of a metric so far; minus infinity before the first, or if the best model
        was chosen by another metric.
        """
        best = read_record(self.best / BEST_FILE) or {}
        return float(best["value"]) if best.get("metric") == metric else -math.inf

    def _empty_folder(self, name: str) -> Path:
        folder = self.path / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    # --- history and results

    def start_history(self, step: int) -> None:
        """Write the header, and keep what belongs to the first `step` steps where a run
        continues.
        """
        evaluations = [row for row in self.read_evaluations() if row["step"] <= step]
        replace_file(self.evaluations_file, "".join(json.dumps(row) + "\n" for row in evaluations))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, HISTORY_FIELDS)
        writer.writeheader()
        writer.writerows(row for row in self.read_history() if int(row["step"]) <= step)
        replace_file(self.history_file, text.getvalue())

    def append_history(self, rows: list[dict[str, Any]]) -> None:
        """Add one row per step: all of them, or none where they cannot be written (OSError)."""
        text = io.StringIO(newline="")
        csv.DictWriter(text, HISTORY_FIELDS).writerows(rows)
        size = self.history_file.stat().st_size
        try:
            with self.history_file.open("a", newline="") as file:
                file.write(text.getvalue())
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.truncate(self.history_file, size)
            raise

    def read_history(self) -> list[dict[str, str]]:
        """All rows, or none where there is no history yet."""
        return read_table(self.history_file)

    def append_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a line of JSON with the metrics after `step` steps, in place of one of the same step
        and sets.
        """
        row = {"step": step, **nan_as_null(metrics)}
        others = [
            old for old in self.read_evaluations() if old["step"] != step or set(old) != set(row)
        ]
        replace_file(
            self.evaluations_file, "".join(json.dumps(line) + "\n" for line in [*others, row])
        )

    def write_notes(self, step: int, notes: Mapping[str, Sequence[str]]) -> None:
        """Keep the notes on held-out sets from their last evaluation, after `step` steps."""
        rows = {name: {"step": step, "notes": list(of_set)} for name, of_set in notes.items()}
        replace_file(self.notes_file, json.dumps({**self._notes(), **rows}, indent=2) + "\n")

    def read_notes(self, step: int) -> dict[str, list[str]]:
        """The notes on each held-out set in its evaluation after `step` steps."""
        return {name: row["notes"] for name, row in self._notes().items() if row["step"] == step}

    def _notes(self) -> dict[str, dict[str, Any]]:
        return read_record(self.notes_file) or {}

    def read_evaluations(self) -> list[dict[str, Any]]:
        """A dictionary per evaluation: `step`, and the metrics by `{set}/{metric}`."""
        return read_rows(self.evaluations_file)

    def evaluated_sets(self, step: int) -> set[str]:
        """Held-out sets whose metrics after `step` steps are recorded."""
        keys = [key for row in self.read_evaluations() if row["step"] == step for key in row]
        return {key.rpartition("/")[0] for key in keys if key != "step"}

    def finished_steps(self, config: RunConfig) -> int | None:
        """Steps of a run that ended and wrote its results, else None.

        A run may go on if it is to be longer now, or if its time limit ended it and the limit has
        changed.
        """
        results = read_record(self.results_file)
        if results is None:
            return None
        before = self._settings_before() if self.config_file.exists() else config.as_plain()
        was_cut = results["steps"] < results.get("max_steps", 0)
        if before["max_steps"] != config.max_steps or (
            was_cut and before["max_minutes"] != config.max_minutes
        ):
            return None
        return int(results["steps"])

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write `all_results.json`; a metric with nothing to measure is null."""
        replace_file(self.results_file, json.dumps(nan_as_null(results), indent=2) + "\n")
