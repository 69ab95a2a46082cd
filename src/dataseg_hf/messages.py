"""Messages: how they name many things, or long ones, in one line, and how commands show them."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from tqdm.auto import tqdm

_MAX_CHARACTERS = 60
LONGEST_MESSAGE = 2000  # letters


def first_few(texts: Sequence[str], most: int, separator: str = ", ") -> str:
    """The first texts, and how many others there are: "a, b and 3 more"."""
    more = len(texts) - most
    return separator.join(texts[:most]) + (f" and {more} more" if more > 0 else "")


def shown(value: Any) -> str:
    """A value out of a file as Python writes it, cut to 60 characters."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__}, nested too deep"
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 3]}..."


def shortened(text: str) -> str:
    """A message as it is, or its first part where it is longer than 2,000 letters."""
    if len(text) <= LONGEST_MESSAGE:
        return text
    kept = LONGEST_MESSAGE - 100
    return f"{text[:kept]}... ({len(text) - kept} more letters)"


class _Terminal(logging.Handler):
    """Prints messages as lines above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        tqdm.write(prefix + record.getMessage())


def show_messages() -> None:
    """Print what the package logs on the standard output. For commands; a program that uses the
    package configures `logging` as it likes.

    With several processes the main one prints all messages, the others warnings only.
    """
    logger = logging.getLogger(__package__)
    logger.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)
    if not any(isinstance(handler, _Terminal) for handler in logger.handlers):
        logger.addHandler(_Terminal())
