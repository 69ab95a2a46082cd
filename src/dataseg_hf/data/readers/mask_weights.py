"""How much a mask counts that was made and not drawn, as files of `dataseg complete` tell it."""

from collections.abc import Mapping
from typing import Any

from ...messages import shown
from ..sample import BadSampleError
from .values import is_finite_number


def mask_weight(entry: Mapping[str, Any], where: str) -> float:
    """The `score` of an object in a COCO file, 0..1; 1 for one without, which a person drew.

    It is 1, too, for an object of a map of classes (`source: class`): its score tells of the
    division, its pixels are annotated.

    Raises:
        BadSampleError: for any other score.
    """
    score = entry.get("score")
    if score is None or entry.get("source") == "class":
        return 1.0
    if not (is_finite_number(score) and 0 <= score <= 1):
        raise BadSampleError(
            f"{where}: `score` must be a number in 0..1, not {shown(score)}; correct it, or leave "
            "out the option `score_weights`"
        )
    return float(score)


__all__ = ["mask_weight"]
