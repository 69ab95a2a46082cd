"""Images that do not fill their value range, from bytes made by hand; one way to read them for all
who do.
"""

import base64
import contextlib
import io
import random
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from dataseg_hf import DaTaSegPipeline
from dataseg_hf.data.inspection import inspect_dataset
from dataseg_hf.data.readers.id_maps import read_id_map, read_rgb_ids
from dataseg_hf.data.readers.images import read_rgb
from dataseg_hf.data.sample import BadSampleError
from dataseg_hf.errors import ConfigError
from dataseg_hf.model.image_reading_dataseg import read_image
from dataseg_hf.prediction.tiling import Thresholds, segment_image
from dataseg_hf.settings.datasets import load_source
from dataseg_hf.settings.entries import (
    ClassSettings,
    EvalEntry,
    SpecSettings,
    TrainEntry,
    with_default_range,
)
from dataseg_hf.settings.model import build_processor
from dataseg_hf.settings.parsing import parse_settings
from dataseg_hf.settings.run import RunConfig
from helpers.annotation_files import encoded
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.image_files import (
    FLOAT,
    GRAY_ALPHA,
    RGB,
    RGB_ALPHA,
    SIGNED,
    packed,
    png,
    tiff,
    tiff_of_strip,
)

DEEP = np.array([[0, 112, 2000], [3980, 4000, 1]])
# 255 / 4000 of it: 7.14, 127.5 (to even), 253.7, 0.06
OF_4000 = np.array([[0, 7, 128], [254, 255, 0]])
OF_4095 = np.array([[0, 7, 125], [248, 249, 0]])  # 6.97, 124.5 (to even: 124.54), 247.8, 249.1
DEEP_RGB = np.dstack([DEEP, DEEP // 2, 4000 - DEEP])
RGB_OF_4000 = np.dstack([OF_4000, [[0, 4, 64], [127, 128, 0]], [[255, 248, 128], [1, 0, 255]]])


def gray(pixels):
    return np.repeat(np.asarray(pixels)[..., None], 3, axis=2)


# --- by which range


@pytest.mark.parametrize(
    "content",
    [
        png(DEEP, 16),
        png(np.dstack([DEEP, DEEP]), 16, GRAY_ALPHA),
        tiff(DEEP, 16),
        tiff(DEEP, 16, order=">"),
        tiff(DEEP - 2000, 16, SIGNED),
        tiff(DEEP * 1_000_000, 32),  # above 2 ** 31, which Pillow takes for negative
        tiff(DEEP - 2000, 32, SIGNED),
        tiff(DEEP / 4000, 32, FLOAT),
        tiff(DEEP / 4000, 32, FLOAT, order=">"),
        encoded(DEEP.astype(np.uint16), "TIFF", compression="tiff_lzw"),
        tiff(DEEP, 16, tags={281: np.array([65_535], "<u2")}),  # says no more than 16 bits do
        tiff(DEEP, 16, tags={281: np.array([255], "<u2")}),  # proved wrong by the values
    ],
)
def test_the_own_range_where_the_file_tells_nothing(content):
    np.testing.assert_array_equal(read_rgb(content, "a"), gray(OF_4000))


@pytest.mark.parametrize(
    "content",
    [
        tiff_of_strip(b"".join(packed(DEEP, 12)), DEEP.shape, [12], 1, 1, {}),
        png(DEEP, 16, chunks={b"sBIT": b"\x0c"}),
        png(DEEP << 4, 16, chunks={b"sBIT": b"\x0c"}),  # shifted up, as the specification wants it
        tiff(DEEP, 16, tags={281: np.array([4095], "<u2")}),
        tiff(DEEP, 16, tags={340: np.array([0], "<u2"), 341: np.array([4095], "<u2")}),
        b"P5 3 2 4095\n" + DEEP.astype(">u2").tobytes(),
    ],
)
def test_the_range_that_the_file_tells(content):
    difference = read_rgb(content, "a").astype(int) - gray(OF_4095)
    assert np.abs(difference).max() <= int(b"sBIT" in content), (
        "shifted values end at 4095 * 16, not at 65535"
    )


@pytest.mark.parametrize(
    "content", [png(DEEP, 16), tiff(DEEP, 16), tiff(DEEP, 32, FLOAT), png(DEEP_RGB, 16, RGB)]
)
def test_a_stated_range_comes_first(content):
    pixels = read_image(content, (100, 2100))
    # 12 and 1900 of 2000
    assert np.asarray(pixels)[..., 0].tolist() == [[0, 2, 242], [255, 255, 0]]


@pytest.mark.parametrize(
    "content",
    [
        png(DEEP_RGB, 16, RGB),
        png(np.dstack([DEEP_RGB, DEEP]), 16, RGB_ALPHA),
        tiff(DEEP_RGB, 16, photometric=2),
        tiff(DEEP_RGB, 16, photometric=2, order=">"),
    ],
)
def test_rgb_of_16_bits_keeps_the_bytes_that_pillow_drops(content):
    np.testing.assert_array_equal(read_rgb(content, "a"), RGB_OF_4000)


def test_zero_is_white():
    np.testing.assert_array_equal(read_rgb(tiff(DEEP, 16, photometric=0), "a"), gray(255 - OF_4000))


def test_values_that_are_no_numbers_become_black():
    values = np.array([[np.nan, 0.0, 1.0], [np.inf, -np.inf, 0.5]])
    np.testing.assert_array_equal(
        read_rgb(tiff(values, 32, FLOAT), "a"), gray([[0, 0, 255], [255, 0, 128]])
    )
    masked = np.array([[-9999, 0.0, 1.0], [0.2, 0.6, 0.5]])
    content = tiff(masked, 32, FLOAT, tags={42113: "-9999"})  # GDAL's "no data"
    np.testing.assert_array_equal(read_rgb(content, "a"), gray([[0, 0, 255], [51, 153, 128]]))
    for value in (np.nan, 7.0):
        assert not read_rgb(tiff(np.full((2, 3), value), 32, FLOAT), "a").any()


def test_eight_bits_are_used_as_they_are():
    narrow = np.array([[3, 9], [20, 21]], np.uint8)
    for stated in (None, (0.0, 4095.0)):
        for content in (
            encoded(narrow, "PNG"),
            encoded(narrow, "TIFF"),
            encoded(gray(narrow), "PNG"),
        ):
            np.testing.assert_array_equal(np.asarray(read_image(content, stated)), gray(narrow))


def test_palettes_with_transparency():
    palette = bytes([10, 20, 30, 200, 210, 220])
    content = png(np.array([[0, 1], [1, 0]]), 1, 3, {b"PLTE": palette, b"tRNS": b"\x80\x00"})
    assert read_rgb(content, "a")[0].tolist() == [[10, 20, 30], [200, 210, 220]]


def test_the_first_page_and_the_first_frame():
    pages = [Image.fromarray(np.full((4, 5), 40 * k, np.uint8)) for k in (1, 2)]
    for file_format in ("TIFF", "GIF", "PNG", "WEBP"):
        buffer = io.BytesIO()
        pages[0].save(buffer, file_format, save_all=True, append_images=pages[1:], lossless=True)
        assert (read_rgb(buffer.getvalue(), "a") == 40).all()


@pytest.mark.parametrize("content", [tiff(DEEP / 3, 64, FLOAT), tiff(np.dstack([DEEP] * 5), 16)])
def test_a_tiff_that_pillow_does_not_read(content, tmp_path):
    (tmp_path / "a.tif").write_bytes(content)
    for source in (content, tmp_path / "a.tif"):
        with pytest.raises(
            BadSampleError, match=r"^a\.tif: .*kind of TIFF that Pillow does not read; convert it"
        ):
            read_rgb(source, "a.tif")


def test_16_bits_per_channel_that_pillow_mixes_up_are_refused():
    planes = np.moveaxis(DEEP_RGB, -1, 0).astype("<u2").tobytes()
    in_planes = tiff_of_strip(planes, DEEP.shape, [16] * 3, 1, 2, {284: np.array([2], "<u2")})
    alpha = np.dstack([DEEP_RGB, DEEP])
    premultiplied = tiff(alpha, 16, photometric=2, tags={338: np.array([1], "<u2")})
    for content in (in_planes, premultiplied, tiff(alpha, 16, photometric=5)):
        with pytest.raises(
            BadSampleError, match=r"16 bits per channel in .* convert it to RGB of 16 bits"
        ):
            read_rgb(content, "a")


SEEDS = {
    "png": png(DEEP, 16, chunks={b"sBIT": b"\x0c"}),
    "rgb png": png(DEEP_RGB, 16, RGB),
    "ids": png(DEEP % 16, 4),
    "tiff": tiff(DEEP, 16, tags={280: np.array([0], "<u2"), 281: np.array([4095], "<u2")}),
    "rgb tiff": tiff(DEEP_RGB, 16, photometric=2),
    "float tiff": tiff(DEEP / 4000, 32, FLOAT, tags={42113: "-9999"}),
    "compressed tiff": encoded(DEEP.astype(np.uint16), "TIFF", compression="tiff_lzw"),
}


def mutated(content: bytes, rng: random.Random) -> bytes:
    """With one to four bytes replaced, taken out or cut off, most of them in its header."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.randrange(min(len(changed), rng.choice([60, 250, len(changed)])))
        how = rng.random()
        if how < 0.6:
            changed[place] = rng.choice([0, 1, 255, 127, 128, rng.randrange(256)])
        else:
            del changed[place : None if how > 0.9 else place + rng.randrange(1, 5)]
        changed = changed or bytearray(b"x")
    return bytes(changed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SEEDS)
def test_200_mutated_files_are_read_or_refused_in_one_line(name):
    rng = random.Random(name)
    for _ in range(200):
        content = mutated(SEEDS[name], rng)
        for read in (read_rgb, read_id_map, read_rgb_ids):
            with contextlib.suppress(BadSampleError):
                assert read(content, "a").ndim in (2, 3)


@pytest.mark.parametrize("tag", [258, 280, 281, 339, 42113])
def test_tags_of_a_wrong_type_tell_nothing(tag):
    content = tiff(
        DEEP, 16, tags={280: np.array([0], "<u2"), 281: np.array([4095], "<u2"), tag: "many"}
    )
    with contextlib.suppress(BadSampleError):
        assert read_rgb(content, "a").shape == (2, 3, 3)


# --- the same everywhere


def turned(content: bytes) -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).save(buffer, "PNG", exif=tags)
    return buffer.getvalue()


LARGE = np.random.default_rng(0).integers(100, 4000, (40, 56))
FILES = {
    "gray.png": png(LARGE, 16),
    "told.png": png(LARGE, 16, chunks={b"sBIT": b"\x0c"}),
    "rgb.png": png(np.dstack([LARGE, LARGE // 2, LARGE // 3]), 16, RGB),
    "turned.png": turned(png(LARGE, 16)),
    "thermal.tif": tiff(LARGE / 4000, 32, FLOAT),
}


@pytest.fixture
def folder(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for name, content in FILES.items():
        (tmp_path / "images" / name).write_bytes(content)
        (tmp_path / "labels" / name).with_suffix(".txt").write_text("")
    return tmp_path


def entry(folder: Path, kind: type = TrainEntry, **options: Any) -> Any:
    """A YOLO set of the files, without objects."""
    spec = SpecSettings(task="boxes", classes=[ClassSettings(name="cat", ids=[0], thing=True)])
    places = {"images": str(folder / "images"), "annotations": str(folder / "labels")}
    return kind(spec=spec, reader="yolo", **places, **options)


def trained_on(source: Any) -> dict[str, np.ndarray]:
    """By file name, the images that training sees."""
    data = load_source(source, "datasets.deep")
    return {data[k].file_name: data[k].image for k in range(len(data))}


@pytest.mark.parametrize("value_range", [None, (200, 3000)])
def test_every_way_in_reads_the_same_pixels(folder, value_range):
    images = trained_on(entry(folder, value_range=value_range))
    assert set(images) == set(FILES)
    processor = checkpoint_processor(value_range=value_range)
    pipe = DaTaSegPipeline(model=checkpoint_model(), image_processor=processor, device="cpu")
    for name, pixels in images.items():
        path = folder / "images" / name
        wanted = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
        text = base64.encodebytes(path.read_bytes()).decode()
        sources = [
            str(path),
            path.read_bytes(),
            path,
            io.BytesIO(path.read_bytes()),
            Image.open(path),
            text,
        ]
        for source in sources:
            np.testing.assert_array_equal(np.asarray(processor.read_image(source)), pixels)
        for source in (
            str(path),
            text,
            Image.open(path),
            Image.open(io.BytesIO(path.read_bytes())),
        ):
            assert torch.equal(pipe.preprocess(source)["pixel_values"], wanted)
        assert torch.equal(processor(str(path), return_tensors="pt")["pixel_values"], wanted)
        if name != "turned.png":  # the processor takes PIL images as they lie
            assert torch.equal(
                processor(Image.open(path), return_tensors="pt")["pixel_values"], wanted
            )


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing."""


def test_an_address_is_read_as_its_file(folder):
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Silent, directory=str(folder / "images"))
    )
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    processor = checkpoint_processor()
    wanted = processor.read_image(folder / "images" / "rgb.png")
    np.testing.assert_array_equal(processor.read_image(f"{address}/rgb.png", timeout=5), wanted)
    with pytest.raises(OSError, match="404"):
        processor.read_image(f"{address}/missing.png")
    server.shutdown()


def test_windows_of_a_large_image_share_one_scale(folder):
    model, processor, opened = (
        checkpoint_model(),
        checkpoint_processor(),
        Image.open(folder / "images" / "gray.png"),
    )
    options = {"task": "semantic", "thresholds": Thresholds(), "tile": 32}
    found = segment_image(model, processor, opened, **options)
    wanted = segment_image(
        model, processor, processor.read_image(folder / "images" / "gray.png"), **options
    )
    assert [(one.label_id, one.area) for one in found] == [
        (one.label_id, one.area) for one in wanted
    ]


def test_the_pipeline_says_what_it_takes():
    pipe = DaTaSegPipeline(
        model=checkpoint_model(), image_processor=checkpoint_processor(), device="cpu"
    )
    with pytest.raises(
        TypeError, match=r"an image is a path, bytes or a PIL image, not ndarray; see"
    ):
        pipe(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"'missing\.png' is no image file that is there"):
        pipe("missing.png")


# --- settings


def test_a_mix_has_one_value_range(folder):
    deep, other = entry(folder, value_range=(0, 4095)), entry(folder)
    held_out = {
        "same": entry(folder, EvalEntry),
        "own": entry(folder, EvalEntry, value_range=(5, 6)),
    }
    config = RunConfig(
        datasets={"a": other, "b": deep}, text_encoder={}, output_dir="x", evaluation=held_out
    )
    assert [e.value_range for e in config.datasets.values()] == [(0, 4095)] * 2
    assert [e.value_range for e in config.evaluation.values()] == [(0, 4095), (5, 6)]
    assert build_processor(config).value_range == (0.0, 4095.0)
    # the `evaluate` command gives its entries the range of the model's processor
    assert with_default_range(held_out["same"], (1, 2)).value_range == (1, 2)
    assert with_default_range(held_out["own"], (1, 2)).value_range == (5, 6)
    plain = {**config.as_plain(), "evaluation": {}}
    for datasets, message in (
        (
            {"b": {"value_range": [0, 9]}},
            r"datasets\.b\.value_range: is \(0\.0, 9\.0\), but another",
        ),
        (
            {"a": {"value_range": [9, 9]}},
            r"datasets\.a\.value_range: must be two numbers \[low, hi",
        ),
    ):
        changed = {n: {**e, **datasets.get(n, {})} for n, e in plain["datasets"].items()}
        with pytest.raises(ConfigError, match=message):
            parse_settings(RunConfig, {"x.yaml": {**plain, "datasets": changed}})


# --- what `inspect` says


def notes(folder: Path, **options: Any) -> list[str]:
    return inspect_dataset(
        "deep", load_source(entry(folder, **options), "datasets.deep"), None
    ).notes


def test_inspect_says_how_images_are_scaled(folder):
    (folder / "images" / "gray.png").write_bytes(png(LARGE % 3000 + 112, 16))
    found = notes(folder)
    low, high = int(min(LARGE.min() // 3, (LARGE % 3000 + 112).min())), int(LARGE.max())
    assert (
        f"3 images of 16 bits are scaled by their own range, {low}..{high}; set value_range to "
        f"[{low}, {high}], or to "
        "what the camera delivers, to scale all alike"
    ) in found
    assert any(
        note.startswith("1 images of 32 bits, float are scaled by their own range, 0.025..")
        for note in found
    )
    assert "1 images of 16 bits are scaled by the range that their files tell, 0..4095" in found


def test_inspect_says_what_the_value_range_cuts_off(folder):
    for name in FILES:
        if name not in ("gray.png", "rgb.png"):
            (folder / "images" / name).unlink()
            (folder / "labels" / name).with_suffix(".txt").unlink()
    (folder / "images" / "rgb.png").write_bytes(encoded(gray(LARGE // 16).astype(np.uint8), "PNG"))
    found = notes(folder, value_range=(200, 3000))
    assert (
        "1 images of 16 bits have values outside of value_range, 200..3000, which are clipped"
        in found
    )
    assert (
        "1 images have 8 bits (or a reader without `read_rgb`): value_range has no effect" in found
    )


def test_inspect_names_constant_images_missing_values_and_further_pages(folder):
    (folder / "images" / "gray.png").write_bytes(png(np.full((9, 9), 700), 16))
    (folder / "images" / "thermal.tif").write_bytes(
        tiff(np.array([[np.nan, 1], [2, 3]]), 32, FLOAT)
    )
    pages = [Image.fromarray(np.full((4, 5), 40 * k, np.uint8)) for k in (1, 2)]
    pages[0].save(folder / "images" / "told.png", save_all=True, append_images=pages[1:])
    found = notes(folder)
    assert "1 images of 16 bits have one value everywhere and become black" in found
    assert (
        "1 images of 32 bits, float have values that are no numbers (NaN, infinite, no data)"
        in found
    )
    assert "1 images have several pages or frames: the first one is read" in found
