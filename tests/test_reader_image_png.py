from dataclasses import replace

import numpy as np
import pytest
from annotation_files import SPEC, grey_png, save
from PIL import ExifTags, Image

from dataseg_hf.data.readers.image_png import read_image_png
from dataseg_hf.data.sample import BadSampleError

SEMANTIC = replace(SPEC, task="semantic")


@pytest.fixture
def folders(tmp_path):
    save(tmp_path / "images/b.jpg", np.zeros((2, 3, 3), np.uint8))
    save(tmp_path / "images/a/c.jpg", np.zeros((2, 3, 3), np.uint8))
    save(tmp_path / "maps/b.png", np.array([[193, 193, 17], [255, 194, 193]], np.uint8))
    save(tmp_path / "maps/a/c.png", np.full((2, 3), 255, np.uint8))
    return {"images": tmp_path / "images", "annotations": tmp_path / "maps"}


def image_ids(dataset) -> list[str]:
    return [row["image_id"] for row in dataset.rows]


def test_by_hand(folders):
    dataset = read_image_png(SEMANTIC, **folders)
    assert (dataset.problems, dataset.notes) == ([], [])
    assert [(dataset[i].image_id, dataset[i].file_name) for i in range(2)] == [("a/c", "a/c.jpg"), ("b", "b.jpg")]
    void, sample = dataset[0].annotation, dataset[1].annotation
    assert sample.class_labels.tolist() == [0, 1], "two raw ids of one class are one segment"
    assert sample.segment_map.tolist() == [[1, 1, 0], [-1, 1, 1]]
    assert sample.segment_map.dtype == np.int32
    assert not sample.is_crowd.any()
    assert void.class_labels.shape == (0,)
    assert (void.segment_map == -1).all()


def test_16_bits_and_palette_indices(folders):
    ids = np.array([[193, 193, 17], [255, 194, 193]])
    expected = read_image_png(SEMANTIC, **folders)[1].annotation.segment_map
    palette = Image.fromarray(ids.astype(np.uint8)).convert("P")
    palette.putdata(ids.ravel().tolist())
    palette.putpalette(list(range(255, -1, -1)) * 3)
    for image in (Image.fromarray(ids.astype(np.uint16)), palette):
        image.save(folders["annotations"] / "b.png")
        np.testing.assert_array_equal(read_image_png(SEMANTIC, **folders)[1].annotation.segment_map, expected)

    wide = replace(SEMANTIC, id_map={3000: 1}, void_ids=frozenset({0}))
    save(folders["annotations"] / "b.png", np.array([[3000, 0, 0]] * 2, np.uint16))
    assert read_image_png(wide, **folders)[1].annotation.segment_map.tolist() == [[0, -1, -1]] * 2


def test_annotation_of_a_turned_photograph(folders):
    """Annotated upright, or on the stored pixels: the size tells which, and image and annotation agree."""
    stored = np.array([[[200, 0, 0]] * 3, [[0, 0, 200]] * 3], np.uint8)
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6  # the first row is the right edge of what is to be seen
    save(folders["images"] / "b.png", stored, exif=tags)
    on_stored = np.array([[17] * 3, [193] * 3], np.uint8)
    for ids in (on_stored, np.rot90(on_stored, -1)):
        save(folders["annotations"] / "b.png", ids)
        dataset = read_image_png(SEMANTIC, **folders, image_suffix=".png", missing_images="skip")
        (sample,) = (dataset[i] for i in range(len(dataset)))
        assert sample.image.shape[:2] == ids.shape
        red = sample.image[..., 0] > 100
        np.testing.assert_array_equal(red, sample.annotation.segment_map == 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no image", r"maps/b\.png: cannot be read as an image .*replace or remove it"),
        (grey_png(3, 2, 4, b"\0\x11\x10\0\x11\x10"), r"maps/b\.png: 1 category id is not in the spec .*: 1 "),  # Pillow: 17
        (grey_png(1, 1, 8, b"\0\x11"), r"maps/b\.png: an image of 1 x 1 pixels.*replace or remove it"),
        (grey_png(2, 3, 8, b"\0\x11\x11" * 3), r"images/b\.jpg is 2 x 3 .*maps/b\.png is 3 x 2"),
        (
            grey_png(3, 2, 8, b"\0\x11\x11\x12" * 2),
            r"maps/b\.png: 1 category id is not in the spec of dataset 'tiny': 18 ",
        ),
    ],
)
def test_broken_annotation(folders, content, message):
    (folders["annotations"] / "b.png").write_bytes(content)
    dataset = read_image_png(SEMANTIC, **folders)
    with pytest.raises(BadSampleError, match=message):
        dataset[1]
    assert dataset[0].image_id == "a/c", "the other image stays"


def test_broken_image(folders):
    (folders["images"] / "b.jpg").write_bytes(b"no image")
    with pytest.raises(BadSampleError, match=r"images/b\.jpg: cannot be read as an image .*replace or remove it"):
        read_image_png(SEMANTIC, **folders)[1]


def test_image_without_annotation(folders):
    (folders["annotations"] / "a/c.png").unlink()
    dataset = read_image_png(SEMANTIC, **folders)
    assert image_ids(dataset) == ["b"]
    (problem,) = map(str, dataset.problems)
    root = folders["images"].parent
    assert problem.startswith(f"{root}/maps/a/c.png: missing, the annotation of {root}/images/a/c.jpg; add it")


def test_annotation_without_image(folders):
    (folders["images"] / "b.jpg").unlink()
    dataset = read_image_png(SEMANTIC, **folders)
    assert image_ids(dataset) == ["a/c"]
    (problem,) = map(str, dataset.problems)
    root = folders["images"].parent
    assert problem.startswith(f"{root}/images/b.jpg: missing, the image of {root}/maps/b.png; add it")
    subset = read_image_png(SEMANTIC, **folders, missing_images="skip")
    assert (image_ids(subset), subset.problems) == (["a/c"], [])
    assert subset.notes == [f"1 of 2 annotations have no image in {root}/images: left out"]


def test_missing_and_empty_folders(folders, tmp_path):
    for key in folders:
        with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
            read_image_png(SEMANTIC, **{**folders, key: tmp_path / "nowhere"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"dataset 'tiny': no images in .*empty; check the path"):
        read_image_png(SEMANTIC, tmp_path / "empty", tmp_path / "empty")
    with pytest.raises(ValueError, match=r"dataset 'tiny': no images in .*images; check the path"):
        read_image_png(SEMANTIC, **folders, image_suffix=".webp", missing_images="skip")


def test_suffixes(tmp_path):
    save(tmp_path / "x/one_left.png", np.zeros((2, 2, 3), np.uint8))
    save(tmp_path / "x/one_ids.png", np.full((2, 2), 17, np.uint8))
    dataset = read_image_png(SEMANTIC, tmp_path, tmp_path, image_suffix="_left.png", annotation_suffix="_ids.png")
    assert dataset[0].image_id == "x/one"
    assert dataset[0].annotation.class_labels.tolist() == [0]


def test_split_file(folders, tmp_path):
    split = tmp_path / "train.txt"
    split.write_text("b\n")
    assert image_ids(read_image_png(SEMANTIC, **folders, split_file=split)) == ["b"]
    split.write_text("b\nd\n")
    dataset = read_image_png(SEMANTIC, **folders, split_file=split)
    assert image_ids(dataset) == ["b"]
    (problem,) = map(str, dataset.problems)
    assert problem.startswith(f"{tmp_path}/images/d.jpg: missing, 'd' of {split}; add it")
    split.write_text("../b\n")
    with pytest.raises(ValueError, match=r"train\.txt: file name '\.\./b' must be a relative path without '\.\.'"):
        read_image_png(SEMANTIC, **folders, split_file=split)
    with pytest.raises(FileNotFoundError, match=r"val\.txt: missing"):
        read_image_png(SEMANTIC, **folders, split_file=tmp_path / "val.txt")
