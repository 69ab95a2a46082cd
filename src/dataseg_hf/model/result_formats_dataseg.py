"""Results in the formats of transformers' `post_process_*` methods, and the checks of their
arguments.
"""

from collections.abc import Iterable, Sequence
from math import isnan
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .host_dataseg import to_device
from .mask_nms_dataseg import checked_iou
from .predictions_dataseg import InstancePrediction
from .tasks_dataseg import TASKS
from .thresholds_dataseg import Thresholds


def run_lengths(mask: Tensor) -> list[int]:
    """Run lengths of a bool mask [H, W] as transformers writes them: `[start, length, ...]`, row by
    row, from 1.
    """
    pixels = np.pad(mask.cpu().numpy().astype(np.int8).ravel(), 1)
    edges = np.flatnonzero(np.diff(pixels))
    starts, ends = edges[::2], edges[1::2]
    return np.stack([starts + 1, ends - starts], axis=1).ravel().tolist()


def target_sizes_of(
    outputs: Any, target_sizes: Sequence[tuple[int, int]] | Tensor | None
) -> list[tuple[int, int] | None]:
    """The size of the result of each of B images, None where none is asked for.

    Args:
        target_sizes: [B, 2], height and width in pixels.

    Raises:
        ValueError: unless there are B pairs of positive height and width.
    """
    batch = len(outputs.class_queries_logits)
    if target_sizes is None:
        return [None] * batch
    if len(target_sizes) != batch:
        raise ValueError(
            f"{len(target_sizes)} target sizes for {batch} images: give the (height, width) of "
            "each image"
        )
    return [_target_size(size) for size in target_sizes]


def _target_size(size: Any) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(
            f"a target size is the (height, width) of an image in pixels, got {size!r:.60}"
        )
    return height, width


def checked_thresholds(
    threshold: float,
    mask_threshold: float,
    overlap_mask_area_threshold: float,
    nms: float | None = None,
) -> Thresholds:
    """The thresholds that a user gave under the names of transformers, and `nms`.

    Raises:
        ValueError: names the argument that is no number, or no IoU.
    """
    given = {
        "threshold": threshold,
        "mask_threshold": mask_threshold,
        "overlap_mask_area_threshold": overlap_mask_area_threshold,
    }
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (Real, Tensor)) or isnan(value):
            raise ValueError(f"`{name}` must be a number, usually in 0..1, got {value!r:.40}")
    return Thresholds(threshold, mask_threshold, overlap_mask_area_threshold, checked_iou(nms))


def fused_categories(is_thing: Tensor, label_ids: Iterable[int] | None) -> Tensor:
    """Categories with one segment per image, bool [C]: those of the panoptic task by default.

    Raises:
        ValueError: for a label id outside the vocabulary.
    """
    if label_ids is None:
        return TASKS["panoptic"].merged_categories(is_thing)
    chosen = set(label_ids)
    unknown = sorted(chosen - set(range(len(is_thing))))
    if unknown:
        raise ValueError(
            f"`label_ids_to_fuse` {unknown} are outside the vocabulary of {len(is_thing)} "
            "categories"
        )
    flags = torch.tensor([label_id in chosen for label_id in range(len(is_thing))])
    return to_device(flags, is_thing.device)


def single_map(found: InstancePrediction, least_share: float) -> tuple[Tensor, list[int]]:
    """All instances in one map int32 [H, W], -1 = none, the better before the worse; and which of
    them got into it.
    """
    # one instance after another, of few pixels each: nothing for a GPU, and NumPy's calls are the
    # cheapest
    segmentation = np.full(found.size, -1, dtype=np.int32)
    kept: list[int] = []
    for index, (crop, window, whole) in enumerate(
        zip(found.on_host().crops, found.windows, found.areas, strict=True)
    ):
        around = segmentation[window]
        visible = crop.numpy() & (around < 0)
        area = np.count_nonzero(visible)
        if area == 0 or area < least_share * whole:
            continue
        np.putmask(around, visible, len(kept))
        kept.append(index)
    return to_device(torch.from_numpy(segmentation), found.device), kept


def instance_segments(found: InstancePrediction, places: Sequence[int]) -> list[dict[str, Any]]:
    """`segments_info` of the instances at those places, with ids from 0."""
    label_ids, scores = found.label_ids.tolist(), found.scores.tolist()
    return [
        {
            "id": number,
            "label_id": label_ids[place],
            "was_fused": False,
            "score": round(scores[place], 6),
        }
        for number, place in enumerate(places)
    ]


__all__ = [
    "checked_thresholds",
    "fused_categories",
    "instance_segments",
    "run_lengths",
    "single_map",
    "target_sizes_of",
]
