"""The metrics on one, two and three real processes: the same results to the last bit, whatever the
number of images.
"""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from dataseg_hf.metrics import merge_processes
from helpers import warm_python
from helpers.metric_cases import measure, random_images

pytestmark = pytest.mark.slow

COUNTS = [0, 1, 2, 3, 4, 7, 8]
"""Numbers of images; below the number of processes some have none."""


def score_shares(rank: int, folder: str) -> None:
    """What one of three processes does: in groups of one, two and three in turn, its images, then
    everyone's states.
    """
    torch.set_num_threads(1)
    results = {}
    for world_size in range(rank + 1, 4):
        meeting = f"file://{folder}/meet_{world_size}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size)
        for count in COUNTS:
            metrics = measure(random_images(count, count)[rank::world_size])
            for metric in metrics.values():
                merge_processes(metric)
            results[world_size, count] = {
                name: metric.compute() for name, metric in metrics.items()
            }
        dist.destroy_process_group()
    Path(folder, f"{rank}.pickle").write_bytes(pickle.dumps(results))


@pytest.fixture(scope="module")
def alone():
    return {
        count: {
            name: metric.compute() for name, metric in measure(random_images(count, count)).items()
        }
        for count in COUNTS
    }


def test_any_number_of_processes_gives_identical_results(alone, tmp_path):
    warm_python.RUNS.warm_up()
    torch.multiprocessing.start_processes(
        score_shares, (str(tmp_path),), nprocs=3, start_method="forkserver"
    )
    compared = 0
    for rank in range(3):
        for (_, count), result in pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()).items():
            np.testing.assert_equal(result, alone[count])
            compared += 1
    assert compared == len(COUNTS) * (1 + 2 + 3)


def test_the_results_are_not_trivial(alone):
    assert 0 < alone[8]["pq"]["pq"] < 1
    assert 0 < alone[8]["miou"]["miou"] < 1
    assert 0 < alone[8]["ap"]["ap"] < 1


def test_without_a_process_group_nothing_changes():
    for metric in measure(random_images(0, 2)).values():
        before = metric.compute()
        merge_processes(metric)
        np.testing.assert_equal(metric.compute(), before)
