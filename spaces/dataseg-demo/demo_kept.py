"""What the demo keeps of uploads and results: so many files, the newest ones."""

from contextlib import suppress
from pathlib import Path

MAX_KEPT_FILES = 1000


def keep_newest(folder: Path, most: int, but: Path) -> None:
    """Delete the oldest files below a folder beyond so many.

    Args:
        but: the upload that is about to be used, however old.
    """
    times: dict[Path, float] = {}
    for file in folder.rglob("*"):
        with suppress(OSError):  # deleted meanwhile, by age
            if file.is_file():
                times[file] = file.stat().st_mtime
    oldest_first = sorted(times, key=lambda file: times[file])
    for file in oldest_first[: max(0, len(times) - most)]:
        if file.resolve() == but:
            continue
        with suppress(OSError):
            file.unlink()
            file.parent.rmdir()  # each lies in a folder of its own, of the name of its content
