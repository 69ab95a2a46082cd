"""What the readers share: paths, pixels, maps of ids."""

import io
import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from datasets import Features
from datasets import Image as HubImage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import ExifTags, Image

from dataseg_hf.data.readers.id_maps import read_id_map, read_rgb_ids
from dataseg_hf.data.readers.images import MAX_PIXELS, read_rgb
from dataseg_hf.data.readers.map_classes import MapClasses
from dataseg_hf.data.readers.map_segments import semantic_segments_of
from dataseg_hf.data.readers.panoptic_segments import panoptic_segments
from dataseg_hf.data.readers.paths import file_locator, files_by_name, inside, split_names
from dataseg_hf.data.readers.rows import Rows
from dataseg_hf.data.sample import BadSampleError
from helpers.annotation_files import SPEC, encoded, gray_png, rgb_of, save
from helpers.image_files import PALETTE, RGB, png, tiff

# A photograph of 2 x 3 pixels, each of its own color, and how EXIF orientation 1..8 turns it
# (CIPA DC-008, "Orientation": where row 0 and column 0 of the stored pixels are to be seen).
STORED = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10
UPRIGHT = {
    1: STORED,
    2: STORED[:, ::-1],
    3: STORED[::-1, ::-1],
    4: STORED[::-1],
    5: STORED.transpose(1, 0, 2),
    6: STORED[::-1].transpose(1, 0, 2),
    7: STORED[::-1, ::-1].transpose(1, 0, 2),
    8: STORED[:, ::-1].transpose(1, 0, 2),
}
NOISE = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return tags


# --- images that cannot be used


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"cannot be read as an image .*replace or remove it"),
        (b"<html>404 Not Found</html>", r"cannot be read as an image .*replace or remove it"),
        (
            encoded(NOISE, "JPEG")[:1500],
            r"cannot be read as an image .*truncated.*replace or remove it",
        ),
        (encoded(NOISE, "PNG")[:1500], r"cannot be read as an image .*replace or remove it"),
        (encoded(NOISE, "PNG")[:20], r"cannot be read as an image .*replace or remove it"),
        (encoded(NOISE[:1, :1], "PNG"), r"an image of 1 x 1 pixels .*replace or remove it"),
        (encoded(NOISE[:1], "PNG"), r"an image of 1 x 40 pixels .*replace or remove it"),
    ],
)
@pytest.mark.parametrize("read", [read_rgb, read_id_map, read_rgb_ids])
def test_broken_and_empty_images(read, content, message, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(BadSampleError, match=rf"^photos/a\.jpg: {message}"):
            read(source, "photos/a.jpg")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("height", [MAX_PIXELS // 10_000 + 1, 3 * MAX_PIXELS // 10_000, 2_000_000])
def test_images_above_the_limit_are_refused_before_they_are_decoded(height):
    # no row follows the header: to decode it would end in another message
    with pytest.raises(BadSampleError, match=r"^a\.png: .*pixels.*make it smaller"):
        read_rgb(gray_png(10_000, height, 8, b""), "a.png")


def test_the_message_of_the_limit_names_it():
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(
            BadSampleError,
            match=rf"8948 x 10000 pixels \(height x width\) are more than {MAX_PIXELS};",
        ),
    ):
        read_rgb(gray_png(10_000, 8948, 8, b""), "a.png")


# --- images of every kind become upright RGB


def test_gray_and_two_level_and_transparent_images():
    gray = NOISE[..., 0]
    expected = np.repeat(gray[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_rgb(encoded(gray, "PNG"), "a"), expected)
    np.testing.assert_array_equal(
        read_rgb(encoded(np.dstack([gray, NOISE[..., 1]]), "PNG"), "a"), expected
    )
    np.testing.assert_array_equal(read_rgb(encoded(np.dstack([NOISE, gray]), "PNG"), "a"), NOISE)
    two_level = read_rgb(encoded(gray > 99, "PNG"), "a")
    np.testing.assert_array_equal(
        two_level, np.repeat((gray > 99)[..., None] * np.uint8(255), 3, axis=2)
    )


def test_palette_images_show_their_colors():
    indices = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    indices.putpalette([10, 20, 30, 200, 210, 220])
    indices.putdata([0, 1, 1, 0])
    buffer = io.BytesIO()
    indices.save(buffer, "PNG")
    dark, light = [10, 20, 30], [200, 210, 220]
    assert read_rgb(buffer.getvalue(), "a").tolist() == [[dark, light], [light, dark]]


@pytest.mark.parametrize(
    ("ink", "color"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 0, 0), (255, 0, 255)),
        ((0, 0, 255, 0), (255, 255, 0)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ],
)
def test_cmyk_photographs(ink, color):
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 8), ink).save(buffer, "JPEG", quality=100)
    image = read_rgb(buffer.getvalue(), "a")
    assert image.shape == (8, 16, 3)
    assert np.abs(image.astype(int) - color).max() <= 3, "JPEG rounds, no more"


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photographs_are_turned_upright(orientation):
    content = encoded(STORED, "PNG", exif=exif(orientation))
    upright = UPRIGHT[orientation]
    np.testing.assert_array_equal(read_rgb(content, "a"), upright)
    np.testing.assert_array_equal(read_rgb(content, "a", upright.shape[:2]), upright)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_annotation_made_on_the_stored_pixels_keeps_them(orientation):
    np.testing.assert_array_equal(
        read_rgb(encoded(STORED, "PNG", exif=exif(orientation)), "a", (2, 3)), STORED
    )


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "tags", [b"Exif\0\0garbage", b"Exif\0\0", b"Exif\0\0MM\0*", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"]
)
def test_unreadable_exif_is_ignored(tags):
    content = encoded(NOISE, "JPEG")
    with_tags = encoded(NOISE, "JPEG", exif=tags)
    np.testing.assert_array_equal(read_rgb(with_tags, "a"), read_rgb(content, "a"))


# --- maps of ids


def test_id_maps_of_8_and_16_bits_and_palettes():
    ids = np.array([[0, 7, 255], [3, 3, 200]])
    palette = Image.fromarray(ids.astype(np.uint8)).convert("P")
    palette.putdata(ids.ravel().tolist())
    palette.putpalette(list(range(255, -1, -1)) * 3)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    for content in (
        encoded(ids.astype(np.uint8), "PNG"),
        encoded(ids.astype(np.uint16), "PNG"),
        buffer.getvalue(),
    ):
        np.testing.assert_array_equal(read_id_map(content, "a"), ids)
    wide = np.array([[0, 256, 3000], [65_535, 1, 1]], np.uint16)
    np.testing.assert_array_equal(read_id_map(encoded(wide, "PNG"), "a"), wide)


def test_maps_without_ids(tmp_path):
    with pytest.raises(BadSampleError, match=r"^a: expected one id per pixel.*not RGB; convert it"):
        read_id_map(encoded(NOISE, "PNG"), "a")
    with pytest.raises(BadSampleError, match=r"^a: a panoptic PNG is RGB.*this is L"):
        read_rgb_ids(encoded(NOISE[..., 0], "PNG"), "a")
    # Pillow keeps the upper byte of each, which is 0 in ids below 256
    with pytest.raises(BadSampleError, match=r"^a: a panoptic PNG is RGB.*this is RGB of 16 bits"):
        read_rgb_ids(png(np.full((2, 2, 3), 5), 16, RGB), "a")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_id_maps_of_less_than_8_bits_hold_the_numbers_of_the_file(bits, tmp_path):
    ids = np.arange(15).reshape(3, 5) % 2**bits
    colors = 2**bits * 3
    files = {
        "gray.png": png(ids, bits),
        "palette.png": png(ids, bits, PALETTE, {b"PLTE": bytes(range(200, 200 + colors))}),
        "gray.tif": tiff(ids, bits),
        "zero_is_white.tif": tiff(ids, bits, photometric=0),
        "palette.tif": tiff(ids, bits, photometric=3, tags={320: np.arange(colors, dtype="<u2")}),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        for source in (content, tmp_path / name):
            np.testing.assert_array_equal(read_id_map(source, name), ids, err_msg=name)


def test_id_maps_of_8_and_16_bits_in_a_tiff():
    ids = np.array([[0, 17, 255], [34, 1, 85]])
    wide = ids * 257
    for content in (tiff(ids, 8), tiff(ids, 8, photometric=0)):
        np.testing.assert_array_equal(read_id_map(content, "a"), ids)
    for order in "<>":
        np.testing.assert_array_equal(read_id_map(tiff(wide, 16, order=order), "a"), wide)


def test_two_valued_maps_as_datasets_stores_them():
    labels = Features({"label": HubImage()}).encode_example({"label": NOISE[..., 0] > 99})["label"][
        "bytes"
    ]
    assert Image.open(io.BytesIO(labels)).mode == "1"
    np.testing.assert_array_equal(read_id_map(labels, "a"), NOISE[..., 0] > 99)


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9),
        elements=st.integers(0, 2**24 - 1),
    )
)
def test_rgb_ids(ids):
    np.testing.assert_array_equal(read_rgb_ids(encoded(rgb_of(ids), "PNG"), "a"), ids)
    with_alpha = np.dstack([rgb_of(ids), np.full(ids.shape, 9, np.uint8)])
    np.testing.assert_array_equal(read_rgb_ids(encoded(with_alpha, "PNG"), "a"), ids)


def test_semantic_segments_by_hand():
    segments = semantic_segments_of(
        np.array([[193, 193, 17], [255, 194, 193]], np.uint8), MapClasses(SPEC), "a"
    )[0]
    assert segments.class_labels.tolist() == [0, 1], "two raw ids of one class are one segment"
    assert segments.segment_map.tolist() == [[1, 1, 0], [-1, 1, 1]]
    assert (segments.segment_map.dtype, segments.class_labels.dtype) == (np.int32, np.int64)
    assert segments.is_crowd.tolist() == [False, False]
    with pytest.raises(
        BadSampleError, match=r"^a: 1 category id is not .* 'tiny': 18 \(1 pixel\); add each"
    ):
        semantic_segments_of(np.array([[17, 18]], np.uint8), MapClasses(SPEC), "a")


def test_panoptic_segments_by_hand():
    ids = np.array([[5, 5, 300], [0, 70000, 300]], np.uint32)
    segments, hidden = panoptic_segments(
        ids, [(70000, -1, False), (300, 1, False), (5, 0, True)], "a"
    )
    assert segments.segment_map.tolist() == [[0, 0, 1], [-1, -1, 1]]
    assert segments.class_labels.tolist() == [0, 1]
    assert segments.is_crowd.tolist() == [True, False]
    assert hidden == []
    with pytest.raises(
        BadSampleError,
        match=r"^a: segment ids \[300, 70000\] are not in `segments_info`; list them",
    ):
        panoptic_segments(ids, [(5, 0, False)], "a")
    segments, hidden = panoptic_segments(ids, [(i, 0, False) for i in (5, 6, 300, 301, 70000)], "a")
    assert hidden == [6, 301]
    assert segments.segment_map.tolist() == [[0, 0, 1], [-1, 2, 1]], "hidden ones leave no gap"


# --- paths


@pytest.mark.parametrize(
    "name",
    ["../b.png", "/etc/b.png", "x/../../b.png", "..\\b.png", "C:\\b.png", "\\b.png", "", 5, None],
)
def test_file_names_never_leave_their_root(name, tmp_path):
    with pytest.raises(BadSampleError) as caught:
        inside(tmp_path, name, "a.json: image 3")
    assert str(caught.value).startswith(f"a.json: image 3: file name {name!r} ")


@pytest.mark.parametrize("name", ["/etc/b.png", "C:\\x\\b.png", "\\b.png"])
def test_absolute_names_are_told_the_remedy(name, tmp_path):
    with pytest.raises(BadSampleError, match=r"is an absolute path.*file_name_pattern"):
        inside(tmp_path, name, "a.json: image 3")


def test_backslashes_part_folders_unless_a_file_is_called_so(tmp_path):
    assert inside(tmp_path, "a\\b.png", "") == tmp_path / "a/b.png"
    (tmp_path / "a\\b.png").touch()
    assert inside(tmp_path, "a\\b.png", "") == tmp_path / "a\\b.png"


def test_names_with_dots_are_no_way_out(tmp_path):
    assert inside(tmp_path, "a..b/c...png", "") == tmp_path / "a..b/c...png"


def test_files_by_name(tmp_path):
    for name in ("b.jpg", "x/a.JPG", "x/a.txt", "c.jpg"):
        save(tmp_path / name, NOISE, format="JPEG")
    assert files_by_name(tmp_path, ".jpg") == {
        "b": tmp_path / "b.jpg", "c": tmp_path / "c.jpg", "x/a": tmp_path / "x/a.JPG"
    }  # fmt: skip
    save(tmp_path / "b.png", NOISE)
    with pytest.raises(ValueError, match=r"b\.jpg and .*b\.png: two files of one name; keep one"):
        files_by_name(tmp_path, ".jpg", ".png")


def test_split_names(tmp_path):
    (tmp_path / "train.txt").write_text("b -1\n\n a\nb\n")
    assert split_names(tmp_path / "train.txt") == ["a", "b"]
    (tmp_path / "train.txt").write_text("../a\n")
    with pytest.raises(
        BadSampleError, match=r"train\.txt: file name '\.\./a' must be a relative path"
    ):
        split_names(tmp_path / "train.txt")
    with pytest.raises(FileNotFoundError, match=r"val\.txt: missing, the list of images"):
        split_names(tmp_path / "val.txt")


def test_file_locator():
    assert file_locator(None)("a/b.jpg") == "a/b.jpg"
    assert file_locator((r"^a/(\w+)", r"c/\1"))("a/b.jpg") == "c/b.jpg"
    for pattern in (("a",), ("(", ""), (3, "")):
        with pytest.raises(ValueError, match="file_name_pattern: expected"):
            file_locator(pattern)


def test_many_rows_are_mapped_from_a_file(monkeypatch):
    """In the order added or of a column, and in another process, which maps the same file."""
    monkeypatch.setattr("dataseg_hf.data.readers.rows._ROWS_PER_BATCH", 3)
    numbers = [5, 1, 9, 2, 8, 7, 0, 3]

    def rows():
        made = Rows({"number": pa.int64(), "text": pa.string()})
        for number in numbers:
            made.add(number=number, text=f"t{number}")
        return made

    in_order, by_number = rows().dataset(), rows().dataset(sort_by="number")
    assert len(in_order.cache_files) == 1
    assert in_order["number"][:] == numbers
    assert by_number["text"][:] == [f"t{number}" for number in sorted(numbers)]
    assert pickle.loads(pickle.dumps(by_number))["text"][:] == by_number["text"][:]
    monkeypatch.setattr("dataseg_hf.data.readers.rows._ROWS_PER_BATCH", 100)
    assert rows().dataset().cache_files == []
    assert rows().dataset(sort_by="number")["number"][:] == sorted(numbers)


def test_readers_are_imported_when_they_are_asked_for() -> None:
    script = (
        "import sys; import dataseg_hf.data.readers as readers; assert 'torch' not in sys.modules; "
        "from dataseg_hf.data.readers import READERS, read_yolo; "
        "assert READERS['yolo'] is read_yolo and not hasattr(readers, 'no_such_thing')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
