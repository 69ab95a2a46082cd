"""A sample whose annotation lacks nothing: it keeps what it had, and a model adds the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...data.masks import boxes_of_masks
from ...data.sample import DatasetSpec, Instances, Sample, Segments
from ...model.degrees_dataseg import Degree
from ...model.proposals_dataseg import ImageProposals
from ..segments import Segment
from .classes import split_into_objects
from .objects import complete_boxes, pixels_of_box
from .weak_objects import MaskAndScore, complete_points, complete_tags

Source: TypeAlias = Literal["annotated", "box", "point", "tag", "class"]
"""What an object's pixels were made from; "annotated" where nothing was made."""

LEAST_AGREEMENT = 0.8
"""IoU of a mask's tight box with the given box, below which a person should look."""
LEAST_SCORE = 0.5
LEAST_FIT = 0.2
"""Of an object of a map of classes, see `split_into_objects`."""
MOST_SHARED = 0.5
"""IoU of two objects' masks above which a person should look. All four are our setting."""


@dataclass(frozen=True)
class ObjectNote:
    """How an object or segment of a completed sample came to its pixels.

    Args:
        score: 0..1, None where nothing was made.
        review: why a person should look at it; empty where nothing speaks for that.
    """

    source: Source
    score: float | None = None
    review: str = ""


@dataclass(frozen=True)
class CompletedSample:
    """A sample with masks for all objects, or objects for all things of a map.

    Args:
        notes: one for each object or segment of the sample's annotation.
    """

    sample: Sample
    notes: Sequence[ObjectNote]


def complete_sample(
    sample: Sample, spec: DatasetSpec, proposals: ImageProposals
) -> CompletedSample:
    """What the annotation of a sample lacks, held to what it has.

    Boxes get masks within them, points and tags masks of their class; things of a map of classes
    are split into objects, and every pixel keeps its class. Masks, panoptic maps, crowds and void
    stay as they are.

    Args:
        sample: of the dataset.
        spec: of the dataset.
        proposals: of the image, in the vocabulary of the dataset.
    """
    annotation = sample.annotation
    if isinstance(annotation, Segments):
        if spec.label_form != "classes":
            return CompletedSample(sample, [ObjectNote("annotated")] * len(annotation.class_labels))
        segments, notes = _objects_of_classes(annotation, spec, proposals)
        return CompletedSample(replace(sample, annotation=segments), notes)
    if annotation.degrees is None and annotation.masks is not None:
        whole = replace(sample, annotation=_with_a_pixel(annotation))
        return CompletedSample(whole, [ObjectNote("annotated")] * len(annotation))
    instances, notes = _masks_of_objects(annotation, sample.image, proposals)
    return CompletedSample(replace(sample, annotation=instances), notes)


# --- objects


def _with_a_pixel(instances: Instances) -> Instances:
    """The objects, those whose masks are smaller than a pixel with the pixels of their boxes: files
    do not hold masks without one.
    """
    assert instances.masks is not None
    empty = np.flatnonzero(~instances.masks.any(axis=(1, 2))).tolist()
    if not empty:
        return instances
    masks = instances.masks.copy()
    for place in empty:
        left, top, right, bottom = pixels_of_box(
            instances.boxes[place], (masks.shape[1], masks.shape[2])
        )
        masks[place, top:bottom, left:right] = True
    return replace(instances, masks=masks)


def _masks_of_objects(
    instances: Instances, image: NDArray[np.uint8], proposals: ImageProposals
) -> tuple[Instances, list[ObjectNote]]:
    size = (image.shape[0], image.shape[1])
    masks = np.zeros((len(instances), *size), dtype=bool)
    notes = [ObjectNote("annotated")] * len(instances)
    degrees = instances.degrees
    if degrees is None:
        degrees = np.full(len(instances), Degree.BOX, dtype=np.int8)
    if instances.masks is not None:
        masks[degrees == Degree.MASK] = instances.masks[degrees == Degree.MASK]
    # an object smaller than a pixel has a mask without one
    degrees = np.where((degrees == Degree.MASK) & ~masks.any(axis=(1, 2)), Degree.BOX, degrees)
    for crowd in np.flatnonzero(instances.is_crowd & (degrees == Degree.BOX)).tolist():
        left, top, right, bottom = pixels_of_box(instances.boxes[crowd], size)
        masks[crowd, top:bottom, left:right] = True
    wanted = ~instances.is_crowd
    boxed = np.flatnonzero(wanted & (degrees == Degree.BOX))
    labels = instances.class_labels
    found = complete_boxes(proposals, image, instances.boxes[boxed], labels[boxed])
    agreements = found.agreement.tolist()
    for place, segment, agreement in zip(boxed.tolist(), found.segments, agreements, strict=True):
        masks[place] = _whole(segment, size)
        notes[place] = _note("box", segment.score or 0.0, agreement)
    weak_ways: tuple[tuple[Degree, Source, Callable[..., list[MaskAndScore]]], ...] = (
        (Degree.POINT, "point", complete_points),
        (Degree.TAG, "tag", complete_tags),
    )
    for degree, source, complete in weak_ways:
        places = np.flatnonzero(wanted & (degrees == degree))
        for place, (mask, score) in zip(
            places.tolist(), complete(proposals, instances.select(places), size), strict=True
        ):
            masks[place] = mask
            notes[place] = ObjectNote(source, score, f"known by a {source} only")
    _note_rivals(masks, notes)
    boxes = instances.boxes.copy()
    weak = wanted & (degrees < Degree.BOX)
    boxes[weak] = boxes_of_masks(masks[weak])
    whole = Instances(labels, boxes, instances.is_crowd, masks)
    return whole, notes


def _whole(segment: Segment, size: tuple[int, int]) -> NDArray[np.bool_]:
    return segment.within(slice(0, size[0]), slice(0, size[1]))


def _note(source: Source, score: float, agreement: float) -> ObjectNote:
    review = ""
    if score == 0:
        review = "the model sees nothing of it: its mask is the box"
    elif agreement < LEAST_AGREEMENT:
        review = f"its mask fills {agreement:.0%} of its box from side to side"
    elif score < LEAST_SCORE:
        review = f"the model is unsure of it ({score:.2f})"
    return ObjectNote(source, score, review)


def _note_rivals(masks: NDArray[np.bool_], notes: list[ObjectNote]) -> None:
    """Note objects that share most of their pixels with another one."""
    boxes = boxes_of_masks(masks).astype(int)
    for place, note in enumerate(notes):
        if note.source == "annotated" or note.review:
            continue
        left, top, right, bottom = boxes[place].tolist()
        # only objects whose boxes overlap can share pixels
        near = (boxes[:, :2] < boxes[place, 2:]).all(1) & (boxes[:, 2:] > boxes[place, :2]).all(1)
        own = masks[place, top:bottom, left:right]
        for rival in np.flatnonzero(near).tolist():
            common = int((own & masks[rival, top:bottom, left:right]).sum())
            union = int(own.sum()) + int(masks[rival].sum()) - common
            if rival != place and common > MOST_SHARED * union:
                text = f"it shares most of its pixels with object {rival + 1} of the image"
                notes[place] = replace(note, review=text)
                break


# --- maps of classes


def _objects_of_classes(
    segments: Segments, spec: DatasetSpec, proposals: ImageProposals
) -> tuple[Segments, list[ObjectNote]]:
    """Segments of stuff and crowds as they are, each thing class as its objects."""
    segment_map = np.full_like(segments.segment_map, -1)
    labels: list[int] = []
    crowds: list[bool] = []
    notes: list[ObjectNote] = []
    for number, label in enumerate(segments.class_labels.tolist()):
        is_crowd = bool(segments.is_crowd[number])
        region = segments.segment_map == number
        parts = [(region, ObjectNote("annotated"))]
        if spec.is_thing[label] and not is_crowd:
            class_map = np.where(region, label, -1)
            parts = [
                (mask, ObjectNote("class", fit, _fit_review(fit)))
                for mask, fit in split_into_objects(proposals, class_map, label)
            ]
        for mask, note in parts:
            segment_map[mask] = len(labels)
            labels.append(label)
            crowds.append(is_crowd)
            notes.append(note)
    whole = Segments(segment_map, np.array(labels, np.int64), np.array(crowds, bool))
    return whole, notes


def _fit_review(fit: float) -> str:
    return "" if fit >= LEAST_FIT else f"no proposal of the model fits it ({fit:.2f})"


__all__ = ["CompletedSample", "ObjectNote", "Source", "complete_sample"]
