"""A small dataset and the files that the tests of the readers write."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dataseg_hf.data.sample import ClassInfo, DatasetSpec

SPEC = DatasetSpec(
    name="tiny",
    task="panoptic",
    classes=(ClassInfo("cat", True), ClassInfo("grass", False)),
    id_map={17: 0, 193: 1, 194: 1},
    void_ids=frozenset({255}),
)


def save(path: Path, array: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def rgb_of(ids: np.ndarray) -> np.ndarray:
    """Segment ids [H, W] as COCO's panoptic PNGs hold them."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def encoded(array: np.ndarray, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, file_format, **options)
    return buffer.getvalue()


def gray_png(width: int, height: int, bit_depth: int, packed_rows: bytes) -> bytes:
    """A gray PNG by its own bytes (https://www.w3.org/TR/png-3/), which may promise more rows than
    it holds.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bit_depth, 0, 0, 0, 0)
    return b"".join([
        b"\x89PNG\r\n\x1a\n",
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(packed_rows)),
        chunk(b"IEND", b""),
    ])  # fmt: skip
