"""Train what is missing of the grid, several runs at a time, each in a process of its own on one
thread.
"""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import yaml
from experiments.claims.grid import RUNS, Run, composed
from experiments.claims.results import Result, digest, of_training, read, write

ROOT = Path(__file__).parent.parent.parent
OUTPUTS = ROOT / "outputs/claims"
LAST_LINES = 8


class Grid:
    """The runs and where their results go. quick: a few steps each, in a folder of their own."""

    def __init__(self, results: Path, seeds: Sequence[int], quick: bool) -> None:
        self.results, self.seeds, self.quick = results, seeds, quick
        self.outputs = OUTPUTS / "quick" if quick else OUTPUTS

    def output(self, run: Run, seed: int) -> Path:
        """Folder of a run's model, which the repository does not keep."""
        return self.outputs / f"{run.name}-s{seed}"

    def settings(self, run: Run, seed: int) -> dict:
        """What a run is told."""
        start = None if run.start is None else str(self.output(RUNS[run.start], seed))
        return composed(run, seed, str(self.output(run, seed)), start, self.quick)

    def finished(self, run: Run, seed: int) -> Result | None:
        """The result of a run with these settings; None where it is missing, failed, or was made by
        other settings.
        """
        found = read(run.name, seed, self.results)
        wanted = digest(self.settings(run, seed))
        return (
            found
            if found is not None and found.error is None and found.settings == wanted
            else None
        )

    def missing(self, names: Sequence[str]) -> list[tuple[Run, int]]:
        """What has to be trained, seed by seed, so that what is there early is whole."""
        return [
            (RUNS[name], seed)
            for seed in self.seeds
            for name in names
            if not self.finished(RUNS[name], seed)
        ]

    def train(self, run: Run, seed: int) -> Result:
        """One run; a failure is a result as well."""
        settings, output = self.settings(run, seed), self.output(run, seed)
        if run.start is not None:
            self.provide(RUNS[run.start], seed)
        output.mkdir(parents=True, exist_ok=True)
        config = output.with_suffix(".yaml")
        config.write_text(yaml.safe_dump(settings, sort_keys=False))
        log = output.with_suffix(".log")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        started = time.perf_counter()
        with log.open("w") as file:
            code = subprocess.run(
                [sys.executable, str(ROOT / "examples/cotrain.py"), "--config", str(config)],
                stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=ROOT, check=False,
            ).returncode  # fmt: skip
        seconds = round(time.perf_counter() - started, 1)
        known = Result(run.name, seed, digest(settings), seconds=seconds, machine=machine())
        # optimiser states, three times the model
        shutil.rmtree(output / "checkpoints", ignore_errors=True)
        if code:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
            return replace(known, error=f"exit code {code}: {tail}")
        return replace(known, **of_training(output))

    def provide(self, run: Run, seed: int) -> None:
        """The model of a run that another starts from: trained again where only its numbers are
        here.
        """
        if not (self.output(run, seed) / "model.safetensors").exists():
            write(self.train(run, seed), self.results)


def machine() -> str:
    """For the record."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def train_missing(grid: Grid, names: Sequence[str], jobs: int) -> int:
    """Train what is missing, `jobs` at a time; how many failed. Interrupted, it loses the runs that
    are under way.
    """
    todo = grid.missing(names)
    first = [pair for pair in todo if pair[0].start is None]
    after = [pair for pair in todo if pair[0].start is not None]  # they need what others leave
    failed = done = 0
    for part in (first, after):
        with ThreadPoolExecutor(jobs) as pool:
            for result in pool.map(lambda pair: keep(grid, *pair), part):
                done += 1
                failed += result.error is not None
                state = "FAILED" if result.error else "done"
                print(
                    f"[{done}/{len(todo)}] {result.run} seed {result.seed}: {state}, "
                    f"{result.seconds:.0f} s",
                    flush=True,
                )
    return failed


def keep(grid: Grid, run: Run, seed: int) -> Result:
    """Train and write the result down at once."""
    result = grid.train(run, seed)
    write(result, grid.results)
    return result
