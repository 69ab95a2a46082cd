"""Measure what co-training buys: train what is missing of the grid, then write `docs/claims.json`,
the page, figures.

    make claims                         # all that is missing, three seeds
    make claims ARGS="--quick"  # every run with a few steps and one seed, to outputs/claims/quick
    make claims ARGS="--only co alone_panoptic --jobs 1"
    make claims ARGS="--report"         # only write the pages again

A run on the shapes world was at most 90 seconds of one thread, by itself. Interrupted, the command
goes on where it stopped, on another machine too: what is finished stands in
`experiments/claims/results`. The photographs need `DATASEG_DATA`.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from experiments.claims.conflict import measured_conflict
from experiments.claims.cost import measured_cost
from experiments.claims.grid import RUNS, SEEDS
from experiments.claims.photographs import photographs_at_hand
from experiments.claims.report import gathered, write_report
from experiments.claims.results import RESULTS
from experiments.claims.runner import OUTPUTS, ROOT, Grid, train_missing


def main() -> int:
    """Exit code 1 when a run failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few steps of every run")
    parser.add_argument(
        "--only", nargs="+", choices=sorted(RUNS), metavar="RUN", help=f"of {', '.join(RUNS)}"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=None, help=f"default {SEEDS}")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, one thread each"
    )
    parser.add_argument("--report", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    seeds = arguments.seeds or (SEEDS[:1] if arguments.quick else SEEDS)
    results = OUTPUTS / "quick/results" if arguments.quick else RESULTS
    grid = Grid(results, seeds, arguments.quick)
    whole = Grid(results, seeds if arguments.quick else SEEDS, arguments.quick)
    names = arguments.only or list(RUNS)
    failed = 0
    if not arguments.report:
        names = with_photos(names)
        failed = train_missing(grid, names, arguments.jobs)
        keep_measured(whole, "cost", measured_cost)
        keep_measured(whole, "conflict", measured_conflict)
    docs = OUTPUTS / "quick/docs" if arguments.quick else ROOT / "docs"
    write_report(gathered(whole), docs)
    print(f"{docs / 'claims.md'} and {docs / 'claims.json'} are written.")
    return 1 if failed else 0


def with_photos(names: list[str]) -> list[str]:
    """The runs that can be made here; those on photographs need the data."""
    photos = [name for name in names if RUNS[name].world == "photos"]
    if photos and not photographs_at_hand():
        print(f"DATASEG_DATA is not set: without {', '.join(photos)}.", file=sys.stderr)
        return [name for name in names if name not in photos]
    return names


def keep_measured(grid: Grid, name: str, measure: Callable[[Grid], dict[str, Any] | None]) -> None:
    """Measure on the models of the runs and write it beside their results; nothing where they are
    not at hand.
    """
    measured = measure(grid)
    if measured is not None:
        (grid.results / f"{name}.json").write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
