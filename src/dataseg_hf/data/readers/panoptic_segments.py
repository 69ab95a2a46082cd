"""From a map of segment ids and a list of segments to `Segments`, as COCO's panoptic format tells
both.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..sample import BadSampleError, Segments
from .id_maps import id_runs
from .paths import StrPath

SEGMENTS_TYPE = pa.list_(
    pa.struct([
        ("id", pa.int64()),
        ("class_index", pa.int64()),
        ("is_crowd", pa.bool_()),
        ("weight", pa.float32()),
    ])
)  # fmt: skip
"""Arrow type of a row's panoptic segments; class_index is -1 for void, weight null where scores are
not asked for.
"""


def panoptic_segments(
    ids: NDArray[np.integer],
    listed: Sequence[tuple[int, int, bool]],
    where: StrPath,
    weights: Sequence[float] | None = None,
) -> tuple[Segments, list[int]]:
    """The listed segments (segment id, class index or -1 for void, is crowd) of a map of segment
    ids [H, W]; 0 is void.

    Args:
        weights: of the listed segments in the mask losses; None for 1 everywhere.

    Returns:
        The segments, and the listed ids that have no pixel (hidden objects in some tools' files),
        which are left out.

    Raises:
        BadSampleError: for ids in the map that are not listed.
    """
    order = sorted(range(len(listed)), key=listed.__getitem__)
    ordered = [listed[place] for place in order]
    known = np.array([0] + [segment_id for segment_id, _, _ in ordered])
    run_ids, lengths = id_runs(ids)
    position = np.minimum(np.searchsorted(known, run_ids), len(known) - 1)
    unlisted = run_ids != known[position]
    if unlisted.any():
        raise BadSampleError(
            f"{where}: segment ids {np.unique(run_ids[unlisted]).tolist()} are not in "
            "`segments_info`; list them there, or set their pixels to 0 (void)"
        )
    is_seen = np.bincount(position, minlength=len(known))[1:] > 0
    classes = np.array([class_index for _, class_index, _ in ordered], dtype=np.int64)
    is_crowd = np.array([crowd for _, _, crowd in ordered], dtype=bool)
    kept = (classes >= 0) & is_seen
    index_of = np.concatenate([[-1], np.where(kept, np.cumsum(kept) - 1, -1)]).astype(np.int32)
    segment_map = np.repeat(index_of[position], lengths).reshape(ids.shape)
    weight = None if weights is None else np.array(weights, dtype=np.float32)[order][kept]
    segments = Segments(segment_map, classes[kept], is_crowd[kept], weight)
    return segments, known[1:][~is_seen].tolist()


def without_pixel(ids: Sequence[int], where: StrPath) -> tuple[str, ...]:
    """The remark on listed segments that have no pixel; none where there are none."""
    if not ids:
        return ()
    return (f"{where}: segment ids {list(ids)} are listed and have no pixel: left out",)


def require_segment_ids(ids: Sequence[int], where: str) -> None:
    """Check segment ids: unique numbers above 0 (void).

    Raises:
        BadSampleError: for any others.
    """
    if not all(isinstance(i, int) and i > 0 for i in ids) or len(set(ids)) < len(ids):
        raise BadSampleError(
            f"{where}: segment ids must be unique and above 0 (void), but are {list(ids)}; number "
            "them anew"
        )
