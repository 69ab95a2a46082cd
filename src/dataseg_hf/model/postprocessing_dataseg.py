"""From proposals to results: MERGE at inference, and the output of each task at the size of the
image.

Only the proposals that can appear are enlarged, one at a time and only where they can appear, with
a running maximum: time and memory grow with what is seen, not with the number of queries or
categories. Results carry no gradient, so logits may be given with theirs.

Shapes: N queries, C categories, h x w mask grid, H x W result.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .mask_nms_dataseg import without_repeats

Window = tuple[slice, slice]  # rows and columns of a result; empty ones are 0:0
BAND_ELEMENTS = 2**21  # of the largest temporary of semantic results: 8 MiB
BUNDLE_PIXELS = 2**17  # of small masks that are enlarged together: what a core's cache holds


@dataclass
class PanopticPrediction:
    """Segments that do not overlap.

    Args:
        segmentation: int32 [H, W], 0 = none.
        segments: dicts with id, label_id, was_fused, score.
    """

    segmentation: Tensor
    segments: list[dict]


@dataclass
class InstancePrediction:
    """K scored objects that may overlap, best first.

    Args:
        crops: K binary masks, each within its window of the result.
        windows: rows and columns of the result, of each mask.
        areas: pixels of each mask.
        scores: [K].
        label_ids: int64 [K].
        size: height and width of the result.
    """

    crops: list[Tensor]
    windows: list[Window]
    areas: list[int]
    scores: Tensor
    label_ids: Tensor
    size: tuple[int, int]

    @property
    def masks(self) -> Tensor:
        """The masks at full size, bool [K, H, W], built anew at each call."""
        masks = torch.zeros(
            len(self.crops), *self.size, dtype=torch.bool, device=self.scores.device
        )
        for mask, crop, window in zip(masks, self.crops, self.windows, strict=True):
            mask[window] = crop
        return masks


# --- resizing -------------------------------------------------------------------------------------


class AxisResize:
    """Bilinear resize of the first `valid` share of an axis of `cells` to `size` pixels, padding
    cropped.

    Pixel i is the mean of the cells low[i] and high[i] with weights 1 - weight[i] and weight[i],
    also where the image ends within a cell. `valid`: scalar tensor.
    """

    def __init__(self, cells: int, valid: Tensor, size: int) -> None:
        # the last cell that holds some of the image
        last = (valid * cells - 1e-3).ceil().clamp(1, cells) - 1
        position = (torch.arange(size, device=valid.device) + 0.5) / size * (valid * cells) - 0.5
        position = position.clamp(min=0).minimum(last)
        self.low = position.long()
        self.high = (self.low + 1).minimum(last.long())
        self.weight = position - self.low
        self._first, self._last = self.low.tolist(), self.high.tolist()  # one wait for the device

    def pixels(self, cells: Tensor) -> Tensor:
        """For bool [K, cells] the smallest ranges of pixels that hold all those that touch a true
        cell: [K, 2].
        """
        true = cells.int()
        first, end = true.argmax(-1), cells.shape[-1] - true.flip(-1).argmax(-1)
        ranges = torch.stack(
            [torch.searchsorted(self.high, first), torch.searchsorted(self.low, end)], dim=-1
        )
        return ranges.where(cells.any(-1, keepdim=True), 0)

    def enlarge(self, values: Tensor, pixels: slice) -> Tensor:
        """Some of the pixels, along the second axis of values [K, cells, ...], which begins at the
        cell that the first of those pixels touches: [K, pixels, ...].
        """
        start = self._first[pixels.start]
        low, high = self.low[pixels] - start, self.high[pixels] - start
        weight = self.weight[pixels].view(-1, *[1] * (values.ndim - 2))
        return torch.lerp(values.index_select(1, low), values.index_select(1, high), weight)

    def cells(self, pixels: slice) -> slice:
        """The cells that those pixels touch."""
        return slice(self._first[pixels.start], self._last[pixels.stop - 1] + 1)


class Resize:
    """Crops the padding of maps [K, h, w] and resizes them bilinearly to `size`. valid_size: [2],
    as shares of h, w.
    """

    def __init__(self, grid: tuple[int, int], valid_size: Tensor, size: tuple[int, int]) -> None:
        self.size = size
        self.rows = AxisResize(grid[0], valid_size[0], size[0])
        self.columns = AxisResize(grid[1], valid_size[1], size[1])

    def window(self, maps: Tensor, rows: slice, columns: slice) -> Tensor:
        """Those pixels of the result, for maps [K, h, w]."""
        return self.enlarge(
            maps[:, self.rows.cells(rows), self.columns.cells(columns)], rows, columns
        )

    def enlarge(self, cells: Tensor, rows: slice, columns: slice) -> Tensor:
        """Those pixels of the result from the cells [K, h', w'] that they touch."""
        maps, height, width = cells.shape
        # as one table of rows: there, values are picked twice as fast as along the last of three
        # axes
        by_columns = self.columns.enlarge(cells.reshape(maps * height, width), columns)
        return self.rows.enlarge(by_columns.view(maps, height, columns.stop - columns.start), rows)

    def windows(self, rows: Tensor, columns: Tensor) -> list[Window]:
        """Of K maps the pixels that touch cells of the rows bool [K, h] and columns bool [K, w]."""
        ranges = torch.stack([self.rows.pixels(rows), self.columns.pixels(columns)], dim=1)
        filled = (ranges[..., 0] < ranges[..., 1]).all(-1)  # cells of the padding touch no pixel
        return [
            (slice(*row), slice(*column))
            for row, column in ranges.where(filled[:, None, None], 0).tolist()
        ]


def where_reached(maps: Sequence[Tensor], least: Tensor) -> tuple[Tensor, Tensor]:
    """Rows bool [K, h] and columns bool [K, w] in which K maps [h, w] reach `least`, [K]."""
    rows = torch.stack([values.amax(-1) for values in maps]) >= least[:, None]
    # an empty span gives the lowest number, whose largest is itself
    lowest = torch.full_like(maps[0][:1], -torch.inf)
    largest = [
        (values[span] if span.stop > span.start else lowest).amax(0)
        for values, span in zip(maps, spans(rows), strict=True)
    ]
    return rows, torch.stack(largest) >= least[:, None]


def spans(rows: Tensor) -> list[slice]:
    """For bool [K, h] the smallest ranges that hold all true ones; 0:0 where there is none."""
    first, end = rows.int().argmax(-1), rows.shape[-1] - rows.flip(-1).int().argmax(-1)
    some = rows.any(-1)
    return [slice(*pair) for pair in torch.stack([first * some, end * some], dim=-1).tolist()]


def chosen_maps(mask_logits: Tensor, queries: Sequence[int]) -> list[Tensor]:
    """float32 [h, w] of each query; views where they are float32 already, as a copy takes longer
    than what follows.
    """
    return [mask_logits[query].float() for query in queries]


def resize_masks(masks: Tensor, valid_size: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop the padding and resize bilinearly: [K, h, w] -> [K, *size]. valid_size: [2], fractions
    of the canvas.
    """
    resize = Resize((masks.shape[-2], masks.shape[-1]), valid_size, size)
    return resize.window(masks, slice(0, size[0]), slice(0, size[1]))


def valid_grid(masks: Tensor, valid_size: Tensor) -> tuple[int, int]:
    """Cells of the mask grid that the image covers, at least one: the output size where none is
    asked for.
    """
    height, width = (
        (valid_size.cpu() * torch.tensor(masks.shape[-2:])).round().clamp(min=1).int().tolist()
    )
    return height, width


# --- semantic -------------------------------------------------------------------------------------


@torch.no_grad()
def semantic_prediction(
    class_logits: Tensor, mask_logits: Tensor, valid_size: Tensor, size: tuple[int, int] | None
) -> Tensor:
    """Most likely category per pixel: argmax over c of sum_i p_i(c) sigmoid(m_i), int64 [H, W].

    class_logits [N, C + 1], mask_logits [N, h, w]. The background takes part in the softmax and is
    dropped after it. Works in bands of rows, in which only the categories that can win are
    enlarged.
    """
    size = size or valid_grid(mask_logits, valid_size)
    resize = Resize((mask_logits.shape[-2], mask_logits.shape[-1]), valid_size, size)
    probabilities = class_logits.float().softmax(-1)[:, :-1].T
    whole = slice(0, size[1])
    columns = resize.columns.cells(whole)
    winner = torch.empty(size, dtype=torch.int64, device=mask_logits.device)
    for rows in _bands(resize, len(probabilities) * (columns.stop - columns.start)):
        masks = mask_logits[:, resize.rows.cells(rows), columns].float().sigmoid()
        scores = (probabilities @ masks.flatten(1)).unflatten(1, masks.shape[1:])
        best = torch.full((rows.stop - rows.start, size[1]), -1.0, device=scores.device)
        for chosen in _can_win(scores).split(max(1, BAND_ELEMENTS // best.numel())):
            value, index = resize.enlarge(scores[chosen], rows, whole).max(0)
            winner[rows] = torch.where(value > best, chosen[index], winner[rows])
            best = torch.maximum(best, value)
    return winner


def _bands(resize: Resize, row_elements: int) -> Iterator[slice]:
    """Rows of the result in bands, for which about BAND_ELEMENTS scores are computed; one row of
    cells has that many `row_elements`.
    """
    height = resize.size[0]
    cells = resize.rows.cells(slice(0, height)).stop
    count = max(1, int((BAND_ELEMENTS / row_elements - 1) * height / cells))
    for first in range(0, height, count):
        yield slice(first, min(first + count, height))


def _can_win(scores: Tensor) -> Tensor:
    """Indices of the categories of scores [C, h, w] that can be the largest at some place between
    the cells.

    A bilinear value lies between the least and the largest of its four cells, so the best one is at
    least the least of any category. It is also at least a quarter of the sum of the cells' own best
    categories, of which each cell has one. What is nowhere as large as these cannot win.
    """
    largest, least, best = scores, scores, scores.amax(0)
    for axis in (-2, -1):
        if scores.shape[axis] > 1:
            count = scores.shape[axis] - 1
            largest = torch.maximum(largest.narrow(axis, 0, count), largest.narrow(axis, 1, count))
            least = torch.minimum(least.narrow(axis, 0, count), least.narrow(axis, 1, count))
            best = torch.minimum(best.narrow(axis, 0, count), best.narrow(axis, 1, count))
    reached = torch.maximum(least.amax(0), 0.2499 * best)
    return (~(largest < reached)).flatten(1).any(1).nonzero()[:, 0]


# --- panoptic -------------------------------------------------------------------------------------


@torch.no_grad()
def panoptic_prediction(
    class_logits: Tensor,
    mask_logits: Tensor,
    fused: Tensor,
    valid_size: Tensor,
    size: tuple[int, int] | None,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    overlap_mask_area_threshold: float = 0.8,
) -> PanopticPrediction:
    """One id map: a segment per thing, and per fused category one segment (MERGE at inference).

    A proposal takes part when its best category is not background and has more than `threshold`; a
    pixel goes to the proposal with the largest class probability times mask probability; a segment
    stays when it keeps at least `overlap_mask_area_threshold` of its own mask (MaskFormer's
    procedure).

    Args:
        class_logits: [N, C + 1]. mask_logits: [N, h, w]. fused: bool [C], categories with one
            segment per image.
        valid_size: [2]. size: height and width of the output; None keeps the mask grid.
    """
    size = size or valid_grid(mask_logits, valid_size)
    scores, label_ids = class_logits.float().softmax(-1).max(-1)
    kept = ((label_ids < len(fused)) & (scores > threshold)).nonzero()[:, 0]
    groups = _merge_proposals(kept, label_ids, fused)
    owner, own_masks = _owners(groups, scores, mask_logits, valid_size, size, mask_threshold)

    segmentation = torch.zeros(size, dtype=torch.int32, device=mask_logits.device)
    segments: list[dict] = []
    for number, members in enumerate(groups, start=1):
        window, own = own_masks[number - 1]
        visible = (owner[window] == number) & own
        area = int(visible.sum())
        if area == 0 or area < overlap_mask_area_threshold * int(own.sum()):
            continue
        label_id = int(label_ids[members[0]])
        segmentation[window].masked_fill_(visible, len(segments) + 1)
        segments.append(
            {
                "id": len(segments) + 1,
                "label_id": label_id,
                "was_fused": bool(fused[label_id]),
                "score": round(float(scores[members].max()), 6),
            }
        )
    return PanopticPrediction(segmentation, segments)


def _owners(
    groups: list[list[int]],
    scores: Tensor,
    mask_logits: Tensor,
    valid_size: Tensor,
    size: tuple[int, int],
    mask_threshold: float,
) -> tuple[Tensor, list[tuple[Window, Tensor]]]:
    """The group that each pixel goes to, int32 [H, W] from 1, and of each group the window and the
    binary mask in it.

    A pixel that goes to a value below the least score times `mask_threshold` is above that
    threshold in no mask and stays empty, whoever has it: such values are left out.
    """
    owner = torch.zeros(size, dtype=torch.int32, device=mask_logits.device)
    best = torch.zeros(size, device=mask_logits.device)
    if not groups:
        return owner, []
    queries = [query for group in groups for query in group]
    members = torch.tensor(queries, device=mask_logits.device)
    logits = chosen_maps(mask_logits, queries)
    resize = Resize((mask_logits.shape[-2], mask_logits.shape[-1]), valid_size, size)
    least = _logit(mask_threshold * scores[members].min() / scores[members])
    windows = resize.windows(*where_reached(logits, least))
    own_masks: list[tuple[Window, Tensor]] = []
    place = 0
    for number, group in enumerate(groups, start=1):
        places = range(place, place + len(group))
        place += len(group)
        around = _hull([windows[i] for i in places])
        own = torch.zeros_like(owner[around], dtype=torch.bool)
        for i in places:
            rows, columns = window = windows[i]
            if rows.stop == rows.start:
                continue
            probabilities = resize.window(logits[i][None], rows, columns)[0].sigmoid_()
            own[_within(window, around)] |= probabilities >= mask_threshold
            value = probabilities.mul_(scores[group[i - places.start]])
            owner[window].masked_fill_(value > best[window], number)
            torch.maximum(best[window], value, out=best[window])
        own_masks.append((around, own))
    return owner, own_masks


def _merge_proposals(kept: Tensor, label_ids: Tensor, fused: Tensor) -> list[list[int]]:
    """Groups of proposals that make one segment each: every thing alone, all of one fused category
    together.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for query, label_id, merges in zip(
        kept.tolist(), label_ids[kept].tolist(), fused[label_ids[kept]].tolist(), strict=True
    ):
        groups.setdefault(("category", label_id) if merges else ("query", query), []).append(query)
    return list(groups.values())


def _logit(probability: Tensor) -> Tensor:
    """Mask logits of the probabilities, a little less, so that rounding drops no pixel that reaches
    them.
    """
    return probability.clamp(max=1 - 1e-6).logit() - 1e-3


def _hull(windows: list[Window]) -> Window:
    """The smallest window that holds all of them that are not empty."""
    filled = [window for window in windows if window[0].stop > window[0].start]
    if not filled:
        return slice(0, 0), slice(0, 0)
    rows, columns = (
        slice(
            min(window[axis].start for window in filled),
            max(window[axis].stop for window in filled),
        )
        for axis in (0, 1)
    )
    return rows, columns


def _within(window: Window, around: Window) -> Window:
    """A window in the coordinates of another that holds it."""
    rows, columns = (
        slice(inner.start - outer.start, inner.stop - outer.start)
        for inner, outer in zip(window, around, strict=True)
    )
    return rows, columns


# --- instances ------------------------------------------------------------------------------------


@torch.no_grad()
def instance_prediction(
    class_logits: Tensor,
    mask_logits: Tensor,
    is_thing: Tensor,
    valid_size: Tensor,
    size: tuple[int, int] | None,
    threshold: float = 0.0,
    mask_threshold: float = 0.5,
    max_instances: int = 100,
    nms: float | None = None,
) -> InstancePrediction:
    """The best (query, thing category) pairs as scored masks; nothing is merged and masks may
    overlap.

    score = class probability times the mean mask probability inside the mask (Mask2Former). Empty
    masks are left out.

    Args:
        class_logits: [N, C + 1]. mask_logits: [N, h, w]. is_thing: bool [C]. valid_size: [2].
        size: height and width of the output; None keeps the mask grid. threshold: least score.
        nms: IoU above which the worse of two masks of a category is left out; None keeps all.
    """
    size = size or valid_grid(mask_logits, valid_size)
    probabilities = class_logits.float().softmax(-1)[:, :-1].masked_fill(~is_thing, 0.0)
    best, index = probabilities.flatten().topk(min(max_instances, probabilities.numel()))
    # the mask quality is at most 1, so a pair below the threshold stays below it: do not resize its
    # mask
    above = int((best > threshold).count_nonzero())  # the first ones, as they are sorted
    best, index = best[:above], index[:above]
    queries, label_ids = index // probabilities.shape[1], index % probabilities.shape[1]
    distinct, position = queries.unique(return_inverse=True)
    maps = chosen_maps(mask_logits, distinct.tolist())
    crops, windows, areas, quality = _binary_masks(maps, valid_size, size, mask_threshold)
    scores = best * quality[position]
    kept = ((scores > threshold) & (quality > 0)[position]).nonzero()[:, 0]
    kept = kept[scores[kept].argsort(descending=True, stable=True)]
    order = position[kept].tolist()
    found = InstancePrediction(
        [crops[i] for i in order],
        [windows[i] for i in order],
        [areas[i] for i in order],
        scores[kept],
        label_ids[kept],
        size,
    )
    return found if nms is None else _without_repeats(found, nms)


def _without_repeats(found: InstancePrediction, max_iou: float) -> InstancePrediction:
    masks = [crop.cpu().numpy() for crop in found.crops]
    kept = without_repeats(masks, found.windows, found.areas, found.label_ids.tolist(), max_iou)
    return InstancePrediction(
        [found.crops[i] for i in kept],
        [found.windows[i] for i in kept],
        [found.areas[i] for i in kept],
        found.scores[kept],
        found.label_ids[kept],
        found.size,
    )


def _binary_masks(
    logits: Sequence[Tensor], valid_size: Tensor, size: tuple[int, int], mask_threshold: float
) -> tuple[list[Tensor], list[Window], list[int], Tensor]:
    """Binary masks of K logits [h, w], each within its window, their areas, and the mean
    probability inside, [K].

    The mean of an empty mask is 0.
    """
    if not logits:
        return [], [], [], torch.zeros(0, device=valid_size.device)
    resize = Resize((logits[0].shape[0], logits[0].shape[1]), valid_size, size)
    least = _logit(torch.full((len(logits),), mask_threshold, device=valid_size.device))
    windows = resize.windows(*where_reached(logits, least))
    crops: list[Tensor] = []
    counts: list[Tensor] = []
    sums: list[Tensor] = []
    for places in _bundles(windows):
        # small masks are many, and take longer to hand to the device one by one than to compute
        enlarged = [_enlarged(resize, logits[i], windows[i]) for i in places]
        probabilities = torch.cat([values.flatten() for values in enlarged]).sigmoid_()
        inside = probabilities >= mask_threshold
        sizes = [values.numel() for values in enlarged]
        parts = inside.split(sizes)
        crops += [part.view_as(values) for part, values in zip(parts, enlarged, strict=True)]
        counts += [part.count_nonzero() for part in parts]
        sums += [part.sum() for part in probabilities.mul_(inside).split(sizes)]
    areas = torch.stack(counts)
    return crops, windows, areas.tolist(), torch.stack(sums) / areas.clamp(min=1)


def _bundles(windows: Sequence[Window]) -> Iterator[range]:
    """Successive windows that together have no more than BUNDLE_PIXELS pixels, or one alone that
    has.
    """
    first = pixels = 0
    for place, (rows, columns) in enumerate(windows):
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        if place > first and pixels + area > BUNDLE_PIXELS:
            yield range(first, place)
            first, pixels = place, 0
        pixels += area
    yield range(first, len(windows))


def _enlarged(resize: Resize, logits: Tensor, window: Window) -> Tensor:
    """The pixels of a window, of logits [h, w]; [0, 0] of an empty one."""
    rows, columns = window
    if rows.stop == rows.start:
        return logits.new_zeros(0, 0)
    return resize.window(logits[None], rows, columns)[0]
