"""Text on pictures: fonts that can write it, names on plates, and legends."""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

MIN_TEXT = 14  # pixels, height of a line
BLACK, INK, PAPER = (0, 0, 0), (20, 20, 20), (255, 255, 255)
SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf")
"""Tried, where they are installed, for letters that the font of Pillow lacks: it knows ASCII."""
UNWRITABLE = "class N: no font here writes its name"


def writable(name: str, label_id: int) -> str:
    """The name, or "class 7" for category 7 where no font here has all of the name's letters."""
    return f"class {label_id}" if _font_file(name) is None else name


def _font_file(text: str) -> str | None:
    """The first font that has all letters of a text; "" stands for the font of Pillow."""
    for file in ("", *SYSTEM_FONTS):
        try:
            if all(_has_letter(file, letter) for letter in set(text)):
                return file
        except OSError:  # not installed here
            continue
    return None


@functools.cache
def _has_letter(file: str, letter: str) -> bool:
    font = _font(file, MIN_TEXT)
    missing = font.getmask("\uffff")  # no character: every font shows its sign for missing ones
    drawn = font.getmask(letter)
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))


@functools.cache
def _font(file: str, size: int) -> Font:
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


class Text:
    """Writes on an image, in a size that fits it."""

    def __init__(self, canvas: Image.Image, size: int | None = None) -> None:
        self.size = size or max(MIN_TEXT, max(canvas.size) // 32)  # legible also on a phone
        self.margin = self.size * 2 // 5
        self.draw = ImageDraw.Draw(canvas)

    def font(self, text: str) -> Font:
        """The font that has the letters of a text."""
        return _font(_font_file(text) or "", self.size)

    def width(self, text: str) -> int:
        """Pixels that a line of text takes."""
        return int(self.font(text).getlength(text))

    def write(self, corner: tuple[float, float], text: str, color: Color) -> None:
        """Write one line, its upper left corner at (x, y)."""
        place = (corner[0], corner[1] + self.size // 2)
        self.draw.text(place, text, color, self.font(text), anchor="lm")


# --- names on plates -------------------------------------------------------------------------


class Plates:
    """Writes names on a picture, each on a plate that touches what it names.

    Plates never overlap. A name that finds no free place is left out; the legend still has it.
    """

    def __init__(self, canvas: Image.Image) -> None:
        self.text = Text(canvas)
        self.taken = np.zeros((canvas.height, canvas.width), dtype=bool)

    def add(
        self, name: str, mask: NDArray[np.bool_], color: Color, at_corner: bool = False
    ) -> bool:
        """Name a segment inside or, where it is small, beside it.

        Args:
            name: written as it stands.
            mask: bool [H, W], of the canvas's size; the pixels of the segment.
            color: of the plate, 0..255; the letters are black or white, whichever is clearer.
            at_corner: near the upper left corner of the mask instead of its center.

        Returns:
            Whether there was a place.
        """
        size = self.text.size + self.text.margin, self.text.width(name) + 2 * self.text.margin
        corner = self._place(mask, size, at_corner)
        if corner is None:
            return False
        (top, left), (height, width) = corner, size
        letters, stroke = letter_color(color), max(1, self.text.size // 16)
        box = (left, top, left + width - 1, top + height - 1)
        self.text.draw.rounded_rectangle(box, self.text.size // 4, color, letters, stroke)
        self.text.write((left + self.text.margin, top + self.text.margin // 2), name, letters)
        self.taken[top : top + height, left : left + width] = True
        return True

    def _place(
        self, mask: NDArray[np.bool_], size: tuple[int, int], at_corner: bool
    ) -> tuple[int, int] | None:
        """Top and left of the best free place for a plate of (height, width), or None."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows) or size[0] > mask.shape[0] or size[1] > mask.shape[1]:
            return None
        step = max(1, self.text.size // 5)
        tops = _starts(rows[0] - size[0], rows[-1], mask.shape[0] - size[0], step)
        lefts = _starts(columns[0] - size[1], columns[-1], mask.shape[1] - size[1], step)
        over = _counts(mask, tops, lefts, size)
        free = _counts(self.taken, tops, lefts, size) == 0
        if not free.any():
            return None
        if at_corner:
            center = rows[0] + size[0] / 2, columns[0] + size[1] / 2
        else:
            center = np.nonzero(mask)[0].mean(), np.nonzero(mask)[1].mean()
        away = np.hypot(
            tops[:, None] + size[0] / 2 - center[0], lefts + size[1] / 2 - center[1]
        ) / np.hypot(*mask.shape)
        # fill of the plate, less what it hides of the segment: small segments get theirs beside
        quality = over / (size[0] * size[1]) - over / mask.sum() - away
        top, left = np.unravel_index(np.where(free, quality, -np.inf).argmax(), free.shape)
        return int(tops[top]), int(lefts[left])


def _starts(first: int, last: int, end: int, step: int) -> NDArray[np.int_]:
    """Positions from first to last, kept within 0..end."""
    return np.unique(np.clip(np.arange(first, last + step, step), 0, end))


def _counts(
    mask: NDArray[np.bool_],
    tops: NDArray[np.int_],
    lefts: NDArray[np.int_],
    size: tuple[int, int],
) -> NDArray[np.int_]:
    """Pixels of the mask in the rectangle of (height, width) at each top and left: [T, L]."""
    part = mask[tops[0] : tops[-1] + size[0], lefts[0] : lefts[-1] + size[1]]
    sums = np.pad(part, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.int32).cumsum(axis=1)
    up, left = (tops - tops[0])[:, None], lefts - lefts[0]
    down, right = up + size[0], left + size[1]
    return sums[down, right] - sums[up, right] - sums[down, left] + sums[up, left]


def letter_color(plate: Color) -> Color:
    """Black or white, whichever is clearer on a plate of a color: a contrast of at least 4.5."""
    return BLACK if contrast(plate, BLACK) > contrast(plate, PAPER) else PAPER


def contrast(first: Color, second: Color) -> float:
    """Contrast ratio of two colors, 1..21, as WCAG 2.1 defines it."""
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: Color) -> float:
    parts = np.array(color) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


# --- legends ---------------------------------------------------------------------------------


def with_legend(image: Image.Image, entries: Sequence[tuple[str, Color | None]]) -> Image.Image:
    """The image with rows of color swatches and names below it.

    An entry without a color is a note: it has no swatch.
    """
    text = Text(image)
    margin, line = text.margin, text.size + 2 * text.margin
    swatches = [0 if color is None else text.size + margin for _, color in entries]
    widths = [
        swatch + text.width(name) + 2 * margin
        for (name, _), swatch in zip(entries, swatches, strict=True)
    ]
    places: list[tuple[int, int]] = []
    x, y = margin, 0
    for width in widths:
        if x > margin and x + width > image.width:
            x, y = margin, y + line
        places.append((x, image.height + y + margin))
        x += width
    size = max(image.width, max(widths) + margin), image.height + y + line
    canvas = Image.new("RGB", size, PAPER)
    canvas.paste(image, (0, 0))
    legend = Text(canvas, text.size)
    for (name, color), swatch, (left, top) in zip(entries, swatches, places, strict=True):
        if color is not None:
            corners = (left, top, left + text.size, top + text.size)
            legend.draw.rectangle(corners, fill=color, outline=INK)
        legend.write((left + swatch, top), name, INK)
    return canvas
