from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image

from dataseg_hf.data.readers.image_png import read_image_png
from dataseg_hf.data.sample import BadSampleError
from helpers.annotation_files import SPEC, gray_png, save

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
    assert [(dataset[i].image_id, dataset[i].file_name) for i in range(2)] == [
        ("a/c", "a/c.jpg"),
        ("b", "b.jpg"),
    ]
    void, sample = dataset[0].annotation, dataset[1].annotation
    assert sample.class_labels.tolist() == [0, 1], "two raw ids of one class are one segment"
    assert sample.segment_map.tolist() == [[1, 1, 0], [-1, 1, 1]]
    assert sample.segment_map.dtype == np.int32
    assert not sample.is_crowd.any()
    assert void.class_labels.shape == (0,)
    assert (void.segment_map == -1).all()


def test_hidden_files_and_folders_are_passed_over(folders):
    """What macOS and Jupyter leave beside the files."""
    for name in ("images/._b.jpg", "maps/._b.png", "images/.ipynb_checkpoints/b-checkpoint.jpg"):
        (folders["images"].parent / name).parent.mkdir(exist_ok=True)
        (folders["images"].parent / name).write_bytes(b"no image")
    dataset = read_image_png(SEMANTIC, **folders)
    assert (dataset.problems, image_ids(dataset)) == ([], ["a/c", "b"])


def test_links_to_folders_are_followed_once(folders, tmp_path):
    linked = {name: tmp_path / f"linked_{name}" for name in folders}
    for name, folder in linked.items():
        folder.mkdir()
        (folder / "day").symlink_to(folders[name])
        (folders[name] / "again").symlink_to(folder)
    dataset = read_image_png(SEMANTIC, **linked)
    assert (dataset.problems, image_ids(dataset)) == ([], ["day/a/c", "day/b"])


def test_a_suffix_without_its_dot(folders):
    assert image_ids(
        read_image_png(SEMANTIC, **folders, image_suffix="jpg", annotation_suffix="png")
    ) == ["a/c", "b"]


def test_16_bits_and_palette_indices(folders):
    ids = np.array([[193, 193, 17], [255, 194, 193]])
    expected = read_image_png(SEMANTIC, **folders)[1].annotation.segment_map
    palette = Image.fromarray(ids.astype(np.uint8)).convert("P")
    palette.putdata(ids.ravel().tolist())
    palette.putpalette(list(range(255, -1, -1)) * 3)
    for image in (Image.fromarray(ids.astype(np.uint16)), palette):
        image.save(folders["annotations"] / "b.png")
        np.testing.assert_array_equal(
            read_image_png(SEMANTIC, **folders)[1].annotation.segment_map, expected
        )

    wide = replace(SEMANTIC, id_map={3000: 1}, void_ids=frozenset({0}))
    save(folders["annotations"] / "b.png", np.array([[3000, 0, 0]] * 2, np.uint16))
    assert read_image_png(wide, **folders)[1].annotation.segment_map.tolist() == [[0, -1, -1]] * 2


def test_annotation_of_a_turned_photograph(folders):
    """Annotated upright, or on the stored pixels: the size tells which, and image and annotation
    agree.
    """
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
        # Pillow: 17
        (
            gray_png(3, 2, 4, b"\0\x11\x10\0\x11\x10"),
            r"b\.png: 1 category id is not in the spec .*: 1 ",
        ),
        (
            gray_png(1, 1, 8, b"\0\x11"),
            r"maps/b\.png: an image of 1 x 1 pixels.*replace or remove it",
        ),
        (gray_png(2, 3, 8, b"\0\x11\x11" * 3), r"images/b\.jpg is 2 x 3 .*maps/b\.png is 3 x 2"),
        (
            gray_png(3, 2, 8, b"\0\x11\x11\x12" * 2),
            r"maps/b\.png: 1 category id is not in the spec of dataset 'tiny': 18 \(2 pixels\); "
            r"add each",
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
    with pytest.raises(
        BadSampleError, match=r"images/b\.jpg: cannot be read as an image .*replace or remove it"
    ):
        read_image_png(SEMANTIC, **folders)[1]


def test_image_without_annotation(folders):
    (folders["annotations"] / "a/c.png").unlink()
    dataset = read_image_png(SEMANTIC, **folders)
    assert image_ids(dataset) == ["b"]
    (problem,) = map(str, dataset.problems)
    root = folders["images"].parent
    assert problem.startswith(
        f"{root}/maps/a/c.png: missing, the annotation of {root}/images/a/c.jpg; add it"
    )


def test_many_missing_files_are_one_problem_per_kind(folders):
    for name in "defgh":
        save(folders["images"] / f"{name}.jpg", np.zeros((2, 3, 3), np.uint8))
        save(folders["annotations"] / f"x/{name}.png", np.zeros((2, 3), np.uint8))
    dataset = read_image_png(SEMANTIC, **folders, image_suffix=".jpg")
    assert image_ids(dataset) == ["a/c", "b"]
    no_image, no_map = map(str, dataset.problems)
    root = folders["images"].parent
    assert no_image.startswith(
        f"{root}/images/x/d.jpg: missing, the image of {root}/maps/x/d.png; add it"
    )
    assert no_image.endswith("(missing for 4 others, too: x/e, x/f, x/g and 1 more)")
    assert no_map.startswith(
        f"{root}/maps/d.png: missing, the annotation of {root}/images/d.jpg; add it"
    )
    assert no_map.endswith("(missing for 4 others, too: e, f, g and 1 more)")


def test_images_of_several_kinds(folders):
    """By default every image is found; with endings given, those alone."""
    save(folders["images"] / "d.PNG", np.zeros((2, 3, 3), np.uint8))
    save(folders["images"] / "e.tif", np.zeros((2, 3, 3), np.uint8))
    for name in "de":
        save(folders["annotations"] / f"{name}.png", np.full((2, 3), 17, np.uint8))
    assert image_ids(read_image_png(SEMANTIC, **folders)) == ["a/c", "b", "d", "e"]
    some = read_image_png(SEMANTIC, **folders, image_suffix=[".jpg", ".png"], missing_images="skip")
    assert image_ids(some) == ["a/c", "b", "d"]


@pytest.mark.parametrize(("images", "annotations"), [("", ""), ("", "masks"), ("images", "")])
def test_masks_beside_images_are_no_images(tmp_path, images, annotations):
    """In one folder, and where one of the folders lies in the other."""
    ending = "_mask.png" if images == annotations else ".png"
    for name in ("a", "x/b"):
        save(tmp_path / images / f"{name}.png", np.zeros((2, 2, 3), np.uint8))
        save(tmp_path / annotations / f"{name}{ending}", np.full((2, 2), 17, np.uint8))
    dataset = read_image_png(
        SEMANTIC, tmp_path / images, tmp_path / annotations, annotation_suffix=ending
    )
    assert (image_ids(dataset), dataset.problems) == (["a", "x/b"], [])
    assert dataset[0].annotation.class_labels.tolist() == [0]


def test_unknown_ids_as_void_are_counted(folders):
    save(folders["annotations"] / "b.png", np.array([[18, 18, 17], [19, 17, 17]], np.uint8))
    sample = read_image_png(replace(SEMANTIC, unknown_ids="void"), **folders)[1]
    assert sample.annotation.segment_map.tolist() == [[-1, -1, 0], [-1, 0, 0]]
    (remark,) = sample.remarks
    assert remark.endswith(
        "taken as void: 2 category ids are not in the spec of dataset 'tiny': 18 (2 pixels), 19 (1 "
        "pixel)"
    )


def test_names_of_numbers(folders, tmp_path):
    """Roboflow's _classes.csv: ids by name, and names that contradict the spec."""
    table = tmp_path / "_classes.csv"
    table.write_text("Pixel Value, Class\n17, Cat\n193, grass\n194, grass\n255, nothing\n")
    named = replace(SEMANTIC, id_map={"cat": 0, "grass": 1}, void_ids=frozenset({"nothing"}))
    sample = read_image_png(named, **folders, label_file=table)[1]
    assert sample.annotation.segment_map.tolist() == [[1, 1, 0], [-1, 1, 1]]
    assert read_image_png(SEMANTIC, **folders, label_file=table).stated_names == {
        17: "Cat", 193: "grass", 194: "grass", 255: "nothing"
    }  # fmt: skip
    table.write_text("0, a\nb\n")
    with pytest.raises(
        ValueError, match=r"_classes\.csv, line 2: expected a number and a name, not 'b'"
    ):
        read_image_png(SEMANTIC, **folders, label_file=table)


def test_colors_where_the_ids_are_numbers(folders):
    save(folders["annotations"] / "b.png", np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(
        BadSampleError,
        match=r"maps/b\.png: holds colors, but the ids of dataset 'tiny' are numbers",
    ):
        read_image_png(SEMANTIC, **folders)[1]


def test_names_without_a_file_that_explains_them(folders):
    with pytest.raises(
        ValueError, match=r"'tiny': ids \['cat'\] are names; maps hold numbers or colors"
    ):
        read_image_png(replace(SEMANTIC, id_map={"cat": 0}, void_ids=frozenset()), **folders)


def test_annotation_without_image(folders):
    (folders["images"] / "b.jpg").unlink()
    dataset = read_image_png(SEMANTIC, **folders)
    assert image_ids(dataset) == ["a/c"]
    (problem,) = map(str, dataset.problems)
    root = folders["images"].parent
    assert problem.startswith(f"{root}/images/b.*: missing, the image of {root}/maps/b.png; add it")
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
    dataset = read_image_png(
        SEMANTIC, tmp_path, tmp_path, image_suffix="_left.png", annotation_suffix="_ids.png"
    )
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
    assert problem.startswith(f"{tmp_path}/images/d.*: missing, 'd' of {split}; add it")
    split.write_text("../b\n")
    with pytest.raises(
        ValueError, match=r"train\.txt: file name '\.\./b' must be a relative path without '\.\.'"
    ):
        read_image_png(SEMANTIC, **folders, split_file=split)
    with pytest.raises(FileNotFoundError, match=r"val\.txt: missing"):
        read_image_png(SEMANTIC, **folders, split_file=tmp_path / "val.txt")


def test_two_images_of_one_name(folders):
    save(folders["images"] / "b.png", np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"b\.jpg and .*b\.png: two files of one name; keep one .*`image_suffix`"
    ):
        read_image_png(SEMANTIC, **folders)
    assert image_ids(read_image_png(SEMANTIC, **folders, image_suffix=".jpg")) == ["a/c", "b"]
