"""Files that are scored: JSON with its keys, PNGs with their ids. Every error names the file."""

import json
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def read_json(path: Path) -> Any:
    """Content of a JSON file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error


def require_key(record: Any, key: str, where: str | Path) -> Any:
    """`record[key]`; ValueError if the record is no object or lacks it."""
    if not isinstance(record, Mapping) or key not in record:
        raise ValueError(f"{where}: key '{key}' is missing")
    return record[key]


def require_list(record: Any, key: str, where: str | Path) -> list[Any]:
    """`record[key]`, which must be a list."""
    value = require_key(record, key, where)
    if not isinstance(value, list):
        raise ValueError(f"{where}: '{key}' must be a list, not {type(value).__name__}")
    return value


def require_id(record: Any, key: str, where: str | Path) -> int | str:
    """`record[key]`, which must be a number or a word."""
    value = require_key(record, key, where)
    if not isinstance(value, (int, str)):
        raise ValueError(f"{where}: '{key}' must be a whole number or a word, not {value!r}")
    return value


def require_number(value: Any, where: str) -> float:
    """`value` as a float, which must be a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{where} must be finite numbers, not {value!r}")
    return float(value)


def inside(root: Path, name: Any, where: str) -> Path:
    """`root / name`, where `name` comes out of a file and must not lead out of `root`."""
    posix, windows = PurePosixPath(str(name)), PureWindowsPath(str(name))
    if not isinstance(name, str) or not name or posix.is_absolute() or windows.anchor or ".." in windows.parts:
        raise ValueError(f"{where}: file name {name!r} must be a relative path without '..'")
    return root / name


def read_class_map(path: Path) -> NDArray[np.integer]:
    """Class per pixel [H, W] of a PNG with one number per pixel: 8-bit or 16-bit grey, or the indices of a palette."""
    png = _open_png(path)
    if png.mode not in ("L", "P", "I", "I;16"):
        raise ValueError(f"{path}: expected one class per pixel (8-bit or 16-bit grey, or palette), not {png.mode}")
    with path.open("rb") as file:
        bit_depth = file.read(25)[24]  # signature 8 bytes, IHDR length and name 8, width and height 8, bit depth 1
    if png.mode == "L" and bit_depth < 8:
        raise ValueError(f"{path}: grey of less than 8 bits, in which Pillow scales the values; store 8 bits")
    return np.asarray(png)


def read_segment_ids(path: Path) -> NDArray[np.int32]:
    """Segment ids R + 256 G + 65536 B [H, W] of an RGB PNG (https://cocodataset.org/#format-data)."""
    png = _open_png(path)
    if png.mode not in ("RGB", "RGBA"):
        raise ValueError(f"{path}: a panoptic PNG is RGB (segment id = R + 256 G + 65536 B), but this is {png.mode}")
    rgb = np.asarray(png)[..., :3].astype(np.int32)
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


def _open_png(path: Path) -> Image.Image:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        image = Image.open(path)
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # of Pillow's decoders
        raise ValueError(f"{path}: cannot be read as an image: {error}") from error
    if image.format != "PNG":
        raise ValueError(f"{path}: expected a PNG, which keeps every value, not {image.format}")
    return image
