"""Objects out of a map of classes: which pixels of a class belong together.

Shapes: N proposals, [H, W] pixels of the image.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label as connected

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
    parts = [numbers == number for number in range(1, count + 1)]
    known = _Known.of(proposals, region, class_index)
    if known is None:
        return [(part, 0.0) for part in parts]
    parts = _split(_joined(parts, known), known)
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
        self._masks = (soft > 0.5) & region
        self._areas = self._masks.sum((1, 2))

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
        weights = probability[chosen].double().sqrt()
        return cls(soft.cpu().numpy(), region, weights.cpu().numpy())

    def fit(self, part: Mask) -> float:
        """How well a proposal fits a part as one object, 0..1."""
        common = (self._masks & part).sum((1, 2))
        union = self._areas + part.sum() - common
        return float((self.weights * common / np.maximum(union, 1)).max())


def _joined(parts: list[Mask], known: _Known) -> list[Mask]:
    """Parts that are one object, behind something else, become one."""
    while len(parts) > 1:
        gains = {
            pair: known.fit(parts[pair[0]] | parts[pair[1]])
            - _mean_fit([parts[n] for n in pair], known)
            for pair in combinations(range(len(parts)), 2)
        }
        best = max(gains, key=gains.__getitem__)
        if gains[best] <= LEAST_GAIN:
            break
        whole = parts[best[0]] | parts[best[1]]
        parts = [part for number, part in enumerate(parts) if number not in best] + [whole]
    return parts


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
    best, found = known.fit(part) + LEAST_GAIN, None
    for first, second in combinations(known.soft, 2):
        nearer = first >= second
        halves = [part & nearer, part & ~nearer]
        if min(half.sum() for half in halves) < LEAST_PART * part.sum():
            continue
        fit = _mean_fit(halves, known)
        if fit > best:
            best, found = fit, halves
    return found


def _mean_fit(parts: Sequence[Mask], known: _Known) -> float:
    """The fit of several objects, each counted by its area."""
    areas = [int(part.sum()) for part in parts]
    return sum(known.fit(part) * area for part, area in zip(parts, areas, strict=True)) / sum(areas)


__all__ = ["split_into_objects"]
