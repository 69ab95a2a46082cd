"""Segmenting an image as a whole, or window by window with the segments joined across windows.

Windows, seams and joining are our setting; the paper does not speak of images larger than the
model's.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..model.image_processing_dataseg import DaTaSegImageProcessor
from ..model.image_reading_dataseg import rgb_pixels
from ..model.mask_nms_dataseg import without_repeats
from ..model.predictions_dataseg import Region
from ..model.proposals_dataseg import ImageProposals
from ..model.tasks_dataseg import Task, get_task
from ..model.thresholds_dataseg import DEFAULT_THRESHOLDS, Thresholds
from ..model.vocabularies_dataseg import VocabularyMixin
from .segments import Segment, Size, cropped

# above it, a segment has at most one partner in a map without overlaps (as in panoptic quality)
JOINING_IOU = 0.5
BATCH = 4  # windows at once


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image that the model sees at once.

    Args:
        core: the part in which it is the one to decide.
    """

    rows: slice
    columns: slice
    core: tuple[slice, slice]

    @property
    def size(self) -> Size:
        """Height and width, in pixels."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def tiles(size: Size, tile: int, overlap: float) -> list[Tile]:
    """Squares of `tile` pixels that cover an image, evenly spaced, neighbors sharing at least
    `overlap` of their side.

    An image that is smaller on an axis is covered there by one window. The cores part the image in
    the middle of what neighbors share, where both are farthest from their edges.

    Raises:
        ValueError: for a tile below 1 pixel, or an overlap outside [0, 1).
    """
    if tile < 1:
        raise ValueError(f"tile: must be at least 1 pixel, not {tile}")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap: must be a share of the tile in [0, 1), not {overlap}")
    rows, columns = (list(_axis_windows(length, tile, overlap)) for length in size)
    return [
        Tile(row, column, (core_row, core_column))
        for row, core_row in rows
        for column, core_column in columns
    ]


def _axis_windows(length: int, tile: int, overlap: float) -> Iterator[tuple[slice, slice]]:
    """Ranges of one axis, and the core of each."""
    side = min(tile, length)
    step = max(1, int(tile * (1 - overlap)))
    count = 1 + -(-(length - side) // step)
    starts = [round(number * (length - side) / max(1, count - 1)) for number in range(count)]
    cuts = [0, *((start + side + following) // 2 for start, following in pairwise(starts)), length]
    for number, start in enumerate(starts):
        yield slice(start, start + side), slice(cuts[number], cuts[number + 1])


def segment_image(
    model: VocabularyMixin,
    processor: DaTaSegImageProcessor,
    image: Image.Image,
    task: str,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    tile: int | None = None,
    overlap: float = 0.25,
    watch: Callable[[ImageProposals], None] | None = None,
) -> list[Segment]:
    """The segments of an image, as it lies, in the model's default vocabulary.

    Args:
        model: the model, or an exported one (`runtimes.RuntimeModel`).
        task: "panoptic" (segments do not overlap), "semantic" (one per category that occurs,
            without score), "instance" (objects, which may overlap, best first), or another name
            of `TASKS`.
        thresholds: what a segment needs to be reported.
        tile: side of the windows in pixels of the image; by default the whole image is seen at
            once. Every window is resized to the model's size.
        overlap: share of its side that a window has in common with the next, at least.
        watch: is shown the proposals of each window.

    Raises:
        ValueError: as `tiles`, for an unknown task, and for a model without a default vocabulary.
    """
    asked = get_task(task)
    # one scale for all windows
    image = Image.fromarray(rgb_pixels(image, processor.value_range, turn=False)[0])
    size = (image.height, image.width)
    places = tiles(size, max(size) if tile is None else tile, overlap)
    found = list(_predict(model, processor, image, places, asked, thresholds, watch))
    merged = asked.merged_categories(_is_thing(model)).nonzero()[:, 0].tolist()
    groups = join(found, places, set(merged))
    if asked.may_overlap:
        instances = [_union(group) for group in groups]
        return instances if thresholds.nms is None else without_repeated(instances, thresholds.nms)
    return settle(groups, places, size, 0.0 if asked.sums_proposals else thresholds.overlap)


def without_repeated(instances: Sequence[Segment], max_iou: float) -> list[Segment]:
    """Those of scored segments, best first, that repeat no better one of their category."""
    windows = [
        (slice(one.top, one.top + one.mask.shape[0]), slice(one.left, one.left + one.mask.shape[1]))
        for one in instances
    ]
    masks, areas = [one.mask for one in instances], [one.area for one in instances]
    kept = without_repeats(masks, windows, areas, [one.label_id for one in instances], max_iou)
    return [instances[place] for place in kept]


def _is_thing(model: VocabularyMixin) -> Tensor:
    """Thing flags of the default vocabulary, bool [C]."""
    name = model.config.default_vocabulary
    if name is None:
        raise ValueError("the model has no vocabulary: call `set_vocabulary` first")
    return torch.tensor(model.stored_vocabulary(name)["is_thing"], dtype=torch.bool)


@torch.no_grad()
def _predict(
    model: VocabularyMixin,
    processor: DaTaSegImageProcessor,
    image: Image.Image,
    places: Sequence[Tile],
    task: Task,
    thresholds: Thresholds,
    watch: Callable[[ImageProposals], None] | None,
) -> Iterator[list[Segment]]:
    """The segments that the model sees in each window, in coordinates of the image."""
    within_tile = replace(thresholds, nms=None)  # repeats are left out when all windows are joined
    for first in range(0, len(places), BATCH):
        batch = places[first : first + BATCH]
        crops = [
            image.crop((w.columns.start, w.rows.start, w.columns.stop, w.rows.stop)) for w in batch
        ]
        outputs = model(**processor(crops, return_tensors="pt").to(model.device))
        for tile, proposals in zip(batch, ImageProposals.of_batch(outputs), strict=True):
            if watch is not None:
                watch(proposals)
            prediction = task.predict(proposals, tile.size, within_tile).on_host()
            segments = [segment_of_region(region) for region in prediction.regions()]
            yield [segment.moved(tile.rows.start, tile.columns.start) for segment in segments]


def segment_of_region(region: Region) -> Segment:
    """A region as a segment of the window in which it was found."""
    rows, columns = region.window
    mask = region.mask.cpu().numpy()
    return cropped(mask, region.label_id, region.score).moved(rows.start, columns.start)


# --- joining --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """A segment and the number of the window in which it was seen."""

    window: int
    segment: Segment


def join(
    found: Sequence[Sequence[Segment]], places: Sequence[Tile], merged: Collection[int]
) -> list[list[Member]]:
    """Groups of the windows' segments that are one segment of the image, the best first.

    All segments of a merged category are one. Others are joined when they have one category and, in
    what their windows share, an IoU above 0.5; the surest pairs first, and never two segments of
    one window.

    Args:
        found: per window its segments, in coordinates of the image.
        places: the windows.
        merged: categories (label ids) that have one segment per image.
    """
    members = [
        Member(number, segment) for number, segments in enumerate(found) for segment in segments
    ]
    group_of = list(range(len(members)))
    groups: dict[int, list[int]] = {number: [number] for number in group_of}

    def unite(one: int, other: int) -> None:
        keep, lose = group_of[one], group_of[other]
        for number in groups.pop(lose):
            group_of[number] = keep
            groups[keep].append(number)

    first_of: dict[int, int] = {}
    for number, member in enumerate(members):
        label_id = member.segment.label_id
        if label_id in merged and first_of.setdefault(label_id, number) != number:
            unite(first_of[label_id], number)
    for one, other in _pairs(members, places, merged):
        seen_in = [
            {members[number].window for number in groups[group_of[side]]} for side in (one, other)
        ]
        if not seen_in[0] & seen_in[1]:
            unite(one, other)
    joined = [[members[number] for number in numbers] for numbers in groups.values()]
    return sorted(joined, key=lambda group: -(_score(group) or 0.0))


def _pairs(
    members: Sequence[Member], places: Sequence[Tile], merged: Collection[int]
) -> Iterator[tuple[int, int]]:
    """Numbers of the members that look like one segment seen in two windows, the surest pairs
    first.
    """
    in_window: dict[int, list[int]] = defaultdict(list)
    for number, member in enumerate(members):
        if member.segment.label_id not in merged:
            in_window[member.window].append(number)
    likely = []
    for (first, ours), (second, theirs) in combinations(in_window.items(), 2):
        rows = _shared(places[first].rows, places[second].rows)
        columns = _shared(places[first].columns, places[second].columns)
        if rows is None or columns is None:
            continue
        cuts = {
            number: members[number].segment.within(rows, columns) for number in [*ours, *theirs]
        }
        for one in ours:
            for other in theirs:
                if members[one].segment.label_id == members[other].segment.label_id:
                    iou = _iou(cuts[one], cuts[other])
                    if iou > JOINING_IOU:
                        likely.append((iou, one, other))
    for _, one, other in sorted(likely, key=lambda pair: (-pair[0], pair[1:])):
        yield one, other


def _shared(one: slice, other: slice) -> slice | None:
    start, stop = max(one.start, other.start), min(one.stop, other.stop)
    return slice(start, stop) if start < stop else None


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks, 0 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def settle(
    groups: Sequence[Sequence[Member]],
    places: Sequence[Tile],
    size: Size,
    least_share: float = 0.0,
) -> list[Segment]:
    """Groups as segments that do not overlap.

    A pixel goes to the window in whose core it lies, and where that window sees nothing, to the
    first other one that sees something. A segment that so keeps less than `least_share` of its
    pixels is dropped, as within a window.
    """
    owner = np.zeros(size, dtype=np.int32)
    in_window: dict[int, list[tuple[int, Segment]]] = defaultdict(list)
    for number, group in enumerate(groups, start=1):
        for member in group:
            in_window[member.window].append((number, member.segment))
    for window, seen in in_window.items():
        core = places[window].core
        for number, segment in seen:
            owner[core][segment.within(*core)] = number
    for window, seen in in_window.items():
        place = places[window].rows, places[window].columns
        for number, segment in seen:
            there = owner[place]
            there[segment.within(*place) & (there == 0)] = number
    settled = []
    for number, group in enumerate(groups, start=1):
        rows, columns = _bounds(group)
        segment = cropped(owner[rows, columns] == number, group[0].segment.label_id, _score(group))
        if segment.mask.size and segment.area >= least_share * _union(group).area:
            settled.append(segment.moved(rows.start, columns.start))
    return settled


def _bounds(group: Sequence[Member]) -> tuple[slice, slice]:
    """The rectangle of the image that holds a group."""
    segments = [member.segment for member in group]
    rows = slice(min(s.top for s in segments), max(s.top + s.mask.shape[0] for s in segments))
    columns = slice(min(s.left for s in segments), max(s.left + s.mask.shape[1] for s in segments))
    return rows, columns


def _union(group: Sequence[Member]) -> Segment:
    """All pixels of a group."""
    rows, columns = _bounds(group)
    segments = [member.segment for member in group]
    mask = np.logical_or.reduce([segment.within(rows, columns) for segment in segments])
    return Segment(segments[0].label_id, _score(group), mask, rows.start, columns.start)


def _score(group: Sequence[Member]) -> float | None:
    """The best score of a group, None in semantic results."""
    scores = [member.segment.score for member in group if member.segment.score is not None]
    return max(scores, default=None)
