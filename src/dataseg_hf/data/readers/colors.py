"""Classes as colors: how a color is written, and the tables of names and colors that tools write
beside RGB maps.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...messages import shown
from ...model.image_reading_dataseg import faults_of_files, open_file
from ..sample import BadSampleError
from .id_maps import packed_rgb, refuse_jpeg
from .images import open_image
from .paths import StrPath, read_text, require_file

Colors: TypeAlias = StrPath | Mapping[str, Any]
"""Path of a label map, or a mapping from names to colors."""

_DECIMAL = re.compile(r"[(\[]?\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*[)\]]?")
_HEXADECIMAL = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_LABEL_MAP_LINES = (
    # CVAT: label:r,g,b:parts:actions
    re.compile(r"(?P<name>.+?):\s*(?P<color>\d+\s*,\s*\d+\s*,\s*\d+)\s*(:.*)?"),
    re.compile(r"(?P<color>\d+\s+\d+\s+\d+)\s+(?P<name>\S.*)"),  # CamVid, datumaro: r g b label
    # class_dict.csv: name,r,g,b
    re.compile(r"(?P<name>[^,]+),\s*(?P<color>\d+\s*,\s*\d+\s*,\s*\d+)"),
)


def parse_color(value: Any) -> int | None:
    """R + 256 G + 65536 B of a color written `'250,50,83'`, `'#fa3253'` or `[250, 50, 83]`; None
    for anything else.

    Raises:
        ValueError: for a color whose parts are not all in 0..255.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts: list[Any] = list(value)
        if len(parts) != 3 or not all(
            isinstance(part, int) and not isinstance(part, bool) for part in parts
        ):
            return None
    elif isinstance(value, str) and (decimal := _DECIMAL.fullmatch(value.strip())):
        parts = [int(part) for part in decimal.groups()]
    elif isinstance(value, str) and (hexadecimal := _HEXADECIMAL.fullmatch(value.strip())):
        parts = [int(part, 16) for part in hexadecimal.groups()]
    else:
        return None
    if not all(0 <= part <= 255 for part in parts):
        raise ValueError(f"color {value!r}: red, green and blue lie in 0..255; correct it")
    return parts[0] + 256 * parts[1] + 65536 * parts[2]


def color_text(color: int) -> str:
    """A packed color as `'r,g,b'`."""
    return f"{color & 255},{color >> 8 & 255},{color >> 16}"


def read_label_map(colors: Colors) -> dict[int, str]:
    """Names by packed color.

    Args:
        colors: a text file with a class per line, in CVAT's form (`label:r,g,b:parts:actions`),
            CamVid's (`r g b label`) or as `name,r,g,b`, where `#` begins a comment; or a mapping
            from names to colors.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for what is no color, and two names of one color; the message names the line or
            the name.
    """
    if isinstance(colors, Mapping):
        entries = [(f"colors: {name!r}", str(name), color) for name, color in colors.items()]
    elif isinstance(colors, str | Path):
        entries = _label_map_lines(require_file(colors, "the label map"))
    else:
        raise ValueError(
            f"colors: expected the path of a label map or a mapping name -> color, not {colors!r}"
        )
    names: dict[int, str] = {}
    for where, name, value in entries:
        try:
            color = parse_color(value)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if color is None:
            raise ValueError(f"{where}: {value!r} is no color; write it '250,50,83' or '#fa3253'")
        if names.setdefault(color, name) != name:
            raise ValueError(
                f"{where}: color {color_text(color)} belongs to '{names[color]}' and to '{name}'; "
                "give each its own"
            )
    if not names:
        raise ValueError(
            f"{colors if isinstance(colors, str | Path) else 'colors'}: names no color"
        )
    return names


def _label_map_lines(path: Path) -> list[tuple[str, str, str]]:
    """(file and line, name, color) of each class."""
    entries: list[tuple[str, str, str]] = []
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        line = text.strip()
        is_header = not entries and not re.search(r"\d", line)  # "name,r,g,b"
        if not line or line.startswith("#") or is_header:
            continue
        found = next((match for form in _LABEL_MAP_LINES if (match := form.fullmatch(line))), None)
        if found is None:
            raise ValueError(
                f"{path}, line {number}: {shown(line)} is no class with its color; write "
                "'name:r,g,b::'"
            )
        entries.append(
            (
                f"{path}, line {number}",
                found["name"].strip(),
                ",".join(re.findall(r"\d+", found["color"])),
            )
        )
    return entries


def read_colors(source: StrPath | bytes, where: StrPath) -> NDArray[np.integer]:
    """Packed colors [H, W] of an image whose colors are classes: RGB, palette or 8-bit gray; alpha
    is dropped.

    Raises:
        BadSampleError: for a JPEG, whose colors are not those that were drawn, and for deeper gray
            and other colors.
    """
    image = open_image(source, where)
    refuse_jpeg(image, where)
    if image.mode not in ("RGB", "RGBA", "P", "PA", "L", "LA", "1"):
        raise BadSampleError(
            f"{where}: expected colors (RGB or a palette), not {image.mode}, which holds ids: give "
            "numbers as `ids`"
        )
    return packed_rgb(image if image.mode in ("RGB", "RGBA") else image.convert("RGB"))


def holds_rgb(path: StrPath) -> bool:
    """Whether an image has red, green and blue in each pixel; false where it cannot be read."""
    try:
        with faults_of_files(), open_file(path) as image:
            return image.mode in ("RGB", "RGBA")
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
    ):  # which whoever decodes it will tell
        return False
