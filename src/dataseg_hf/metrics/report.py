"""Results as JSON and as a table for people."""

import json
import math
from typing import Any


def as_json(result: dict[str, Any]) -> str:
    """One JSON object; what is undefined (`nan`) is null."""
    return json.dumps(nan_as_null(result))


def nan_as_null(value: Any) -> Any:
    """A value with None in the place of every `nan`, also in the dicts it holds: JSON has no
    `nan`.
    """
    if isinstance(value, dict):
        return {key: nan_as_null(part) for key, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def as_table(result: dict[str, Any]) -> str:
    """The numbers of all classes, then a line per class; fractions in 0..1, a dash for `nan`."""
    per_class: dict[str, dict[str, Any]] = result["per_class"]
    totals = {key: value for key, value in result.items() if key != "per_class"}
    columns = list(next(iter(per_class.values())))
    classes = [
        ["class", *columns],
        *([name, *map(_cell, values.values())] for name, values in per_class.items()),
    ]
    return "\n".join(
        [*_lines([[key, _cell(value)] for key, value in totals.items()]), "", *_lines(classes)]
    )


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4f}"


def _lines(rows: list[list[str]]) -> list[str]:
    """Rows as text, names on the left, numbers on the right of their column."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
