"""spaces/dataseg-demo/app.py through its own server, as `gradio_client` calls it."""

import importlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from dataseg_hf.model.image_reading_dataseg import read_image
from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.example_scripts import demo_app

pytest.importorskip("gradio")
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
from gradio_client import Client, handle_file

pytestmark = pytest.mark.slow

SCENE = {"cat", "dog", "grass", "sky"}


@pytest.fixture(scope="module")
def app():
    return demo_app()


@pytest.fixture(scope="module")
def read_image_of_demo(app):
    return importlib.import_module("demo_inputs").read_image


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)).save(
        path
    )
    return path


@pytest.fixture(scope="module")
def client(app, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(checkpoint_model(), checkpoint_processor(), folder)
    demo = app.build_demo(folder)
    _, url, _ = app.launch(demo, prevent_thread_lock=True, quiet=True)
    yield Client(url, verbose=False)
    demo.close()


def segment(client, photo, task="panoptic", vocabulary="scene", words="", threshold=0.01):
    image = None if photo is None else handle_file(photo)
    return client.predict(image, task, vocabulary, words, threshold, api_name="/segment")


@pytest.mark.parametrize("task", ["semantic", "instance"])
def test_what_the_endpoint_returns(client, photo, task):
    drawn, table, picture, coco = segment(client, photo, task)
    names = [annotation["label"] for annotation in drawn["annotations"]]
    assert names
    assert [row[0] for row in table["data"]] == names
    assert {name.rstrip(" 0123456789") for name in names} <= SCENE
    assert all((row[1] == "") == (task == "semantic") for row in table["data"])
    content = json.loads(Path(coco).read_text())
    assert content["images"] == [{"id": 1, "file_name": "image", "height": 50, "width": 90}]
    assert {category["name"] for category in content["categories"]} == SCENE
    masks = [
        coco_mask.decode(coco_mask.frPyObjects(a["segmentation"], 50, 90))
        for a in content["annotations"]
    ]
    assert [int(row[2]) for row in table["data"]] == [mask.sum() for mask in masks]
    for annotation, mask in zip(drawn["annotations"], masks, strict=True):
        assert np.array_equal(np.array(Image.open(annotation["image"]))[..., 3] > 0, mask)
    if task == "semantic":
        assert sum(mask.sum() for mask in masks) == 50 * 90
    with Image.open(picture) as opened:
        assert opened.width >= 384
        assert opened.height > opened.width * 50 / 90  # the legend


def test_own_words(client, photo):
    _, table, *_ = segment(client, photo, "semantic", words=" tree, red   car ,tree;\n")
    assert {row[0] for row in table["data"]} <= {"tree", "red car"}
    assert table["data"]


def test_nothing_found_is_a_result(client, photo):
    drawn, table, _, coco = segment(client, photo, threshold=1.0)
    assert (
        drawn["annotations"]
        == table["data"]
        == json.loads(Path(coco).read_text())["annotations"]
        == []
    )


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_text("no image")
    return path


@pytest.fixture
def wide_file(tmp_path):
    path = tmp_path / "wide.png"
    Image.new("1", (30_000, 2_000)).save(path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photo": None}, "Choose an image first"),
        ({"words": "<b>" * 30}, r"'&lt;b&gt;&lt;b&gt;.*' is longer than 60 letters"),
        ({"words": " , ;"}, "no word between the commas"),
        ({"words": "cat, ?!"}, "'\\?!' holds no letter or digit"),
        (
            {"words": ", ".join(f"word {number}" for number in range(300))},
            "These are 300 words; at most 100",
        ),
        ({"vocabulary": None}, "Choose a vocabulary"),
        ({"vocabulary": "birds"}, "birds"),
        ({"task": "depth"}, "depth"),
    ],
)
def test_mistakes_are_explained(client, photo, change, message):
    with pytest.raises(Exception, match=message):
        segment(client, **{"photo": photo, **change})


def test_files_that_are_no_images_or_too_large(client, text_file, wide_file):
    with pytest.raises(Exception, match="no image that can be read"):
        segment(client, text_file)
    with pytest.raises(Exception, match="30000 x 2000 pixels; at most 50 million"):
        segment(client, wide_file)


def test_a_file_above_the_limit_does_not_get_in(client, tmp_path):
    (tmp_path / "large.png").write_bytes(b"0" * 21_000_000)
    with pytest.raises(Exception, match=r"exceeds|413|[Mm]aximum"):
        segment(client, tmp_path / "large.png")


def test_an_upload_is_no_way_to_read_files_of_the_server(client, photo):
    """A request that names a path instead of uploading anything is refused, though an image is
    there.
    """
    here = {"path": str(photo), "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [here, "semantic", "scene", "", 0.5]}).encode()
    headers = {"Content-Type": "application/json"}
    url = f"{client.src.rstrip('/')}/gradio_api/call/segment"
    with urlopen(Request(url, body, headers)) as answer:
        event = json.load(answer)["event_id"]
    with urlopen(f"{url}/{event}") as answer:
        lines = answer.read().decode().splitlines()
    assert lines[0] == "event: error"
    assert not any("annotations" in line for line in lines)


def test_a_photo_is_turned_upright_and_reduced(read_image_of_demo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.new("RGB", (2560, 1000)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image_of_demo(str(tmp_path / "turned.jpg"), checkpoint_processor()).size == (
        500,
        1280,
    )


def test_an_image_of_16_bits_is_scaled_as_in_training(read_image_of_demo, tmp_path):
    deep = np.random.default_rng(0).integers(300, 4000, (40, 60)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    processor = checkpoint_processor(value_range=(200, 3000))
    trained = read_image(tmp_path / "deep.png", (200, 3000))
    assert np.array_equal(read_image_of_demo(tmp_path / "deep.png", processor), trained)
    assert np.ptp(np.asarray(trained)) > 200


def test_several_users_at_once(client, photo):
    # Gradio writes equal pictures to one file, also while it is being fetched: the tables alone are
    # asked for
    tables_only = Client(client.src, verbose=False, download_files=False)
    with ThreadPoolExecutor(4) as pool:
        vocabularies = ["scene", "pets"] * 4
        tables = list(
            pool.map(
                lambda name: segment(tables_only, photo, "semantic", name)[1]["data"], vocabularies
            )
        )
    for vocabulary, table in zip(vocabularies, tables, strict=True):
        assert table == tables[vocabularies.index(vocabulary)]
    assert {row[0] for row in tables[1]} <= {"cat", "dog", "hamster"}


def test_one_endpoint_is_public(client):
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/segment"]
    assert not client.view_api(return_format="dict")["unnamed_endpoints"]


# --- without a model


def page_text(page):
    return " ".join(str(block.value) for block in page.blocks.values() if hasattr(block, "value"))


def test_without_a_model_the_page_says_how_to_get_one(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATASEG_MODEL", raising=False)
    assert app.chosen_model() is None
    assert "make cotrain" in page_text(app.build_demo(None))
    (tmp_path / "checkpoints" / "photos-small").mkdir(parents=True)
    assert app.chosen_model() == app.DEFAULT_MODEL
    broken = page_text(app.build_demo(app.chosen_model()))
    assert "cannot be loaded" in broken
    assert "make cotrain" in broken
    monkeypatch.setenv("DATASEG_MODEL", "someone/model")
    assert app.chosen_model() == "someone/model"


def test_a_checkpoint_whose_code_fails_leaves_a_page(app, tmp_path):
    save_checkpoint(checkpoint_model(), checkpoint_processor(), tmp_path)
    (tmp_path / "configuration_dataseg.py").write_text("raise RuntimeError('<b>broken</b>')")
    assert "RuntimeError: &lt;b&gt;broken" in page_text(app.build_demo(tmp_path))


# --- what the page says of the model


def drawn(*sides):
    return [
        {
            "name": f"set <{side}>",
            "annotation": "boxes",
            "images": 600,
            "image_size": side,
            "drawn": True,
        }
        for side in sides
    ]


def model_of_shapes(folder):
    """A model that says it was trained on drawn shapes of 64 pixels, with the vocabularies of the
    examples.
    """
    model = checkpoint_model()
    model.add_vocabulary("shapes_boxes", ["red square", "blue <b>cross</b>"])
    model.add_vocabulary("shapes_panoptic", ["water", "red square"], [False, True])
    model.config.training_sets = drawn(64)
    save_checkpoint(model, checkpoint_processor(), folder)
    return model.config


def test_the_page_says_what_the_model_is(app, tmp_path):
    model_of_shapes(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: mit\nbase_model: some/<one>\n---\n")
    text = page_text(app.build_demo(tmp_path))
    assert f"<code>{tmp_path}</code>" in text
    assert "Panoptic, semantic and instance segmentation by 4 vocabularies" in text
    assert "<b>shapes_boxes</b> (2 names)" in text
    assert "or words of your own" in text
    assert "Trained on set &lt;64&gt; (600 drawn images, boxes)." in text
    assert "Started from some/&lt;one&gt;. License: mit." in text
    assert "Drawn shapes only: not for photographs" in text
    assert "<b>shapes_boxes</b>: red square, blue &lt;b&gt;cross&lt;/b&gt;" in text
    assert "Other words are compared by their letters" in text


def test_a_checkpoint_that_says_little_of_itself(app, tmp_path):
    config = checkpoint_model().config
    config.text_encoder = None
    text = app.about_model(str(tmp_path), config)
    assert "does not say what it was trained on" in text
    assert "License: not stated" in text
    assert "words of your own" not in text
    assert "Other words have no embedding" in app.known_words(config)
    assert app.unlike_training((4000, 3000), config) is None
    del config.training_sets  # as in checkpoints of earlier versions
    assert "does not say" in app.about_model(str(tmp_path), config)


def test_a_broken_card_does_not_keep_the_page_from_opening(app, tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert "License: not stated" in app.about_model(str(tmp_path), checkpoint_model().config)


def test_many_vocabularies_and_sets_still_fit_two_lines(app, tmp_path):
    model = checkpoint_model()
    for number in range(9):
        model.add_vocabulary(f"more_{number}", ["a"])
    model.config.training_sets = drawn(*range(64, 74))
    text = app.about_model(str(tmp_path), model.config)
    assert text.count("names)") == 4
    assert "and 7 more" in text
    assert text.count("drawn images") == 4
    assert "and 6 more" in text


def test_examples_carry_their_vocabulary(app, tmp_path):
    config = model_of_shapes(tmp_path)
    rows = {Path(file).name: rest for file, *rest in app.example_rows(config)}
    assert rows == {
        "shapes_boxes.png": ["shapes_boxes", "instance"],
        "shapes_panoptic.png": ["shapes_panoptic", "panoptic"],
    }
    assert app.example_rows(checkpoint_model().config) == []  # trained on something else


@pytest.mark.parametrize(
    ("sets", "size", "warning"),
    [
        (
            drawn(64),
            (640, 480),
            "drawn shapes only, in images of 64 pixels; this one has 640 x 480",
        ),
        (drawn(64), (256, 256), None),
        (drawn(64), (12, 9), "12 x 9 pixels, those of the training had 64"),
        ([*drawn(64), {**drawn(640)[0], "drawn": False}], (640, 480), None),
        (
            [{**drawn(640)[0], "drawn": False}],
            (100, 80),
            "100 x 80 pixels, those of the training had 640",
        ),
        ([{**drawn(640)[0], "drawn": False}], (4000, 3000), None),
    ],
)
def test_images_unlike_those_of_the_training(app, sets, size, warning):
    config = checkpoint_model().config
    config.training_sets = sets
    found = app.unlike_training(size, config)
    assert found is None if warning is None else warning in found


def test_repeated_objects_are_left_out(client, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (80, 30, 3), dtype=np.uint8)).save(
        photo
    )

    def found(nms):
        image = handle_file(photo)
        return len(
            client.predict(image, "instance", "scene", "", 0.0, nms, api_name="/segment")[1]["data"]
        )

    assert found(1.0) > found(0.7) > found(0.1) > 0
    assert found(0.7) == len(segment(client, photo, "instance", threshold=0.0)[1]["data"])


def test_a_slip_in_the_name_of_a_vocabulary_is_explained(client, photo):
    with pytest.raises(Exception, match="did you mean 'scene'"):
        segment(client, photo, words="Scene")
