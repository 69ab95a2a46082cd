"""Keys, numbers, ids and flags as tools write them: `3`, `3.0` and `"3"` are one id, `true` and `1`
one flag.
"""

import re
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...messages import shown
from ..sample import BadSampleError, RawId
from .paths import StrPath

_DIGITS = re.compile(r"[+-]?\d{1,19}")
_WHOLE = re.compile(r"[+-]?\d+(\.0+)?")
_MAX_INT64 = (1 << 63) - 1
LONGEST_SIDE = 2**31 - 1  # pixels of an image


def require_key(record: Any, key: str, where: StrPath) -> Any:
    """`record[key]`.

    Raises:
        BadSampleError: if the record is no mapping or lacks it.
    """
    if not isinstance(record, Mapping) or key not in record:
        raise BadSampleError(f"{where}: key '{key}' is missing")
    return record[key]


def is_finite_number(value: Any) -> bool:
    """Whether a value out of a file is a number that float64 holds, neither NaN nor infinity; no
    flag is.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -sys.float_info.max <= value <= sys.float_info.max


def number(value: Any, where: str) -> float:
    """A finite number, written as such or as text.

    Raises:
        BadSampleError: for anything else; the message begins with `where` (file, key).
    """
    read = value
    if isinstance(value, str):
        try:
            read = float(value)
        except ValueError:
            read = None
    if not is_finite_number(read):
        raise BadSampleError(f"{where}: {shown(value)} is no finite number; correct it")
    return float(read)


def number_pairs(pairs: Any, where: str) -> NDArray[np.float64]:
    """Points, float64 [N, 2], from a list of pairs [x, y] of finite numbers.

    Raises:
        BadSampleError: for anything else; the message begins with `where` (file, key).
    """
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in pairs
    ):
        raise BadSampleError(f"{where}: points are lists of pairs [x, y]; correct or remove it")
    flat = [value for pair in pairs for value in pair]
    if not set(map(type, flat)) <= {int, float}:
        flat = [number(value, where) for value in flat]
    try:
        points = np.array(flat, dtype=np.float64).reshape(-1, 2)
    except OverflowError as error:
        raise BadSampleError(f"{where}: {error}; correct or remove it") from error
    if not np.isfinite(points).all():
        raise BadSampleError(f"{where}: points must be finite numbers; correct or remove it")
    return points


def whole_number(value: Any, where: str) -> int:
    """A whole number of 64 bits, written as such, with a zero fraction (`3.0`) or as text.

    Raises:
        BadSampleError: for anything else; the message begins with `where` (file, key).
    """
    if isinstance(value, int) and not isinstance(value, bool):
        read = value
    elif isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        read = int(value)
    else:
        real = number(value, where)
        if not real.is_integer():
            raise BadSampleError(f"{where}: {shown(value)} is no whole number; correct it")
        read = int(real)
    if not -_MAX_INT64 <= read <= _MAX_INT64:
        raise BadSampleError(f"{where}: {shown(value)} is too large a number; correct it")
    return read


def side(value: Any, where: str) -> int:
    """A height or width in pixels, above 0.

    Raises:
        BadSampleError: for anything else; the message begins with `where` (file, key).
    """
    read = whole_number(value, where)
    if not 1 <= read <= LONGEST_SIDE:
        raise BadSampleError(f"{where}: {shown(value)} pixels are no size; correct it")
    return read


def flag(value: Any, where: str) -> bool:
    """A flag: a boolean, 0 or 1, as number or text; None is false.

    Raises:
        BadSampleError: for anything else, since a flag misread as set would remove an object in
            silence.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    words = {"0": False, "1": True, "false": False, "true": True}
    text = str(value).strip().lower().removesuffix(".0")
    if isinstance(value, int | float | str) and text in words:
        return words[text]
    raise BadSampleError(
        f"{where}: {shown(value)} is no flag, which is 0 or 1, true or false; correct it"
    )


def category_id(value: Any, where: str) -> RawId:
    """A category id, whole number or word; a number written as text counts as the number.

    Raises:
        BadSampleError: for anything else.
    """
    if isinstance(value, str) and not _WHOLE.fullmatch(value.strip()):
        return value
    return whole_number(value, where)
