"""From settings to datasets: what cannot work is refused with the key of the setting and the
remedy.
"""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml
from PIL import Image

from dataseg_hf.data.mixing import TrainingSet
from dataseg_hf.data.readers.reader_tasks import READER_FORMS, tasks_of_reader
from dataseg_hf.data.readers.registry import READERS
from dataseg_hf.data.sample import SampleDataset, Segments, TaskName, UnknownIdsError
from dataseg_hf.settings.datasets import load_source, resolve_mix, training_mix
from dataseg_hf.settings.run import ConfigError, RunConfig, parse_run_config

OWN = {
    "task": "semantic",
    "classes": [{"name": "road", "ids": [1]}, {"name": "car", "ids": [2], "thing": True}],
}


def config(tmp_path: Path, datasets: dict[str, Any], **settings: Any) -> RunConfig:
    file = tmp_path / "run.yaml"
    run = {
        "output_dir": "out",
        "text_encoder": {"kind": "hashed_ngrams"},
        "datasets": datasets,
        **settings,
    }
    file.write_text(yaml.safe_dump(run))
    return parse_run_config(["--config", str(file)], "unused.yaml")


def shapes(name: str = "shapes_panoptic", **settings: Any) -> dict[str, Any]:
    return {"spec": name, "count": 4, **settings}


def folder_of_images(root: Path, *labels: int) -> dict[str, Any]:
    """Images 0.jpg, 1.jpg, ... whose PNG is filled with one label."""
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for number, label in enumerate(labels):
        Image.new("RGB", (4, 3)).save(root / f"images/{number}.jpg")
        Image.fromarray(np.full((3, 4), label, np.uint8)).save(root / f"labels/{number}.png")
    return {
        "spec": OWN,
        "reader": "image_png",
        "images": f"{root}/images",
        "annotations": f"{root}/labels",
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"spec": "cocoo"},
            r"^datasets\.a\.spec: unknown dataset 'cocoo'; known are \['ade20k_panoptic'",
        ),
        ({"spec": OWN}, r"^datasets\.a\.reader: is required"),
        (
            {"spec": OWN, "reader": "jpeg"},
            r"^datasets\.a\.reader: unknown reader 'jpeg'; known are",
        ),
        (
            {"spec": OWN, "reader": "nowhere:read"},
            r"^datasets\.a\.reader: cannot import 'nowhere:read'",
        ),
        ({"spec": OWN, "reader": "json:read"}, r"^datasets\.a\.reader: cannot import 'json:read'"),
        (
            {"spec": OWN, "reader": "os:path"},
            r"^datasets\.a\.reader: 'os:path' is no function of a spec",
        ),
        (
            {"spec": OWN, "reader": "os:getcwd"},
            r"^datasets\.a\.reader: 'os:getcwd' is no function of a spec",
        ),
        (
            {"spec": OWN, "reader": "builtins:id"},
            r"^datasets\.a\.reader: 'builtins:id' returned int; a reader returns",
        ),
        (
            {"spec": OWN, "reader": "image_png"},
            r"^datasets\.a\.images: reader 'image_png' needs it",
        ),
        (
            {
                "spec": OWN,
                "reader": "image_png",
                "images": ".",
                "annotations": ".",
                "annotation_file": "x.json",
            },
            r"^datasets\.a\.annotation_file: reader 'image_png' does not take it; it takes \[",
        ),
        (
            {
                "spec": OWN,
                "reader": "image_png",
                "images": ".",
                "annotations": ".",
                "options": {"sufix": ".png"},
            },
            r"^datasets\.a\.options\.sufix: reader 'image_png' does not take it",
        ),
        (
            {
                "spec": OWN,
                "reader": "image_png",
                "images": "${NO_SUCH_VARIABLE}/x",
                "annotations": ".",
            },
            r"^datasets\.a\.images: .*NO_SUCH_VARIABLE.* environment variable that is not set",
        ),
        (
            {"spec": OWN, "reader": "image_png", "images": "nowhere", "annotations": "."},
            r"^datasets\.a: nowhere: no such",
        ),
        (shapes(count=0), r"^datasets\.a: dataset 'shapes_panoptic' has no images"),
        (
            shapes(category_map={"lion": None}),
            r"^datasets\.a\.category_map: .* has no class \['lion'\]",
        ),
        (
            {"spec": {**OWN, "void_ids": [2]}, "reader": "image_png"},
            r"^datasets\.a\.spec\.void_ids: \['2'\] are ids of classes too",
        ),
        (
            {"spec": {"task": "boxes", "classes": [{"name": "car"}, {"name": "car", "ids": [3]}]}},
            r"^datasets\.a\.spec\.classes: class name 'car' stands there twice",
        ),
        (
            {
                "spec": {
                    "task": "boxes",
                    "classes": [{"name": "car", "ids": [3]}, {"name": "bus", "ids": [3]}],
                }
            },
            r"^datasets\.a\.spec\.classes: id 3 stands there twice",
        ),
        (
            {"spec": {"task": "boxes", "classes": []}},
            r"^datasets\.a\.spec\.classes: name at least one class",
        ),
    ],
)
def test_an_entry_that_cannot_work_is_refused_by_its_key(
    tmp_path: Path, entry: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        training_mix(config(tmp_path, {"a": entry}))
    assert "\n" not in str(error.value)


def test_the_catalog_names_reader_and_options(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "images/a.png")
    Image.fromarray(np.full((3, 4), 8, np.uint8)).save(tmp_path / "labels/a.png")
    entry = {"spec": "camvid", "images": f"{tmp_path}/images", "annotations": f"{tmp_path}/labels"}
    (member,) = training_mix(config(tmp_path, {"a": entry}))
    assert isinstance(member.data, SampleDataset)
    assert member.data[0].annotation.class_labels.tolist() == [8]


def shares(members: list[TrainingSet]) -> list[float]:
    return [round(row.share, 4) for row in resolve_mix(members)]


@pytest.mark.parametrize(
    ("first", "second", "settings", "expected"),
    [
        ({}, {}, {}, [0.5, 0.5]),
        ({"ratio": 3}, {"ratio": 1}, {}, [0.75, 0.25]),
        ({"ratio": 3}, {}, {}, [0.75, 0.25]),
        ({"probability": 0.9}, {"probability": 0.1}, {}, [0.9, 0.1]),
        ({}, {}, {"size_temperature": 1}, [0.8, 0.2]),
        ({}, {}, {"size_temperature": 2}, [0.6667, 0.3333]),  # sqrt(16) : sqrt(4)
    ],
)
def test_shares(
    tmp_path: Path,
    first: dict[str, Any],
    second: dict[str, Any],
    settings: dict[str, Any],
    expected: list[float],
) -> None:
    mix = {"a": shapes(**first) | {"count": 16}, "b": shapes(**second)}
    assert shares(training_mix(config(tmp_path, mix, **settings))) == expected


def test_passes_per_1000_steps(tmp_path: Path) -> None:
    (row,) = resolve_mix(training_mix(config(tmp_path, {"a": shapes(batch_size=2)})))
    assert (row.images, row.passes_per_1000_steps) == (4, 500.0)


def test_unusable_images_are_an_error_or_left_out_or_collected(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    entry = folder_of_images(tmp_path, 1, 2, 1)
    (tmp_path / "labels/1.png").unlink()
    mix = config(tmp_path, {"a": entry}).datasets
    with pytest.raises(
        ConfigError, match=r"^datasets\.a: .*labels/1\.png: missing.*on_bad_sample 'skip'"
    ):
        load_source(mix["a"], "datasets.a")
    left = load_source(mix["a"], "datasets.a", "skip")
    assert isinstance(left, SampleDataset)
    assert len(left) == 2
    assert "datasets.a: left out images that cannot be used: " in capsys.readouterr().out
    collected = load_source(mix["a"], "datasets.a", "collect")
    assert isinstance(collected, SampleDataset)
    assert len(collected.problems) == 1


def test_max_samples_and_parts(tmp_path: Path) -> None:
    entry = folder_of_images(tmp_path, 1, 2, 1, 2, 1)
    mix = config(tmp_path, {"a": {**entry, "part": [1, 2]}, "b": {**entry, "max_samples": 3}})
    first, second = training_mix(mix)
    assert isinstance(first.data, SampleDataset)
    assert isinstance(second.data, SampleDataset)
    assert [row["image_id"] for row in first.data.rows] == ["1", "3"]
    assert [row["image_id"] for row in second.data.rows] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("settings", "run", "message"),
    [
        ({"part": [0, 2]}, {}, r"datasets\.a\.part: a streamed dataset is read whole"),
        ({"max_samples": 1}, {}, r"datasets\.a\.max_samples: a streamed dataset"),
        ({"keep_in_memory": True}, {}, r"datasets\.a\.keep_in_memory: a streamed dataset"),
        (
            {},
            {"size_temperature": 2},
            r"datasets\.a: the number of streamed images is unknown|datasets\.a",
        ),
    ],
)
def test_what_a_stream_cannot_do_is_refused(
    tmp_path: Path, settings: dict[str, Any], run: dict[str, Any], message: str
) -> None:
    import datasets

    rows = {"image": [np.zeros((3, 4, 3), np.uint8)], "label": [np.ones((3, 4), np.uint8)]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "a.parquet"))
    options = {
        "path": "parquet",
        "data_files": str(tmp_path / "a.parquet"),
        "label_column": "label",
        "streaming": True,
    }
    entry = {"spec": OWN, "reader": "hub", "options": options, **settings}
    with pytest.raises(ConfigError, match=message):
        training_mix(config(tmp_path, {"a": entry}, **run))


# --- options of a reader


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"image_suffix": 3}, "image_suffix"),
        ({"annotation_suffix": [".png"]}, "annotation_suffix"),
        ({"split_file": ["a"]}, "split_file"),
        ({"split_file": {"a": 1}}, "split_file"),
    ],
)
def test_options_of_a_wrong_type_are_refused_by_their_key(
    tmp_path: Path, options: dict[str, Any], key: str
) -> None:
    entry = folder_of_images(tmp_path, 1, 2, 1) | {"options": options}
    mix = config(tmp_path, {"a": entry}).datasets
    with pytest.raises(
        ConfigError, match=rf"^datasets\.a\.options\.{key}: .* cannot be used: .*valid"
    ):
        load_source(mix["a"], "datasets.a")


@pytest.mark.parametrize(
    ("reader", "task"),
    [
        (reader, task)
        for reader in READER_FORMS
        for task in get_args(TaskName)
        if task not in tasks_of_reader(reader)
    ],
)
def test_a_reader_that_cannot_serve_the_task_is_refused(
    tmp_path: Path, reader: str, task: str
) -> None:
    entry = folder_of_images(tmp_path, 1) | {"reader": reader, "spec": {**OWN, "task": task}}
    mix = config(tmp_path, {"a": entry}).datasets
    with pytest.raises(
        ConfigError,
        match=rf"^datasets\.a\.reader: .*reader '{reader}' serves .*, not '{task}'; change",
    ):
        load_source(mix["a"], "datasets.a")


def test_every_reader_says_which_tasks_it_serves() -> None:
    assert READER_FORMS.keys() == READERS.keys()


def test_unknown_ids_may_count_as_void(tmp_path: Path) -> None:
    spec = {"task": "semantic", "classes": [{"name": "road", "ids": [1]}]}
    entry = folder_of_images(tmp_path, 2, 1) | {"spec": spec}
    mix = config(tmp_path, {"a": entry, "b": {**entry, "unknown_ids": "void"}}).datasets
    data = load_source(mix["a"], "datasets.a")
    assert isinstance(data, SampleDataset)
    with pytest.raises(
        UnknownIdsError, match=r"not in the spec of dataset 'custom': 2 \(12 pixels\)"
    ):
        data[0]
    void = load_source(mix["b"], "datasets.b")
    assert isinstance(void, SampleDataset)
    assert isinstance(void[0].annotation, Segments)
    assert (void[0].annotation.segment_map == -1).all()


def test_names_that_contradict_the_spec_end_the_run_before_training_even_where_bad_images_are_skipped(
    tmp_path: Path,
) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images/1.png")
    content = {
        "images": [{"id": 1, "file_name": "1.png", "height": 8, "width": 8}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3]}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    entry = {
        "spec": {"task": "boxes", "classes": [{"name": "cat", "ids": [1], "thing": True}]},
        "reader": "coco_instances",
        "images": str(tmp_path / "images"),
        "annotation_file": str(tmp_path / "a.json"),
    }
    mix = config(tmp_path, {"a": entry}).datasets
    for policy in ("raise", "skip"):
        with pytest.raises(
            ConfigError, match=r"^datasets\.a: 1 category name of the files contradicts the spec"
        ):
            load_source(mix["a"], "datasets.a", policy)
    entry["spec"]["classes"][0]["aliases"] = ["Dog"]
    load_source(config(tmp_path, {"a": entry}).datasets["a"], "datasets.a")
