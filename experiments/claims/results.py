"""What every finished run left: a small JSON file per run and seed in the repository, to go on with
anywhere.
"""

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Result:
    """One run with one seed.

    settings: digest of what it was told; with other settings it counts as missing. metrics:
        `{set}/{metric}`, as
    fractions. seconds: of the whole program, `train_seconds` of its training. error: last lines of
    a run that failed.
    """

    run: str
    seed: int
    settings: str
    metrics: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    parameters: int = 0
    train_seconds: float = 0.0
    seconds: float = 0.0
    machine: str = ""
    error: str | None = None


def digest(settings: Mapping[str, Any]) -> str:
    """Of the settings of a run, its folders aside."""
    kept = {
        key: value for key, value in settings.items() if key not in ("output_dir", "model_weights")
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def path_of(run: str, seed: int, folder: Path) -> Path:
    """Where the result of a run stands."""
    return folder / f"{run}-s{seed}.json"


def read(run: str, seed: int, folder: Path) -> Result | None:
    """The result of a run, or None where there is none."""
    path = path_of(run, seed, folder)
    return Result(**json.loads(path.read_text())) if path.exists() else None


def write(result: Result, folder: Path) -> None:
    """Keep a result, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(result.run, result.seed, folder)
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(asdict(result), indent=1, sort_keys=True) + "\n")
    aside.replace(path)


def of_training(output: Path) -> dict[str, Any]:
    """Metrics, steps, parameters and seconds from the folder that a run left."""
    found = json.loads((output / "all_results.json").read_text())
    return {
        "metrics": {
            key: round(value, 5) for key, value in found.items() if "/" in key and value is not None
        },
        "steps": found["steps"],
        "parameters": found["parameters"],
        "train_seconds": found["train_seconds"],
    }


@dataclass(frozen=True)
class Summary:
    """A metric over the seeds of a run: values in the order of the seeds, as fractions."""

    values: Sequence[float]

    @property
    def mean(self) -> float:
        """Of the seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Highest minus lowest."""
        return max(self.values) - min(self.values)

    def against(self, other: "Summary") -> str:
        """`better` or `worse` where every seed of one side is above every seed of the other, else a
        `tie`.
        """
        if min(self.values) > max(other.values):
            return "better"
        return "worse" if max(self.values) < min(other.values) else "tie"
