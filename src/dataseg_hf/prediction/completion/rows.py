"""The images of a set by their rows, each under the name that its annotation will have."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from ...data.sample import BadSampleError, Sample, SampleDataset

LOG = logging.getLogger(__name__)
Result = TypeVar("Result")


class SetRows:
    """The images of a set. Memory holds names only.

    Args:
        data: the set.
        images: folder of its images, below which they have their names; None where they are no
            files there, so that their ids are their names.
        skips: whether images that cannot be used are left out.

    Raises:
        BadSampleError: for images of one name, and names that lead out of a folder, as far as the
            rows tell names; unless such images are left out.
    """

    def __init__(self, data: SampleDataset, images: Path | None, skips: bool = False) -> None:
        self.data, self.images, self._skips = data, images, skips
        self._unusable: set[int] = set()
        self._row_of: dict[str, int] = {}
        # rows that do not tell names may hold whole images
        told = len(data) > 0 and self._tried(lambda: self._told_name(0), LOG.debug) is not None
        self._names = [self._known_name(row) if told else None for row in range(len(data))]

    def __len__(self) -> int:
        return len(self.data)

    def left(self, done: Mapping[str, int]) -> Iterator[int]:
        """Rows of the images that are not done.

        Args:
            done: the row of each image that is, by its name. It counts where a row does not tell
                the name.
        """
        done_rows = set(done.values())
        for taken, row in done.items():
            if row < len(self) and self._names[row] is None:
                self._row_of.setdefault(taken, row)  # no other image may have it
        for row, name in enumerate(self._names):
            is_done = row in done_rows if name is None else name in done
            if row not in self._unusable and not is_done:
                yield row

    def samples(self, rows: Iterable[int]) -> list[tuple[int, str, Sample]]:
        """Row, name and sample of images.

        Raises:
            BadSampleError: for one that cannot be used, unless such are left out.
        """
        found = ((row, self._tried(partial(self._load, row), LOG.warning)) for row in rows)
        return [(row, *loaded) for row, loaded in found if loaded is not None]

    def _load(self, row: int) -> tuple[str, Sample]:
        sample = self.data[row]
        name = self._names[row]
        if name is None:
            name = image_name(sample.file_name, sample.image_id, self.images is not None)
            self._claim(name, row)
        return name, sample if self.images is None else replace(sample, file_name=name)

    def _known_name(self, row: int) -> str | None:
        """The name of a row that no other one has; None where loading it has to tell."""

        def name_and_claim() -> tuple[str | None]:
            name = self._told_name(row)
            if name is not None:
                self._claim(name, row)
            return (name,)

        found = self._tried(name_and_claim, LOG.info)
        if found is None:
            self._unusable.add(row)
        return None if found is None else found[0]

    def _told_name(self, row: int) -> str | None:
        content = self.data.rows[row]
        if self.images is not None:
            return file_of(content, self.images)
        known = content.get("image_id") if isinstance(content, Mapping) else None
        return None if known is None else image_name("", known, has_files=False)

    def _claim(self, name: str, row: int) -> None:
        """Note whose name it is; BadSampleError where it is that of another row."""
        other = self._row_of.setdefault(name, row)
        if other != row:
            raise BadSampleError(same_name(name, other, row))

    def _tried(self, do: Callable[[], Result], say: Callable[[str], object]) -> Result | None:
        """What `do` gives; None where it meets an image that is left out, of which `say` tells."""
        try:
            return do()
        except BadSampleError as error:
            if not self._skips:
                raise
            say(f"left out: {error}")
            return None


def same_name(name: str, row: int, other: int) -> str:
    """What is said of images of one name."""
    return (
        f"image {name}: the images {row} and {other} of the set are called so; give each a name of "
        "its own"
    )


def file_of(row: Any, folder: Path) -> str | None:
    """The path of a row's image below a folder; None where it is no file there."""
    image = row.get("image") if isinstance(row, Mapping) else None
    # links stay as they are: the images of a folder may lie elsewhere
    if not isinstance(image, str) or not Path(image).absolute().is_relative_to(folder):
        return None
    return Path(image).absolute().relative_to(folder).as_posix()


def image_name(file_name: str, image_id: int | str, has_files: bool) -> str:
    """What the annotation calls an image: its path below the folder of images, or else its id.

    Raises:
        BadSampleError: for a name that leads out of a folder.
    """
    name = file_name if has_files else str(image_id)
    path = PurePosixPath(name.replace("\\", "/"))
    drive = PureWindowsPath(name).drive
    if path.is_absolute() or ".." in path.parts or drive or not path.parts:
        raise BadSampleError(
            f"image {image_id}: its name {name!r} leads out of the folder in which its annotation "
            "is to be written; rename it"
        )
    return path.as_posix()


__all__ = ["SetRows", "file_of", "image_name", "same_name"]
