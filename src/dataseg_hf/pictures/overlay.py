"""Segmentations drawn over their images, with a legend, as PIL images."""

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from ..prediction.segments import Segment

MIN_SIDE, MAX_SIDE = 384, 1600  # pixels of a picture
OPACITY = 0.6  # over the gray image, so that the colors stay those of the legend
MIN_TEXT = 14  # pixels, height of a line
INK, PAPER, VOID = (20, 20, 20), (255, 255, 255), (128, 128, 128)


def category_color(label_id: int) -> tuple[int, int, int]:
    """RGB of a category, 0..255: the same in every image, neighbors in the vocabulary far
    apart.
    """
    hue = label_id * 0.6180339887 % 1  # golden ratio: every new hue falls into the largest gap
    saturation = (0.95, 0.55, 0.75)[label_id % 3]
    value = (1.0, 0.55, 0.8, 0.65, 0.45)[label_id % 5]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def overlay(
    image: Image.Image,
    segmentation: ArrayLike,
    segments_info: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    mean_colors: bool = False,
) -> Image.Image:
    """Segments over an image: filled with their category's color, outlined, named where the name
    fits, legend below.

    Args:
        image: any mode, W x H.
        segmentation: int [H, W], segment ids; or bool [K, H, W], one mask per segment, in the order
            of `segments_info`. Both as `post_process_panoptic_segmentation` and
            `post_process_instance_segmentation` give them.
        segments_info: per segment `label_id`, for an id map also `id`, and optionally `score`.
        names: of the categories.
        mean_colors: fill a segment with the mean color of what it covers, not its category's: for
            names that are colors, such as "yellow circle".

    Returns:
        RGB, for the eye: images below 384 pixels are enlarged by a whole factor, those above 1600
        reduced.

    Raises:
        ValueError: if image, masks and segments do not fit together.
    """
    maps = np.asarray(segmentation)
    if maps.ndim not in (2, 3) or (maps.ndim == 3 and len(maps) != len(segments_info)):
        raise ValueError(
            f"segmentation {maps.shape} must be [H, W], or [{len(segments_info)}, H, W] for the "
            "segments"
        )
    maps = _resampled(maps, image)
    masks = (
        [maps == segment["id"] for segment in segments_info]
        if maps.ndim == 2
        else list(maps.astype(bool))
    )
    return _drawn(
        image, masks, [int(segment["label_id"]) for segment in segments_info], names, mean_colors
    )


def segments_overlay(
    image: Image.Image, segments: Sequence[Segment], names: Sequence[str], mean_colors: bool = False
) -> Image.Image:
    """Segments over an image, the first on top; otherwise as `overlay`, without masks of the
    image's full size.
    """
    rows, columns = _sampled_pixels(image)
    masks = []
    for segment in segments:
        height, width = segment.mask.shape
        inside = [(axis >= start) & (axis < start + side) for axis, start, side in
                  ((rows, segment.top, height), (columns, segment.left, width))]  # fmt: skip
        mask = np.zeros((len(rows), len(columns)), dtype=bool)
        mask[np.ix_(*inside)] = segment.mask[
            np.ix_(rows[inside[0]] - segment.top, columns[inside[1]] - segment.left)
        ]
        masks.append(mask)
    return _drawn(image, masks, [segment.label_id for segment in segments], names, mean_colors)


def _drawn(
    image: Image.Image,
    masks: Sequence[NDArray[np.bool_]],
    label_ids: Sequence[int],
    names: Sequence[str],
    mean_colors: bool,
) -> Image.Image:
    """Masks at the size of the picture over the picture of an image."""
    on_top = np.full(_drawn_size(image)[::-1], -1)
    edge = np.zeros(on_top.shape, dtype=bool)
    for number in reversed(range(len(masks))):  # the first is the best
        on_top[masks[number]] = number
        edge |= _outline(masks[number])
    if mean_colors:
        colors = _mean_colors(image, on_top, len(masks))
        # the legend shows a category as its best segment
        in_legend = dict(reversed(list(zip(label_ids, colors, strict=True))))
    else:
        colors = [category_color(label_id) for label_id in label_ids]
        in_legend = dict(zip(label_ids, colors, strict=True))
    canvas = _painted(image, on_top, colors, edge, mean_colors)
    for number, label_id in enumerate(label_ids):
        _write_inside(canvas, on_top == number, names[label_id])
    return _with_legend(canvas, _legend_by_category(label_ids, names, in_legend))


def _mean_colors(image: Image.Image, index: NDArray[Any], count: int) -> list[tuple[int, int, int]]:
    """RGB, 0..255, of the pixels of each index below `count`; the mean is black where there is
    none.
    """
    rows, columns = _sampled_pixels(image)
    pixels = np.asarray(image.convert("RGB"))[rows[:, None], columns].reshape(-1, 3)
    places = np.where(index >= 0, index, count).ravel()
    areas = np.maximum(np.bincount(places, minlength=count + 1), 1)
    means = [np.bincount(places, pixels[:, channel], count + 1) / areas for channel in range(3)]
    return [
        (round(red), round(green), round(blue))
        for red, green, blue in np.stack(means, axis=-1)[:count].tolist()
    ]


def boxes_overlay(
    image: Image.Image,
    boxes: ArrayLike,
    label_ids: Sequence[int],
    names: Sequence[str],
    mean_colors: bool = False,
) -> Image.Image:
    """Boxes over an image: outlined in their category's color, named where the name fits;
    otherwise as `overlay`.

    Args:
        image: any mode, W x H.
        boxes: [M, 4], xyxy in pixels of the image.
        label_ids: category of each box.
        names: of the categories.
        mean_colors: outline all in white, and show a category in the legend in the mean color of
            its first box.
    """
    size = _drawn_size(image)
    scale = np.array([size[0] / image.width, size[1] / image.height] * 2)
    drawn = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale
    canvas = _painted(image, np.full(size[::-1], -1), [], np.zeros(size[::-1], dtype=bool))
    stroke = max(2, max(size) // 300)
    for (left, top, right, bottom), label_id in zip(drawn.tolist(), label_ids, strict=True):
        corners = (left, top, max(left, right - 1), max(top, bottom - 1))
        outline = PAPER if mean_colors else category_color(label_id)
        ImageDraw.Draw(canvas).rectangle(corners, outline=outline, width=stroke)
    for (left, top, right, bottom), label_id in zip(drawn.tolist(), label_ids, strict=True):
        text = _Text(canvas)
        if (
            text.width(names[label_id]) + text.margin <= right - left
            and text.size + text.margin <= bottom - top
        ):
            text.write((left + text.margin, top + text.margin), names[label_id], PAPER, outline=INK)
    in_legend = {label_id: category_color(label_id) for label_id in label_ids}
    if mean_colors:
        in_legend |= {
            label_id: _mean_of_box(image, box)
            for box, label_id in reversed(list(zip(np.asarray(boxes), label_ids, strict=True)))
        }
    return _with_legend(canvas, _legend_by_category(label_ids, names, in_legend))


def _mean_of_box(image: Image.Image, box: NDArray[Any]) -> tuple[int, int, int]:
    """RGB, 0..255, of the middle half of a box, where most objects are."""
    left, top, right, bottom = box.tolist()
    rows, columns = (
        slice(
            int(low + (high - low) / 4),
            max(int(low + (high - low) / 4) + 1, int(high - (high - low) / 4)),
        )
        for low, high in ((top, bottom), (left, right))
    )
    red, green, blue = (
        np.asarray(image.convert("RGB"))[rows, columns].reshape(-1, 3).mean(axis=0).round().tolist()
    )
    return int(red), int(green), int(blue)


def semantic_overlay(
    image: Image.Image, segmentation: ArrayLike, names: Sequence[str], mean_colors: bool = False
) -> Image.Image:
    """A class map int [H, W], -1 = void, over an image, the legend by area below; otherwise as
    `overlay`.
    """
    classes = _resampled(np.asarray(segmentation), image)
    colors = [category_color(label_id) for label_id in range(len(names))]
    if mean_colors:
        colors = _mean_colors(image, classes, len(names))
    canvas = _painted(image, classes, colors, _outline(classes), mean_colors)
    label_ids, areas = np.unique(classes[classes >= 0], return_counts=True)
    by_area = label_ids[np.argsort(-areas, kind="stable")].tolist()
    for label_id in by_area:
        _write_inside(canvas, classes == label_id, names[label_id])
    entries = [(names[label_id], colors[label_id]) for label_id in by_area]
    return _with_legend(canvas, entries or [("no segments", VOID)])


def prediction_grid(
    rows: Sequence[Sequence[Image.Image]],
    titles: Sequence[str],
    cell_width: int = 384,
    captions: Sequence[str] = (),
) -> Image.Image:
    """Images in rows and columns of one width, a title above each column; e.g. image, truth,
    prediction.

    Args:
        rows: with as many images as there are titles.
        titles: of the columns.
        cell_width: pixels of each image.
        captions: a line above each row; none by default.

    Raises:
        ValueError: for no rows, or a row with another number of images than titles.
    """
    if not rows or any(len(row) != len(titles) for row in rows):
        raise ValueError(
            f"{len(titles)} titles need rows of as many images, got rows of "
            f"{[len(row) for row in rows]}"
        )
    scaled = [
        [
            image.convert("RGB").resize(
                (cell_width, max(1, round(image.height * cell_width / image.width)))
            )
            for image in row
        ]
        for row in rows
    ]
    heights = [max(image.height for image in row) for row in scaled]
    margin, line = 6, 2 * MIN_TEXT
    width = len(titles) * (cell_width + margin) + margin
    row_tops = [
        line + sum(heights[:n]) + (margin + (line if captions else 0)) * n for n in range(len(rows))
    ]
    canvas = Image.new(
        "RGB", (width, row_tops[-1] + (line if captions else 0) + heights[-1] + margin), PAPER
    )
    text = _Text(canvas, MIN_TEXT)
    lefts = [margin + column * (cell_width + margin) for column in range(len(titles))]
    for left, title in zip(lefts, titles, strict=True):
        text.write((left, margin), title, INK)
    for number, (row, top) in enumerate(zip(scaled, row_tops, strict=True)):
        if captions:
            text.write((margin, top + margin), captions[number], INK)
            top += line
        for left, image in zip(lefts, row, strict=True):
            canvas.paste(image, (left, top))
    return canvas


def _drawn_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the picture of an image."""
    longer = max(image.size)
    factor = -(-MIN_SIDE // longer) if longer < MIN_SIDE else min(1, MAX_SIDE / longer)
    return max(1, round(image.width * factor)), max(1, round(image.height * factor))


def _resampled(maps: NDArray[Any], image: Image.Image) -> NDArray[Any]:
    """Maps [..., H, W] of an image at the size of its picture."""
    if maps.shape[-2:] != (image.height, image.width):
        raise ValueError(
            f"segmentation {maps.shape[-2:]} and image {(image.height, image.width)} (height, "
            "width) differ in size; "
            "post-process with `target_sizes`"
        )
    rows, columns = _sampled_pixels(image)
    return maps[..., rows[:, None], columns]


def _sampled_pixels(image: Image.Image) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """The row of the image that each row of its picture shows, and the columns alike."""
    width, height = _drawn_size(image)
    rows = ((np.arange(height) + 0.5) * image.height / height).astype(int)
    columns = ((np.arange(width) + 0.5) * image.width / width).astype(int)
    return rows, columns


def _painted(
    image: Image.Image,
    index: NDArray[Any],
    colors: Sequence[tuple[int, int, int]],
    edge: NDArray[np.bool_],
    mean_colors: bool = False,
) -> Image.Image:
    """The picture of an image with `colors[index]` over it where the index is not negative, and
    white edges.

    What is painted over is gray; with mean colors instead what is not, so that it does not look
    like a segment.
    """
    size = _drawn_size(image)
    resampling = Image.Resampling.NEAREST if size[0] > image.width else Image.Resampling.BILINEAR
    pixels = np.array(image.convert("RGB").resize(size, resampling))
    palette = np.array([*colors, VOID], dtype=np.float32)
    gray = np.broadcast_to(pixels.mean(axis=-1, keepdims=True, dtype=np.float32), pixels.shape)
    below, elsewhere = (pixels, gray) if mean_colors else (gray, pixels)
    mixed = below * np.float32(1 - OPACITY) + palette[index] * OPACITY
    pixels = np.where(index[..., None] >= 0, mixed.round(), elsewhere).astype(np.uint8)
    pixels[edge] = PAPER
    return Image.fromarray(pixels)


def _outline(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of a map that differ from their right or lower neighbor."""
    edge = np.zeros(values.shape, dtype=bool)
    edge[:-1] |= values[:-1] != values[1:]
    edge[:, :-1] |= values[:, :-1] != values[:, 1:]
    return edge


def _write_inside(canvas: Image.Image, mask: NDArray[np.bool_], name: str) -> None:
    """Write a name where the mask is wide and high enough for it, or not at all."""
    text = _Text(canvas)
    width, height = text.width(name) + text.margin, text.size + text.margin
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) < height or len(columns) < width:
        return
    cropped = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    below = np.cumsum(np.pad(cropped, ((1, 0), (0, 0))), axis=0, dtype=np.int32)
    # every pixel from here down to the foot of the text
    room = below[height:] - below[:-height] == height
    place = np.arange(cropped.shape[1])
    run = place - np.maximum.accumulate(np.where(room, -1, place), axis=1)
    top, right = np.unravel_index(run.argmax(), run.shape)
    if run[top, right] >= width:
        left = int(columns[0]) + int(right) + 1 - (int(run[top, right]) + width - text.margin) / 2
        text.write((left, int(rows[0]) + int(top) + text.margin / 2), name, PAPER, outline=INK)


def _legend_by_category(
    label_ids: Sequence[int], names: Sequence[str], colors: Mapping[int, tuple[int, int, int]]
) -> list[tuple[str, tuple[int, int, int]]]:
    """Name, with the number of its segments, and color of each category that occurs."""
    entries = []
    for label_id in dict.fromkeys(label_ids):
        count = label_ids.count(label_id)
        entries.append((names[label_id] + (f" x{count}" if count > 1 else ""), colors[label_id]))
    return entries or [("no segments", VOID)]


def _with_legend(
    image: Image.Image, entries: Sequence[tuple[str, tuple[int, int, int]]]
) -> Image.Image:
    """The image with rows of color swatches and names below it."""
    text = _Text(image)
    margin, line = text.margin, text.size + 2 * text.margin
    widths = [text.size + text.width(name) + 3 * margin for name, _ in entries]
    places: list[tuple[int, int]] = []
    x, y = margin, 0
    for width in widths:
        if x > margin and x + width > image.width:
            x, y = margin, y + line
        places.append((x, image.height + y + margin))
        x += width
    canvas = Image.new(
        "RGB", (max(image.width, max(widths) + margin), image.height + y + line), PAPER
    )
    canvas.paste(image, (0, 0))
    legend = _Text(canvas, text.size)
    for (name, color), (left, top) in zip(entries, places, strict=True):
        legend.draw.rectangle(
            (left, top, left + text.size, top + text.size), fill=color, outline=INK
        )
        legend.write((left + text.size + margin, top), name, INK)
    return canvas


class _Text:
    """Writes on an image, in a size that fits it."""

    def __init__(self, canvas: Image.Image, size: int | None = None) -> None:
        self.size = size or max(MIN_TEXT, max(canvas.size) // 50)
        self.margin = self.size * 2 // 5
        self.draw = ImageDraw.Draw(canvas)
        self.font = ImageFont.load_default(self.size)

    def width(self, text: str) -> int:
        """Pixels that a line of text takes."""
        return int(self.font.getlength(text))

    def write(
        self,
        corner: tuple[float, float],
        text: str,
        color: tuple[int, int, int],
        outline: tuple[int, int, int] | None = None,
    ) -> None:
        """Write one line, its upper left corner at (x, y)."""
        stroke = 0 if outline is None else max(1, self.size // 14)
        self.draw.text(
            (corner[0], corner[1] - self.size // 8),
            text,
            color,
            self.font,
            stroke_width=stroke,
            stroke_fill=outline,
        )
