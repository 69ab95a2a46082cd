"""Some images of a dataset beside their annotation, as one picture: what a wrong id map looks like
at a glance.
"""

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.sample import DatasetSpec, Instances, Sample, SampleDataset, SampleStream, Segments
from ..model.degrees_dataseg import Degree
from .overlay import boxes_overlay, overlay, prediction_grid

CELL_WIDTH = 320  # pixels
MAX_TITLE = 32  # characters that fit above a cell
POINT_MARGIN = 3  # pixels of the box around points
_COLUMNS = 2  # samples beside each other, so that six of them fill a screen


def samples_at(
    data: SampleDataset | SampleStream, positions: Sequence[int], count: int
) -> list[Sample]:
    """At most `count` samples of those at ascending positions, evenly spaced; the first of a stream
    (read anew).
    """
    if isinstance(data, SampleStream):
        wanted = set(positions[:count])
        rows = islice(data.epoch(0), max(wanted, default=-1) + 1)
        return [data.load(row) for number, row in enumerate(rows) if number in wanted]
    count = min(count, len(positions))
    return [data[positions[i * len(positions) // count]] for i in range(count)]


def contact_sheet(
    samples: Sequence[Sample], spec: DatasetSpec, ignored_as: str = "crowd"
) -> Image.Image:
    """A grid of samples: each with its file name above the image, beside it segments or masks, and
    boxes, with names.

    Args:
        samples: one or more.
        spec: of their dataset.
        ignored_as: the dataset's own word for objects that are neither target nor background.

    Raises:
        ValueError: for no samples.
    """
    if not samples:
        raise ValueError(f"dataset '{spec.name}': a contact sheet needs at least one sample")
    return in_grid([_sample_row(sample, spec, ignored_as) for sample in samples], _COLUMNS)


def in_grid(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures row by row, each row as high as its highest one, white where there is none."""
    columns = min(columns, len(pictures))
    width = max(picture.width for picture in pictures)
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    sheet = Image.new(
        "RGB", (columns * width, sum(max(p.height for p in row) for row in rows)), "white"
    )
    top = 0
    for row in rows:
        for column, picture in enumerate(row):
            sheet.paste(picture, (column * width, top))
        top += max(picture.height for picture in row)
    return sheet


def _sample_row(sample: Sample, spec: DatasetSpec, ignored_as: str) -> Image.Image:
    image, annotation = Image.fromarray(sample.image), sample.annotation
    names = [*spec.labels, *(f"{label} ({ignored_as})" for label in spec.labels)]
    labels = annotation.class_labels + len(spec.labels) * annotation.is_crowd
    segments = [{"id": number, "label_id": label} for number, label in enumerate(labels.tolist())]
    cells, titles = [image], [sample.file_name[-MAX_TITLE:]]
    if isinstance(annotation, Segments):
        cells.append(overlay(image, annotation.segment_map, segments, names))
        titles.append("segments")
    else:
        if annotation.masks is not None:
            areas = annotation.masks.sum(axis=(1, 2))
            order = areas.argsort()[np.count_nonzero(areas == 0) :]  # the small ones on top
            cells.append(
                overlay(image, annotation.masks[order], [segments[i] for i in order], names)
            )
            titles.append("masks")
        placed, boxes = _places(annotation)
        cells.append(boxes_overlay(image, boxes, labels[placed].tolist(), names))
        titles.append("boxes")
    return prediction_grid([cells], titles, CELL_WIDTH)


def _places(instances: Instances) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Which objects have a place, and their boxes [K, 4]; that of points is drawn around them."""
    if instances.degrees is None:
        return np.arange(len(instances)), instances.boxes
    placed = np.flatnonzero(instances.degrees != Degree.TAG)
    boxes = instances.boxes[placed].copy()
    for box, number in zip(boxes, placed.tolist(), strict=True):
        if instances.degrees[number] == Degree.POINT and instances.points is not None:
            points = instances.points[number]
            box[:2] = np.nanmin(points, axis=0) - POINT_MARGIN
            box[2:] = np.nanmax(points, axis=0) + POINT_MARGIN
    return placed, boxes
