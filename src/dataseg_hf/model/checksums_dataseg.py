"""SHA-256 of the files of a checkpoint, kept beside them: a bit that a disk or a copy has flipped
loads like any other.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

CHECKSUMS_FILE = "checksums.json"
_BLOCK = 2**20  # bytes


def write_checksums(folder: Path, files: Iterable[Path]) -> None:
    """Write the checksums of files in a folder into it."""
    sums = {file.relative_to(folder).as_posix(): _sum(file) for file in sorted(files)}
    (folder / CHECKSUMS_FILE).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")


def damaged_files(folder: Path) -> list[str]:
    """What is wrong with files whose checksums a folder holds, a text for each that names the file;
    nothing where it holds none.
    """
    listed = folder / CHECKSUMS_FILE
    if not listed.is_file():
        return []
    try:
        sums = dict(json.loads(listed.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return [f"{CHECKSUMS_FILE} is damaged"]
    found = []
    for name, known in sums.items():
        file = folder / name
        if not file.is_file():
            found.append(f"{name} is missing")
        elif _sum(file) != known:
            found.append(f"{name} is not what was saved")
    return found


def _sum(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


__all__ = ["CHECKSUMS_FILE", "damaged_files", "write_checksums"]
