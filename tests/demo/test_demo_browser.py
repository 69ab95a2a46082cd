"""The demo as a person uses it: in a headless Chromium, with everything that people put into
pages.
"""

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
from helpers.example_scripts import demo_app

pytest.importorskip("gradio")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

PHOTO = Path("coco128", "images", "train2017", "000000000025.jpg")
EVIL = "<script>window.hacked=1</script>, <img src=x onerror=window.hacked=2>"
BUTTON = "[...document.querySelectorAll('button')].find(b => b.innerText == 'Segment')"
WORDS = "document.querySelector('textarea')"
SHOWN = "document.querySelector('[data-testid=image] .image-frame img')"
TEXTS = "[...document.querySelectorAll('{}')].map(e => e.innerText.trim()).filter(t => t).join('|')"
IMAGE_PROBLEM = TEXTS.format("#input .problem .problem")
PROBLEM = ".problem .problem"
WORDS_PROBLEM = TEXTS.format("#choices .problem .problem")
NOTE = TEXTS.format(".note .note")
NUMBER = "document.querySelector('input[type=number]')"
LEGEND = "ul.segments li"


@pytest.fixture(scope="module")
def app():
    return demo_app()


@pytest.fixture(scope="module")
def demo(app, tmp_path_factory):
    """Address of the demo with a random model, which finds segments in any image."""
    folder = tmp_path_factory.mktemp("model")
    model = checkpoint_model()
    model.add_vocabulary("shapes_boxes", ["red square", "blue cross"])  # that of an example
    model.config.training_sets = [
        {"name": name, "annotation": annotation, "images": 1200, "image_size": 640}
        for name, annotation in (("scenes", "panoptic"), ("streets", "semantic"), ("pets", "boxes"))
    ]
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


def open_settings(page):
    button = "[...document.querySelectorAll('button')].find(b => b.innerText.includes('More set'))"
    if page.evaluate(f"{NUMBER}?.offsetParent == null"):
        page.click(button)
        page.wait_for(f"{NUMBER}?.offsetParent != null")


def least_score(page, value):
    open_settings(page)
    page.type(NUMBER, value)


def rows(page, result=0, other_than=()):
    """Text of the cells of a result's table, as soon as it is another one and names what its legend
    names.
    """
    shown = "[...document.querySelectorAll('{}')].filter(e => e.offsetParent)[{}]"
    names = "[...LEGEND?.querySelectorAll('li') ?? []].map(e => e.innerText.trim())"
    body = "[...TABLE?.querySelectorAll('[role=row]:not([aria-rowindex=\"1\"])') ?? []]"
    cells = (
        f"{body}.map(r => [...r.querySelectorAll('[role=gridcell]')].map(c => c.innerText.trim()))"
    )
    names = names.replace("LEGEND", shown.format("ul.segments", result))
    cells = cells.replace("TABLE", shown.format(".virtual-table-viewport", result))
    before = json.dumps(other_than, separators=(",", ":"), ensure_ascii=False)
    same = "n.length > 0 && `${n}` == `${c.map(r => r[0])}`"
    same += f" && JSON.stringify(c) != {json.dumps(before)}"
    return page.wait_for(f"((n, c) => {same} && c)({names}, {cells})")


def box(page, element):
    """Edges of an element in pixels of the page, and its height."""
    edges = "left: b.left, right: b.right, top: b.top + scrollY, bottom: b.bottom + scrollY"
    return page.evaluate(
        f"(b => ({{{edges}, height: b.height}}))({element}.getBoundingClientRect())"
    )


def segmented(page):
    """Click, and wait until the result is there."""
    page.click(BUTTON)
    page.wait_for("document.querySelectorAll('ul.segments li').length > 0")


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
    assert "Nothing was found" in page.wait_for(NOTE)


def test_a_segment_is_lit_when_its_name_is_hovered(page, photo):
    upload(page, photo)
    choose(page, "Task", "semantic")
    segmented(page)
    opacities = "[...document.querySelectorAll('img.mask')].map(m => getComputedStyle(m).opacity)"
    names = page.evaluate(f"document.querySelectorAll('{LEGEND}').length")
    assert page.evaluate(opacities) == ["0"] * names
    page.hover(f"document.querySelectorAll('{LEGEND}')[{names - 1}]")
    page.wait_for(f"`${{{opacities}}}` == '{','.join(['0'] * (names - 1) + ['1'])}'")


def test_two_tasks_side_by_side(page, photo):
    upload(page, photo)
    least_score(page, "0.01")
    choose(page, "Task", "instance")
    open_settings(page)
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
    page.click("document.querySelector('button.gallery-item')")
    page.wait_for(f"{SHOWN} != null")
    page.wait_for("[...document.querySelectorAll('input')].some(i => i.value == 'shapes_boxes')")
    page.wait_for(f"{NOTE} || document.querySelectorAll('{LEGEND}').length")  # without a click
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


# --- how it looks

WIDE, PHONE = (1440, 900), (390, 844)
PICTURE = "document.querySelector('.result .image-container img')"


def opened_at(browser, demo, size, photo):
    """The page in a window of a size, with a result."""
    page = browser.page(demo, size)
    page.wait_for(f"{BUTTON} != null")
    upload(page, photo)
    choose(page, "Task", "semantic")
    segmented(page)
    return page


def bulk_of_choices(page):
    """Top of the fields for task, vocabulary and words, which follow each other."""
    return box(page, "document.querySelector('#choices')")


def test_result_and_button_are_seen_without_scrolling(browser, demo, photo):
    page = opened_at(browser, demo, WIDE, photo)
    picture = box(page, PICTURE)
    legend = box(page, "document.querySelector('ul.segments')")
    assert picture["height"] > 300
    assert picture["bottom"] < legend["top"] < legend["bottom"] <= 900
    assert box(page, BUTTON)["bottom"] <= 900
    assert picture["left"] >= bulk_of_choices(page)["right"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    assert page.errors == []


def test_on_a_phone_the_result_comes_before_the_choices(browser, demo, photo):
    page = opened_at(browser, demo, PHONE, photo)
    picture, choices = box(page, PICTURE), bulk_of_choices(page)
    assert box(page, BUTTON)["bottom"] <= picture["top"] <= 844
    assert picture["bottom"] <= choices["top"]
    assert picture["right"] - picture["left"] > 300
    assert choices["height"] > 200
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.errors == []


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_a_problem_comes_into_view(browser, demo, photo, size):
    """Also where the field is far from the button."""
    page = opened_at(browser, demo, size, photo)
    page.type(WORDS, "???")
    page.evaluate("scrollTo(0, 0)")
    page.evaluate(f"{BUTTON}.click()")
    page.wait_for(WORDS_PROBLEM)
    place = f"document.querySelector('{PROBLEM}').getBoundingClientRect()"
    page.wait_for(f"{place}.top >= 0 && {place}.bottom <= innerHeight")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_the_page_begins_with_what_the_model_is(browser, demo):
    page = browser.page(demo, WIDE)
    page.wait_for(f"{BUTTON} != null")
    about = "document.querySelector('#about')"
    assert "vocabularies: pets (3 names), scene (4 names)" in page.evaluate(f"{about}.innerText")
    assert "scenes (1,200 images, panoptic)" in page.evaluate(f"{about}.innerText")
    assert "License: not stated." in page.evaluate(f"{about}.innerText")
    lines = f"[...{about}.querySelectorAll('p')].map(p => p.getClientRects()[0].height)"
    assert len(page.evaluate(lines)) == 2
    assert max(page.evaluate(lines)) < 30  # a line each
    assert box(page, about)["bottom"] <= box(page, "document.querySelector('#desk')")["top"]


def test_the_legend_has_the_colors_of_the_picture(page, photo):
    """The pixels of a mask have the color of the legend over grey: 60 parts of 100."""
    upload(page, photo)
    choose(page, "Task", "semantic")
    segmented(page)
    swatch = page.evaluate(
        f"getComputedStyle(document.querySelector('{LEGEND} i')).backgroundColor"
    )
    color = np.array([int(part) for part in swatch.removeprefix("rgb(")[:-1].split(",")])
    pixels = page.evaluate(PIXELS_OF_FIRST_SEGMENT)
    grey = (np.array(pixels) - 0.6 * color) / 0.4
    plain = np.ptp(grey, axis=1) < 6  # the rest is outline and names
    assert plain.mean() > 0.6


PIXELS_OF_FIRST_SEGMENT = """(async () => {
    const read = async address => {
        const image = new Image();
        image.src = address;
        await image.decode();
        const canvas = new OffscreenCanvas(image.width, image.height);
        const drawing = canvas.getContext("2d");
        drawing.drawImage(image, 0, 0);
        return drawing.getImageData(0, 0, image.width, image.height).data;
    };
    const picture = await read(document.querySelector(".result .image-container img").src);
    const mask = await read(document.querySelector(".result img.mask").src);
    const found = [];
    for (let place = 0; place < mask.length; place += 4)
        if (mask[place + 3] > 0) found.push([...picture.slice(place, place + 3)]);
    return found.slice(0, 5000);
})()"""


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
    message = page.wait_for(f"{WORDS_PROBLEM}.includes('longer than') && {WORDS_PROBLEM}")
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
    assert message in page.wait_for(WORDS_PROBLEM)
    field, problem = box(page, WORDS), box(page, f"document.querySelector('{PROBLEM}')")
    assert 0 <= problem["top"] - field["bottom"] < 40
    assert problem["left"] <= field["right"]
    assert problem["height"] > 10
    time.sleep(1)
    assert message in page.evaluate(WORDS_PROBLEM)  # does not go away by itself
    page.type(WORDS, "")
    page.wait_for(f"{WORDS_PROBLEM} == ''")
    choose(page, "Task", "semantic")
    segmented(page)  # and on it goes


def test_no_image(page):
    page.click(BUTTON)
    assert page.wait_for(IMAGE_PROBLEM) == "Choose an image first."


def test_a_text_file_named_as_an_image(page, tmp_path):
    (tmp_path / "text.jpg").write_text("no image at all\n" * 100)
    upload(page, tmp_path / "text.jpg")
    page.click(BUTTON)
    assert (
        page.wait_for(IMAGE_PROBLEM) == "This file is no image that can be read. Try a JPEG or PNG."
    )


def test_a_file_of_50_megabytes(page, photo, tmp_path):
    (tmp_path / "large.jpg").write_bytes(photo.read_bytes() + bytes(50_000_000))
    page.choose_file("input[type=file]", tmp_path / "large.jpg")
    assert page.wait_for(IMAGE_PROBLEM) == "A file may have 20 MB at most: reduce the image."
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
