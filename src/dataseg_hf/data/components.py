"""Connected parts of semantic masks."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from .sample import Segments


def split_components(segments: Segments, split: Sequence[bool]) -> Segments:
    """Make a segment of every connected part of the classes marked in `split`; the other segments
    stay whole.

    Semantic annotation merges all objects of a class into one mask. Its connected parts are mostly
    single objects, so as targets of their own they ask of a proposal what panoptic and box
    annotation ask too: one object (our setting). Pixels that touch at a corner only are apart.
    Shapes as in `Segments`.
    """
    segment_map = np.full_like(segments.segment_map, -1)
    sources: list[int] = []
    for number, class_label in enumerate(segments.class_labels.tolist()):
        mask = segments.segment_map == number
        parts, count = ndimage.label(mask) if split[class_label] else (mask.astype(np.int32), 1)
        inside = parts > 0
        segment_map[inside] = parts[inside] - 1 + len(sources)
        sources.extend([number] * count)
    index = np.array(sources, dtype=np.int64)
    weights = None if segments.weights is None else segments.weights[index]
    return Segments(segment_map, segments.class_labels[index], segments.is_crowd[index], weights)
