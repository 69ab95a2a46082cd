"""Masks that are not all sure: the score of each object in a COCO file becomes its weight."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .readers.coco_json import image_key, json_items
from .sample import BadSampleError, Sample, SampleDataset


def with_confidence(data: SampleDataset, annotation_file: Path) -> SampleDataset:
    """The dataset with `weights` of its objects or segments: the `score` that the file gives each,
    1 where it gives none, and for objects of a map of classes, whose pixels are annotated.

    Args:
        data: as `read_coco_instances` or `read_coco_panoptic` read it from the file.
        annotation_file: in COCO's instances or panoptic format.

    Raises:
        ValueError: for a score out of 0..1, or a file without any. Loading an image raises
            BadSampleError where the file has more or fewer scores for it than the image has
            objects.
    """
    scores: dict[str, array[float]] = {}
    is_completed = False
    for entry in json_items(annotation_file, "annotations"):
        is_completed |= any("source" in one or "score" in one for one in _objects(entry))
        key = image_key(entry["image_id"], str(annotation_file))
        scores.setdefault(key, array("f")).extend(_scores(entry, f"{annotation_file}: image {key}"))
    if any(scores.values()) and not is_completed:
        raise ValueError(
            f"{annotation_file}: no object has a `score` or a `source`, so it is no completed "
            "annotation; take `completed` out of the entry"
        )
    return replace(data, load=partial(_load, load=data.load, scores=scores, file=annotation_file))


def _objects(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The objects of an entry in the order of the readers, which sort segments by their ids."""
    if "segments_info" not in entry:
        return [entry]
    return sorted(entry["segments_info"], key=lambda one: one["id"])


def _scores(entry: Mapping[str, Any], where: str) -> Iterator[float]:
    for one in _objects(entry):
        score = one.get("score")
        # of an object of a map of classes the score tells of the division; its pixels are annotated
        if score is None or one.get("source") == "class":
            yield 1.0
        elif isinstance(score, int | float) and 0 <= score <= 1:
            yield float(score)
        else:
            raise ValueError(f"{where}: `score` must be a number in 0..1, not {score!r}")


def _load(row: Any, *, load: Any, scores: Mapping[str, "array[float]"], file: Path) -> Sample:
    sample: Sample = load(row)
    found = np.array(scores.get(image_key(sample.image_id, str(file)), ()), dtype=np.float32)
    count = len(sample.annotation.class_labels)
    if len(found) != count:
        raise BadSampleError(
            f"{file}: image {sample.image_id}: {len(found)} scores for {count} objects; complete "
            "the set anew, or take `completed` out of its entry"
        )
    return replace(sample, annotation=replace(sample.annotation, weights=found))


__all__ = ["with_confidence"]
