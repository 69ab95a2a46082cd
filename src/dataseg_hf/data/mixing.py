"""Which images each step trains on: one dataset per step, drawn by its ratio; a function of (seed,
step).

The order is made in the main process from indices; workers only load the samples named. So it is
the same for any number of workers and processes, and a resumed run continues it exactly. A streamed
dataset has no indices: its rows are read one after the other in the main process, undecoded, and
workers decode them. Its order is a function of (seed, epoch) too, but every process reads the whole
stream, and a resumed run reads again what the epoch had passed.
"""

import atexit
import signal
import sys
import warnings
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import Any

import numpy as np
import torch
from datasets import IterableDataset, interleave_datasets
from torch.utils.data import DataLoader, Dataset

from .collate import Normalization, collate
from .micro_batch import MicroBatch
from .reduced_decoding import decoded_for
from .sample import BadSampleError, Sample, SampleDataset, SampleStream, TaskName
from .transforms import Augmentation, TransformedSample, augment

CPU = torch.device("cpu")


@dataclass(frozen=True)
class TrainingSet:
    """One dataset of the mix: its data and how this run uses it.

    Args:
        ratio: share of the steps, relative to the other datasets'.
        batch_size: images per optimizer step, over all processes and micro-batches.
        split_things: semantic targets of thing classes are connected parts.
        keep_in_memory: hold decoded samples (each worker its own); for small sets only.
        skip_bad_samples: replace an image that cannot be used by another one instead of raising.
        in_every_step: a step takes a batch of each dataset, and the ratio is its share of the loss;
            so of all datasets or of none.
        reduced_decoding: decode JPEGs no larger than augmentation needs them, see `decoded_for`.
    """

    name: str
    data: SampleDataset | SampleStream
    ratio: float
    batch_size: int
    augmentation: Augmentation
    loss_weights: Mapping[str, float]
    split_things: bool = False
    keep_in_memory: bool = False
    skip_bad_samples: bool = False
    in_every_step: bool = False
    reduced_decoding: bool = True

    @property
    def task(self) -> TaskName:
        """The task whose annotation the data carries."""
        return self.data.spec.task

    @property
    def size(self) -> int | None:
        """Number of images; None where a stream does not tell."""
        return self.data.size if isinstance(self.data, SampleStream) else len(self.data)


def batches_per_step(datasets: Sequence[TrainingSet]) -> int:
    """Batches in a step: 1, where a dataset is drawn for each step, else one of each dataset."""
    return len(datasets) if all(dataset.in_every_step for dataset in datasets) else 1


@dataclass(frozen=True)
class Item:
    """One image of one step.

    Args:
        dataset: its number in the mix.
        index: in the dataset's data; of a streamed dataset, the place in its endless stream.
        seed: of everything random about it.
        row: what the stream gave there.
    """

    dataset: int
    index: int
    seed: int
    row: Any = field(default=None, compare=False)


def _index_batches(dataset: int, size: int | None, batch_size: int, seed: int) -> Iterator[dict]:
    """Endless batches of indices; each epoch is a new permutation, and batches run on across
    epochs.

    Without a size (streams) the indices count up: the place of each image in the endless stream.
    """
    rest: list[int] = []
    for epoch in count():
        if size is None:
            order = list(range(epoch * batch_size, (epoch + 1) * batch_size))
        else:
            order = [
                *rest,
                *np.random.default_rng([seed, dataset, epoch]).permutation(size).tolist(),
            ]
        whole = len(order) - len(order) % batch_size
        for first in range(0, whole, batch_size):
            yield {"dataset": dataset, "indices": order[first : first + batch_size]}
        rest = order[whole:]


def mixing_order(
    sizes: Sequence[int | None], batch_sizes: Sequence[int], ratios: Sequence[float], seed: int
) -> Iterator[tuple[int, list[int]]]:
    """Endless (dataset, indices of its batch), one per optimizer step; a function of the arguments
    alone.
    """
    streams = [
        IterableDataset.from_generator(
            _index_batches,
            gen_kwargs={"dataset": dataset, "size": size, "batch_size": batch_size, "seed": seed},
        )
        for dataset, (size, batch_size) in enumerate(zip(sizes, batch_sizes, strict=True))
    ]
    shares = [ratio / sum(ratios) for ratio in ratios]
    mixed = interleave_datasets(
        streams, probabilities=shares, seed=seed, stopping_strategy="all_exhausted"
    )
    for batch in mixed:
        yield batch["dataset"], batch["indices"]


def _stream_rows(
    stream: SampleStream, name: str, dataset: int, seed: int, first: int
) -> Iterator[Any]:
    """The endless rows of a stream from place `first` on, epoch after epoch, each in an order of
    its own.
    """
    first_epoch, skipped = (0, first) if stream.size is None else divmod(first, stream.size)
    for epoch in count(first_epoch):
        rows = 0
        for row in stream.epoch(item_seed(seed, dataset, epoch)):
            rows += 1
            if skipped:
                skipped -= 1
            else:
                yield row
        if stream.size is not None and rows != stream.size:
            warnings.warn(
                f"dataset '{name}': an epoch has {rows} rows, but its card says {stream.size}; a "
                "run resumed in a later epoch would not continue in the same place",
                stacklevel=2,
            )
        if rows == 0:
            message = "has no images: its stream ended before the first row"
            raise BadSampleError(f"dataset '{name}' {message}")


class MixingSampler:
    """Batch sampler of one process: its micro-batches of every step from `first_step` to
    `last_step` (exclusive).
    """

    def __init__(
        self,
        datasets: Sequence[TrainingSet],
        seed: int,
        first_step: int,
        last_step: int,
        micro_batches: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        for dataset in datasets:
            if dataset.size == 0:
                raise ValueError(f"dataset '{dataset.name}' has no images")
            if dataset.batch_size % (micro_batches * world_size):
                raise ValueError(
                    f"dataset '{dataset.name}': batch_size {dataset.batch_size} is not divisible "
                    f"by {world_size} processes x {micro_batches} accumulation steps"
                )
        self.datasets = datasets
        self.seed = seed
        self.first_step, self.last_step = first_step, last_step
        self.micro_batches, self.rank, self.world_size = micro_batches, rank, world_size

    def __len__(self) -> int:
        batches = batches_per_step(self.datasets)
        return (self.last_step - self.first_step) * batches * self.micro_batches

    def __iter__(self) -> Iterator[list[Item]]:
        streams: dict[int, Iterator[Any]] = {}
        for step, batches in islice(enumerate(self._steps()), self.first_step, self.last_step):
            places = count()
            for dataset, indices in batches:
                rows = self._rows(streams, dataset, indices)
                items = [
                    Item(dataset, index, item_seed(self.seed, step, place), row)
                    # places never end
                    for index, row, place in zip(indices, rows, places, strict=False)
                ]
                own = items[self.rank :: self.world_size]
                share = len(own) // self.micro_batches
                for first in range(0, len(own), share):
                    yield own[first : first + share]

    def _steps(self) -> Iterator[list[tuple[int, list[int]]]]:
        """The batches (dataset, indices) of each step, endless."""
        sizes = [
            None if isinstance(dataset.data, SampleStream) else len(dataset.data)
            for dataset in self.datasets
        ]
        batch_sizes = [dataset.batch_size for dataset in self.datasets]
        if batches_per_step(self.datasets) > 1:
            streams = [
                _index_batches(number, size, batch_size, self.seed)
                for number, (size, batch_size) in enumerate(zip(sizes, batch_sizes, strict=True))
            ]
            while True:
                yield [(number, next(stream)["indices"]) for number, stream in enumerate(streams)]
        for batch in mixing_order(
            sizes, batch_sizes, [dataset.ratio for dataset in self.datasets], self.seed
        ):
            yield [batch]

    def _rows(
        self, streams: dict[int, Iterator[Any]], dataset: int, indices: Sequence[int]
    ) -> list[Any]:
        """The rows of a streamed dataset's batch; its stream is opened at its first batch of this
        sampler.
        """
        data, name = self.datasets[dataset].data, self.datasets[dataset].name
        if not isinstance(data, SampleStream):
            return [None] * len(indices)
        if dataset not in streams:
            streams[dataset] = _stream_rows(data, name, dataset, self.seed, first=indices[0])
        return list(islice(streams[dataset], len(indices)))


def item_seed(seed: int, step: int, place: int) -> int:
    """Seed of the image at a place of a step's batch: 31 bits, the same on any number of
    processes.
    """
    return int(np.random.SeedSequence([seed, step, place]).generate_state(1)[0]) >> 1


class _MixedSamples(Dataset):
    """Loads and augments the images of a micro-batch; runs in the workers."""

    def __init__(
        self,
        datasets: Sequence[TrainingSet],
        normalization: Normalization,
    ) -> None:
        self.datasets = datasets
        self.normalization = normalization
        self.memory: dict[tuple[int, int], Sample] = {}

    def __getitems__(self, items: list[Item]) -> MicroBatch | BadSampleError:
        """The micro-batch; or the error, since raised in a worker it would lose its one-line
        message.
        """
        dataset = self.datasets[items[0].dataset]
        skipped: list[str] = []
        try:
            samples = [self._augmented(item, items, skipped) for item in items]
        except BadSampleError as error:
            return BadSampleError(f"dataset '{dataset.name}': {error}")
        inputs = collate(
            samples,
            canvas=dataset.augmentation.image_size,
            task=dataset.task,
            normalization=self.normalization,
            split_classes=dataset.data.spec.is_thing if dataset.split_things else None,
            exhaustive=[c.exhaustive for c in dataset.data.spec.classes],
            objects_only=dataset.data.spec.annotated == "objects",
        )
        seeds, image_ids = [item.seed for item in items], [sample.image_id for sample in samples]
        return MicroBatch(items[0].dataset, inputs, seeds, image_ids, skipped)

    def _augmented(
        self, item: Item, batch: Sequence[Item], skipped: list[str]
    ) -> TransformedSample:
        """The item's image; where it cannot be used and that is allowed, the next one that can,
        with a message.
        """
        dataset = self.datasets[item.dataset]
        for candidate in chain([item], self._substitutes(item, batch)):
            try:
                return augment(
                    self._sample(candidate), dataset.augmentation, np.random.default_rng(item.seed)
                )
            except BadSampleError as error:
                if not dataset.skip_bad_samples:
                    raise
                skipped.append(f"dataset '{dataset.name}': {error}")
        raise BadSampleError(f"none of its images can be used, the last: {skipped[-1]}")

    def _substitutes(self, item: Item, batch: Sequence[Item]) -> Iterator[Item]:
        """Where else to look, in a fixed order: the images after it, or of a stream, those of the
        same micro-batch.
        """
        if item.row is not None:
            yield from (other for other in batch if other is not item)
            return
        size = self.datasets[item.dataset].size
        assert size is not None
        for distance in range(1, size):
            yield Item(item.dataset, (item.index + distance) % size, item.seed)

    def _sample(self, item: Item) -> Sample:
        key = (item.dataset, item.index)
        if key in self.memory:
            return self.memory[key]
        dataset = self.datasets[item.dataset]
        with decoded_for(dataset.augmentation.largest_side if dataset.reduced_decoding else None):
            if isinstance(dataset.data, SampleStream):
                return dataset.data.load(item.row)
            sample = dataset.data[item.index]
        if dataset.keep_in_memory:
            self.memory[key] = sample
        return sample


def _as_is(batch: Any) -> Any:
    return batch


def mixing_loader(
    sampler: MixingSampler,
    normalization: Normalization,
    num_workers: int = 0,
    device: torch.device = CPU,
) -> Iterator[MicroBatch]:
    """The sampler's micro-batches, in its order for any number of workers.

    Args:
        device: where they will be computed; for a GPU they come in pinned memory.

    Raises:
        BadSampleError: for an image that cannot be used, naming its dataset, unless that allows to
            skip it.
    """
    batches = _loaded(sampler, normalization, num_workers, device)
    if num_workers:
        # before Python ends its child processes by a signal that these ignore
        atexit.register(_close, weakref.ref(batches))
    return batches


def _close(batches: "weakref.ref[Generator[MicroBatch, None, None]]") -> None:
    left = batches()
    if left is not None:
        left.close()


def _loaded(
    sampler: MixingSampler, normalization: Normalization, num_workers: int, device: torch.device
) -> Generator[MicroBatch, None, None]:
    """As `mixing_loader`; closed, it ends its processes."""
    samples = _MixedSamples(sampler.datasets, normalization)
    # a generator of its own: the loader's draw from the global one would shift what dropout draws
    # after a resume
    generator = torch.Generator()
    batches = iter(
        DataLoader(
            samples,
            batch_sampler=sampler,
            collate_fn=_as_is,
            num_workers=num_workers,
            generator=generator,
            pin_memory=device.type == "cuda",
            worker_init_fn=_leave_signals_to_main,
        )
    )
    if num_workers and sys.platform != "win32":
        # torch raises in the midst of whatever runs when a worker dies; without that, the next
        # batch does
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for batch in batches:
        if isinstance(batch, BadSampleError):
            raise batch
        yield batch


def _leave_signals_to_main(worker: int) -> None:
    """A loading process ends with the main one. If it ended at a signal to all processes of a job,
    while it holds a queue, the main one would wait for it for ever.
    """
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
