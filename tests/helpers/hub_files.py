"""Small parquet files in the column layouts of the Hub's datasets, written by `datasets` itself."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from dataseg_hf.data.readers.hub import read_hub
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, SampleDataset, SampleStream

CLASSES = (ClassInfo("cat", True), ClassInfo("grass", False))
SEMANTIC = DatasetSpec("tiny", "semantic", CLASSES, {1: 0, 7: 1, 300: 1}, frozenset({0}))
PANOPTIC = replace(SEMANTIC, task="panoptic", id_map={17: 0, 193: 1}, void_ids=frozenset({255}))
BOXES = replace(SEMANTIC, task="boxes", id_map={0: 0, 1: 1}, void_ids=frozenset({2}))
INSTANCE = replace(BOXES, task="instance")

LABELED = {"image": ImageFeature(), "label": ImageFeature()}
OBJECT = {
    "bbox": List(Value("float32"), length=4),
    "category": ClassLabel(names=["cat", "grass", "other"]),
}
OBJECTS = {"image": ImageFeature(), "objects": List(OBJECT)}
AS_LISTS = {
    "image": ImageFeature(),
    "objects": {key: List(feature) for key, feature in OBJECT.items()},
}
SEGMENT = {
    "id": Value("int64"),
    "category_id": Value("int64"),
    "iscrowd": Value("int64"),
    "area": Value("int64"),
}
WITH_SEGMENTS = {**LABELED, "segments_info": List(SEGMENT)}
SEGMENT_IDS = [[5, 5, 300], [0, 70000, 300]]
SEGMENTS = [
    {"id": 70000, "category_id": 255, "iscrowd": 0, "area": 1},
    {"id": 300, "category_id": 193, "iscrowd": 0, "area": 2},
    {"id": 5, "category_id": 17, "iscrowd": 1, "area": 2},
]

both = pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])


def own_cache_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Body of the fixture that every test of Hub rows runs in."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for name in ("HF_DATASETS_CACHE", "DOWNLOADED_DATASETS_PATH", "EXTRACTED_DATASETS_PATH"):
        monkeypatch.setattr(datasets.config, name, tmp_path / "cache" / name)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def encoded(array: Any, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(np.asarray(array))
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(height: int = 2, width: int = 3, gray: int = 9) -> bytes:
    return encoded(np.full((height, width, 3), gray, np.uint8))


def rgb_of(ids: Any) -> np.ndarray:
    ids = np.asarray(ids)
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def write(
    folder: Path, rows: Sequence[Mapping[str, Any]], features: Mapping[str, Any], shards: int = 1
) -> Path:
    """Parquet files as `push_to_hub` names them; Image columns take bytes, or dicts of bytes and
    path.
    """
    (folder / "data").mkdir(parents=True, exist_ok=True)
    columns = {
        key: [
            {"bytes": row[key], "path": None}
            if isinstance(row[key], bytes) and isinstance(feature, ImageFeature)
            else row[key]
            for row in rows
        ]
        for key, feature in features.items()
    }
    whole = Dataset.from_dict(columns, features=Features(features))
    for shard in range(shards):
        part = whole.shard(shards, shard) if shards > 1 else whole
        part.to_parquet(folder / f"data/train-{shard:05d}-of-{shards:05d}.parquet", batch_size=100)
    return folder


def only_sample(data: SampleDataset | SampleStream) -> Any:
    """The sample of a dataset of one row, whichever way it is read."""
    if isinstance(data, SampleDataset):
        assert len(data) == 1
        return data[0]
    (row,) = data.epoch(0)
    return data.load(row)


def objects(*pairs: tuple[Sequence[float], int]) -> dict[str, list[Any]]:
    return {
        "bbox": [list(box) for box, _ in pairs],
        "category": [category for _, category in pairs],
    }


def as_structs(lists: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def panoptic(folder: Path, segments: Any = SEGMENTS, ids: Any = SEGMENT_IDS, **options: Any) -> Any:
    row = {"image": photo(), "label": encoded(rgb_of(ids)), "segments_info": segments}
    path = write(folder / "d", [row], WITH_SEGMENTS)
    return read_hub(
        PANOPTIC, path=str(path), label_column="label", segments_column="segments_info", **options
    )
