"""Where an annotation and a model disagree: objects that are missing, classes that the model
contradicts, masks and boxes that do not fit.

Shapes: K proposals, M annotated objects, C categories of a set.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..segments import Segment, cropped
from .seen import SAME_OBJECT, Known, Seen
from .words import Words

DoubtKind: TypeAlias = Literal["missing", "class", "shape"]
DOUBT_KINDS: tuple[DoubtKind, ...] = get_args(DoubtKind)

LEAST_PROBABILITY = 0.5
"""Of a category, in a proposal that is held against an annotation."""
OTHER_OBJECT = 0.3
"""IoU below which a proposal is none of the annotated objects."""
FITTING = 0.7
"""IoU from which on a mask or box fits."""
MOSTLY = 0.7
"""Share of a proposal in an annotated object of its category, from which on it is a part of it. All
are our setting.
"""
_SHARPNESS = 0.05  # of the shares of proposals by their IoU, as when boxes are completed


@dataclass(frozen=True)
class Doubt:
    """One place where a person should look.

    Args:
        kind: what may be wrong.
        score: 0..1, how sure the model is.
        segment: what the model sees there, its category an index into those of all sets.
        place: of the annotated object in the annotation; None where one is missing.
        text: what to tell the person.
    """

    kind: DoubtKind
    score: float
    segment: Segment
    place: int | None
    text: str


def doubts(seen: Seen, known: Known, words: Sequence[Words]) -> list[Doubt]:
    """All doubts of an image, the surest first.

    Args:
        seen: in the words of all sets.
        known: what the set's annotation has.
        words: of all sets, those of the image's own first.
    """
    labels = words[0].labels
    missing: list[Doubt] = []
    taken: list[int] = []  # proposals that were held against the annotation, in any words
    for probabilities, of_set in zip(seen.probabilities, words, strict=True):
        missing += _missing(seen, probabilities, known, of_set, taken)
    found = [*missing, *_contradicted(seen, known, labels), *_misfits(seen, known, labels)]
    return sorted(found, key=lambda doubt: -doubt.score)


def _missing(
    seen: Seen, probabilities: NDArray[np.float64], known: Known, words: Words, taken: list[int]
) -> Iterator[Doubt]:
    """Things that the model is sure of in a set's words, where nothing like them is annotated."""
    is_own = words.start == 0
    likeliest = probabilities.argmax(1)
    sure = probabilities.max(1)
    things = np.array([*words.is_thing, False])[likeliest] & (sure >= LEAST_PROBABILITY)
    best_first = np.argsort(-sure * seen.quality, kind="stable")
    for place in seen.distinct(best_first[things[best_first]].tolist(), taken):
        label = int(likeliest[place])
        nearest = known.iou[place].max(initial=0.0, where=~known.is_crowd)
        if nearest >= OTHER_OBJECT or (is_own and _is_explained(known, place, label)):
            continue
        score = float(sure[place] * seen.quality[place] * (1 - nearest))
        text = f"no {words.labels[label]} is annotated here"
        if not is_own:
            text = f"a {words.labels[label]}, in the words of '{words.name}'"
        segment = cropped(seen.masks[place], words.start + label, score)
        yield Doubt("missing", score, segment, None, text)


def _is_explained(known: Known, place: int, label: int) -> bool:
    """Whether a proposal lies in an annotated object, or a crowd, of its category, or the image
    shows objects of this that are not placed.
    """
    alike = known.labels == label
    return label in known.unplaced or bool((known.inside[place, alike] > MOSTLY).any())


def _contradicted(seen: Seen, known: Known, labels: Sequence[str]) -> list[Doubt]:
    """Objects of which the proposals that fit them are of another class of the dataset."""
    found: list[Doubt] = []
    if not len(seen.masks):
        return found
    for number, label in _objects(known):
        fit = known.iou[:, number]
        if fit.max() < SAME_OBJECT:
            continue
        shares = np.exp((fit - fit.max()) / _SHARPNESS)
        probability = shares @ seen.own / shares.sum()
        other = int(probability[:-1].argmax())
        score = float(fit.max() * (probability[other] - probability[label]))
        if other != label and score > 0:
            text = (
                f"annotated as {labels[label]} ({probability[label]:.2f}), the model sees "
                f"{labels[other]} ({probability[other]:.2f})"
            )
            segment = cropped(known.masks[number], other, score)
            found.append(Doubt("class", score, segment, int(known.places[number]), text))
    return found


def _objects(known: Known) -> list[tuple[int, int]]:
    """Number and category of the annotated objects that are no crowds."""
    numbers = np.flatnonzero(~known.is_crowd & known.masks.any((1, 2)))
    return [(number, int(known.labels[number])) for number in numbers.tolist()]


def _misfits(seen: Seen, known: Known, labels: Sequence[str]) -> list[Doubt]:
    """Objects whose class the model sees there, in another shape."""
    found: list[Doubt] = []
    if not known.iou.size:
        return found
    nearest = known.iou.argmax(1)
    for number, label in _objects(known):
        sure = seen.own[:, label]
        fit = known.iou[:, number]
        candidates = (sure >= LEAST_PROBABILITY) & (nearest == number) & (fit > 0)
        if not candidates.any() or fit[candidates].max() >= FITTING:
            continue
        best = int(np.where(candidates, sure * fit, -1).argmax())
        score = float(sure[best] * seen.quality[best] * (1 - fit[best]))
        text = f"it has {fit[best]:.0%} of its area in common with the {labels[label]} seen here"
        segment = cropped(seen.masks[best], label, score)
        found.append(Doubt("shape", score, segment, int(known.places[number]), text))
    return found


__all__ = ["DOUBT_KINDS", "Doubt", "DoubtKind", "doubts"]
