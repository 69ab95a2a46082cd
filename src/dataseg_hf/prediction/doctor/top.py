"""The surest doubts of a whole dataset, in memory that does not grow with it."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from ..segments import Size
from .doubts import DOUBT_KINDS, Doubt


@dataclass(frozen=True)
class Found:
    """A doubt and its image.

    Args:
        index: of the image in the dataset.
        name: of the image.
        size: height and width in pixels.
    """

    index: int
    name: str
    size: Size
    doubt: Doubt


class TopDoubts:
    """Keeps the surest of each kind.

    Args:
        most: of each kind.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.counts: Counter[str] = Counter()
        """All of each kind, also those that were not kept."""
        self._kept: Mapping[str, list[tuple[float, int, Found]]] = {
            kind: [] for kind in DOUBT_KINDS
        }
        self._order = count(0, -1)  # of equally sure ones the first stays

    def add(self, found: Iterable[Found]) -> None:
        """Keep what belongs to the surest."""
        for one in found:
            self.counts[one.doubt.kind] += 1
            kept = self._kept[one.doubt.kind]
            heapq.heappush(kept, (one.doubt.score, next(self._order), one))
            if len(kept) > self.most:
                heapq.heappop(kept)

    def of_kind(self, kind: str) -> list[Found]:
        """Those of a kind, the surest first."""
        return [found for *_, found in sorted(self._kept[kind], key=lambda one: one[:2])[::-1]]

    def by_image(self) -> list[list[Found]]:
        """All that are kept, image by image, the image with the surest one first."""
        images: dict[int, list[Found]] = {}
        everything = [found for kind in DOUBT_KINDS for found in self.of_kind(kind)]
        for found in sorted(everything, key=lambda one: -one.doubt.score):
            images.setdefault(found.index, []).append(found)
        return list(images.values())


__all__ = ["Found", "TopDoubts"]
