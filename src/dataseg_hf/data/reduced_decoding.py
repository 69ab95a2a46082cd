"""JPEGs decoded at a half, a quarter or an eighth of their size, where training needs no more.

libjpeg leaves out the work for the pixels that resizing would average away. The size that is needed
passes beside the readers, in a context variable. The scale is a function of it and of the file, so
an image has the same pixels whenever it is loaded in a run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from PIL import Image

from ..model.image_reading_dataseg import Size, orientation_to_undo
from .sample import Reduction
from .views import resized

_NEEDED: ContextVar[int | None] = ContextVar("longer side that is needed", default=None)

# EXIF orientations by which the left side of the stored image becomes the right or lower one, and
# its top the lower or right one; and those that exchange the axes
_LEFT_ENDS, _TOP_ENDS, _TURNED = {2, 3, 7, 8}, {3, 4, 6, 7}, {5, 6, 7, 8}


@contextmanager
def decoded_for(longer_side: int | None) -> Iterator[None]:
    """Within it, readers may decode an image smaller, though on no axis below the size that it has
    when its longer side is resized to `longer_side` pixels; None for no image.
    """
    token = _NEEDED.set(longer_side)
    try:
        yield
    finally:
        _NEEDED.reset(token)


def reduce_decoding(
    image: Image.Image, annotation_size: Size | None
) -> tuple[Reduction, int] | None:
    """Let an image that was just opened be decoded as small as `decoded_for` allows.

    Args:
        image: changed; only JPEGs, MPO among them, can be decoded smaller.
        annotation_size: see `orientation_to_undo`.

    Returns:
        The reduction, and the EXIF orientation that is left to undo; None for an image that is
        decoded in its own size.
    """
    needed, (width, height) = _NEEDED.get(), image.size
    if needed is None or image.format not in ("JPEG", "MPO"):
        return None
    orientation = orientation_to_undo(image, annotation_size)  # tells by the size, which changes
    height_needed, width_needed = resized((height, width), needed)
    drafted = image.draft(None, (width_needed, height_needed))
    if drafted is None or image.size == (width, height):
        return None
    _, (_, _, right, bottom) = drafted
    size = (width, height) if orientation in _TURNED else (height, width)
    return Reduction(size, _upright_window(right, bottom, image.size, orientation)), orientation


def _upright_window(
    width: float, height: float, decoded: tuple[int, int], orientation: int
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom that the first `width` x `height` pixels of a decoded image
    (width, height) have in the upright one. What is beyond them is less than a pixel: an image
    whose size the scale does not divide fills its last pixels in part.
    """
    left = decoded[0] - width if orientation in _LEFT_ENDS else 0.0
    top = decoded[1] - height if orientation in _TOP_ENDS else 0.0
    if orientation in _TURNED:
        left, top, width, height = top, left, height, width
    return left, top, left + width, top + height
