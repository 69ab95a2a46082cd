import base64
import json
import pickle
import zlib
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dataseg_hf.data.readers.lattice_polygons import fill_lattice_polygon
from dataseg_hf.data.readers.supervisely import read_supervisely
from dataseg_hf.data.sample import BadSampleError, ClassInfo, DatasetSpec
from helpers.annotation_files import save, write_json
from helpers.drawings import drawn, lay_sample, sample_masks

INSTANCE = DatasetSpec(
    name="tiny",
    task="instance",
    classes=(ClassInfo("cat", True), ClassInfo("dog", True), ClassInfo("sky", False)),
    id_map={"cat": 0, "dog": 1, "sky": 2},
    void_ids=frozenset({"ignore"}),
)
BOXES, SEMANTIC = replace(INSTANCE, task="boxes"), replace(INSTANCE, task="semantic")
META = {
    "classes": [
        {"id": 10 + i, "title": c.name, "shape": "any"} for i, c in enumerate(INSTANCE.classes)
    ]
}


def figure(geometry, title, exterior, *interior, **more):
    points = {"exterior": exterior, "interior": list(interior)}
    return {"classTitle": title, "geometryType": geometry, "points": points, "tags": [], **more}


def bitmap(title, left, top, pixels, *, compressed=True, mode="palette", **more):
    picture = Image.fromarray(np.array(pixels, np.uint8))
    options = {}
    if mode == "palette":  # as the SDK writes it
        picture = Image.fromarray(np.array(pixels, np.uint8)).convert("L")
        picture.putpalette([0, 0, 0, 255, 255, 255])
        options = {"transparency": 0}
    elif mode == "alpha":
        picture = Image.merge(
            "LA",
            [Image.new("L", picture.size, 255), picture.point(lambda value: 255 * bool(value))],
        )
    elif mode == "bits":
        picture = picture.point(lambda value: 255 * bool(value)).convert("1")
    buffer = BytesIO()
    picture.save(buffer, "PNG", **options)
    content = zlib.compress(buffer.getvalue()) if compressed else buffer.getvalue()
    stored = {"data": base64.b64encode(content).decode(), "origin": [left, top]}
    return {"classTitle": title, "geometryType": "bitmap", "bitmap": stored, **more}


CORNER = bitmap("dog", 3, 2, [[1, 0], [1, 1]])
SQUARE = figure("rectangle", "cat", [[1, 1], [2, 2]])


@pytest.fixture
def project(tmp_path):
    """Writes dataset `day` with a.png of 4 x 6 pixels and those figures, and reads the project."""
    save(tmp_path / "day/img/a.png", np.full((4, 6, 3), 90, np.uint8))
    (tmp_path / "day/ann").mkdir()

    def read(*figures, spec=INSTANCE, meta=META, changes=None, folder="", **options):
        content = {
            "description": "",
            "tags": [],
            "size": {"height": 4, "width": 6},
            "objects": figures,
        }
        write_json(tmp_path / "day/ann/a.png.json", content | (changes or {}))
        if meta is not None:
            write_json(tmp_path / "meta.json", meta)
        return read_supervisely(spec, tmp_path / folder, **options)

    return read


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(project, tmp_path, encoding):
    project()
    for path in (tmp_path / "meta.json", tmp_path / "day/ann/a.png.json"):
        path.write_text(path.read_text(), encoding=encoding)
    assert read_supervisely(INSTANCE, tmp_path).problems == []


def test_instances_by_hand(project):
    data = project(
        SQUARE,
        figure(
            "polygon", "dog", [[0, 0], [3, 0], [3, 3], [0, 3]], [[1, 1], [2, 1], [2, 2], [1, 2]]
        ),
        figure("rectangle", "ignore", [[0, 0], [5, 3]]),
        CORNER,
    )
    assert data.problems == []
    sample = data[0]
    assert (sample.image_id, sample.file_name) == ("day/a.png", "day/img/a.png")
    found = sample.annotation
    assert found.class_labels.tolist() == [0, 1, 1], "the void figure is left out"
    assert found.boxes.tolist() == [[1, 1, 3, 3], [0, 0, 4, 4], [3, 2, 5, 4]]
    assert drawn(found.masks) == [
        ["......", ".##...", ".##...", "......"],
        ["####..", "#..#..", "#..#..", "####.."],
        ["......", "......", "...#..", "...##."],
    ], "corners are pixels: a rectangle holds both, a polygon its border, a hole its own"
    assert data.census.objects.tolist() == [1, 2, 0]
    boxes = project(SQUARE, CORNER, spec=BOXES)[0].annotation
    assert (boxes.boxes.tolist(), boxes.masks) == ([[1, 1, 3, 3], [3, 2, 5, 4]], None)


def test_a_fraction_puts_all_corners_between_pixels(project):
    """As the tool itself draws; its SDK writes whole numbers."""
    triangle = figure("polygon", "dog", [[0, 0], [4, 0], [0, 4]], [[0, 0], [1.5, 0], [0, 1.5]])
    found = project(SQUARE, triangle)[0].annotation
    assert found.boxes.tolist() == [[1, 1, 2, 2], [0, 0, 4, 4]]
    assert drawn(found.masks)[0] == ["......", ".#....", "......", "......"]
    assert not found.masks[1][0, 0]
    assert found.masks[1][1, 1]


def test_semantic_by_hand(project):
    found = project(
        figure("rectangle", "cat", [[0, 0], [3, 3]]), SQUARE | {"classTitle": "dog"}, spec=SEMANTIC
    )
    assert found[0].annotation.segment_map.tolist() == [
        [0, 0, 0, 0, -1, -1],
        [0, 1, 1, 0, -1, -1],
        [0, 1, 1, 0, -1, -1],
        [0, 0, 0, 0, -1, -1],
    ]
    found = project(SQUARE, spec=SEMANTIC, background="sky")[0].annotation
    assert (found.class_labels.tolist(), int((found.segment_map == 1).sum())) == ([0, 2], 20)


def test_bound_figures_are_one_object(project):
    other = figure("rectangle", "cat", [[4, 3], [5, 3]], instance="b1")
    found = project({**SQUARE, "instance": "b1"}, {**CORNER, "instance": "b1"}, other)[0].annotation
    assert found.class_labels.tolist() == [0, 1]
    assert drawn(found.masks)[0] == ["......", ".##...", ".##...", "....##"]


@pytest.mark.parametrize("mode", ["palette", "alpha", "bits", "gray"])
@pytest.mark.parametrize("compressed", [True, False])
def test_bitmaps_of_every_age(project, mode, compressed):
    found = project(
        bitmap("cat", 4, 1, [[0, 1], [1, 0], [1, 1]], mode=mode, compressed=compressed)
    )[0].annotation
    assert drawn(found.masks) == [["......", ".....#", "....#.", "....##"]]


def test_classes_by_number_and_by_meta(project):
    numbers = replace(INSTANCE, id_map={10: 0, 11: 1, 12: 2}, void_ids=frozenset())
    data = project({**SQUARE, "classId": 11}, spec=numbers)
    assert data[0].annotation.class_labels.tolist() == [1]
    assert data.stated_names == {10: "cat", 11: "dog", 12: "sky"}
    untitled = {key: value for key, value in SQUARE.items() if key != "classTitle"} | {
        "classId": 12
    }
    assert project(untitled)[0].annotation.class_labels.tolist() == [2]
    old = {key: value for key, value in SQUARE.items() if key != "geometryType"}
    of_shape = {"classes": [{"title": "cat", "shape": "rectangle"}]}
    assert len(project(old, meta=of_shape)[0].annotation.class_labels) == 1


def test_meta_is_compared(project, tmp_path):
    data = project(
        SQUARE,
        meta={"classes": [{"title": "Cat", "shape": "any"}, {"title": "cow", "shape": "any"}]},
    )
    lacking, unknown = data.notes
    assert "its list of labels lacks 2 labels ('dog', 'sky') of the spec" in lacking
    assert "its list of labels has 1 label ('cow'), which the spec does not name" in unknown
    assert data[0].incomplete == (1, 2)
    assert project(SQUARE, folder="day").stated_names == {
        "cat": "cat",
        "dog": "dog",
        "sky": "sky",
    }, "found above"
    (tmp_path / "meta.json").unlink()
    assert project(SQUARE, meta=None).notes[0].startswith("no meta.json in")
    for meta, message in [
        ({"tags": []}, "key 'classes' is missing"),
        ({"classes": 3}, "`classes` must be a list"),
        ({"classes": [{"title": 3}]}, "class 1: the title 3 must be a word"),
    ]:
        with pytest.raises(ValueError, match=message):
            project(SQUARE, meta=meta)


def test_what_is_not_read_is_counted(project, tmp_path):
    point = figure("point", "cat", [[1, 1]])
    data = project(point, point, figure("line", "cow", [[1, 1], [2, 2]]), SQUARE)
    assert data.notes == [
        f"objects in {tmp_path} of geometries that are not read: 2 point, 1 line: left out"
    ]


def test_missing_images_and_annotations(project, tmp_path):
    save(tmp_path / "day/img/b.png", np.zeros((2, 2, 3), np.uint8))
    data = project(SQUARE)
    assert data.notes == [
        f"1 images in {tmp_path} have no annotation, such as {tmp_path / 'day/img/b.png'}: left out"
    ]
    write_json(tmp_path / "day/ann/c.png.json", {"size": {"height": 2, "width": 2}, "objects": []})
    assert "missing_images to 'skip'" in str(project(SQUARE).problems[0])
    assert project(SQUARE, missing_images="skip").notes[0].startswith("1 of 2 annotations in")
    with pytest.raises(ValueError, match=r"no ann/\*\.json in"):
        project(SQUARE, folder="day/img")


@pytest.mark.parametrize("spec", [INSTANCE, BOXES, SEMANTIC])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (figure("rectangle", "cow", [[0, 0], [1, 1]]), "'cow' (1 object)"),
        (figure("rectangle", "cat", [[0, 0]]), "a rectangle has 2 corners, not 1"),
        (figure("rectangle", "cat", [[0, 0], [60, 1]]), "pixels beyond the image"),
        (figure("rectangle", 3, [[0, 0], [1, 1]]), "`classTitle` must be a word, not 3"),
        (figure("polygon", "cat", [[0, 0], [1, 1]]), "a polygon of 2 points"),
        (figure("polygon", "cat", [[0, 0], [1, "x"], [2, 2]]), "'x' is no finite number"),
        (figure("polygon", "cat", [[0, 0], [1, 900], [2, 2]]), "far outside the image"),
        (figure("polygon", "cat", [[0, 0], [1, 1, 1], [2, 2]]), "lists of pairs"),
        (figure("polygon", "cat", None), "lists of pairs"),
        ({"classTitle": "cat", "geometryType": "polygon"}, "key 'points' is missing"),
        ({"classTitle": "cat", "geometryType": "bitmap", "bitmap": None}, "key 'data' is missing"),
        (
            {**CORNER, "bitmap": {"data": "no base64!", "origin": [0, 0]}},
            "cannot be read as base64 of zlib",
        ),
        ({**CORNER, "bitmap": {"data": 3, "origin": [0, 0]}}, "cannot be read as base64 of zlib"),
        (bitmap("cat", 5, 3, [[1, 1], [1, 1]]), "does not lie in the image"),
    ],
)
def test_bad_figures_are_problems_of_their_image(project, spec, bad, message):
    data = project(SQUARE, bad, spec=spec)
    assert len(data) == 0
    (problem,) = map(str, data.problems)
    assert "day/ann/a.png.json" in problem
    assert message in problem


def test_damaged_figures(project):
    whole = base64.b64decode(CORNER["bitmap"]["data"])
    cut = base64.b64encode(zlib.compress(zlib.decompress(whole)[:40])).decode()
    hidden = figure("polygon", "cat", [[1, 1], [2, 1], [2, 2]], [[0, 0], [5, 0], [5, 3], [0, 3]])
    for bad, message in [
        (
            {**CORNER, "bitmap": {"data": cut, "origin": [0, 0]}},
            "bitmap: cannot be read as an image",
        ),
        (bitmap("cat", 0, 0, [[0, 0], [0, 0]]), "bitmap: has no pixel"),
        (hidden, "has no pixel, as its holes cover it"),
    ]:
        with pytest.raises(BadSampleError, match=rf"a\.png\.json: object 1 .*{message}"):
            project(bad)[0]


def test_a_bitmap_that_unpacks_to_gigabytes_is_cut_off(project):
    small = BytesIO()
    Image.new("L", (2, 2), 255).save(small, "PNG")
    bomb = base64.b64encode(zlib.compress(small.getvalue() + bytes(10_000_000))).decode()
    found = project({**CORNER, "bitmap": {"data": bomb, "origin": [0, 0]}})[0].annotation
    assert found.masks.sum() == 4, "what follows the PNG is not unpacked"


def test_broken_files(project, tmp_path):
    project(SQUARE)
    save(tmp_path / "day/img/b.png", np.zeros((4, 6, 3), np.uint8))
    for content, message in [
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "key 'size' is missing"),
        (json.dumps({"size": {"height": 4, "width": 6}}).encode(), "key 'objects' is missing"),
        (
            json.dumps({"size": {"height": 4, "width": "x"}, "objects": []}).encode(),
            "width: 'x' is no finite number",
        ),
        (
            json.dumps({"size": {"height": 4, "width": 6}, "objects": [3]}).encode(),
            "a list of figures",
        ),
    ]:
        (tmp_path / "day/ann/b.png.json").write_bytes(content)
        data = read_supervisely(INSTANCE, tmp_path)
        assert [row["image_id"] for row in data.rows] == ["day/a.png"], "the others go on"
        assert message in str(data.problems[0])


def test_travels_to_worker_processes(project):
    data = project(SQUARE, CORNER)
    assert (pickle.loads(pickle.dumps(data))[0].annotation.masks == data[0].annotation.masks).all()


def test_polygons_of_pixels_by_hand():
    """From the left end a pixel per step along the longer axis; half a pixel to the side is none
    yet.
    """
    line = fill_lattice_polygon([(0, 0), (4, 2), (0, 0)], (3, 5))
    assert drawn([line]) == [["##...", "..##.", "....#"]]
    steep = fill_lattice_polygon([(0, 4), (2, 0), (0, 4)], (5, 3))
    assert drawn([steep]) == [["..#", ".#.", ".#.", "#..", "#.."]]
    bow = fill_lattice_polygon([(0, 0), (4, 4), (4, 0), (0, 4)], (5, 5))
    assert drawn([bow]) == [["#...#", "##.##", "#####", "##.##", "#...#"]]
    assert drawn([fill_lattice_polygon([(-5, -5), (9, -5), (9, 9), (-5, 9)], (2, 2))]) == [
        ["##", "##"]
    ]


def test_a_project_that_supervisely_wrote(tmp_path):
    """Masks as the SDK draws its own geometries."""
    classes = tuple(ClassInfo(name, True) for name in ("cat", "dog", "tree"))
    spec = DatasetSpec(
        "sample", "instance", classes, {c.name: index for index, c in enumerate(classes)}
    )
    data = read_supervisely(spec, lay_sample("supervisely", tmp_path))
    assert [row["image_id"] for row in data.rows] == ["day/a.png", "day/b.png"]
    found = data[0].annotation
    assert found.class_labels.tolist() == [0, 1, 2, 2]
    assert drawn(found.masks) == sample_masks("supervisely")
    assert any("1 point: left out" in note for note in data.notes)
