"""The main job on a streamed dataset: a run that goes on from a checkpoint ends in the same
bits.
"""

import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from helpers.run_programs import start, weights

pytestmark = pytest.mark.slow

CLASSES = [{"name": "road", "ids": [1]}, {"name": "sky", "ids": [2]}]


def test_a_streamed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Image()})
    for shard in range(2):
        rows = {
            "image": [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(5)],
            "label": [
                rng.integers(0, 3, (4, 4), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
                for _ in range(5)
            ],
        }
        datasets.Dataset.from_dict(rows, features=features).to_parquet(
            str(tmp_path / f"part-{shard}.parquet")
        )
    options = {
        "path": "parquet",
        "data_files": str(tmp_path / "part-*.parquet"),
        "label_column": "label",
        "streaming": True,
        "shuffle_buffer": 4,
    }
    spec = {"task": "semantic", "classes": CLASSES, "void_ids": [0]}
    streamed = {
        "spec": spec,
        "reader": "hub",
        "options": options,
        "batch_size": 4,
        "image_size": 32,
    }
    listed = {"spec": "shapes_boxes", "count": 8, "batch_size": 4, "image_size": 32}
    mix = ["--datasets", json.dumps({"streamed": streamed, "listed": listed}), "--evaluation", "{}"]

    whole = start(tmp_path / "whole", *mix)
    assert whole.returncode == 0, whole.stderr[-2000:]
    assert "streamed is streamed: every process reads the whole stream" in whole.stdout

    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    for name in ("all_results.json", "model.safetensors"):
        (tmp_path / "resumed" / name).unlink()
    shutil.rmtree(tmp_path / "resumed/checkpoints/step-00000008")
    resumed = start(tmp_path / "resumed", *mix, "--resume", "latest", "--num_workers", "2")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert "step-00000006" in resumed.stdout
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "resumed")
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
