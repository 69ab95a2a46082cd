"""Streamed members and unusable images in the mix: the same order on any number of workers and
processes.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.mixing import MixingSampler, TrainingSet, mixing_loader
from dataseg_hf.data.sample import BadSampleError, Sample, SampleDataset, SampleStream
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.data.transforms import Augmentation

PROGRAMS = Path(__file__).parents[1] / "programs"
ROWS = 7
BROKEN = 3


class Epoch:
    """A pass over the row numbers in an order that the seed gives."""

    def __call__(self, seed: int) -> Iterator[int]:
        return iter(np.random.default_rng(seed).permutation(ROWS).tolist())


class Load:
    """The sample of a row number; raises for the broken one."""

    def __init__(self, broken: int | None = None) -> None:
        self.world = shapes_dataset("shapes_boxes", "train", count=ROWS, size=32)
        self.broken = broken

    def __call__(self, row: int) -> Sample:
        if row == self.broken:
            raise BadSampleError(f"row {row}: cannot be read as an image; replace or remove it")
        return replace(self.world[row], image_id=row)


def members(
    *, size: int | None = ROWS, broken: int | None = None, skip: bool = False
) -> list[TrainingSet]:
    world = shapes_dataset("shapes_panoptic", "train", count=5, size=32)
    stream = SampleStream(
        shapes_dataset("shapes_boxes", "train", count=1).spec, Epoch(), Load(broken), size
    )
    listed = SampleDataset(stream.spec, range(ROWS), Load(broken))
    return [
        TrainingSet("listed", listed, 1.0, 4, Augmentation(32), {}, skip_bad_samples=skip),
        TrainingSet("streamed", stream, 1.0, 4, Augmentation(32), {}, skip_bad_samples=skip),
        TrainingSet("panoptic", world, 1.0, 4, Augmentation(32), {}),
    ]


def images(
    steps: range, *, workers: int = 0, rank: int = 0, world_size: int = 1, **options: Any
) -> list[Any]:
    sampler = MixingSampler(
        members(**options), 5, steps.start, steps.stop, rank=rank, world_size=world_size
    )
    return [
        (batch.dataset, batch.image_ids, batch.seeds, batch.inputs["pixel_values"].sum().item())
        for batch in mixing_loader(sampler, Normalization([0.5] * 3, [0.25] * 3), workers)
    ]


def streamed_rows(batches: list[Any]) -> list[int]:
    return [
        image_id for member, image_ids, _, _ in batches if member == 1 for image_id in image_ids
    ]


@pytest.mark.parametrize("size", [ROWS, None])
def test_every_epoch_of_a_stream_has_every_row_once_in_a_new_order(size: int | None) -> None:
    rows = streamed_rows(images(range(40), size=size))
    epochs = [rows[first : first + ROWS] for first in range(0, len(rows) - ROWS + 1, ROWS)]
    assert len(epochs) >= 5
    assert all(sorted(epoch) == list(range(ROWS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 3


@pytest.mark.parametrize("workers", [1, 4])
def test_the_order_is_the_same_for_any_number_of_workers(workers: int) -> None:
    assert images(range(12), workers=workers) == images(range(12))


@pytest.mark.parametrize("size", [ROWS, None])
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("first", [1, 7, 15])
def test_a_run_resumed_at_any_step_goes_on_as_if_uninterrupted(
    size: int | None, workers: int, first: int
) -> None:
    assert images(range(first, 18), size=size, workers=workers) == images(range(18))[first:]


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_out_the_rows_of_a_stream(world_size: int) -> None:
    whole = images(range(12))
    parts = [images(range(12), rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, (member, image_ids, seeds, _) in enumerate(whole):
        assert {part[step][0] for part in parts} == {member}
        assert sorted(i for part in parts for i in part[step][1]) == sorted(image_ids)
        assert sorted(s for part in parts for s in part[step][2]) == sorted(seeds)


def test_an_empty_stream_is_an_error() -> None:
    empty = replace(
        members()[1], data=SampleStream(members()[1].data.spec, lambda seed: iter(()), Load())
    )
    with pytest.raises(BadSampleError, match="'streamed' has no images"):
        next(iter(MixingSampler([empty], 0, 0, 1)))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_used_ends_the_run_in_one_line(workers: int) -> None:
    with pytest.raises(
        BadSampleError, match=r"^dataset '(listed|streamed)': row 3: cannot be read"
    ) as error:
        images(range(40), workers=workers, broken=BROKEN)
    assert "Traceback" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_used_is_replaced_and_counted_where_allowed(workers: int) -> None:
    sampler = MixingSampler(members(broken=BROKEN, skip=True), 5, 0, 40)
    batches = list(mixing_loader(sampler, Normalization([0.5] * 3, [0.25] * 3), workers))
    assert len(batches) == 40
    assert all(
        len(batch.image_ids) == 4 and BROKEN not in batch.image_ids
        for batch in batches
        if batch.dataset < 2
    )
    skipped = Counter(message for batch in batches for message in batch.skipped)
    assert set(skipped) == {
        f"dataset '{name}': row 3: cannot be read as an image; replace or remove it"
        for name in ("listed", "streamed")
    }
    # the row counts once per epoch, however often its substitutes are used
    listed = sum(len(batch.image_ids) for batch in batches if batch.dataset == 0)
    assert (
        skipped["dataset 'listed': row 3: cannot be read as an image; replace or remove it"]
        >= listed // ROWS
    )
    again = list(
        mixing_loader(
            MixingSampler(members(broken=BROKEN, skip=True), 5, 20, 40),
            Normalization([0.5] * 3, [0.25] * 3),
        )
    )
    assert [batch.image_ids for batch in again] == [batch.image_ids for batch in batches[20:]]
    assert torch.equal(again[-1].inputs["pixel_values"], batches[-1].inputs["pixel_values"])


def test_a_dataset_without_a_usable_image_is_an_error_even_where_skipping_is_allowed() -> None:
    class NoneLoads(Load):
        def __call__(self, row: int) -> Sample:
            raise BadSampleError(f"row {row}: broken")

    chosen = replace(
        members(skip=True)[0], data=SampleDataset(members()[0].data.spec, range(3), NoneLoads())
    )
    with pytest.raises(BadSampleError, match="none of its images can be used"):
        list(mixing_loader(MixingSampler([chosen], 0, 0, 1), Normalization([0.5] * 3, [0.25] * 3)))


# --- at the end


def test_a_program_ends_though_a_loader_is_open() -> None:
    # its processes ignore the signal by which Python ends them
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "open_loader.py")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "read\n"
