"""Measure what co-training buys: train what is missing of the grid, then write `docs/claims.json`, the page, figures.

    make claims                         # all that is missing, three seeds
    make claims ARGS="--quick"          # every run with a few steps and one seed, to outputs/claims/quick
    make claims ARGS="--only co alone_panoptic --jobs 1"
    make claims ARGS="--report"         # only write the pages again

A run on the shapes world is one to two minutes of one thread. Interrupted, the command goes on where it stopped, on
another machine too: what is finished stands in `benchmarks/claims/results`. The photographs need `DATASEG_DATA`.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks.claims.cost import measured_cost
from benchmarks.claims.grid import RUNS, SEEDS
from benchmarks.claims.report import gathered, write_report
from benchmarks.claims.results import RESULTS
from benchmarks.claims.runner import OUTPUTS, ROOT, Grid, train_missing
from benchmarks.photos.convert_mobilenet_v2 import convert

BACKBONE = "backbone_mobilenet_v2/mobilenet_v2_1.0_224_uint8_weights.npz"


def main() -> int:
    """Exit code 1 when a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps of every run")
    parser.add_argument("--only", nargs="+", choices=sorted(RUNS), metavar="RUN", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=None, help=f"default {SEEDS}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, one thread each")
    parser.add_argument("--report", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    seeds = arguments.seeds or (SEEDS[:1] if arguments.quick else SEEDS)
    results = OUTPUTS / "quick/results" if arguments.quick else RESULTS
    grid = Grid(results, seeds, arguments.quick)
    names = arguments.only or list(RUNS)
    failed = 0
    if not arguments.report:
        names = with_photos(names)
        failed = train_missing(grid, names, arguments.jobs)
    docs = OUTPUTS / "quick/docs" if arguments.quick else ROOT / "docs"
    write_report(gathered(Grid(results, SEEDS if not arguments.quick else seeds, arguments.quick), cost(grid)), docs)
    print(f"{docs / 'claims.md'} and {docs / 'claims.json'} are written.")
    return 1 if failed else 0


def with_photos(names: list[str]) -> list[str]:
    """The runs that can be made here; those on photographs need the data, and the backbone in torch's format."""
    data = os.environ.get("DATASEG_DATA")
    photos = [name for name in names if RUNS[name].world == "photos"]
    if photos and data is None:
        print(f"DATASEG_DATA is not set: without {', '.join(photos)}.", file=sys.stderr)
        return [name for name in names if name not in photos]
    output = ROOT / "outputs/mobilenet_v2"
    if photos and data is not None and not (output / "model.safetensors").exists():
        convert(Path(data) / BACKBONE, output)
    return names


def cost(grid: Grid) -> dict | None:
    """What experiment i measured; anew where the models are at hand."""
    file = grid.results / "cost.json"
    measured = measured_cost(grid)
    if measured is not None:
        file.write_text(json.dumps(measured, indent=1) + "\n")
    return json.loads(file.read_text()) if file.exists() else None


if __name__ == "__main__":
    sys.exit(main())
