"""Files that name the numbers in maps."""

import csv
from collections.abc import Mapping
from pathlib import Path

from ...messages import shown
from .json_files import read_json
from .paths import StrPath, read_text, require_file
from .values import whole_number


def read_label_file(path: StrPath) -> dict[int, tuple[str, ...]]:
    """Names by the number in the maps.

    Args:
        path: Mapillary Vistas' `config_v1.2.json` or `config_v2.0.json` (the number is the place in
            `labels`; a label has two names, "Bike Lane" and "construction--flat--bike-lane"); a CSV
            of numbers and names, such as Roboflow's `_classes.csv`; or a text with a name per line,
            whose number is its place from 0 (what follows a colon is left out, so that a
            `labelmap.txt` without colors is read, and `#` begins a comment).

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for what is none of these; the message names the line or the label.
    """
    file = require_file(path, "the file of labels")
    forms = {".json": _mapillary_labels, ".csv": _csv_labels}
    return forms.get(file.suffix.lower(), _listed_labels)(file)


def _mapillary_labels(path: Path) -> dict[int, tuple[str, ...]]:
    content = read_json(path)
    labels = content.get("labels") if isinstance(content, Mapping) else None
    if not isinstance(labels, list) or not labels:
        raise ValueError(f"{path}: expected a list `labels`, as Mapillary Vistas' config has")
    names_of: dict[int, tuple[str, ...]] = {}
    for number, label in enumerate(labels):
        names = (
            [label.get(key) for key in ("readable", "name")] if isinstance(label, Mapping) else []
        )
        words = tuple(name for name in names if isinstance(name, str) and name.strip())
        if not words:
            raise ValueError(f"{path}: label {number}: key 'readable' or 'name' is missing")
        names_of[number] = words
    return names_of


def _csv_labels(path: Path) -> dict[int, tuple[str, ...]]:
    names_of: dict[int, tuple[str, ...]] = {}
    try:
        rows = list(csv.reader(read_text(path).splitlines()))
    except csv.Error as error:
        raise ValueError(f"{path}: not valid CSV: {error}; correct it") from error
    for line, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        # the header
        if not any(cells) or (not names_of and not any(cell.isdecimal() for cell in cells)):
            continue
        if len(cells) != 2 or not cells[0].isdecimal() or not cells[1]:
            raise ValueError(
                f"{path}, line {line}: expected a number and a name, not {shown(','.join(cells))}"
            )
        number = whole_number(cells[0], f"{path}, line {line}")
        if names_of.setdefault(number, (cells[1],)) != (cells[1],):
            raise ValueError(f"{path}, line {line}: number {number} has two names; keep one")
    if not names_of:
        raise ValueError(f"{path}: names no number; expected lines 'number,name'")
    return names_of


def _listed_labels(path: Path) -> dict[int, tuple[str, ...]]:
    lines = [line.strip() for line in read_text(path).splitlines()]
    names = [line.partition(":")[0].strip() for line in lines if line and not line.startswith("#")]
    if not all(names) or not names:
        raise ValueError(f"{path}: expected a name in each line")
    return {number: (name,) for number, name in enumerate(names)}
