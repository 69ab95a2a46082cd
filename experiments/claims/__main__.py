"""Measure what co-training buys: train the missing runs, then fill the tables of docs/claims.md.

    make claims                         # all that is missing, three seeds
    make claims ARGS="--quick"          # every run with a few steps and one seed
    make claims ARGS="--only co alone_panoptic --jobs 1"
    make claims ARGS="--report"         # train nothing, only fill and check the page

Finished runs are in experiments/claims/results.csv and are not trained again, so an interrupted
command goes on where it stopped. Models, and all results of a quick run, go to outputs/claims.
Runs on photographs need DATASEG_DATA. The exit code is 1 if a run failed or if the page says what
the results do not.
"""

import argparse
import os
import sys

from experiments.claims.cost import measure_cost
from experiments.claims.figures import draw
from experiments.claims.gradients import measure_gradients
from experiments.claims.page import filled, problems
from experiments.claims.results import RESULTS, ROOT, Results
from experiments.claims.runs import RUNS, SEEDS
from experiments.claims.training import OUTPUTS, Grid, train_missing

PAGE = ROOT / "docs/claims.md"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    options = parsed(arguments)
    outputs = OUTPUTS / "quick" if options.quick else OUTPUTS
    results = Results(outputs / "results.csv" if options.quick else RESULTS)
    seeds = options.seeds or (SEEDS[:1] if options.quick else SEEDS)
    grid = Grid(results, outputs, seeds, options.quick)
    failed = 0
    if not options.report:
        failed = train_missing(grid, options.only, options.jobs)
        measure_cost(grid)
        measure_gradients(grid)
    page = filled(PAGE.read_text(), results)
    folder = outputs if options.quick else PAGE.parent
    (folder / PAGE.name).write_text(page)
    draw(results, folder)
    print(f"{folder / PAGE.name} and its figure are written.")
    wrong = [] if options.quick else problems(page, results)  # a few steps show nothing
    sys.stderr.writelines(f"{problem}\n" for problem in wrong)
    return 1 if failed or wrong else 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    add = parser.add_argument
    add("--quick", action="store_true", help="a few steps of every run")
    add("--only", nargs="+", choices=RUNS, metavar="RUN", help=", ".join(RUNS), default=[*RUNS])
    add("--seeds", nargs="+", type=int, help=f"default {SEEDS}")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, one thread each")
    add("--report", action="store_true", help="train nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
