"""The picture of a model's output on its card, which shows other people's images: choose with
care.
"""

from pathlib import Path
from typing import NamedTuple

from .record import Record, is_drawn

PICTURE_FILE = "predictions.png"  # in the repository
NO_PICTURE = "none"


class Picture(NamedTuple):
    """A grid of image, truth and prediction of a held-out set, as the run drew it at its end."""

    set: str
    path: Path


def choose_picture(record: Record, wanted: str | None = None) -> Picture | None:
    """The picture to publish with a model, if any.

    Only the scenes that this package draws itself are shown without being asked for. Photographs
    have owners, and the license of a dataset may forbid to pass them on.

    Args:
        record: of the run.
        wanted: held-out set to show, or NO_PICTURE.

    Raises:
        ValueError: for a set that the run left no picture of.
    """
    drawn = pictures(record)
    if wanted == NO_PICTURE:
        return None
    if wanted is None:
        safe = [name for name in drawn if is_drawn(record.held_out[name])]
        # the vocabulary that the model uses by default says most about it
        default = record.config.get("default_vocabulary")
        safe.sort(key=lambda name: record.held_out[name].get("vocabulary") != default)
        return Picture(safe[0], drawn[safe[0]]) if safe else None
    if wanted not in drawn:
        there = ", ".join([*drawn, NO_PICTURE])
        raise ValueError(
            f"picture: the run in {record.folder} left no picture of '{wanted}' at its last step; "
            f"choose of: {there}"
        )
    return Picture(wanted, drawn[wanted])


def pictures(record: Record) -> dict[str, Path]:
    """The pictures that the run drew after its last step, by held-out set."""
    steps = record.results.get("steps")
    if not isinstance(steps, int):
        return {}
    files = {
        name: record.folder / "pictures" / f"{name}-step{steps:06d}.png" for name in record.held_out
    }
    return {name: file for name, file in files.items() if file.is_file()}
