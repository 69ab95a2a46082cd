"""What the readers share: paths out of annotation files, images as upright RGB, maps of ids, rows in the making."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray
from PIL import Image

from ...image_reading_dataseg import IdMapError, is_16_bit_rgb, open_file, stored_ids
from ..image_values import pixels_of_entry
from ..sample import BadSampleError, DatasetSpec, RawId, SampleDataset, Segments

StrPath: TypeAlias = str | Path
MissingImages: TypeAlias = Literal["error", "skip"]
Size: TypeAlias = tuple[int, int]
"""Height and width, in pixels."""
Decoded = TypeVar("Decoded")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 89_478_485  # Pillow's limit against decompression bombs, 256 MB of RGB
MAX_CLASS_ID = 65_535  # of a PNG with 16 bits per pixel
MIN_SIDE = 2  # images of one pixel are placeholders of failed downloads
_ROWS_PER_BATCH = 1_000  # as Python objects, rows take many times their Arrow size


# --- paths


def require_folder(path: StrPath) -> Path:
    """The folder as a Path; FileNotFoundError if it is not there."""
    if not Path(path).is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    return Path(path)


def require_file(path: StrPath, what: str) -> Path:
    """The file as a Path; FileNotFoundError, saying what it is, if it is not there."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: missing, {what}")
    return Path(path)


def inside(root: Path, name: Any, where: str) -> Path:
    """`root / name`, where `name` comes out of a file and must not lead out of `root`."""
    posix, windows = PurePosixPath(str(name)), PureWindowsPath(str(name))
    if not isinstance(name, str) or not name or posix.is_absolute() or windows.anchor or ".." in windows.parts:
        raise BadSampleError(f"{where}: file name {name!r} must be a relative path without '..'; correct it there")
    return root / name


def file_locator(pattern: Sequence[str] | None) -> Callable[[str], str]:
    """From listed file names to those on disk: `re.sub` with a (pattern, replacement), or as they are.

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
            f"file_name_pattern: expected [regular expression, replacement], not {pattern!r} ({error})"
        ) from error


def missing_image(path: Path, what: str) -> str:
    """The message for an image that is not there."""
    return f"{path}: missing, {what}; add it, or set missing_images to 'skip' to leave such images out"


def files_by_name(folder: Path, *suffixes: str) -> dict[str, Path]:
    """The files below `folder` that end in one of `suffixes` (in any case), by relative path without it, sorted."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        for suffix in suffixes:
            if name.lower().endswith(suffix.lower()) and path.is_file():
                stem = name[: len(name) - len(suffix)]
                if stem in found:
                    raise ValueError(f"{found[stem]} and {path}: two files of one name; keep one of them")
                found[stem] = path
                break
    return found


def split_names(split_file: StrPath) -> list[str]:
    """Names of a text file with one per line, as Pascal VOC's `ImageSets` have them, sorted and without repeats.

    What follows a blank is left out; BadSampleError for a name that leads out of its folder.
    """
    lines = require_file(split_file, "the list of images").read_text(encoding="utf-8").splitlines()
    names = sorted({line.split()[0] for line in lines if line.strip()})
    for name in names:
        inside(Path(), name, str(split_file))
    return names


def require_key(record: Any, key: str, where: StrPath) -> Any:
    """`record[key]`; BadSampleError if the record is no mapping or lacks it."""
    if not isinstance(record, Mapping) or key not in record:
        raise BadSampleError(f"{where}: key '{key}' is missing")
    return record[key]


# --- images


def open_image(source: StrPath | bytes, where: StrPath, min_side: int = MIN_SIDE) -> Image.Image:
    """A decoded image, of a file or of the bytes of one; errors as of `decoded`."""

    def load(image: Image.Image) -> Image.Image:
        image.load()
        return image

    return decoded(source, where, load, min_side)


def decoded(
    source: StrPath | bytes, where: StrPath, decode: Callable[[Image.Image], Decoded], min_side: int = MIN_SIDE
) -> Decoded:
    """What `decode` makes of an image that was opened and not yet loaded, of a file or of the bytes of one.

    Raises:
        BadSampleError: for what is no image, is cut short, is above `MAX_PIXELS` or has a side below `min_side`.
    """
    try:
        image = open_file(source)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise BadSampleError(
                f"{where}: {height} x {width} pixels (height x width) are more than {MAX_PIXELS}; make it smaller"
            )
        if min(width, height) < min_side:
            raise BadSampleError(
                f"{where}: an image of {height} x {width} pixels (height x width) has no content; replace or remove it"
            )
        return decode(image)
    except Image.DecompressionBombError as error:
        raise BadSampleError(f"{where}: {error}; make it smaller") from error
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow's decoders raise for damaged files
        if isinstance(error, BadSampleError):
            raise
        raise BadSampleError(f"{where}: cannot be read as an image ({error}); replace or remove it") from error


def read_rgb(source: StrPath | bytes, where: StrPath, annotation_size: Size | None = None) -> NDArray[np.uint8]:
    """Image as read-only uint8 RGB [H, W, 3], upright as its EXIF orientation says; see `image_reading_dataseg`.

    More than 8 bits are scaled as the `value_range` of the entry says. An annotation that was made on the stored pixels
    of a photograph taken upright, told by its size, keeps those pixels.
    """
    return decoded(source, where, partial(pixels_of_entry, annotation_size=annotation_size))


def require_same_size(image: NDArray[np.uint8], image_name: StrPath, size: Sequence[int], other: StrPath) -> None:
    """BadSampleError unless the image has the size (height, width) of its annotation."""
    if image.shape[:2] != tuple(size):
        raise BadSampleError(
            f"{image_name} is {image.shape[0]} x {image.shape[1]} pixels (height x width), "
            f"but its annotation in {other} is {size[0]} x {size[1]}; find the pair that belongs together"
        )


# --- maps of ids


def read_id_map(source: StrPath | bytes, where: StrPath, min_side: int = MIN_SIDE) -> NDArray[np.integer]:
    """Ids [H, W] of an image with one number per pixel: grey of 1 to 16 bits, or the indices of a palette."""

    def ids(image: Image.Image) -> NDArray[np.integer]:
        try:
            found = stored_ids(image)
        except IdMapError as error:
            raise BadSampleError(f"{where}: {error}") from error
        _refuse_jpeg(image, where)
        return found

    return decoded(source, where, ids, min_side)


def read_rgb_ids(source: StrPath | bytes, where: StrPath, min_side: int = MIN_SIDE) -> NDArray[np.integer]:
    """Ids R + 256 G + 65536 B [H, W] of an RGB image (https://cocodataset.org/#format-data)."""
    return decoded(source, where, partial(_rgb_ids, where=where), min_side)


def _rgb_ids(png: Image.Image, where: StrPath) -> NDArray[np.integer]:
    depth = " of 16 bits" if is_16_bit_rgb(png) else ""
    png.load()
    if png.mode not in ("RGB", "RGBA") or depth:
        raise BadSampleError(
            f"{where}: a panoptic PNG is RGB (segment id = R + 256 G + 65536 B), but this is {png.mode}{depth}"
        )
    _refuse_jpeg(png, where)
    four_bytes = png.tobytes("raw", "RGBX" if png.mode == "RGB" else "RGBA")  # as Pillow holds both: nothing to convert
    return np.frombuffer(four_bytes, "<u4").reshape(png.height, png.width) & 0xFFFFFF


def _refuse_jpeg(image: Image.Image, where: StrPath) -> None:
    if image.format == "JPEG":
        raise BadSampleError(f"{where}: JPEG changes ids where they border on others; store them as PNG")


def id_runs(ids: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Runs of equal ids in reading order: their ids and lengths. Maps have few, so that work per run is cheap."""
    flat = ids.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    bounds = np.empty(len(changes) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, flat.size
    np.add(changes, 1, out=bounds[1:-1])
    return flat[bounds[:-1]], bounds[1:] - bounds[:-1]


def semantic_segments(ids: NDArray[np.integer], spec: DatasetSpec, where: str) -> Segments:
    """One segment per class that occurs in a map of raw ids [H, W].

    Raises:
        BadSampleError: for an id that the spec does not know, or above `MAX_CLASS_ID`.
    """
    run_ids, lengths = id_runs(ids)
    if run_ids.min() < 0 or run_ids.max() > MAX_CLASS_ID:
        raise BadSampleError(
            f"{where}: ids of classes lie in 0..{MAX_CLASS_ID}, not {run_ids.min()}..{run_ids.max()}; "
            "does it hold something else?"
        )
    raw_ids = np.flatnonzero(np.bincount(run_ids))  # a table of all ids is cheaper than a search per run
    class_of = [spec.class_index(raw_id, where) for raw_id in raw_ids.tolist()]
    present = sorted({class_index for class_index in class_of if class_index is not None})
    place_of = {class_index: place for place, class_index in enumerate(present)}
    segment_of_id = np.full(raw_ids[-1] + 1, -1, dtype=np.int32)
    segment_of_id[raw_ids] = [-1 if c is None else place_of[c] for c in class_of]
    segment_map = np.repeat(segment_of_id[run_ids], lengths).reshape(ids.shape)
    return Segments(segment_map, np.array(present, dtype=np.int64), np.zeros(len(present), dtype=bool))


def panoptic_segments(ids: NDArray[np.integer], listed: Sequence[tuple[int, int, bool]], where: StrPath) -> Segments:
    """The listed segments (segment id, class index or -1 for void, is crowd) of a map of segment ids [H, W]; 0 is void.

    Raises:
        BadSampleError: for ids in the map that are not listed, and for listed ones without a pixel.
    """
    ordered = sorted(listed)
    known = np.array([0] + [segment_id for segment_id, _, _ in ordered])
    run_ids, lengths = id_runs(ids)
    position = np.minimum(np.searchsorted(known, run_ids), len(known) - 1)
    unlisted = run_ids != known[position]
    if unlisted.any():
        raise BadSampleError(
            f"{where}: segment ids {np.unique(run_ids[unlisted]).tolist()} are not in `segments_info`; "
            "list them there, or set their pixels to 0 (void)"
        )
    empty = np.bincount(position, minlength=len(known))[1:] == 0
    if empty.any():
        raise BadSampleError(
            f"{where}: segment ids {known[1:][empty].tolist()} of `segments_info` have no pixel; remove them there"
        )
    classes = np.array([class_index for _, class_index, _ in ordered], dtype=np.int64)
    is_crowd = np.array([crowd for _, _, crowd in ordered], dtype=bool)
    labelled = classes >= 0
    index_of = np.concatenate([[-1], np.where(labelled, np.cumsum(labelled) - 1, -1)]).astype(np.int32)
    segment_map = np.repeat(index_of[position], lengths).reshape(ids.shape)
    return Segments(segment_map, classes[labelled], is_crowd[labelled])


def class_index_or_void(spec: DatasetSpec, raw_id: RawId, where: str) -> int:
    """As `DatasetSpec.class_index`, -1 for void."""
    class_index = spec.class_index(raw_id, where)
    return -1 if class_index is None else class_index


def require_segment_ids(ids: Sequence[int], where: str) -> None:
    """BadSampleError unless segment ids are unique numbers above 0 (void)."""
    if not all(isinstance(i, int) and i > 0 for i in ids) or len(set(ids)) < len(ids):
        raise BadSampleError(
            f"{where}: segment ids must be unique and above 0 (void), but are {list(ids)}; number them anew"
        )


# --- rows


class Rows:
    """Rows of a dataset in the making, as Arrow columns, beside the problems of images that had to be left out."""

    def __init__(self, schema: Mapping[str, pa.DataType]) -> None:
        self.schema = pa.schema(list(schema.items()))
        self.problems: list[str] = []
        self._batches: list[pa.RecordBatch] = []
        self._pending: list[dict[str, Any]] = []

    def add(self, **row: Any) -> None:
        """Append a row."""
        self._pending.append(row)
        if len(self._pending) == _ROWS_PER_BATCH:
            self._pack()

    @contextmanager
    def image(self) -> Iterator[None]:
        """Within it, a BadSampleError becomes a problem of one image, and the others go on."""
        try:
            yield
        except BadSampleError as error:
            self.problems.append(str(error))

    def dataset(self) -> Dataset:
        """The rows so far."""
        self._pack()
        return Dataset(pa.Table.from_batches(self._batches, schema=self.schema))

    def _pack(self) -> None:
        self._batches.append(pa.RecordBatch.from_pylist(self._pending, schema=self.schema))
        self._pending = []


def id_type(image_ids: Iterable[int | str], where: StrPath) -> pa.DataType:
    """The Arrow type of image ids; ValueError where some are numbers and some are words."""
    kinds = {type(image_id) for image_id in image_ids}
    if kinds <= {int}:
        return pa.int64()
    if kinds == {str}:
        return pa.string()
    raise ValueError(
        f"{where}: image ids must be all numbers or all words, but are {sorted(k.__name__ for k in kinds)}"
    )


SEGMENTS_TYPE = pa.list_(pa.struct([("id", pa.int64()), ("class_index", pa.int64()), ("is_crowd", pa.bool_())]))
"""Arrow type of a row's panoptic segments; class_index is -1 for void."""


def require_images(data: SampleDataset, folder: StrPath) -> SampleDataset:
    """The dataset itself; ValueError if nothing was found in the folder, not even an image with a problem."""
    if len(data) == 0 and not data.problems:
        raise ValueError(f"dataset '{data.spec.name}': no images in {folder}; check the path and the file name endings")
    return data
