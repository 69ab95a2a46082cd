"""The CSV files of Open Images, as arrays.

Format: https://storage.googleapis.com/openimages/web/download_v7.html, "Data Formats".
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from ..sample import RawId
from .paths import read_text

NAMES = "*class-descriptions*.csv"
BOXES = "*annotations-bbox.csv"
MASKS = "*annotations-object-segmentation.csv"
LABELS = "*human-imagelabels*.csv"
HIERARCHY = "*hierarchy.json"

COLUMNS: Mapping[str, Mapping[str, pa.DataType]] = {
    BOXES: {
        "LabelName": pa.string(),
        "XMin": pa.float64(),
        "XMax": pa.float64(),
        "YMin": pa.float64(),
        "YMax": pa.float64(),
        "IsGroupOf": pa.float64(),
    },
    MASKS: {
        "MaskPath": pa.string(),
        "LabelName": pa.string(),
        "BoxXMin": pa.float64(),
        "BoxXMax": pa.float64(),
        "BoxYMin": pa.float64(),
        "BoxYMax": pa.float64(),
    },
    LABELS: {"LabelName": pa.string(), "Confidence": pa.float64()},
}
"""What is read of each kind of file, beside the column `ImageID`."""


@dataclass(frozen=True)
class Grouped:
    """Lines of a kind of file, image by image.

    Args:
        starts: int64 [images + 1], where the lines of each image start.
        columns: arrays of one length, by name.
    """

    starts: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]

    def of_image(self, number: int) -> Iterator[dict[str, Any]]:
        """The lines of an image, in the order of the files."""
        first, last = self.starts[number], self.starts[number + 1]
        parts = [values[first:last].tolist() for values in self.columns.values()]
        for values in zip(*parts, strict=True):
            yield dict(zip(self.columns, values, strict=True))


def find(folder: Path, pattern: str, subset: str | None = None) -> list[Path]:
    """The files below a folder whose name fits a pattern and has the subset between hyphens or at
    its beginning, sorted; without what macOS adds.
    """
    found = (path.relative_to(folder) for path in folder.rglob(pattern))
    return sorted(
        folder / path
        for path in found
        if not path.name.startswith(".")
        and "__MACOSX" not in path.parts
        and (subset is None or f"-{subset}-" in f"-{path.name}")
    )


def grouped_lines(paths: Sequence[Path], kind: str, image_ids: Sequence[str]) -> Grouped:
    """The lines of all files of one kind of `COLUMNS` that belong to one of the images. A file is
    read in blocks: memory grows with what is kept.

    Raises:
        ValueError: for what is no CSV, or lacks a column.
    """
    wanted = pa.array(image_ids, pa.string())
    schema = pa.schema([("image", pa.int64()), *COLUMNS[kind].items()])
    tables = [
        _kept(batch, wanted, schema) for path in paths for batch in _batches(path, COLUMNS[kind])
    ]
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    image = table.column("image").to_numpy()
    order = np.argsort(image, kind="stable")
    columns = {name: table.column(name).to_numpy()[order] for name in COLUMNS[kind]}
    return Grouped(np.searchsorted(image[order], np.arange(len(image_ids) + 1)), columns)


def _kept(batch: pa.RecordBatch, wanted: pa.Array, schema: pa.Schema) -> pa.Table:
    """The lines of wanted images, with the place of each in `wanted` as column `image`."""
    place = pc.index_in(batch.column("ImageID"), value_set=wanted)
    table = pa.Table.from_batches([batch]).drop_columns(["ImageID"])
    table = table.add_column(0, "image", place.cast(pa.int64()))
    return table.filter(pc.is_valid(place)).select(schema.names).cast(schema)


def _batches(path: Path, columns: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    types = {"ImageID": pa.string(), **columns}
    options = pyarrow.csv.ConvertOptions(column_types=types, include_columns=list(types))
    try:
        yield from pyarrow.csv.open_csv(path, convert_options=options)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise ValueError(
            f"{path}: not a CSV of Open Images with the columns {list(types)} ({error}); download "
            "or export it anew"
        ) from error


def class_names(paths: Sequence[Path]) -> dict[RawId, str]:
    """Names of the classes by their ids (`/m/0cmf2`); with or without a header, as the versions
    differ in it.

    Raises:
        ValueError: for lines of another number of columns.
    """
    names: dict[RawId, str] = {}
    for path in paths:
        for number, line in enumerate(csv.reader(read_text(path).splitlines()), start=1):
            if len(line) != 2:
                raise ValueError(
                    f"{path}, line {number}: expected an id and a name, not {line}; download it "
                    "anew"
                )
            if line[0] not in ("LabelName", "id"):
                names[line[0]] = line[1]
    return names


def parts_of_classes(paths: Sequence[Path]) -> dict[str, set[str]]:
    """Ids of all narrower classes, by the id of the wider one (a person may be a woman).

    Raises:
        ValueError: for a file that is no such hierarchy.
    """
    narrower: dict[str, set[str]] = {}
    for path in paths:
        try:
            _collect(json.loads(read_text(path)), narrower)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: not a class hierarchy of Open Images ({error!r}); download it anew"
            ) from error
    return narrower


def _collect(node: Mapping[str, Any], narrower: dict[str, set[str]]) -> set[str]:
    """The ids of a class and of all below it, entered on the way."""
    own, below = node["LabelName"], set[str]()
    for child in node.get("Subcategory", ()):
        below |= _collect(child, narrower)
    narrower.setdefault(own, set()).update(below)
    return {own} | below
