import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, Json, List, Value
from datasets import Image as ImageFeature
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_utils

from dataseg_hf.data.readers.hub import read_hub
from dataseg_hf.data.readers.stream_order import in_turn, shuffled
from dataseg_hf.data.sample import BadSampleError, ClassInfo, DatasetSpec, SampleDataset, SampleStream

CLASSES = (ClassInfo("cat", True), ClassInfo("grass", False))
SEMANTIC = DatasetSpec("tiny", "semantic", CLASSES, {1: 0, 7: 1, 300: 1}, frozenset({0}))
PANOPTIC = replace(SEMANTIC, task="panoptic", id_map={17: 0, 193: 1}, void_ids=frozenset({255}))
BOXES = replace(SEMANTIC, task="boxes", id_map={0: 0, 1: 1}, void_ids=frozenset({2}))
INSTANCE = replace(BOXES, task="instance")


@pytest.fixture(autouse=True)
def own_cache_and_no_network(tmp_path, monkeypatch):
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


def photo(height: int = 2, width: int = 3, grey: int = 9) -> bytes:
    return encoded(np.full((height, width, 3), grey, np.uint8))


def rgb_of(ids: Any) -> np.ndarray:
    ids = np.asarray(ids)
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def write(folder: Path, rows: Sequence[Mapping[str, Any]], features: Mapping[str, Any], shards: int = 1) -> Path:
    """Parquet files as `push_to_hub` names them; Image columns take bytes, or dicts of bytes and path."""
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
        part.to_parquet(folder / f"data/train-{shard:05d}-of-{shards:05d}.parquet")
    return folder


def only_sample(data: SampleDataset | SampleStream) -> Any:
    """The sample of a dataset of one row, whichever way it is read."""
    if isinstance(data, SampleDataset):
        assert len(data) == 1
        return data[0]
    (row,) = data.epoch(0)
    return data.load(row)


both = pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])

# --- image + label PNG

LABELLED = {"image": ImageFeature(), "label": ImageFeature()}


@both
def test_semantic_by_hand(tmp_path, streaming):
    ids = np.array([[1, 1, 300], [0, 7, 1]], dtype=np.uint16)
    path = write(tmp_path / "d", [{"image": photo(grey=40), "label": encoded(ids)}], LABELLED)
    sample = only_sample(read_hub(SEMANTIC, path=str(path), label_column="label", streaming=streaming))
    assert sample.annotation.segment_map.tolist() == [[0, 0, 1], [-1, 1, 0]]
    assert sample.annotation.class_labels.tolist() == [0, 1]
    assert sample.annotation.is_crowd.tolist() == [False, False]
    np.testing.assert_array_equal(sample.image, np.full((2, 3, 3), 40, np.uint8))
    assert (sample.image_id, sample.file_name) == (("0-0", "0-0") if streaming else (0, "0"))


@both
def test_a_palette_png_gives_its_indices(tmp_path, streaming):
    label = Image.fromarray(np.array([[1, 7, 0], [1, 7, 0]], np.uint8)).convert("P")
    label.putdata([1, 7, 0, 1, 7, 0])
    path = write(tmp_path / "d", [{"image": photo(), "label": encoded(label)}], LABELLED)
    sample = only_sample(read_hub(SEMANTIC, path=str(path), label_column="label", streaming=streaming))
    assert sample.annotation.segment_map.tolist() == [[0, 1, -1], [0, 1, -1]]


@both
def test_names_of_columns_ids_and_files(tmp_path, streaming):
    rows = [
        {
            "pixel_values": {"bytes": photo(), "path": "street/a.png"},
            "mask": encoded(np.ones((2, 3), np.uint8)),
            "id": "s1",
        }
    ]
    path = write(tmp_path / "d", rows, {"pixel_values": ImageFeature(), "mask": ImageFeature(), "id": Value("string")})
    options = {"image_column": "pixel_values", "label_column": "mask", "image_id_column": "id"}
    sample = only_sample(read_hub(SEMANTIC, path=str(path), streaming=streaming, **options))
    assert (sample.image_id, sample.file_name) == ("s1", "a.png")


def test_parquet_files_of_other_tools(tmp_path):
    label = encoded(np.full((2, 3), 7, np.uint8))
    frame = pd.DataFrame({"image": [photo()], "label": [{"bytes": label, "path": None}]})
    frame.to_parquet(tmp_path / "a.parquet")
    for streaming in (False, True):
        data = read_hub(
            SEMANTIC, path="parquet", data_files=str(tmp_path / "*.parquet"), label_column="label", streaming=streaming
        )
        assert only_sample(data).annotation.class_labels.tolist() == [1]


def test_images_are_read_as_by_every_reader(tmp_path):
    """EXIF: stored 2 x 3, upright 3 x 2; CMYK and grey become RGB; 16-bit grey keeps its upper byte."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    turned = encoded(np.zeros((2, 3, 3), np.uint8), "JPEG", exif=exif)
    images = [
        (turned, (3, 2)),
        (turned, (2, 3)),  # annotated on the stored pixels
        (encoded(Image.new("CMYK", (3, 2)), "JPEG"), (2, 3)),
        (encoded(np.full((2, 3), 5, np.uint8)), (2, 3)),
        (encoded(np.full((2, 3), 0x0507, np.uint16)), (2, 3)),
    ]
    rows = [{"image": image, "label": encoded(np.ones(size, np.uint8))} for image, size in images]
    data = read_hub(SEMANTIC, path=str(write(tmp_path / "d", rows, LABELLED)), label_column="label")
    samples = [data[index] for index in range(len(data))]
    assert [sample.image.shape for sample in samples] == [(*size, 3) for _, size in images]
    assert (samples[2].image == 255).all()
    assert (samples[3].image == 5).all()
    assert (samples[4].image == 5).all()


# --- image + objects

OBJECT = {"bbox": List(Value("float32"), length=4), "category": ClassLabel(names=["cat", "grass", "other"])}
OBJECTS = {"image": ImageFeature(), "objects": List(OBJECT)}
AS_LISTS = {"image": ImageFeature(), "objects": {key: List(feature) for key, feature in OBJECT.items()}}


def objects(*pairs: tuple[Sequence[float], int]) -> dict[str, list[Any]]:
    return {"bbox": [list(box) for box, _ in pairs], "category": [category for _, category in pairs]}


def as_structs(lists: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


@both
@pytest.mark.parametrize("layout", ["list of structs", "struct of lists"])
def test_boxes_by_hand(tmp_path, streaming, layout):
    """In 4 x 6 pixels: one inside, one clipped at the right, one void, one without height."""
    found = objects(([1, 0, 2, 3], 1), ([3, 1, 10, 2], 0), ([0, 0, 1, 1], 2), ([2, 2, 2, 0], 0))
    features = OBJECTS if layout == "list of structs" else AS_LISTS
    row = {"image": photo(4, 6), "objects": as_structs(found) if layout == "list of structs" else found}
    path = write(tmp_path / "d", [row], features)
    annotation = only_sample(read_hub(BOXES, path=str(path), objects_column="objects", streaming=streaming)).annotation
    assert annotation.boxes.tolist() == [[1, 0, 3, 3], [3, 1, 6, 3]]
    assert annotation.boxes.dtype == np.float32
    assert annotation.class_labels.tolist() == [1, 0]
    assert annotation.is_crowd.tolist() == [False, False]
    assert annotation.masks is None


@pytest.mark.parametrize("features", [OBJECTS, AS_LISTS], ids=["structs", "lists"])
@pytest.mark.parametrize("spec", [BOXES, INSTANCE], ids=["boxes", "instance"])
def test_an_image_without_objects(tmp_path, features, spec):
    options = {}
    if spec.task == "instance":
        options["segmentation_key"] = "segmentation"
        extra = List(List(Value("float32")))
        if features is OBJECTS:
            features = {**OBJECTS, "objects": List({**OBJECT, "segmentation": extra})}
        else:
            features = {**AS_LISTS, "objects": {**AS_LISTS["objects"], "segmentation": List(extra)}}
    nothing = [] if isinstance(features["objects"], List) else {key: [] for key in features["objects"]}
    path = write(tmp_path / "d", [{"image": photo(), "objects": nothing}], features)
    annotation = read_hub(spec, path=str(path), objects_column="objects", **options)[0].annotation
    assert annotation.boxes.shape == (0, 4)
    assert annotation.class_labels.shape == (0,)
    assert (annotation.masks is None) if spec is BOXES else (annotation.masks.shape == (0, 2, 3))


@pytest.mark.parametrize(
    ("box", "options"),
    [
        ([1, 1, 4, 2], {"box_format": "xywh"}),
        ([1, 1, 5, 3], {"box_format": "xyxy"}),
        ([3, 2, 4, 2], {"box_format": "cxcywh"}),
        ([0.125, 0.25, 0.625, 0.75], {"box_format": "xyxy", "normalised": True}),
        ([0.375, 0.5, 0.5, 0.5], {"box_format": "cxcywh", "normalised": True}),
    ],
)
def test_box_formats(tmp_path, box, options):
    """One box, from column 1 to 5 and row 1 to 3 of 4 x 8 pixels."""
    row = {"image": photo(4, 8), "objects": as_structs(objects((box, 0)))}
    path = write(tmp_path / "d", [row], OBJECTS)
    data = read_hub(BOXES, path=str(path), objects_column="objects", **options)
    assert data[0].annotation.boxes.tolist() == [[1, 1, 5, 3]]


def test_categories_as_words_and_other_keys(tmp_path):
    spec = replace(BOXES, id_map={"Cat": 0, "lawn": 1}, void_ids=frozenset({"crowd"}))
    entry = {"box": List(Value("int64")), "label": Value("string"), "many": Value("bool")}
    values = [("lawn", False), ("crowd", False), ("Cat", True), ("Cat", None)]
    rows = [
        {"image": photo(), "things": [{"box": [0, 0, 1, 2], "label": label, "many": many} for label, many in values]}
    ]
    path = write(tmp_path / "d", rows, {"image": ImageFeature(), "things": List(entry)})
    options = {"objects_column": "things", "bbox_key": "box", "category_key": "label", "crowd_key": "many"}
    annotation = read_hub(spec, path=str(path), **options)[0].annotation
    assert annotation.class_labels.tolist() == [1, 0, 0]
    assert annotation.is_crowd.tolist() == [False, True, False]


@both
def test_instances_from_polygons_and_run_lengths(tmp_path, streaming):
    """Overlapping masks stay overlapping; run lengths, compressed and not, equal pycocotools' masks."""
    first, second = np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)
    first[1:3, 1:4], second[:, 2:] = 1, 1
    compressed = mask_utils.encode(np.asfortranarray(first))
    segmentations = [
        {"size": [4, 5], "counts": compressed["counts"].decode("ascii")},
        {"size": [4, 5], "counts": [8, 12]},  # down the columns: two empty ones, then three full ones
        [[1, 1, 4, 1, 4, 3, 1, 3]],
    ]
    entries = [{"bbox": [0, 0, 5, 4], "category": 0, "segmentation": each} for each in segmentations]
    features = {"image": ImageFeature(), "objects": List({**OBJECT, "segmentation": Json()})}
    path = write(tmp_path / "d", [{"image": photo(4, 5), "objects": entries}], features)
    options = {"objects_column": "objects", "segmentation_key": "segmentation", "streaming": streaming}
    annotation = only_sample(read_hub(INSTANCE, path=str(path), **options)).annotation
    np.testing.assert_array_equal(annotation.masks, np.stack([first, second, first]).astype(bool))
    assert annotation.masks.dtype == bool


def test_run_lengths_as_a_struct_of_bytes(tmp_path):
    """As `pycocotools.mask.encode` gives them, in a typed column."""
    mask = np.asfortranarray(np.eye(4, dtype=np.uint8))
    features = {
        "image": ImageFeature(),
        "objects": List({**OBJECT, "segmentation": {"size": List(Value("int32")), "counts": Value("binary")}}),
    }
    entry = {"bbox": [0, 0, 4, 4], "category": 1, "segmentation": mask_utils.encode(mask)}
    path = write(tmp_path / "d", [{"image": photo(4, 4), "objects": [entry]}], features)
    data = read_hub(INSTANCE, path=str(path), objects_column="objects", segmentation_key="segmentation")
    np.testing.assert_array_equal(data[0].annotation.masks[0], mask.astype(bool))


# --- image + panoptic PNG + segments

SEGMENT = {"id": Value("int64"), "category_id": Value("int64"), "iscrowd": Value("int64"), "area": Value("int64")}
WITH_SEGMENTS = {**LABELLED, "segments_info": List(SEGMENT)}
SEGMENT_IDS = [[5, 5, 300], [0, 70000, 300]]
SEGMENTS = [
    {"id": 70000, "category_id": 255, "iscrowd": 0, "area": 1},
    {"id": 300, "category_id": 193, "iscrowd": 0, "area": 2},
    {"id": 5, "category_id": 17, "iscrowd": 1, "area": 2},
]


def panoptic(folder: Path, segments: Any = SEGMENTS, ids: Any = SEGMENT_IDS, **options: Any) -> Any:
    row = {"image": photo(), "label": encoded(rgb_of(ids)), "segments_info": segments}
    path = write(folder / "d", [row], WITH_SEGMENTS)
    return read_hub(PANOPTIC, path=str(path), label_column="label", segments_column="segments_info", **options)


@both
def test_panoptic_by_hand(tmp_path, streaming):
    annotation = only_sample(panoptic(tmp_path, streaming=streaming)).annotation
    assert annotation.segment_map.tolist() == [[0, 0, 1], [-1, -1, 1]]
    assert annotation.class_labels.tolist() == [0, 1]
    assert annotation.is_crowd.tolist() == [True, False]


def test_panoptic_segments_as_a_struct_of_lists_without_crowd(tmp_path):
    lists = {"id": [300, 5], "category_id": [193, 17]}
    features = {**LABELLED, "segments_info": {key: List(Value("int64")) for key in lists}}
    row = {"image": photo(), "label": encoded(rgb_of([[5, 5, 300], [0, 0, 300]])), "segments_info": lists}
    path = write(tmp_path / "d", [row], features)
    annotation = read_hub(PANOPTIC, path=str(path), label_column="label", segments_column="segments_info")[0].annotation
    assert annotation.segment_map.tolist() == [[0, 0, 1], [-1, -1, 1]]
    assert annotation.is_crowd.tolist() == [False, False]


# --- folders of images


@both
@pytest.mark.parametrize("archive", [False, True], ids=["folder", "zip"])
def test_image_folders(tmp_path, streaming, archive):
    folder = tmp_path / "d/train"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a", "sub/b")):
        (folder / f"{name}.png").write_bytes(photo(grey=number))
        (folder / f"{name}_ids.png").write_bytes(encoded(np.full((2, 3), (1, 7)[number], np.uint8)))
    lines = [json.dumps({"file_name": f"{name}.png", "label_file_name": f"{name}_ids.png"}) for name in ("a", "sub/b")]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    path = tmp_path / "d"
    if archive:
        path = tmp_path / "z"
        path.mkdir()
        with zipfile.ZipFile(path / "train.zip", "w") as file:
            for member in sorted(folder.rglob("*.*")):
                file.write(member, member.relative_to(folder))
    data = read_hub(SEMANTIC, path=str(path), label_column="label", streaming=streaming)
    samples = (
        [data[i] for i in (0, 1)] if isinstance(data, SampleDataset) else [data.load(row) for row in data.epoch(0)]
    )
    found = {(s.file_name, int(s.image[0, 0, 0]), s.annotation.class_labels.item()) for s in samples}
    assert found == {("a.png", 0, 0), ("b.png", 1, 1)}


@both
def test_only_image_folders_name_files(tmp_path, streaming):
    """The author of a parquet file does not say which file of this machine is read."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(photo())
    label = {"bytes": encoded(np.ones((2, 3), np.uint8)), "path": None}
    frame = pd.DataFrame({"image": [{"bytes": None, "path": str(secret)}], "label": [label]})
    frame.to_parquet(tmp_path / "a.parquet")
    options = {"path": "parquet", "data_files": str(tmp_path / "a.parquet"), "label_column": "label"}
    data = read_hub(SEMANTIC, streaming=streaming, **options)
    with pytest.raises(BadSampleError, match=r"row 0.*column 'image' names the file .*secret\.png' instead of holding"):
        only_sample(data)


# --- streams


def numbered(folder: Path, count: int, shards: int) -> Path:
    """Rows whose id is their number, which is the grey of their image too."""
    label = encoded(np.ones((2, 2), np.uint8))
    rows = [{"image": photo(2, 2, number), "label": label, "id": number} for number in range(count)]
    return write(folder, rows, {**LABELLED, "id": Value("int64")}, shards)


def stream_of(path: Path, buffer: int = 5) -> SampleStream:
    options = {"label_column": "label", "image_id_column": "id", "streaming": True, "shuffle_buffer": buffer}
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
    assert json.loads(done.stdout.splitlines()[-1]) == [row["id"] for row in stream_of(path).epoch(3)]


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
    assert [(sample.image_id, sample.image[0, 0, 0]) for sample in (data.part(1, 3)[i] for i in (0, 1))] == [
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
        assert [item for item in mixed if item[0] == source] == items[source], "each source keeps its order"
    out = list(shuffled(iter(everything), buffer, np.random.default_rng(seed)))
    assert sorted(out) == everything
    # an item leaves only when it is in the buffer
    assert all(everything.index(item) <= place + buffer for place, item in enumerate(out))


def test_sources_are_read_in_turn():
    assert "".join(in_turn(map(iter, ["abc", "d", "efg"]), 2)) == "adbcefg"


# --- bad input: one row, the others go on

TRUNCATED = encoded(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8), "JPEG")[:500]
GOOD = {"image": photo(), "label": encoded(np.ones((2, 3), np.uint8))}


@both
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": TRUNCATED}, r"column 'image': cannot be read as an image"),
        ({"image": b"no image"}, r"column 'image': cannot be read as an image"),
        ({"image": b""}, r"column 'image': cannot be read as an image"),
        ({"image": None}, r"column 'image' is empty; give the image, or remove the row"),
        ({"label": None}, r"column 'label' is empty"),
        ({"image": photo(3, 3)}, r"column 'image' is 3 x 3 .* column 'label' is 2 x 3"),
        ({"image": encoded(np.zeros((1, 1, 3), np.uint8))}, r"column 'image': an image of 1 x 1 pixels"),
        (
            {"label": encoded(np.full((2, 3), 9, np.uint8))},
            r"column 'label': category id 9 is not in the id map of dataset 'tiny'",
        ),
        ({"label": photo()}, r"column 'label': expected one id per pixel"),
    ],
)
def test_bad_rows_with_a_label(tmp_path, streaming, change, message):
    rows = [{**GOOD, "id": "good"}, {**GOOD, **change, "id": "b/2"}]
    path = write(tmp_path / "d", rows, {**LABELLED, "id": Value("string")})
    data = read_hub(SEMANTIC, path=str(path), label_column="label", image_id_column="id", streaming=streaming)
    found = list(data.epoch(1)) if isinstance(data, SampleStream) else [data.rows[0], data.rows[1]]
    (good,), (bad,) = ([row for row in found if row["id"] == name] for name in ("good", "b/2"))
    assert data.load(good).image_id == "good"
    number = "0-1" if streaming else "1"
    with pytest.raises(BadSampleError, match=rf"^dataset 'tiny', split 'train', row {number} \(image b/2\): {message}"):
        data.load(bad)


def test_a_row_without_image_id(tmp_path):
    path = write(tmp_path / "d", [{**GOOD, "id": 4}, {**GOOD, "id": None}], {**LABELLED, "id": Value("int64")})
    data = read_hub(SEMANTIC, path=str(path), label_column="label", image_id_column="id")
    assert data[0].image_id == 4
    with pytest.raises(BadSampleError, match=r"row 1: column 'id' is empty; give the image an id"):
        data[1]


@both
@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([([0, 0, float("nan"), 1], 0)], r"object 0 of column 'objects': 'bbox' must be four finite numbers \(xywh\)"),
        (
            [([0, 0, 1, 1], 0), ([0, 0, float("inf"), 1], 0)],
            r"object 1 of column 'objects': 'bbox' must be four finite",
        ),
        ([([2, 0, -1, 1], 0)], r"object 0 .*the box from \(2, 0\) to \(1, 1\) has no area"),
        ([([9, 0, 1, 1], 0)], r"object 0 .*lies outside the image of 2 x 3 pixels"),
        ([([0, 0, 1, 1], None)], r"object 0 .*category id None is not in the id map"),
        ([(None, 0)], r"object 0 .*'bbox' must be four finite numbers \(xywh\), not None"),
    ],
)
def test_bad_objects(tmp_path, streaming, found, message):
    entries = [{"bbox": box, "category": category} for box, category in found]
    path = write(tmp_path / "d", [{"image": photo(), "objects": entries}], OBJECTS)
    data = read_hub(BOXES, path=str(path), objects_column="objects", streaming=streaming)
    with pytest.raises(BadSampleError, match=rf"^dataset 'tiny', split 'train', row (0-)?0: {message}"):
        only_sample(data)


def test_an_unknown_category_number(tmp_path):
    features = {"image": ImageFeature(), "objects": List({**OBJECT, "category": Value("int32")})}
    path = write(tmp_path / "d", [{"image": photo(), "objects": [{"bbox": [0, 0, 1, 1], "category": 5}]}], features)
    with pytest.raises(BadSampleError, match=r"object 0 .*category id 5 is not in the id map of dataset 'tiny'"):
        read_hub(BOXES, path=str(path), objects_column="objects")[0]


@pytest.mark.parametrize("features", [OBJECTS, AS_LISTS], ids=["structs", "lists"])
def test_a_row_without_objects_is_not_one_with_an_empty_list(tmp_path, features):
    path = write(tmp_path / "d", [{"image": photo(), "objects": None}], features)
    with pytest.raises(BadSampleError, match=r"row 0: column 'objects'"):
        read_hub(BOXES, path=str(path), objects_column="objects")[0]


def test_lists_of_different_lengths(tmp_path):
    row = {"image": photo(), "objects": {"bbox": [[0, 0, 1, 1]], "category": [0, 1]}}
    path = write(tmp_path / "d", [row], AS_LISTS)
    with pytest.raises(
        BadSampleError, match=r"column 'objects' has lists of different lengths {'bbox': 1, 'category': 2}"
    ):
        read_hub(BOXES, path=str(path), objects_column="objects")[0]


def test_pixels_read_as_fractions(tmp_path):
    row = {"image": photo(), "objects": as_structs(objects(([0, 0, 3, 2], 0)))}
    path = write(tmp_path / "d", [row], OBJECTS)
    with pytest.raises(BadSampleError, match=r"no fraction of the image; is `normalised` right\?"):
        read_hub(BOXES, path=str(path), objects_column="objects", normalised=True)[0]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 2, 2]], r"polygon of 2 points"),
        ([], r"no polygon"),
        ({"size": [2, 3], "counts": [1, 2]}, r"add up to 6"),
        ({"size": [3, 2], "counts": [0, 6]}, r"run lengths of size \[3, 2\]"),
        (5, r"a segmentation is a list of polygons or run lengths"),
        (None, r"a segmentation is a list of polygons or run lengths"),
    ],
)
def test_bad_segmentations(tmp_path, segmentation, message):
    features = {"image": ImageFeature(), "objects": List({**OBJECT, "segmentation": Json()})}
    entry = {"bbox": [0, 0, 1, 1], "category": 0, "segmentation": segmentation}
    path = write(tmp_path / "d", [{"image": photo(), "objects": [entry]}], features)
    data = read_hub(INSTANCE, path=str(path), objects_column="objects", segmentation_key="segmentation")
    with pytest.raises(BadSampleError, match=rf"row 0: object 0 of column 'objects'.*{message}"):
        data[0]


@both
@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (SEGMENTS[:2], r"column 'label': segment ids \[5\] are not in `segments_info`"),
        ([*SEGMENTS, {**SEGMENTS[0], "id": 6}], r"column 'label': segment ids \[6\] of `segments_info` have no pixel"),
        ([*SEGMENTS, {**SEGMENTS[0], "id": 0}], r"segment ids must be unique and not 0"),
        ([*SEGMENTS, SEGMENTS[0]], r"segment ids must be unique and not 0"),
        ([*SEGMENTS[:2], {**SEGMENTS[2], "category_id": 18}], r"segment 5: category id 18 is not in the id map"),
        ([*SEGMENTS[:2], {**SEGMENTS[2], "id": None}], r"column 'segments_info' has a segment without id"),
        (None, r"column 'segments_info' is empty"),
    ],
)
def test_bad_segments(tmp_path, streaming, segments, message):
    with pytest.raises(BadSampleError, match=rf"^dataset 'tiny', split 'train', row (0-)?0: {message}"):
        only_sample(panoptic(tmp_path, segments, streaming=streaming))


def test_a_grey_panoptic_png(tmp_path):
    row = {**GOOD, "segments_info": [{"id": 1, "category_id": 17, "iscrowd": 0, "area": 6}]}
    path = write(tmp_path / "d", [row], WITH_SEGMENTS)
    data = read_hub(PANOPTIC, path=str(path), label_column="label", segments_column="segments_info")
    with pytest.raises(BadSampleError, match=r"column 'label': a panoptic PNG is RGB"):
        data[0]


# --- bad input: the whole dataset, at once


@both
@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (SEMANTIC, {}, r"'semantic' needs the option `label_column`"),
        (
            SEMANTIC,
            {"label_column": "mask"},
            r"has no column 'mask'; there are \['image', 'label', 'number', 'objects', 'segments'\]",
        ),
        (SEMANTIC, {"label_column": "label", "image_column": "img"}, r"has no column 'img'; there are \['image', "),
        (SEMANTIC, {"label_column": "number"}, r"column 'number' holds Value\('int64'\), not encoded images"),
        (
            SEMANTIC,
            {"label_column": "label", "image_id_column": "objects"},
            r"column 'objects' holds .* ids are whole numbers or words",
        ),
        (
            SEMANTIC,
            {"label_column": "label", "segments_column": "segments"},
            r"'semantic' has no use for the option `segments_column`",
        ),
        (
            SEMANTIC,
            {"label_column": "label", "box_format": "xyxy"},
            r"'semantic' has no use for the option `box_format`",
        ),
        (PANOPTIC, {"label_column": "label"}, r"'panoptic' needs the option `segments_column`"),
        (PANOPTIC, {"label_column": "label", "segments_column": "number"}, r"column 'number' holds .*list of structs"),
        (
            PANOPTIC,
            {"label_column": "label", "segments_column": "objects"},
            r"column 'objects' has no key 'id'; there are \['bbox', 'category'\]",
        ),
        (
            PANOPTIC,
            {"label_column": "label", "segments_column": "segments"},
            r"column 'segments', key 'category_id' holds words, but the id map",
        ),
        (BOXES, {}, r"'boxes' needs the option `objects_column`"),
        (
            BOXES,
            {"objects_column": "objects", "segmentation_key": "bbox"},
            r"'boxes' has no use for the option `segmentation_key`",
        ),
        (
            BOXES,
            {"objects_column": "objects", "label_column": "label"},
            r"'boxes' has no use for the option `label_column`",
        ),
        (
            BOXES,
            {"objects_column": "objects", "bbox_key": "box"},
            r"column 'objects' has no key 'box'; there are \['bbox', 'category'\]",
        ),
        (BOXES, {"objects_column": "objects", "category_key": "label"}, r"column 'objects' has no key 'label'"),
        (BOXES, {"objects_column": "objects", "crowd_key": "iscrowd"}, r"column 'objects' has no key 'iscrowd'"),
        (
            BOXES,
            {"objects_column": "objects", "category_key": "bbox"},
            r"key 'bbox' holds .*ids are whole numbers or words",
        ),
        (BOXES, {"objects_column": "objects", "box_format": "yxyx"}, r"`box_format` is one of .*not 'yxyx'"),
        (INSTANCE, {"objects_column": "objects"}, r"'instance' needs the option `segmentation_key`"),
        (
            replace(BOXES, id_map={"cat": 0}, void_ids=frozenset()),
            {"objects_column": "objects"},
            r"holds the numbers of ClassLabel\(names=\['cat', .*the id map of dataset 'tiny' has none of them",
        ),
        (SEMANTIC, {"label_column": "label", "split": "nope"}, r"(?i)split.*nope"),
    ],
)
def test_options_and_columns_that_do_not_fit(tmp_path, streaming, spec, options, message):
    features = {
        **LABELLED,
        **OBJECTS,
        "number": Value("int64"),
        "segments": List({"id": Value("int64"), "category_id": Value("string")}),
    }
    path = write(tmp_path / "d", [{**GOOD, "objects": [], "number": 1, "segments": []}], features)
    with pytest.raises(ValueError, match=message) as found:
        read_hub(spec, path=str(path), streaming=streaming, **options)
    assert not isinstance(found.value, BadSampleError)


def test_a_buffer_without_rows_or_without_a_stream(tmp_path):
    path = str(write(tmp_path / "d", [GOOD], LABELLED))
    with pytest.raises(ValueError, match="`shuffle_buffer` must be 1 or more"):
        read_hub(SEMANTIC, path=path, label_column="label", streaming=True, shuffle_buffer=0)
    with pytest.raises(ValueError, match="`shuffle_buffer` is for `streaming` alone"):
        read_hub(SEMANTIC, path=path, label_column="label", shuffle_buffer=5)


def test_a_dataset_without_rows(tmp_path):
    path = str(write(tmp_path / "d", [], LABELLED))
    with pytest.raises(ValueError, match=r"dataset 'tiny', split 'train': cannot be loaded: .*no data"):
        read_hub(SEMANTIC, path=path, label_column="label")
    stream = read_hub(SEMANTIC, path=path, label_column="label", streaming=True)
    assert isinstance(stream, SampleStream)
    with pytest.raises(ValueError, match="no rows"):
        list(stream.epoch(0))


@both
def test_a_dataset_that_is_not_there(tmp_path, streaming):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_hub(SEMANTIC, path=str(tmp_path / "nowhere"), label_column="label", streaming=streaming)
    with pytest.raises(ValueError, match=r"dataset 'tiny', split 'train': cannot be loaded: .*nobody/nothing"):
        read_hub(SEMANTIC, path="nobody/nothing", label_column="label", streaming=streaming)


@both
def test_files_that_are_no_parquet(tmp_path, streaming):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    options = {"path": "parquet", "data_files": str(tmp_path / "a.parquet"), "label_column": "label"}
    with pytest.raises(ValueError, match=r"(?i)parquet"):
        read_hub(SEMANTIC, streaming=streaming, **options)


def test_a_damaged_file_among_good_ones(tmp_path):
    path = write(tmp_path / "d", [GOOD] * 4, LABELLED, shards=2)
    file = path / "data/train-00001-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"dataset 'tiny', split 'train': cannot be loaded: .*(?i:parquet)"):
        read_hub(SEMANTIC, path=str(path), label_column="label")


def test_a_stream_whose_columns_are_not_known(tmp_path):
    (tmp_path / "a.csv").write_text("image,label\na.png,b.png\n")
    options = {"path": "csv", "data_files": str(tmp_path / "a.csv"), "label_column": "label"}
    with pytest.raises(ValueError, match="the columns of this stream are not known; read it without `streaming`"):
        read_hub(SEMANTIC, streaming=True, **options)
    with pytest.raises(ValueError, match=r"column 'image' holds Value.*string'\), not encoded images"):
        read_hub(SEMANTIC, **options)


# --- any annotation comes back


@st.composite
def panoptic_rows(draw):
    height, width = draw(st.integers(2, 6)), draw(st.integers(2, 6))
    ids = draw(st.lists(st.integers(1, 2**24 - 1), min_size=1, max_size=4, unique=True))
    choices = draw(st.lists(st.sampled_from([0, *ids]), min_size=height * width, max_size=height * width))
    present = sorted(set(choices) - {0})
    categories = {segment: draw(st.sampled_from([17, 193, 255])) for segment in present}
    crowds = {segment: draw(st.booleans()) for segment in present}
    return np.array(choices).reshape(height, width), categories, crowds


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(panoptic_rows(), min_size=1, max_size=3), streaming=st.booleans(), lists=st.booleans())
def test_panoptic_rows_come_back(tmp_path_factory, rows, streaming, lists):
    tables = []
    for ids, categories, crowds in rows:
        infos = {
            "id": list(categories),
            "category_id": list(categories.values()),
            "iscrowd": [int(crowds[segment]) for segment in categories],
        }
        image = photo(*ids.shape)
        tables.append({"image": image, "label": encoded(rgb_of(ids)), "info": infos if lists else as_structs(infos)})
    kinds = {key: Value("int64") for key in ("id", "category_id", "iscrowd")}
    info = {key: List(kind) for key, kind in kinds.items()} if lists else List(kinds)
    path = write(tmp_path_factory.mktemp("rows") / "d", tables, {**LABELLED, "info": info})
    data = read_hub(PANOPTIC, path=str(path), label_column="label", segments_column="info", streaming=streaming)
    if isinstance(data, SampleStream):
        samples = [
            data.load(row) for row in sorted(data.epoch(0), key=lambda row: int(row["row number"].split("-")[1]))
        ]
    else:
        samples = [data[index] for index in range(len(data))]
    assert len(samples) == len(rows)
    for sample, (ids, categories, crowds) in zip(samples, rows, strict=True):
        kept = [segment for segment, category in categories.items() if category != 255]
        assert sample.annotation.class_labels.tolist() == [PANOPTIC.id_map[categories[segment]] for segment in kept]
        assert sample.annotation.is_crowd.tolist() == [crowds[segment] for segment in kept]
        expected = np.full(ids.shape, -1)
        for index, segment in enumerate(kept):
            expected[ids == segment] = index
        np.testing.assert_array_equal(sample.annotation.segment_map, expected)


@st.composite
def boxes_in_pixels(draw):
    """xyxy of whole pixels in 16 x 16, so that fractions of the image are exact."""
    left, top = draw(st.integers(0, 15)), draw(st.integers(0, 15))
    return left, top, draw(st.integers(left + 1, 16)), draw(st.integers(top + 1, 16))


@settings(max_examples=25, deadline=None)
@given(
    boxes=st.lists(st.tuples(boxes_in_pixels(), st.integers(0, 2)), max_size=4),
    box_format=st.sampled_from(["xywh", "xyxy", "cxcywh"]),
    normalised=st.booleans(),
    lists=st.booleans(),
)
def test_boxes_come_back_in_any_format(tmp_path_factory, boxes, box_format, normalised, lists):
    def stored(box):
        left, top, right, bottom = box
        values = {
            "xyxy": (left, top, right, bottom),
            "xywh": (left, top, right - left, bottom - top),
            "cxcywh": ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top),
        }[box_format]
        return [value / 16 if normalised else value for value in values]

    found = objects(*((stored(box), category) for box, category in boxes))
    row = {"image": photo(16, 16), "objects": found if lists else as_structs(found)}
    path = write(tmp_path_factory.mktemp("rows") / "d", [row], AS_LISTS if lists else OBJECTS)
    options = {"objects_column": "objects", "box_format": box_format, "normalised": normalised}
    annotation = read_hub(BOXES, path=str(path), **options)[0].annotation
    kept = [(box, category) for box, category in boxes if category != 2]
    assert annotation.boxes.tolist() == [list(map(float, box)) for box, _ in kept]
    assert annotation.class_labels.tolist() == [category for _, category in kept]
