"""Writing files and folders so that nobody ever sees half of one."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replaced(file: Path) -> Iterator[TextIO]:
    """A file to write into, which takes the place of `file` when all of it is there and on the
    disk: the name would otherwise outlast a power failure that the content does not.
    """
    unfinished = file.with_name(f"{file.name}.unfinished")
    with unfinished.open("w", encoding="utf-8", newline="") as opened:
        yield opened
        opened.flush()
        os.fsync(opened.fileno())
    unfinished.replace(file)
    _flush_names(file.parent)


def replace_file(file: Path, text: str) -> None:
    """Write a file whose old content is there until the new one is."""
    with replaced(file) as opened:
        opened.write(text)


def flush_to_disk(folder: Path) -> None:
    """Wait until the files of a folder, and their names, are on the disk. Otherwise the folder's
    new name could outlast a power failure that its files do not.
    """
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            _flush_names(path)
        elif path.is_file():
            with path.open("rb") as opened:
                os.fsync(opened.fileno())


def _flush_names(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do that."""
    if os.name == "nt":  # folders cannot be opened there
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # what some network file systems answer
            raise
    finally:
        os.close(opened)


def put_in_place(filled: Path, final: Path) -> None:
    """Flush a filled folder and give it its name. A folder that had the name is deleted last."""
    flush_to_disk(filled)
    doomed = _doomed(final)
    shutil.rmtree(doomed, ignore_errors=True)
    if final.exists():
        final.rename(doomed)
    filled.rename(final)
    _flush_names(final.parent)
    shutil.rmtree(doomed, ignore_errors=True)


def discard(folder: Path) -> None:
    """Delete a folder that others take for complete as long as it has its name."""
    shutil.rmtree(folder.rename(_doomed(folder)))


def set_aside(folder: Path) -> Path:
    """Rename a folder to the first free `NAME.previous-1`, `NAME.previous-2`, ...; returns it."""
    number = 1
    while (target := folder.with_name(f"{folder.name}.previous-{number}")).exists():
        number += 1
    return folder.rename(target)


def _doomed(folder: Path) -> Path:
    return folder.with_name(f"unfinished-discarded-{folder.name}")
