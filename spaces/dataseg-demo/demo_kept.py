"""What the demo keeps of uploads and results: the newest ones, up to a number and a size."""

from contextlib import suppress
from pathlib import Path

MAX_KEPT_FILES = 500  # of a hundred requests
MAX_KEPT_BYTES = 2 * 10**9


def keep_newest(folder: Path, most: int, most_bytes: int, but: Path) -> None:
    """Delete the oldest files below a folder beyond so many, or so many bytes.

    Args:
        but: the upload that is about to be used, however old.
    """
    found: list[tuple[float, int, Path]] = []
    for file in folder.rglob("*"):
        with suppress(OSError):  # deleted meanwhile, by age
            if file.is_file():
                about = file.stat()
                found.append((about.st_mtime, about.st_size, file))
    size = 0
    for number, (_, file_size, file) in enumerate(sorted(found, reverse=True), start=1):
        size += file_size
        if (number <= most and size <= most_bytes) or file.resolve() == but:
            continue
        with suppress(OSError):
            file.unlink()
            file.parent.rmdir()  # each lies in a folder of its own, of the name of its content
