"""Brush masks of Label Studio, read and written: the bits of thi.ng's rle-pack over RGBA pixels,
row by row.

The header is 32 bits for the number of values, 5 bits for the bits per value, less 1, and four
times 4 bits for the bits of a run length, less 1. Then come runs: 1 bit, whether one value is
repeated; 2 bits, which of the four widths the length has; the length, less 1; the value, or as many
values as the length says.

Source: https://github.com/thi-ng/umbrella/blob/develop/packages/rle-pack/src/index.ts, and
`converter/brush.py` of label-studio-sdk.
"""

import numpy as np
from numpy.typing import NDArray

_CHANNELS = 4
# widths of run lengths that `encode_brush` writes; the shortest that fits is taken
_LENGTH_BITS = (3, 4, 8, 16)
_HEADER_BITS = 32 + 5 + 4 * 4
# label-studio-sdk takes values above 128 for the mask, too, where it makes one of an image
_MIN_ALPHA = 129


def brush_size(content: bytes) -> int:
    """How many values the encoded bytes hold, four per pixel."""
    return int.from_bytes(content[:4], "big")


def decode_brush(content: bytes, num_pixels: int) -> NDArray[np.bool_]:
    """The mask [num_pixels], row by row: where alpha is above 128.

    Raises:
        ValueError: for bytes that are cut short or hold another number of pixels.
    """
    if len(content) * 8 < _HEADER_BITS or brush_size(content) != _CHANNELS * num_pixels:
        raise ValueError(
            f"expected {_CHANNELS * num_pixels} values, four per pixel, not {brush_size(content)}"
        )
    values = np.zeros(_CHANNELS * num_pixels, dtype=np.uint8)
    bits = _Bits(content)
    bits.read(32)
    if bits.read(5) != 7:
        raise ValueError("expected values of 8 bits")
    widths = [bits.read(4) + 1 for _ in range(4)]
    start = 0
    while start < len(values):
        is_run = bits.read(1)
        end = start + bits.read(widths[bits.read(2)]) + 1
        if end > len(values):
            raise ValueError(f"a run ends at value {end} of {len(values)}")
        values[start:end] = bits.read(8) if is_run else bits.read_bytes(end - start)
        start = end
    return values[3::_CHANNELS] >= _MIN_ALPHA


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """The bytes of a mask [H, W]: 0 or 255 in all four channels of a pixel, in runs alone."""
    values = mask.ravel()
    starts = np.flatnonzero(np.diff(values, prepend=~values[:1]))
    lengths = np.diff(starts, append=values.size) * _CHANNELS
    bits = [
        f"{values.size * _CHANNELS:032b}",
        f"{7:05b}",
        *(f"{width - 1:04b}" for width in _LENGTH_BITS),
    ]
    for length, start in zip(lengths.tolist(), starts.tolist(), strict=True):
        bits += _run(length, "1" * 8 if values[start] else "0" * 8)
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _run(length: int, value: str) -> list[str]:
    """The bits of a run, in pieces of at most 65,536 values."""
    pieces = []
    longest = 1 << _LENGTH_BITS[-1]
    while length:
        part = min(length, longest)
        number, width = next((n, bits) for n, bits in enumerate(_LENGTH_BITS) if part <= 1 << bits)
        pieces.append(f"1{number:02b}{part - 1:0{width}b}{value}")
        length -= part
    return pieces


class _Bits:
    """Reads numbers of a few bits each."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def read(self, width: int) -> int:
        """The next number, of at most 32 bits."""
        first, shift = divmod(self._advance(width), 8)
        word = int.from_bytes(self._content[first : first + 5].ljust(5, b"\0"), "big")
        return (word >> (40 - shift - width)) & ((1 << width) - 1)

    def read_bytes(self, count: int) -> NDArray[np.uint8]:
        """The next `count` bytes, which need not begin where one of the content does."""
        first, shift = divmod(self._advance(8 * count), 8)
        content = np.frombuffer(self._content, np.uint8, offset=first)[: count + 1].astype(
            np.uint16
        )
        following = np.append(content[1:], 0)[:count]
        return ((content[:count] << shift | following >> (8 - shift)) & 0xFF).astype(np.uint8)

    def _advance(self, width: int) -> int:
        place = self._place
        self._place += width
        if self._place > 8 * len(self._content):
            raise ValueError("the run lengths are cut short")
        return place
