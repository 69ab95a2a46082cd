"""`dataseg doctor`: suggestions for people and programs, and the images to annotate next."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from dataseg_hf.commands.doctor import main as doctor
from dataseg_hf.data.readers import read_coco_instances, read_cvat_xml
from dataseg_hf.data.sample import ClassInfo, DatasetSpec
from dataseg_hf.processes import Processes
from helpers.mixes import command, saved_model, shapes_config

COUNT = 4
SETS = ("shapes_boxes", "shapes_semantic", "shapes_panoptic")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes_config(tmp_path_factory.mktemp("config"), SETS, COUNT)


@pytest.fixture(scope="module")
def examined(model: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("doctor") / "all"
    formats = ("--annotations", "cvat_xml", "labelme")
    assert doctor(command(model, config, output, *formats)) == 0
    return output


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("name", SETS)
def test_each_set_has_its_files(examined: Path, name: str) -> None:
    folder = examined / name
    listed = rows(folder / "suggestions.csv")
    content = json.loads((folder / "suggestions.json").read_text())
    assert len(listed) == len(content["annotations"]) > 0
    assert Image.open(folder / "suggestions.png").size[0] > 0
    for kind in ("missing", "class", "shape"):
        scores = [float(row["score"]) for row in listed if row["doubt"] == kind]
        assert scores == sorted(scores, reverse=True)
    names = [category["name"] for category in content["categories"]]
    assert len(names) == len(set(names)), "a name that several sets have is one category"
    for one in content["annotations"]:
        assert one["doubt"] in {"missing", "class", "shape"}
        assert ("object" in one) == (one["doubt"] != "missing")
        assert one["text"]


@pytest.mark.parametrize("name", SETS)
def test_all_images_are_ranked(examined: Path, name: str) -> None:
    ranked = rows(examined / name / "images.csv")
    assert {row["image"] for row in ranked} == {
        f"{name}_train_{index:05}.png" for index in range(COUNT)
    }
    worth = [float(row["worth"]) for row in ranked]
    assert worth == sorted(worth, reverse=True)


def test_suggestions_are_read_back_by_the_readers(examined: Path) -> None:
    folder = examined / "shapes_boxes"
    content = json.loads((folder / "suggestions.json").read_text())
    names = [category["name"] for category in content["categories"]]
    classes = tuple(ClassInfo(name, True) for name in names)
    numbers = {number: index for index, number in enumerate(c["id"] for c in content["categories"])}
    spec = DatasetSpec("suggested", "instance", classes, id_map=numbers)
    data = read_coco_instances(spec, folder / "images", folder / "suggestions.json")
    assert list(data.problems) == []
    count = sum(len(data[index].annotation.class_labels) for index in range(len(data)))
    assert count == len(content["annotations"])
    words = DatasetSpec("suggested", "instance", classes, {n: i for i, n in enumerate(names)})
    again = read_cvat_xml(words, folder / "images", folder / "annotations/cvat.xml")
    assert sum(len(again[n].annotation.class_labels) for n in range(len(again))) == count


def test_the_most_are_kept(model: Path, config: Path, tmp_path: Path) -> None:
    chosen = ("--datasets", "shapes_boxes", "--most", "1")
    assert doctor(command(model, config, tmp_path / "out", *chosen)) == 0
    kinds = [row["doubt"] for row in rows(tmp_path / "out/shapes_boxes/suggestions.csv")]
    assert len(kinds) == len(set(kinds)) > 0
    assert not (tmp_path / "out/shapes_panoptic").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--datasets", "nothing"], "--datasets: no entry 'nothing' in datasets; there are"),
        (["--datasets.shapes_boxes.count", "many"], "datasets.shapes_boxes.count"),
        (["--most", "0"], "must be a whole number above 0"),
    ],
)
def test_what_cannot_work_is_one_line(
    more: list[str],
    message: str,
    model: Path,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        code = doctor(command(model, config, tmp_path / "out", *more))
    except SystemExit as ending:  # of options
        code = int(ending.code or 0)
    assert code == 2
    assert message in capsys.readouterr().err


def test_several_processes_are_refused(
    model: Path,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Processes, "started", lambda: Processes(world_size=2))
    assert doctor(command(model, config, tmp_path / "out")) == 2
    assert "the doctor works in one process" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
