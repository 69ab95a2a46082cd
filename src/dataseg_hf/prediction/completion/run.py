"""The completed annotation of a whole dataset, batch by batch, on any number of processes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path

from tqdm.auto import tqdm

from ...data.sample import BadSampleError
from ...errors import ConfigError
from ...processes import Processes
from ..labeling.journal import Batch
from .completed_folder import CompletedFolder, write_image
from .finishing import CompletionSummary, finish
from .folder import KEY
from .journals import Journals
from .proposing import Proposer
from .rows import SetRows
from .sample import complete_sample

ERRORS = (BadSampleError, ConfigError)
ALONE = Processes()


def complete_images(
    folder: CompletedFolder, rows: SetRows, proposer: Proposer, processes: Processes = ALONE
) -> CompletionSummary | None:
    """Complete the images that are not done yet, and write the files of all.

    Batches are cut from the rows by their places, and done as a whole: any number of processes
    looks at the same batches, also after a stop, and all write the same files together.

    Args:
        folder: of the dataset.
        rows: of the dataset.
        proposer: of the dataset.
        processes: that work together; each takes a batch in turn.

    Returns:
        What it came to; None on all processes but the main one.

    Raises:
        BadSampleError: on all processes, for an image that cannot be used, unless such are left
            out.
        ConfigError: on all processes, for a folder that cannot be written.
    """
    journals = Journals.read_by_all(folder.path, processes)
    with tqdm(
        total=len(rows), initial=len(journals), unit="image", disable=not processes.is_main
    ) as bar:
        left = rows.left(journals.row_of)
        for batches in _turns(left, proposer.batch_size, processes.world_size):
            own = batches[processes.rank]
            work = partial(_complete_batch, own, folder, rows, proposer, journals)
            processes.together(work, *ERRORS)
            bar.update(sum(map(len, batches)))
    return processes.on_main(partial(_finish, folder), *ERRORS)


def _turns(rows: Iterator[int], batch_size: int, count: int) -> Iterator[list[list[int]]]:
    """What is left of `count` successive batches at a time, but for those of which nothing is."""
    for _, together in groupby(rows, key=lambda row: row // (batch_size * count)):
        batches: list[list[int]] = [[] for _ in range(count)]
        for row in together:
            batches[row // batch_size % count].append(row)
        yield batches


def _complete_batch(
    batch: Sequence[int],
    folder: CompletedFolder,
    rows: SetRows,
    proposer: Proposer,
    journals: Journals,
) -> None:
    """Complete the images of a batch, and note that they are done."""
    loaded = rows.samples(batch)
    if not loaded:
        return
    proposals = proposer.of_batch([sample for _, _, sample in loaded])
    files = folder.files()
    with _writing(folder.path):
        journals.add(
            Batch(
                [
                    write_image(
                        complete_sample(sample, folder.spec, found), name, row, folder, files
                    )
                    for (row, name, sample), found in zip(loaded, proposals, strict=True)
                ]
            )
        )


def _finish(folder: CompletedFolder) -> CompletionSummary:
    """Write the files of all images, whichever process completed them."""
    with _writing(folder.path):
        return finish(folder, Journals(folder.path).entries())


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """ConfigError for what cannot be written."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{KEY}: cannot write to '{folder}': {error}; mend that, and the same command goes on"
        ) from error


__all__ = ["complete_images"]
