"""What a model sees in an image, and how far each annotated object agrees with it.

Shapes: K proposals, M annotated objects, C categories, [H, W] pixels of the image.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.ndimage import label as connected

from ...data.components import split_components
from ...data.masks import boxes_of_masks
from ...data.sample import DatasetSpec, Instances, Sample, Segments
from ...model.degrees_dataseg import Degree
from ...model.proposals_dataseg import ImageProposals
from ...model.resizing_dataseg import resize_masks
from ..completion.objects import pixels_of_box
from ..segments import Segment, Size, cropped
from .words import Words

LEAST_FOREGROUND = 0.1
"""Probability of being anything that a set names, below which a proposal is not looked
at (our setting).
"""

SAME_OBJECT = 0.5
"""IoU from which on two proposals, or a proposal and an annotated object, are one (our setting)."""


@dataclass(frozen=True)
class Seen:
    """The proposals for an image that may be something.

    Args:
        probabilities: of each set's categories, and at last of being none of them, which add up to
            1: float64 [K, C + 1] each, the set's own first.
        masks: bool [K, H, W], none empty.
        boxes: float32 [K, 4], tight, xyxy in pixels.
        quality: float64 [K], mean probability of a mask's pixels, times the share of its largest
            connected part: a mask of several objects is no evidence of one. 0..1.
    """

    probabilities: Sequence[NDArray[np.float64]]
    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    quality: NDArray[np.float64]

    @classmethod
    @torch.no_grad()
    def of(cls, proposals: ImageProposals, words: Sequence[Words], size: Size) -> "Seen":
        """Look at the proposals for an image.

        Args:
            proposals: in the categories of all sets.
            words: of each set.
            size: height and width in pixels.
        """
        logits, none = proposals.class_logits.float(), proposals.class_logits[:, -1:].float()
        of_sets = [torch.cat([logits[:, one.columns], none], 1).softmax(-1) for one in words]
        foreground = 1 - torch.stack([one[:, -1] for one in of_sets]).amin(0)
        chosen = (foreground >= LEAST_FOREGROUND).nonzero()[:, 0].tolist()
        masks = np.zeros((len(chosen), *size), dtype=bool)
        quality = np.zeros(len(chosen))
        for number, place in enumerate(chosen):  # one by one, as an image may be large
            one = proposals.mask_logits[place : place + 1].float()
            soft = resize_masks(one, proposals.valid_size, size)[0].sigmoid().cpu().numpy()
            masks[number] = soft > 0.5
            quality[number] = soft[masks[number]].mean(dtype=np.float64) if soft.max() > 0.5 else 0
        some = masks.any((1, 2))
        kept = [one[chosen].cpu().double().numpy()[some] for one in of_sets]
        masks, boxes = masks[some], boxes_of_masks(masks[some])
        return cls(kept, masks, boxes, quality[some] * _largest_parts(masks, boxes))

    @property
    def own(self) -> NDArray[np.float64]:
        """Probabilities of the set's own categories, [K, C + 1]."""
        return self.probabilities[0]

    @property
    def size(self) -> Size:
        """Height and width of the image."""
        return self.masks.shape[1], self.masks.shape[2]

    def distinct(self, order: Iterable[int], taken: list[int] | None = None) -> Iterator[int]:
        """Those proposals of an order that are none of the earlier ones again.

        Args:
            order: places of proposals.
            taken: earlier ones, to which those that are given are added.
        """
        taken = [] if taken is None else taken
        for place in order:
            if not any(self._is_one(place, other) for other in taken):
                taken.append(place)
                yield place

    def _is_one(self, first: int, second: int) -> bool:
        """Whether two proposals show one object."""
        low = np.maximum(self.boxes[first, :2], self.boxes[second, :2])
        high = np.minimum(self.boxes[first, 2:], self.boxes[second, 2:])
        (left, top), (right, bottom) = low.astype(int).tolist(), high.astype(int).tolist()
        if left >= right or top >= bottom:
            return False
        common = (self.masks[[first, second], top:bottom, left:right]).all(0).sum()
        union = self.masks[first].sum() + self.masks[second].sum() - common
        return bool(common > SAME_OBJECT * union)


def _largest_parts(masks: NDArray[np.bool_], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of the largest connected part in each mask [K, H, W] with tight box [K, 4]: [K]."""
    shares = np.ones(len(masks))
    for place, (left, top, right, bottom) in enumerate(boxes.astype(int).tolist()):
        numbers, count = connected(masks[place, top:bottom, left:right], np.ones((3, 3), dtype=int))
        if count > 1:
            areas = np.bincount(numbers.ravel())[1:]
            shares[place] = areas.max() / areas.sum()
    return shares


@dataclass(frozen=True)
class Known:
    """The annotated objects of an image beside what is seen in it.

    Args:
        labels: int64 [M], of objects that are placed: tags and points are not.
        is_object: bool [M], things that are no crowd.
        is_crowd: bool [M].
        places: int64 [M], of each among the objects of the annotation; parts of a class in a map
            share the place of their class.
        segments: M of them, each as large as its box; boxes filled.
        iou: float64 [K, M], of masks where they are annotated, else of tight boxes.
        inside: float64 [K, M], share of a proposal's pixels, or of its box, in the object.
        unplaced: categories of which the image shows objects that are not placed.
    """

    labels: NDArray[np.int64]
    is_object: NDArray[np.bool_]
    is_crowd: NDArray[np.bool_]
    places: NDArray[np.int64]
    segments: Sequence[Segment]
    iou: NDArray[np.float64]
    inside: NDArray[np.float64]
    unplaced: frozenset[int] = frozenset()

    @classmethod
    def of(cls, sample: Sample, spec: DatasetSpec, seen: Seen) -> "Known":
        """Compare the annotation of a sample with what is seen in its image."""
        if isinstance(sample.annotation, Segments):
            return _of_map(sample.annotation, spec, seen)
        return _of_objects(sample.annotation, spec, seen)

    @classmethod
    def compared(
        cls,
        segments: Sequence[Segment],
        is_crowd: NDArray[np.bool_],
        places: NDArray[np.int64],
        spec: DatasetSpec,
        seen: Seen,
    ) -> "Known":
        """Objects with masks."""
        labels = np.array([one.label_id for one in segments], dtype=np.int64)
        common = np.array([_common(seen, one) for one in segments], dtype=np.float64)
        common = common.reshape(len(segments), len(seen.masks)).T
        areas = seen.masks.sum((1, 2), dtype=np.float64)[:, None]
        union = areas + [one.area for one in segments] - common
        is_object = np.array(spec.is_thing)[labels] & ~is_crowd
        iou = common / np.maximum(union, 1)
        return cls(labels, is_object, is_crowd, places, segments, iou, common / areas)


def _common(seen: Seen, segment: Segment) -> NDArray[np.int64]:
    """Pixels that each proposal has in common with a segment: [K]."""
    height, width = segment.mask.shape
    rows = slice(segment.top, segment.top + height)
    columns = slice(segment.left, segment.left + width)
    return np.asarray((seen.masks[:, rows, columns] & segment.mask).sum((1, 2)))


def _of_map(segments: Segments, spec: DatasetSpec, seen: Seen) -> Known:
    """Segments; of a class per pixel the connected parts of things."""
    split = spec.is_thing if spec.label_form == "classes" else [False] * len(spec.classes)
    parts = split_components(segments, split)
    found, places = [], []
    for number, window in enumerate(find_objects(parts.segment_map + 1)):
        if window is None:
            continue
        inside = parts.segment_map[window] == number
        label = int(parts.class_labels[number])
        found.append((number, Segment(label, None, inside, window[0].start, window[1].start)))
        places.append(segments.segment_map[window][inside][0])
    is_crowd = parts.is_crowd[[number for number, _ in found]]
    shown = [segment for _, segment in found]
    return Known.compared(shown, is_crowd, np.array(places, dtype=np.int64), spec, seen)


def _of_objects(instances: Instances, spec: DatasetSpec, seen: Seen) -> Known:
    degrees = instances.degrees
    if degrees is None:
        least = Degree.BOX if instances.masks is None else Degree.MASK
        degrees = np.full(len(instances), least, dtype=np.int8)
    placed = np.flatnonzero(degrees >= Degree.BOX)
    boxed = degrees[placed] < Degree.MASK
    segments = []
    for place, has_box in zip(placed.tolist(), boxed.tolist(), strict=True):
        label = int(instances.class_labels[place])
        if has_box or instances.masks is None:
            left, top, right, bottom = pixels_of_box(instances.boxes[place], seen.size)
            filled = np.ones((bottom - top, right - left), dtype=bool)
            segments.append(Segment(label, None, filled, top, left))
        else:
            segments.append(cropped(instances.masks[place], label, None))
    known = Known.compared(segments, instances.is_crowd[placed], placed, spec, seen)
    if boxed.any():
        common, union = _shared_boxes(seen.boxes, instances.boxes[placed][boxed])
        known.iou[:, boxed] = common / union
        known.inside[:, boxed] = common / _areas(seen.boxes)[:, None]
    unplaced = frozenset(instances.class_labels[degrees < Degree.BOX].tolist())
    return replace(known, unplaced=unplaced)


def _shared_boxes(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Area of intersection and union of boxes [K, 4] and [M, 4], xyxy: [K, M] each."""
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum(first[:, None, 2:], second[:, 2:])
    common = np.clip(high - low, 0, None).prod(-1, dtype=np.float64)
    return common, _areas(first)[:, None] + _areas(second) - common


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1, dtype=np.float64)


__all__ = ["SAME_OBJECT", "Known", "Seen"]
