"""Durations as people write them: a number of steps, "90000 images" or "12 epochs of NAME"."""

import re
from dataclasses import dataclass
from typing import Literal

Duration = int | str

_WRITTEN = re.compile(
    r"(?P<amount>\d+(?:\.\d+)?) (?:(?P<unit>steps|images)|epochs of (?P<dataset>\S+))"
)


@dataclass(frozen=True)
class ParsedDuration:
    """amount of a unit; epochs are those of `dataset`."""

    amount: float
    unit: Literal["steps", "images", "epochs"]
    dataset: str | None = None


def parse_duration(duration: Duration) -> ParsedDuration:
    """Amount and unit; ValueError says how durations are written."""
    if isinstance(duration, int):
        return ParsedDuration(duration, "steps")
    found = _WRITTEN.fullmatch(duration.strip())
    if found is None:
        raise ValueError(
            f"'{duration}' is no duration: write a number of steps, 'N images' or 'N epochs of "
            "NAME'"
        )
    unit: Literal["steps", "images", "epochs"] = "epochs"
    if found["unit"] is not None:
        unit = "steps" if found["unit"] == "steps" else "images"
    return ParsedDuration(float(found["amount"]), unit, found["dataset"])
