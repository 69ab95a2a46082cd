"""How messages name many things, or long ones, in one line."""

from collections.abc import Sequence
from typing import Any

_MAX_CHARACTERS = 60


def first_few(texts: Sequence[str], most: int, separator: str = ", ") -> str:
    """The first texts, and how many others there are: "a, b and 3 more"."""
    more = len(texts) - most
    return separator.join(texts[:most]) + (f" and {more} more" if more > 0 else "")


def shown(value: Any) -> str:
    """A value out of a file as Python writes it, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 3]}..."
