"""Train missing runs, several at a time, each in a process of its own on one thread."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml
from benchmarks.photos.convert_mobilenet_v2 import convert
from experiments.claims.results import ROOT, Results
from experiments.claims.runs import RUNS, SEEDS, Run, Settings, composed, digest

OUTPUTS = ROOT / "outputs/claims"
BACKBONE = ROOT / "outputs/mobilenet_v2"
BACKBONE_WEIGHTS = "backbone_mobilenet_v2/mobilenet_v2_1.0_224_uint8_weights.npz"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


class TrainingError(RuntimeError):
    """A training that ended with an error: its exit code and the last lines of its log."""


@dataclass(frozen=True)
class Grid:
    """Runs times seeds: results, folder of models, logs and settings; a few steps if `quick`."""

    results: Results
    outputs: Path
    seeds: Sequence[int] = SEEDS
    quick: bool = False

    def folder(self, name: str, seed: int) -> Path:
        """Folder of the model of a run."""
        return self.outputs / f"{name}-s{seed}"

    def settings(self, name: str, seed: int) -> Settings:
        """The settings of a run with its folders."""
        run = RUNS[name]
        start = None if run.start is None else str(self.folder(run.start, seed))
        return composed(run, seed, str(self.folder(name, seed)), start, self.quick)

    def finished(self, name: str, seed: int) -> bool:
        """Whether there are results with today's settings of the run."""
        row = self.results.rows.get((name, seed))
        return row is not None and row["settings"] == digest(self.settings(name, seed))

    def has_model(self, name: str, seed: int) -> bool:
        """Whether the run is finished and its model is on this machine."""
        return self.finished(name, seed) and any(self.folder(name, seed).glob("*.safetensors"))

    def missing(self, names: Sequence[str]) -> list[tuple[Run, int]]:
        """What is left to train, seed by seed, so that early results cover all runs."""
        pairs = [(name, seed) for seed in self.seeds for name in names]
        return [(RUNS[name], seed) for name, seed in pairs if not self.finished(name, seed)]

    def train(self, run: Run, seed: int) -> None:
        """Train a run, after the one it starts from if need be, and add its row."""
        if run.start is not None and not self.has_model(run.start, seed):
            self.train(RUNS[run.start], seed)
        settings = self.settings(run.name, seed)
        values = trained(settings, self.folder(run.name, seed), ONE_THREAD)
        self.results.add(run.name, seed, settings, values)


def trained(settings: Settings, folder: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """Train in a process of its own; metrics as fractions, steps, parameters and seconds.

    Raises:
        TrainingError: the process failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, log = folder.with_suffix(".yaml"), folder.with_suffix(".log")
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    command = [sys.executable, str(ROOT / "examples/cotrain.py"), "--config", str(config)]
    started = time.perf_counter()
    with log.open("w") as out:
        done = subprocess.run(
            command, stdout=out, stderr=out, env=os.environ | environment, cwd=ROOT
        )
    seconds = round(time.perf_counter() - started, 1)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # optimizer states: 3 times the model
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise TrainingError(f"exit code {done.returncode}, {log}:\n{tail}")
    found = json.loads((folder / "all_results.json").read_text())
    metrics = {name: value for name, value in found.items() if "/" in name and value is not None}
    values = {name: round(value, 5) for name, value in metrics.items()}
    values |= {name: found[name] for name in ("steps", "parameters", "train_seconds")}
    return {**values, "seconds": seconds}


def train_missing(grid: Grid, names: Sequence[str], jobs: int) -> int:
    """Train what is missing, `jobs` at a time. Returns how many failed."""
    todo = grid.missing(names)
    if any(run.world == "photos" for run, _ in todo) and not photographs_at_hand():
        todo = [(run, seed) for run, seed in todo if run.world != "photos"]
    failed = 0
    for starts in (False, True):  # first those that others start from
        part = [pair for pair in todo if (pair[0].start is not None) is starts]
        with ThreadPoolExecutor(jobs) as pool:
            failed += sum(pool.map(lambda pair: _fails(grid, *pair), part))
    return failed


def _fails(grid: Grid, run: Run, seed: int) -> bool:
    outcome = "done"
    try:
        grid.train(run, seed)
    except TrainingError as error:
        outcome = f"failed with {error}"
    print(f"{run.name} seed {seed}: {outcome}", file=sys.stderr, flush=True)
    return outcome != "done"


def photographs_at_hand() -> bool:
    """Whether `DATASEG_DATA` is set. If so, the backbone's weights are converted where needed."""
    data = os.environ.get("DATASEG_DATA")
    if data is None:
        print("DATASEG_DATA is not set: no runs on photographs.", file=sys.stderr)
    elif not (BACKBONE / "model.safetensors").exists():
        convert(Path(data) / BACKBONE_WEIGHTS, BACKBONE)
    return data is not None
