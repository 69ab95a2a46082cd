"""What all settings classes share: they are frozen, refuse unknown keys, and take their help from
the docstring below each field.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, AllowInfNan, BaseModel, BeforeValidator, ConfigDict, Strict

ENTRY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,63}")
"""Names of datasets and held-out sets: they become names of files, of vocabularies and of settings
on the command line.
"""


def _entry_name(name: str) -> str:
    if not ENTRY_NAME.fullmatch(name):
        raise ValueError(
            f"'{name[:80]}' is no name for an entry: use up to 64 letters (a-z), digits, '_' and "
            "'-'; it becomes the name of files"
        )
    return name


def _of_32_bits(number: int) -> int:
    if not -(2**31) <= number < 2**31:
        raise ValueError(f"{str(number)[:40]} is too large a number")
    return number


def _of_numpy(seed: int) -> int:
    if seed >= 2**32:
        raise ValueError(f"must be below 2^32, not {str(seed)[:40]}")
    return seed


def _of_a_tenth(number: float) -> float:
    if number < 0.1:
        raise ValueError(f"must be 0.1 or more, not {number:g}")
    return number


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")
    return value


Number: TypeAlias = Annotated[float, AllowInfNan(False), BeforeValidator(_no_boolean)]
"""A finite number. A text is taken for one where it can be: older YAML writes '1e-4'."""
PositiveNumber: TypeAlias = Annotated[Number, Gt(0)]
NonNegativeNumber: TypeAlias = Annotated[Number, Ge(0)]
Fraction: TypeAlias = Annotated[Number, Ge(0), Le(1)]
Decay: TypeAlias = Annotated[Number, Ge(0), Lt(1)]
Integer: TypeAlias = Annotated[int, Strict(), AfterValidator(_of_32_bits)]
PositiveInteger: TypeAlias = Annotated[Integer, Gt(0)]
NonNegativeInteger: TypeAlias = Annotated[Integer, Ge(0)]
BatchSize: TypeAlias = Annotated[int, Strict(), Gt(0), Le(65_536)]
"""Images, or parts of a batch."""
Processes: TypeAlias = Annotated[int, Strict(), Ge(0), Le(1024)]
"""Loading processes."""
Threads: TypeAlias = Annotated[int, Strict(), Gt(0), Le(1024)]
Temperature: TypeAlias = Annotated[PositiveNumber, AfterValidator(_of_a_tenth)]
Scale: TypeAlias = Annotated[Number, Gt(0), Le(16)]
"""Of an image, relative to the canvas."""
Seed: TypeAlias = Annotated[int, Strict(), Ge(0), AfterValidator(_of_numpy)]
"""What NumPy takes."""
CanvasSide: TypeAlias = Annotated[int, Strict(), Ge(16), Le(16_384)]
"""Pixels: no less than half of the coarsest stride, no more than a decoded image may have."""
EntryName: TypeAlias = Annotated[str, AfterValidator(_entry_name)]
RawId: TypeAlias = Annotated[int, Strict()] | str
"""An id as the annotation stores it: a number, or a word."""


@dataclass(frozen=True)
class InWords:
    """What the reference calls a type; stands in `Annotated`."""

    words: str


class Settings(BaseModel):
    """Settings that are checked when they are made; `model_copy(update=...)` does not check.

    Raises:
        pydantic.ValidationError: for an unknown key, a value of a wrong type or out of range, and
            values that contradict each other. `parsing` turns it into a ConfigError.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def as_plain(self) -> dict[str, Any]:
        """The settings as JSON and YAML can hold them."""
        return self.model_dump(mode="json")
