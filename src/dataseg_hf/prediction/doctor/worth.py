"""Which images are worth annotating next: those that show most of what the model is unsure of, of
all classes.
"""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np

from .seen import Seen

SURE_OBJECT = 0.25
"""What an object is worth of which the model is sure, beside 1 of one that it knows nothing of (our
setting).
"""


def worth_of_image(seen: Seen) -> dict[int, float]:
    """How much there is to learn of each class of the set, by its index.

    Every proposal that is not another one again counts by the probability that it is anything, and
    the more, the less sure the model is of its class and pixels (our setting).
    """
    if not len(seen.masks):
        return {}
    foreground, sure = 1 - seen.own[:, -1], seen.own[:, :-1].max(1) * seen.quality
    worth: Counter[int] = Counter()
    for place in seen.distinct(np.argsort(-foreground, kind="stable").tolist()):
        doubt = SURE_OBJECT + (1 - SURE_OBJECT) * (1 - sure[place])
        for label, probability in enumerate(seen.own[place, :-1].tolist()):
            worth[label] += probability * doubt
    return dict(worth)


def worth_in_order(worths: Sequence[Mapping[int, float]]) -> list[tuple[int, float]]:
    """The images, the one to annotate first at first: place and worth of each, given that those
    before it are annotated.

    What a class is worth falls with the root of what was chosen of it, so that a batch of images
    shows all classes (our setting).

    Args:
        worths: of each image, by class.
    """
    chosen: Counter[int] = Counter()

    def worth(place: int) -> float:
        return sum(value / sqrt(1 + chosen[label]) for label, value in worths[place].items())

    # a worth only ever falls, so one that is still the greatest after a second look is the greatest
    waiting = [(-worth(place), place) for place in range(len(worths))]
    heapq.heapify(waiting)
    order: list[tuple[int, float]] = []
    while waiting:
        _, place = heapq.heappop(waiting)
        value = worth(place)
        if waiting and -value > waiting[0][0]:
            heapq.heappush(waiting, (-value, place))
            continue
        order.append((place, value))
        chosen.update(worths[place])
    return order


__all__ = ["worth_in_order", "worth_of_image"]
