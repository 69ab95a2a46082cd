"""Where an annotation and a model disagree: objects that are missing, classes that the model
contradicts, masks and boxes that do not fit.

Shapes: K proposals, M annotated objects, C categories of a set.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ...data.names import plain_name
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
"""IoU above which a proposal may be an annotated object of its class in another shape."""
SAME_CLASS = 0.5
"""What the same class is worth beside IoU when proposals are assigned to objects."""
FITTING = 0.7
"""IoU from which on a mask or box fits."""
FILLED = 0.9
"""How much a mask that fills an object counts less for another shape."""
RATIO_POWER = 0.25
"""Of the ratio of two probabilities, in the score of a contradiction."""
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

    The things of which the model is sure in the set's own words are assigned to the annotated
    objects, one to one. A pair of two classes is a doubt, as is one of too little in common, and a
    thing without an object.

    Args:
        seen: in the words of all sets.
        known: what the set's annotation has.
        words: of all sets, those of the image's own first.
    """
    taken: list[int] = []  # proposals that were held against the annotation, in any words
    things = list(_sure_things(seen, seen.own, words[0], taken))
    pairs = _assigned(known, things)
    unmatched = [thing for thing in things if thing.place not in pairs]
    own = {plain_name(label): index for index, label in enumerate(words[0].labels)}
    found = [*_missing(seen, known, words[0], unmatched, own)]
    found += _other_stuff(seen, known, words[0])
    for thing in things:
        if thing.place in pairs:
            found += _doubt_of_pair(seen, known, words[0].labels, thing, pairs[thing.place])
    for probabilities, other in zip(seen.probabilities[1:], words[1:], strict=True):
        of_other = list(_sure_things(seen, probabilities, other, taken))
        found += _missing(seen, known, other, of_other, own)
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


def _assigned(known: Known, things: Sequence[_Thing]) -> dict[int, int]:
    """The annotated object, by its number, that each proposal shows, with the greatest sum of IoUs;
    an object of another class only where they are surely one object. Proposals without one are left
    out.
    """
    if not things or not known.iou.size:
        return {}
    iou = known.iou[[one.place for one in things]]
    alike = np.array([one.label for one in things])[:, None] == known.labels
    possible = np.where(alike, iou > LEAST_TOUCH, iou >= SAME_OBJECT) & known.is_object
    gain = (iou + SAME_CLASS * alike) * possible
    rows, columns = linear_sum_assignment(-gain)
    return {
        things[row].place: column
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if possible[row, column]
    }


def _doubt_of_pair(
    seen: Seen, known: Known, labels: Sequence[str], thing: _Thing, number: int
) -> Iterator[Doubt]:
    """What is wrong with an annotated object, by the proposal that shows it."""
    label, place = int(known.labels[number]), int(known.places[number])
    fit = float(known.iou[thing.place, number])
    if label != thing.label:
        own, other = seen.own[thing.place, [label, thing.label]].tolist()
        score = fit * seen.quality[thing.place] * _surely_other(own, other)
        yield _contradiction(known, labels, number, thing.label, (score, own, other))
    elif fit < FITTING:
        filled = _filled(known.segments[number], seen.masks[thing.place])
        score = thing.score**2 * (1 - fit) * (1 - FILLED * filled)
        text = f"it has {fit:.0%} of its area in common with the {labels[label]} seen here"
        segment = cropped(seen.masks[thing.place], label, score)
        yield Doubt("shape", score, segment, place, text)


def _filled(annotated: Segment, mask: NDArray[np.bool_]) -> float:
    """Share of the columns of an annotated object's box that a mask [H, W] meets within the object,
    times that of the rows. A mask that fills the object and more is of several objects, rather.
    """
    height, width = annotated.mask.shape
    rows = slice(annotated.top, annotated.top + height)
    columns = slice(annotated.left, annotated.left + width)
    common = annotated.mask & mask[rows, columns]
    return float(common.any(0).mean() * common.any(1).mean())


def _surely_other(of_own: float, of_other: float) -> float:
    """How sure another class is, 0..1, by the two probabilities.

    A model that mistakes one class for another leaves some probability to the right one.
    """
    return of_other * (1 - (of_own / of_other) ** RATIO_POWER)


def _contradiction(
    known: Known,
    labels: Sequence[str],
    number: int,
    other: int,
    score_and_probabilities: tuple[float, float, float],
) -> Doubt:
    score, of_own, of_other = score_and_probabilities
    text = (
        f"annotated as {labels[int(known.labels[number])]} ({of_own:.2f}), the model sees "
        f"{labels[other]} ({of_other:.2f})"
    )
    segment = replace(known.segments[number], label_id=other, score=score)
    return Doubt("class", score, segment, int(known.places[number]), text)


def _missing(
    seen: Seen,
    known: Known,
    words: Words,
    unmatched: Sequence[_Thing],
    own: Mapping[str, int],
) -> Iterator[Doubt]:
    """Things where nothing like them is annotated. `own` are the set's classes by plain name."""
    for thing in unmatched:
        place, name = thing.place, words.labels[thing.label]
        nearest = known.iou[place].max(initial=0.0, where=known.is_object)
        alike = own.get(plain_name(name))
        if nearest >= OTHER_OBJECT or (alike is not None and _is_explained(known, place, alike)):
            continue
        text = f"no {name} is annotated here"
        if words.start > 0:
            text = f"a {name}, in the words of '{words.name}'"
        score = thing.score * (1 - float(nearest))
        segment = cropped(seen.masks[place], words.start + thing.label, score)
        yield Doubt("missing", score, segment, None, text)


def _is_explained(known: Known, place: int, label: int) -> bool:
    """Whether a proposal lies in an annotated object, or a crowd, of its category, or the image
    shows objects of this that are not placed.
    """
    alike = known.labels == label
    return label in known.unplaced or bool((known.inside[place, alike] > MOSTLY).any())


def _other_stuff(seen: Seen, known: Known, words: Words) -> Iterator[Doubt]:
    """Stuff of which the proposals that fit it best are of another class."""
    is_stuff = ~np.array(words.is_thing)[known.labels] & ~known.is_crowd
    if not known.iou.size:
        return
    for number in np.flatnonzero(is_stuff).tolist():
        label, fit = int(known.labels[number]), known.iou[:, number]
        if fit.max() < SAME_OBJECT:
            continue
        shares = np.exp((fit - fit.max()) / _SHARPNESS)
        probability = shares @ seen.own / shares.sum()
        other = int(probability[:-1].argmax())
        if other != label:
            of_own, of_other = float(probability[label]), float(probability[other])
            score = float(fit.max()) * _surely_other(of_own, of_other)
            yield _contradiction(known, words.labels, number, other, (score, of_own, of_other))


__all__ = ["DOUBT_KINDS", "Doubt", "DoubtKind", "doubts"]
