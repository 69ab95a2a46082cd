import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Value
from hypothesis import given
from hypothesis import strategies as st

from dataseg_hf.data.readers.hub import read_hub
from dataseg_hf.data.readers.stream_order import in_turn, shuffled
from dataseg_hf.data.sample import SampleDataset, SampleStream
from helpers.hub_files import (
    LABELED,
    SEMANTIC,
    encoded,
    own_cache_and_no_network,
    photo,
    write,
)

pytestmark = pytest.mark.slow

offline = pytest.fixture(autouse=True)(own_cache_and_no_network)


def numbered(folder: Path, count: int, shards: int) -> Path:
    """Rows whose id is their number, which is the gray of their image too."""
    label = encoded(np.ones((2, 2), np.uint8))
    rows = [{"image": photo(2, 2, number), "label": label, "id": number} for number in range(count)]
    return write(folder, rows, {**LABELED, "id": Value("int64")}, shards)


def stream_of(path: Path, buffer: int = 5) -> SampleStream:
    options = {
        "label_column": "label",
        "image_id_column": "id",
        "streaming": True,
        "shuffle_buffer": buffer,
    }
    data = read_hub(SEMANTIC, path=str(path), **options)
    assert isinstance(data, SampleStream)
    return data


@pytest.mark.parametrize("shards", [1, 3, 11])
def test_the_order_of_a_stream_is_a_function_of_the_seed(tmp_path, shards):
    path = numbered(tmp_path / "d", 40, shards)
    data, again = stream_of(path), stream_of(path)
    orders = {seed: [row["id"] for row in data.epoch(seed)] for seed in range(4)}
    assert all(sorted(order) == list(range(40)) for order in orders.values()), "every row once"
    assert len({tuple(order) for order in orders.values()}) == 4
    assert list(range(40)) not in orders.values()
    for seed in (2, 0):  # in another order of the epochs, and from a dataset that was read anew
        assert [row["id"] for row in again.epoch(seed)] == orders[seed]


def test_the_order_is_the_same_in_another_process(tmp_path):
    path = numbered(tmp_path / "d", 20, 3)
    script = """
import sys
from dataseg_hf.data.readers.hub import read_hub
from dataseg_hf.data.sample import ClassInfo, DatasetSpec
spec = DatasetSpec("tiny", "semantic", (ClassInfo("cat", True),), {1: 0})
data = read_hub(spec, path=sys.argv[1], label_column="label", image_id_column="id", streaming=True, shuffle_buffer=5)
print([row["id"] for row in data.epoch(3)])
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [
        row["id"] for row in stream_of(path).epoch(3)
    ]


def test_a_row_has_one_name_whatever_the_seed(tmp_path):
    data = stream_of(numbered(tmp_path / "d", 9, 3))
    names = [{row["id"]: row["row number"] for row in data.epoch(seed)} for seed in range(3)]
    assert names[0] == names[1] == names[2]
    assert names[0] == {number: f"{number // 3}-{number % 3}" for number in range(9)}


def test_rows_pickle_undecoded(tmp_path):
    path = numbered(tmp_path / "d", 3, 1)
    stream = stream_of(path)
    row = next(stream.epoch(0))
    assert isinstance(row["image"]["bytes"], bytes)
    load, row = pickle.loads(pickle.dumps((stream.load, row)))
    assert load(row).image[0, 0, 0] == load(row).image_id
    data = pickle.loads(pickle.dumps(read_hub(SEMANTIC, path=str(path), label_column="label")))
    assert [data[i].image[0, 0, 0] for i in range(3)] == [0, 1, 2]


def test_numbers_of_rows_survive_selection(tmp_path):
    data = read_hub(SEMANTIC, path=str(numbered(tmp_path / "d", 6, 2)), label_column="label")
    assert isinstance(data, SampleDataset)
    assert [
        (sample.image_id, sample.image[0, 0, 0]) for sample in (data.part(1, 3)[i] for i in (0, 1))
    ] == [
        (1, 1),
        (4, 4),
    ]


def test_the_size_of_a_stream_where_it_is_stated(tmp_path):
    path = numbered(tmp_path / "d", 4, 2)
    assert stream_of(path).size is None
    card = """---
dataset_info:
  features:
  - {name: image, dtype: image}
  - {name: label, dtype: image}
  - {name: id, dtype: int64}
  splits:
  - {name: train, num_bytes: 1, num_examples: 4}
---
"""
    (path / "README.md").write_text(card)
    assert stream_of(path).size == 4


def in_worker(data: SampleStream) -> list[str]:
    """What a DataLoader's worker says when it starts an epoch."""
    from torch.utils.data import DataLoader

    class Lazy(list):
        def __getitem__(self, index):
            try:
                next(data.epoch(0))
            except RuntimeError as error:
                return str(error)
            return "read"

    return [text for batch in DataLoader(Lazy([0]), num_workers=1) for text in batch]


def test_a_stream_refuses_to_be_read_in_a_worker(tmp_path):
    assert in_worker(stream_of(numbered(tmp_path / "d", 4, 2))) == [
        "a stream must be read in the main process; only its rows are loaded in workers"
    ]


@given(
    sizes=st.lists(st.integers(0, 6), max_size=6),
    width=st.integers(1, 4),
    buffer=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
def test_shuffling_loses_and_invents_nothing(sizes, width, buffer, seed):
    items = [[(source, i) for i in range(size)] for source, size in enumerate(sizes)]
    everything = sorted(item for each in items for item in each)
    mixed = list(in_turn((iter(each) for each in items), width))
    assert sorted(mixed) == everything
    for source in range(len(sizes)):
        assert [item for item in mixed if item[0] == source] == items[source], (
            "each source keeps its order"
        )
    out = list(shuffled(iter(everything), buffer, np.random.default_rng(seed)))
    assert sorted(out) == everything
    # an item leaves only when it is in the buffer
    assert all(everything.index(item) <= place + buffer for place, item in enumerate(out))


def test_sources_are_read_in_turn():
    assert "".join(in_turn(map(iter, ["abc", "d", "efg"]), 2)) == "adbcefg"
