"""A whole dataset, image by image, in front of the doctor."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tqdm.auto import tqdm

from ...data.sample import DatasetSpec, Sample
from ..completion import Proposer
from ..completion.proposing import Proposed
from .doubts import doubts
from .seen import Known, Seen
from .top import Found, TopDoubts
from .words import Words
from .worth import worth_in_order, worth_of_image


@dataclass
class Examination:
    """What was found in a dataset.

    Args:
        top: the surest doubts.
        names: of the images that were looked at, in the order of the dataset.
    """

    top: TopDoubts
    names: list[str] = field(default_factory=list)
    _worths: list[Mapping[int, float]] = field(default_factory=list)

    def worth_annotating(self) -> list[tuple[str, float]]:
        """Name and worth of the images, that to annotate first at first."""
        return [(self.names[place], worth) for place, worth in worth_in_order(self._worths)]

    def note(self, index: int, name: str, seen: Seen, found: Iterable[Found]) -> None:
        """Keep what was found in an image."""
        self.names.append(name)
        self._worths.append(worth_of_image(seen))
        self.top.add(found)


def examined(
    samples: Iterable[tuple[int, str, Sample]],
    total: int,
    spec: DatasetSpec,
    words: Sequence[Words],
    proposer: Proposer,
    most: int,
) -> Examination:
    """Look at all images.

    Args:
        samples: with their place in the dataset and their name.
        total: how many.
        spec: of the dataset.
        words: of all sets, the dataset's own first.
        proposer: asked for all these words.
        most: doubts of each kind that are kept.
    """
    examination = Examination(TopDoubts(most))
    known: list[tuple[int, str]] = []

    def of_samples() -> Iterator[Sample]:
        for index, name, sample in samples:
            known.append((index, name))
            yield sample

    with tqdm(total=total, unit="image") as bar:
        for batch in proposer.batches(of_samples()):
            _examine(batch, known, spec, words, examination)
            known.clear()
            bar.update(len(batch))
    return examination


def _examine(
    batch: Proposed,
    known: Sequence[tuple[int, str]],
    spec: DatasetSpec,
    words: Sequence[Words],
    examination: Examination,
) -> None:
    for (index, name), (sample, proposals) in zip(known, batch, strict=True):
        size = (sample.image.shape[0], sample.image.shape[1])
        seen = Seen.of(proposals, words, size)
        found = doubts(seen, Known.of(sample, spec, seen), words)
        examination.note(index, name, seen, [Found(index, name, size, one) for one in found])


__all__ = ["Examination", "examined"]
