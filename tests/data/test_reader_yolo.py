import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataseg_hf.data.catalog import COCO_BOXES
from dataseg_hf.data.readers.yolo import read_yolo
from dataseg_hf.data.sample import BadSampleError, ClassInfo, DatasetSpec

BOXES = DatasetSpec(
    name="tiny",
    task="boxes",
    classes=(ClassInfo("cat", True), ClassInfo("dog", True)),
    id_map={0: 0, 7: 1},
    void_ids=frozenset({9}),
)
MASKS = replace(BOXES, task="instance")
# the image is 8 x 10 pixels (height x width)
BOX = "7 0.3 0.5 0.2 0.25"  # x 2..4, y 3..5
SQUARE = "0 0.1 0.125 0.3 0.125 0.3 0.375 0.1 0.375"  # x 1..3, y 1..3


@pytest.fixture
def yolo(tmp_path):
    """Two folders with the images a/one.jpg and two.png of 8 x 10 pixels; the function writes txt
    and reads them.
    """
    for name in ("images/a/one.jpg", "images/two.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 10, 3), 200, np.uint8)).save(tmp_path / name)
    (tmp_path / "txt/a").mkdir(parents=True)

    def read(one=BOX, spec=BOXES, **options):
        if one is not None:
            (tmp_path / "txt/a/one.txt").write_text(one)
        return read_yolo(spec, tmp_path / "images", tmp_path / "txt", **options)

    return read


def test_boxes_by_hand(yolo):
    data = yolo(
        f"\ufeff{BOX}\r\n\n  0.0\t0.5 0.5 1 1  \n9 0.5 0.5 0.1 0.1\n{SQUARE}\n0 0 0 0.4 0.5"
    )
    assert data.problems == []
    assert [data[i].image_id for i in range(2)] == ["a/one", "two"]
    assert [data[i].file_name for i in range(2)] == ["a/one.jpg", "two.png"]
    found = data[0].annotation
    assert found.class_labels.tolist() == [1, 0, 0, 0], "the void object is left out"
    assert found.class_labels.dtype == np.int64
    np.testing.assert_allclose(
        found.boxes, [[2, 3, 4, 5], [0, 0, 10, 8], [1, 1, 3, 3], [0, 0, 2, 2]], atol=1e-5
    )
    assert found.boxes.dtype == np.float32
    assert found.is_crowd.tolist() == [False] * 4
    assert found.masks is None


def test_masks_by_hand(yolo):
    overlapping = "7 0.2 0.25 0.5 0.25 0.5 0.5 0.2 0.5"  # x 2..5, y 2..4
    found = yolo(f"{SQUARE}\n{overlapping}\n", MASKS)[0].annotation
    expected = np.zeros((2, 8, 10), bool)
    expected[0, 1:3, 1:3] = True
    expected[1, 2:4, 2:5] = True
    assert found.masks.dtype == bool
    np.testing.assert_array_equal(found.masks, expected)
    assert found.masks.all(axis=0).sum() == 1, "overlapping objects stay overlapping"
    np.testing.assert_allclose(found.boxes, [[1, 1, 3, 3], [2, 2, 5, 4]], atol=1e-5)
    assert found.class_labels.tolist() == [0, 1]


@pytest.mark.parametrize(("spec", "line"), [(BOXES, BOX), (MASKS, SQUARE)])
def test_images_without_objects(yolo, tmp_path, spec, line):
    Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(tmp_path / "images/three.png")
    (tmp_path / "txt/three.txt").write_text("\n \n")
    data = yolo(line, spec)
    assert data.problems == []
    assert data.notes == ["2 of 3 images have no txt or no line in it: images without objects"]
    for i in (1, 2):
        found = data[i].annotation
        assert found.class_labels.shape == (0,)
        assert found.boxes.shape == (0, 4)
        assert found.masks is None if spec is BOXES else found.masks.shape == (0, 8, 10)


@pytest.mark.parametrize(
    ("spec", "line", "message"),
    [
        (BOXES, "3 0.3 0.5 0.2 0.25", "1 category id is not in the spec of dataset 'tiny': 3 "),
        (BOXES, "cat 0.3 0.5 0.2 0.25", "expected numbers.*'cat'"),
        (BOXES, "0,0.3,0.5,0.2,0.25", "expected numbers"),
        (BOXES, "0.5 0.3 0.5 0.2 0.25", r"the class must be a whole number, not 0\.5"),
        (BOXES, "nan 0.3 0.5 0.2 0.25", "the class must be a whole number"),
        (BOXES, "inf 0.3 0.5 0.2 0.25", "the class must be a whole number"),
        (BOXES, "7", "not 1 numbers"),
        (BOXES, "7 0.3 0.5 0.2", "not 4 numbers"),
        (BOXES, f"{BOX} 0.98", r"not 6 numbers.*a confidence"),
        (MASKS, f"{SQUARE} 0.5", "not 10 numbers"),
        (BOXES, "7 nan 0.5 0.2 0.25", r"nan is not in 0\.\.1"),
        (BOXES, "7 0.3 inf 0.2 0.25", r"inf is not in 0\.\.1"),
        (BOXES, "7 3 5 2 2", r"3 is not in 0\.\.1; coordinates are pixels divided by"),
        (BOXES, "7 0.3 0.5 -0.2 0.25", r"-0\.2 is not in 0\.\.1"),
        (BOXES, "7 0.3 0.5 -0.002 0.25", "has no area"),
        (BOXES, "7 0.3 0.5 0 0.25", "has no area"),
        (MASKS, SQUARE.replace("0.375", "1.5"), r"1\.5 is not in 0\.\.1"),
        (
            MASKS,
            "0 0.1 0.2 0.3 0.2 0.5 0.2",
            "all points lie on one line, the object has no area; remove the line",
        ),
        (MASKS, BOX, r"a box \(or a polygon of 2 points\).* set the task to 'boxes'"),
    ],
)
def test_bad_lines_are_problems_of_their_image(yolo, tmp_path, spec, line, message):
    data = yolo(f"{SQUARE}\n\n{line}\n", spec)
    assert [row["image_id"] for row in data.rows] == ["two"], "the others go on"
    (problem,) = map(str, data.problems)
    assert problem.startswith(str(tmp_path / "txt/a/one.txt"))
    assert ", line 3: " in problem or "category id" in problem
    with pytest.raises(BadSampleError, match=message):
        raise BadSampleError(problem)


def test_a_txt_that_is_no_text(yolo, tmp_path):
    (tmp_path / "txt/a/one.txt").write_bytes(b"\x89PNG\r\n\xff")
    assert "one.txt: not a text in UTF-8" in str(yolo(None).problems[0])


def test_slightly_outside_is_clipped_and_wholly_outside_refused(yolo):
    found = yolo("0 -0.005 0.1 0.2 0.2 0.2 1.005", MASKS)[0].annotation
    np.testing.assert_allclose(found.boxes, [[0, 0.8, 2, 8]], atol=1e-5)
    far = yolo("7 0.95 0.5 1.0 0.25")
    with pytest.raises(
        BadSampleError, match=r"line 1: .* reaches 4.5 pixels beyond .*`outside: clip`"
    ):
        far[0]
    clipped = yolo("7 0.95 0.5 1.0 0.25", replace(BOXES, outside="clip"))[0].annotation
    np.testing.assert_allclose(clipped.boxes, [[4.5, 3, 10, 5]], atol=1e-5)
    data = yolo(f"{BOX}\n7 -0.005 0.5 0.002 0.25")
    with pytest.raises(BadSampleError, match=r"one\.txt, line 2: .*outside the image of 8 x 10"):
        data[0]


def test_damaged_image(yolo, tmp_path):
    (tmp_path / "images/a/one.jpg").write_bytes(b"no image")
    with pytest.raises(BadSampleError, match=r"one\.jpg: cannot be read as an image"):
        yolo()[0]


def test_annotation_of_a_missing_image(yolo, tmp_path):
    (tmp_path / "txt/three.txt").write_text(BOX)
    (problem,) = map(str, yolo().problems)
    assert "three.*: missing, the image of" in problem
    assert "missing_images to 'skip'" in problem
    data = yolo(missing_images="skip")
    assert data.problems == []
    assert data.notes[0] == f"1 of 2 annotations have no image in {tmp_path / 'images'}: left out"


def test_class_lists_are_no_annotation(yolo, tmp_path):
    (tmp_path / "txt/classes.txt").write_text("cat\ndog\n")
    assert yolo().problems == []
    Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(tmp_path / "images/classes.png")
    assert "classes.txt, line 1: expected numbers" in str(yolo().problems[0]), (
        "unless an image has that name"
    )


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("txt/classes.txt", "cat\ndog\n"),
        ("data.yaml", "names: [cat, dog]\nnc: 2\n"),
        ("data.yaml", "names:\n  0: cat\n  1: dog\n"),
        ("obj.names", "cat\r\ndog\r\n"),
        ("Data.YAML", "names: [cat, dog]\n"),
        ("animals.yaml", "path: .\ntrain: images\nnames: {0: cat, 1: dog}\n"),
        ("animals.names", "cat\ndog\n"),
    ],
)
def test_names_beside_the_files_are_stated(yolo, tmp_path, file, text):
    (tmp_path / file).write_text(text)
    data = yolo()
    assert data.stated_names == {0: "cat", 1: "dog"}


def test_the_nearest_names_count_and_others_are_compared(yolo, tmp_path):
    (tmp_path / "txt/classes.txt").write_text("cat\ndog\n")
    (tmp_path / "data.yaml").write_text("names: [dog, cat]\n")
    data = yolo()
    assert data.stated_names == {0: "cat", 1: "dog"}
    assert any(
        "classes.txt calls class 0 'cat', but" in note and "data.yaml 'dog'" in note
        for note in data.notes
    )
    (tmp_path / "data.yaml").write_text("names: [dog\n")
    with pytest.raises(ValueError, match=r"data\.yaml: no valid YAML"):
        yolo()


def test_two_files_of_any_name_in_one_folder_state_nothing(yolo, tmp_path):
    """They belong to several datasets, and nothing tells which one this is."""
    (tmp_path / "animals.yaml").write_text("names: [cat, dog]\n")
    (tmp_path / "cars.yaml").write_text("names: [car, bus]\n")
    (tmp_path / "other.yaml").write_text("seed: [0\n")
    assert yolo().stated_names == {}


def test_repeats(yolo, tmp_path):
    data = yolo(f"{BOX}\n{SQUARE}\n{BOX}\n")
    assert data[0].annotation.class_labels.tolist() == [1, 0]
    assert data.notes[1] == f"1 lines in {tmp_path / 'txt'} repeat another of their image: left out"
    Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(tmp_path / "images/two.bmp")
    with pytest.raises(ValueError, match=r"two\.bmp and .*two\.png: two files of one name"):
        yolo()
    assert len(yolo(image_suffixes=(".jpg", ".bmp"))) == 2


def test_whole_dataset_faults(yolo, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_yolo(BOXES, tmp_path / "nowhere", tmp_path / "txt")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_yolo(BOXES, tmp_path / "images", tmp_path / "nowhere")
    with pytest.raises(
        ValueError,
        match="'tiny': reader 'yolo' serves the task instance or boxes or objects, not 'panoptic'",
    ):
        yolo(spec=replace(BOXES, task="panoptic"))
    with pytest.raises(ValueError, match=r"'tiny': no images in .*txt"):
        read_yolo(BOXES, tmp_path / "txt", tmp_path / "txt")
    with pytest.raises(
        ValueError, match=r"no txt in .*a belongs to an image .*'a/one\.txt'; check both paths"
    ):
        read_yolo(BOXES, tmp_path / "images", tmp_path / "txt/a")


def test_travels_to_worker_processes(yolo):
    data = yolo(SQUARE, MASKS)
    assert (pickle.loads(pickle.dumps(data))[0].annotation.masks == data[0].annotation.masks).all()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 7, 9]),
            st.integers(0, 9),
            st.integers(0, 7),
            st.integers(1, 9),
            st.integers(1, 7),
        ),
        unique=True,
        max_size=6,
    )
)
def test_nothing_is_invented_lost_or_renamed(tmp_path_factory, rectangles):
    """Whole-pixel rectangles, written as boxes and as polygons, come back with their class and
    their pixels.
    """
    root = tmp_path_factory.mktemp("yolo")
    Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(root / "x.jpg")
    corners = list(
        dict.fromkeys((c, x, y, min(x + w, 10), min(y + h, 8)) for c, x, y, w, h in rectangles)
    )
    kept = [BOXES.labels[BOXES.id_map[c]] for c, *_ in corners if c != 9]
    expected = [box for c, *box in corners if c != 9]

    def read(spec, lines):
        (root / "x.txt").write_text("\n".join(" ".join(map(str, line)) for line in lines))
        found = read_yolo(spec, root, root)[0].annotation
        assert [spec.labels[i] for i in found.class_labels] == kept
        np.testing.assert_allclose(found.boxes, np.array(expected).reshape(-1, 4), atol=1e-5)
        return found.masks

    read(
        BOXES,
        [
            (c, (x0 + x1) / 20, (y0 + y1) / 16, (x1 - x0) / 10, (y1 - y0) / 8)
            for c, x0, y0, x1, y1 in corners
        ],
    )
    outlines = [
        np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) / (10, 8)
        for _, x0, y0, x1, y1 in corners
    ]
    masks = read(
        MASKS, [(c, *points.ravel()) for (c, *_), points in zip(corners, outlines, strict=True)]
    )
    for mask, (left, top, right, bottom) in zip(masks, expected, strict=True):
        filled = np.zeros((8, 10), bool)
        filled[top:bottom, left:right] = True
        np.testing.assert_array_equal(mask, filled)


# --- real data


@pytest.fixture(scope="module")
def coco() -> Path:
    if "DATASEG_DATA" not in os.environ:
        pytest.skip("DATASEG_DATA is not set")
    return Path(os.environ["DATASEG_DATA"]) / "coco128"


def yolo_spec() -> DatasetSpec:
    """YOLO's COCO numbers: 0..79, the 80 categories in the order of COCO's ids."""
    return replace(
        COCO_BOXES, id_map={number: number for number in range(80)}, void_ids=frozenset()
    )


def test_coco_boxes_agree_with_the_instances_json(coco):
    """Each txt holds the JSON's objects that are no crowd, to the rounding of the txt's six
    digits.
    """
    raw = json.loads((coco / "instances_train2017_first128.json").read_text())
    listed: dict[str, list] = {}
    for annotation in raw["annotations"]:
        if not annotation["iscrowd"]:
            listed.setdefault(f"{annotation['image_id']:012}", []).append(annotation)
    data = read_yolo(yolo_spec(), coco / "images/train2017", coco / "yolo_boxes/train2017")
    assert (len(data), data.problems) == (100, [])
    assert sum(len(data[i].annotation.boxes) for i in range(100)) == sum(
        len(listed.get(row["image_id"], [])) for row in data.rows
    )
    for i in range(100):
        sample = data[i]
        height, width = sample.image.shape[:2]
        objects = listed.get(sample.image_id, [])
        classes = [COCO_BOXES.id_map[annotation["category_id"]] for annotation in objects]
        boxes = np.array([annotation["bbox"] for annotation in objects]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        assert sample.annotation.class_labels.tolist() == classes
        # an edge is a center and half a side, each off by at most half of the last digit
        rounding = 0.75e-6 * np.array([width, height, width, height]) + 1e-4  # and float32 near 640
        assert (np.abs(sample.annotation.boxes - boxes) <= rounding).all(), sample.image_id


def test_every_coco_val_image_is_read(coco):
    data = read_yolo(yolo_spec(), coco / "images/val2017", coco / "yolo_boxes/val2017")
    assert (len(data), data.problems) == (52, [])
    lines = sum(
        len(path.read_text().splitlines()) for path in (coco / "yolo_boxes/val2017").glob("*.txt")
    )
    assert sum(len(data[i].annotation.boxes) for i in range(52)) == lines
