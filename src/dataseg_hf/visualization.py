"""Segmentations drawn over their images, with a legend, as PIL images."""

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

LEAST_SIDE = 384  # pixels; smaller images are enlarged, or no legend fits beside them
OPACITY = 0.55
FONT_SIZE = 14
MARGIN = 6
INK, PAPER, VOID = (20, 20, 20), (255, 255, 255), (128, 128, 128)


def category_colour(label_id: int) -> tuple[int, int, int]:
    """RGB of a category, 0..255: the same in every image, neighbours in the vocabulary far apart."""
    hue = label_id * 0.6180339887 % 1  # golden ratio: every new hue falls into the largest gap
    saturation = (0.95, 0.55, 0.75)[label_id % 3]
    value = (1.0, 0.55, 0.8, 0.65, 0.45)[label_id % 5]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def overlay(
    image: Image.Image, segmentation: ArrayLike, segments_info: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Image.Image:
    """Segments over an image: filled with the colour of their category, outlined, the legend below.

    Args:
        image: any mode, W x H.
        segmentation: int [H, W], segment ids; or bool [K, H, W], one mask per segment, in the order of `segments_info`.
            Both as `post_process_panoptic_segmentation` and `post_process_instance_segmentation` give them.
        segments_info: per segment `label_id`, for an id map also `id`, and optionally `score`.
        names: of the categories.

    Returns:
        RGB; images below 384 pixels are enlarged by a whole factor.

    Raises:
        ValueError: if image, masks and segments do not fit together.
    """
    maps = np.asarray(segmentation)
    if maps.ndim == 2:
        masks = [maps == segment["id"] for segment in segments_info]
    elif maps.ndim == 3 and len(maps) == len(segments_info):
        masks = [mask.astype(bool) for mask in maps]
    else:
        raise ValueError(f"segmentation {maps.shape} must be [H, W], or [{len(segments_info)}, H, W] for the segments")
    label_ids = [int(segment["label_id"]) for segment in segments_info]
    scale = _scale(image)
    pixels = _enlarged(image, scale)
    large = [_enlarge_map(mask, scale) for mask in masks]
    for mask, label_id in zip(reversed(large), reversed(label_ids), strict=True):  # the best one is drawn last
        _check_size(mask, pixels)
        _fill(pixels, mask, category_colour(label_id))
        pixels[_outline(mask)] = PAPER
    canvas = Image.fromarray(pixels)
    counts = [(label_id, label_ids.count(label_id)) for label_id in dict.fromkeys(label_ids)]
    entries = [
        (names[i], category_colour(i)) if n == 1 else (f"{names[i]} ×{n}", category_colour(i)) for i, n in counts
    ]
    return _with_legend(canvas, entries or [("no segments", VOID)])


def semantic_overlay(image: Image.Image, segmentation: ArrayLike, names: Sequence[str]) -> Image.Image:
    """A class map int [H, W] (-1 = void, left as it is) over an image, the legend by area below; otherwise as `overlay`."""
    classes = np.asarray(segmentation)
    scale = _scale(image)
    pixels = _enlarged(image, scale)
    large = _enlarge_map(classes, scale)
    _check_size(large, pixels)
    label_ids, areas = np.unique(classes[classes >= 0], return_counts=True)
    for label_id in label_ids.tolist():
        _fill(pixels, large == label_id, category_colour(label_id))
    pixels[_outline(large)] = PAPER
    by_area = label_ids[np.argsort(-areas, kind="stable")].tolist()
    entries = [(names[label_id], category_colour(label_id)) for label_id in by_area]
    return _with_legend(Image.fromarray(pixels), entries or [("no segments", VOID)])


def prediction_grid(rows: Sequence[Sequence[Image.Image]], titles: Sequence[str], cell_width: int = 384) -> Image.Image:
    """Images in rows and columns of one width, a title above each column; e.g. image, truth, prediction.

    Raises:
        ValueError: for no rows, or a row with another number of images than titles.
    """
    if not rows or any(len(row) != len(titles) for row in rows):
        raise ValueError(f"{len(titles)} titles need rows of as many images, got rows of {[len(row) for row in rows]}")
    scaled = [
        [
            image.convert("RGB").resize((cell_width, max(1, round(image.height * cell_width / image.width))))
            for image in row
        ]
        for row in rows
    ]
    heights = [max(image.height for image in row) for row in scaled]
    title_height = FONT_SIZE + 2 * MARGIN
    width = len(titles) * (cell_width + MARGIN) + MARGIN
    canvas = Image.new("RGB", (width, title_height + sum(heights) + MARGIN * len(rows)), PAPER)
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        draw.text((MARGIN + column * (cell_width + MARGIN), MARGIN), title, fill=INK, font=_font())
    top = title_height
    for row, height in zip(scaled, heights, strict=True):
        for column, image in enumerate(row):
            canvas.paste(image, (MARGIN + column * (cell_width + MARGIN), top))
        top += height + MARGIN
    return canvas


def _scale(image: Image.Image) -> int:
    return max(1, -(-LEAST_SIDE // max(image.size)))


def _enlarged(image: Image.Image, scale: int) -> NDArray[np.uint8]:
    size = (image.width * scale, image.height * scale)
    return np.array(image.convert("RGB").resize(size, Image.Resampling.NEAREST))


def _enlarge_map(values: NDArray[Any], scale: int) -> NDArray[Any]:
    return values.repeat(scale, axis=0).repeat(scale, axis=1)


def _check_size(mask: NDArray[Any], pixels: NDArray[np.uint8]) -> None:
    if mask.shape != pixels.shape[:2]:
        raise ValueError(
            f"segmentation {mask.shape} and image {pixels.shape[:2]} (height, width) differ in size; "
            "post-process with `target_sizes`"
        )


def _fill(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    mixed = pixels[mask] * (1 - OPACITY) + np.array(colour) * OPACITY
    pixels[mask] = mixed.round().astype(np.uint8)


def _outline(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of a map that differ from the right or lower neighbour, and for masks both sides of the edge inside it."""
    edge = np.zeros(values.shape, dtype=bool)
    vertical, horizontal = values[:-1] != values[1:], values[:, :-1] != values[:, 1:]
    edge[:-1] |= vertical
    edge[:, :-1] |= horizontal
    if values.dtype == bool:
        edge[1:] |= vertical
        edge[:, 1:] |= horizontal
        return edge & values
    return edge


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(FONT_SIZE)


def _with_legend(image: Image.Image, entries: Sequence[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    """The image with rows of colour swatches and names below it."""
    font = _font()
    line = FONT_SIZE + 2 * MARGIN
    places: list[tuple[int, int]] = []
    x, y = MARGIN, 0
    for name, _ in entries:
        width = FONT_SIZE + MARGIN + int(font.getlength(name)) + 2 * MARGIN
        if x > MARGIN and x + width > image.width:
            x, y = MARGIN, y + line
        places.append((x, y))
        x += width
    widest = max(FONT_SIZE + 4 * MARGIN + int(font.getlength(name)) for name, _ in entries)
    canvas = Image.new("RGB", (max(image.width, widest), image.height + y + line), PAPER)
    canvas.paste(image, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        swatch = (left, image.height + top + MARGIN)
        draw.rectangle((*swatch, swatch[0] + FONT_SIZE, swatch[1] + FONT_SIZE), fill=colour, outline=INK)
        draw.text((left + FONT_SIZE + MARGIN, swatch[1] - 1), name, fill=INK, font=font)
    return canvas
