"""Images -> model inputs, and model outputs -> segmentations in the formats of transformers."""

from .requirements_dataseg import OLDEST_TRANSFORMERS  # noqa: F401 - before what an old version lacks

# isort: split

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    PILImageResampling,
    SizeDict,
    infer_channel_dimension_format,
    make_flat_list_of_images,
)
from transformers.processing_utils import ImagesKwargs
from transformers.utils import IMAGE_PROCESSOR_NAME, TensorType, logging

from .image_inputs_dataseg import (
    common_size,
    file_or_content,
    padded,
    readable,
    resize,
    scaled_size,
    three_channels,
    with_channel,
)
from .image_reading_dataseg import (
    ValueRange,
    check_value_range,
    read_image,
    rgb_pixels,
    scaled_to_8_bits,
)
from .mask2former_panoptic_dataseg import mask2former_panoptic_prediction
from .postprocessing_dataseg import instance_prediction, panoptic_prediction, semantic_prediction
from .proposals_dataseg import ImageProposals
from .result_formats_dataseg import (
    checked_thresholds,
    fused_categories,
    instance_segments,
    run_lengths,
    single_map,
    target_sizes_of,
)

logger = logging.get_logger(__name__)
MASK2FORMER_LONGEST_EDGE = 1333  # of transformers' Mask2FormerImageProcessor


class DaTaSegImageOptions(ImagesKwargs, total=False):  # type: ignore[call-arg]  # transformers is untyped
    """Options beside those of transformers."""

    value_range: Sequence[float | int] | None


class DaTaSegImageProcessor(PilBackend):
    """Resizes the longer side to `size["longest_edge"]` pixels, normalizes, and pads to a square of
    that side.

    The canvas is the one of training, so a model sees what it was trained on. `do_pad=False` skips
    the padding, for images of one size.

    Files (paths, addresses, base64) are read as in training (`image_reading_dataseg.py`): upright,
    and scaled to 8 bits by `value_range`, by what the file tells, or by the image's own range. PIL
    images likewise, but as they lie: their size is what `target_sizes` says. Arrays and tensors:
    uint8 as they are; other types by `value_range` where there is one, else they must be integers
    in 0..255, or floats in 0..255 (with `do_rescale=False`, as the model wants them).

    Args:
        size: `{"longest_edge": N}`, or N alone, in pixels (640).
        image_mean, image_std: per RGB channel, of pixel values in 0..1 (ImageNet's, as Swin was
            trained with).
        do_resize, do_rescale, rescale_factor, do_normalize, do_pad: as in transformers.
        pad_size: `{"height": H, "width": W}`, another canvas than the square.
        value_range: `(low, high)`, what becomes black and white in images of more than 8 bits; that
            of training.

    Raises:
        ValueError: for an unsupported option, and for arrays that are neither 8-bit nor float
            without a `value_range`, images that do not fit the canvas, or floats in 0..1 where
            `do_rescale` would divide them by 255 again.
    """

    model_input_names = ["pixel_values", "pixel_mask"]  # noqa: RUF012 - the base class's type
    valid_kwargs = DaTaSegImageOptions
    value_range: ValueRange | None = None
    size = {"longest_edge": 640}  # noqa: RUF012 - the base class's type
    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_pad = True

    def to_dict(self) -> dict[str, Any]:
        """What `preprocessor_config.json` holds."""
        # Without a type of its own for videos, `pipeline()` of transformers 5.23 takes the code of
        # the image processor for that of a video processor, and asks the user whether to run it.
        return {**super().to_dict(), "video_processor_type": "none"}

    @classmethod
    def from_mask2former(
        cls, name_or_path: str | Path, revision: str | None = None
    ) -> "DaTaSegImageProcessor":
        """The processor for a model that started from a transformers Mask2Former, with its size,
        mean and deviation.

        The longer side becomes the largest that the checkpoint's processor makes, the side of the
        canvas a multiple of its `size_divisor`. A checkpoint without a processor gets transformers'
        default, 1333 pixels, and a warning.

        Args:
            name_or_path: Hub id or folder.
            revision: Branch, tag or commit on the Hub.
        """
        settings: dict[str, Any] = {}
        try:
            settings, _ = cls.get_image_processor_dict(name_or_path, revision=revision or "main")
        except OSError:
            logger.warning(
                f"'{name_or_path}' has no {IMAGE_PROCESSOR_NAME}: taking the sizes of "
                "Mask2Former's default"
            )
        longest, divisor = _longest_edge(settings), int(settings.get("size_divisor") or 32)
        side = -(-longest // divisor) * divisor
        taken = (
            "image_mean",
            "image_std",
            "do_resize",
            "do_rescale",
            "rescale_factor",
            "do_normalize",
        )
        return cls(
            size={"longest_edge": longest},
            pad_size={"height": side, "width": side},
            **{key: settings[key] for key in taken if settings.get(key) is not None},
        )

    # --- images to inputs

    def _standardize_kwargs(
        self, size: Any = None, value_range: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        if isinstance(size, int):
            size = {"longest_edge": size}
        if isinstance(size, SizeDict):
            size = dict(size)
        if not isinstance(size, dict) or set(size) != {"longest_edge"} or size["longest_edge"] < 1:
            raise ValueError(f'`size` must be {{"longest_edge": pixels}}, got {size}')
        value_range = None if value_range is None else check_value_range(value_range)
        return super()._standardize_kwargs(size=size, value_range=value_range, **kwargs)

    def read_image(self, source: Any, timeout: float | None = None) -> Image.Image:
        """An image as training read it: upright RGB, scaled by `value_range`.

        Args:
            source: path, http(s) address, base64 text, bytes, open file or PIL image.
            timeout: seconds to wait for an address.

        Raises:
            OSError, ValueError, SyntaxError, Image.DecompressionBombError: for what cannot be read
                as an image.
        """
        if isinstance(source, str):
            source = file_or_content(source, timeout)
        return read_image(source, self.value_range)

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Images of paths and addresses, in lists of any depth; images stay as they are."""
        if isinstance(image_url_or_urls, (str, Path)):
            return self.read_image(image_url_or_urls)
        return super().fetch_images(image_url_or_urls)

    def _prepare_images_structure(self, images: Any, expected_ndims: int = 3) -> list[Any]:
        """A flat list of images; 2-D arrays, which transformers refuses, are gray images."""
        images = self.fetch_images(images)
        if isinstance(images, (list, tuple)):
            images = [with_channel(image) for image in images]
        return list(make_flat_list_of_images(with_channel(images), expected_ndims=expected_ndims))

    def process_image(
        self,
        image: Any,
        input_data_format: Any = None,
        value_range: ValueRange | None = None,
        **kwargs: Any,
    ) -> NDArray[Any]:
        """RGB array [3, H, W], uint8 or float32, of a PIL image, array or tensor."""
        if isinstance(image, Image.Image):
            return rgb_pixels(image, value_range, turn=False)[0].transpose(2, 0, 1)
        if isinstance(image, Tensor):
            image = image.detach().cpu().numpy()
        if input_data_format is None and isinstance(image, np.ndarray) and image.ndim == 3:
            input_data_format = infer_channel_dimension_format(image, num_channels=(1, 3, 4))
        channels_first = super().process_image(image, input_data_format=input_data_format)
        pixels = three_channels(channels_first)
        if value_range is not None and pixels.dtype != np.uint8 and kwargs.get("do_rescale", True):
            return scaled_to_8_bits(pixels, value_range)
        return readable(pixels)

    def _preprocess(
        self,
        images: list[NDArray[Any]],
        do_resize: bool,
        size: SizeDict,
        resample: PILImageResampling | int | None,
        do_center_crop: bool | None,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | Sequence[float],
        image_std: float | Sequence[float],
        do_pad: bool | None,
        pad_size: SizeDict | None,
        return_tensors: str | TensorType | None,
        **kwargs: Any,
    ) -> BatchFeature:
        if do_center_crop or resample != PILImageResampling.BILINEAR:
            raise ValueError(
                "images are resized bilinearly and never cropped: drop `do_center_crop` and "
                "`resample`"
            )
        mean = torch.tensor(image_mean if do_normalize else 0.0).view(-1, 1, 1)
        std = torch.tensor(image_std if do_normalize else 1.0).view(-1, 1, 1)
        factor = rescale_factor if do_rescale else 1.0
        longest_edge = size.longest_edge if do_resize else None
        normalized = [
            _resized(array, longest_edge, do_rescale).float().mul_(factor / std).sub_(mean / std)
            for array in images
        ]
        if not do_pad:
            canvas = common_size(normalized)
        elif pad_size is None:
            canvas = (size.longest_edge, size.longest_edge)
        else:
            canvas = (pad_size.height, pad_size.width)
        return BatchFeature(padded(normalized, canvas), tensor_type=return_tensors)

    # --- outputs to segmentations

    def post_process_semantic_segmentation(
        self, outputs: Any, target_sizes: Sequence[tuple[int, int]] | Tensor | None = None
    ) -> list[Tensor]:
        """The most likely category per pixel.

        Args:
            outputs: of `DaTaSegModel`, for a batch of B images.
            target_sizes: height and width of each result; by default the size of the predicted
                masks, without padding.

        Returns:
            B maps int64 [H, W], indices into the vocabulary.

        Raises:
            ValueError: unless there are B target sizes.
        """
        return [
            semantic_prediction(proposals, size).segmentation
            for proposals, size in _images(outputs, target_sizes)
        ]

    def post_process_panoptic_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        label_ids_to_fuse: Iterable[int] | None = None,
        target_sizes: Sequence[tuple[int, int]] | Tensor | None = None,
        mask2former_rules: bool = False,
    ) -> list[dict[str, Any]]:
        """One id map per image: a segment per thing, one segment per stuff category.

        Args:
            outputs: of `DaTaSegModel`, for a batch of B images.
            threshold: least class probability of a proposal.
            mask_threshold: least mask probability of a pixel of a segment.
            overlap_mask_area_threshold: least share of its own mask that a segment keeps, else it
                is dropped.
            label_ids_to_fuse: categories with one segment per image; by default the vocabulary's
                stuff.
            target_sizes: height and width of each result; by default the size of the predicted
                masks, without padding.
            mask2former_rules: decide as transformers' Mask2Former does
                (`mask2former_panoptic_dataseg.py`), which among other things leaves no pixel
                between the masks free.

        Returns:
            B dicts: `segmentation` int32 [H, W], 0 = no segment; `segments_info`, per segment `id`
            (from 1), `label_id`, `was_fused` and `score`.

        Raises:
            ValueError: unless there are B target sizes, or for a label id outside the vocabulary,
                or a threshold that is no number.
        """
        thresholds = checked_thresholds(threshold, mask_threshold, overlap_mask_area_threshold)
        predict = mask2former_panoptic_prediction if mask2former_rules else panoptic_prediction
        results = []
        for proposals, size in _images(outputs, target_sizes):
            fused = fused_categories(proposals.is_thing, label_ids_to_fuse)
            found = predict(proposals, fused, size, thresholds)
            results.append({"segmentation": found.segmentation, "segments_info": found.segments})
        return results

    def post_process_instance_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        target_sizes: Sequence[tuple[int, int]] | Tensor | None = None,
        return_coco_annotation: bool = False,
        return_binary_maps: bool = False,
        nms: float | None = None,
    ) -> list[dict[str, Any]]:
        """The things of each image, best first. They may overlap: only binary maps and run lengths
        show all of them.

        Args:
            outputs: of `DaTaSegModel`, for a batch of B images.
            threshold: least score (class probability times mean mask probability).
            mask_threshold: least mask probability of a pixel of an instance.
            overlap_mask_area_threshold: for the single map, in which the better of two overlapping
                instances wins: least share of its own mask that an instance keeps, else it is
                dropped.
            target_sizes: height and width of each result; by default the size of the predicted
                masks, without padding.
            return_coco_annotation: run lengths instead of a map.
            return_binary_maps: binary maps instead of a map.
            nms: of two instances of a category whose masks have a larger IoU than this, the one
                with the lower score is left out; None keeps both.

        Returns:
            B dicts: `segmentation` int32 [H, W] with ids, -1 = no instance; or bool [K, H, W]; or K
            lists `[start, length, start, length, ...]` over the row-by-row pixels, the first one
            counted 1. `segments_info`, per instance `id` (from 0), `label_id`, `was_fused` (false)
            and `score`.

        Raises:
            ValueError: unless there are B target sizes, or if two formats are asked for, `nms` is
                no IoU, or a threshold is no number.
        """
        thresholds = checked_thresholds(threshold, mask_threshold, overlap_mask_area_threshold, nms)
        if return_coco_annotation and return_binary_maps:
            raise ValueError("`return_coco_annotation` and `return_binary_maps` exclude each other")
        results = []
        for proposals, size in _images(outputs, target_sizes):
            found = instance_prediction(proposals, size, thresholds)
            segmentation: Tensor | list[list[int]]
            kept = list(range(len(found.crops)))
            if return_binary_maps:
                segmentation = found.masks
            elif return_coco_annotation:
                segmentation = [run_lengths(mask) for mask in found.masks]
            else:
                segmentation, kept = single_map(found, overlap_mask_area_threshold)
            results.append(
                {"segmentation": segmentation, "segments_info": instance_segments(found, kept)}
            )
        return results


def _images(
    outputs: Any, target_sizes: Sequence[tuple[int, int]] | Tensor | None
) -> list[tuple[ImageProposals, tuple[int, int] | None]]:
    """Proposals and size of the result of each image."""
    sizes = target_sizes_of(outputs, target_sizes)
    return list(zip(ImageProposals.of_batch(outputs), sizes, strict=True))


def _resized(array: NDArray[Any], longest_edge: int | None, do_rescale: bool) -> Tensor:
    """[3, h, w] of an array [3, H, W], whose longer side becomes `longest_edge` pixels."""
    if do_rescale and array.dtype != np.uint8 and array.max() <= 1:
        raise ValueError(
            "float images are expected in 0..255, these are in 0..1: pass `do_rescale=False`"
        )
    pixels = torch.from_numpy(np.ascontiguousarray(array))
    if longest_edge is None:
        return pixels
    return resize(pixels, scaled_size(array.shape[1], array.shape[2], longest_edge))


def _longest_edge(settings: Mapping[str, Any]) -> int:
    """The longer side, in pixels, that settings of a transformers processor make of an image."""
    size = settings.get("size") or {}
    if isinstance(size, int):  # as in transformers before 4.27: the shorter side
        return int(settings.get("max_size") or MASK2FORMER_LONGEST_EDGE)
    return int(
        size.get("longest_edge")
        or max(size.get("height", 0), size.get("width", 0))
        or MASK2FORMER_LONGEST_EDGE
    )


__all__ = ["DaTaSegImageProcessor"]
