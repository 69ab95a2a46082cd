import pickle
from dataclasses import replace

import numpy as np
import pytest

from dataseg_hf.data.name_checks import name_contradictions
from dataseg_hf.data.readers.cvat_xml import read_cvat_xml
from dataseg_hf.data.sample import BadSampleError, ClassInfo, DatasetSpec
from helpers.annotation_files import save
from helpers.drawings import drawn, lay_sample, sample_masks

INSTANCE = DatasetSpec(
    name="tiny",
    task="instance",
    classes=(ClassInfo("cat", True), ClassInfo("dog", True), ClassInfo("background", False)),
    id_map={"cat": 0, "dog": 1, "background": 2},
    void_ids=frozenset({"ignore"}),
)
BOXES, SEMANTIC = replace(INSTANCE, task="boxes"), replace(INSTANCE, task="semantic")

BOX = '<box label="cat" occluded="0" source="manual" xtl="1" ytl="1" xbr="3.00" ybr="3" z_order="0"></box>'
MASK = '<mask label="dog" rle="1, 1, 0, 2" left="3" top="2" width="2" height="2"/>'
META = "<meta><{0}><labels>{1}</labels></{0}><dumped>2026</dumped></meta>"
LABEL = "<label><name>{}</name><color>#fff</color><attributes></attributes></label>"


def shape(tag, label="cat", **attributes):
    text = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f'<{tag} label="{label}" {text}/>'


@pytest.fixture
def cvat(tmp_path):
    """Writes annotations.xml of one image of 4 x 6 pixels with those shapes, and reads it."""
    save(tmp_path / "a.png", np.full((4, 6, 3), 90, np.uint8))

    def read(
        *shapes,
        spec=INSTANCE,
        meta="",
        image='name="a.png" width="6" height="4"',
        more="",
        **options,
    ):
        text = f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{meta}'
        text += f'<image id="0" {image}>{"".join(shapes)}</image>{more}</annotations>'
        (tmp_path / "annotations.xml").write_text(text)
        return read_cvat_xml(spec, tmp_path, tmp_path / "annotations.xml", **options)

    return read


def test_instances_by_hand(cvat):
    data = cvat(
        BOX,
        shape("polygon", "dog", points="0,3;2,3;2,4;0,4"),
        shape("ellipse", "dog", cx=3, cy=2, rx=2, ry=2),
        shape("box", "ignore", xtl=0, ytl=0, xbr=6, ybr=4),
        MASK,
    )
    assert data.problems == []
    sample = data[0]
    assert (sample.image_id, sample.file_name) == ("a.png", "a.png")
    found = sample.annotation
    assert found.class_labels.tolist() == [0, 1, 1, 1], "the void shape is left out"
    assert found.boxes.tolist() == [[1, 1, 3, 3], [0, 3, 2, 4], [1, 0, 5, 4], [3, 2, 5, 4]]
    assert drawn(found.masks) == [
        ["......", ".##...", ".##...", "......"],
        ["......", "......", "......", "##...."],
        ["..##..", ".####.", ".####.", "..##.."],
        ["......", "......", "....#.", "...##."],
    ], "run lengths go along the rows: 1 pixel of 0, 1 of 1, none of 0, 2 of 1"
    assert data.census.objects.tolist() == [1, 3, 0]
    boxes = cvat(BOX, MASK, spec=BOXES)[0].annotation
    assert (boxes.boxes.tolist(), boxes.masks) == ([[1, 1, 3, 3], [3, 2, 5, 4]], None)


def test_rotation_is_clockwise_about_the_center(cvat):
    """A box of 4 x 2 about (3, 2) stands upright after 90 degrees; an ellipse, too."""
    box = shape("box", xtl=1, ytl=1, xbr=5, ybr=3, rotation=90)
    ellipse = shape("ellipse", cx=3, cy=2, rx=2, ry=1, rotation="90.0")
    upright = ["..##.."] * 4
    found = cvat(box, ellipse)[0].annotation
    assert drawn(found.masks) == [upright, upright]
    np.testing.assert_allclose(found.boxes, [[2, 0, 4, 4]] * 2, atol=1e-6)
    corner = shape("box", xtl=0, ytl=0, xbr=4, ybr=2, rotation=45)
    mask = cvat(corner)[0].annotation.masks[0]
    assert drawn([mask])[0][1] == ".###..", "about (2, 1), from the upper left to the lower right"


def test_groups_join_shapes_of_one_label(cvat):
    found = cvat(
        shape("box", xtl=0, ytl=0, xbr=1, ybr=1, group_id=1),
        shape("box", "dog", xtl=2, ytl=2, xbr=3, ybr=3, group_id=1),
        shape("box", xtl=4, ytl=2, xbr=6, ybr=4, group_id=1),
        shape("box", xtl=2, ytl=0, xbr=3, ybr=1, group_id=0),
        shape("box", xtl=5, ytl=0, xbr=6, ybr=1, group_id=0),
    )[0].annotation
    assert found.class_labels.tolist() == [0, 1, 0, 0]
    assert drawn(found.masks)[0] == ["#.....", "......", "....##", "....##"]


def test_semantic_by_hand(cvat):
    shapes = [
        shape("box", "dog", xtl=2, ytl=2, xbr=6, ybr=4, z_order=2),
        shape("box", "cat", xtl=1, ytl=1, xbr=3, ybr=3, z_order="-1"),
        shape("box", "ignore", xtl=2, ytl=2, xbr=3, ybr=3, z_order=2),
        shape("box", "background", xtl=0, ytl=0, xbr=6, ybr=1, z_order=0),
    ]
    found = cvat(*shapes, spec=SEMANTIC)[0].annotation
    assert found.class_labels.tolist() == [0, 1, 2]
    assert found.segment_map.tolist() == [
        [2, 2, 2, 2, 2, 2],
        [-1, 0, 0, -1, -1, -1],
        [-1, 0, -1, 1, 1, 1],
        [-1, -1, 1, 1, 1, 1],
    ], "by z_order, then by the order of the file; void lies on top, too"
    assert cvat(*shapes)[0].annotation.class_labels.tolist() == [1, 0, 2], (
        "objects keep the order of the file"
    )
    data = cvat(BOX, spec=SEMANTIC, background="Background")
    assert data.notes == []
    assert (data[0].annotation.segment_map == 1).sum() == 20
    assert (
        "set `background: background` in the entry's `options`" in cvat(BOX, spec=SEMANTIC).notes[0]
    )
    with pytest.raises(ValueError, match="background: 'cow' is no id of dataset 'tiny'"):
        cvat(BOX, spec=SEMANTIC, background="cow")
    with pytest.raises(ValueError, match="background: task 'boxes' has no class"):
        cvat(BOX, spec=BOXES, background="background")


def test_what_is_not_read_is_counted(cvat, tmp_path):
    joints = '<skeleton label="cat"><points label="nose" points="1,1" outside="0"/></skeleton>'
    left_out = [
        shape("points", points="1,1"),
        shape("points", points="2,2"),
        shape("polyline", points="1,1;2,2"),
        shape("tag"),
        shape("cuboid", xtl1=1),
        joints,
        shape("box", xtl=0, ytl=0, xbr=1, ybr=1, outside=1),
    ]
    data = cvat(BOX, *left_out)
    assert data.notes == [
        f"shapes of {tmp_path / 'annotations.xml'} that are not read: "
        "2 points, 1 polyline, 1 tag, 1 cuboid, 1 skeleton, 1 outside: left out"
    ]
    assert data[0].annotation.class_labels.tolist() == [0]
    assert "1 of 1 images of" in cvat().notes[0], "CVAT lists images that nobody has looked at"


@pytest.mark.parametrize("level", ["task", "job", "project"])
def test_lists_of_labels_are_compared(cvat, level):
    joint = "<label><name>nose</name><parent>person</parent></label>"
    labels = LABEL.format("Cat") + LABEL.format("cow") + joint
    data = cvat(BOX, meta=META.format(level, labels))
    assert data.stated_names == {"Cat": "Cat", "cow": "cow"}
    lacking, unknown = data.notes
    assert "its list of labels lacks 2 labels ('dog', 'background') of the spec" in lacking
    assert "its list of labels has 1 label ('cow'), which the spec does not name" in unknown
    assert [data[0].incomplete, cvat(BOX)[0].incomplete] == [(1, 2), ()]


def test_words_that_contradict_the_spec():
    """A class may be called otherwise than its id, but not like another class's."""
    classes = (ClassInfo("automobile", True), ClassInfo("truck", True))
    stated = {"car": "car", "lorry": "lorry"}
    assert (
        name_contradictions(DatasetSpec("a", "boxes", classes, {"car": 0, "lorry": 1}), stated)
        == []
    )
    swapped = DatasetSpec("a", "boxes", classes, {"truck": 0, "automobile": 1})
    assert len(name_contradictions(swapped, {"truck": "truck", "automobile": "automobile"})) == 2


def test_names_of_images(cvat, tmp_path):
    save(tmp_path / "train/day/b.png", np.zeros((4, 6, 3), np.uint8))
    for image in (
        'name="day\\b.png" subset="train"',
        'name="train/day/b.png"',
        'name="train\\day\\b.png"',
    ):
        data = cvat(BOX, image=image)
        assert data.problems == []
        assert data[0].file_name == "train/day/b.png"
    pattern = ["^.*/", ""]
    assert (
        cvat(BOX, image='name="/home/me/a.png"', file_name_pattern=pattern)[0].file_name == "a.png"
    )
    for name in ("../a.png", "/etc/a.png", "C:\\\\a.png", "a" * 300):
        (problem,) = map(str, cvat(BOX, image=f'name="{name}"').problems)
        assert "file name" in problem
    save(tmp_path / "0.png", np.zeros((4, 6, 3), np.uint8))
    data = cvat(BOX, more='<image id="7" name="0.png" width="6" height="4"/>')
    assert [row["image_id"] for row in data.rows] == ["0.png", "a.png"], "sorted"


def test_missing_and_repeated_images(cvat):
    absent = '<image id="1" name="b.png" width="6" height="4"/>'
    data = cvat(BOX, more=absent)
    assert (len(data), len(data.problems)) == (1, 1)
    assert "missing_images to 'skip'" in str(data.problems[0])
    data = cvat(BOX, more=absent, missing_images="skip")
    assert data.problems == []
    assert data.notes[0].startswith("1 of 2 images listed")
    data = cvat(BOX, more='<image id="1" name="a.png" width="6" height="4"/>')
    assert "image 'a.png': listed twice" in str(data.problems[0])


@pytest.mark.parametrize("spec", [INSTANCE, BOXES, SEMANTIC])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (shape("box", "cow", xtl=0, ytl=0, xbr=1, ybr=1), "'cow' (1 object)"),
        ("<box/>", "attribute 'label' of <box> is missing"),
        (shape("box", xtl=0, ytl=0, xbr=1), "attribute 'ybr' of <box> is missing"),
        (shape("box", xtl=0, ytl="x", xbr=1, ybr=1), "ytl: 'x' is no finite number"),
        (shape("box", xtl=0, ytl="nan", xbr=1, ybr=1), "ytl: 'nan' is no finite number"),
        (shape("box", xtl=0, ytl=1, xbr=1, ybr=1), "has no area"),
        (shape("box", xtl=0, ytl=0, xbr=60, ybr=1), "pixels beyond the image"),
        (shape("polygon", points="1,1;2,2"), "a polygon of 2 points"),
        (shape("polygon", points="1,1;2;3,3"), "points are 'x,y;x,y;...'"),
        (shape("polygon", points="1,1;2,inf;3,3"), "no finite numbers"),
        (shape("ellipse", cx=1, cy=1, rx=0, ry=1), "has no area"),
        (shape("mask", rle="1,3", left=5, top=2, width=2, height=2), "does not lie in the image"),
        (shape("circle", r=1), "shapes of kind <circle> are not supported"),
        (
            shape("box", xtl=0, ytl=0, xbr=1, ybr=1, group_id="x"),
            "group_id: 'x' is no finite number",
        ),
    ],
)
def test_bad_shapes_are_problems_of_their_image(cvat, spec, bad, message):
    data = cvat(BOX, bad, spec=spec)
    assert len(data) == 0
    (problem,) = map(str, data.problems)
    assert "annotations.xml: image 'a.png'" in problem
    assert message in problem


@pytest.mark.parametrize("rle", ["1,2", "1,2,-1,2", "4", "a", "1,1e300", f"{10**30},{4 - 10**30}"])
def test_damaged_run_lengths(cvat, rle):
    data = cvat(shape("mask", rle=rle, left=0, top=0, width=2, height=2))
    with pytest.raises(
        BadSampleError, match=r"annotations\.xml: image 'a\.png': mask 1 \('cat'\): rle"
    ):
        data[0]


def test_files_that_are_none_of_these(cvat, tmp_path):
    with pytest.raises(ValueError, match=r"has tracks, .*; export the task as 'CVAT for images"):
        cvat(more='<track id="0" label="cat"><box frame="0"/></track>')
    path = tmp_path / "annotations.xml"
    for content, message in [
        (
            b"<annotation><object/></annotation>",
            "expected <annotations> at the top, not <annotation>",
        ),
        (b"<annotations><image>", "not valid XML"),
        (b"", "not valid XML"),
        (b"<annotations/>", "lists no <image>"),
        (b'<!DOCTYPE a [<!ENTITY x "y">]><annotations/>', "a DOCTYPE 'a' is refused"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_cvat_xml(INSTANCE, tmp_path, path)
    with pytest.raises(FileNotFoundError):
        read_cvat_xml(INSTANCE, tmp_path, tmp_path / "nowhere.xml")


def test_sizes(cvat):
    assert cvat(BOX, image='name="a.png"')[0].image.shape == (4, 6, 3), (
        "datumaro may leave the size out"
    )
    with pytest.raises(BadSampleError, match=r"a\.png is 4 x 6 .* is 4 x 7"):
        cvat(BOX, image='name="a.png" width="7" height="4"')[0]


def test_travels_to_worker_processes(cvat):
    data = cvat(BOX, MASK)
    assert (pickle.loads(pickle.dumps(data))[0].annotation.masks == data[0].annotation.masks).all()


def test_a_file_that_datumaro_wrote(tmp_path):
    """Masks as datumaro's own decoder and rasterizer give them; the two polygons of group 3 are one
    object.
    """
    folder = lay_sample("cvat", tmp_path)
    classes = tuple(ClassInfo(name, True) for name in ("cat", "dog", "tree"))
    spec = DatasetSpec(
        "sample", "instance", classes, {c.name: index for index, c in enumerate(classes)}
    )
    data = read_cvat_xml(spec, folder / "images", folder / "annotations.xml")
    assert [row["image_id"] for row in data.rows] == ["b.png", "day/a.png"]
    found = data[1].annotation
    first, box, turned, mask, second = (
        np.array([[c == "#" for c in row] for row in m]) for m in sample_masks("cvat")
    )
    assert found.class_labels.tolist() == [0, 1, 1, 2]
    assert drawn(found.masks) == drawn([first | second, box, turned, mask])
    assert any("1 points: left out" in note for note in data.notes)
    assert len(data[0].annotation.class_labels) == 0
