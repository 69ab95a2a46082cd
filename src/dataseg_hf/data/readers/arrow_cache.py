"""Annotations copied once into an Arrow file and mapped from there, so that they are not held in
memory.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
from datasets import Dataset
from filelock import FileLock

_END = b"\xff\xff\xff\xff\0\0\0\0"
"""End of an Arrow stream (https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format)."""
_FORMAT = 2  # part of every key; to be raised when a writer's columns change


def cached_rows(
    source: Path, kind: str, schema: pa.Schema, write: Callable[[pa.RecordBatchStreamWriter], None]
) -> Dataset:
    """The rows that `write` makes of a file, mapped from the cache folder of `datasets`; written
    when it changed.

    Args:
        source: the file; its path, size and time of change are the key.
        kind: what is read out of it, part of the key.
        schema: the columns.
        write: writes record batches of that schema; what it raises leaves no cache behind.

    Raises:
        OSError: for a cache folder that cannot be made.
    """
    stat = source.stat()
    identity = f"{_FORMAT} {kind} {source.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "dataseg_hf"
    path = folder / f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.arrow"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{folder}: the cache of annotations cannot be made ({error.strerror}); set "
            "HF_DATASETS_CACHE to a folder that can be written"
        ) from error
    with FileLock(f"{path}.lock"):  # the processes of one run ask for it at the same time
        if not _is_whole(path):
            unfinished = path.with_suffix(".unfinished")
            try:
                with (
                    pa.OSFile(str(unfinished), "wb") as sink,
                    pa.ipc.new_stream(sink, schema) as writer,
                ):
                    write(writer)
                os.replace(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)
    return Dataset.from_file(str(path))


def _is_whole(path: Path) -> bool:
    """Whether a file is there and ends as an Arrow stream does: one that was cut would seem to have
    fewer rows.
    """
    if not path.is_file() or path.stat().st_size < len(_END):
        return False
    with path.open("rb") as file:
        file.seek(-len(_END), os.SEEK_END)
        return file.read() == _END
