"""Reading what a run has written of itself, where a power failure or a full disk may have spoiled
it.
"""

import csv
import json
import logging
from pathlib import Path
from typing import Any

LOG = logging.getLogger(__name__)


def read_record(file: Path) -> Any:
    """What a JSON file holds; None where it is missing or, with a warning, damaged."""
    if not file.exists():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        LOG.warning(f"{file} is damaged and of no use; what it held is left out")
        return None


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, without damaged lines; none of a missing file."""
    rows, damaged = [], 0
    for line in whole_lines(file):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
        else:
            damaged += 1
    _say(damaged, file)
    return rows


def read_table(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file whose first column is a number, without damaged ones; none of a
    missing file.
    """
    lines = whole_lines(file)
    readable = [line for line in lines if "\0" not in line]
    reader = csv.DictReader(readable)
    first = (reader.fieldnames or [""])[0]
    rows = list(reader)
    whole = [row for row in rows if str(row[first]).isdecimal()]
    _say(len(lines) - len(readable) + len(rows) - len(whole), file)
    return whole


def whole_lines(file: Path) -> list[str]:
    """Complete lines of a file that is appended to: a killed run may leave half of one. None of a
    missing file.
    """
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8", errors="replace") as opened:
        return [line for line in opened if line.endswith("\n")]


def _say(damaged: int, file: Path) -> None:
    if damaged:
        LOG.warning(f"{file}: {damaged} damaged line(s) are left out")
