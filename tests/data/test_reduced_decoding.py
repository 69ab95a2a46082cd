"""JPEGs decoded no larger than training needs them."""

import io
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.mixing import MixingSampler, TrainingSet, mixing_loader
from dataseg_hf.data.readers.image_png import read_image_png
from dataseg_hf.data.readers.images import read_image, read_rgb
from dataseg_hf.data.readers.yolo import read_yolo
from dataseg_hf.data.reduced_decoding import decoded_for
from dataseg_hf.data.sample import BadSampleError, ClassInfo, DatasetSpec, Segments
from dataseg_hf.data.transforms import Augmentation, augment, resize_only

ORIENTATION = 0x112  # tag of the EXIF orientation
PLAIN = Normalization([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])


def jpeg(pixels: np.ndarray, orientation: int = 1, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    options = {"quality": 95, "subsampling": 0, "exif": exif}
    Image.fromarray(pixels).save(buffer, kind, **(options if kind != "PNG" else {}))
    return buffer.getvalue()


def ramp(height: int, width: int) -> np.ndarray:
    """Red grows to the right and green downwards, so that a color tells its place."""
    red = np.linspace(20, 235, width)[None].repeat(height, axis=0)
    green = np.linspace(20, 235, height)[:, None].repeat(width, axis=1)
    return np.stack([red, green, np.full_like(red, 120)], axis=-1).astype(np.uint8)


def empty_sample(image):
    height, width = image.size
    void = np.full((height, width), -1, dtype=np.int32)
    return image.sample(Segments(void, np.zeros(0, np.int64), np.zeros(0, bool)), 1, "a")


# --- the rule


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(2, 300),
    width=st.integers(2, 300),
    orientation=st.integers(1, 8),
    image_size=st.integers(1, 120),
    low=st.floats(0.3, 1.5),
    ratio=st.floats(1, 2),
)
def test_no_image_is_decoded_below_the_largest_size_asked_for(
    height, width, orientation, image_size, low, ratio
):
    augmentation = Augmentation(image_size, (low, low * ratio))
    content = jpeg(np.zeros((height, width, 3), np.uint8), orientation)
    whole = read_rgb(content, "a")
    with decoded_for(augmentation.largest_side):
        image = read_image(content, "a")
    assert image.size == whole.shape[:2]
    if image.reduction is None:
        assert image.pixels.shape == whole.shape
        return
    left, top, right, bottom = image.reduction.window
    # what `augment` makes of an image at the top of the range, worked out from its documentation
    longest = round(image_size * low * ratio)
    asked = [longest * side / max(whole.shape[:2]) for side in whole.shape[:2]]
    assert bottom - top >= math.floor(asked[0])
    assert right - left >= math.floor(asked[1])
    assert 0 <= left < 1
    assert 0 <= top < 1
    assert right <= image.pixels.shape[1] < right + 1
    assert bottom <= image.pixels.shape[0] < bottom + 1
    scales = {whole.shape[0] / (bottom - top), whole.shape[1] / (right - left)}
    assert len({round(scale, 9) for scale in scales}) == 1
    assert round(scales.pop()) in (2, 4, 8)


@pytest.mark.parametrize(
    ("side", "scale"), [(49, 8), (50, 4), (100, 4), (101, 2), (200, 2), (201, 1), (900, 1)]
)
def test_the_smallest_scale_that_is_enough_is_taken(side, scale):
    # 50 pixels of 400 are 37.5 of 300, of which resizing makes 38: an eighth is too small
    with decoded_for(side):
        image = read_image(jpeg(ramp(300, 400)), "a")
    assert image.pixels.shape[:2] == (math.ceil(300 / scale), 400 / scale)
    assert image.size == (300, 400)


def test_only_jpegs_are_reduced_and_only_where_asked():
    with decoded_for(10):
        assert read_image(jpeg(ramp(300, 400), kind="PNG"), "a").reduction is None
        assert read_image(jpeg(ramp(300, 400), kind="MPO"), "a").reduction is not None
        assert read_rgb(jpeg(ramp(300, 400)), "a").shape == (300, 400, 3)
    assert read_image(jpeg(ramp(300, 400)), "a").reduction is None


# --- the same picture


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(203, 307), (400, 320), (163, 301)])
def test_every_pixel_stays_in_its_place(orientation, size):
    content = jpeg(ramp(*size), orientation)
    whole = empty_sample(read_image(content, "a"))
    with decoded_for(37):
        reduced = empty_sample(read_image(content, "a"))
    assert reduced.reduction is not None
    settings_ = Augmentation(30, (0.6, 1.2), color_jitter=0.0)
    for seed in range(6):
        first, second = (
            augment(sample, settings_, np.random.default_rng(seed)).image.astype(int)
            for sample in (whole, reduced)
        )
        # one stored pixel is 0.7 levels or more of the ramp, a whole pixel of the result 5
        assert np.abs(first - second).max() <= 3
        assert np.abs(first - second).mean() <= 0.8


def test_pixels_are_near_those_of_whole_decoding():
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (30, 40, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((1200, 900), Image.Resampling.BICUBIC))
    noisy = (smooth + rng.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)
    content = jpeg(noisy)
    with decoded_for(200):
        reduced = resize_only(empty_sample(read_image(content, "a")), 200).image.astype(int)
    whole = resize_only(empty_sample(read_image(content, "a")), 200).image.astype(int)
    assert 0 < np.abs(reduced - whole).mean() < 1


def test_annotation_made_on_the_stored_pixels_keeps_them():
    content = jpeg(ramp(200, 320), orientation=6)
    for annotation_size, size in (((200, 320), (200, 320)), ((320, 200), (320, 200))):
        with decoded_for(40):
            image = read_image(content, "a", annotation_size)
        assert image.size == size
        assert image.pixels.shape[:2] == (size[0] / 8, size[1] / 8)
        assert (image.pixels[0, -1, 0] > 200) == (size == (200, 320))


# --- with labels, through the loader


def spec(task) -> DatasetSpec:
    return DatasetSpec("drawn", task, (ClassInfo("square", True),), {0: 0})


BOX = (290, 190, 401, 303)  # x0, y0, x1, y1: up to the corner of an image of odd sides


def boxes_folder(folder):
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for number in range(4):
        pixels = np.full((303, 401, 3), 20 + 10 * number, np.uint8)
        pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 250
        (folder / f"images/{number}.jpg").write_bytes(jpeg(pixels))
        center = (BOX[0] + BOX[2]) / 2 / 401, (BOX[1] + BOX[3]) / 2 / 303
        extent = (BOX[2] - BOX[0]) / 401, (BOX[3] - BOX[1]) / 303
        line = " ".join(map(str, (0, *center, *extent)))
        (folder / f"labels/{number}.txt").write_text(f"{line}\n")
    return read_yolo(spec("boxes"), folder / "images", folder / "labels")


def training_set(data, **options) -> TrainingSet:
    augmentation = Augmentation(64, (0.8, 1.2))
    return TrainingSet("drawn", data, 1.0, 2, augmentation, {}, **options)


def batches(dataset: TrainingSet, first: int = 0, last: int = 8):
    return list(mixing_loader(MixingSampler([dataset], 3, first, last), PLAIN))


def test_labels_agree_with_pixels(tmp_path):
    data = boxes_folder(tmp_path)
    seen = 0
    for batch in batches(training_set(data)):
        for pixels, label in zip(batch.inputs["pixel_values"], batch.inputs["labels"], strict=True):
            rows, columns = np.nonzero(pixels.min(0).values.numpy() > 0.55)
            for box in 64 * label["boxes"].numpy():
                found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                np.testing.assert_allclose(box, found, atol=1)
                seen += 1
    assert seen >= 10


def test_the_loader_reduces_unless_told_not_to(tmp_path):
    data = boxes_folder(tmp_path)
    reduced, whole = (
        batches(training_set(data)),
        batches(training_set(data, reduced_decoding=False)),
    )
    differences = [
        (first.inputs["pixel_values"] - second.inputs["pixel_values"]).abs().max()
        for first, second in zip(reduced, whole, strict=True)
    ]
    assert max(differences) > 0
    assert data[0].image.shape == (303, 401, 3), "nothing is reduced outside of the loader"


@pytest.mark.parametrize("keep_in_memory", [False, True])
def test_a_resumed_loader_gives_the_same_bits(tmp_path, keep_in_memory):
    dataset = partial(training_set, boxes_folder(tmp_path), keep_in_memory=keep_in_memory)
    for first, again in zip(batches(dataset())[5:], batches(dataset(), first=5), strict=True):
        assert first.seeds == again.seeds
        assert first.inputs["pixel_values"].equal(again.inputs["pixel_values"])


def test_a_map_of_another_size_is_refused_though_the_decoded_image_has_it(tmp_path):
    for name in ("images", "maps"):
        (tmp_path / name).mkdir()
    (tmp_path / "images/a.jpg").write_bytes(jpeg(ramp(320, 640)))
    Image.fromarray(np.zeros((40, 80), np.uint8)).save(tmp_path / "maps/a.png")
    data = read_image_png(spec("semantic"), tmp_path / "images", tmp_path / "maps")
    with decoded_for(80), pytest.raises(BadSampleError, match="is 320 x 640 pixels"):
        data[0]
