"""The rows of a dataset in the making, with memory that does not grow with them."""

import atexit
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import datasets
import pyarrow as pa
from datasets import Dataset

from ..sample import BadSampleError, SampleDataset
from .paths import MissingImageError, MissingImages, StrPath

_ROWS_PER_BATCH = 1_000  # as Python objects, rows take many times their Arrow size


class Rows:
    """Rows of a dataset in the making, as Arrow columns, beside the problems of images that had to
    be left out.

    Where there are more than `_ROWS_PER_BATCH`, they go into a file in the cache folder of
    `datasets`, from which they are mapped; it is deleted when the process ends.

    Args:
        schema: type of each column.
        missing_images: whether an image that is not there is a problem ("error") or counted in
            `absent` ("skip").
    """

    def __init__(
        self, schema: Mapping[str, pa.DataType], missing_images: MissingImages = "error"
    ) -> None:
        self.schema = pa.schema(list(schema.items()))
        self.missing_images = missing_images
        self.problems: list[BadSampleError] = []
        self.absent = 0
        self._pending: list[dict[str, Any]] = []
        self._file: Path | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None

    def add(self, **row: Any) -> None:
        """Append a row."""
        self._pending.append(row)
        if len(self._pending) > _ROWS_PER_BATCH:
            self._write()

    @contextmanager
    def image(self) -> Iterator[None]:
        """Within it, a BadSampleError becomes a problem of one image, and the others go on."""
        try:
            yield
        except BadSampleError as error:
            if isinstance(error, MissingImageError) and self.missing_images == "skip":
                self.absent += 1
            else:
                self.problems.append(error)

    def absent_notes(self, total: int, what: str) -> list[str]:
        """The note on images that are left out because they are not there.

        Args:
            what: which of the `total` images have none, and where.
        """
        return [f"{self.absent} of {total} {what}: left out"] if self.absent else []

    def dataset(self, sort_by: str | None = None) -> Dataset:
        """All rows, in the order of a column where one is named; no more can be added."""
        if self._writer is None:
            rows = Dataset(pa.Table.from_batches([self._batch()], schema=self.schema))
        else:
            self._write()
            self._writer.close()
            rows = Dataset.from_file(str(self._file))
        if sort_by is None:
            return rows
        keys = rows.data.column(sort_by).to_pylist()
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return rows if order == list(range(len(keys))) else rows.select(order)

    def _batch(self) -> pa.RecordBatch:
        batch = pa.RecordBatch.from_pylist(self._pending, schema=self.schema)
        self._pending = []
        return batch

    def _write(self) -> None:
        if self._writer is None:
            folder = Path(datasets.config.HF_DATASETS_CACHE) / "dataseg_hf"
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(
                dir=folder, prefix="rows-", suffix=".arrow", delete=False
            ) as file:
                self._file = Path(file.name)
            atexit.register(self._file.unlink, missing_ok=True)
            self._writer = pa.ipc.new_stream(str(self._file), self.schema)
        self._writer.write_batch(self._batch())


def id_type(image_ids: Iterable[int | str], where: StrPath) -> pa.DataType:
    """The Arrow type of image ids.

    Raises:
        ValueError: if some are numbers and some are words.
    """
    kinds = {type(image_id) for image_id in image_ids}
    if kinds <= {int}:
        return pa.int64()
    if kinds == {str}:
        return pa.string()
    raise ValueError(
        f"{where}: image ids must be all numbers or all words, but are "
        f"{sorted(k.__name__ for k in kinds)}"
    )


def require_images(data: SampleDataset, folder: StrPath) -> SampleDataset:
    """The dataset itself.

    Raises:
        ValueError: if nothing was found in the folder, not even an image with a problem.
    """
    if len(data) == 0 and not data.problems:
        raise ValueError(
            f"dataset '{data.spec.name}': no images in {folder}; check the path and the file name "
            "endings"
        )
    return data
