"""Names on plates, fonts, legends."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from dataseg_hf.pictures import lettering
from dataseg_hf.pictures.lettering import BLACK, PAPER, Plates, contrast, letter_color, writable
from dataseg_hf.pictures.overlay import category_color, segments_overlay, semantic_overlay
from dataseg_hf.prediction.segments import cropped

RED = (250, 0, 0)


def disk(center, radius, size=(400, 400)):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (rows - center[0]) ** 2 + (columns - center[1]) ** 2 <= radius**2


def plate_of(mask, name="cat", **options):
    """The rectangle that a name takes: top, left, bottom, right."""
    plates = Plates(Image.new("RGB", mask.shape[::-1]))
    assert plates.add(name, mask, RED, **options)
    rows, columns = np.nonzero(plates.taken)
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


def test_a_name_stands_in_the_middle_of_a_large_segment():
    top, left, bottom, right = plate_of(disk((200, 150), 100))
    assert abs((top + bottom) / 2 - 200) < 8
    assert abs((left + right) / 2 - 150) < 8


def test_a_name_does_not_hide_a_small_segment_but_touches_it():
    mask = disk((200, 150), 6)
    top, left, bottom, right = plate_of(mask)
    assert mask[top:bottom, left:right].sum() < 0.3 * mask.sum()
    assert mask[max(0, top - 4) : bottom + 4, max(0, left - 4) : right + 4].any()


def test_a_name_stays_on_the_picture():
    mask = disk((399, 399), 5)
    top, left, bottom, right = plate_of(mask, "a long name")
    assert min(top, left) >= 0
    assert max(bottom, right) <= 400


def test_a_box_is_named_at_its_corner():
    mask = np.zeros((400, 400), bool)
    mask[100:350, 50:300] = True
    top, left, *_ = plate_of(mask, at_corner=True)
    assert abs(top - 100) < 8
    assert abs(left - 50) < 8


def test_plates_never_overlap():
    plates = Plates(Image.new("RGB", (400, 400)))
    rng = np.random.default_rng(0)
    alone = 0
    for _ in range(60):
        before = plates.taken.sum()
        if plates.add("zebra", disk(rng.integers(150, 250, 2), 20), RED):
            alone = alone or plates.taken.sum()
            assert plates.taken.sum() == before + alone
    assert plates.taken.sum() >= 8 * alone


def test_a_name_without_a_free_place_is_left_out():
    plates = Plates(Image.new("RGB", (400, 400)))
    plates.taken[:] = True
    assert not plates.add("cat", disk((200, 200), 100), RED)
    narrow = Plates(Image.new("RGB", (400, 9)))
    assert not narrow.add("cat", np.ones((9, 400), bool), RED)
    assert not Plates(Image.new("RGB", (90, 90))).add("cat", np.zeros((90, 90), bool), RED)


@pytest.mark.parametrize(
    ("first", "second", "ratio"),
    [((0, 0, 0), (255, 255, 255), 21.0), ((118, 118, 118), (255, 255, 255), 4.54)],
)
def test_contrast_is_that_of_wcag(first, second, ratio):
    """#767676 is the lightest grey that passes level AA on white."""
    assert contrast(first, second) == contrast(second, first) == pytest.approx(ratio, abs=0.005)


def test_letters_on_the_plates_of_all_categories_are_legible():
    colors = [category_color(label_id) for label_id in range(200)]
    assert min(contrast(color, letter_color(color)) for color in colors) > 4.5  # WCAG, level AA
    assert {letter_color(color) for color in colors} == {BLACK, PAPER}


def test_small_segments_keep_their_names_beside_large_ones():
    """The large one, first in order, gives way."""
    image = Image.new("RGB", (400, 400), (90, 90, 90))
    segments = [cropped(~disk((200, 200), 10), 0, 0.9), cropped(disk((200, 200), 10), 1, 0.8)]
    drawn = np.array(segments_overlay(image, segments, ["sky", "bird"], legend=False))
    assert drawn.shape == (400, 400, 3)
    for label_id in (0, 1):
        plate = np.all(drawn == category_color(label_id), axis=-1)
        assert plate.sum() > 200
    beside = np.argwhere(np.all(drawn == category_color(1), axis=-1))
    assert np.abs(beside - 200).max() < 60


def test_titles_stand_instead_of_names():
    image = Image.new("RGB", (400, 400))
    segments = [cropped(disk((200, 200), 100), 0, 0.9)]
    named, titled, same = (
        segments_overlay(image, segments, ["cat"], titles=titles)
        for titles in (None, ["x"], ["cat"])
    )
    assert named == same
    assert named != titled
    with pytest.raises(ValueError, match="zip"):
        segments_overlay(image, segments, ["cat"], titles=[])


# --- letters beyond the font of Pillow


def test_the_font_of_pillow_writes_ascii(monkeypatch):
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ())
    assert writable("traffic light, (red)", 3) == "traffic light, (red)"
    assert writable("дерево", 3) == writable("日本", 3) == "class 3"


def test_a_font_of_the_system_writes_what_that_one_cannot(monkeypatch):
    try:
        ImageFont.truetype("DejaVuSans.ttf", 14)
    except OSError:
        pytest.skip("needs DejaVu Sans")
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ("no such font.ttf", "DejaVuSans.ttf"))
    assert writable("дерево", 3) == "дерево"
    assert writable("日本", 3) == "class 3"
    assert writable("Fußgänger", 3) == "Fußgänger"


def test_the_legend_says_that_a_name_was_replaced(monkeypatch):
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ())
    image, classes = Image.new("RGB", (400, 100)), np.ones((100, 400), int)
    noted, plain = (semantic_overlay(image, classes, ["a", name]) for name in ("дерево", "class 1"))
    assert np.array_equal(np.array(noted)[:100], np.array(plain)[:100])
    legends = [np.array(drawn)[100:] for drawn in (noted, plain)]
    assert (legends[0] < 128).sum() > 1.5 * (legends[1] < 128).sum()
