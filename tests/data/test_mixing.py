"""The order of the mix: a function of (seed, step), the same on any number of processes and
workers.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.micro_batch import to_device
from dataseg_hf.data.mixing import (
    Item,
    MixingSampler,
    TrainingSet,
    item_seed,
    mixing_loader,
    mixing_order,
)
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.data.transforms import Augmentation

SIZES, BATCHES, RATIOS = [10, 3, 7], [4, 4, 2], [2.0, 1.0, 1.0]


def take(count: int, seed: int = 0) -> list[tuple[int, list[int]]]:
    return list(islice(mixing_order(SIZES, BATCHES, RATIOS, seed), count))


def shapes_members(batch_size: int = 4) -> list[TrainingSet]:
    names = ["shapes_panoptic", "shapes_semantic", "shapes_boxes"]
    return [
        TrainingSet(
            name,
            shapes_dataset(name, "train", count=5, size=32),
            1.0,
            batch_size,
            Augmentation(32),
            {},
        )
        for name in names
    ]


def test_the_order_is_a_function_of_the_seed() -> None:
    assert take(50) == take(50)
    assert take(50) != take(50, seed=1)


def test_ratios_are_the_shares_of_the_steps() -> None:
    counts = Counter(member for member, _ in take(2000))
    shares = [counts[member] / 2000 for member in range(3)]
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.04)


def test_every_epoch_is_a_new_permutation_and_no_image_is_left_out() -> None:
    indices = [index for member, batch in take(400) if member == 0 for index in batch]
    epochs = [indices[first : first + 10] for first in range(0, 100, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 5


def test_a_dataset_smaller_than_its_batch_still_fills_it() -> None:
    assert all(len(batch) == 4 for member, batch in take(100) if member == 1)


@pytest.mark.parametrize(("world_size", "micro_batches"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)])
def test_processes_and_micro_batches_share_out_the_same_step(
    world_size: int, micro_batches: int
) -> None:
    whole = [
        sorted((item.index, item.seed) for item in batch)
        for batch in MixingSampler(shapes_members(), 0, 0, 12)
    ]
    parts = [
        list(MixingSampler(shapes_members(), 0, 0, 12, micro_batches, rank, world_size))
        for rank in range(world_size)
    ]
    for step in range(12):
        shared = [
            item
            for part in parts
            for batch in part[step * micro_batches : (step + 1) * micro_batches]
            for item in batch
        ]
        assert sorted((item.index, item.seed) for item in shared) == whole[step]
        assert len({item.dataset for item in shared}) == 1


def test_a_sampler_started_later_continues_the_same_order() -> None:
    whole = list(MixingSampler(shapes_members(), 3, 0, 20))
    assert list(MixingSampler(shapes_members(), 3, 8, 20)) == whole[8:]


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_the_batches_are_the_same_for_any_number_of_workers(num_workers: int) -> None:
    def batches(workers: int) -> list:
        sampler = MixingSampler(shapes_members(), 0, 0, 6)
        return list(mixing_loader(sampler, Normalization([0.5] * 3, [0.25] * 3), workers))

    for one, other in zip(batches(0), batches(num_workers), strict=True):
        assert (one.dataset, one.seeds, one.image_ids) == (
            other.dataset,
            other.seeds,
            other.image_ids,
        )
        assert torch.equal(one.inputs["pixel_values"], other.inputs["pixel_values"])


def test_seeds_differ_between_steps_places_and_runs() -> None:
    seeds = [
        item_seed(seed, step, place)
        for seed in range(3)
        for step in range(20)
        for place in range(8)
    ]
    assert len(set(seeds)) == len(seeds)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"'shapes_panoptic': batch_size 4 is not divisible by 3 processes x 1"
    ):
        MixingSampler(shapes_members(), 0, 0, 1, world_size=3)


def test_a_dataset_without_images_is_refused() -> None:
    empty = TrainingSet(
        "nothing", shapes_dataset("shapes_boxes", "train", count=0), 1.0, 2, Augmentation(32), {}
    )
    with pytest.raises(ValueError, match="'nothing' has no images"):
        MixingSampler([empty], 0, 0, 1)


def test_a_batch_of_every_dataset_in_every_step() -> None:
    members = [replace(member, in_every_step=True) for member in shapes_members()]
    members[1] = replace(members[1], batch_size=2)
    sampler = MixingSampler(members, 0, 0, 9)
    batches = list(sampler)
    assert [batch[0].dataset for batch in batches] == [0, 1, 2] * 9
    assert [len(batch) for batch in batches[:3]] == [4, 2, 4]
    assert len(sampler) == 27
    for member in range(3):
        indices = [item.index for batch in batches[member::3] for item in batch]
        assert sorted(indices[:5]) == sorted(indices[5:10]) == [0, 1, 2, 3, 4]
    for step in range(9):
        seeds = [item.seed for batch in batches[3 * step : 3 * step + 3] for item in batch]
        assert len(set(seeds)) == 10  # no two images of a step share their points

    def named(items: list[list[Item]]) -> list[list[tuple[int, int, int]]]:
        return [[(item.dataset, item.index, item.seed) for item in batch] for batch in items]

    assert named(list(MixingSampler(members, 0, 4, 9))) == named(batches[12:])


# --- on the way to a GPU


def test_batches_are_pinned_for_a_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    class Loader(torch.utils.data.DataLoader):
        def __init__(self, *args: Any, pin_memory: bool = False, **options: Any) -> None:
            asked.append(pin_memory)
            super().__init__(*args, **options)

    monkeypatch.setattr("dataseg_hf.data.mixing.DataLoader", Loader)
    for device in (torch.device("cpu"), torch.device("cuda", 0)):
        sampler = MixingSampler(shapes_members(), 0, 0, 1)
        assert list(mixing_loader(sampler, Normalization([0.5] * 3, [0.25] * 3), 0, device))
    assert asked == [False, True]


def test_pinning_reaches_every_tensor_and_keeps_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = MixingSampler(shapes_members(), 0, 0, 1)
    (batch,) = mixing_loader(sampler, Normalization([0.5] * 3, [0.25] * 3))
    given = {id(tensor) for tensor in tensors(batch.inputs)}
    pinned: set[int] = set()

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.add(id(tensor))
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    # as the loader finds it in an object that it does not know
    copy = torch.utils.data._utils.pin_memory.pin_memory(batch)
    assert pinned == given
    assert (copy.dataset, copy.seeds, copy.image_ids) == (
        batch.dataset,
        batch.seeds,
        batch.image_ids,
    )
    for one, other in zip(tensors(copy.inputs), tensors(batch.inputs), strict=True):
        assert one is not other
        assert torch.equal(one, other)


def test_a_batch_on_its_way_to_the_cpu_is_not_copied() -> None:
    sampler = MixingSampler(shapes_members(), 0, 0, 1)
    (batch,) = mixing_loader(sampler, Normalization([0.5] * 3, [0.25] * 3))
    moved = to_device(batch.inputs, torch.device("cpu"))
    assert list(map(id, tensors(moved))) == list(map(id, tensors(batch.inputs)))


def tensors(inputs: Mapping[str, Any]) -> list[torch.Tensor]:
    labels = [tensor for label in inputs["labels"] for tensor in label.values()]
    return [value for value in inputs.values() if isinstance(value, torch.Tensor)] + labels
