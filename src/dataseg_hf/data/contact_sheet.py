"""Some images of a dataset beside their annotation, as one picture: what a wrong id map looks like at a glance."""

from collections.abc import Sequence
from itertools import islice

from PIL import Image

from ..visualization import boxes_overlay, overlay, prediction_grid
from .sample import DatasetSpec, Sample, SampleDataset, SampleStream, Segments

CELL_WIDTH = 480  # pixels
MOST_TITLE = 48  # characters that fit above a cell


def samples_at(data: SampleDataset | SampleStream, positions: Sequence[int], count: int) -> list[Sample]:
    """At most `count` samples of those at ascending positions, evenly spaced; the first of a stream (read anew)."""
    if isinstance(data, SampleStream):
        wanted = set(positions[:count])
        rows = islice(data.epoch(0), max(wanted, default=-1) + 1)
        return [data.load(row) for number, row in enumerate(rows) if number in wanted]
    count = min(count, len(positions))
    return [data[positions[i * len(positions) // count]] for i in range(count)]


def contact_sheet(samples: Sequence[Sample], spec: DatasetSpec) -> Image.Image:
    """A row per sample: its file name above the image, beside it segments or masks, and boxes, with the class names.

    Raises:
        ValueError: for no samples.
    """
    if not samples:
        raise ValueError(f"dataset '{spec.name}': a contact sheet needs at least one sample")
    return stacked([_sample_row(sample, spec) for sample in samples])


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures below each other, white beside the narrower ones."""
    sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet


def _sample_row(sample: Sample, spec: DatasetSpec) -> Image.Image:
    image, annotation = Image.fromarray(sample.image), sample.annotation
    names = [*spec.labels, *(f"{label} (crowd)" for label in spec.labels)]
    labels = annotation.class_labels + len(spec.labels) * annotation.is_crowd
    segments = [{"id": number, "label_id": label} for number, label in enumerate(labels.tolist())]
    cells, titles = [image], [sample.file_name[-MOST_TITLE:]]
    if isinstance(annotation, Segments):
        cells.append(overlay(image, annotation.segment_map, segments, names))
        titles.append("segments")
    else:
        if annotation.masks is not None:
            order = annotation.masks.sum(axis=(1, 2)).argsort()  # the small ones on top
            cells.append(overlay(image, annotation.masks[order], [segments[i] for i in order], names))
            titles.append("masks")
        cells.append(boxes_overlay(image, annotation.boxes, labels.tolist(), names))
        titles.append("boxes")
    return prediction_grid([cells], titles, CELL_WIDTH)
