"""The JSON files of COCO, read as a stream, so that memory does not grow with the file.

Format: https://cocodataset.org/#format-data.
"""

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, TypeAlias

import ijson

from ...model.image_reading_dataseg import Size
from ..sample import BadSampleError, Frequency, RawId
from .images import size_of_file
from .paths import MissingImages, StrPath, inside, missing_image, require_file
from .values import category_id, require_key, side, whole_number

Crowd: TypeAlias = Literal["ignore", "as_objects"]
"""What a crowd flag means: neither target nor background, or nothing, as some exporters flag
ordinary objects.
"""

_LETTERS: Mapping[str, Frequency] = {"r": "rare", "c": "common", "f": "frequent"}
"""LVIS's."""

_BUFFER = 1 << 20  # bytes


def json_items(path: StrPath, key: str, required: bool = True) -> Iterator[Any]:
    """The members of the list at a top-level key of a JSON file, one at a time.

    Args:
        path: the file, in UTF-8 or, with a byte order mark, UTF-16.
        key: at the top of the file.
        required: whether the list must be there.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for a file that is no JSON, or has no list under that key though it is required.
    """
    path = require_file(path, "the annotation file")
    found = False
    try:
        with _open_utf8(path) as file:
            for item in ijson.items(file, f"{key}.item", use_float=True, buf_size=_BUFFER):
                found = True
                yield item
        if not found and required:
            _require_list(path, key)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        text = (
            error.args[0].decode("utf-8", "replace")
            if isinstance(error.args[0], bytes)
            else str(error)
        )
        # the parser draws an arrow under the place, over several lines
        reason = " ".join(text.split())
        raise ValueError(
            f"{path}: not valid JSON ({reason}); export or download it anew"
        ) from error


def _open_utf8(path: Path) -> IO[bytes]:
    """The file as UTF-8 without a byte order mark, which the parser does not take; Windows' tools
    write one.

    UTF-16 is decoded as a whole: it takes memory in proportion to the file.
    """
    file = path.open("rb")
    start = file.read(3)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        with file:
            return BytesIO((start + file.read()).decode("utf-16").encode())
    if start != codecs.BOM_UTF8:
        file.seek(0)
    return file


def _require_list(path: Path, key: str) -> None:
    with _open_utf8(path) as file:
        events = ijson.parse(file, buf_size=_BUFFER)
        if next(events)[1] != "start_map":
            raise ValueError(f"{path}: expected a JSON object at the top, as COCO's files have")
        if not any(prefix == key and event == "start_array" for prefix, event, _ in events):
            raise ValueError(f"{path}: key '{key}' is missing, or is no list")


def stated_categories(path: StrPath) -> dict[RawId, str]:
    """Names by category id, as `categories` states them; entries without an id or a name state
    nothing.
    """
    return _of_categories(path, "name")


def stated_frequencies(path: StrPath) -> dict[RawId, Frequency]:
    """How often LVIS's training images show each category id, as `categories` states it; empty for
    other files.
    """
    stated = _of_categories(path, "frequency")
    return {raw_id: _LETTERS[letter] for raw_id, letter in stated.items() if letter in _LETTERS}


def _of_categories(path: StrPath, key: str) -> dict[RawId, str]:
    """The word at a key of each category, by its id."""
    words: dict[RawId, str] = {}
    for entry in json_items(path, "categories", required=False):
        if isinstance(entry, Mapping) and isinstance(entry.get(key), str):
            try:
                words[category_id(entry.get("id"), str(path))] = entry[key]
            except BadSampleError:
                continue
    return words


def image_key(image_id: Any, where: str) -> str:
    """What is equal for an id of `images` and one of `annotations` that mean the same image: 7, 7.0
    and "7" do.

    Raises:
        ValueError: for what is no id.
    """
    if isinstance(image_id, float) and image_id.is_integer():
        return str(int(image_id))
    if isinstance(image_id, bool) or not isinstance(image_id, int | str):
        raise ValueError(
            f"{where}: an image id is a number or a word, not {image_id!r}; correct it"
        )
    return str(image_id)


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An entry of `images`.

    Args:
        size: height and width as listed; None if they are not.
        problem: why the image cannot be used; None if it can.
        absent, in_part: raw ids of categories that the image does not show, and of those that are
            not annotated wherever it shows them, as LVIS lists them; None where nothing is said.
    """

    image_id: int | str
    file_name: str
    path: str
    size: Size | None
    problem: str | None
    absent: Sequence[int] | None = None
    in_part: Sequence[int] | None = None


def listed_images(
    annotation_file: StrPath,
    image_dir: Path,
    missing_images: MissingImages,
    locate: Callable[[str], str],
    notes: list[str],
) -> tuple[list[ListedImage], dict[str, Size | None]]:
    """The entries of `images`, sorted by id; and the size by `image_key` of all of them, absent
    images included.

    A size that is not stated is the image's own. LVIS states no file name: it is the end of
    `coco_url`.

    Args:
        annotation_file: the JSON file.
        image_dir: folder of the images.
        missing_images: images that are not in `image_dir` are left out with a note ("skip") or a
            problem ("error").
        locate: turns a listed file name into the one on disk.
        notes: takes what a user should know.

    Raises:
        ValueError: for an entry without a valid id. Other faults of an entry, each a
            BadSampleError, become the `problem` of its image.
    """
    images: list[ListedImage] = []
    size_of: dict[str, Size | None] = {}
    absent = 0
    for entry in json_items(annotation_file, "images"):
        image_id = require_image_id(entry, "id", f"{annotation_file}: images")
        key, where = image_key(image_id, ""), f"{annotation_file}: image {image_id}"
        file_name, path, size, problem = "", image_dir, None, None
        absent_ids = in_part = None
        try:
            if key in size_of:
                raise BadSampleError(
                    f"{where}: listed twice in `images`; remove one of the entries"
                )
            file_name = _file_name(entry, where)
            path = inside(image_dir, locate(file_name), where)
            if not path.is_file():
                if missing_images == "skip":
                    size_of[key] = _listed_size(entry, None, where)
                    absent += 1
                    continue
                raise missing_image(path, f"image {image_id} of {annotation_file}", image_dir)
            size = _listed_size(entry, path, where)
            absent_ids = _category_ids(entry, "neg_category_ids", where)
            in_part = _category_ids(entry, "not_exhaustive_category_ids", where)
        except BadSampleError as error:
            problem = str(error)
        size_of.setdefault(key, size)
        images.append(
            ListedImage(image_id, file_name, str(path), size, problem, absent_ids, in_part)
        )
    if absent:
        notes.append(
            f"{absent} of {absent + len(images)} images listed in {annotation_file} are not in "
            f"{image_dir}: left out"
        )
    return sorted(
        images, key=lambda image: (isinstance(image.image_id, str), image.image_id)
    ), size_of


def _category_ids(entry: Mapping[str, Any], key: str, where: str) -> list[int] | None:
    ids = entry.get(key)
    if ids is None:
        return None
    if not isinstance(ids, list):
        raise BadSampleError(f"{where}: `{key}` must be a list of category ids; correct it")
    return [whole_number(raw_id, f"{where}, `{key}`") for raw_id in ids]


def _file_name(entry: Mapping[str, Any], where: str) -> str:
    if "file_name" not in entry and isinstance(entry.get("coco_url"), str):
        return "/".join(PurePosixPath(entry["coco_url"]).parts[-2:])
    return str(require_key(entry, "file_name", where))


def _listed_size(entry: Mapping[str, Any], path: Path | None, where: str) -> Size | None:
    """Height and width as stated, else of the image at `path`, else None."""
    stated = entry.get("height"), entry.get("width")
    if None in stated:
        return None if path is None else size_of_file(path)
    return side(stated[0], f"{where}, `height`"), side(stated[1], f"{where}, `width`")


def require_image_id(entry: Any, key: str, where: str) -> int | str:
    """The image id at a key of an entry.

    Raises:
        ValueError: for the whole file, if it is missing or no id.
    """
    value = require_key(entry, key, where)
    image_key(value, where)
    return int(value) if isinstance(value, float) else value
