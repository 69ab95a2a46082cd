"""Where an annotation and a model disagree: objects that are missing, classes that the model
contradicts, masks and boxes that do not fit.

Shapes: K proposals, M annotated objects, C categories of a set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ..segments import Segment, cropped
from .seen import SAME_OBJECT, Known, Seen
from .words import Words

DoubtKind: TypeAlias = Literal["missing", "class", "shape"]
DOUBT_KINDS: tuple[DoubtKind, ...] = get_args(DoubtKind)

LEAST_PROBABILITY = 0.5
"""Of a category, in a proposal that is held against an annotation."""
OTHER_OBJECT = 0.3
"""IoU below which a proposal is none of the annotated objects."""
LEAST_TOUCH = 0.05
"""IoU above which a proposal may be an annotated object in another shape."""
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
    taken: list[int] = []  # proposals that were held against the annotation, in any words
    sure = list(_sure_things(seen, seen.own, words[0], taken))
    matched = _matched(known, sure)
    found = [
        *_missing(seen, known, words[0], [one for one in sure if one.place not in matched]),
        *_misfits(
            seen, known, words[0].labels, [one for one in sure if one.place in matched], matched
        ),
        *_contradicted(seen, known, words[0].labels),
    ]
    for probabilities, other in zip(seen.probabilities[1:], words[1:], strict=True):
        found += _missing(seen, known, other, list(_sure_things(seen, probabilities, other, taken)))
    return sorted(found, key=lambda doubt: -doubt.score)


@dataclass(frozen=True)
class _Thing:
    """A proposal that is surely a thing.

    Args:
        place: of the proposal.
        label: index of its class in the set whose words they are.
        score: probability of the class, times the mean one of the mask's pixels.
    """

    place: int
    label: int
    score: float


def _sure_things(
    seen: Seen, probabilities: NDArray[np.float64], words: Words, taken: list[int]
) -> Iterator[_Thing]:
    """The things that the model is sure of in a set's words, the surest first, each once."""
    likeliest, sure = probabilities.argmax(1), probabilities.max(1)
    scores = sure * seen.quality
    wanted = np.array([*words.is_thing, False])[likeliest] & (sure >= LEAST_PROBABILITY)
    best_first = np.argsort(-scores, kind="stable")
    for place in seen.distinct(best_first[wanted[best_first]].tolist(), taken):
        yield _Thing(place, int(likeliest[place]), float(scores[place]))


def _matched(known: Known, things: Sequence[_Thing]) -> dict[int, int]:
    """The annotated object, by its number, that each proposal is an image of: of its class, with
    the greatest sum of IoUs; proposals without one are left out.
    """
    if not things or not known.iou.size:
        return {}
    labels = np.array([one.label for one in things])
    possible = (labels[:, None] == known.labels) & known.is_object
    gain = known.iou[[one.place for one in things]] * possible
    rows, columns = linear_sum_assignment(-gain)
    return {
        things[row].place: column
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if gain[row, column] > LEAST_TOUCH
    }


def _missing(
    seen: Seen, known: Known, words: Words, unmatched: Sequence[_Thing]
) -> Iterator[Doubt]:
    """Things where nothing like them is annotated."""
    is_own = words.start == 0
    for thing in unmatched:
        place, label = thing.place, thing.label
        nearest = known.iou[place].max(initial=0.0, where=known.is_object)
        if nearest >= OTHER_OBJECT or (is_own and _is_explained(known, place, label)):
            continue
        text = f"no {words.labels[label]} is annotated here"
        if not is_own:
            text = f"a {words.labels[label]}, in the words of '{words.name}'"
        score = thing.score * (1 - float(nearest))
        segment = cropped(seen.masks[place], words.start + label, score)
        yield Doubt("missing", score, segment, None, text)


def _is_explained(known: Known, place: int, label: int) -> bool:
    """Whether a proposal lies in an annotated object, or a crowd, of its category, or the image
    shows objects of this that are not placed.
    """
    alike = known.labels == label
    return label in known.unplaced or bool((known.inside[place, alike] > MOSTLY).any())


def _misfits(
    seen: Seen,
    known: Known,
    labels: Sequence[str],
    things: Sequence[_Thing],
    matched: Mapping[int, int],
) -> Iterator[Doubt]:
    """Objects that the model sees in another shape."""
    for thing in things:
        number = matched[thing.place]
        fit = float(known.iou[thing.place, number])
        if fit >= FITTING:
            continue
        score = thing.score * (1 - fit)
        text = f"it has {fit:.0%} of its area in common with the {labels[thing.label]} seen here"
        segment = cropped(seen.masks[thing.place], thing.label, score)
        yield Doubt("shape", score, segment, int(known.places[number]), text)


def _contradicted(seen: Seen, known: Known, labels: Sequence[str]) -> Iterator[Doubt]:
    """Objects of which the proposals that fit them are of another class of the dataset."""
    if not known.iou.size:
        return
    for number in np.flatnonzero(~known.is_crowd & known.masks.any((1, 2))).tolist():
        label, fit = int(known.labels[number]), known.iou[:, number]
        if fit.max() < SAME_OBJECT:
            continue
        shares = np.exp((fit - fit.max()) / _SHARPNESS)
        probability = shares @ seen.own / shares.sum()
        other = int(probability[:-1].argmax())
        score = float(fit.max() * (probability[other] - probability[label]))
        if other == label or score <= 0:
            continue
        text = (
            f"annotated as {labels[label]} ({probability[label]:.2f}), the model sees "
            f"{labels[other]} ({probability[other]:.2f})"
        )
        segment = cropped(known.masks[number], other, score)
        yield Doubt("class", score, segment, int(known.places[number]), text)


__all__ = ["DOUBT_KINDS", "Doubt", "DoubtKind", "doubts"]
