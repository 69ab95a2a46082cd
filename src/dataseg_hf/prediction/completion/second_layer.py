"""A second layer of annotation: what a set does not say, from a model, in the words of the mix.

It has pixels that the set's own annotation leaves open, and classes of which the set does not say
that they are missing there. Both layers together never contradict each other.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...data.names import plain_name
from ...data.sample import ClassInfo, DatasetSpec, Sample, Segments
from ...model.proposals_dataseg import ImageProposals
from ...model.tasks_dataseg import get_task
from ...model.thresholds_dataseg import Thresholds
from ..segments import Segment, cropped
from .sample import CompletedSample

LEAST_PROBABILITY = 0.5
"""Of the class of a segment."""
LEAST_LEFT = 0.5
"""Of a segment's predicted pixels that must be open: else it is what is annotated there, seen
again.
"""
LEAST_UNQUESTIONED = 0.9
"""Of a thing's predicted pixels that are open, below which a person should look: it may be a part
of what is annotated beside it. All three are our setting.
"""


def spec_of_mix(own: DatasetSpec, others: Iterable[DatasetSpec]) -> DatasetSpec:
    """The second layer of a set: its own classes, then those of the other sets of the mix that have
    another plain name. A class is a thing where the set that names it first says so.

    Args:
        own: of the set.
        others: of the other sets, in the order of the mix.
    """
    classes = [ClassInfo(c.name, c.is_thing, exhaustive=False) for c in own.classes]
    known = {plain_name(c.name) for c in own.classes}
    for c in (c for spec in others for c in spec.classes):
        if plain_name(c.name) not in known:
            known.add(plain_name(c.name))
            classes.append(ClassInfo(c.name, c.is_thing, exhaustive=False))
    return DatasetSpec(
        name=own.name,
        task="panoptic",
        classes=tuple(classes),
        id_map={number: index for index, number in enumerate(range(1, len(classes) + 1))},
        license=own.license,
    )


def open_classes(sample: Sample, spec: DatasetSpec, count: int) -> NDArray[np.bool_]:
    """Which classes an image may show where nothing is annotated: bool [count].

    In maps this is any. In annotation by object it is not a class of which the set says that all
    are annotated.

    Args:
        sample: of the set.
        spec: of the set.
        count: number of classes of the second layer, those of the set first.
    """
    found = np.ones(count, dtype=bool)
    if not isinstance(sample.annotation, Segments):
        found[: len(spec.classes)] = [not c.exhaustive for c in spec.classes]
        found[list(sample.incomplete)] = True
    return found


def open_pixels(sample: Sample) -> NDArray[np.bool_]:
    """Where an annotation says nothing: bool [H, W].

    In maps these are void pixels, in annotation by object those outside of all masks.

    Args:
        sample: with a mask for each object.
    """
    annotation = sample.annotation
    if isinstance(annotation, Segments):
        return np.asarray(annotation.segment_map < 0)
    assert annotation.masks is not None
    return np.asarray(~annotation.masks.any(axis=0))


@torch.no_grad()
def second_layer_segments(
    done: CompletedSample, spec: DatasetSpec, proposals: ImageProposals
) -> list[Segment]:
    """The segments of the second layer of an image, with what a person should look at.

    They are those of a panoptic prediction, on open pixels and of open classes. One that has lost
    more than half of its pixels to the annotation is left out, since it is mostly that.

    Args:
        done: the image with its completed annotation.
        spec: of its set.
        proposals: of the image, in the words of the mix (`spec_of_mix`).
    """
    pixels = open_pixels(done.sample)
    if not pixels.any():
        return []
    things = proposals.is_thing.tolist()
    classes = open_classes(done.sample, spec, len(things))
    found = []
    for mask, label, score in _predicted(proposals, pixels.shape):
        kept = mask & pixels
        left = kept.sum() / mask.sum()
        if classes[label] and left >= LEAST_LEFT:
            review = _review(float(left)) if things[label] else ""
            facts = {"source": "model", "review": review, "iscrowd": 0}
            one = cropped(kept, label, score)
            found.append(Segment(label, score, one.mask, one.top, one.left, facts))
    return found


def _predicted(
    proposals: ImageProposals, shape: Sequence[int]
) -> Iterator[tuple[NDArray[np.bool_], int, float]]:
    """Mask [H, W], class and probability of each predicted segment."""
    size = (shape[0], shape[1])
    thresholds = Thresholds(score=LEAST_PROBABILITY)
    found = get_task("panoptic").predict(proposals, size, thresholds).on_host()
    for region in found.regions():
        yield region.full_mask(size).numpy(), region.label_id, region.score or 0.0


def _review(left: float) -> str:
    if left >= LEAST_UNQUESTIONED:
        return ""
    return f"{1 - left:.0%} of what the model sees of it is annotated as something else"


__all__ = ["open_classes", "open_pixels", "second_layer_segments", "spec_of_mix"]
