"""Rows of a streaming dataset in an order that is a function of a seed.

`IterableDataset.shuffle` is not used: its algorithm changes with the version of `datasets`, so that
a run could not be repeated with another, and its rows cannot be numbered in the order in which they
are stored.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from datasets import IterableDataset
from torch.utils.data import get_worker_info

Row = TypeVar("Row")

# read in turn: neighbors in a file are often alike, and a buffer alone mixes them little
OPEN_SHARDS = 8


def shuffled_rows(
    seed: int, *, stream: IterableDataset, buffer_size: int, number_column: str
) -> Iterator[dict[str, Any]]:
    """Every row of a stream once: its shards in random order, `OPEN_SHARDS` of them in turn,
    through a buffer.

    The order depends on the seed, the shards and `buffer_size` alone. `number_column` is added to
    the rows: "shard-row", both from 0, in the order in which they are stored.

    Raises:
        RuntimeError: in a worker process of a DataLoader, where `datasets` would leave rows out.
        ValueError: if there is no row.
    """
    if get_worker_info() is not None:
        raise RuntimeError(
            "a stream must be read in the main process; only its rows are loaded in workers"
        )
    rng = np.random.default_rng(seed)
    shards = [
        _numbered(stream, shard, number_column)
        for shard in rng.permutation(stream.num_shards).tolist()
    ]
    empty = True
    for row in shuffled(in_turn(shards, OPEN_SHARDS), buffer_size, rng):
        empty = False
        yield row
    if empty:
        raise ValueError("the stream has no rows")


def _numbered(stream: IterableDataset, shard: int, number_column: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(stream.shard(num_shards=stream.num_shards, index=shard)):
        yield {**row, number_column: f"{shard}-{number}"}


def in_turn(sources: Iterable[Iterator[Row]], width: int) -> Iterator[Row]:
    """One item of each of `width` sources in turn; a source that ends makes room for the next
    one.
    """
    waiting = iter(sources)
    current = list(islice(waiting, width))
    while current:
        unfinished = []
        for source in current:
            for item in islice(source, 1):
                yield item
                unfinished.append(source)
        current = [*unfinished, *islice(waiting, width - len(unfinished))]


def shuffled(items: Iterator[Row], buffer_size: int, rng: np.random.Generator) -> Iterator[Row]:
    """Every item once; each leaves a buffer of `buffer_size` at random as the next one comes in."""
    buffer = list(islice(items, buffer_size))
    for item in items:
        place = int(rng.integers(buffer_size))
        yield buffer[place]
        buffer[place] = item
    for place in rng.permutation(len(buffer)).tolist():
        yield buffer[place]
