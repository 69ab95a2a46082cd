"""The completed annotation of a whole dataset, batch by batch, on any number of processes."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

from tqdm.auto import tqdm

from ...data.sample import BadSampleError
from ...errors import ConfigError
from ...processes import Processes
from .completed_folder import CompletedFolder
from .finishing import CompletionSummary
from .layers import CompletedImage, FirstLayer, Layer, SecondLayer
from .proposing import Proposer
from .rows import SetRows
from .sample import complete_sample

ERRORS = (BadSampleError, ConfigError)
ALONE = Processes()


def complete_images(
    folder: CompletedFolder, rows: SetRows, proposer: Proposer, processes: Processes = ALONE
) -> list[CompletionSummary]:
    """Complete the images that are not done yet, and write the files of all.

    Batches are cut from the rows by their places, and done as a whole: any number of processes
    looks at the same batches, also after a stop, and all write the same files together.

    Args:
        folder: of the dataset.
        rows: of the dataset.
        proposer: of the dataset. If it knows the words of the mix, a second layer is written, too.
        processes: that work together; each takes a batch in turn.

    Returns:
        What each layer came to; nothing on all processes but the main one.

    Raises:
        BadSampleError: on all processes, for an image that cannot be used, unless such are left
            out.
        ConfigError: on all processes, for a folder that cannot be written.
    """
    layers: list[Layer] = [FirstLayer(folder, processes)]
    if proposer.mix is not None:
        layers.append(SecondLayer(folder, proposer.mix, processes))
    done = _done_in_all(layers)
    with tqdm(
        total=len(rows), initial=len(done), unit="image", disable=not processes.is_main
    ) as bar:
        for batches in _turns(rows.left(done), proposer.batch_size, processes.world_size):
            own = batches[processes.rank]
            processes.together(partial(_complete_batch, own, rows, proposer, layers), *ERRORS)
            bar.update(sum(map(len, batches)))
    finished = processes.on_main(lambda: [layer.finish() for layer in layers], *ERRORS)
    return finished or []


def _done_in_all(layers: Sequence[Layer]) -> dict[str, int]:
    """The row of each image of which every layer is done, by its name."""
    first, *others = (layer.journals.row_of for layer in layers)
    return {name: row for name, row in first.items() if all(name in other for other in others)}


def _turns(rows: Iterator[int], batch_size: int, count: int) -> Iterator[list[list[int]]]:
    """What is left of `count` successive batches at a time, but for those of which nothing is."""
    for _, together in groupby(rows, key=lambda row: row // (batch_size * count)):
        batches: list[list[int]] = [[] for _ in range(count)]
        for row in together:
            batches[row // batch_size % count].append(row)
        yield batches


def _complete_batch(
    batch: Sequence[int], rows: SetRows, proposer: Proposer, layers: Sequence[Layer]
) -> None:
    """Complete the images of a batch, and note that they are done."""
    loaded = rows.samples(batch)
    if not loaded:
        return
    proposed = proposer.in_all_words([sample for _, _, sample in loaded])
    images = [
        CompletedImage(row, name, complete_sample(sample, proposer.spec, own), of_mix)
        for (row, name, sample), (own, of_mix) in zip(loaded, proposed, strict=True)
    ]
    for layer in layers:
        layer.add(images)


__all__ = ["complete_images"]
