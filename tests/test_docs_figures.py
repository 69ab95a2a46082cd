"""The pictures of docs/merge.md: they can be drawn, and show what the page says of them."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"


@pytest.fixture(scope="module")
def merge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_figures_merge", FIGURES / "merge.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(merge: ModuleType) -> list:
    return merge.made_proposals(merge.scene())


@pytest.fixture(scope="module")
def output(merge: ModuleType, made: list) -> object:
    return merge.as_model_output(made)


def test_the_script_draws_the_committed_pictures(merge: ModuleType, tmp_path: Path) -> None:
    written = merge.main(tmp_path / "pictures")
    assert [path.name for path in written] == sorted(path.name for path in FIGURES.glob("merge_*.png"))
    for path in written:
        assert Image.open(path).size == Image.open(FIGURES / path.name).size
        assert (FIGURES / path.name).stat().st_size < 150_000
