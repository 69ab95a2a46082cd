"""Image files as upright 8-bit RGB, the same for training and inference, and id maps as the numbers
that they store.

Images of 8 bits are used as they are. Others are scaled to 0..255 by the first of these ranges that
there is:

1. `value_range`: a pair (low, high) that the user states, in the file's own values;
2. what the file tells: the bits of a 12-bit TIFF or of a PNG's sBIT chunk, or a TIFF's least and
   greatest sample value. Values outside of it prove it wrong, and then it does not count;
3. the image's own range: its least and greatest value, over all channels.

low becomes 0, high 255, values between them are rounded and values outside clipped. NaN, and what a
TIFF of GDAL calls "no data", become 0; so does an image of one value that is scaled by its own
range. The ranges are our setting.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from .image_storage_dataseg import (
    ValueRange,
    is_16_bit_rgb,
    is_signed_byte,
    is_unsigned,
    is_white_zero,
    load_pixels,
    lower_bytes,
    no_data_value,
    raw_mode,
    refuse_unknown_16_bits,
    significant_bits,
    stored_bits,
    told_range,
)

Size: TypeAlias = tuple[int, int]
"""Height and width, in pixels."""

IMAGE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM")
"""Formats of Pillow that are read, by what is in a file. Its other decoders are seldom used, and a
file chooses its decoder. "JPEG" includes the MPO of phones, which Pillow knows by that name only.
"""

_TURNED = frozenset({5, 6, 7, 8})  # values of the EXIF orientation that exchange height and width


class IdMapError(ValueError):
    """An image that holds no ids; the message says what it holds and what to do."""


def check_value_range(value_range: Sequence[float]) -> ValueRange:
    """The pair (low, high) of floats.

    Raises:
        ValueError: for anything but two finite numbers, the lower one first.
    """
    if isinstance(value_range, (list, tuple)) and len(value_range) == 2:
        low, high = value_range
        numbers = all(
            isinstance(end, (int, float)) and not isinstance(end, bool) for end in value_range
        )
        if numbers and math.isfinite(low) and math.isfinite(high) and low < high:
            return float(low), float(high)
    raise ValueError(
        f"value_range: must be two numbers [low, high] with low < high, not {value_range!r}"
    )


@dataclass(frozen=True)
class Scaling:
    """How the values of an image became 8 bits.

    Args:
        depth: what was stored, for messages: "16 bits", "32 bits, float".
        rule: what the range comes from.
        low, high: the values that became 0 and 255.
        clipped: whether values lay outside of the range.
        missing: whether values were NaN, infinite or "no data".
    """

    depth: str = "8 bits"
    rule: Literal["8 bits", "value_range", "file", "own range"] = "8 bits"
    low: float = 0
    high: float = 255
    clipped: bool = False
    missing: bool = False


def read_image(source: Any, value_range: ValueRange | None = None) -> Image.Image:
    """The upright RGB image of a file (path, bytes or open file) or of a PIL image.

    Raises:
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: for a file that Pillow
            cannot read.
        TypeError: for anything else, such as an array.
    """
    if isinstance(source, Image.Image):
        with faults_of_files():
            return Image.fromarray(rgb_pixels(source, value_range)[0])
    if not (isinstance(source, (str, Path, bytes)) or hasattr(source, "read")):
        raise TypeError(
            f"an image is a path, bytes or a PIL image, not {type(source).__name__}; see "
            "`Image.fromarray`"
        )
    with faults_of_files(), open_file(source) as image:
        return Image.fromarray(rgb_pixels(image, value_range)[0])


@contextmanager
def faults_of_files() -> Iterator[None]:
    """What Pillow raises for a damaged file, as one of its documented errors: its decoders also let
    through errors of `struct`, `zlib`, indices, keys and memory (our observation).

    Raises:
        ValueError: instead of those.
    """
    try:
        yield
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise
    except Exception as error:
        raise ValueError(f"damaged: {type(error).__name__}: {error}") from error


def open_file(source: Any) -> Image.Image:
    """As `Image.open`, also of bytes, for IMAGE_FORMATS, with an error for TIFFs that says what to
    do.

    Raises:
        ValueError: for a kind of TIFF that Pillow does not read.
    """
    file = BytesIO(source) if isinstance(source, bytes) else source
    try:
        return Image.open(file, formats=IMAGE_FORMATS)
    except Image.UnidentifiedImageError as error:
        start = source[:4] if isinstance(source, bytes) else _first_bytes(file)
        if start in (b"II*\0", b"MM\0*"):
            raise ValueError(
                "a kind of TIFF that Pillow does not read; convert it to 8 or 16 bits"
            ) from error
        raise


def _first_bytes(file: Any) -> bytes:
    if hasattr(file, "read"):
        file.seek(0)
        return file.read(4)
    with open(file, "rb") as opened:
        return opened.read(4)


def rgb_pixels(
    image: Image.Image,
    value_range: ValueRange | None = None,
    *,
    turn: bool = True,
    annotation_size: Size | None = None,
) -> tuple[NDArray[np.uint8], Scaling]:
    """Read-only uint8 RGB [H, W, 3] of an image, and how its values were scaled.

    Gray, palette and CMYK images become RGB, alpha is dropped; of several pages or frames the first
    one is read. An image that was just opened is read as its file is. One that was loaded, cropped
    or made elsewhere has lost what Pillow does not keep: a PNG's sBIT chunk, and the lower bytes of
    RGB in 16 bits.

    Args:
        value_range: the values that become 0 and 255, in an image of more than 8 bits.
        turn: upright, as the EXIF orientation says.
        annotation_size: see `upright`.
    """
    refuse_unknown_16_bits(image)
    lower = lower_bytes(image)
    bits = significant_bits(image)  # before `load` closes the file
    load_pixels(image)
    seen = upright(image, annotation_size) if turn else image
    if lower is not None:
        lower = upright(lower, annotation_size) if turn else lower
        values = np.asarray(seen)[..., :3].astype(np.uint16) << 8 | np.asarray(lower)[..., :3]
    elif image.mode[0] in "IF" or is_signed_byte(image):
        values = _gray_values(seen, image)
    else:
        return np.asarray(_eight_bits(seen)), Scaling()
    pixels, scaling = _scaled(values, image, value_range, bits)
    return (np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels), scaling


def upright(image: Image.Image, annotation_size: Size | None = None) -> Image.Image:
    """The image turned as its EXIF orientation says, see `orientation_to_undo`."""
    if orientation_to_undo(image, annotation_size) == 1:
        return image
    return ImageOps.exif_transpose(image)


def orientation_to_undo(image: Image.Image, annotation_size: Size | None = None) -> int:
    """The EXIF orientation of an image; 1 for none, and where the stored pixels are to be kept.

    An annotation that was made on the stored pixels of a photograph taken upright, told by its
    size, keeps those pixels.
    """
    orientation = _orientation(image)
    made_on_stored = annotation_size == (image.height, image.width) and orientation in _TURNED
    return 1 if made_on_stored and image.width != image.height else orientation


def upright_size(image: Image.Image) -> Size:
    """The size that `upright` gives an image that was just opened."""
    # of a TIFF, Pillow gives the upright size from the start
    is_turned = image.format != "TIFF" and _orientation(image) in _TURNED
    return (image.width, image.height) if is_turned else (image.height, image.width)


def _orientation(image: Image.Image) -> int:
    # most JPEGs have no EXIF, and `getexif` looks for more than that
    has_exif = image.format != "JPEG" or "exif" in image.info
    return image.getexif().get(ExifTags.Base.Orientation, 1) if has_exif else 1


def scaled_to_8_bits(values: NDArray[Any], value_range: ValueRange) -> NDArray[np.uint8]:
    """uint8 of values [H, W, ...]: low becomes 0, high 255, NaN 0."""
    if values.dtype == np.uint16:  # a table of all values is cheaper than arithmetic on every pixel
        return _linear(np.arange(65_536), value_range)[values]
    return _linear(values, value_range)


def _linear(values: NDArray[Any], value_range: ValueRange) -> NDArray[np.uint8]:
    low, high = value_range
    if low == high:
        return np.zeros(values.shape, np.uint8)
    share = (np.clip(values.astype(np.float64), low, high) - low) / (high - low)
    return np.nan_to_num(np.rint(share * 255)).astype(np.uint8)


# --- ids


def stored_ids(image: Image.Image) -> NDArray[np.integer]:
    """Ids [H, W] of an image that was just opened: gray of 1 to 32 bits, or the indices of a
    palette.

    Ids are the numbers in the file. Pillow multiplies gray of 2 and 4 bits by 85 and 17, and shows
    a TIFF in which 0 is white in negative; both are undone.

    Raises:
        IdMapError: for a mode with more or less than one integer per pixel.
    """
    stored_mode = raw_mode(image)
    load_pixels(image)
    if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        raise IdMapError(
            f"expected one id per pixel (gray of 1 to 16 bits, or palette), not {image.mode}; "
            "convert it"
        )
    ids = np.asarray(image)
    if image.mode == "1":
        ids = ids.astype(np.uint8)
    found = re.fullmatch(r"[1L](?:;([24])?(I)?R?)?", stored_mode)
    if found is None:
        return ids
    bits, inverted = found.groups()
    greatest = {"2": 3, "4": 15, None: 1 if image.mode == "1" else 255}[bits]
    if bits is not None:
        ids = ids // (255 // greatest)
    return greatest - ids if inverted else ids


# --- values


def _gray_values(image: Image.Image, opened: Image.Image) -> NDArray[Any]:
    """Values [H, W] of a gray image of more than 8 bits. opened: the same image with what its file
    tells.
    """
    values = np.asarray(image)
    if is_signed_byte(opened):
        return values.view(np.int8)  # Pillow has no signed mode of 8 bits
    if values.dtype == np.int32 and stored_bits(opened) == 32 and is_unsigned(opened):
        return values.view(np.uint32)  # Pillow has no unsigned mode
    return values.astype(np.uint16) if values.dtype.str == ">u2" else values


def _eight_bits(image: Image.Image) -> Image.Image:
    """RGB of an image of 8 bits or less per channel."""
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled(
    values: NDArray[Any], image: Image.Image, value_range: ValueRange | None, bits: int | None
) -> tuple[NDArray[np.uint8], Scaling]:
    known = np.isfinite(values)
    no_data = no_data_value(image)
    if no_data is not None:
        known &= values != no_data
    complete = bool(known.all())
    least, greatest = _extent(values if complete else values[known])
    rule: Literal["value_range", "file", "own range"] = "value_range"
    if value_range is None:
        told = told_range(image, bits, values)
        believed = told is not None and told[0] <= least and greatest <= told[1]
        rule, value_range = (
            ("file", told) if told is not None and believed else ("own range", (least, greatest))
        )
    pixels = scaled_to_8_bits(values, value_range)
    if is_white_zero(image):  # 0 is white; in 8 bits Pillow sees to it
        pixels = 255 - pixels
    if not complete:
        pixels[~known & ~np.isinf(values)] = 0
    low, high = value_range
    scaling = Scaling(
        _depth(values, image), rule, low, high, bool(least < low or greatest > high), not complete
    )
    return pixels, scaling


def _extent(values: NDArray[Any]) -> ValueRange:
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _depth(values: NDArray[Any], image: Image.Image) -> str:
    kind = {"f": ", float", "i": ", signed"}.get(values.dtype.kind, "")
    return f"{stored_bits(image) or 8 * values.dtype.itemsize} bits{kind}"


__all__ = [
    "IMAGE_FORMATS",
    "IdMapError",
    "Scaling",
    "Size",
    "ValueRange",
    "check_value_range",
    "faults_of_files",
    "is_16_bit_rgb",
    "open_file",
    "orientation_to_undo",
    "read_image",
    "rgb_pixels",
    "scaled_to_8_bits",
    "stored_ids",
    "upright",
    "upright_size",
]
