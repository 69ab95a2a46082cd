"""Scenes of the shapes world of which less is annotated: objects reduced to a box, a point or a
tag, and classes that are missing in half of the images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..model.degrees_dataseg import Degree
from .readers.objects_of_degrees import ObjectsOfDegrees
from .sample import Instances, Sample

Known: TypeAlias = Mapping[Literal["mask", "box", "point", "tag"], float]
"""Shares of the objects by what is known of them; they add up to 1."""
ALL_MASKS: Known = {"mask": 1.0}
MISSING_IN = 0.5  # share of the images


def check_shares(known: Known) -> NDArray[np.float64]:
    """The share of each `Degree`, float64 [4].

    Raises:
        ValueError: for shares of other degrees, negative ones, or such that do not add up to 1.
    """
    names = [degree.name.lower() for degree in Degree]
    shares = np.array([dict(known).get(name, 0.0) for name in names])  # type: ignore[call-overload]
    if set(known) - set(names) or not shares.min() >= 0:
        raise ValueError(f"known: shares of {names} are expected, not {dict(known)}")
    if not abs(shares.sum() - 1) < 1e-6:
        raise ValueError(f"known: the shares add up to {shares.sum():g}, but must to 1")
    return shares


def reduced(instances: Instances, known: Known, rng: np.random.Generator) -> Instances:
    """Objects with masks, each reduced to a degree that is drawn with those shares.

    Raises:
        ValueError: as `check_shares`.
    """
    shares = check_shares(known)
    assert instances.masks is not None
    height, width = instances.masks.shape[1:]
    builder = ObjectsOfDegrees((height, width))
    drawn = rng.choice(len(shares), size=len(instances), p=shares)
    objects = zip(instances.class_labels, instances.masks, instances.boxes, drawn, strict=True)
    for label, mask, box, degree in objects:
        rows, columns = mask.nonzero()
        pixel = rng.integers(len(rows))  # drawn for all, so that degrees change nothing else
        point = [columns[pixel] + 0.5, rows[pixel] + 0.5]
        builder.add(
            int(label),
            False,
            mask if degree == Degree.MASK else None,
            box.tolist() if degree == Degree.BOX else None,
            point if degree == Degree.POINT else (),
        )
    return builder.instances()


def partly_annotated(
    sample: Sample, classes: Sequence[int], declared: bool, rng: np.random.Generator
) -> Sample:
    """The sample, in half of the images without the objects of some classes.

    Args:
        declared: whether it says that these may be missing.
    """
    if rng.random() >= MISSING_IN:
        return sample
    assert isinstance(sample.annotation, Instances)
    kept = ~np.isin(sample.annotation.class_labels, classes)
    incomplete = tuple(classes) if declared else ()
    return replace(sample, annotation=sample.annotation.select(kept), incomplete=incomplete)
