"""How a file stores the pixels of an image that was just opened, as far as Pillow does not tell:
more than 8 bits, and what TIFFs and PNGs say of their values.
"""

import math
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ValueRange = tuple[float, float]

# tags of a TIFF
_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT, _GDAL_NODATA = 258, 262, 284, 339, 42113
_MIN_AND_MAX = ((340, 341), (280, 281))  # S(Min|Max)SampleValue, (Min|Max)SampleValue
_UNSIGNED, _SIGNED = 1, 2  # values of the tag SampleFormat

# Pillow decodes RGB of 16 bits to the upper byte of each value; decoded in the other byte order it
# gives the lower one
_LOWER_BYTES = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if np.little_endian else "L"))
}
# the four bytes of a pixel: the lower one of its gray value is the second
_LOWER_BYTES["LA;16B"] = "RGBA"


def load_pixels(image: Image.Image) -> None:
    """As `image.load`, with the compression in the error of a TIFF.

    Raises:
        OSError: for a file that Pillow cannot decode.
    """
    try:
        image.load()
    except OSError as error:
        if image.format != "TIFF":
            raise
        compression = image.info.get("compression", "raw")
        raise OSError(f"{error}; a TIFF with the compression '{compression}'") from error


def refuse_unknown_16_bits(image: Image.Image) -> None:
    """Check that Pillow keeps the values of an image.

    Raises:
        ValueError: for what Pillow would read as 8 bits, or as noise, without a word.
    """
    in_planes = (
        image.format == "TIFF"
        and _tag(image, _PLANAR) == 2
        and _number(image, _BITS_PER_SAMPLE) == 16
    )
    stored_mode = raw_mode(image)
    if image.mode[0] not in "IF" and (
        in_planes or (";16" in stored_mode and stored_mode not in _LOWER_BYTES)
    ):
        raise ValueError(
            f"16 bits per channel in {image.mode}, in planes or with premultiplied alpha, which "
            "Pillow does not keep; convert it to RGB of 16 bits, pixel by pixel"
        )


def raw_mode(image: Image.Image) -> str:
    """How the file stores its pixels, in Pillow's words; "" once they are loaded."""
    tiles = getattr(image, "tile", None)
    if not tiles or getattr(image, "fp", None) is None:
        return ""
    arguments = tiles[0].args
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def lower_bytes(image: Image.Image) -> Image.Image | None:
    """The image in the lower bytes of its values, if its file has 16 bits per channel and is still
    open.
    """
    if not is_16_bit_rgb(image):
        return None
    file: Any = image.fp  # type: ignore[attr-defined]
    position = file.tell()
    file.seek(0)
    again: Any = Image.open(BytesIO(file.read()), formats=[image.format or ""])
    file.seek(position)
    again.seek(image.tell())  # the same page
    swapped = _LOWER_BYTES[raw_mode(again)]
    again.tile = [
        tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
        for tile in again.tile
    ]
    load_pixels(again)
    return again.getchannel("G").convert("RGB") if swapped == "RGBA" else again


def is_16_bit_rgb(image: Image.Image) -> bool:
    """Whether the file of an image that was just opened has 16 bits per channel, of which Pillow
    keeps 8.
    """
    return raw_mode(image) in _LOWER_BYTES


def significant_bits(image: Image.Image) -> int | None:
    """Bits of a PNG's sBIT chunk, which stands before the pixels; None without one."""
    file: Any = getattr(image, "fp", None)
    if (
        image.format != "PNG"
        or file is None
        or not (image.mode.startswith("I") or is_16_bit_rgb(image))
    ):
        return None
    position = file.tell()
    file.seek(8)
    bits = None
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"sBIT":
            bits = max(file.read(length), default=0)
            break
        file.seek(length + 4, 1)
    file.seek(position)
    return bits if bits and bits < 16 else None


def told_range(image: Image.Image, bits: int | None, values: NDArray[Any]) -> ValueRange | None:
    """The range (low, high) of values that a file states; None where it states none.

    Args:
        image: just opened.
        bits: of a PNG's sBIT chunk.
        values: of the image, [H, W] or [H, W, 3].
    """
    if image.format == "PPM":
        return 0, 65_535  # to which Pillow scales, by the maximum in the file
    if bits is not None:
        return 0, 65_535 if _fills_upper_bits(values, bits) else 2**bits - 1
    stored_bits = _number(image, _BITS_PER_SAMPLE)
    if stored_bits is None:
        return None
    for least, greatest in _MIN_AND_MAX:
        low, high = _number(image, least), _number(image, greatest)
        if high is not None and not _is_whole_type(high, stored_bits, values):
            return (low or 0.0, high) if (low or 0.0) < high else None
    return (0, 2**stored_bits - 1) if 8 < stored_bits < 16 else None


def _fills_upper_bits(values: NDArray[Any], bits: int) -> bool:
    """Whether values of so many bits were shifted up, as the PNG specification wants it, or stored
    as they are.
    """
    return bool(values.max() >= 2**bits or not (values & (2 ** (16 - bits) - 1)).any())


def _is_whole_type(high: float, bits: int, values: NDArray[Any]) -> bool:
    """Whether a stated maximum says no more than the type of the values does."""
    if values.dtype.kind == "f":
        return not math.isfinite(high) or high >= float(np.finfo(np.float32).max)
    return high >= 2 ** (bits - (values.dtype.kind == "i")) - 1


def _tag(image: Image.Image, tag: int) -> Any:
    """Value of a TIFF's tag, the first one of several; None without it."""
    value = getattr(image, "tag_v2", {}).get(tag)
    return value[0] if isinstance(value, tuple) and value else value


def _number(image: Image.Image, tag: int) -> Any:
    value = _tag(image, tag)
    return value if isinstance(value, (int, float)) else None


def is_signed_byte(image: Image.Image) -> bool:
    """Whether a TIFF holds signed integers of 8 bits, for which Pillow has no mode."""
    return image.mode == "L" and _sample_format(image) == _SIGNED


def _sample_format(image: Image.Image) -> int:
    return _number(image, _SAMPLE_FORMAT) or _UNSIGNED


def no_data_value(image: Image.Image) -> float | None:
    """What a TIFF of GDAL calls "no data"; None without it."""
    try:
        return float(str(_tag(image, _GDAL_NODATA)).strip("\0 "))
    except ValueError:
        return None


def stored_bits(image: Image.Image) -> int | None:
    """Bits of each value in a TIFF; None in other files."""
    return _number(image, _BITS_PER_SAMPLE)


def is_white_zero(image: Image.Image) -> bool:
    """Whether 0 is white in a TIFF."""
    return _tag(image, _PHOTOMETRIC) == 0


def is_unsigned(image: Image.Image) -> bool:
    """Whether a TIFF holds unsigned integers."""
    return _sample_format(image) == _UNSIGNED


__all__ = [
    "is_16_bit_rgb",
    "is_signed_byte",
    "is_unsigned",
    "is_white_zero",
    "load_pixels",
    "lower_bytes",
    "no_data_value",
    "raw_mode",
    "refuse_unknown_16_bits",
    "significant_bits",
    "stored_bits",
    "told_range",
]
