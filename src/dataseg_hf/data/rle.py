"""COCO's run-length encoding of masks: lengths of the runs of zeros and ones in turn, down the
columns, and the text that COCO compresses them to (cocodataset/cocoapi, maskApi.c).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FIRST, _LAST = 48, 48 + 63  # the characters that hold 6 bits
_MORE, _SIGN, _BITS, _VALUE = 32, 16, 5, 31
_MAX_CHARACTERS = 12  # of a number: 60 bits


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Run lengths of a mask [H, W], column by column, of zeros and ones in turn: COCO's
    uncompressed `counts`.

    The places where the value changes are found along the rows as they lie in memory and then
    sorted by column, which is several times as fast as copying the mask to column order.
    """
    height, width = mask.shape
    y, x = np.divmod(np.flatnonzero(mask[1:] != mask[:-1]), max(width, 1))
    changes_at_top = mask[:1].flatten()
    # a column follows the end of the one before
    changes_at_top[1:] ^= mask[-1:].ravel()[:-1]
    changes = np.concatenate([x * height + y + 1, np.flatnonzero(changes_at_top) * height])
    changes.sort()
    return np.diff(changes, prepend=0, append=height * width).tolist()


def mask_of_runs(runs: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask [H, W] of run lengths that add up to H * W, as `size` (height, width) says."""
    column_major = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return column_major.reshape(size[1], size[0]).T


def decompress(texts: Sequence[bytes]) -> list[NDArray[np.int64]]:
    """Run lengths out of COCO's compressed form, int64 [number of runs] for each of the texts.

    A number is a little-endian row of characters c: ord(c) - 48 holds 5 bits of the value and a
    flag (32) "more to come", in two's complement. From the fourth number on it is the difference to
    the number two before.

    Raises:
        ValueError: for a text that is not of this form. Its sums are not checked.
    """
    if not texts:
        return []
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    characters = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.int64)
    if ((characters < _FIRST) | (characters > _LAST)).any():
        raise ValueError("the text is no COCO run-length string")
    bits = characters - _FIRST
    is_last = (bits & _MORE) == 0
    ends = np.cumsum(lengths)
    if not is_last[ends[lengths > 0] - 1].all():
        raise ValueError("the text is no COCO run-length string")
    values = _numbers(bits, is_last)
    # how many numbers end within each text
    counts = np.diff(np.concatenate([[0], np.cumsum(is_last)])[ends], prepend=0)
    return np.split(_undo_differences(values, counts), np.cumsum(counts)[:-1])


def _numbers(bits: NDArray[np.int64], is_last: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The signed numbers of 6-bit characters, each of which ends where `is_last`."""
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(ends)]
    number: NDArray[np.int64] = (
        np.cumsum(is_last) - is_last
    )  # which number each character belongs to
    place = np.arange(bits.size) - starts[number]
    if (place >= _MAX_CHARACTERS).any():
        raise ValueError("a number has more than 60 bits")
    values = np.zeros(len(ends), dtype=np.int64)
    np.add.at(values, number, (bits & _VALUE) << (_BITS * place))
    negative = (bits[ends] & _SIGN) != 0
    return values - negative * (np.int64(1) << (_BITS * (ends - starts + 1)))


def _undo_differences(values: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Run lengths of all texts in a row, `counts` numbers each: numbers 1, 3, 5, ... of a text add
    up to those two before, 2, 4, 6, ... likewise, and number 0 stands alone.
    """
    index = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    kind = np.where(index == 0, 0, 1 + index % 2)
    chain = 3 * np.repeat(np.arange(len(counts)), counts) + kind
    order = np.argsort(chain, kind="stable")
    sums = np.cumsum(values[order])
    first = np.flatnonzero(np.diff(chain[order], prepend=-1))
    before = np.concatenate([[0], sums])[first]
    runs = np.empty_like(values)
    runs[order] = sums - np.repeat(before, np.diff(first, append=len(values)))
    return runs
