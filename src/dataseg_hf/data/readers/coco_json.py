"""The JSON files of COCO, read as a stream, so that memory does not grow with the file.

Format: https://cocodataset.org/#format-data.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson

from ..sample import BadSampleError
from .files import MissingImages, Size, StrPath, inside, missing_image, require_file, require_key

_BUFFER = 1 << 20  # bytes


def json_items(path: StrPath, key: str) -> Iterator[Any]:
    """The members of the list at a top-level key of a JSON file, one at a time.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for a file that is no JSON, or has no list under that key.
    """
    path = require_file(path, "the annotation file")
    found = False
    try:
        with path.open("rb") as file:
            for item in ijson.items(file, f"{key}.item", use_float=True, buf_size=_BUFFER):
                found = True
                yield item
        if not found:
            _require_list(path, key)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())  # the parser draws an arrow under the place, over several lines
        raise ValueError(f"{path}: not valid JSON ({reason}); export or download it anew") from error


def _require_list(path: Path, key: str) -> None:
    with path.open("rb") as file:
        events = ijson.parse(file, buf_size=_BUFFER)
        if next(events)[1] != "start_map":
            raise ValueError(f"{path}: expected a JSON object at the top, as COCO's files have")
        if not any(prefix == key and event == "start_array" for prefix, event, _ in events):
            raise ValueError(f"{path}: key '{key}' is missing, or is no list")


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An entry of `images`. size: as listed, if it is. problem: why the image cannot be used, if so."""

    image_id: int | str
    file_name: str
    path: str
    size: Size | None
    problem: str | None


def listed_images(
    annotation_file: StrPath,
    image_dir: Path,
    missing_images: MissingImages,
    locate: Callable[[str], str],
    notes: list[str],
) -> tuple[list[ListedImage], dict[int | str, Size | None]]:
    """The entries of `images`, sorted by id; and the listed size by id of all of them, absent images included.

    Args:
        missing_images: images that are not in `image_dir` are left out with a note ("skip") or a problem ("error").
        locate: turns a listed file name into the one on disk.
        notes: takes what a user should know.
    """
    images: list[ListedImage] = []
    size_of: dict[int | str, Size | None] = {}
    absent = 0
    for entry in json_items(annotation_file, "images"):
        image_id = require_image_id(entry, "id", f"{annotation_file}: images")
        where = f"{annotation_file}: image {image_id}"
        file_name, path, size, problem = "", image_dir, None, None
        try:
            if image_id in size_of:
                raise BadSampleError(f"{where}: listed twice in `images`; remove one of the entries")
            size = _listed_size(entry, where)
            file_name = str(require_key(entry, "file_name", where))
            path = inside(image_dir, locate(file_name), where)
            if not path.is_file():
                if missing_images == "skip":
                    size_of[image_id] = size
                    absent += 1
                    continue
                raise BadSampleError(missing_image(path, f"image {image_id} of {annotation_file}"))
        except BadSampleError as error:
            problem = str(error)
        size_of.setdefault(image_id, size)
        images.append(ListedImage(image_id, file_name, str(path), size, problem))
    if absent:
        notes.append(
            f"{absent} of {absent + len(images)} images listed in {annotation_file} are not in {image_dir}: left out"
        )
    return sorted(images, key=lambda image: (isinstance(image.image_id, str), image.image_id)), size_of


def _listed_size(entry: Any, where: str) -> Size | None:
    if not {"height", "width"} <= entry.keys():
        return None
    size = entry["height"], entry["width"]
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise BadSampleError(f"{where}: `height` and `width` must be whole numbers above 0, not {size}; correct them")
    return size


def require_image_id(entry: Any, key: str, where: str) -> int | str:
    """The image id at a key of an entry; ValueError, for the whole file, where it is missing or no id."""
    value = require_key(entry, key, where)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{where}: an image id is a number or a word, not {value!r}; correct it")
    return value
