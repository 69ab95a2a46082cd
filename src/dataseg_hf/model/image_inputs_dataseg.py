"""Images of any kind as arrays, and arrays as the model's inputs."""

import base64
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import get_session
from numpy.typing import NDArray
from torch import Tensor


def file_or_content(source: str, timeout: float | None) -> str | bytes:
    """The path, or what an address or a base64 text holds, as transformers' `load_image` tells them
    apart.

    Args:
        source: path, http(s) address or base64 text.
        timeout: seconds to wait for an address.

    Raises:
        OSError: for an address whose server refuses.
        ValueError: for a folder, and for text that is none of these.
    """
    if source.startswith(("http://", "https://")):
        answer = get_session().get(source, timeout=timeout, follow_redirects=True)
        if answer.status_code >= 400:
            raise OSError(f"{source}: the server answers with status {answer.status_code}")
        return answer.content
    if os.path.isfile(source):
        return source
    if os.path.isdir(source):  # whose name may be base64, as that of 'docs'
        raise ValueError(f"'{source}' is a folder: give the path of an image in it")
    text = source.partition(",")[2] if source.startswith("data:image/") else source
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise ValueError(
            f"'{source[:200]}' is no image file that is there, http(s) address or base64 text"
        ) from error


def with_channel(image: Any) -> Any:
    """A gray image [H, W] as [1, H, W]; everything else as it is."""
    return image[None] if isinstance(image, (np.ndarray, Tensor)) and image.ndim == 2 else image


def three_channels(image: NDArray[Any]) -> NDArray[Any]:
    """[1 or 3 or 4, H, W] -> [3, H, W]: gray repeated, alpha dropped."""
    return image.repeat(3, axis=0) if len(image) == 1 else image[:3]


def readable(image: NDArray[Any]) -> NDArray[Any]:
    """An array [H, W, ...] as uint8, or as float32 where it is of floats.

    Raises:
        ValueError: for integers outside 0..255.
    """
    if np.issubdtype(image.dtype, np.floating):
        return image.astype(np.float32)
    if np.issubdtype(image.dtype, np.integer) and image.min() >= 0 and image.max() <= 255:
        return image.astype(np.uint8)
    raise ValueError(
        f"images must be integers in 0..255 or floats, got {image.dtype} in "
        f"{image.min()}..{image.max()}: pass "
        "`value_range=(low, high)`, the values that become black and white"
    )


def scaled_size(height: int, width: int, longer_side: int) -> tuple[int, int]:
    """Height and width after resizing the longer side, each at least one pixel."""
    factor = longer_side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """[3, H, W] -> [3, *size], bilinear with antialiasing; uint8 stays uint8."""
    return F.interpolate(
        pixels[None], size=size, mode="bilinear", align_corners=False, antialias=True
    )[0]


def common_size(images: Sequence[Tensor]) -> tuple[int, int]:
    """Height and width of images [3, H, W].

    Raises:
        ValueError: if they differ.
    """
    sizes = sorted({(image.shape[1], image.shape[2]) for image in images})
    if len(sizes) > 1:
        raise ValueError(
            f"images of different sizes (height, width) {sizes} make no batch: pass `do_pad=True`"
        )
    return sizes[0]


def padded(images: Sequence[Tensor], canvas: tuple[int, int]) -> dict[str, Tensor]:
    """Images [3, h, w] on a canvas, with zeros at the bottom and right.

    Returns:
        `pixel_values` float32 [B, 3, *canvas] and `pixel_mask` int64 [B, *canvas], 1 on the image.

    Raises:
        ValueError: for an image larger than the canvas.
    """
    pixel_values = torch.zeros(len(images), 3, *canvas)
    pixel_mask = torch.zeros(len(images), *canvas, dtype=torch.int64)
    for i, image in enumerate(images):
        height, width = image.shape[1:]
        if height > canvas[0] or width > canvas[1]:
            raise ValueError(
                f"image {i}: {height} x {width} pixels (height x width) do not fit a canvas of "
                f"{canvas[0]} x {canvas[1]}; pass `do_resize=True` or a larger `pad_size`"
            )
        pixel_values[i, :, :height, :width] = image
        pixel_mask[i, :height, :width] = 1
    return {"pixel_values": pixel_values, "pixel_mask": pixel_mask}


__all__ = [
    "common_size",
    "file_or_content",
    "padded",
    "readable",
    "resize",
    "scaled_size",
    "three_channels",
    "with_channel",
]
