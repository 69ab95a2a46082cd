"""The truth that metrics may count: what an image's annotation does not tell excuses predictions
instead of making them wrong.

So LVIS scores average precision (Gupta et al., CVPR 2019, Section 3): where objects of a class may
be missing, unmatched predictions of it count nowhere. Here such a class has a crowd as large as the
image, under which COCO's rules do the same. Segments and pixels of such a class are treated alike
(our setting).
"""

from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from ..data.sample import DatasetSpec, Instances, Sample
from ..model.degrees_dataseg import Degree
from ..model.image_reading_dataseg import Size


def certain_objects(instances: Instances, least: Degree, size: Size) -> Instances:
    """Objects of which less than `least` is known become crowds of their box, or of the image of
    `size` (height, width).
    """
    if instances.degrees is None:
        return instances
    is_less = instances.degrees < least
    masks = np.zeros((len(instances), *size), dtype=bool)
    if instances.masks is not None:
        masks |= instances.masks
    for number in np.flatnonzero(is_less).tolist():
        left, top, right, bottom = instances.boxes[number].round().astype(int).tolist()
        masks[number, top:bottom, left:right] = True
    return Instances(instances.class_labels, instances.boxes, instances.is_crowd | is_less, masks)


def open_classes(sample: Sample, spec: DatasetSpec) -> set[int]:
    """Classes of which the image may show more than is annotated."""
    declared = {index for index, c in enumerate(spec.classes) if not c.exhaustive}
    return declared | set(sample.incomplete)


def certain_pixels(
    truth: NDArray[np.int32], predicted: NDArray[np.integer], classes: Collection[int]
) -> NDArray[np.int32]:
    """The class of each pixel, void where one of `classes` is predicted and something else is
    annotated.

    Args:
        truth, predicted: int [H, W], a class per pixel, -1 where void.
        classes: those of which the image may show more than is annotated.
    """
    if not classes:
        return truth
    excused = np.isin(predicted, list(classes)) & (predicted != truth)
    return np.where(excused, np.int32(-1), truth)


def with_excuses(instances: Instances, classes: Iterable[int], size: Size) -> Instances:
    """The objects, and for each of the classes a crowd as large as the image of `size` (height,
    width).
    """
    added = np.array(sorted(classes), dtype=np.int64)
    if len(added) == 0:
        return instances
    height, width = size
    whole = np.array([0, 0, width, height], dtype=np.float32)
    masks = instances.masks
    if masks is not None:
        masks = np.concatenate([masks, np.ones((len(added), *size), dtype=bool)])
    return Instances(
        np.concatenate([instances.class_labels, added]),
        np.concatenate([instances.boxes, np.tile(whole, (len(added), 1))]),
        np.concatenate([instances.is_crowd, np.ones(len(added), dtype=bool)]),
        masks,
    )
