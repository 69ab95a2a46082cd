"""Images whose pixels are ids: one number per pixel, or one packed into red, green and blue."""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...model.image_reading_dataseg import IdMapError, is_16_bit_rgb, stored_ids
from ..sample import BadSampleError
from .images import MIN_SIDE, decoded
from .paths import StrPath


def read_id_map(
    source: StrPath | bytes, where: StrPath, min_side: int = MIN_SIDE
) -> NDArray[np.integer]:
    """Ids [H, W] of an image with one number per pixel: gray of 1 to 16 bits, or the indices of a
    palette.
    """

    def ids(image: Image.Image) -> NDArray[np.integer]:
        try:
            found = stored_ids(image)
        except IdMapError as error:
            raise BadSampleError(f"{where}: {error}") from error
        refuse_jpeg(image, where)
        return found

    return decoded(source, where, ids, min_side)


def read_rgb_ids(
    source: StrPath | bytes, where: StrPath, min_side: int = MIN_SIDE
) -> NDArray[np.integer]:
    """Ids R + 256 G + 65536 B [H, W] of an RGB image (https://cocodataset.org/#format-data)."""
    return decoded(source, where, partial(_rgb_ids, where=where), min_side)


def _rgb_ids(png: Image.Image, where: StrPath) -> NDArray[np.integer]:
    depth = " of 16 bits" if is_16_bit_rgb(png) else ""
    png.load()
    if png.mode not in ("RGB", "RGBA") or depth:
        raise BadSampleError(
            f"{where}: a panoptic PNG is RGB (segment id = R + 256 G + 65536 B), but this is "
            f"{png.mode}{depth}"
        )
    refuse_jpeg(png, where)
    return packed_rgb(png)


def packed_rgb(image: Image.Image) -> NDArray[np.integer]:
    """R + 256 G + 65536 B of each pixel [H, W] of an RGB or RGBA image."""
    # as Pillow holds both
    four_bytes = image.tobytes("raw", "RGBX" if image.mode == "RGB" else "RGBA")
    return np.frombuffer(four_bytes, "<u4").reshape(image.height, image.width) & 0xFFFFFF


def refuse_jpeg(image: Image.Image, where: StrPath) -> None:
    """Check that a map of ids or colors has a format that keeps them.

    Raises:
        BadSampleError: for a format that changes them.
    """
    if image.format == "JPEG":
        raise BadSampleError(
            f"{where}: JPEG changes ids where they border on others; store them as PNG"
        )


def id_runs(ids: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Runs of equal ids of a map [H, W] in reading order: their ids [R] and lengths [R].

    A map has few runs, so work per run is cheap.
    """
    flat = ids.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    bounds = np.empty(len(changes) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, flat.size
    np.add(changes, 1, out=bounds[1:-1])
    return flat[bounds[:-1]], bounds[1:] - bounds[:-1]
