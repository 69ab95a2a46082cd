"""Segmentations drawn over their images, with a legend, as PIL images."""

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from ..prediction.segments import Segment
from .lettering import INK, MIN_TEXT, PAPER, UNWRITABLE, Color, Plates, Text, with_legend, writable

MIN_SIDE, MAX_SIDE = 384, 1600  # pixels of a picture
OPACITY = 0.6  # over the gray image, so that the colors stay those of the legend
VOID = (128, 128, 128)


def category_color(label_id: int) -> Color:
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
    """Segments over an image: filled with their category's color, outlined, named, legend below.

    Names stand on plates that never overlap: where there is no free place, only the legend tells.
    A name that no font here can write is replaced by "class 7", for category 7.

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
    image: Image.Image,
    segments: Sequence[Segment],
    names: Sequence[str],
    mean_colors: bool = False,
    titles: Sequence[str] | None = None,
    legend: bool = True,
) -> Image.Image:
    """Segments over an image, the first on top; otherwise as `overlay`, without masks of the
    image's full size.

    Args:
        image: any mode, W x H.
        segments: each names its category by an index into `names`.
        names: of the categories.
        mean_colors: as in `overlay`.
        titles: written on the segments instead of the names of their categories, one for each.
        legend: whether there is one below.
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
    label_ids = [segment.label_id for segment in segments]
    return _drawn(image, masks, label_ids, names, mean_colors, titles, legend)


def _drawn(
    image: Image.Image,
    masks: Sequence[NDArray[np.bool_]],
    label_ids: Sequence[int],
    names: Sequence[str],
    mean_colors: bool,
    titles: Sequence[str] | None = None,
    legend: bool = True,
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
    titles = [names[label_id] for label_id in label_ids] if titles is None else titles
    written = [writable(title, label) for title, label in zip(titles, label_ids, strict=True)]
    _name_segments(canvas, on_top, range(len(masks)), written, colors)
    if not legend:
        return canvas
    return with_legend(canvas, _legend_by_category(label_ids, names, in_legend))


def _mean_colors(image: Image.Image, index: NDArray[Any], count: int) -> list[Color]:
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
    """Boxes over an image: outlined in their category's color; otherwise as `overlay`.

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
    plates = Plates(canvas)
    for (left, top, right, bottom), label_id in zip(drawn.tolist(), label_ids, strict=True):
        inside = np.zeros(size[::-1], dtype=bool)
        inside[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = True
        color = PAPER if mean_colors else category_color(label_id)
        plates.add(writable(names[label_id], label_id), inside, color, at_corner=True)
    in_legend = {label_id: category_color(label_id) for label_id in label_ids}
    if mean_colors:
        in_legend |= {
            label_id: _mean_of_box(image, box)
            for box, label_id in reversed(list(zip(np.asarray(boxes), label_ids, strict=True)))
        }
    return with_legend(canvas, _legend_by_category(label_ids, names, in_legend))


def _mean_of_box(image: Image.Image, box: NDArray[Any]) -> Color:
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
    titles = [writable(names[label_id], label_id) for label_id in by_area]
    by_area_colors = [colors[label_id] for label_id in by_area]
    _name_segments(canvas, classes, by_area, titles, by_area_colors)
    entries = list(zip(titles, by_area_colors, strict=True))
    return with_legend(canvas, _legend(entries, by_area, names))


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
    text = Text(canvas, MIN_TEXT)
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
            "width) differ in size; post-process with `target_sizes`"
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
    colors: Sequence[Color],
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


def _name_segments(
    canvas: Image.Image,
    index: NDArray[Any],
    numbers: Sequence[int],
    titles: Sequence[str],
    colors: Sequence[Color],
) -> None:
    """Write a title on the pixels of each number of an index map, those with little room first."""
    plates = Plates(canvas)
    areas = [np.count_nonzero(index == number) for number in numbers]
    for place in np.argsort(areas, kind="stable").tolist():
        plates.add(titles[place], index == numbers[place], colors[place])


def _legend_by_category(
    label_ids: Sequence[int], names: Sequence[str], colors: Mapping[int, Color]
) -> list[tuple[str, Color | None]]:
    """Name, with the number of its segments, and color of each category that occurs."""
    entries = []
    for label_id in dict.fromkeys(label_ids):
        count = label_ids.count(label_id)
        title = writable(names[label_id], label_id) + (f" x{count}" if count > 1 else "")
        entries.append((title, colors[label_id]))
    return _legend(entries, label_ids, names)


def _legend(
    entries: Sequence[tuple[str, Color]], label_ids: Iterable[int], names: Sequence[str]
) -> list[tuple[str, Color | None]]:
    """The entries, or one that says that there are none; a note where a name cannot be written."""
    replaced = any(writable(names[label_id], label_id) != names[label_id] for label_id in label_ids)
    return [*(entries or [("no segments", VOID)]), *([(UNWRITABLE, None)] if replaced else [])]
