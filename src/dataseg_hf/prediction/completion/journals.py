"""The images of a set that are done: a journal for each process that worked on them, read as one.

A completion may go on with any number of processes: each reads all journals and writes its own.
Memory holds names and places only.
"""

from collections.abc import Iterator
from pathlib import Path

from ...data.sample import BadSampleError
from ...errors import ConfigError
from ...processes import Processes
from ..labeling.journal import Batch, Entries, Journal, LabeledImage
from .folder import writing_into
from .rows import same_name

JOURNAL_FILE, OTHER_JOURNALS = "completed_images.jsonl", "completed_images-{}.jsonl"


class Journals:
    """What was done when they were read, in the order of the rows.

    Args:
        folder: of the completion of a set, which must exist.
        rank: of this process, to whose journal `add` appends.

    Raises:
        BadSampleError: for two images of one name, which two processes met.
        ConfigError: for a completion that an earlier version began.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self._folder = folder
        others = folder.glob(OTHER_JOURNALS.format("*"))
        self._journals = [Journal(file) for file in [folder / JOURNAL_FILE, *sorted(others)]]
        self._own = Journal(folder / (OTHER_JOURNALS.format(rank) if rank else JOURNAL_FILE))
        self.row_of: dict[str, int] = {}
        """The row of each image that is done, by its name."""
        self._places: list[tuple[int, int, int, int]] = []  # row, journal, batch, image
        for number, journal in enumerate(self._journals):
            for start, batch in journal.placed():
                self._places += [
                    (self._row(image), number, start, place)
                    for place, image in enumerate(batch.labeled)
                ]
        self._places.sort()

    @classmethod
    def read_by_all(cls, folder: Path, processes: Processes) -> "Journals":
        """The journals of a folder, made if missing, on each of several processes at once.

        Raises:
            BadSampleError: as the class, on all processes.
            ConfigError: on all processes, for a folder that cannot be written.
        """

        def begin() -> None:
            with writing_into(folder):
                folder.mkdir(parents=True, exist_ok=True)
                cls(folder)  # cuts off what was not written whole

        processes.on_main(begin, BadSampleError, ConfigError)
        journals = cls(folder, processes.rank)
        processes.together(lambda: None)  # nobody writes before all have read
        return journals

    def __len__(self) -> int:
        return len(self._places)

    def add(self, batch: Batch) -> None:
        """Append a batch to the own journal, and wait until it is on the disk."""
        self._own.add(batch)

    def labeled(self) -> Iterator[LabeledImage]:
        """The images, read anew."""
        last, batch = (-1, -1), Batch()
        for _, number, start, place in self._places:
            if (number, start) != last:
                last, batch = (number, start), self._journals[number].at(start)
            yield batch.labeled[place]

    def at(self, index: int) -> LabeledImage:
        """The image at a place in that order."""
        _, number, start, place = self._places[index]
        return self._journals[number].at(start).labeled[place]

    def entries(self) -> Entries:
        """The entries of the images, read anew each time they are gone through."""
        return Entries(self.labeled)

    def _row(self, image: LabeledImage) -> int:
        if image.row is None:
            raise ConfigError(
                f"--output: '{self._folder}' was begun by an earlier version, which did not note "
                "the rows of images; name another folder"
            )
        other = self.row_of.setdefault(image.name, image.row)
        if other != image.row:
            raise BadSampleError(
                f"{same_name(image.name, *sorted((other, image.row)))}, and another --output"
            )
        return image.row


__all__ = ["JOURNAL_FILE", "Journals"]
