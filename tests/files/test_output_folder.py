"""What a folder must hold before a command writes there: earlier output makes room, anything else
is refused.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from accelerate.state import AcceleratorState
from PIL import Image

from dataseg_hf.errors import ConfigError
from dataseg_hf.files.output_folder import (
    MARKER,
    check_addition,
    check_output_folder,
    claim_output_folder,
    kind_of,
)
from helpers.example_scripts import main_of
from helpers.run_programs import command

KINDS = ("run", "evaluation", "predictions")
RUN_CONFIG = yaml.safe_dump({"output_dir": "x", "datasets": {}, "max_steps": 3})


def fill(folder: Path, files: Mapping[str, str]) -> Path:
    """A folder with files of that content."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def old_run(folder: Path) -> Path:
    """As a version without the marker left it."""
    return fill(folder, {"run_config.yaml": RUN_CONFIG, "mix.json": "[]", "notes.txt": "mine"})


OURS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "old run": ("run", old_run),
    "run killed at its start": (
        "run",
        lambda f: fill(f, {"run_config.yaml": RUN_CONFIG, "contact_sheets/a.png": ""}),
    ),
    "old evaluation": (
        "evaluation",
        lambda f: fill(f, {"results.json": "{}", "report.md": "# Evaluation of m\n"}),
    ),
    "old predictions": (
        "predictions",
        lambda f: fill(f, {"predictions.json": "{}", "overlays/a.png": ""}),
    ),
}
FOREIGN: dict[str, Callable[[Path], Path]] = {
    "project": lambda f: fill(f, {"thesis.tex": "years of work"}),
    "earlier runs": lambda f: old_run(f / "run_a").parent,
    "superseded runs": lambda f: old_run(f / "run_a.previous-1").parent,
    "dataset": lambda f: fill(f, {"images/1.png": "", "labels/1.png": ""}),
    "saved model": lambda f: fill(
        f, {"config.json": '{"model_type": "dataseg"}', "model.safetensors": ""}
    ),
    "project with a copied config": lambda f: fill(
        f, {"run_config.yaml": RUN_CONFIG, "thesis.tex": ""}
    ),
    "config that is no mapping": lambda f: fill(f, {"run_config.yaml": "[", "mix.json": "[]"}),
    "checkpoints of another tool": lambda f: fill(f, {"checkpoints/epoch.ckpt": ""}),
    "checkpoint of a run": lambda f: fill(f, {"checkpoints/step-00000001/progress.json": "{}"}),
    "results of another tool": lambda f: fill(
        f, {"results.json": "{}", "report.md": "# Results\n"}
    ),
    "predictions of another tool": lambda f: fill(f, {"predictions.json": "{}", "code.py": ""}),
    "marker of another tool": lambda f: fill(
        f, {"dataseg_output.json": '{"kind": "photos"}', "a.txt": ""}
    ),
    "marker that is no json": lambda f: fill(f, {"dataseg_output.json": "run", "a.txt": ""}),
    "hidden file": lambda f: fill(f, {".git/HEAD": "ref"}),
}


def earlier_of(folder: Path, kind: str) -> Path | None:
    """Where a command that starts in a folder, and ends, has put what was there."""
    with claim_output_folder(folder, kind, "output_dir") as claimed:  # type: ignore[arg-type]
        return claimed.earlier


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_ours_is_refused_and_stays(
    tmp_path: Path, kind: str, make: Callable[[Path], Path]
) -> None:
    folder = make(tmp_path / "here")
    before = tree(tmp_path)
    for start in (check_output_folder, claim_output_folder):
        with pytest.raises(
            ConfigError, match=rf"^output_dir: '{folder}' .*\(in it: .*name a new or empty folder"
        ):
            start(folder, kind, "output_dir")
    with pytest.raises(ConfigError, match="is not output of this package"):
        check_addition(folder, "output_dir")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", OURS)
def test_output_makes_room_for_its_own_kind_only(tmp_path: Path, name: str) -> None:
    kind, make = OURS[name]
    folder = make(tmp_path / "here")
    before = tree(folder)
    assert kind_of(folder) == kind
    assert check_addition(folder, "output_dir") == folder
    for other in set(KINDS) - {kind}:
        with pytest.raises(ConfigError, match=r"holds .*, not .* and stays as it is"):
            claim_output_folder(folder, other, "output_dir")  # type: ignore[arg-type]
    assert earlier_of(folder, kind) == tmp_path / "here.previous-1"
    assert tree(tmp_path / "here.previous-1") == before
    assert tree(folder) == [MARKER]
    assert kind_of(folder) == kind
    assert earlier_of(folder, kind) == tmp_path / "here.previous-2"


def test_new_and_empty_folders_are_marked(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    sheets = fill(tmp_path / "inspected", {"contact_sheets/a.png": "", ".DS_Store": ""})
    for folder in (tmp_path / "a/b", tmp_path / "empty", sheets):
        assert earlier_of(folder, "run") is None
        assert json.loads((folder / MARKER).read_text())["kind"] == "run"
    assert (sheets / "contact_sheets/a.png").exists()


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    project, run = fill(tmp_path / "project", {"thesis.tex": ""}), old_run(tmp_path / "run")
    for name, target in {"to_project": project, "to_run": run, "to_new": tmp_path / "new"}.items():
        (tmp_path / name).symlink_to(target)
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        claim_output_folder(tmp_path / "to_project", "run", "output_dir")
    assert earlier_of(tmp_path / "to_run", "run") == tmp_path / "run.previous-1"
    assert earlier_of(tmp_path / "to_new", "run") is None
    assert tree(tmp_path / "to_run") == tree(tmp_path / "new") == [MARKER]


def test_a_run_that_something_needs_stays_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(old_run(tmp_path / "here"), {"config.yaml": "", "inside/a": ""})
    reads = {
        "--config": folder / "config.yaml",
        "datasets.a.images": tmp_path / "elsewhere",
        "options.key": "config",
    }
    with pytest.raises(
        ConfigError,
        match=r"--config .*config\.yaml.* is in it; name another folder, or go on with --",
    ):
        claim_output_folder(folder, "run", "output_dir", reads)
    with pytest.raises(ConfigError, match="model_weights"):
        claim_output_folder(folder, "run", "output_dir", {"model_weights": folder})
    monkeypatch.chdir(folder / "inside")
    with pytest.raises(ConfigError, match="the current folder is in it"):
        claim_output_folder("..", "run", "output_dir")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(folder))
    with pytest.raises(ConfigError, match="your home folder is in it"):
        claim_output_folder("here", "run", "output_dir")
    monkeypatch.delenv("HOME")
    old_run(folder / "fine_tuned")
    with pytest.raises(ConfigError, match="the run 'fine_tuned' in it; move that one"):
        claim_output_folder(folder, "run", "output_dir")
    assert not list(tmp_path.glob("*.previous-*"))


@pytest.mark.parametrize(
    "path", ["", " ", "{here}/file", "{here}/file/run", "{here}/loop", "{here}/\0"]
)
def test_what_can_be_no_folder_is_one_line(tmp_path: Path, path: str) -> None:
    fill(tmp_path, {"file": ""})
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for check in (lambda: check_output_folder(path.format(here=tmp_path), "run", "output_dir"),
                  lambda: check_addition(path.format(here=tmp_path), "output_dir")):  # fmt: skip
        with pytest.raises(ConfigError, match=r"^output_dir: .*folder") as raised:
            check()
        assert "\n" not in str(raised.value)


# --- every command that writes into a folder


def arguments(name: str, output: Path, aside: Path) -> list[str]:
    """A command that would write into `output`; its settings and images lie in `aside`."""
    settings = command(aside / "run")[-2:]
    Image.new("RGB", (8, 8)).save(aside / "photo.png")
    if name == "predict":
        return ["--model", "nowhere", "--input", str(aside / "photo.png"), "--output", str(output)]
    return [
        *(["--model", "nowhere"] if name == "evaluate" else []),
        *settings,
        "--output_dir",
        str(output),
    ]


@pytest.mark.parametrize(
    "name", ["cotrain", "train_with_trainer", "evaluate", "predict", "inspect_data"]
)
@pytest.mark.parametrize("place", ["project", ".", "earlier runs", "link", "file"])
def test_every_command_refuses_a_folder_that_is_not_its_own(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    place: str,
) -> None:
    here, aside = tmp_path / "here", tmp_path / "aside"
    aside.mkdir()
    FOREIGN["project" if place != "earlier runs" else place](here)
    (tmp_path / "link").symlink_to(here)
    monkeypatch.chdir(here)
    output = {"link": tmp_path / "link", "file": here / "thesis.tex", ".": Path(".")}.get(
        place, here
    )
    monkeypatch.setattr(sys, "argv", [name, *arguments(name, output, aside)])
    before = tree(tmp_path)
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        assert main_of(name)() == 2
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"'{output.resolve()}'" in error
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["cotrain", "train_with_trainer", "evaluate", "predict", "inspect_data"]
)
@pytest.mark.parametrize("text", ["", "loop", "a\0b", "$NOWHERE/run"])
def test_every_command_refuses_what_names_no_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str,
) -> None:
    (here := tmp_path / "here").mkdir()
    (here / "loop").symlink_to(here / "loop")
    monkeypatch.chdir(here)
    settings = arguments(name, Path("OUTPUT"), tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *settings[:-1], text])
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        assert main_of(name)() == 2
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "output" in error
    assert tree(here) == ["loop"]
