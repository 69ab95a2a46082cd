"""Image files made by hand, byte by byte, after the PNG specification (W3C, third edition) and TIFF
6.0.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # color types of a PNG
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # sample formats of a TIFF
_TYPES = {
    "<u1": (1, "B"),
    "<u2": (3, "H"),
    "<u4": (4, "I"),
    "<i2": (8, "h"),
    "<f4": (11, "f"),
    "<i4": (9, "i"),
}


def packed(values: np.ndarray, bits: int) -> list[bytes]:
    """Rows of samples [H, W] of 1 to 16 bits, the first sample in the upper bits, rows filled up to
    whole bytes.
    """
    rows = []
    for row in values.reshape(len(values), -1).tolist():
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return rows


def png(
    values: np.ndarray,
    bits: int,
    color_type: int = GRAY,
    chunks: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """A PNG of values [H, W] or [H, W, channels]; `chunks` stand between header and pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed(values, bits)))
    extra = b"".join(chunk(name, content) for name, content in (chunks or {}).items())
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def tiff(
    values: np.ndarray,
    bits: int,
    sample_format: int = UNSIGNED,
    photometric: int = 1,
    tags: Mapping[int, np.ndarray | str] | None = None,
    order: str = "<",
) -> bytes:
    """An uncompressed TIFF of one strip. tags: further ones, arrays in their type, or text."""
    channels = values.shape[2] if values.ndim == 3 else 1
    if bits >= 8:
        kind = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}[sample_format]
        pixels = values.astype(f"{order}{kind}{bits // 8}").tobytes()
    else:
        pixels = b"".join(packed(values, bits))
    return tiff_of_strip(
        pixels, values.shape[:2], [bits] * channels, sample_format, photometric, tags or {}, order
    )


def tiff_of_strip(
    pixels: bytes,
    size: tuple[int, int],
    bits: Sequence[int],
    sample_format: int,
    photometric: int,
    tags: Mapping[int, np.ndarray | str],
    order: str = "<",
) -> bytes:
    """A TIFF around its pixels as bytes."""

    def short(*numbers: int) -> np.ndarray:
        return np.array(numbers, "<u2")

    entries = {
        256: short(size[1]),
        257: short(size[0]),
        258: short(*bits),
        259: short(1),
        262: short(photometric),
        273: np.array([0], "<u4"),
        277: short(len(bits)),
        278: short(size[0]),
        279: np.array([len(pixels)], "<u4"),
        339: short(*[sample_format] * len(bits)),
        **tags,
    }
    start = 8 + 2 + 12 * len(entries) + 4
    directory, beside = b"", b""
    for tag, value in sorted(entries.items()):
        if isinstance(value, str):
            kind, count, content = 2, len(value) + 1, value.encode() + b"\0"
        else:
            kind, count = _TYPES[value.dtype.str.replace("|", "<")][0], value.size
            content = value.astype(value.dtype.newbyteorder(order)).tobytes()
        if tag == 273:
            content = b"STRP"
        if len(content) > 4:
            content, beside = (
                struct.pack(f"{order}I", start + len(beside)),
                beside + content + b"\0" * (len(content) % 2),
            )
        directory += struct.pack(f"{order}HHI", tag, kind, count) + content.ljust(4, b"\0")
    directory = directory.replace(b"STRP", struct.pack(f"{order}I", start + len(beside)))
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(f"{order}IH", 8, len(entries))
    return head + directory + struct.pack(f"{order}I", 0) + beside + pixels
