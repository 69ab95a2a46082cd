"""spaces/dataseg-demo/app.py through its own server."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from checkpoint_models import checkpoint_model, checkpoint_processor
from PIL import Image

from dataseg_hf.checkpoint import save_checkpoint

pytest.importorskip("gradio")
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
from gradio_client import Client, handle_file

APP = Path(__file__).resolve().parents[1] / "spaces" / "dataseg-demo" / "app.py"


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("dataseg_demo", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def client(app, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(checkpoint_model(), checkpoint_processor(), folder)
    demo = app.build_demo(folder)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True)
    yield Client(url, verbose=False)
    demo.close()


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
def test_segments_and_table(client, photo, task):
    drawn, table = client.predict(handle_file(photo), task, "scene", "", 0.01, api_name="/segment")
    names = [annotation["label"] for annotation in drawn["annotations"]]
    assert names
    assert [row[0] for row in table["data"]] == names
    assert {name.rstrip(" 0123456789") for name in names} <= {"cat", "dog", "grass", "sky"}
    assert all((row[1] == "") == (task == "semantic") for row in table["data"])
    if task == "semantic":
        assert sum(float(row[2].rstrip("%")) for row in table["data"]) == pytest.approx(100, abs=0.2)


def test_own_words(client, photo):
    _, table = client.predict(handle_file(photo), "semantic", "scene", " tree, red car ,", 0.5, api_name="/segment")
    assert {row[0] for row in table["data"]} <= {"tree", "red car"}
    assert table["data"]


def test_mistakes_are_explained(client, photo):
    with pytest.raises(Exception, match="Choose an image first"):
        client.predict(None, "panoptic", "scene", "", 0.5, api_name="/segment")
    with pytest.raises(Exception, match="names a category twice"):
        client.predict(handle_file(photo), "panoptic", "scene", "cat, cat", 0.5, api_name="/segment")


def page_text(page):
    return " ".join(str(block.value) for block in page.blocks.values() if hasattr(block, "value"))


def test_without_a_model_the_page_says_how_to_get_one(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATASEG_MODEL", raising=False)
    assert app.chosen_model() is None
    assert "cotrain.py" in page_text(app.build_demo(None))
    (tmp_path / "outputs" / "shapes").mkdir(parents=True)
    assert app.chosen_model() == app.DEFAULT_MODEL
    broken = page_text(app.build_demo(app.chosen_model()))
    assert "cannot be loaded" in broken
    assert "cotrain.py" in broken
    monkeypatch.setenv("DATASEG_MODEL", "someone/model")
    assert app.chosen_model() == "someone/model"
