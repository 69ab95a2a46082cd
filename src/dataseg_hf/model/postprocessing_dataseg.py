"""From proposals to results: MERGE at inference, and the output of each task at the size of the
image.

Only the proposals that can appear are enlarged, one at a time and only where they can appear, with
a running maximum: time and memory grow with what is seen, not with the number of queries or
categories. Results carry no gradient, so logits may be given with theirs.

The host waits for a device a few times an image, however many proposals there are: what it must
know is packed and copied at once (`to_host`).

Shapes: N queries, C categories, K results, h x w mask grid, H x W result.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .host_dataseg import to_device, to_host
from .mask_nms_dataseg import Window
from .predictions_dataseg import InstancePrediction, PanopticPrediction, SemanticPrediction
from .proposals_dataseg import ImageProposals
from .resizing_dataseg import Resize, chosen_maps, hull, valid_grid, where_reached, within
from .thresholds_dataseg import DEFAULT_THRESHOLDS, Thresholds

BAND_ELEMENTS = 2**21  # of the largest temporary of semantic results: 8 MiB
BUNDLE_PIXELS = 2**17  # of small masks that are enlarged together: what a core's cache holds

Size = tuple[int, int]  # height, width


# --- semantic -------------------------------------------------------------------------------------


@torch.no_grad()
def semantic_prediction(proposals: ImageProposals, size: Size | None) -> SemanticPrediction:
    """Most likely category per pixel: argmax over c of sum_i w_i p_i(c) sigmoid(m_i), where w_i is
    1 unless the proposals carry weights.

    Works in bands of rows, in which only the categories that can win are enlarged.

    Args:
        proposals: of the image.
        size: height and width of the result in pixels; None keeps the mask grid.
    """
    mask_logits = proposals.mask_logits
    (valid_size,) = to_host(proposals.valid_size)
    size = size or valid_grid(mask_logits, valid_size)
    resize = Resize(proposals.grid, valid_size, size, mask_logits.device)
    probabilities = proposals.semantic_probabilities().T
    columns = resize.columns.cells(slice(0, size[1]))

    def scores_of(rows: slice) -> Tensor:
        masks = mask_logits[:, resize.rows.cells(rows), columns].float().sigmoid()
        return (probabilities @ masks.flatten(1)).unflatten(1, masks.shape[1:])

    bands = list(_bands(resize, len(probabilities) * (columns.stop - columns.start)))
    return SemanticPrediction(*_largest(scores_of, bands, resize, mask_logits.device))


@torch.no_grad()
def likeliest_class(scores: Tensor, valid_size: Tensor, size: Size) -> Tensor:
    """Index of the largest score per pixel, int64 [H, W], the scores enlarged as masks are.

    Args:
        scores: float [C, h, w], of any sign.
        valid_size: [2], height and width of the image as fractions of the grid.
        size: height and width of the result, in pixels.
    """
    resize = Resize((scores.shape[-2], scores.shape[-1]), valid_size, size, scores.device)
    columns = resize.columns.cells(slice(0, size[1]))
    scores = scores - scores.amin()
    bands = list(_bands(resize, len(scores) * (columns.stop - columns.start)))
    return _largest(
        lambda rows: scores[:, resize.rows.cells(rows), columns], bands, resize, scores.device
    )[0]


def _largest(
    scores_of: Callable[[slice], Tensor],
    bands: Sequence[slice],
    resize: Resize,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Index and value of the largest score per pixel, int64 and float [H, W].

    Args:
        scores_of: for rows of the result the scores [C, h, w], none below 0, of the cells that they
            touch.
        bands: of rows, which cover the result.
        resize: from cells to the result.
        device: of the scores.
    """
    winner = torch.empty(resize.size, dtype=torch.int64, device=device)
    sums = torch.empty(resize.size, device=device)
    chosen = [] if device.type == "cpu" else _winners_of_bands(scores_of, bands, device)
    for number, rows in enumerate(bands):
        scores = scores_of(rows)
        candidates = chosen[number] if chosen else _can_win(scores).nonzero()[:, 0]
        winner[rows], sums[rows] = _largest_of_band(scores, candidates, resize, rows)
    return winner, sums


def _winners_of_bands(
    scores_of: Callable[[slice], Tensor], bands: Sequence[slice], device: torch.device
) -> list[Tensor]:
    """For each band the categories that can win in it.

    Scores are computed for this and once more for the result, which takes less memory than keeping
    them, and less time than waiting for the device in each band.
    """
    (flags,) = to_host(torch.stack([_can_win(scores_of(rows)) for rows in bands]))
    return [to_device(band.nonzero()[:, 0], device) for band in flags]


def _largest_of_band(
    scores: Tensor, candidates: Tensor, resize: Resize, rows: slice
) -> tuple[Tensor, Tensor]:
    """`_largest` for one band, among some categories."""
    shape = (rows.stop - rows.start, resize.size[1])
    winner = torch.zeros(shape, dtype=torch.int64, device=scores.device)
    best = torch.full(shape, -1.0, device=scores.device)
    for chosen in candidates.split(max(1, BAND_ELEMENTS // best.numel())):
        value, index = resize.enlarge(scores[chosen], rows, slice(0, shape[1])).max(0)
        winner = torch.where(value > best, chosen[index], winner)
        best = torch.maximum(best, value)
    return winner, best


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
    """Whether each category of scores [C, h, w] can be the largest at some place between the cells:
    bool [C].

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
    return (~(largest < reached)).flatten(1).any(1)


# --- panoptic -------------------------------------------------------------------------------------


@torch.no_grad()
def panoptic_prediction(
    proposals: ImageProposals,
    fused: Tensor,
    size: Size | None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> PanopticPrediction:
    """One id map: a segment per thing, and per fused category one segment (MERGE at inference).

    A proposal takes part when its best category is not background and has more than
    `thresholds.score`; a pixel goes to the proposal with the largest class probability times mask
    probability; a segment stays when it keeps at least `thresholds.overlap` of its own mask
    (MaskFormer's procedure).

    Args:
        proposals: of the image.
        fused: bool [C], categories with one segment per image (`Task.merged_categories`).
        size: height and width of the result in pixels; None keeps the mask grid.
        thresholds: what a segment needs.
    """
    scores, label_ids, is_fused, valid_size = to_host(
        *proposals.likeliest_classes(), fused, proposals.valid_size
    )
    size = size or valid_grid(proposals.mask_logits, valid_size)
    kept = ((label_ids < len(is_fused)) & (scores > thresholds.score)).nonzero()[:, 0]
    groups = _merge_proposals(kept, label_ids, is_fused)
    resize = Resize(proposals.grid, valid_size, size, proposals.mask_logits.device)
    owner, own_masks = _owners(groups, scores, proposals.mask_logits, resize, thresholds.mask)
    visible = [
        (owner[window] == number) & own for number, (window, own) in enumerate(own_masks, start=1)
    ]
    areas = _pixels([*visible, *(own for _, own in own_masks)])

    segmentation = torch.zeros(size, dtype=torch.int32, device=owner.device)
    segments: list[dict] = []
    for number, members in enumerate(groups):
        area = areas[number]
        if area == 0 or area < thresholds.overlap * areas[len(groups) + number]:
            continue
        label_id = int(label_ids[members[0]])
        window, _ = own_masks[number]
        segmentation[window].masked_fill_(visible[number], len(segments) + 1)
        segments.append(
            {
                "id": len(segments) + 1,
                "label_id": label_id,
                "was_fused": bool(is_fused[label_id]),
                "score": round(float(scores[members].max()), 6),
            }
        )
    return PanopticPrediction(segmentation, segments)


def _pixels(masks: Sequence[Tensor]) -> list[int]:
    """Pixels of each mask."""
    if not masks:
        return []
    (counts,) = to_host(torch.stack([mask.count_nonzero() for mask in masks]))
    return counts.tolist()


def _owners(
    groups: list[list[int]],
    scores: Tensor,
    mask_logits: Tensor,
    resize: Resize,
    mask_threshold: float,
) -> tuple[Tensor, list[tuple[Window, Tensor]]]:
    """The group that each pixel goes to, int32 [H, W] from 1, and of each group the window and the
    binary mask in it.

    A pixel that goes to a value below the least score times `mask_threshold` is above that
    threshold in no mask and stays empty, whoever has it: such values are left out.
    """
    device = mask_logits.device
    owner = torch.zeros(resize.size, dtype=torch.int32, device=device)
    best = torch.zeros(resize.size, device=device)
    if not groups:
        return owner, []
    queries = [query for group in groups for query in group]
    score_of = scores[queries]
    logits = chosen_maps(mask_logits, queries)
    min_logits = to_device(_logit(mask_threshold * score_of.min() / score_of), device)
    score_of = to_device(score_of, device)
    windows = resize.windows(*where_reached(logits, min_logits))
    own_masks: list[tuple[Window, Tensor]] = []
    place = 0
    for number, group in enumerate(groups, start=1):
        places = range(place, place + len(group))
        place += len(group)
        around = hull([windows[i] for i in places])
        own = torch.zeros_like(owner[around], dtype=torch.bool)
        for i in places:
            rows, columns = window = windows[i]
            if rows.stop == rows.start:
                continue
            probabilities = resize.window(logits[i][None], rows, columns)[0].sigmoid_()
            own[within(window, around)] |= probabilities >= mask_threshold
            value = probabilities.mul_(score_of[i])
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


# --- instances ------------------------------------------------------------------------------------


@torch.no_grad()
def instance_prediction(
    proposals: ImageProposals, size: Size | None, thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> InstancePrediction:
    """The best (query, thing category) pairs as scored masks; nothing is merged and masks may
    overlap.

    score = class probability times the mean mask probability inside the mask (Mask2Former). Empty
    masks are left out.

    Args:
        proposals: of the image.
        size: height and width of the result in pixels; None keeps the mask grid.
        thresholds: what an instance needs.
    """
    best, queries, label_ids, valid_size = _best_pairs(proposals, thresholds)
    size = size or valid_grid(proposals.mask_logits, valid_size)
    distinct, position = queries.unique(return_inverse=True)
    resize = Resize(proposals.grid, valid_size, size, proposals.mask_logits.device)
    maps = chosen_maps(proposals.mask_logits, distinct.tolist())
    crops, windows, areas, quality = _binary_masks(maps, resize, thresholds.mask)
    scores = best * quality[position]
    kept = ((scores > thresholds.score) & (quality > 0)[position]).nonzero()[:, 0]
    kept = kept[scores[kept].argsort(descending=True, stable=True)]
    order = position[kept].tolist()
    found = InstancePrediction(
        [crops[i] for i in order],
        [windows[i] for i in order],
        [areas[i] for i in order],
        scores[kept],
        label_ids[kept],
        size,
        proposals.mask_logits.device,
    )
    return found if thresholds.nms is None else found.without_repeats(thresholds.nms)


def _best_pairs(
    proposals: ImageProposals, thresholds: Thresholds
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Probability, query and category of the likeliest pairs, at most `thresholds.max_instances`,
    and the proposals' `valid_size`, all on the host.

    The mask quality is at most 1, so a pair below the threshold stays below it and its mask need
    not be resized.
    """
    probabilities = proposals.class_probabilities().masked_fill(~proposals.is_thing, 0.0)
    count = min(thresholds.max_instances, probabilities.numel())
    best, index = probabilities.flatten().topk(count)
    categories = probabilities.shape[1]
    best, queries, label_ids, valid_size = to_host(
        best, index // categories, index % categories, proposals.valid_size
    )
    above = int((best > thresholds.score).count_nonzero())  # the first ones, as they are sorted
    return best[:above], queries[:above], label_ids[:above], valid_size


def _binary_masks(
    logits: Sequence[Tensor], resize: Resize, mask_threshold: float
) -> tuple[list[Tensor], list[Window], list[int], Tensor]:
    """Binary masks of K logits [h, w], each within its window, their areas, and the mean
    probability inside, [K] on the host.

    The mean of an empty mask is 0.
    """
    if not logits:
        return [], [], [], torch.zeros(0)
    min_logits = _logit(torch.full((len(logits),), mask_threshold, device=logits[0].device))
    windows = resize.windows(*where_reached(logits, min_logits))
    crops: list[Tensor] = []
    counts: list[Tensor] = []
    sums: list[Tensor] = []
    for places in _bundles(windows):
        # small masks are many, and take longer to hand to the device one by one than to compute
        enlarged = [_enlarged(resize, logits[i], windows[i]) for i in places]
        probabilities = torch.cat([values.flatten() for values in enlarged]).sigmoid_()
        in_mask = probabilities >= mask_threshold
        sizes = [values.numel() for values in enlarged]
        parts = in_mask.split(sizes)
        crops += [part.view_as(values) for part, values in zip(parts, enlarged, strict=True)]
        counts += [part.count_nonzero() for part in parts]
        sums += [part.sum() for part in probabilities.mul_(in_mask).split(sizes)]
    areas, totals = to_host(torch.stack(counts), torch.stack(sums))
    return crops, windows, areas.tolist(), totals / areas.clamp(min=1)


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


__all__ = [
    "instance_prediction",
    "likeliest_class",
    "panoptic_prediction",
    "semantic_prediction",
]
