"""Folders, files and names that annotation files state, checked; and text files as Windows' tools
write them, too.
"""

import codecs
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, TypeAlias

from ..sample import BadSampleError

StrPath: TypeAlias = str | Path
MissingImages: TypeAlias = Literal["error", "skip"]
Suffixes: TypeAlias = str | Sequence[str]
"""How file names end: one ending, or several."""

LONGEST_NAME = 255  # bytes of a file name, on common file systems
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def require_folder(path: StrPath) -> Path:
    """The folder as a Path.

    Raises:
        FileNotFoundError: if it is not there.
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    return Path(path)


def require_file(path: StrPath, what: str) -> Path:
    """The file as a Path; FileNotFoundError, saying what it is, if it is not there."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: missing, {what}")
    return Path(path)


def inside(root: Path, name: Any, where: str) -> Path:
    """`root / name`, where `name` comes out of a file and must not lead out of `root`; `\\` parts
    folders, too.

    Raises:
        BadSampleError: for what is no name, an absolute path and one with `..`.
    """
    posix, windows = PurePosixPath(str(name)), PureWindowsPath(str(name))
    if not isinstance(name, str) or not name or "\0" in name or ".." in windows.parts:
        raise BadSampleError(
            f"{where}: file name {name!r} must be a relative path without '..'; correct it there"
        )
    if posix.is_absolute() or windows.anchor:
        raise BadSampleError(
            f"{where}: file name {name!r} is an absolute path, of another machine perhaps; make it "
            "relative to the images' folder there, or, with a reader that has the option, cut the "
            "folder off by `file_name_pattern: ['^.*[/\\\\]', '']`"
        )
    try:
        as_written = (root / name).exists()
    except OSError as error:  # a name that is too long
        raise BadSampleError(
            f"{where}: file name '{name[:60]}...' cannot be one: {error.strerror}; correct it"
        ) from error
    return root / (name if as_written else windows.as_posix())


def file_locator(pattern: Sequence[str] | None) -> Callable[[str], str]:
    """From listed file names to those on disk: `re.sub` with a (pattern, replacement), or as they
    are.

    Raises:
        ValueError: for what is no such pair, or no regular expression.
    """
    if pattern is None:
        return str
    try:
        expression, replacement = pattern
        return partial(re.compile(expression).sub, replacement)
    except (ValueError, TypeError, re.error) as error:
        raise ValueError(
            f"file_name_pattern: expected [regular expression, replacement], not {pattern!r} "
            f"({error})"
        ) from error


class MissingImageError(BadSampleError):
    """An image is not there; `Rows.image` leaves it out where `missing_images` is "skip"."""


def missing_image(path: Path, what: str, image_dir: Path | None = None) -> MissingImageError:
    """The error for an image that is not there.

    Args:
        path: of the image.
        what: who names it.
        image_dir: folder in which it is looked for without the folders of its name, for a hint.
    """
    hint = ""
    if image_dir is not None and path.parent != image_dir and (image_dir / path.name).is_file():
        hint = (
            f"{image_dir / path.name} is there: name the folder above as `images`, or cut the "
            "folders off by `file_name_pattern: ['^.*[/\\\\]', '']`. Else "
        )
    else:
        in_other_case = (
            path.with_suffix(case) for case in (path.suffix.lower(), path.suffix.upper())
        )
        there = next((other for other in in_other_case if other.is_file()), None)
        hint = "" if there is None else f"{there.name} is there: correct the name. Else "
    return MissingImageError(
        f"{path}: missing, {what}; {hint}add it, or set missing_images to 'skip' to leave such "
        "images out"
    )


def require_image(path: Path, what: str, image_dir: Path | None = None) -> Path:
    """The path, if a file is there; MissingImageError as `missing_image` else."""
    if not path.is_file():
        raise missing_image(path, what, image_dir)
    return path


def files_by_name(folder: Path, *suffixes: str, but: str | None = None) -> dict[str, Path]:
    """The files below `folder` that end in one of `suffixes` (in any case), by relative path
    without it, sorted.

    Hidden files and folders are passed over: macOS writes a `._a.png` beside `a.png`, and Jupyter
    copies.

    Args:
        folder: with its sub-folders.
        suffixes: endings of file names, such as ".png" or "_labels.png"; "png" is taken as ".png".
        but: files with this ending are left out.

    Raises:
        ValueError: for two files of one name.
    """
    found: dict[str, Path] = {}
    endings = [f".{suffix}" if suffix.isalnum() else suffix for suffix in suffixes]
    for path in sorted(_files_below(folder)):
        name = path.relative_to(folder).as_posix()
        if but is not None and name.lower().endswith(but.lower()):
            continue
        for suffix in endings:
            if name.lower().endswith(suffix.lower()) and path.is_file():
                stem = name[: len(name) - len(suffix)]
                if stem in found:
                    raise ValueError(
                        f"{found[stem]} and {path}: two files of one name; keep one of them, or "
                        "say which ending is meant (`image_suffix` of most readers)"
                    )
                found[stem] = path
                break
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    """Files of a folder and its sub-folders, links to folders among them; none that is hidden."""
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder that holds it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def image_files(
    folder: Path,
    suffixes: Suffixes,
    annotation_dir: Path | None = None,
    annotation_suffix: str = "",
) -> dict[str, Path]:
    """The images below `folder`, by relative path without their ending, sorted.

    Args:
        folder: with its sub-folders.
        suffixes: how image names end; upper case counts as lower.
        annotation_dir: folder of the annotations. Where it is the images' own, what ends in
            `annotation_suffix` is no image.
        annotation_suffix: how names of annotations end.
    """
    endings = [suffixes] if isinstance(suffixes, str) else list(suffixes)
    one_folder = annotation_dir is not None and annotation_dir.resolve() == folder.resolve()
    return files_by_name(folder, *endings, but=annotation_suffix if one_folder else None)


def split_names(split_file: StrPath) -> list[str]:
    """Names of a text file with one per line, as Pascal VOC's `ImageSets` have them, sorted and
    without repeats.

    What follows a blank is left out; BadSampleError for a name that leads out of its folder.
    """
    lines = read_text(require_file(split_file, "the list of images")).splitlines()
    names = sorted({line.split()[0] for line in lines if line.strip()})
    for name in names:
        inside(Path(), name, str(split_file))
    return names


def read_text(path: Path) -> str:
    """A text in UTF-8, or in UTF-16 with a byte order mark, as Windows' tools write it.

    Raises:
        ValueError: for a text in another encoding.
    """
    content = path.read_bytes()
    try:
        return content.decode(text_encoding(content))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text in UTF-8 ({error}); save it in UTF-8") from error


def text_encoding(start: bytes) -> str:
    """UTF-16 where a file starts with its byte order mark, else UTF-8, with or without one."""
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
