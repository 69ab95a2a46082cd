"""Doubts about an annotation as pictures: what is annotated, and what a model sees."""

from collections.abc import Sequence

from PIL import Image

from ..data.sample import DatasetSpec, Sample
from ..prediction.doctor import Doubt
from .contact_sheet import CELL_WIDTH, MAX_TITLE, contact_sheet, in_grid
from .overlay import prediction_grid, segments_overlay


def suggestion_sheet(
    found: Sequence[tuple[Sample, Doubt]], spec: DatasetSpec, labels: Sequence[str]
) -> Image.Image:
    """A row for each doubt: the image, its annotation, and what the model sees.

    Args:
        found: one or more.
        spec: of the dataset.
        labels: names of all categories, as segments of doubts count them.

    Raises:
        ValueError: for none.
    """
    if not found:
        raise ValueError("a sheet of suggestions needs at least one")
    return in_grid([_row(sample, doubt, spec, labels) for sample, doubt in found], 1)


def _row(sample: Sample, doubt: Doubt, spec: DatasetSpec, labels: Sequence[str]) -> Image.Image:
    seen = segments_overlay(Image.fromarray(sample.image), [doubt.segment], labels)
    title = f"{doubt.kind} ({doubt.score:.2f})"[:MAX_TITLE]
    cells = [contact_sheet([sample], spec), prediction_grid([[seen]], [title], CELL_WIDTH)]
    size = (sum(cell.width for cell in cells), max(cell.height for cell in cells))
    row = Image.new("RGB", size, "white")
    row.paste(cells[0])
    row.paste(cells[1], (cells[0].width, 0))
    return row


__all__ = ["suggestion_sheet"]
