"""`results.csv`: every number that was measured, a row for each run and seed."""

import csv
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from threading import Lock

import torch
from experiments.claims.runs import Settings, digest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments/claims/results.csv"
ABOUT = ("run", "seed", "settings", "commit", "versions", "machine")
"""The columns before the measured ones; README.md explains them."""
VERSIONS = " ".join(f"{name}={version(name)}" for name in ("torch", "transformers", "numpy"))
COUNTED = ("parameters", "weight_bytes", "training_operations")
"""Counted rather than sampled, so that one row is enough for a comparison; others take three."""


class Results:
    """The rows of one file, their cells as text. Adding a row writes the file at once."""

    def __init__(self, path: Path = RESULTS) -> None:
        self.path = path
        self.commit = commit()
        self.rows: dict[tuple[str, int], Mapping[str, str]] = {}
        self._lock = Lock()
        if path.exists():
            with path.open(newline="") as file:
                self.rows = {(row["run"], int(row["seed"])): row for row in csv.DictReader(file)}

    def add(self, run: str, seed: int, settings: Settings, values: Mapping[str, float]) -> None:
        """Add a row in place of the one of the same run and seed, and write the file.

        `values` are `{set}/{metric}` as fractions and plain names such as `train_seconds`.
        """
        about = (run, seed, digest(settings), self.commit, VERSIONS, machine())
        row = {**dict(zip(ABOUT, about, strict=True)), **values}
        with self._lock:
            self.rows[run, seed] = {name: str(value) for name, value in row.items()}
            self._write()

    def _write(self) -> None:
        measured = {name for row in self.rows.values() for name in row if name not in ABOUT}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*ABOUT, *sorted(measured)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows[key] for key in sorted(self.rows))
        partial.replace(self.path)

    def values(self, run: str, name: str) -> list[float]:
        """A measured column over the seeds of a run; empty unless every seed has it."""
        cells = [row.get(name) for (other, _), row in self.rows.items() if other == run]
        return [float(cell) for cell in cells if cell] if all(cells) else []

    def relation(self, run: str, other: str, name: str) -> str:
        """`>` or `<` where every seed of one side is above every seed of the other, else `=`.

        `other` is a run or a number. `?` where a run has fewer than three seeds.
        """
        ours, theirs = self.values(run, name), self.values(other, name)
        needed = 1 if name in COUNTED else 3
        if not theirs and other.replace(".", "").isdigit():
            theirs = [float(other)] * needed
        if min(len(ours), len(theirs)) < needed:
            return "?"
        if min(ours) > max(theirs):
            return ">"
        return "<" if max(ours) < min(theirs) else "="


def commit() -> str:
    """Short hash of the commit of the code, with `-dirty` where files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    # the results themselves change while runs go on
    changed = git("status", "--porcelain", "--", ":!docs", f":!{RESULTS.relative_to(ROOT)}")
    return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def machine() -> str:
    """Processor, GPU if there is one, and Python."""
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{gpu}{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
