"""What makes a dataset as a whole teach nothing, or the wrong thing, told without loading its
images.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..messages import first_few
from .name_checks import contradictions_text, name_contradictions
from .sample import Census, DatasetSpec, SampleDataset, SampleStream

_MAX_NAMED = 8


def dataset_faults(data: SampleDataset | SampleStream) -> list[str]:
    """Faults for which the dataset must not be trained on, one line each with the remedy."""
    found = name_contradictions(data.spec, data.stated_names)
    return [contradictions_text(found)] if found else []


def doubts(data: SampleDataset, num_queries: int) -> list[str]:
    """What a user should know before training on a dataset whose reader has counted its objects,
    one line each.
    """
    if data.census is None:
        return []
    return [
        *ignored_objects(data, data.census),
        *too_many_targets(data.census, num_queries),
        *classes_without_target(data.spec, data.census),
    ]


def ignored_objects(data: SampleDataset | SampleStream, census: Census) -> list[str]:
    """Whether all objects, or all of some classes, are neither target nor background, in one text
    at most.
    """
    word, remedy = "crowd", ""
    if isinstance(data, SampleDataset):
        word, remedy = data.ignored_as, data.ignored_remedy
    if not remedy:
        switch = f"set `options: {{{word}: as_objects}}`"
        remedy = f"where they are ordinary objects, as several exporters write masks, {switch}"
    return [*all_ignored(census, word, remedy), *ignored_classes(data.spec, census, word, remedy)]


def all_ignored(census: Census, ignored_as: str, remedy: str) -> list[str]:
    """Whether no object is left to learn from, in one text."""
    total = int(census.objects.sum())
    if total == 0 or total != census.crowds.sum():
        return []
    return [f"all {total} objects are marked {ignored_as}, so that nothing is learned: {remedy}"]


def ignored_classes(spec: DatasetSpec, census: Census, ignored_as: str, remedy: str) -> list[str]:
    """Classes of which every object is ignored while others are not, in one text."""
    ignored = (census.objects > 0) & (census.objects == census.crowds)
    if not ignored.any() or ignored[census.objects > 0].all():
        return []
    return [
        f"every object of {_named(spec, ignored)} is marked {ignored_as}, so that this is not "
        f"learned: {remedy}"
    ]


def classes_without_target(spec: DatasetSpec, census: Census) -> list[str]:
    """Classes of the spec that never occur, in one text."""
    absent = census.objects == 0
    if not absent.any():
        return []
    return [
        f"{int(absent.sum())} of {len(spec.classes)} classes never occur: {_named(spec, absent)}"
    ]


def too_many_targets(census: Census, num_queries: int) -> list[str]:
    """Whether every image has more objects than the model has mask proposals, in one text."""
    if census.fewest <= num_queries:
        return []
    return [
        f"every image has more objects (at least {census.fewest}) than the model has queries "
        f"({num_queries}), so that "
        "the rest of them is lost: raise `model.num_queries`, or cut the images into tiles"
    ]


def _named(spec: DatasetSpec, chosen: NDArray[np.bool_]) -> str:
    names: Sequence[str] = [spec.labels[index] for index in np.flatnonzero(chosen).tolist()]
    return first_few(names, _MAX_NAMED)
