"""Folders and packages that cannot predict are refused in one line, before the output folder is
made.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataseg_hf.commands.predict import main
from dataseg_hf.sharing import runtimes


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def refusal(capsys: pytest.CaptureFixture[str], model: Path, photo: Path, *more: str) -> str:
    """The one line that a prediction ends with, which is not begun."""
    output = photo.parent / "out"
    words = ["--model", str(model), "--input", str(photo), "--output", str(output), *more]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert not output.exists()
    return line


def export_of(folder: Path, content: object) -> Path:
    """A folder that says that it is an export."""
    folder.mkdir()
    (folder / "export.json").write_text(
        content if isinstance(content, str) else json.dumps(content)
    )
    return folder


def test_a_folder_that_is_no_export(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, tmp_path, photo, "--runtime", "onnx")
    assert f"--model: {tmp_path} is no export (no export.json in it)" in line
    assert "dataseg export" in line


def test_an_export_without_a_runtime(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export_of(tmp_path / "export", {})
    assert "is an export; add --runtime" in refusal(capsys, folder, photo)


@pytest.mark.parametrize("content", ['{"graphs": {', "[]", "{}"])
def test_a_damaged_description(
    content: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export_of(tmp_path / "export", content)
    line = refusal(capsys, folder, photo, "--runtime", "onnx")
    assert "export.json" in line
    assert "export again" in line


def test_a_precision_that_was_not_exported(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export_of(tmp_path / "export", {"graphs": {"fp32": {}}, "config": {}})
    line = refusal(capsys, folder, photo, "--runtime", "onnx", "--precision", "int8")
    assert "has no int8 graph, only fp32" in line
    assert "--quantize int8" in line


@pytest.mark.parametrize(("runtime", "extra"), [("onnx", "export"), ("openvino", "openvino")])
def test_a_runtime_that_is_not_installed(
    runtime: str,
    extra: str,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = export_of(tmp_path / "export", {"graphs": {"fp32": {}}, "config": {}})
    (folder / "model.onnx").touch()
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    line = refusal(capsys, folder, photo, "--runtime", runtime)
    assert f"pip install dataseg-hf[{extra}]" in line


def test_a_precision_without_a_runtime(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--model", "x", "--input", str(photo), "--output", "y", "--precision", "int8"])
    assert "argument --precision" in capsys.readouterr().err
