"""Objects out of a map of classes: which pixels of a class belong together.

Shapes: N proposals, [H, W] pixels of the image.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label as connected

from ...data.masks import box_of_mask
from ...model.proposals_dataseg import ImageProposals
from ...model.resizing_dataseg import resize_masks

Mask = NDArray[np.bool_]

MOST_PROPOSALS = 8
"""Surest of a class, that are looked at."""
LEAST_PROBABILITY = 0.05
"""Of the class, in a proposal that is looked at."""
LEAST_GAIN = 0.05
"""By which the fit must improve before parts are joined or split."""
LEAST_PART = 0.1
"""Of an object's pixels, in each half of a split."""
MOST_PARTS = 100
"""Of a class, the largest ones, that may be joined."""
_ALL_NEIGHBORS = np.ones((3, 3), dtype=int)


@torch.no_grad()
def split_into_objects(
    proposals: ImageProposals, class_map: NDArray[np.integer], class_index: int
) -> list[tuple[Mask, float]]:
    """The objects of a class: masks [H, W] that share its pixels out, and how well a proposal fits
    each, 0..1.

    They begin as the connected parts. Two are joined, or one is split along the border of two
    proposals, as long as that lets proposals fit better: the fit of an object is the greatest IoU
    with a proposal's mask on pixels of the class, times the square root of the probability that the
    proposal has for the class; that of several objects is their mean by area (our setting).

    Args:
        proposals: of the image, in the vocabulary of the map.
        class_map: int [H, W].
        class_index: of the class in the map and in the vocabulary.
    """
    region = class_map == class_index
    numbers, count = connected(region, _ALL_NEIGHBORS)
    known = _Known.of(proposals, region, class_index)
    if known is None:
        return [(numbers == number, 0.0) for number in range(1, count + 1)]
    parts = _split(_joined(numbers, count, known), known)
    return [(part, known.fit(part)) for part in parts]


class _Known:
    """What the proposals of a class say of its pixels.

    Args:
        soft: float32 [K, H, W], 0..1.
        region: bool [H, W], the pixels of the class.
        weights: float64 [K], of the proposals.
    """

    def __init__(
        self, soft: NDArray[np.float32], region: Mask, weights: NDArray[np.float64]
    ) -> None:
        self.soft, self.weights = soft, weights
        self.masks = (soft > 0.5) & region
        self.areas = self.masks.sum((1, 2))

    @classmethod
    def of(cls, proposals: ImageProposals, region: Mask, class_index: int) -> "_Known | None":
        """None where no proposal thinks of the class."""
        probability = proposals.class_logits.float().softmax(-1)[:, class_index]
        best = probability.topk(min(MOST_PROPOSALS, len(probability)))
        chosen = best.indices[best.values > LEAST_PROBABILITY]
        if not len(chosen) or not region.any():
            return None
        height, width = region.shape
        logits = proposals.mask_logits[chosen].float()
        soft = resize_masks(logits, proposals.valid_size, (height, width)).sigmoid()
        weights = probability[chosen].cpu().double().sqrt()  # float64 is not on every device
        return cls(soft.cpu().numpy(), region, weights.numpy())

    def fit(self, part: Mask) -> float:
        """How well a proposal fits a part as one object, 0..1."""
        return float(self.fits((self.masks & part).sum((1, 2)), part.sum()))

    def fits(self, common: NDArray[np.integer], area: NDArray[np.integer]) -> NDArray[np.float64]:
        """The fit of parts by the pixels that they share with each proposal, int [..., K], and that
        they have, int [...].
        """
        union = self.areas + area[..., None] - common
        return np.asarray((self.weights * common / np.maximum(union, 1)).max(-1))


def _joined(numbers: NDArray[np.integer], count: int, known: _Known) -> list[Mask]:
    """The parts of a map of numbers from 1 on; those that are one object, behind something else,
    become one.
    """
    areas = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    common = np.stack(
        [np.bincount(numbers[mask], minlength=count + 1)[1:] for mask in known.masks], axis=1
    )
    groups = [[number] for number in range(1, count + 1)]
    most = np.argsort(-areas, kind="stable")[:MOST_PARTS]
    joinable = np.zeros(count, dtype=bool)
    joinable[most] = True
    while True:
        places = np.flatnonzero(joinable)
        first, second = (places[one] for one in np.triu_indices(len(places), 1))
        if not len(first):
            break
        both = areas[first] + areas[second]
        fits = known.fits(common, areas)
        apart = (fits[first] * areas[first] + fits[second] * areas[second]) / both
        gains = known.fits(common[first] + common[second], both) - apart
        best = int(gains.argmax())
        if gains[best] <= LEAST_GAIN:
            break
        kept, gone = int(first[best]), int(second[best])
        groups[kept] += groups[gone]
        groups[gone] = []
        areas[kept], common[kept] = areas[kept] + areas[gone], common[kept] + common[gone]
        joinable[gone] = False
    return [np.isin(numbers, group) for group in groups if group]


def _split(parts: Sequence[Mask], known: _Known) -> list[Mask]:
    """Objects that touch become several."""
    done, waiting = [], list(parts)
    while waiting:
        part = waiting.pop()
        halves = _best_halves(part, known)
        if halves is None:
            done.append(part)
        else:
            waiting += halves
    return done


def _best_halves(part: Mask, known: _Known) -> list[Mask] | None:
    """The two halves along the border of two proposals that fit best; None where the whole does."""
    left, top, right, bottom = box_of_mask(part)
    window = slice(top, bottom), slice(left, right)
    inside, masks = part[window], known.masks[(slice(None), *window)]
    area, common = inside.sum(), (masks & inside).sum((1, 2))
    best, found = float(known.fits(common, area)) + LEAST_GAIN, None
    reaching = np.flatnonzero(common)  # others would take nothing
    for first, second in combinations(reaching.tolist(), 2):
        half = inside & (known.soft[first][window] >= known.soft[second][window])
        own = half.sum()
        if min(own, area - own) < LEAST_PART * area:
            continue
        shared = (masks & half).sum((1, 2))
        fits = known.fits(np.stack([shared, common - shared]), np.array([own, area - own]))
        fit = float((fits * [own, area - own]).sum() / area)
        if fit > best:
            best, found = fit, half
    if found is None:
        return None
    nearer = np.zeros_like(part)
    nearer[window] = found
    return [nearer, part & ~nearer]


__all__ = ["split_into_objects"]
