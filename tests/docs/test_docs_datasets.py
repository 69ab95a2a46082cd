"""What the worked examples of docs/datasets.md read; `test_docs.py` runs all its blocks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataseg_hf.data.sample import Instances, SampleDataset, Segments
from dataseg_hf.settings.datasets import mix_table, resolve_mix, training_mix
from dataseg_hf.settings.parsing import parse_run_config
from helpers.docs_blocks import blocks
from helpers.drawings import IMAGES_OF_SAMPLE, lay_sample

HEAD = "output_dir: out\ntext_encoder: {kind: hashed_ngrams}\n"


def block(language: str, containing: str) -> str:
    (found,) = [
        b.text
        for b in blocks("docs/datasets.md")
        if b.language == language and containing in b.text
    ]
    return found


def test_a_mix_from_yaml_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", str(tmp_path))
    for folder in ("streets/images", "streets/labels", "vehicles"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (4, 2)).save(tmp_path / "streets/images/a.jpg")
    ids = np.array([[7, 11, 12, 0], [26, 7, 255, 0]], np.uint8)
    Image.fromarray(ids).save(tmp_path / "streets/labels/a_ids.png")
    Image.new("RGB", (8, 6)).save(tmp_path / "vehicles/b.jpg")
    annotations = [
        {"id": k, "image_id": 5, "category_id": k, "bbox": [k, 1, 2, 3], "iscrowd": 0, "area": 6}
        for k in (1, 2, 3)
    ]
    images = [{"id": 5, "file_name": "b.jpg", "height": 6, "width": 8}]
    (tmp_path / "vehicles.json").write_text(
        json.dumps({"images": images, "annotations": annotations})
    )
    (tmp_path / "run.yaml").write_text(HEAD + block("yaml", "my_streets"))

    config = parse_run_config(["--config", str(tmp_path / "run.yaml")], "unused.yaml")
    streets, vehicles = training_mix(config)
    assert isinstance(streets.data, SampleDataset)
    assert isinstance(vehicles.data, SampleDataset)
    street = streets.data[0].annotation
    assert isinstance(street, Segments)
    assert [streets.data.spec.labels[label] for label in street.class_labels] == [
        "road",
        "building",
        "car",
    ]
    assert street.segment_map.tolist() == [[0, 1, 1, -1], [2, 0, -1, -1]]
    boxes = vehicles.data[0].annotation
    assert isinstance(boxes, Instances)
    assert vehicles.data.spec.labels == ["car"]
    assert boxes.class_labels.tolist() == [0, 0]
    assert boxes.boxes.tolist() == [[1, 1, 3, 4], [2, 1, 4, 4]]
    assert "66.7%" in mix_table(resolve_mix([streets, vehicles])).splitlines()[1]


def test_exports_of_labeling_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", str(tmp_path))
    for tool in IMAGES_OF_SAMPLE:
        lay_sample(tool, tmp_path)
    (tmp_path / "run.yaml").write_text(HEAD + block("yaml", "reader: supervisely"))
    found = {}
    for member in training_mix(
        parse_run_config(["--config", str(tmp_path / "run.yaml")], "unused.yaml")
    ):
        assert isinstance(member.data, SampleDataset)
        annotations = [member.data[index].annotation for index in range(len(member.data))]
        labels = sorted(
            label for annotation in annotations for label in annotation.class_labels.tolist()
        )
        found[member.name] = [member.data.spec.labels[label] for label in labels]
    assert found == {
        "cvat": ["cat", "dog", "dog", "tree"],
        "label_studio": ["cat", "cat", "cat", "dog", "dog", "tree"],
        "supervisely": ["cat", "dog", "tree", "tree"],
    }


def test_a_reader_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_reader_of_the_docs.py").write_text(block("python", "def read_mine"))
    monkeypatch.syspath_prepend(str(tmp_path))
    Image.fromarray(np.array([[10, 200], [130, 20]], np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "run.yaml").write_text(
        HEAD
        + f"""
datasets:
  mine:
    spec: {{task: semantic, classes: [{{name: bright, ids: [1]}}]}}
    reader: my_reader_of_the_docs:read_mine
    images: {tmp_path}
    options: {{threshold: 150}}
"""
    )
    (member,) = training_mix(
        parse_run_config(["--config", str(tmp_path / "run.yaml")], "unused.yaml")
    )
    assert isinstance(member.data, SampleDataset)
    sample = member.data[0]
    assert isinstance(sample.annotation, Segments)
    assert sample.annotation.segment_map.tolist() == [[-1, 0], [-1, -1]]
