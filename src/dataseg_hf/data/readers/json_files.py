"""JSON files: a small one as a whole, a list member by member."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ..sample import BadSampleError
from .paths import text_encoding

_CHUNK = 1 << 20  # characters


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        BadSampleError: for a file that is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadSampleError(f"{path}: not valid JSON: {error}; correct it") from error


def json_list(path: Path, expected: str) -> Iterator[Any]:
    """The members of the list that a JSON file is, one at a time; memory holds little more than the
    largest.

    Args:
        path: the file, in UTF-8 or, with a byte order mark, UTF-16.
        expected: what it should be, for messages.

    Raises:
        ValueError: for a file that is no JSON, or no list.
    """
    try:
        with path.open("rb") as start:
            encoding = text_encoding(start.read(2))
        with path.open(encoding=encoding) as file:
            yield from _Members(file)
    except (ValueError, RecursionError) as error:
        # a ValueError also for numbers of thousands of digits
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise ValueError(
            f"{path}: not a valid JSON list ({reason}); expected {expected}"
        ) from error


class _Members:
    """Iterates over the members of a list whose text is read in chunks."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._text, self._place = file, "", 0
        self._decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[Any]:
        self._require("[")
        if self._next() != "]":
            yield self._member()
            while self._next() == ",":
                self._place += 1
                yield self._member()
        self._require("]")
        if self._next():
            raise json.JSONDecodeError("more after the end of the list", self._text, self._place)

    def _next(self) -> str:
        """The next character that is no blank; "" at the end of the file."""
        while True:
            while self._place < len(self._text):
                if not self._text[self._place].isspace():
                    return self._text[self._place]
                self._place += 1
            if not self._read_on():
                return ""

    def _require(self, character: str) -> None:
        if self._next() != character:
            raise json.JSONDecodeError(f"'{character}' expected", self._text, self._place)
        self._place += 1

    def _member(self) -> Any:
        self._next()
        while True:
            try:
                member, end = self._decoder.raw_decode(self._text, self._place)
                is_whole = end < len(self._text)  # a number may go on in the next chunk
            except json.JSONDecodeError:
                if not self._read_on():
                    raise
                continue
            if is_whole or not self._read_on():
                self._place = end
                return member

    def _read_on(self) -> bool:
        """Drop what was read and append a chunk, of the double size for a long member; False at the
        end of the file.
        """
        rest = self._text[self._place :]
        more = self._file.read(max(_CHUNK, len(rest)))
        self._text, self._place = rest + more, 0
        return bool(more)
