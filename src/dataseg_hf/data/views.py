"""An image and its annotation through a window: resized, cropped, perhaps flipped."""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..model.degrees_dataseg import Degree
from .masks import boxes_of_masks
from .sample import Annotation, Instances, Reduction, Segments

# pixels; annotated boxes often overshoot the image by a rounding error, which is no cut
CUT_TOLERANCE = 0.5
Size: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """A window (top, left, height, width) of the image resized to `scaled_height` x `scaled_width`,
    perhaps flipped.
    """

    scaled_height: int
    scaled_width: int
    top: int
    left: int
    height: int
    width: int
    flip: bool


def resized(size: Size, longer_side: int) -> tuple[int, int]:
    """Height and width when the longer one of `size` becomes `longer_side`, each at least 1."""
    height, width = size
    factor = longer_side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def view_annotation(
    annotation: Annotation, size: Size, view: View
) -> tuple[Annotation, NDArray[np.bool_] | None, list[int]]:
    """What the window shows of the annotation of an image of `size` (height, width).

    Returns:
        The annotation; bool [M, 2], on which axes (x, y) boxes are tight, None for Segments; and
        classes of objects of which it is unknown whether the window shows them.
    """
    if isinstance(annotation, Segments):
        return _view_segments(annotation, view), None, []
    if annotation.degrees is not None:
        return _view_objects(annotation, annotation.degrees, size, view)
    if annotation.masks is not None:
        return *_view_masks(annotation, annotation.masks, view), []
    return *_view_boxes(annotation, size, view), []


def view_image(
    image: NDArray[np.uint8], view: View, reduction: Reduction | None = None
) -> NDArray[np.uint8]:
    """The window of an image [H, W, 3], bilinear with antialiasing: [h, w, 3]."""
    whole = (0.0, 0.0, image.shape[1], image.shape[0]) if reduction is None else reduction.window
    left, top, width, height = whole[0], whole[1], whole[2] - whole[0], whole[3] - whole[1]
    # in pixels of the source; products first, so that the last edge is exactly the image's: a
    # reduced one ends at an eighth of a pixel
    window = (
        left + view.left * width / view.scaled_width,
        top + view.top * height / view.scaled_height,
        left + (view.left + view.width) * width / view.scaled_width,
        top + (view.top + view.height) * height / view.scaled_height,
    )
    resized = Image.fromarray(image).resize(
        (view.width, view.height), Image.Resampling.BILINEAR, box=window
    )
    if view.flip:  # Pillow mirrors ten times as fast as numpy copies pixels of three bytes
        resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.array(resized)


def _view_map(values: NDArray, view: View) -> NDArray:
    """The window of maps [..., H, W] by nearest neighbor."""
    height, width = values.shape[-2:]
    rows = ((view.top + np.arange(view.height) + 0.5) * height / view.scaled_height).astype(np.intp)
    columns = ((view.left + np.arange(view.width) + 0.5) * width / view.scaled_width).astype(
        np.intp
    )
    if view.flip:
        columns = columns[::-1]
    return values.take(rows, axis=-2).take(columns, axis=-1)


def _view_segments(segments: Segments, view: View) -> Segments:
    old_map = _view_map(segments.segment_map, view)
    count = len(segments.class_labels)
    present = np.bincount(old_map[old_map >= 0], minlength=count) > 0
    # the extra last entry is where void (-1) looks itself up
    new_index = np.full(count + 1, -1, dtype=np.int32)
    new_index[:-1][present] = np.arange(present.sum())
    weights = None if segments.weights is None else segments.weights[present]
    return Segments(
        new_index[old_map], segments.class_labels[present], segments.is_crowd[present], weights
    )


def _view_masks(
    instances: Instances, masks: NDArray[np.bool_], view: View
) -> tuple[Instances, NDArray[np.bool_]]:
    masks = _view_map(masks, view)
    present = np.asarray(masks.any(axis=(1, 2)))
    visible = replace(instances, masks=masks).select(present)
    assert visible.masks is not None
    visible.boxes = boxes_of_masks(visible.masks)
    return visible, np.ones((len(visible), 2), dtype=bool)


def _view_boxes(
    instances: Instances, size: Size, view: View
) -> tuple[Instances, NDArray[np.bool_]]:
    boxes, tight = _all_boxes(instances.boxes, size, view)
    kept = _has_area(boxes)
    return replace(instances, boxes=boxes).select(kept), tight[kept]


def _all_boxes(
    boxes: NDArray[np.float32], size: Size, view: View
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes [M, 4] cut by the window, and bool [M, 2], on which axes they are tight."""
    height, width = size
    scale = np.array([view.scaled_width / width, view.scaled_height / height])
    # [M, corner, axis]
    corners = boxes.reshape(-1, 2, 2).astype(np.float64) * scale - [view.left, view.top]
    if view.flip:
        corners[:, :, 0] = view.width - corners[:, ::-1, 0]
    clipped = np.clip(corners, 0, [view.width, view.height])
    cut = (np.abs(clipped - corners) > CUT_TOLERANCE).any(axis=1)  # [M, axis]
    tight = ~cut[:, ::-1]  # a cut in x makes y loose, and the other way round
    return clipped.reshape(-1, 4).astype(np.float32), tight


def _has_area(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def _view_objects(
    instances: Instances, degrees: NDArray[np.int8], size: Size, view: View
) -> tuple[Instances, NDArray[np.bool_], list[int]]:
    """Each object as its degree says. A tag holds for the whole image only."""
    shown, tight = _all_boxes(instances.boxes, size, view)
    seen = _has_area(shown)
    masks = points = None
    if instances.masks is not None:
        masks = _view_map(instances.masks, view)
        of_mask = degrees == Degree.MASK
        seen[of_mask] = masks[of_mask].any(axis=(1, 2))
        shown[of_mask & seen] = boxes_of_masks(masks[of_mask & seen])
    if instances.points is not None:
        points = _view_points(instances.points, size, view)
        of_point = degrees == Degree.POINT
        seen[of_point] = np.isfinite(points[of_point]).all(axis=-1).any(axis=-1)
    is_tag = degrees == Degree.TAG
    if (view.height, view.width) != (view.scaled_height, view.scaled_width):
        seen[is_tag] = False
    lost = np.unique(instances.class_labels[is_tag | ((degrees == Degree.POINT) & ~seen)])
    tight[degrees != Degree.BOX] = False
    viewed = replace(instances, boxes=shown, masks=masks, points=points)
    return viewed.select(seen), tight[seen], lost.tolist()


def _view_points(points: NDArray[np.float32], size: Size, view: View) -> NDArray[np.float32]:
    """Points [M, P, 2] in pixels of the window, NaN outside of it."""
    height, width = size
    scale = np.array([view.scaled_width / width, view.scaled_height / height])
    moved = points.astype(np.float64) * scale - [view.left, view.top]
    if view.flip:
        moved[..., 0] = view.width - moved[..., 0]
    inside = ((moved >= 0) & (moved < [view.width, view.height])).all(axis=-1)
    moved[~inside] = np.nan
    return moved.astype(np.float32)
