"""Label Studio's brush masks: the run lengths of the npm package `@thi.ng/rle-pack`, over RGBA pixels row by row."""

import numpy as np
from numpy.typing import NDArray

_LENGTH_BITS = (3, 4, 8, 16)  # the shortest that fits is taken
_CHANNELS = 4


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """The bytes of a mask [H, W]: 0 or 255 in all four channels of a pixel.

    First comes the number of values (32 bits), then the bits of a value minus 1 (5), and those of a length minus 1 in
    each of four widths (4 each). A run is a 1, the number of its width (2 bits), its length minus 1, its value (8).
    """
    values = mask.ravel()
    starts = np.flatnonzero(np.diff(values, prepend=~values[:1]))
    lengths = np.diff(starts, append=values.size) * _CHANNELS
    bits = [f"{values.size * _CHANNELS:032b}", f"{7:05b}", *(f"{width - 1:04b}" for width in _LENGTH_BITS)]
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
