import copy
import json
from functools import partial

import numpy as np
import pytest

from dataseg_hf.data.readers.coco_panoptic import read_coco_panoptic
from dataseg_hf.data.sample import BadSampleError
from helpers.annotation_files import SPEC, rgb_of, save, write_json

SEGMENT_IDS = np.array([[5, 5, 300], [0, 70000, 300]])
CONTENT = {
    "images": [{"id": 10, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
    "annotations": [
        {
            "image_id": 9,
            "file_name": "b.png",
            "segments_info": [
                {"id": 70000, "category_id": 255},
                {"id": 300, "category_id": 193, "iscrowd": 0},
                {"id": 5, "category_id": 17, "iscrowd": 1},
            ],
        },
        {
            "image_id": 10,
            "file_name": "a.png",
            "segments_info": [{"id": 1, "category_id": 17, "iscrowd": 0}],
        },
    ],
}


@pytest.fixture
def panoptic(tmp_path):
    """(content of the JSON, function that writes it and reads the dataset)."""
    save(tmp_path / "images/b.png", np.zeros((2, 3, 3), np.uint8))
    save(tmp_path / "images/a.png", np.full((2, 3), 9, np.uint8))  # gray
    save(tmp_path / "maps/b.png", rgb_of(SEGMENT_IDS))
    save(tmp_path / "maps/a.png", rgb_of(np.full((2, 3), 1)))
    content = copy.deepcopy(CONTENT)

    def read(**options):
        path = write_json(tmp_path / "panoptic.json", content)
        return read_coco_panoptic(
            SPEC,
            images=tmp_path / "images",
            annotations=tmp_path / "maps",
            annotation_file=path,
            **options,
        )

    return content, read


def image_ids(dataset) -> list:
    return [row["image_id"] for row in dataset.rows]


def only_problem(dataset) -> str:
    """The one problem of a dataset whose other image stays."""
    assert len(dataset) == 1
    (problem,) = map(str, dataset.problems)
    return problem


def test_by_hand(panoptic):
    _, read = panoptic
    dataset = read()
    assert (dataset.problems, dataset.notes) == ([], [])
    assert [dataset[i].image_id for i in range(len(dataset))] == [9, 10], "sorted by image id"
    sample = dataset[0]
    assert sample.file_name == "b.png"
    assert sample.annotation.class_labels.tolist() == [0, 1]
    assert sample.annotation.is_crowd.tolist() == [True, False]
    assert sample.annotation.segment_map.tolist() == [[0, 0, 1], [-1, -1, 1]]
    assert sample.annotation.segment_map.dtype == np.int32
    assert sample.annotation.class_labels.dtype == np.int64
    np.testing.assert_array_equal(dataset[1].image, np.full((2, 3, 3), 9))


def test_rows_hold_paths_and_no_pixels(panoptic, tmp_path):
    _, read = panoptic
    row = read().rows[0]
    assert row["image"] == str(tmp_path / "images/b.png")
    assert row["annotation"] == str(tmp_path / "maps/b.png")


def test_image_ids_may_be_words(panoptic):
    content, read = panoptic
    for entry, name in zip(
        content["images"] + content["annotations"][::-1], ["a", "b"] * 2, strict=True
    ):
        entry["id" if "id" in entry else "image_id"] = name
    assert image_ids(read()) == ["a", "b"]
    content["images"][0]["id"] = 3
    with pytest.raises(
        ValueError, match=r"panoptic\.json: image ids must be all numbers or all words"
    ):
        read()


def test_file_names_may_be_rewritten(panoptic):
    content, read = panoptic
    for entry in content["images"]:
        entry["file_name"] = "train/" + entry["file_name"]
    dataset = read(file_name_pattern=("^train/", ""))
    assert [row["file_name"] for row in dataset.rows] == ["train/b.png", "train/a.png"]
    assert dataset[0].image.shape == (2, 3, 3)


def test_missing_image(panoptic, tmp_path):
    _, read = panoptic
    (tmp_path / "images/a.png").unlink()
    problem = only_problem(read())
    assert problem.startswith(
        f"{tmp_path}/images/a.png: missing, image 10 of {tmp_path}/panoptic.json; add it"
    )
    assert "missing_images to 'skip'" in problem
    subset = read(missing_images="skip")
    assert (image_ids(subset), subset.problems) == ([9], [])
    assert subset.notes == [
        f"1 of 2 images listed in {tmp_path}/panoptic.json are not in {tmp_path}/images: left out"
    ]
    (tmp_path / "images/b.png").unlink()
    assert len(read().problems) == 2
    with pytest.raises(ValueError, match=r"dataset 'tiny': no images in .*images; check the path"):
        read(missing_images="skip")


def test_nothing_listed(panoptic):
    content, read = panoptic
    content["images"], content["annotations"] = [], []
    with pytest.raises(ValueError, match=r"dataset 'tiny': no images in .*images; check the path"):
        read()


def test_missing_png(panoptic, tmp_path):
    _, read = panoptic
    (tmp_path / "maps/a.png").unlink()
    problem = only_problem(read(missing_images="skip"))
    assert problem.startswith(
        f"{tmp_path}/maps/a.png: missing, the annotation of {tmp_path}/panoptic.json: image 10;"
    )


def test_ids_that_the_json_does_not_list(panoptic):
    content, read = panoptic
    del content["annotations"][0]["segments_info"][1]
    with pytest.raises(
        BadSampleError, match=r"b\.png: segment ids \[300\] are not in `segments_info`; list them"
    ):
        read()[0]


def test_segment_without_pixels(panoptic):
    content, read = panoptic
    content["annotations"][0]["segments_info"].append({"id": 6, "category_id": 17})
    dataset = read()
    sample = dataset[0]
    assert dataset.problems == []
    assert len(sample.annotation.class_labels) == 2
    (remark,) = sample.remarks
    assert remark.endswith("b.png: segment ids [6] are listed and have no pixel: left out")


@pytest.mark.parametrize("segment_id", [0, 5, -7])
def test_segment_ids_are_unique_numbers_and_not_void(panoptic, segment_id):
    content, read = panoptic
    content["annotations"][0]["segments_info"].append({"id": segment_id, "category_id": 17})
    assert (
        "panoptic.json: image 9: segment ids must be unique and above 0 (void), but"
        in only_problem(read())
    )


@pytest.mark.parametrize("segment_id", ["three", 1.5, None, True, [1]])
def test_segment_ids_that_are_no_whole_numbers(panoptic, segment_id):
    content, read = panoptic
    content["annotations"][0]["segments_info"].append({"id": segment_id, "category_id": 17})
    assert "panoptic.json: image 9, segment `id`: " in only_problem(read())


def test_unknown_category(panoptic):
    content, read = panoptic
    content["annotations"][1]["segments_info"][0]["category_id"] = 18
    problem = only_problem(read())
    assert (
        "panoptic.json: image 10: 1 category id is not in the spec of dataset 'tiny': 18 (1 "
        "segment); add" in problem
    )


def test_sizes_differ(panoptic, tmp_path):
    _, read = panoptic
    save(tmp_path / "images/a.png", np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(BadSampleError, match=r"images/a\.png is 4 x 5 .*maps/a\.png is 2 x 3"):
        read()[1]


def test_images_without_an_annotation_and_with_two(panoptic):
    content, read = panoptic
    last = content["annotations"].pop()
    problem = only_problem(read())
    assert (
        "panoptic.json: image 10: listed in `images`, but has no entry in `annotations`; add one"
        in problem
    )
    content["annotations"] += [last, last]
    assert "image 10: 2 entries in `annotations`; panoptic format has one" in only_problem(read())


def test_annotation_of_an_image_that_is_not_listed(panoptic):
    content, read = panoptic
    content["annotations"].append({**content["annotations"][0], "image_id": 77})
    dataset = read()
    assert image_ids(dataset) == [9, 10]
    (problem,) = map(str, dataset.problems)
    assert (
        "panoptic.json: image 77: has an annotation, but is not listed in `images`; list it"
        in problem
    )


def test_image_listed_twice(panoptic):
    content, read = panoptic
    content["images"].append(content["images"][0])
    dataset = read()
    assert image_ids(dataset) == [9, 10], "the first entry counts"
    (problem,) = map(str, dataset.problems)
    assert "panoptic.json: image 10: listed twice in `images`; remove one" in problem


@pytest.mark.parametrize("name", ["../b.png", "/etc/b.png", "..\\b.png", "C:\\b.png"])
@pytest.mark.parametrize(("part", "image_id"), [("images", 10), ("annotations", 9)])
def test_file_names_never_leave_their_root(panoptic, part, image_id, name):
    content, read = panoptic
    content[part][0]["file_name"] = name
    problem = only_problem(read(missing_images="skip"))
    assert f"panoptic.json: image {image_id}: file name {name!r} " in problem


# --- JSON that is not what it should be


@pytest.mark.parametrize(
    ("path", "key"),
    [([], "images"), ([], "annotations"), (["images", 0], "id"), (["annotations", 0], "image_id")],
)
def test_missing_keys_of_the_file(panoptic, path, key):
    content, read = panoptic
    record = content
    for step in path:
        record = record[step]
    del record[key]
    with pytest.raises(ValueError, match=rf"panoptic\.json.*key '{key}' is missing"):
        read()


@pytest.mark.parametrize(
    ("path", "key", "image_id"),
    [
        (["images", 0], "file_name", 10),
        (["annotations", 0], "file_name", 9),
        (["annotations", 0], "segments_info", 9),
        (["annotations", 0, "segments_info", 0], "id", 9),
        (["annotations", 0, "segments_info", 0], "category_id", 9),
    ],
)
def test_missing_keys_of_one_image(panoptic, path, key, image_id):
    content, read = panoptic
    record = content
    for step in path:
        record = record[step]
    del record[key]
    assert f"panoptic.json: image {image_id}: key '{key}' is missing" in only_problem(read())


@pytest.mark.parametrize("value", [None, 3, "text", {"id": 1}, [None], [3]])
def test_segments_that_are_no_list_of_records(panoptic, value):
    content, read = panoptic
    content["annotations"][0]["segments_info"] = value
    problem = only_problem(read())
    assert "panoptic.json: image 9: " in problem
    assert "`segments_info` must be a list" in problem or "key 'category_id' is missing" in problem


@pytest.mark.parametrize("value", [[], {"a": 1}, None, 1.5, True])
@pytest.mark.parametrize(("part", "key"), [("images", "id"), ("annotations", "image_id")])
def test_image_ids_that_are_none(panoptic, part, key, value):
    content, read = panoptic
    content[part][0][key] = value
    with pytest.raises(
        ValueError, match=rf"panoptic\.json: {part}: an image id is a number or a word, not"
    ):
        read()


@pytest.mark.parametrize("part", ["images", "annotations"])
@pytest.mark.parametrize("value", [None, 3, {"a": 1}, "text"])
def test_parts_that_are_no_lists(panoptic, part, value):
    content, read = panoptic
    content[part] = value
    with pytest.raises(
        ValueError, match=rf"panoptic\.json: key '{part}' is missing, or is no list"
    ):
        read()


WHOLE = json.dumps(CONTENT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"not valid JSON .*download it anew"),
        ("<html>404</html>", r"not valid JSON .*download it anew"),
        (WHOLE[: len(WHOLE) // 4], r"not valid JSON .*download it anew"),
        (WHOLE[:-1], r"not valid JSON .*download it anew"),
        (WHOLE + "}", r"not valid JSON .*download it anew"),
        (WHOLE.replace("10", "NaN"), r"not valid JSON .*NaN.*download it anew"),
        ("[]", r"expected a JSON object at the top"),
        (f"[{WHOLE}]", r"expected a JSON object at the top"),
        ("3", r"expected a JSON object at the top"),
    ],
)
def test_files_that_are_no_such_json(panoptic, tmp_path, text, message):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"broken\.json: {message}") as caught:
        read_coco_panoptic(SPEC, tmp_path / "images", tmp_path / "maps", path)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(panoptic, tmp_path):
    (tmp_path / "broken.json").write_bytes(b'{"images": ["\xff"]}')
    with pytest.raises(ValueError, match=r"broken\.json: not valid JSON"):
        read_coco_panoptic(SPEC, tmp_path / "images", tmp_path / "maps", tmp_path / "broken.json")


def test_missing_folders_and_file(panoptic, tmp_path):
    _, read = panoptic
    read()
    here = {
        "images": tmp_path / "images",
        "annotations": tmp_path / "maps",
        "annotation_file": tmp_path / "panoptic.json",
    }
    for key, message in (
        ("images", "nowhere: no such folder"),
        ("annotations", "nowhere: no such folder"),
        ("annotation_file", "nowhere: missing, the annotation file"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            partial(read_coco_panoptic, SPEC)(**{**here, key: tmp_path / "nowhere"})
