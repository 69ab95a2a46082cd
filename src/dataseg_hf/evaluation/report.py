"""The results of an evaluation as JSON and as a Markdown page with tables, figures and pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files.writing import replace_file
from ..metrics.report import nan_as_null
from .scoring import SetResult, values_of

FIGURES = {
    "confusion": "Confusion matrix (% of the true pixels of each class)",
    "masks-precision-recall": "Precision and recall of masks",
    "boxes-precision-recall": "Precision and recall of boxes",
    "best": "Best images",
    "worst": "Worst images",
}
"""What may stand in `pictures/SET-KEY.png`, in the order of the page."""


def figure_path(folder: Path, set_name: str, key: str) -> Path:
    """Where the figure of a set lies in the folder of a report; `key` as in `FIGURES`."""
    return folder / "pictures" / f"{set_name}-{key}.png"


def write_json(results: Sequence[SetResult], summary: Mapping[str, Any], folder: Path) -> None:
    """`results.json`: the summary, `results` as `{set}/{metric}`, and by set `notes`, `per_class`
    and `images`.

    What is undefined is null.
    """
    content = {
        **summary,
        "results": values_of(results),
        "notes": {result.name: result.notes for result in results},
        "per_class": {
            result.name: {metric: values["per_class"] for metric, values in result.metrics.items()}
            for result in results
        },
        "images": {
            result.name: {str(image.image_id): image.value for image in result.image_scores}
            for result in results
        },
    }
    replace_file(folder / "results.json", json.dumps(nan_as_null(content), indent=1) + "\n")


def write_markdown(results: Sequence[SetResult], summary: Mapping[str, Any], folder: Path) -> None:
    """`report.md`: the summary but for `evaluation`, an overview, then every set with its classes
    and pictures.
    """
    lines = [f"# Evaluation of {summary['model']}", ""]
    lines += [
        f"- {key}: {value}" for key, value in summary.items() if key not in ("model", "evaluation")
    ]
    lines += [
        "",
        "Fractions in 0..1; a dash stands where there was nothing to measure.",
        "",
        *overview(results),
    ]
    lines += ["", *(f"- {line}" for line in note_lines(results))]
    for result in results:
        lines += ["", f"## {result.name}", "", *_values_table(result)]
        for metric, values in result.metrics.items():
            lines += [
                "",
                f"### {result.name}: `{metric}` per class",
                "",
                *_class_table(values["per_class"]),
            ]
        for key, title in FIGURES.items():
            path = figure_path(folder, result.name, key)
            if path.is_file():
                lines += [
                    "",
                    f"{title}:",
                    "",
                    f"![{title} of {result.name}]({path.relative_to(folder).as_posix()})",
                ]
    replace_file(folder / "report.md", "\n".join(lines) + "\n")


HEADLINES = ("pq", "miou", "mask_ap", "mask_ap50", "box_ap", "box_ap50")


def overview(results: Sequence[SetResult]) -> list[str]:
    """A Markdown table with the main numbers of each set."""
    rows = []
    for result in results:
        values = result.values()
        shown = [f"{key} {cell(values[key])}" for key in HEADLINES if key in values]
        rows.append([result.name, str(result.images), ", ".join(shown)])
    return table(["set", "images", "results"], rows)


def note_lines(results: Sequence[SetResult]) -> list[str]:
    """A line per note, with its set."""
    return [f"note on {result.name}: {note}" for result in results for note in result.notes]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return lines + [
        f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |" for row in rows
    ]


def cell(value: float) -> str:
    """A number for a table: counts whole, fractions to four digits, a dash for what is
    undefined.
    """
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4f}"


def _values_table(result: SetResult) -> list[str]:
    values = result.values()
    return table(["metric", "value"], [[key, cell(value)] for key, value in values.items()])


def _class_table(per_class: Mapping[str, Mapping[str, Any]]) -> list[str]:
    columns = list(next(iter(per_class.values())))
    rows = [
        [name, *(cell(values[column]) for column in columns)] for name, values in per_class.items()
    ]
    return table(["class", *columns], rows)
