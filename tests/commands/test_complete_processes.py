"""`dataseg complete` on several processes: the same files, whoever did what and whenever it was
stopped.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from helpers import warm_python
from helpers.example_scripts import EXAMPLES
from helpers.mixes import saved_model
from helpers.run_programs import environment

pytestmark = pytest.mark.slow

SCRIPT = str(EXAMPLES / "complete.py")
COUNT = 7
BROKEN = 3  # image, of the second process's second batch


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Boxes of seven images, and maps of the embedded world."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(COUNT):
        pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{number}.png")
    listed = [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 60} for n in range(COUNT)]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [5, 4, 20 + n, 30], "iscrowd": 0}
        for n in range(COUNT)
    ]
    (tmp_path / "boxes.json").write_text(
        json.dumps(
            {"images": listed, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
        )
    )
    mine = {
        "spec": {"task": "boxes", "classes": [{"name": "cat", "ids": [1], "thing": True}]},
        "reader": "coco_instances",
        "images": str(tmp_path / "images"),
        "annotation_file": str(tmp_path / "boxes.json"),
        "image_size": 64,
    }
    maps = {"spec": "shapes_semantic", "reader": "shapes", "count": 5, "image_size": 64}
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"datasets": {"mine": mine, "maps": maps}}))
    return file


def arguments(model: Path, config: Path, output: Path, *more: str) -> list[str]:
    places = ["--model", str(model), "--config", str(config), "--output", str(output)]
    return [SCRIPT, *places, *more]


def completed(
    processes: int, model: Path, config: Path, output: Path, *more: str
) -> dict[str, bytes]:
    """What a completion writes into its folder, but for what says who did it."""
    given = arguments(model, config, output, *more)
    done = warm_python.run_together(given, environment(), processes)
    assert done.returncode == 0, done.stderr[-3000:]
    return files_of(output)


def files_of(output: Path) -> dict[str, bytes]:
    kept = [path for path in output.rglob("*.*") if "completed_images" not in path.name]
    here = str(output).encode()
    return {
        path.relative_to(output).as_posix(): path.read_bytes().replace(here, b"HERE")
        for path in sorted(kept)
        if path.is_file()
    }


def ended(processes: int, *given: Any) -> tuple[list[int | None], str]:
    """Exit codes and errors of all processes, none of which is killed."""
    scripts = warm_python.Scripts(arguments(*given), environment(), processes).scripts
    errors = "".join(script.communicate(timeout=200)[1] for script in scripts)
    return [script.returncode for script in scripts], errors


def journal_rows(file: Path) -> list[int]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [image["row"] for line in lines for image in line["labeled"]]


def test_any_number_of_processes_writes_the_same(model: Path, config: Path, tmp_path: Path) -> None:
    """Batches of two of 7 and 5 images: some are not full, and some processes have none."""
    more = ("--batch_size", "2", "--annotations", "cvat_xml", "--second_layer")
    alone = completed(1, model, config, tmp_path / "alone", *more)
    assert alone.keys() >= {
        "mine/annotations.json",
        "mine/second_layer/annotations.json",
        "mine/second_layer/maps/0.png.png",
        "maps/contact_sheet.png",
        "maps/annotations/cvat.xml",
    }
    together = completed(2, model, config, tmp_path / "together", *more)
    assert together == alone
    for rank, rows in [("", [0, 1, 4, 5]), ("-1", [2, 3, 6])]:
        file = tmp_path / f"together/mine/completed_images{rank}.jsonl"
        assert journal_rows(file) == rows


@pytest.mark.parametrize("later", [1, 3])
def test_a_failure_ends_all_and_another_number_goes_on(
    model: Path, config: Path, tmp_path: Path, later: int
) -> None:
    """The error is said once, and the files are those of a completion in one go."""
    more = ("--batch_size", "1", "--second_layer")
    alone = completed(1, model, config, tmp_path / "alone", *more)
    broken = tmp_path / f"images/{BROKEN}.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    output = tmp_path / "stopped"
    codes, errors = ended(2, model, config, output, *more)
    assert codes == [2, 2], errors
    assert errors.count("error:") == 1
    assert f"{BROKEN}.png: cannot be read as an image" in errors
    assert "Traceback" not in errors
    assert journal_rows(output / "mine/completed_images.jsonl") == [0, 2]
    assert journal_rows(output / "mine/completed_images-1.jsonl") == [1]
    broken.write_bytes(whole)
    assert completed(later, model, config, output, *more) == alone


def test_a_folder_that_cannot_be_taken_is_said_once(
    model: Path, config: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    codes, errors = ended(2, model, config, tmp_path / "other")
    assert codes == [2, 2], errors
    assert errors.count("error:") == 1
    assert "is not output of this package" in errors
