"""How long the main job trains until it is good: two checkouts in turn on one machine.

    python -m benchmarks.speedrun --against FOLDER [--rounds 1] [--every 300] [--options ...]

`--against` names a checkout of this repository at another commit (5f76b62 needs jsonargparse, which
may lie in PYTHONPATH). Each trains its own `shapes` config and evaluates after every `--every`
steps. Prints both curves, and the seconds of training until all of `TARGETS` are reached at once;
evaluation is not counted. `--options` go to both runs. Writes `outputs/bench_speedrun.json`.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

TARGETS = {"shapes_panoptic/pq": 0.70, "shapes_semantic/miou": 0.58, "shapes_boxes/mask_ap50": 0.58}
HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Point:
    """A place on a curve.

    Args:
        seconds: of training up to this step.
        metrics: of the held-out sets, those of `TARGETS`.
    """

    step: int
    seconds: float
    metrics: dict[str, float]

    @property
    def good(self) -> bool:
        """Whether all targets are reached."""
        return all(self.metrics.get(name, 0.0) >= target for name, target in TARGETS.items())


def train(checkout: Path, folder: Path, every: int, options: Sequence[str]) -> list[Point]:
    """The curve of the main job of a checkout.

    Args:
        folder: of the run.
        every: steps between evaluations.
        options: of `examples/cotrain.py`.
    """
    own = checkout / "examples/configs/shapes.yaml"
    config = str(own) if own.is_file() else "shapes"
    paths = [str(checkout / "src"), os.environ.get("PYTHONPATH", "")]
    command = ["examples/cotrain.py", "--config", config, "--output_dir", str(folder)]
    subprocess.run(
        [sys.executable, *command, "--evaluate_every", str(every), *options],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return curve(folder)


def curve(folder: Path) -> list[Point]:
    """What a run recorded of its evaluations, the earliest first."""
    with (folder / "history.csv").open(newline="") as file:
        seconds = {int(row["step"]): float(row["seconds"]) for row in csv.DictReader(file)}
    lines = (folder / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    by_step: dict[int, dict[str, float]] = {}
    for line in lines:
        row = json.loads(line)
        metrics = {name: row[name] for name in TARGETS if row.get(name) is not None}
        by_step.setdefault(row["step"], {}).update(metrics)
    return [Point(step, seconds[step], by_step[step]) for step in sorted(by_step)]


def seconds_until_good(points: Sequence[Point]) -> float | None:
    """Seconds of training until all targets are reached; None where they are not."""
    return next((point.seconds for point in points if point.good), None)


def table(curves: Mapping[str, Sequence[Point]]) -> str:
    """The curves side by side, as text."""
    lines = ["run | step | seconds | " + " | ".join(TARGETS)]
    for name, points in curves.items():
        for point in points:
            values = " | ".join(f"{point.metrics.get(key, float('nan')):.3f}" for key in TARGETS)
            lines.append(f"{name} | {point.step} | {point.seconds:.0f} | {values}")
        lines.append(f"{name}: targets after {seconds_until_good(points)} s")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train in turn, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, required=True, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=1, help="trainings of each")
    parser.add_argument("--every", type=int, default=300, help="steps between evaluations")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench_speedrun.json"))
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of both runs")
    args = parser.parse_args(arguments)
    checkouts = {"before": args.against.resolve(), "now": HERE}
    curves: dict[str, list[Point]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(args.rounds):
            for name, checkout in checkouts.items():
                run = f"{name} {number + 1}"
                curves[run] = train(checkout, Path(temporary) / run, args.every, args.options)
                print(table({run: curves[run]}), flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    written = {name: [asdict(point) for point in points] for name, points in curves.items()}
    args.output.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
