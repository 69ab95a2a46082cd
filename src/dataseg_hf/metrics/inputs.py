"""Files that are scored: JSON with its keys, PNGs with their ids. Every error names the file."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.readers.id_maps import read_id_map, read_rgb_ids
from ..data.readers.paths import read_text
from ..data.readers.values import require_key


def read_json(path: Path) -> Any:
    """Content of a JSON file; ValueError with its path if it is none."""
    try:
        return json.loads(read_text(_existing(path)))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error


def require_list(record: Any, key: str, where: str | Path) -> list[Any]:
    """`record[key]`.

    Raises:
        ValueError: if that is no list.
    """
    value = require_key(record, key, where)
    if not isinstance(value, list):
        raise ValueError(f"{where}: '{key}' must be a list, not {type(value).__name__}")
    return value


def require_id(record: Any, key: str, where: str | Path) -> int | str:
    """`record[key]`; ValueError unless it is a number or a word. 7, 7.0 and "7" are one id."""
    value = require_key(record, key, where)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isdecimal() and str(int(value)) == value:
        return int(value)
    if not isinstance(value, (int, str)):
        raise ValueError(f"{where}: '{key}' must be a whole number or a word, not {value!r}")
    return value


def require_number(value: Any, where: str) -> float:
    """`value` as a float.

    Raises:
        ValueError: unless it is a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{where} must be finite numbers, not {value!r}")
    return float(value)


def read_class_map(path: Path) -> NDArray[np.integer]:
    """Class per pixel [H, W] of a PNG with one number per pixel: gray of 1 to 16 bits, or the
    indices of a palette.
    """
    return read_id_map(_existing(path), path, min_side=1)


def read_segment_ids(path: Path) -> NDArray[np.integer]:
    """Segment ids [H, W] of an RGB PNG, R + 256 G + 65536 B.

    The format is that of https://cocodataset.org/#format-data.
    """
    return read_rgb_ids(_existing(path), path, min_side=1)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return path
