"""Images as the readers take them: whole, of a usual size, RGB and upright."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...model.image_reading_dataseg import Size, faults_of_files, open_file, upright_size
from ..image_values import pixels_of_entry
from ..reduced_decoding import decoded_for, reduce_decoding
from ..sample import Annotation, BadSampleError, Reduction, Sample
from .paths import StrPath

Decoded = TypeVar("Decoded")

MAX_PIXELS = 89_478_485  # Pillow's limit against decompression bombs, 256 MB of RGB
MIN_SIDE = 2  # images of one pixel are placeholders of failed downloads


def open_image(source: StrPath | bytes, where: StrPath, min_side: int = MIN_SIDE) -> Image.Image:
    """A decoded image, of a file or of the bytes of one; errors as of `decoded`."""

    def load(image: Image.Image) -> Image.Image:
        image.load()
        return image

    return decoded(source, where, load, min_side)


def decoded(
    source: StrPath | bytes,
    where: StrPath,
    decode: Callable[[Image.Image], Decoded],
    min_side: int = MIN_SIDE,
) -> Decoded:
    """What `decode` makes of an image that was opened and not yet loaded, of a file or of the bytes
    of one.

    Raises:
        BadSampleError: for what is no image, is cut short, is above `MAX_PIXELS` or has a side
            below `min_side`.
    """
    try:
        with faults_of_files():
            return _decoded(source, where, decode, min_side)
    except Image.DecompressionBombError as error:
        raise BadSampleError(f"{where}: {error}; make it smaller") from error
    except BadSampleError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise BadSampleError(
            f"{where}: cannot be read as an image ({error}); replace or remove it"
        ) from error


def _decoded(
    source: StrPath | bytes, where: StrPath, decode: Callable[[Image.Image], Decoded], min_side: int
) -> Decoded:
    with open_file(source) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise BadSampleError(
                f"{where}: {height} x {width} pixels (height x width) are more than {MAX_PIXELS}; "
                "make it smaller"
            )
        if min(width, height) < min_side:
            raise BadSampleError(
                f"{where}: an image of {height} x {width} pixels (height x width) has no content; "
                "replace or remove it"
            )
        return decode(image)


@dataclass(frozen=True)
class ReadImage:
    """An image as it was read.

    Args:
        pixels: read-only uint8 RGB [H, W, 3].
        reduction: how it was decoded smaller than it is stored; None for its own size.
    """

    pixels: NDArray[np.uint8]
    reduction: Reduction | None = None

    @property
    def size(self) -> Size:
        """Height and width in the file, upright."""
        if self.reduction is not None:
            return self.reduction.size
        return self.pixels.shape[0], self.pixels.shape[1]

    def sample(
        self,
        annotation: Annotation,
        image_id: int | str,
        file_name: str,
        remarks: tuple[str, ...] = (),
        incomplete: Sequence[int] = (),
    ) -> Sample:
        """The sample of this image; arguments as of `Sample`."""
        return Sample(
            self.pixels, annotation, image_id, file_name, remarks, incomplete, self.reduction
        )


def read_image(
    source: StrPath | bytes, where: StrPath, annotation_size: Size | None = None
) -> ReadImage:
    """Image upright as its EXIF orientation says, decoded smaller where `decoded_for` allows it;
    see `image_reading_dataseg`.

    More than 8 bits are scaled as the `value_range` of the entry says. An annotation that was made
    on the stored pixels of a photograph taken upright, told by its size, keeps those pixels.
    """
    return decoded(source, where, partial(_read, annotation_size=annotation_size))


def _read(image: Image.Image, annotation_size: Size | None) -> ReadImage:
    reduced = reduce_decoding(image, annotation_size)
    if reduced is None:
        return ReadImage(pixels_of_entry(image, annotation_size))
    reduction, orientation = reduced
    return ReadImage(pixels_of_entry(image, turn=orientation != 1), reduction)


def read_rgb(
    source: StrPath | bytes, where: StrPath, annotation_size: Size | None = None
) -> NDArray[np.uint8]:
    """The pixels of `read_image`, read-only uint8 RGB [H, W, 3], always of the size in the file."""
    with decoded_for(None):
        return read_image(source, where, annotation_size).pixels


def size_of_file(path: Path) -> Size:
    """Height and width of an image as `read_rgb` gives it, without decoding it.

    Raises:
        BadSampleError: for what is no image.
    """
    try:
        with faults_of_files(), open_file(path) as image:
            return upright_size(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadSampleError(
            f"{path}: cannot be read as an image ({error}); replace or remove it"
        ) from error


def require_same_size(
    image: ReadImage, image_name: StrPath, size: Sequence[int], other: StrPath
) -> None:
    """Check that an image has the size (height, width) of its annotation.

    Raises:
        BadSampleError: for another size.
    """
    if image.size != tuple(size):
        raise BadSampleError(
            f"{image_name} is {image.size[0]} x {image.size[1]} pixels (height x width), but its "
            f"annotation in {other} is {size[0]} x {size[1]}; find the pair that belongs together"
        )
