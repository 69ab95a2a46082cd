"""From the results to `docs/claims.json`, and from that alone to `docs/claims.md` and its
figures.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from experiments.claims.grid import RUNS, STEPS
from experiments.claims.reading import READING, Comparison, Sentence
from experiments.claims.results import Summary
from experiments.claims.runner import Grid
from experiments.claims.tables import TABLES, Column, Table
from jinja2 import Environment, StrictUndefined

HERE = Path(__file__).parent
MEASURED = ("cost", "conflict", "gpu")
"""Files beside the results of the runs; each may be missing."""
SIGNS = {"better": " +", "worse": " -", "tie": " ="}


# --- numbers


def gathered(grid: Grid) -> dict[str, Any]:
    """Every number of the grid; runs that failed or are missing are named."""
    runs: dict[str, Any] = {}
    for name, run in RUNS.items():
        results = [
            result for seed in grid.seeds if (result := grid.finished(run, seed)) is not None
        ]
        metrics = Counter(key for result in results for key in result.metrics)
        runs[name] = {
            "seeds": [result.seed for result in results],
            "missing_seeds": [seed for seed in grid.seeds if grid.finished(run, seed) is None],
            "steps": results[0].steps if results else None,
            "parameters": results[0].parameters if results else None,
            "train_seconds": [result.train_seconds for result in results],
            "seconds": [result.seconds for result in results],
            "machines": sorted({result.machine for result in results}),
            # a metric that is not defined for a seed is left out
            "metrics": {
                key: [result.metrics[key] for result in results]
                for key, count in sorted(metrics.items())
                if count == len(results)
            },
        }
    files = {name: grid.results / f"{name}.json" for name in MEASURED}
    measured = {
        name: json.loads(file.read_text()) if file.exists() else None
        for name, file in files.items()
    }
    return {"seeds": list(grid.seeds), "base_steps": dict(STEPS), "runs": runs, **measured}


class Claims:
    """The numbers as the text asks for them. Fractions are shown in percent."""

    def __init__(self, numbers: Mapping[str, Any]) -> None:
        self.numbers = numbers

    def summary(self, run: str, metric: str) -> Summary | None:
        """Over the seeds; None where the run, or this metric of it, is missing."""
        values = self.numbers["runs"][run]["metrics"].get(metric)
        return Summary(values) if values else None

    def mean(self, run: str, metric: str) -> str:
        """Mean over the seeds."""
        found = self.summary(run, metric)
        return "missing" if found is None else f"{100 * found.mean:.1f}"

    def verdict(self, run: str, other: str, metric: str) -> str:
        """`better`, `worse` or `tie`, see `Summary.against`; `not measured` with fewer than three
        seeds of either.
        """
        one, two = self.summary(run, metric), self.summary(other, metric)
        if one is None or two is None or min(len(one.values), len(two.values)) < 3:
            return "not measured"
        return one.against(two)

    def holds(self, sentence: Sentence) -> bool:
        """Whether every comparison that a sentence rests on comes out as it says."""
        return all(
            self.verdict(one.run, one.other, one.column.metric) == one.verdict
            for one in sentence.rests_on
        )

    def reading(self) -> str:
        """The sentences that hold, each with its numbers, as lists in Markdown; and how many do
        not, or not yet.
        """
        return "\n\n".join(
            f"### {title}\n\n{self._sentences(part)}" for title, part in READING.items()
        )

    def _sentences(self, sentences: Sequence[Sentence]) -> str:
        held = [sentence for sentence in sentences if self.holds(sentence)]
        lines = [
            f"- {sentence.text} ({'; '.join(self._numbers_of(one) for one in sentence.rests_on)})"
            for sentence in held
        ]
        absent = len(sentences) - len(held)
        if absent:
            lines.append(
                f"- {absent} of the sentences {'is' if absent == 1 else 'are'} not shown by these "
                "numbers."
            )
        return "\n".join(lines)

    def _numbers_of(self, one: Comparison) -> str:
        run, other = self.mean(one.run, one.column.metric), self.mean(one.other, one.column.metric)
        return f"{one.column.name}: `{one.run}` {run}, `{one.other}` {other}, {one.verdict}"

    def table(self, name: str) -> str:
        """A table in Markdown: mean and [lowest, highest] over the seeds, and the verdict against
        the first row.
        """
        table = TABLES[name]
        lines = [
            f"| | {' | '.join(column.name for column in table.columns)} |",
            f"|---|{'---|' * len(table.columns)}",
        ]
        for label, run in table.rows:
            cells = [self._cell(table, run, column) for column in table.columns]
            lines.append(f"| {label} (`{run}`) | {' | '.join(cells)} |")
        return "\n".join(lines)

    def _cell(self, table: Table, run: str, column: Column) -> str:
        found, first = self.summary(run, column.metric), table.rows[0][1]
        if found is None:
            return "missing" if self.numbers["runs"][run]["missing_seeds"] else "none"
        text = f"{100 * found.mean:.1f}"
        if len(found.values) > 1:
            text += f" [{100 * min(found.values):.1f}, {100 * max(found.values):.1f}]"
        verdict = self.verdict(run, first, column.metric)
        return text + (SIGNS.get(verdict, "") if run != first else "")

    def conflict(self) -> str:
        """The cosines of gradients, in Markdown: mean and [lowest, highest] over the seeds."""
        found = self.numbers["conflict"]
        pairs = list(next(iter(found.values())))
        lines = [
            f"| | {' | '.join(part.replace('_', ' ') for part in found)} |",
            f"|---|{'---|' * len(found)}",
        ]
        for pair in pairs:
            cells = [Summary(found[part][pair]) for part in found]
            texts = [
                f"{one.mean:.2f} [{min(one.values):.2f}, {max(one.values):.2f}]" for one in cells
            ]
            lines.append(f"| {pair} | {' | '.join(texts)} |")
        return "\n".join(lines)

    def seconds(self, world: str) -> str:
        """Longest run of a world."""
        prefix = "photos_"
        times = [
            seconds
            for name, run in self.numbers["runs"].items()
            if name.startswith(prefix) == (world == "photos")
            for seconds in run["seconds"]
        ]
        return f"{max(times):.0f}" if times else "missing"

    def hours(self) -> str:
        """Of all runs together, one after the other."""
        total = sum(seconds for run in self.numbers["runs"].values() for seconds in run["seconds"])
        return f"{total / 3600:.1f}"

    def counted(self) -> str:
        """How many of the runs are there."""
        runs = self.numbers["runs"].values()
        done, all_of_them = (
            sum(len(run["seeds"]) for run in runs),
            len(runs) * len(self.numbers["seeds"]),
        )
        return f"{done} of {all_of_them}"

    def missing(self) -> list[str]:
        """What is not there, for the list at the end."""
        return [
            f"{name}: seeds {', '.join(map(str, run['missing_seeds']))}"
            for name, run in self.numbers["runs"].items()
            if run["missing_seeds"]
        ]

    def machines(self) -> list[str]:
        """On which the runs were made."""
        return sorted(
            {machine for run in self.numbers["runs"].values() for machine in run["machines"]}
        )


def page(numbers: Mapping[str, Any]) -> str:
    """`docs/claims.md`."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string((HERE / "claims.md.jinja").read_text())
    return template.render(claims=Claims(numbers), numbers=numbers)


# --- figures


def draw(numbers: Mapping[str, Any], folder: Path) -> None:
    """The figures of the page."""
    claims = Claims(numbers)
    counts = (16, 64, 256)
    lines = {
        "co-trained": [f"co_{n}" if n != 64 else "co" for n in counts],
        "alone, all steps": [
            f"alone_semantic_{n}" if n != 64 else "alone_semantic" for n in counts
        ],
        "alone, a third": [
            f"alone_semantic_{n}_third" if n != 64 else "alone_semantic_third" for n in counts
        ],
    }
    _lines(
        claims,
        lines,
        counts,
        "shapes_semantic/miou",
        "images of the small dataset",
        "mIoU in percent",
        folder / "claims_small_dataset.png",
    )
    sets = {
        "panoptic PQ": "shapes_panoptic/pq", "semantic mIoU": "shapes_semantic/miou",
        "AP50 from boxes": "shapes_boxes/mask_ap50", "PQ, unseen combinations": "shapes_open/pq",
    }  # fmt: skip
    _bars(
        claims,
        ("alone_panoptic", "two_panoptic_semantic", "two_panoptic_boxes", "co", "five"),
        sets,
        folder / "claims_number_of_datasets.png",
    )


def _lines(
    claims: Claims,
    lines: Mapping[str, Sequence[str]],
    places: Sequence[int],
    metric: str,
    x: str,
    y: str,
    path: Path,
) -> None:
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for label, runs in lines.items():
        found = [
            (place, claims.summary(run, metric)) for place, run in zip(places, runs, strict=True)
        ]
        there = [(place, one) for place, one in found if one is not None]
        axes.errorbar(
            [place for place, _ in there],
            [100 * one.mean for _, one in there],
            yerr=[
                [100 * (one.mean - min(one.values)) for _, one in there],
                [100 * (max(one.values) - one.mean) for _, one in there],
            ],
            label=label, marker="o", capsize=3,
        )  # fmt: skip
    axes.set(
        xscale="log",
        xlabel=x,
        ylabel=y,
        xticks=places,
        xticklabels=[str(place) for place in places],
    )
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _bars(claims: Claims, runs: Sequence[str], metrics: Mapping[str, str], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    width = 0.8 / len(runs)
    for number, run in enumerate(runs):
        for place, metric in enumerate(metrics.values()):
            found = claims.summary(run, metric)
            if found is not None:
                axes.bar(place + number * width, 100 * found.mean, width, color=f"C{number}",
                         label=run if place == 0 else None)  # fmt: skip
    axes.set(
        xticks=[place + 0.4 for place in range(len(metrics))],
        xticklabels=list(metrics),
        ylabel="percent",
    )
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def write_report(numbers: Mapping[str, Any], folder: Path) -> None:
    """`claims.json`, `claims.md` and the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "claims.json").write_text(json.dumps(numbers, indent=1) + "\n")
    (folder / "claims.md").write_text(page(numbers))
    draw(numbers, folder)
