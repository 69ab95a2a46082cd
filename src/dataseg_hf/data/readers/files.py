"""What the readers share: paths out of annotation files, images as upright RGB, maps of ids, rows in the making."""

import atexit
import codecs
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import NamedTemporaryFile
from typing import Any, Literal, TypeAlias, TypeVar

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray
from PIL import ExifTags, Image

from ...image_reading_dataseg import IdMapError, is_16_bit_rgb, open_file, stored_ids
from ..image_values import pixels_of_entry
from ..sample import BadSampleError, SampleDataset, Segments

StrPath: TypeAlias = str | Path
MissingImages: TypeAlias = Literal["error", "skip"]
Size: TypeAlias = tuple[int, int]
"""Height and width, in pixels."""
Decoded = TypeVar("Decoded")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 89_478_485  # Pillow's limit against decompression bombs, 256 MB of RGB
MIN_SIDE = 2  # images of one pixel are placeholders of failed downloads
_TURNED = frozenset({5, 6, 7, 8})  # values of the EXIF orientation that exchange height and width
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
    """`root / name`, where `name` comes out of a file and must not lead out of `root`; `\\` parts folders, too.

    Raises:
        BadSampleError: for what is no name, an absolute path and one with `..`.
    """
    posix, windows = PurePosixPath(str(name)), PureWindowsPath(str(name))
    if not isinstance(name, str) or not name or "\0" in name or ".." in windows.parts:
        raise BadSampleError(f"{where}: file name {name!r} must be a relative path without '..'; correct it there")
    if posix.is_absolute() or windows.anchor:
        raise BadSampleError(
            f"{where}: file name {name!r} is an absolute path, of another machine perhaps; make it relative to the "
            "images' folder there, or, with a reader that has the option, cut the folder off by "
            "`file_name_pattern: ['^.*[/\\\\]', '']`"
        )
    try:
        as_written = (root / name).exists()
    except OSError as error:  # a name that is too long
        raise BadSampleError(
            f"{where}: file name '{name[:60]}...' cannot be one: {error.strerror}; correct it"
        ) from error
    return root / (name if as_written else windows.as_posix())


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


def missing_image(path: Path, what: str, image_dir: Path | None = None) -> str:
    """The message for an image that is not there.

    Args:
        image_dir: folder in which it is looked for without the folders of its name, for a hint.
    """
    hint = ""
    if image_dir is not None and path.parent != image_dir and (image_dir / path.name).is_file():
        hint = (
            f"{image_dir / path.name} is there: name the folder above as `images`, or cut the folders off by "
            "`file_name_pattern: ['^.*[/\\\\]', '']`. Else "
        )
    else:
        in_other_case = (path.with_suffix(case) for case in (path.suffix.lower(), path.suffix.upper()))
        there = next((other for other in in_other_case if other.is_file()), None)
        hint = "" if there is None else f"{there.name} is there: correct the name. Else "
    return f"{path}: missing, {what}; {hint}add it, or set missing_images to 'skip' to leave such images out"


def files_by_name(folder: Path, *suffixes: str, but: str | None = None) -> dict[str, Path]:
    """The files below `folder` that end in one of `suffixes` (in any case), by relative path without it, sorted.

    Hidden files and folders are passed over: macOS writes a `._a.png` beside `a.png`, and Jupyter copies.

    Args:
        folder: with its sub-folders.
        suffixes: endings of file names, such as ".png" or "_labels.png"; "png" is taken as ".png".
        but: files with this ending are left out.
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
                        f"{found[stem]} and {path}: two files of one name; keep one of them, or say which ending is "
                        "meant (`image_suffix` of most readers)"
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


Suffixes: TypeAlias = str | Sequence[str]
"""How file names end: one ending, or several."""


def image_files(
    folder: Path, suffixes: Suffixes, annotation_dir: Path | None = None, annotation_suffix: str = ""
) -> dict[str, Path]:
    """The images below `folder`, by relative path without their ending, sorted.

    Args:
        folder: with its sub-folders.
        suffixes: how image names end; upper case counts as lower.
        annotation_dir: folder of the annotations. Where it is the images' own, what ends in `annotation_suffix` is no
            image.
        annotation_suffix: how names of annotations end.
    """
    endings = [suffixes] if isinstance(suffixes, str) else list(suffixes)
    one_folder = annotation_dir is not None and annotation_dir.resolve() == folder.resolve()
    return files_by_name(folder, *endings, but=annotation_suffix if one_folder else None)


def split_names(split_file: StrPath) -> list[str]:
    """Names of a text file with one per line, as Pascal VOC's `ImageSets` have them, sorted and without repeats.

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


def upright_size(path: Path) -> Size:
    """Height and width of an image as `read_rgb` gives it, without decoding it; errors as `open_image`."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            # of a TIFF, Pillow gives the upright size from the start
            turned = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadSampleError(f"{path}: cannot be read as an image ({error}); replace or remove it") from error
    return (width, height) if turned else (height, width)


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
        refuse_jpeg(image, where)
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
    refuse_jpeg(png, where)
    return packed_rgb(png)


def packed_rgb(image: Image.Image) -> NDArray[np.integer]:
    """R + 256 G + 65536 B of each pixel [H, W] of an RGB or RGBA image."""
    four_bytes = image.tobytes("raw", "RGBX" if image.mode == "RGB" else "RGBA")  # as Pillow holds both
    return np.frombuffer(four_bytes, "<u4").reshape(image.height, image.width) & 0xFFFFFF


def refuse_jpeg(image: Image.Image, where: StrPath) -> None:
    """BadSampleError for a map of ids or colors in a format that changes them."""
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


def panoptic_segments(
    ids: NDArray[np.integer], listed: Sequence[tuple[int, int, bool]], where: StrPath
) -> tuple[Segments, list[int]]:
    """The listed segments (segment id, class index or -1 for void, is crowd) of a map of segment ids [H, W]; 0 is void.

    Returns:
        The segments, and the listed ids that have no pixel (hidden objects in some tools' files), which are left out.

    Raises:
        BadSampleError: for ids in the map that are not listed.
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
    is_seen = np.bincount(position, minlength=len(known))[1:] > 0
    classes = np.array([class_index for _, class_index, _ in ordered], dtype=np.int64)
    is_crowd = np.array([crowd for _, _, crowd in ordered], dtype=bool)
    kept = (classes >= 0) & is_seen
    index_of = np.concatenate([[-1], np.where(kept, np.cumsum(kept) - 1, -1)]).astype(np.int32)
    segment_map = np.repeat(index_of[position], lengths).reshape(ids.shape)
    return Segments(segment_map, classes[kept], is_crowd[kept]), known[1:][~is_seen].tolist()


def without_pixel(ids: Sequence[int], where: StrPath) -> tuple[str, ...]:
    """The remark on listed segments that have no pixel; none where there are none."""
    if not ids:
        return ()
    return (f"{where}: segment ids {list(ids)} are listed and have no pixel: left out",)


def require_segment_ids(ids: Sequence[int], where: str) -> None:
    """BadSampleError unless segment ids are unique numbers above 0 (void)."""
    if not all(isinstance(i, int) and i > 0 for i in ids) or len(set(ids)) < len(ids):
        raise BadSampleError(
            f"{where}: segment ids must be unique and above 0 (void), but are {list(ids)}; number them anew"
        )


# --- rows


class Rows:
    """Rows of a dataset in the making, as Arrow columns, beside the problems of images that had to be left out.

    Where there are more than `_ROWS_PER_BATCH`, they go into a file in the cache folder of `datasets`, from which they
    are mapped; it is deleted when the process ends.
    """

    def __init__(self, schema: Mapping[str, pa.DataType]) -> None:
        self.schema = pa.schema(list(schema.items()))
        self.problems: list[BadSampleError] = []
        self._pending: list[dict[str, Any]] = []
        self._file: Path | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None

    def add(self, **row: Any) -> None:
        """Append a row."""
        self._pending.append(row)
        if len(self._pending) > _ROWS_PER_BATCH:
            self._write()

    @contextmanager
    def image(self) -> Iterator[None]:
        """Within it, a BadSampleError becomes a problem of one image, and the others go on."""
        try:
            yield
        except BadSampleError as error:
            self.problems.append(error)

    def dataset(self, sort_by: str | None = None) -> Dataset:
        """All rows, in the order of a column where one is named; no more can be added."""
        if self._writer is None:
            rows = Dataset(pa.Table.from_batches([self._batch()], schema=self.schema))
        else:
            self._write()
            self._writer.close()
            rows = Dataset.from_file(str(self._file))
        if sort_by is None:
            return rows
        keys = rows.data.column(sort_by).to_pylist()
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return rows if order == list(range(len(keys))) else rows.select(order)

    def _batch(self) -> pa.RecordBatch:
        batch = pa.RecordBatch.from_pylist(self._pending, schema=self.schema)
        self._pending = []
        return batch

    def _write(self) -> None:
        if self._writer is None:
            folder = Path(datasets.config.HF_DATASETS_CACHE) / "dataseg_hf"
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=folder, prefix="rows-", suffix=".arrow", delete=False) as file:
                self._file = Path(file.name)
            atexit.register(self._file.unlink, missing_ok=True)
            self._writer = pa.ipc.new_stream(str(self._file), self.schema)
        self._writer.write_batch(self._batch())


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
