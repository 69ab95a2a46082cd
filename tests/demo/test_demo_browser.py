"""The demo as a person uses it: in a headless Chromium, with everything that people put into
pages.
"""

import importlib.util
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers.browser import CHROMIUM, Browser
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.paths import ROOT

pytest.importorskip("gradio")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

APP = ROOT / "spaces" / "dataseg-demo" / "app.py"
PHOTO = Path("coco128", "images", "train2017", "000000000025.jpg")
EVIL = "<script>window.hacked=1</script>, <img src=x onerror=window.hacked=2>"
BUTTON = "[...document.querySelectorAll('button')].find(b => b.innerText == 'Segment')"
WORDS = "document.querySelector('textarea')"
SHOWN = "document.querySelector('[data-testid=image] .image-frame img')"
TOASTS = "[...document.querySelectorAll('.toast-message-text')].map(e => e.innerText).join('|')"


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("dataseg_demo_browser", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo(app, tmp_path_factory):
    """Address of the demo with a random model, which finds segments in any image."""
    folder = tmp_path_factory.mktemp("model")
    model = checkpoint_model()
    model.add_vocabulary("shapes_boxes", ["red square", "blue cross"])  # that of an example
    save_checkpoint(model, checkpoint_processor(), folder)
    page = app.build_demo(folder)
    _, url, _ = app.launch(page, prevent_thread_lock=True, quiet=True)
    yield url
    page.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photograph, or noise of its size where there is none."""
    if "DATASEG_DATA" in os.environ:
        return Path(os.environ["DATASEG_DATA"]) / PHOTO
    path = tmp_path_factory.mktemp("photo") / "noise.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (426, 640, 3), dtype=np.uint8)).save(
        path
    )
    return path


@pytest.fixture
def page(browser, demo):
    """The demo, opened anew; at the end its console must hold no error."""
    opened = open_demo(browser, demo)
    yield opened
    opened.evaluate("0")  # takes in what happened last
    assert opened.errors == []


def open_demo(browser, url):
    page = browser.page(url)
    page.wait_for(f"{BUTTON} != null")
    return page


def upload(page, file):
    page.choose_file("input[type=file]", file)
    page.wait_for(f"{SHOWN} != null")


def choose(page, group, value):
    page.click(
        f"[...document.querySelectorAll('fieldset')].find(f => f.innerText.startsWith('{group}'))"
        f".querySelector('input[value={value}]')"
    )


def least_score(page, value):
    page.type("document.querySelector('input[type=number]')", value)


def rows(page, result=0, other_than=()):
    """Text of the cells of a result's table, as soon as it is another one and names what its legend
    names.
    """
    shown = "[...document.querySelectorAll('{}')].filter(e => e.offsetParent)[{}]"
    names = "[...LEGEND?.querySelectorAll('.legend-item') ?? []].map(e => e.innerText.trim())"
    body = "[...TABLE?.querySelectorAll('[role=row]:not([aria-rowindex=\"1\"])') ?? []]"
    cells = (
        f"{body}.map(r => [...r.querySelectorAll('[role=gridcell]')].map(c => c.innerText.trim()))"
    )
    names = names.replace("LEGEND", shown.format(".legend", result))
    cells = cells.replace("TABLE", shown.format(".virtual-table-viewport", result))
    before = json.dumps(other_than, separators=(",", ":"), ensure_ascii=False)
    same = "n.length > 0 && `${n}` == `${c.map(r => r[0])}`"
    same += f" && JSON.stringify(c) != {json.dumps(before)}"
    return page.wait_for(f"((n, c) => {same} && c)({names}, {cells})")


def segmented(page):
    """Click, and wait until the result is there."""
    page.click(BUTTON)
    page.wait_for("document.querySelectorAll('.legend-item').length > 0")


# --- what it can do


def test_three_tasks_one_after_the_other(page, photo):
    upload(page, photo)
    least_score(page, "0.01")
    found = []
    for task in ("semantic", "instance", "panoptic"):
        choose(page, "Task", task)
        page.click(BUTTON)
        found = rows(page, other_than=found)
        assert all((row[1] == "") == (task == "semantic") for row in found)


def test_nothing_found_is_said(page, photo):
    upload(page, photo)
    least_score(page, "1")
    page.click(BUTTON)
    assert "Nothing was found" in page.wait_for(TOASTS)


def test_a_segment_is_lit_when_its_name_is_hovered(page, photo):
    upload(page, photo)
    choose(page, "Task", "semantic")
    segmented(page)
    assert page.evaluate("document.querySelectorAll('img.mask.active').length") == 0
    page.hover("document.querySelector('.legend-item')")
    page.wait_for("document.querySelectorAll('img.mask.active').length == 1")
    others = page.evaluate("document.querySelectorAll('.legend-item').length") - 1
    assert page.evaluate("document.querySelectorAll('img.mask.inactive').length") == others


def test_two_tasks_side_by_side(page, photo):
    upload(page, photo)
    least_score(page, "0.01")
    choose(page, "Task", "instance")
    choose(page, "Compare", "semantic")
    page.click(BUTTON)
    assert all(row[1] for row in rows(page, 0))
    assert all(row[1] == "" for row in rows(page, 1))


def test_what_is_downloaded(page, photo, tmp_path):
    upload(page, photo)
    choose(page, "Task", "semantic")
    page.click(BUTTON)
    found = rows(page)
    page.download_into(tmp_path)
    for button, name in (("Picture (PNG)", "segments.png"), ("COCO json", "segments.json")):
        page.click(f"[...document.querySelectorAll('button')].find(b => b.innerText == '{button}')")
        for _ in range(300):
            if (tmp_path / name).exists():
                break
            time.sleep(0.1)
    assert Image.open(tmp_path / "segments.png").width == 640
    content = json.loads((tmp_path / "segments.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert [names[a["category_id"]] for a in content["annotations"]] == [row[0] for row in found]
    assert [str(a["area"]) for a in content["annotations"]] == [row[2] for row in found]


def test_an_example_is_taken_with_its_vocabulary(page):
    page.click("document.querySelector('tr.tr-body')")
    page.wait_for(f"{SHOWN} != null")
    page.wait_for("[...document.querySelectorAll('input')].some(i => i.value == 'shapes_boxes')")
    choose(page, "Task", "semantic")
    segmented(page)


def test_two_users_at_once(browser, demo, photo):
    pages = [open_demo(browser, demo) for _ in range(2)]
    for page, task in zip(pages, ("semantic", "instance"), strict=True):
        upload(page, photo)
        least_score(page, "0.01")
        choose(page, "Task", task)
    for page in pages:
        page.click(BUTTON)
    for page, scored in zip(pages, (False, True), strict=True):
        assert all((row[1] != "") == scored for row in rows(page))
        assert page.errors == []


# --- what people put in


def test_words_are_shown_as_text(page, photo):
    upload(page, photo)
    choose(page, "Task", "semantic")
    page.type(WORDS, EVIL)
    segmented(page)
    found = {row[0] for row in rows(page)}
    assert found
    assert found <= {word.strip() for word in EVIL.split(",")}
    assert page.evaluate("window.hacked === undefined")
    assert page.evaluate("document.querySelector('img[src=x]') === null")
    page.type(WORDS, "<img src=x onerror=window.hacked=3>" * 3)
    page.click(BUTTON)
    message = page.wait_for(f"{TOASTS}.includes('longer than') && {TOASTS}")
    assert "<img src=x" in message
    assert page.evaluate("window.hacked === undefined")
    assert page.evaluate("document.querySelector('img[src=x]') === null")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (" , ,", "There is no word between the commas"),
        (
            ", ".join(f"word {number}" for number in range(300)),
            "These are 300 words; at most 100 are taken",
        ),
        ("cat, ???", "'???' holds no letter or digit"),
    ],
)
def test_vocabularies_that_cannot_be(page, photo, words, message):
    upload(page, photo)
    page.type(WORDS, words)
    page.click(BUTTON)
    assert message in page.wait_for(TOASTS)
    page.type(WORDS, "")
    choose(page, "Task", "semantic")
    segmented(page)  # and on it goes


def test_no_image(page):
    page.click(BUTTON)
    assert page.wait_for(TOASTS) == "Choose an image first."


def test_a_text_file_named_as_an_image(page, tmp_path):
    (tmp_path / "text.jpg").write_text("no image at all\n" * 100)
    upload(page, tmp_path / "text.jpg")
    page.click(BUTTON)
    assert page.wait_for(TOASTS) == "This file is no image that can be read. Try a JPEG or PNG."


def test_a_file_of_50_megabytes(page, photo, tmp_path):
    (tmp_path / "large.jpg").write_bytes(photo.read_bytes() + bytes(50_000_000))
    page.choose_file("input[type=file]", tmp_path / "large.jpg")
    assert page.wait_for(TOASTS) == "A file may have 20 MB at most: reduce the image."
    assert page.evaluate(f"{SHOWN} === null")
    upload(page, photo)  # and on it goes


def test_without_a_model_the_page_is_not_blank(app, browser):
    empty = app.build_demo(None)
    _, url, _ = app.launch(empty, prevent_thread_lock=True, quiet=True)
    page = browser.page(url)
    assert "make cotrain" in page.wait_for(
        "document.body.innerText.includes('No model') && document.body.innerText"
    )
    assert page.errors == []
    empty.close()
