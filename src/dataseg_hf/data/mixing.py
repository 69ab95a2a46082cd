"""Which images each step trains on: one dataset per step, drawn by its ratio; a function of (seed, step).

The order is made in the main process from indices; workers only load the samples named. So it is the same for any
number of workers and processes, and a resumed run continues it exactly.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from datasets import IterableDataset, interleave_datasets
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .collate import collate
from .sample import Sample, SampleDataset, TaskName
from .transforms import Augmentation, augment


@dataclass(frozen=True)
class TrainingSet:
    """One member of the mix: its data and how this run uses it.

    ratio: share of the steps, relative to the other members'. batch_size: images per optimiser step, over all processes
    and micro-batches. split_things: semantic targets of thing classes are connected parts. keep_in_memory: hold decoded
    samples (each worker its own); for small sets only.
    """

    name: str
    data: SampleDataset
    ratio: float
    batch_size: int
    augmentation: Augmentation
    loss_weights: Mapping[str, float]
    split_things: bool = False
    keep_in_memory: bool = False

    @property
    def task(self) -> TaskName:
        """The task whose annotation the data carries."""
        return self.data.spec.task


@dataclass(frozen=True)
class Item:
    """One image of one step: member of the mix, index in its data, and the seed of everything random about it."""

    member: int
    index: int
    seed: int


@dataclass
class MicroBatch:
    """What one process computes at once. inputs: tensors of the model's forward (`labels` a list of dicts)."""

    member: int
    inputs: dict
    seeds: list[int]
    image_ids: list[int | str]


def _index_batches(member: int, size: int, batch_size: int, seed: int) -> Iterator[dict]:
    """Endless batches of indices; each epoch is a new permutation, and batches run on across epochs."""
    pending: list[int] = []
    epoch = 0
    while True:
        while len(pending) < batch_size:
            pending.extend(np.random.default_rng([seed, member, epoch]).permutation(size).tolist())
            epoch += 1
        yield {"member": member, "indices": pending[:batch_size]}
        pending = pending[batch_size:]


def mixing_order(
    sizes: Sequence[int], batch_sizes: Sequence[int], ratios: Sequence[float], seed: int
) -> Iterator[tuple[int, list[int]]]:
    """Endless (member, indices of its batch), one per optimiser step; a function of the arguments alone."""
    streams = [
        IterableDataset.from_generator(
            _index_batches,
            gen_kwargs={"member": member, "size": size, "batch_size": batch_size, "seed": seed},
        )
        for member, (size, batch_size) in enumerate(zip(sizes, batch_sizes, strict=True))
    ]
    shares = [ratio / sum(ratios) for ratio in ratios]
    mixed = interleave_datasets(streams, probabilities=shares, seed=seed, stopping_strategy="all_exhausted")
    for batch in mixed:
        yield batch["member"], batch["indices"]


class MixingSampler:
    """Batch sampler of one process: its micro-batches of every step from `first_step` to `last_step` (exclusive)."""

    def __init__(
        self,
        members: Sequence[TrainingSet],
        seed: int,
        first_step: int,
        last_step: int,
        micro_batches: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        for member in members:
            if len(member.data) == 0:
                raise ValueError(f"dataset '{member.name}' has no images")
            if member.batch_size % (micro_batches * world_size):
                raise ValueError(
                    f"dataset '{member.name}': batch_size {member.batch_size} is not divisible by "
                    f"{world_size} processes x {micro_batches} accumulation steps"
                )
        self.members = members
        self.seed = seed
        self.first_step, self.last_step = first_step, last_step
        self.micro_batches, self.rank, self.world_size = micro_batches, rank, world_size

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * self.micro_batches

    def __iter__(self) -> Iterator[list[Item]]:
        order = mixing_order(
            [len(member.data) for member in self.members],
            [member.batch_size for member in self.members],
            [member.ratio for member in self.members],
            self.seed,
        )
        steps = enumerate(order)
        for step, (member, indices) in islice(steps, self.first_step, self.last_step):
            items = [Item(member, index, item_seed(self.seed, step, place)) for place, index in enumerate(indices)]
            own = items[self.rank :: self.world_size]
            share = len(own) // self.micro_batches
            for first in range(0, len(own), share):
                yield own[first : first + share]


def item_seed(seed: int, step: int, place: int) -> int:
    """Seed of the image at a place of a step's batch: 31 bits, the same on any number of processes."""
    return int(np.random.SeedSequence([seed, step, place]).generate_state(1)[0]) >> 1


class _MixedSamples(Dataset):
    """Loads and augments the images of a micro-batch; runs in the workers."""

    def __init__(self, members: Sequence[TrainingSet], image_mean: Sequence[float], image_std: Sequence[float]) -> None:
        self.members = members
        self.image_mean, self.image_std = image_mean, image_std
        self.memory: dict[tuple[int, int], Sample] = {}

    def __getitems__(self, items: list[Item]) -> MicroBatch:
        member = self.members[items[0].member]
        samples = [augment(self._sample(item), member.augmentation, np.random.default_rng(item.seed)) for item in items]
        inputs = collate(
            samples,
            canvas=member.augmentation.image_size,
            task=member.task,
            image_mean=self.image_mean,
            image_std=self.image_std,
            split_classes=member.data.spec.is_thing if member.split_things else None,
        )
        return MicroBatch(items[0].member, inputs, [item.seed for item in items], [s.image_id for s in samples])

    def _sample(self, item: Item) -> Sample:
        member = self.members[item.member]
        if not member.keep_in_memory:
            return member.data[item.index]
        key = (item.member, item.index)
        if key not in self.memory:
            self.memory[key] = member.data[item.index]
        return self.memory[key]


def _as_is(batch: Any) -> Any:
    return batch


def mixing_loader(
    sampler: MixingSampler, image_mean: Sequence[float], image_std: Sequence[float], num_workers: int = 0
) -> "DataLoader[MicroBatch]":
    """Loader over a sampler's micro-batches, in its order for any number of workers."""
    samples = _MixedSamples(sampler.members, image_mean, image_std)
    return DataLoader(samples, batch_sampler=sampler, collate_fn=_as_is, num_workers=num_workers)


def to_device(inputs: Mapping[str, Tensor | list[dict[str, Tensor]]], device: torch.device) -> dict:
    """The inputs of a micro-batch on a device."""
    moved: dict = {}
    for key, value in inputs.items():
        if isinstance(value, list):
            moved[key] = [{name: tensor.to(device) for name, tensor in label.items()} for label in value]
        else:
            moved[key] = value.to(device)
    return moved
