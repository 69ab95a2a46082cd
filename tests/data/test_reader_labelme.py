import base64
import json
import pickle
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataseg_hf.data.readers.labelme import read_labelme
from dataseg_hf.data.sample import BadSampleError, ClassInfo, DatasetSpec

INSTANCE = DatasetSpec(
    name="tiny",
    task="instance",
    classes=(ClassInfo("cat", True), ClassInfo("dog", True), ClassInfo("other", False)),
    id_map={"cat": 0, "dog": 1},
    void_ids=frozenset({"__ignore__"}),
)
BOXES, SEMANTIC = replace(INSTANCE, task="boxes"), replace(INSTANCE, task="semantic")
SIZE = (4, 6)


def polygon(label, *points, **more):
    return {
        "label": label,
        "points": [list(point) for point in points],
        "shape_type": "polygon",
        **more,
    }


def rectangle(label, left, top, right, bottom, **more):
    return {
        "label": label,
        "points": [[right, top], [left, bottom]],
        "shape_type": "rectangle",
        "group_id": None,
        **more,
    }


def mask_shape(label, left, top, pixels, **more):
    buffer = BytesIO()
    Image.fromarray(np.array(pixels, np.uint8)).save(buffer, "PNG")
    height, width = np.array(pixels).shape[:2]
    points = [[left, top], [left + width - 1, top + height - 1]]
    png = base64.b64encode(buffer.getvalue()).decode()
    return {"label": label, "points": points, "shape_type": "mask", "mask": png, **more}


SQUARE = rectangle("cat", 1, 1, 3, 3)
CIRCLE = {"label": "dog", "points": [[3, 2], [3, 4]], "shape_type": "circle"}
L_SHAPE = mask_shape("dog", 3, 2, [[1, 0], [1, 1]])


def drawing(*rows: str) -> list[list[bool]]:
    return [[character == "#" for character in row] for row in rows]


@pytest.fixture
def labelme(tmp_path):
    """Writes a/one.json (and a/one.png of 4 x 6 pixels, beside it) with those shapes, and reads the
    folder.
    """
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((*SIZE, 3), 200, np.uint8)).save(tmp_path / "a/one.png")

    def read(*shapes, spec=INSTANCE, changes=None, **options):
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": "one.png",
            "imageData": None,
            "imageHeight": 4,
            "imageWidth": 6,
        } | (changes or {})
        (tmp_path / "a/one.json").write_text(json.dumps(content))
        return read_labelme(spec, tmp_path, **options)

    return read


def test_instances_by_hand(labelme):
    data = labelme(
        SQUARE,
        rectangle("__ignore__", 0, 0, 6, 4),
        L_SHAPE,
        CIRCLE,
        polygon("dog", (0, 3), (2, 3), (2, 4), (0, 4)),
    )
    assert data.problems == []
    sample = data[0]
    assert (sample.image_id, sample.file_name) == ("a/one", "a/one.png")
    found = sample.annotation
    assert found.class_labels.tolist() == [0, 1, 1, 1], "the void shape is left out"
    assert found.boxes.tolist() == [[1, 1, 3, 3], [3, 2, 5, 4], [1, 0, 5, 4], [0, 3, 2, 4]]
    assert (found.class_labels.dtype, found.boxes.dtype, found.masks.dtype) == (
        np.int64,
        np.float32,
        bool,
    )
    assert found.is_crowd.tolist() == [False] * 4
    assert found.masks.tolist() == [
        drawing("......", ".##...", ".##...", "......"),
        drawing("......", "......", "...#..", "...##."),
        drawing("..##..", ".####.", ".####.", "..##.."),
        drawing("......", "......", "......", "##...."),
    ]
    boxes = labelme(SQUARE, L_SHAPE, spec=BOXES)[0].annotation
    assert (boxes.boxes.tolist(), boxes.masks) == ([[1, 1, 3, 3], [3, 2, 5, 4]], None)


def test_groups_join_shapes_of_one_label(labelme):
    found = labelme(
        rectangle("cat", 0, 0, 1, 1, group_id=1),
        rectangle("dog", 2, 2, 3, 3, group_id=1),
        rectangle("cat", 2, 0, 3, 1),
        rectangle("cat", 4, 2, 6, 4, group_id=1.0),
        rectangle("cat", 5, 0, 6, 1),
    )[0].annotation
    assert found.class_labels.tolist() == [0, 1, 0, 0]
    assert found.boxes.tolist() == [[0, 0, 6, 4], [2, 2, 3, 3], [2, 0, 3, 1], [5, 0, 6, 1]]
    assert found.masks[0].tolist() == drawing("#.....", "......", "....##", "....##")


def test_semantic_by_hand(labelme):
    shapes = [
        SQUARE,
        rectangle("dog", 2, 2, 6, 4),
        rectangle("cat", 5, 3, 6, 4),
        rectangle("__ignore__", 2, 2, 3, 3),
    ]
    found = labelme(*shapes, spec=SEMANTIC)[0].annotation
    assert found.class_labels.tolist() == [0, 1]
    assert found.class_labels.dtype == np.int64
    assert found.segment_map.dtype == np.int32
    cat, dog, __ = 0, 1, -1
    assert found.segment_map.tolist() == [
        [__, __, __, __, __, __],
        [__, cat, cat, __, __, __],
        [__, cat, __, dog, dog, dog],
        [__, __, dog, dog, dog, cat],
    ], "later shapes lie on top, void ones too"
    with_background = replace(SEMANTIC, id_map={"cat": 0, "dog": 1, "_background_": 2})
    found = labelme(L_SHAPE, spec=with_background)[0].annotation
    assert found.class_labels.tolist() == [1, 2], "the cat does not occur"
    assert (found.segment_map == 0).tolist() == drawing("......", "......", "...#..", "...##.")
    assert (found.segment_map >= 0).all()
    nothing = labelme(spec=SEMANTIC)[0].annotation
    assert (nothing.class_labels.shape, (nothing.segment_map == -1).all()) == ((0,), True)
    covered = labelme(rectangle("dog", 0, 0, 6, 4), rectangle("cat", 0, 0, 6, 4), spec=SEMANTIC)[
        0
    ].annotation
    assert (covered.class_labels.tolist(), (covered.segment_map == 0).all()) == ([0], True)


def test_no_objects(labelme):
    found = labelme()[0].annotation
    assert (found.class_labels.shape, found.boxes.shape, found.masks.shape) == (
        (0,),
        (0, 4),
        (0, 4, 6),
    )


def test_points_and_lines_are_left_out_with_a_note(labelme, tmp_path):
    lines = [
        {"label": "whatever", "points": [[1, 1], [2, 2]], "shape_type": kind}
        for kind in ("line", "linestrip", "point", "points")
    ]
    data = labelme(*lines, SQUARE)
    assert data.notes == [f"4 shapes in {tmp_path} are points or lines, without area: left out"]
    assert data[0].annotation.class_labels.tolist() == [0]


def test_shapes_without_type_are_polygons(labelme):
    old = {"label": "cat", "points": [[0, 0], [2, 0], [2, 2], [0, 2]]}
    assert labelme(old)[0].annotation.masks.sum() == 4


def test_shapes_that_leave_the_image_are_clipped(labelme):
    shapes = [rectangle("cat", -1, -1, 2, 2), {**CIRCLE, "points": [[0, 0], [2, 0]]}]
    found = labelme(*shapes)[0].annotation
    assert found.boxes.tolist() == [[0, 0, 2, 2], [0, 0, 2, 2]]
    assert found.masks[1].tolist() == drawing("##....", "#.....", "......", "......"), (
        "(1.5, 1.5) is 2.1 away"
    )


@pytest.mark.parametrize("spec", [INSTANCE, BOXES, SEMANTIC])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (rectangle("cow", 0, 0, 1, 1), "category id is not in the spec of dataset 'tiny': 'cow'"),
        (polygon("cat", (0, 0), (2, 2)), "a polygon of 2 points"),
        (polygon("cat", (0, 0), (2, 0), (4, 0)), "has no area"),
        (polygon("cat", (0, 0), (2, float("nan")), (4, 0)), "`points` must be finite numbers"),
        (polygon("cat", (0, 0), (2, float("inf")), (4, 0)), "`points` must be finite numbers"),
        (polygon("cat", (0, 0), (2, "2"), (4, 0)), "`points` must be finite numbers"),
        (polygon("cat", (0, 0), (2, 2, 2), (4, 0)), "`points` must be a list of pairs"),
        (polygon("cat", (7, 0), (9, 2), (9, 0)), "outside the image of 4 x 6"),
        (polygon("cat", (0, 0), (900, 2), (9, 0)), "far outside the image"),
        (rectangle("cat", 1, 1, 1, 3), "has no area"),
        (rectangle("cat", -3, -3, 0, 0), "outside the image"),
        ({**SQUARE, "points": [[1, 1]]}, "a rectangle has 2 points, not 1"),
        ({**CIRCLE, "points": [[1, 1], [2, 2], [3, 3]]}, "a circle has 2 points, not 3"),
        ({**CIRCLE, "points": [[1, 1], [1, 1]]}, "has no area"),
        (
            {**SQUARE, "shape_type": "cuboid"},
            "points of shape_type 'cuboid' are not supported; draw a polygon",
        ),
        ({**SQUARE, "points": None}, "`points` must be a list of pairs"),
        ({**SQUARE, "group_id": [1]}, "group_id must be a number"),
        ({"label": "cat", "shape_type": "rectangle"}, "key 'points' is missing"),
        ({**SQUARE, "label": 3}, "the label must be a word"),
        ({"points": []}, "key 'label' is missing"),
        ("cat", "key 'label' is missing"),
        ({**SQUARE, "shape_type": "mask"}, "key 'mask' is missing"),
        ({**L_SHAPE, "mask": None}, "`mask` must be a PNG in base64"),
        (mask_shape("cat", 5, 2, [[1, 1], [1, 1]]), "does not lie in the image"),
        (mask_shape("cat", -1, 2, [[1, 1], [1, 1]]), "does not lie in the image"),
    ],
)
def test_bad_shapes_are_problems_of_their_image(labelme, tmp_path, spec, shape, message):
    data = labelme(SQUARE, shape, spec=spec)
    assert len(data) == 0
    (problem,) = map(str, data.problems)
    assert problem.startswith(f"{tmp_path / 'a/one.json'}: ")
    with pytest.raises(BadSampleError, match=message):
        raise BadSampleError(problem)


@pytest.mark.parametrize("spec", [INSTANCE, BOXES, SEMANTIC])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({**L_SHAPE, "mask": "no base64!"}, "cannot be read as base64"),
        ({**L_SHAPE, "mask": "ü"}, "cannot be read as base64"),
        ({**L_SHAPE, "mask": "aGVsbG8="}, "cannot be read as an image"),
        ({**L_SHAPE, "points": [[0, 0], [2, 1]]}, "2 x 2 pixels .* its place spans 2 x 3"),
        (mask_shape("cat", 0, 0, np.ones((2, 2, 3))), "expected a gray PNG, not RGB"),
        (mask_shape("cat", 0, 0, [[0, 0]]), "has no pixel"),
    ],
)
def test_bad_embedded_masks(labelme, spec, shape, message):
    with pytest.raises(BadSampleError, match=rf"a/one\.json: shape 1 \('\w+'\): mask: .*{message}"):
        labelme(shape, spec=spec)[0]


def test_masks_of_one_pixel_and_of_white_ones(labelme):
    assert labelme(mask_shape("cat", 5, 3, [[255]]))[0].annotation.boxes.tolist() == [[5, 3, 6, 4]]


def test_broken_files(labelme, tmp_path):
    labelme()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "good.png")
    good = {"shapes": [SQUARE], "imagePath": "good.png", "imageHeight": 4, "imageWidth": 6}
    (tmp_path / "good.json").write_text(json.dumps(good))
    for content, message in [
        (b'{\n "shapes": [\n}', r"one\.json: not valid JSON: .*line 3 column 1"),
        (b"\xff\xfe\xff", r"one\.json: not valid JSON"),
        (b"", r"one\.json: not valid JSON"),
        (b"[" * 100_000, r"one\.json: not valid JSON"),
        (b"[1]", r"one\.json: key 'imagePath' is missing"),
        (json.dumps({**good, "imagePath": None}).encode(), "imagePath must be a file name"),
        (
            json.dumps({**good, "imagePath": "one.png", "shapes": 3}).encode(),
            "`shapes` must be a list",
        ),
        (
            json.dumps({"imagePath": "one.png", "imageHeight": 4, "imageWidth": 6}).encode(),
            "key 'shapes' is missing",
        ),
        (
            json.dumps({**good, "imagePath": "one.png", "imageWidth": "wide"}).encode(),
            "imageWidth: 'wide' is no",
        ),
        (
            json.dumps({**good, "imagePath": "one.png", "imageHeight": 0}).encode(),
            "imageHeight: 0 pixels are no size",
        ),
    ]:
        (tmp_path / "a/one.json").write_bytes(content)
        data = read_labelme(INSTANCE, tmp_path)
        assert [row["image_id"] for row in data.rows] == ["good"], "the others go on"
        with pytest.raises(BadSampleError, match=message):
            raise BadSampleError(str(data.problems[0]))


@pytest.mark.parametrize(
    "name",
    [
        "../../x.png",
        "/etc/x.png",
        "..\\..\\x.png",
        "C:\\x.png",
        "b/../../../x.png",
        "\\x.png",
        "C:/x.png",
    ],
)
@pytest.mark.parametrize("missing_images", ["error", "skip"])
def test_image_paths_never_leave_their_root(labelme, tmp_path, name, missing_images):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path.parent / "x.png")
    (problem,) = map(
        str, labelme(changes={"imagePath": name}, missing_images=missing_images).problems
    )
    assert f"a/one.json: imagePath {name!r} leaves {tmp_path}: file name" in problem


def test_images_in_a_folder_beside(labelme, tmp_path):
    (tmp_path / "photos/a").mkdir(parents=True)
    (tmp_path / "a/one.png").rename(tmp_path / "photos/a/one.png")
    assert (
        labelme(SQUARE, changes={"imagePath": "..\\photos\\a\\one.png"})[0].file_name
        == "photos/a/one.png"
    )
    data = read_labelme(INSTANCE, tmp_path, images=tmp_path / "photos")
    assert [row["file_name"] for row in data.rows] == ["a/one.png"], (
        "counted from the folder of the JSON"
    )
    data = read_labelme(INSTANCE, tmp_path / "a", images=tmp_path / "photos")
    assert [row["file_name"] for row in data.rows] == ["a/one.png"], (
        "also where images lie beside the JSON files"
    )
    assert labelme(SQUARE, images=tmp_path / "photos")[0].file_name == "a/one.png"


def test_missing_images_and_annotations(labelme, tmp_path):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "a/two.JPG", "JPEG")
    data = labelme(SQUARE)
    assert data.notes == ["1 images are named by no readable JSON, such as a/two.JPG: left out"]
    (tmp_path / "a/one.png").unlink()
    (problem,) = map(str, labelme(SQUARE).problems)
    assert "a/one.png: missing, the image of" in problem
    assert "missing_images to 'skip'" in problem
    data = labelme(SQUARE, missing_images="skip")
    assert (len(data), data.problems) == (0, [])
    assert data.notes[0] == f"1 of 1 annotations have no image in {tmp_path}: left out"


def test_two_files_for_one_image(labelme, tmp_path):
    labelme(SQUARE)
    (tmp_path / "a/two.json").write_text((tmp_path / "a/one.json").read_text())
    data = labelme(SQUARE)
    assert [row["image_id"] for row in data.rows] == ["a/one"]
    assert str(data.problems[0]).startswith(
        f"{tmp_path / 'a/two.json'}: {tmp_path / 'a/one.json'} names a/one.png, too"
    )


def test_sizes_differ(labelme):
    data = labelme(SQUARE, changes={"imageWidth": 7})
    with pytest.raises(BadSampleError, match=r"one\.png is 4 x 6 .*one\.json is 4 x 7"):
        data[0]


def test_damaged_image(labelme, tmp_path):
    (tmp_path / "a/one.png").write_bytes(b"no image")
    with pytest.raises(BadSampleError, match=r"one\.png: cannot be read as an image"):
        labelme(SQUARE)[0]


def test_whole_dataset_faults(labelme, tmp_path):
    with pytest.raises(
        ValueError,
        match="'labelme' serves the task semantic or instance or boxes or objects, not 'panoptic'",
    ):
        labelme(spec=replace(INSTANCE, task="panoptic"))
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_labelme(INSTANCE, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        labelme(images=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"dataset 'tiny': no JSON files in .*empty"):
        read_labelme(INSTANCE, tmp_path / "empty")


def test_travels_to_worker_processes(labelme):
    data = labelme(SQUARE, L_SHAPE)
    assert (pickle.loads(pickle.dumps(data))[0].annotation.masks == data[0].annotation.masks).all()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["cat", "dog", "__ignore__"]),
            st.sampled_from(["rectangle", "polygon", "mask"]),
            st.sampled_from([None, 1, 2]),
            st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 6), st.integers(1, 4)),
        ),
        max_size=6,
    )
)
def test_nothing_is_invented_lost_or_renamed(tmp_path_factory, drawn):
    """Whole-pixel rectangles, whichever way they are drawn and joined, against painting them in
    numpy.
    """
    root = tmp_path_factory.mktemp("labelme")
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(root / "x.png")
    shapes = []
    objects: dict[object, tuple[str, np.ndarray]] = {}
    painted = np.full(SIZE, "__ignore__", dtype=object)
    for number, (label, kind, group, (left, top, width, height)) in enumerate(drawn):
        right, bottom = min(left + width, 6), min(top + height, 4)
        filled = np.zeros(SIZE, bool)
        filled[top:bottom, left:right] = True
        painted[filled] = label
        if label != "__ignore__":
            key = (label, group) if group is not None else number
            objects[key] = (label, objects[key][1] | filled if key in objects else filled)
        if kind == "rectangle":
            shapes.append(rectangle(label, left, top, right, bottom) | {"group_id": group})
        elif kind == "polygon":
            corners = (left, top), (right, top), (right, bottom), (left, bottom)
            shapes.append(polygon(label, *corners, group_id=group))
        else:
            shapes.append(
                mask_shape(label, left, top, np.ones((bottom - top, right - left)), group_id=group)
            )
    content = {"shapes": shapes, "imagePath": "x.png", "imageHeight": 4, "imageWidth": 6}
    (root / "x.json").write_text(json.dumps(content))

    found = read_labelme(INSTANCE, root)[0].annotation
    assert [INSTANCE.labels[i] for i in found.class_labels] == [
        label for label, _ in objects.values()
    ]
    for mask, box, (_, filled) in zip(found.masks, found.boxes, objects.values(), strict=True):
        np.testing.assert_array_equal(mask, filled)
        rows, columns = np.nonzero(filled)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    boxes = read_labelme(BOXES, root)[0].annotation
    np.testing.assert_array_equal(boxes.boxes, found.boxes)

    segments = read_labelme(SEMANTIC, root)[0].annotation
    names = np.array(
        [SEMANTIC.labels[i] for i in segments.class_labels] + ["__ignore__"], dtype=object
    )
    np.testing.assert_array_equal(names[segments.segment_map], painted)
    assert len(np.unique(segments.segment_map[segments.segment_map >= 0])) == len(
        segments.class_labels
    )
