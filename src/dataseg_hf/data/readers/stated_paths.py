"""Where an image lies that a labeling tool names by an address of its own."""

import re
from functools import cached_property
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from ..sample import BadSampleError
from .paths import MissingImageError

# which Label Studio puts before the name of an uploaded file
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")


class StatedPaths:
    """Finds images below a folder by the paths and addresses that Label Studio states.

    It takes the file whose path below the folder is a tail of the stated one, of several the
    longest. `s3://bucket/photos/day/a.jpg` and `/data/local-files/?d=photos/day/a.jpg` find
    `photos/day/a.jpg`, or else `day/a.jpg`, or else `a.jpg`. `/data/upload/1/0a1b2c3d-my_photo.jpg`
    finds `0a1b2c3d-my_photo.jpg`, or else `my_photo.jpg`, or else the one file in the folder that
    Label Studio stores under that name, such as `my photo.jpg`. Escapes such as `%20` are undone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, address: str, where: str) -> Path:
        """The image of an address.

        Raises:
            BadSampleError: for an address without a file name.
            MissingImageError: for one of no file; the message begins with `where` (file, task).
        """
        parts = _path_parts(address)
        if not parts or ".." in parts or "\0" in address:
            raise BadSampleError(f"{where}: {address[:200]!r} names no image file; correct it")
        original = _UPLOAD_PREFIX.sub("", parts[-1])
        for name in dict.fromkeys((parts[-1], original)):
            for start in range(len(parts)):
                path = self.folder.joinpath(*parts[start:-1], name)
                if _is_file(path):
                    return path
        uploaded = self._by_stored_name.get(original, []) if original != parts[-1] else []
        if len(uploaded) == 1:
            return uploaded[0]
        raise MissingImageError(
            f"{where}: no image for {address[:200]!r}, neither {self.folder / parts[-1]} nor a "
            f"longer tail of its path below {self.folder}; put the image there, or set "
            "missing_images to 'skip' to leave such images out"
        )

    @cached_property
    def _by_stored_name(self) -> dict[str, list[Path]]:
        """The files of the folder by the name under which Label Studio (Django's
        `get_valid_filename`) stores them.
        """
        found: dict[str, list[Path]] = {}
        for path in sorted(self.folder.iterdir()):
            found.setdefault(
                re.sub(r"[^-\w.]", "", path.name.strip().replace(" ", "_")), []
            ).append(path)
        return found


def _path_parts(address: str) -> list[str]:
    """The folders and the name of a path, an address or a `?d=` of local files."""
    try:
        split = urlsplit(address)
        local = parse_qs(split.query).get("d")
        path = local[0] if local else unquote(split.path)
    except ValueError:  # such as a bracket where a host is expected
        path = address
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False
