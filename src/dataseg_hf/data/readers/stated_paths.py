"""Where an image lies that a labelling tool names by an address of its own."""

import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from ..sample import BadSampleError

_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")  # which Label Studio puts before the name of an uploaded file


def find_stated(address: str, folder: Path, where: str) -> Path:
    """The image below `folder` whose path there is a tail of the stated one, of several the longest.

    `/data/upload/1/0a1b2c3d-a.jpg` finds `0a1b2c3d-a.jpg`, or else `a.jpg`; `/data/local-files/?d=photos/day/a.jpg` and
    `s3://bucket/photos/day/a.jpg` find `photos/day/a.jpg`, `day/a.jpg`, or `a.jpg`. Escapes such as `%20` are undone.

    Raises:
        BadSampleError: for an address without a file name, and one for which no file is there.
    """
    parts = _path_parts(address)
    if not parts or ".." in parts or "\0" in address:
        raise BadSampleError(f"{where}: {address[:200]!r} names no image file; correct it")
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    original = _UPLOAD_PREFIX.sub("", parts[-1])
    if original != parts[-1]:
        tails += ["/".join([*parts[start:-1], original]) for start in range(len(parts))]
    for tail in tails:
        if _is_file(folder / tail):
            return folder / tail
    raise BadSampleError(
        f"{where}: no image for {address[:200]!r}, neither {folder / parts[-1]} nor any longer tail of its path below "
        f"{folder}; put the image there, or set missing_images to 'skip' to leave such images out"
    )


def _path_parts(address: str) -> list[str]:
    """The folders and the name of a path, an address or a `?d=` of local files."""
    try:
        split = urlsplit(address)
    except ValueError:  # such as a bracket where a host is expected
        path = address
    else:
        local = parse_qs(split.query).get("d")
        path = local[0] if local else unquote(split.path)
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False
