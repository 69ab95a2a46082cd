"""A run on objects of which more or less is known, as a user starts it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.run_programs import SETTINGS, run_here

ENTRY: dict[str, Any] = {"spec": "shapes_objects", "reader": "shapes", "count": 8, "image_size": 32}
KNOWN = {"mask": 0.25, "box": 0.25, "point": 0.25, "tag": 0.25}
OPTIONS = {"known": KNOWN, "unlabeled": ["red square"], "declared": True}


def config(tmp_path: Path, **options: Any) -> Path:
    held_out = {**ENTRY, "split": "eval", "metrics": ["mask_ap", "box_ap"]}
    settings = {
        **SETTINGS,
        "max_steps": 4,
        "datasets": {"some": {**ENTRY, "batch_size": 4, "options": OPTIONS | options}},
        "evaluation": {"some": {**held_out, "vocabulary": "some"}},
    }
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.mark.slow
def test_it_trains_and_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    assert run_here(monkeypatch, folder, "--config", str(config(tmp_path))) == 0
    results = json.loads((folder / "all_results.json").read_text())
    assert {"some/mask_ap50", "some/box_ap50"} <= set(results)
    header, *rows = (folder / "history.csv").read_text().splitlines()
    place = header.split(",").index("loss_point")
    assert len(rows) == 4
    assert any(float(row.split(",")[place]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"known": {"mask": 0.5}}, "the shares add up to 0.5, but must to 1"),
        ({"known": {"masks": 1.0}}, "datasets.some.options.known"),
        ({"unlabelled": ["red square"]}, "datasets.some.options.unlabelled"),
        ({"unlabeled": ["cat"]}, "has no classes ['cat']"),
    ],
)
def test_impossible_options_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    message: str,
) -> None:
    file = config(tmp_path, **options)
    assert run_here(monkeypatch, tmp_path / "run", "--config", str(file)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
