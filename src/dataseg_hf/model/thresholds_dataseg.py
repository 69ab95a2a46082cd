"""What a segment needs to be reported."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """What a segment needs to be reported; semantic results ask for none of it. All in 0..1.

    Args:
        score: class probability (panoptic), or that times the mean mask probability (instance).
        mask: probability at which a pixel belongs to a mask.
        overlap: share of its own mask that a panoptic segment keeps.
        nms: IoU of two instances' masks above which the one with the lower score is left out; None
            keeps both.
        max_instances: (query, category) pairs that are looked at, the best ones.
    """

    score: float = 0.5
    mask: float = 0.5
    overlap: float = 0.8
    nms: float | None = None
    max_instances: int = 100


DEFAULT_THRESHOLDS = Thresholds()

__all__ = ["DEFAULT_THRESHOLDS", "Thresholds"]
