import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from dataseg_hf.data.brush_rle import decode_brush
from dataseg_hf.data.readers.label_studio import read_label_studio
from dataseg_hf.data.readers.stated_paths import StatedPaths
from dataseg_hf.data.sample import BadSampleError, ClassInfo, DatasetSpec
from helpers.annotation_files import save, write_json
from helpers.drawings import drawn, lay_sample, sample_masks
from helpers.paths import SAMPLES

INSTANCE = DatasetSpec(
    name="tiny",
    task="instance",
    classes=(ClassInfo("cat", True), ClassInfo("dog", True), ClassInfo("sky", False)),
    id_map={"cat": 0, "dog": 1, "sky": 2},
    void_ids=frozenset({"ignore"}),
)
BOXES, SEMANTIC = replace(INSTANCE, task="boxes"), replace(INSTANCE, task="semantic")
HEIGHT, WIDTH = 4, 8  # 25 and 12.5 percent a pixel


def region(kind, label, number=[0], **value):  # noqa: B006 - counts the regions
    number[0] += 1
    return {
        "id": f"r{number[0]}",
        "type": f"{kind}labels",
        "from_name": "tag",
        "to_name": "image",
        "image_rotation": 0,
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "value": {**value, f"{kind}labels": [label]},
    }


def rectangle(label, left, top, right, bottom, **more):
    """In pixels."""
    percent = {
        "x": left * 12.5,
        "y": top * 25,
        "width": (right - left) * 12.5,
        "height": (bottom - top) * 25,
    }
    return region("rectangle", label, **percent, **{"rotation": 0, **more})


def brush(label, alpha):
    """Alpha of each pixel as one run of 1 pixel: bytes written one by one, by the format's
    description.
    """
    bits = f"{4 * len(alpha):032b}{7:05b}{1:04b}{1:04b}{1:04b}{1:04b}"
    for value in alpha:
        # 4 values as they are
        bits += "0" + "00" + f"{3:02b}" + f"{7:08b}{8:08b}{9:08b}{value:08b}"
    bits += "0" * (-len(bits) % 8)
    return region(
        "brush", label, format="rle", rle=[int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    )


SQUARE = rectangle("cat", 1, 1, 3, 3)
STROKE = brush("dog", [0] * 20 + [255, 129, 128, 1] + [0] * 8)


@pytest.fixture
def studio(tmp_path):
    """Writes an export of one task, of a.png of 4 x 8 pixels, with those results, and reads it."""
    save(tmp_path / "a.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))

    def read(*results, spec=INSTANCE, data=None, tasks=None, **options):
        task = {
            "id": 3,
            "annotations": [{"id": 1, "result": results}],
            "data": data or {"image": "/data/x/a.png"},
        }
        write_json(tmp_path / "export.json", [task] if tasks is None else tasks)
        return read_label_studio(spec, tmp_path, tmp_path / "export.json", **options)

    return read


def test_instances_by_hand(studio):
    polygon = region("polygon", "cat", points=[[0, 50], [25, 50], [25, 100], [0, 100]], closed=True)
    ellipse = region("ellipse", "dog", x=50, y=50, radiusX=25, radiusY=25, rotation=0)
    data = studio(SQUARE, polygon, ellipse, STROKE, rectangle("ignore", 0, 0, 8, 4))
    assert data.problems == []
    sample = data[0]
    assert (sample.image_id, sample.file_name) == ("a.png", "a.png")
    found = sample.annotation
    assert found.class_labels.tolist() == [0, 0, 1, 1], "the void region is left out"
    assert found.boxes.tolist() == [[1, 1, 3, 3], [0, 2, 2, 4], [2, 1, 6, 3], [4, 2, 6, 3]]
    assert drawn(found.masks) == [
        ["........", ".##.....", ".##.....", "........"],
        ["........", "........", "##......", "##......"],
        ["........", "..####..", "..####..", "........"],
        ["........", "........", "....##..", "........"],
    ], "a brush is where alpha is above 128"
    assert data.census.objects.tolist() == [2, 2, 0]
    boxes = studio(SQUARE, STROKE, spec=BOXES)[0].annotation
    assert (boxes.boxes.tolist(), boxes.masks) == ([[1, 1, 3, 3], [4, 2, 6, 3]], None)


def test_rotation_is_clockwise_about_the_top_left_corner(studio):
    """A box of 3 x 1 whose corner is (4, 0) hangs down to its left after 90 degrees. Percents of x
    and y differ.
    """
    hanging = rectangle("cat", 4, 0, 7, 1, rotation=90)
    ellipse = region("ellipse", "cat", x=50, y=50, radiusX=25, radiusY=25, rotation=90)
    found = studio(hanging, ellipse)[0].annotation
    assert drawn(found.masks) == [
        ["...#....", "...#....", "...#....", "........"],
        ["...##...", "...##...", "...##...", "...##..."],
    ]
    np.testing.assert_allclose(found.boxes, [[3, 0, 4, 3], [3, 0, 5, 4]], atol=1e-6)


def test_semantic_by_hand(studio):
    found = studio(rectangle("cat", 0, 0, 4, 4), rectangle("dog", 2, 0, 8, 2), spec=SEMANTIC)[
        0
    ].annotation
    assert (
        found.segment_map.tolist()
        == [[0, 0, 1, 1, 1, 1, 1, 1]] * 2 + [[0, 0, 0, 0, -1, -1, -1, -1]] * 2
    )
    found = studio(SQUARE, spec=SEMANTIC, background="sky")[0].annotation
    assert (found.class_labels.tolist(), int((found.segment_map == 1).sum())) == ([0, 2], 28)


def test_label_and_outline_in_two_results(studio):
    """As <Labels> beside <Rectangle> are exported; a region of two labels is refused."""
    value = {key: SQUARE["value"][key] for key in ("x", "y", "width", "height", "rotation")}
    outline = {**SQUARE, "type": "rectangle", "value": value}
    label = {
        **SQUARE,
        "type": "labels",
        "from_name": "label",
        "value": {**value, "labels": ["dog"]},
    }
    for results in ([outline, label], [label, outline], [label]):
        assert studio(*results)[0].annotation.class_labels.tolist() == [1]
    again = {**SQUARE, "from_name": "other", "value": {**value, "rectanglelabels": ["dog"]}}
    assert "has 2 labels, ['cat', 'dog']; keep one" in str(studio(SQUARE, again).problems[0])
    moved = {**SQUARE, "value": {**SQUARE["value"], "x": 50}}
    assert len(studio(SQUARE, moved)[0].annotation.class_labels) == 2, (
        "an id given twice joins nothing"
    )


def test_which_annotation_counts(studio):
    def task(*annotations, **more):
        return [{"id": 3, "annotations": annotations, "data": {"image": "a.png"}, **more}]

    old = {"id": 9, "completed_by": 1, "updated_at": "2025-01-01T00:00:00Z", "result": [SQUARE]}
    new = {
        "id": 2,
        "completed_by": {"id": 2, "email": "b@x.org"},
        "updated_at": "2026-01-01T00:00:00Z",
        "result": [],
    }
    canceled = {**new, "was_cancelled": True, "updated_at": "2027-01-01T00:00:00Z"}
    data = studio(tasks=task(new, old, canceled, predictions=[{"result": [SQUARE]}]))
    assert len(data[0].annotation.class_labels) == 0
    several, predicted = data.notes
    assert several.startswith("1 tasks of")
    assert "the newest of each is taken" in several
    assert "have predictions, which are not read" in predicted
    assert len(studio(tasks=task(new, old), completed_by=1)[0].annotation.class_labels) == 1
    assert len(studio(tasks=task(old, new), completed_by="b@x.org")[0].annotation.class_labels) == 0
    undated = [{"id": 1, "result": []}, {"id": 2, "result": [SQUARE]}]
    assert len(studio(tasks=task(*undated))[0].annotation.class_labels) == 1, "the last of the file"
    data = studio(
        tasks=[*task(old), {"id": 4, "annotations": [canceled], "data": {"image": "b.png"}}]
    )
    assert data.notes == [data.notes[0]]
    assert data.notes[0].startswith("1 of 2 tasks")
    with pytest.raises(ValueError, match="none of its 1 tasks has an annotation that counts"):
        studio(tasks=task(canceled))


def test_what_is_not_read_is_counted(studio):
    keypoints = [region("keypoint", "cat", x=1, y=1, width=1) for _ in range(2)]
    choice = {"id": "c", "type": "choices", "value": {"choices": ["good"]}, "to_name": "image"}
    data = studio(*keypoints, choice, SQUARE)
    assert data.notes[0].endswith("are not read: 2 keypointlabels, 1 choices: left out")
    assert data[0].annotation.class_labels.tolist() == [0]


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("/data/upload/1/0a1b2c3d-a.png", "a.png"),
        ("/data/upload/1/0a1b2c3d-b.png", "0a1b2c3d-b.png"),
        ("/data/upload/1/0a1b2c3d-my_photo_1.png", "my photo (1).png"),
        ("/data/local-files/?d=photos/day/a.png", "day/a.png"),
        ("/data/local-files/?d=photos%2Fday%5Ca.png", "day/a.png"),
        ("/data/local-files/?d=photos/night/a.png", "a.png"),
        ("s3://bucket/photos/day/a.png", "day/a.png"),
        ("https://host.org/day/a.png?token=/x/b.png", "day/a.png"),
        ("gs://bucket/day/my%20photo.png", "day/my photo.png"),
        ("C:\\photos\\day\\a.png", "day/a.png"),
    ],
)
def test_image_paths(tmp_path, address, found):
    for name in (
        "a.png",
        "b.png",
        "0a1b2c3d-b.png",
        "my photo (1).png",
        "day/a.png",
        "day/my photo.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert StatedPaths(tmp_path).find(address, "x") == tmp_path / found


def test_classes_without_a_label_in_the_setup_were_not_looked_for(studio, tmp_path):
    """The export itself does not list the project's labels."""
    assert studio(SQUARE)[0].incomplete == ()
    setup = tmp_path / "setup.xml"
    label = '<Label value="{}" background="red"/>'
    labels = label.format("Cat") + label.format("cow")
    setup.write_text(f'<View><BrushLabels name="tag" toName="image">{labels}</BrushLabels></View>')
    data = studio(SQUARE, setup=setup)
    assert data[0].incomplete == (1, 2)
    assert any("its list of labels lacks 2 labels ('dog', 'sky')" in note for note in data.notes)
    setup.write_text("<Config/>")
    with pytest.raises(ValueError, match=r"setup\.xml: expected <View> at the top"):
        studio(SQUARE, setup=setup)


def test_image_paths_that_are_none(tmp_path, studio):
    for address in (
        "s3://bucket/../a.png",
        "",
        "/",
        "https://host.org",
        "/data/local-files/?d=../../a.png",
    ):
        with pytest.raises(BadSampleError, match=r"x: .* names no image file"):
            StatedPaths(tmp_path).find(address, "x")
    (problem,) = map(str, studio(SQUARE, data={"image": "/data/upload/1/b.png"}).problems)
    assert "task 3: no image for '/data/upload/1/b.png'" in problem
    assert "missing_images to 'skip'" in problem
    with pytest.raises(ValueError, match="no images"):
        studio(SQUARE, data={"image": "b.png"}, missing_images="skip")


def test_which_key_of_data_is_the_image(studio):
    data = {"photo": "x/a.png", "text": "a word", "other": "x/b.png"}
    assert "2 values of `data` (photo, other) end like an image" in str(
        studio(SQUARE, data=data).problems[0]
    )
    assert len(studio(SQUARE, data=data, image_key="photo")) == 1
    assert len(studio({**SQUARE, "to_name": "photo"}, data=data)) == 1
    two = [SQUARE, {**SQUARE, "id": "x", "to_name": "second"}]
    assert "regions on several images (image, second)" in str(studio(*two, data=data).problems[0])
    assert "'pages' lists several images" in str(
        studio(SQUARE, data={"pages": ["a.png", "b.png"]}).problems[0]
    )
    assert "key 'nowhere' is missing" in str(studio(SQUARE, image_key="nowhere").problems[0])


def test_two_tasks_of_one_image(studio):
    task = {"annotations": [{"result": [SQUARE]}], "data": {"image": "x/a.png"}}
    data = studio(tasks=[{"id": 1, **task}, {"id": 2, **task}])
    assert len(data) == 1
    assert "task 2: its image 'x/a.png' is a.png, as that of task 1; remove" in str(
        data.problems[0]
    )


@pytest.mark.parametrize("spec", [INSTANCE, BOXES, SEMANTIC])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (rectangle("cow", 0, 0, 1, 1), "'cow' (1 object)"),
        (
            {**SQUARE, "value": {**SQUARE["value"], "rectanglelabels": []}},
            "has no label; give it one",
        ),
        (
            {**SQUARE, "value": {**SQUARE["value"], "rectanglelabels": ["cat", "dog"]}},
            "has 2 labels",
        ),
        ({**SQUARE, "value": {**SQUARE["value"], "rectanglelabels": [3]}}, "labels must be words"),
        (
            {**SQUARE, "value": {**SQUARE["value"], "rectanglelabels": "cat"}},
            "must be a list of labels",
        ),
        ({**SQUARE, "value": {**SQUARE["value"], "x": "left"}}, "x: 'left' is no finite number"),
        ({**SQUARE, "original_width": 0}, "original_width: 0 pixels are no size"),
        ({**SQUARE, "original_width": 9}, "regions on images of several sizes"),
        ({**SQUARE, "image_rotation": 90}, "was rotated by 90 degrees in Label Studio"),
        (rectangle("cat", 1, 1, 1, 3), "has no area"),
        (rectangle("cat", 1, 1, 90, 3), "pixels beyond the image"),
        (region("polygon", "cat", points=[[1, 1], [9, 9]]), "a polygon of 2 points"),
        (region("polygon", "cat", points=[[1, 1], [9, 9, 9], [3, 4]]), "lists of pairs"),
        (region("brush", "cat", rle=[1, 2, 300]), "a list of numbers from 0 to 255"),
        (
            region("brush", "cat", rle=[0, 0, 0, 4]),
            "holds 4 values, not four for each of the 4 x 8 pixels",
        ),
    ],
)
def test_bad_regions_are_problems_of_their_image(studio, spec, bad, message):
    data = studio(SQUARE, {**bad, "id": "of its own"}, spec=spec)
    assert len(data) == 0
    (problem,) = map(str, data.problems)
    assert "export.json: task 3" in problem
    assert message in problem


def test_damaged_brushes(studio):
    rle = STROKE["value"]["rle"]
    for damaged in (rle[:20], [*rle[:4], 0, *rle[5:]]):
        data = studio(region("brush", "cat", rle=damaged))
        with pytest.raises(
            BadSampleError, match=r"task 3: result 1 \(brush 'cat'\): rle: cannot be read"
        ):
            data[0]
    empty = studio(brush("cat", [0] * 32))
    with pytest.raises(BadSampleError, match="has no pixel"):
        empty[0]
    with pytest.raises(ValueError, match="expected 4 values"):
        decode_brush(b"\0", 1)


def test_files_that_are_none_of_these(studio, tmp_path):
    path = tmp_path / "export.json"
    for content, message in [
        (
            (SAMPLES / "label_studio/json_min.json").read_text(),
            "is the export 'JSON-MIN', .* export it as 'JSON'",
        ),
        (
            json.dumps({"images": [], "annotations": []}),
            "not a valid JSON list .* expected the export 'JSON'",
        ),
        ('{"id": 1}\n{"id": 2}\n', "not a valid JSON list"),
        ('[{"id": 1},', "not a valid JSON list"),
        ("[]", "holds no task"),
        ("[" * 100_000, "not a valid JSON list"),
        ("[" + "1" * 10_000 + "]", "not a valid JSON list"),
    ]:
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_label_studio(INSTANCE, tmp_path, path)
    path.write_text('[3, {"id": 2}]')
    assert [
        str(p).partition(": ")[2] for p in read_label_studio(INSTANCE, tmp_path, path).problems
    ] == [
        "task number 1 of the file: key 'annotations' is missing",
        "task 2: key 'annotations' is missing",
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(studio, tmp_path, encoding):
    studio(SQUARE)
    path = tmp_path / "export.json"
    path.write_text(path.read_text(), encoding=encoding)
    assert read_label_studio(INSTANCE, tmp_path, path)[0].annotation.class_labels.tolist() == [0]


def test_a_list_longer_than_a_chunk(studio, monkeypatch):
    monkeypatch.setattr("dataseg_hf.data.readers.json_files._CHUNK", 7)
    assert drawn(studio(SQUARE, STROKE)[0].annotation.masks)[0][1] == ".##....."


def test_travels_to_worker_processes(studio):
    data = studio(SQUARE, STROKE)
    assert (pickle.loads(pickle.dumps(data))[0].annotation.masks == data[0].annotation.masks).all()


def test_a_file_that_label_studio_wrote(tmp_path):
    """Brush masks as the SDK decodes them. The upload "my photo.png" is listed as
    dbab459a-my_photo.png.
    """
    folder = lay_sample("label_studio", tmp_path)
    classes = tuple(ClassInfo(name, True) for name in ("cat", "dog", "tree"))
    spec = DatasetSpec(
        "sample", "instance", classes, {c.name: index for index, c in enumerate(classes)}
    )
    data = read_label_studio(spec, folder / "images", folder / "export.json")
    assert [row["image_id"] for row in data.rows] == ["b.png", "my photo.png"]
    found = data[1].annotation
    assert found.class_labels.tolist() == [0, 2, 1, 1, 0, 0]
    assert drawn(found.masks[:2]) == sample_masks("label_studio")
    assert found.boxes[2].tolist() == [8, 6, 14, 10]
    without, several, predicted, kinds = data.notes
    assert without.startswith("1 of 3 tasks")
    assert several.startswith("1 tasks of")
    assert predicted.startswith("1 tasks of")
    assert "1 keypointlabels" in kinds
