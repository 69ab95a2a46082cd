"""Classes renamed, merged or made void by hand, as MSeg (Lambert et al., CVPR 2020) unifies label
sets.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.tasks_dataseg import get_task
from .sample import (
    Annotation,
    ClassInfo,
    DatasetSpec,
    Instances,
    Sample,
    SampleDataset,
    SampleStream,
    Segments,
)


def map_categories(
    data: SampleDataset | SampleStream, category_map: Mapping[str, str | None]
) -> SampleDataset | SampleStream:
    """The dataset in other classes.

    Args:
        category_map: from class names to new ones; classes of one new name become one class, None
            means void (pixels become unlabeled, objects are left out), and classes that are not
            named stay.
    """
    spec = mapped_spec(data.spec, category_map)
    index = {label: number for number, label in enumerate(spec.labels)}
    new_names = [category_map.get(label, label) for label in data.spec.labels]
    class_of = np.array([-1 if name is None else index[name] for name in new_names], dtype=np.int64)
    one_segment = get_task(spec.task).merged_categories(np.array(spec.is_thing, dtype=bool))
    return replace(
        data,
        spec=spec,
        load=partial(_load, load=data.load, class_of=class_of, one_segment=one_segment),
    )


def mapped_spec(spec: DatasetSpec, category_map: Mapping[str, str | None]) -> DatasetSpec:
    """The facts of the dataset in its new classes, in the order in which they first occur.

    Raises:
        ValueError: for a class that the dataset does not have, a new class of things and stuff, or
            no class left.
    """
    unknown = sorted(set(category_map) - set(spec.labels))
    if unknown:
        raise ValueError(
            f"dataset '{spec.name}' has no class {unknown}; its classes are {spec.labels}"
        )
    is_thing: dict[str, bool] = {}
    open_names = set()
    for c in spec.classes:
        name = category_map.get(c.name, c.name)
        if not c.exhaustive:
            open_names.add(name)
        if name is not None and is_thing.setdefault(name, c.is_thing) != c.is_thing:
            raise ValueError(
                f"'{name}' would merge countable and uncountable classes; keep them apart"
            )
    if not is_thing:
        raise ValueError("no class is left; map at least one to a name")
    index = {name: number for number, name in enumerate(is_thing)}
    named = {
        raw_id: category_map.get(spec.labels[old], spec.labels[old])
        for raw_id, old in spec.id_map.items()
    }
    return replace(
        spec,
        classes=tuple(
            ClassInfo(name, thing, exhaustive=name not in open_names)
            for name, thing in is_thing.items()
        ),
        id_map={raw_id: index[name] for raw_id, name in named.items() if name is not None},
        void_ids=spec.void_ids | {raw_id for raw_id, name in named.items() if name is None},
    )


def _load(
    row: Any,
    *,
    load: Callable[[Any], Sample],
    class_of: NDArray[np.int64],
    one_segment: NDArray[np.bool_],
) -> Sample:
    sample = load(row)
    incomplete = sorted({int(class_of[old]) for old in sample.incomplete} - {-1})
    annotation: Annotation
    if isinstance(sample.annotation, Instances):
        annotation = _instances(sample.annotation, class_of)
    else:
        annotation = _segments(sample.annotation, class_of, one_segment)
    return replace(sample, annotation=annotation, incomplete=incomplete)


def _instances(instances: Instances, class_of: NDArray[np.int64]) -> Instances:
    classes = class_of[instances.class_labels]
    return replace(instances, class_labels=classes).select(classes >= 0)


def _segments(
    segments: Segments, class_of: NDArray[np.int64], one_segment: NDArray[np.bool_]
) -> Segments:
    """Segments in new classes; those of one class of stuff are joined, crowds apart, and weigh as
    the least of them.
    """
    new_index: list[int] = []
    joined: dict[Any, int] = {}
    labels: list[tuple[int, bool]] = []
    weights: NDArray[np.float32] | None = None
    listed = zip(segments.class_labels.tolist(), segments.is_crowd.tolist(), strict=True)
    for place, (old, crowd) in enumerate(listed):
        label = int(class_of[old])
        if label < 0:
            new_index.append(-1)
            continue
        key = (label, crowd) if one_segment[label] else place
        if key not in joined:
            joined[key] = len(labels)
            labels.append((label, crowd))
        new_index.append(joined[key])
    if segments.weights is not None:
        weights = np.ones(len(labels), dtype=np.float32)
        kept = np.array(new_index) >= 0
        np.minimum.at(weights, np.array(new_index)[kept], segments.weights[kept])
    # the last entry is where void (-1) looks itself up
    with_void = np.array([*new_index, -1], dtype=np.int32)
    return Segments(
        with_void[segments.segment_map],
        np.array([label for label, _ in labels], dtype=np.int64),
        np.array([crowd for _, crowd in labels], dtype=bool),
        weights,
    )
