"""Result files changed at random: `dataseg metrics` scores them or refuses them in one line that
names the file.
"""

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dataseg_hf.metrics.__main__ import main
from helpers.metric_cases import rle_of
from helpers.mutations import mutated_json
from helpers.thoroughness import fuzzed

SIZE = (6, 8)
CATEGORIES = [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}]


def _mask() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[1:4, 2:6] = True
    return mask


def rle(mask: np.ndarray) -> dict[str, Any]:
    found = rle_of(mask)
    return {**found, "counts": found["counts"].decode()}


SEGMENTS = [{"id": 1, "category_id": 1, "iscrowd": 0}, {"id": 2, "category_id": 2, "iscrowd": 0}]
PANOPTIC: dict[str, Any] = {
    "images": [{"id": 7, "height": SIZE[0], "width": SIZE[1]}],
    "categories": CATEGORIES,
    "annotations": [{"image_id": 7, "file_name": "7.png", "segments_info": SEGMENTS}],
}
OBJECT = {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "bbox": [2, 1, 4, 3], "area": 12}
INSTANCES: dict[str, Any] = {
    "images": PANOPTIC["images"],
    "categories": CATEGORIES,
    "annotations": [{**OBJECT, "segmentation": rle(_mask())}],
}
PREDICTIONS = [{**OBJECT, "score": 0.5, "segmentation": rle(_mask())}]


def judged(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A number, or one line that says what is wrong with which file."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    errors = capsys.readouterr().err
    assert code in (0, 2)
    if code == 2:
        assert errors.count("error:") == 1, errors
        assert len(errors.splitlines()[-1]) < 2000


@fuzzed(100, 1000)
@given(seed=st.integers(0, 2**32 - 1), side=st.sampled_from(["gt", "pred"]))
def test_instances(
    seed: int, side: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents: dict[str, Any] = {"gt": INSTANCES, "pred": PREDICTIONS}
    contents[side] = mutated_json(copy.deepcopy(contents[side]), random.Random(seed))
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    files = ["--gt-json", str(tmp_path / "gt.json"), "--pred-json", str(tmp_path / "pred.json")]
    judged(["instances", *files, "--json"], capsys)


@fuzzed(100, 1000)
@given(seed=st.integers(0, 2**32 - 1), side=st.sampled_from(["gt", "pred"]))
def test_panoptic(seed: int, side: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents: dict[str, Any] = {"gt": PANOPTIC, "pred": PANOPTIC}
    contents[side] = mutated_json(copy.deepcopy(contents[side]), random.Random(seed))
    arguments = ["panoptic", "--json"]
    for name, content in contents.items():
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        ids = np.zeros((*SIZE, 3), np.uint8)
        ids[..., 0] = 2
        ids[_mask(), 0] = 1
        Image.fromarray(ids).save(folder / "7.png")
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        arguments += [
            f"--{name}-json",
            str(tmp_path / f"{name}.json"),
            f"--{name}-dir",
            str(folder),
        ]
    judged(arguments, capsys)
