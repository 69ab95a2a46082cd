"""`completed: FOLDER` in an entry takes over what `dataset.yaml` there says of the source."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dataseg_hf.errors import ConfigError
from dataseg_hf.settings.entries import SpecSettings
from dataseg_hf.settings.parts import MixSettings, read_part

SOURCE = {
    "spec": {"task": "instance", "classes": [{"name": "cat", "ids": [1], "thing": True}]},
    "reader": "coco_instances",
    "images": "/photos",
    "annotation_file": "/done/cats/annotations.json",
    "options": {"score_weights": True},
    "completed": "/done/cats",
}


def parsed(folder: Path, entry: Any, *overrides: str) -> MixSettings:
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump({"datasets": {"cats": entry}}))
    return read_part(MixSettings, str(file), overrides)


@pytest.fixture
def done(tmp_path: Path) -> Path:
    folder = tmp_path / "done/cats"
    folder.mkdir(parents=True)
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"datasets": {"cats": SOURCE}}))
    return folder


def test_the_folder_states_the_source(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DONE", str(tmp_path / "done"))
    mix = parsed(tmp_path, {"completed": "${DONE}/cats", "ratio": 2, "images": "/copies"})
    entry = mix.datasets["cats"]
    assert isinstance(entry.spec, SpecSettings)
    assert [c.name for c in entry.spec.classes] == ["cat"]
    assert (entry.reader, entry.ratio) == ("coco_instances", 2)
    assert entry.images == "/copies"


def test_the_command_line_names_a_folder(done: Path, tmp_path: Path) -> None:
    mix = parsed(tmp_path, {"ratio": 2}, "--datasets.cats.completed", str(done))
    assert mix.datasets["cats"].reader == "coco_instances"


def test_settings_that_say_all_do_not_need_the_folder(tmp_path: Path) -> None:
    assert parsed(tmp_path, SOURCE).datasets["cats"].completed == "/done/cats"


@pytest.mark.parametrize("content", [None, "", "datasets: {}", "datasets: 3", "[", "a: b"])
def test_a_folder_without_a_completed_set_is_named(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "dataset.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"^datasets\.cats\.completed: .*dataset\.yaml: no entry"):
        parsed(tmp_path, {"completed": str(tmp_path)})


def test_options_are_added_to_those_of_the_folder(done: Path, tmp_path: Path) -> None:
    mix = parsed(tmp_path, {"completed": str(done), "options": {"crowd": "as_objects"}})
    assert mix.datasets["cats"].options == {"score_weights": True, "crowd": "as_objects"}


@pytest.mark.parametrize("key", ["spec", "reader"])
def test_another_source_beside_it_is_refused(key: str, done: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^datasets\.cats\.{key}: a completed set states"):
        parsed(tmp_path, {"completed": str(done), key: SOURCE[key]})


def test_a_folder_that_was_moved_is_read_where_it_is(tmp_path: Path) -> None:
    """With the images that were written beside it, or that a second layer shares with the first."""
    moved = tmp_path / "moved/cats/second_layer"
    moved.mkdir(parents=True)
    source = {
        **SOURCE,
        "images": "/done/cats/images",
        "annotations": "/done/cats/second_layer/maps",
        "annotation_file": "/done/cats/second_layer/annotations.json",
        "completed": "/done/cats/second_layer",
    }
    (moved / "dataset.yaml").write_text(yaml.safe_dump({"datasets": {"cats": source}}))
    entry = parsed(tmp_path, {"completed": str(moved)}).datasets["cats"]
    assert entry.images == str(tmp_path / "moved/cats/images")
    assert entry.annotations == str(moved / "maps")
    assert entry.annotation_file == str(moved / "annotations.json")
