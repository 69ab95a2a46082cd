"""Durations as people write them: a number of steps, "90000 images" or "12 epochs of NAME"."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator

from .base import InWords

LONGEST = 2**53
"""Of any unit: up to here, numbers with a fraction count exactly."""
_WRITTEN = re.compile(
    r"(?P<amount>\d+(?:\.\d+)?) (?:(?P<unit>steps|images)|epochs of (?P<dataset>\S+))"
)


@dataclass(frozen=True)
class ParsedDuration:
    """An amount of a unit; epochs are those of `dataset`."""

    amount: float
    unit: Literal["steps", "images", "epochs"]
    dataset: str | None = None


def parse_duration(duration: int | str) -> ParsedDuration:
    """Amount and unit of a duration.

    Raises:
        ValueError: for what is no duration; the message says how durations are written.
    """
    if isinstance(duration, int):
        return ParsedDuration(duration, "steps")
    found = _WRITTEN.fullmatch(duration.strip())
    if found is None:
        raise ValueError(_how_to_write(duration))
    unit: Literal["steps", "images", "epochs"] = "epochs"
    if found["unit"] is not None:
        unit = "steps" if found["unit"] == "steps" else "images"
    return ParsedDuration(float(found["amount"]), unit, found["dataset"])


def _how_to_write(value: Any) -> str:
    return f"{value!r} is no duration: write a number of steps, 'N images' or 'N epochs of NAME'"


def _checked(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(_how_to_write(value))
    if isinstance(value, str) and len(value) > 100:
        raise ValueError(_how_to_write(value[:60]))
    amount = parse_duration(value).amount
    if amount < 0:
        raise ValueError(f"must not be negative, not {value}")
    if amount > LONGEST:
        raise ValueError(f"must be at most {LONGEST:,}, not {value}")
    return value


def _positive(value: int | str) -> int | str:
    if parse_duration(value).amount == 0:
        raise ValueError(f"must be positive, not {value!r}")
    return value


Duration: TypeAlias = Annotated[int | str, BeforeValidator(_checked), InWords("duration")]
"""A number of steps, `"90000 images"` or `"12 epochs of NAME"`."""
PositiveDuration: TypeAlias = Annotated[Duration, AfterValidator(_positive)]
