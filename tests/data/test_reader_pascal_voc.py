import pickle
from dataclasses import replace
from xml.sax.saxutils import escape

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataseg_hf.data.readers.pascal_voc import read_pascal_voc
from dataseg_hf.data.sample import BadSampleError, ClassInfo, DatasetSpec

SPEC = DatasetSpec(
    name="tiny",
    task="boxes",
    classes=(ClassInfo("cat", True), ClassInfo("dog & puppy", True)),
    id_map={"cat": 0, "dog & puppy": 1},
    void_ids=frozenset({"unknown"}),
)
SIZE = "<size><width>6</width><height>4</height><depth>3</depth></size>"


def thing(name="cat", box=(2, 1, 4, 3), extra="") -> str:
    edges = "".join(
        f"<{tag}>{value}</{tag}>"
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{escape(name)}</name>{extra}<bndbox>{edges}</bndbox></object>"


ONE_CAT = SIZE + thing()


@pytest.fixture
def voc(tmp_path):
    """Two folders with the images a/one.jpg and two.JPG of 4 x 6 pixels; the function writes XML
    and reads them.
    """
    for name in ("a/one.jpg", "two.JPG"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(
            tmp_path / "images" / name, format="JPEG"
        )
    (tmp_path / "xml/a").mkdir(parents=True)

    def read(one=ONE_CAT, two=SIZE, spec=SPEC, **options):
        for name, content in (("a/one", one), ("two", two)):
            if content is not None:
                (tmp_path / f"xml/{name}.xml").write_text(f"<annotation>{content}</annotation>")
        return read_pascal_voc(spec, tmp_path / "images", tmp_path / "xml", **options)

    return read


def test_by_hand(voc):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    objects = [
        thing(box=(2, 1, 4, 3)),
        thing(
            "dog & puppy", (1, 1, 6, 4), "<difficult>1</difficult><truncated>1</truncated>" + part
        ),
        thing("cat", (5, 4, 5, 4), "<difficult> 0 </difficult>"),
        thing("unknown", (1, 1, 2, 2)),
        thing("cat", (1.5, 1.25, 9, 3)),
    ]
    data = voc(SIZE + "".join(objects))
    assert data.problems == []
    assert [data[i].image_id for i in range(2)] == ["a/one", "two"]
    assert [data[i].file_name for i in range(2)] == ["a/one.jpg", "two.JPG"]
    found = data[0].annotation
    assert found.class_labels.tolist() == [0, 1, 0, 0]
    assert found.class_labels.dtype == np.int64
    # from the first pixel 2 to the last 4, counted from 1: [1, 4) counted from 0
    assert found.boxes.tolist() == [[1, 0, 4, 3], [0, 0, 6, 4], [4, 3, 5, 4], [0.5, 0.25, 6, 3]]
    assert found.boxes.dtype == np.float32
    assert found.is_crowd.tolist() == [False, True, False, False]
    assert found.masks is None
    assert data[0].image.shape == (4, 6, 3)

    nothing = data[1].annotation
    assert nothing.class_labels.shape == (0,)
    assert nothing.boxes.shape == (0, 4)
    assert nothing.is_crowd.dtype == bool


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SIZE + thing("cow"), r"1 category id is not in the spec of dataset 'tiny': 'cow'"),
        (SIZE + thing() + thing(box=(4, 1, 2, 3)), "object 2: .*has no area"),
        (SIZE + thing(box=(4, 1, 3, 3)), "object 1: .*has no area"),
        (
            SIZE + thing(box=(8, 1, 9, 3)),
            r"one\.xml: object 1: .*lies outside the image of 4 x 6 pixels",
        ),
        (SIZE + thing(box=("nan", 1, 3, 3)), "object 1: .*finite numbers"),
        (SIZE + thing(box=("inf", 1, 3, 3)), "object 1: .*finite numbers"),
        (SIZE + thing(box=("x", 1, 3, 3)), "object 1: bndbox: <xmin> must be a number, not 'x'"),
        (SIZE + thing(box=(1, 2, 3, "")), "object 1: bndbox: <ymax> is missing or empty"),
        (
            SIZE + thing(extra="<difficult>maybe</difficult>"),
            "object 1: <difficult>: 'maybe' is no flag",
        ),
        (SIZE + thing(""), "object 1: <name> is missing or empty"),
        (SIZE + "<object><name>cat</name></object>", "object 1: <bndbox> is missing"),
        ("<size><width>0</width><height>0</height></size>", r"size 0 x 0 .* remove <size>"),
        ("<size><width>6.5</width><height>4</height></size>", r"size 4 x 6\.5 "),
        ("<size><width>6</width></size>", "size: <height> is missing"),
        ("\n<object>\n<name>cat</object>", r"not valid XML: mismatched tag: line 3, column \d+"),
    ],
)
def test_bad_xml_is_a_problem_of_its_image(voc, tmp_path, content, message):
    data = voc(content)
    assert [row["image_id"] for row in data.rows] == ["two"], "the others go on"
    (problem,) = map(str, data.problems)
    assert problem.startswith(str(tmp_path / "xml/a/one.xml"))
    with pytest.raises(BadSampleError, match=message):
        raise BadSampleError(problem)


def test_another_xml_than_voc(voc, tmp_path):
    voc()
    (tmp_path / "xml/two.xml").write_text("<svg/>")
    (problem,) = map(str, voc(two=None).problems)
    assert "two.xml: expected <annotation> at the top, not <svg>" in problem
    (tmp_path / "xml/two.xml").write_bytes(b"<?xml version='1.0' encoding='klingon'?><annotation/>")
    (problem,) = map(str, voc(two=None).problems)
    assert "two.xml: not valid XML" in problem
    (tmp_path / "xml/two.xml").write_bytes(b"<annotation>\xff\xfe</annotation>")
    (problem,) = map(str, voc(two=None).problems)
    assert "two.xml: not valid XML" in problem
    (tmp_path / "xml/two.xml").write_bytes(b"")
    (problem,) = map(str, voc(two=None).problems)
    assert "two.xml: not valid XML" in problem


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE bomb [<!ENTITY a "ha"><!ENTITY b "&a;&a;"><!ENTITY c "&b;&b;">]>',
        '<!DOCTYPE theft [<!ENTITY c SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE annotation SYSTEM "http://127.0.0.1/voc.dtd">',
    ],
)
def test_doctypes_are_refused(voc, tmp_path, doctype, encoding):
    voc()
    text = f"{doctype}<annotation><folder>x</folder>{SIZE}{thing()}</annotation>"
    (tmp_path / "xml/two.xml").write_bytes(text.encode(encoding))
    data = voc(two=None)
    (problem,) = map(str, data.problems)
    assert "two.xml: a DOCTYPE" in problem
    assert len(data) == 1


def test_a_billion_laughs_cost_nothing(voc, tmp_path):
    """Ten levels of ten: expanded, this is 30 GB, and the test would not end."""
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "lol"}">' for i in range(11))
    voc()
    (tmp_path / "xml/two.xml").write_text(
        f"<!DOCTYPE lolz [{entities}]><annotation>&l10;</annotation>"
    )
    assert "two.xml: a DOCTYPE 'lolz' is refused" in str(voc(two=None).problems[0])


def test_boxes_that_need_the_image(voc):
    data = voc(thing(box=(8, 1, 9, 3)))
    assert data.problems == []
    with pytest.raises(
        BadSampleError, match=r"one\.xml: the box from \(7, 0\) to \(9, 3\) lies outside the image"
    ):
        data[0]
    assert voc(thing(box=(0, 0, 7, 5)))[0].annotation.boxes.tolist() == [[0, 0, 6, 4]], (
        "without <size>, clipped"
    )


def test_where_pixels_are_counted_from(voc):
    """Boxes by hand for the four corners 2, 1, 4, 3: [1, 4) x [0, 3) counted from 1, [2, 4) x [1,
    3) from 0.
    """
    data = voc()
    assert data[0].annotation.boxes.tolist() == [[1, 0, 4, 3]]
    assert "no box in" in data.notes[0]
    assert "taken as from 1" in data.notes[0]
    assert voc(coordinates={"origin": 0})[0].annotation.boxes.tolist() == [[2, 1, 4, 3]]
    proven = voc(two=SIZE + thing(box=(0, 1, 3, 3)))
    assert [proven[i].annotation.boxes.tolist() for i in range(2)] == [
        [[2, 1, 4, 3]],
        [[0, 1, 3, 3]],
    ]
    assert "begin at 0: taken as counted from 0" in proven.notes[0]
    forced = voc(two=SIZE + thing(box=(0, 1, 3, 3)), coordinates={"origin": 1})
    assert forced[0].annotation.boxes.tolist() == [[1, 0, 4, 3]]
    assert forced.notes == []


def test_difficult_objects_may_count_as_ordinary_ones(voc):
    content = SIZE + thing(extra="<difficult>1</difficult>")
    data = voc(content)
    assert data[0].annotation.is_crowd.tolist() == [True]
    assert data.notes[1] == "1 objects are marked <difficult>: neither target nor background"
    assert data.ignored_as == "difficult"
    data = voc(content, difficult="as_objects")
    assert (data[0].annotation.is_crowd.tolist(), data.census.crowds.sum()) == ([False], 0)


def test_sizes_differ(voc):
    data = voc(SIZE.replace("<width>6", "<width>7"))
    with pytest.raises(BadSampleError, match=r"one\.jpg is 4 x 6 .*one\.xml is 4 x 7"):
        data[0]


def test_damaged_image(voc, tmp_path):
    path = tmp_path / "images/a/one.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(BadSampleError, match=r"one\.jpg: cannot be read as an image"):
        voc()[0]


def test_annotation_of_a_missing_image(voc, tmp_path):
    (tmp_path / "images/two.JPG").unlink()
    data = voc()
    (problem,) = map(str, data.problems)
    assert "two.*: missing, the image of" in problem
    assert "two.xml" in problem
    assert "missing_images to 'skip'" in problem
    data = voc(missing_images="skip")
    assert (len(data), data.problems) == (1, [])
    assert data.notes[1:] == [
        f"1 of 2 annotations have no image in {tmp_path / 'images'}: left out"
    ]


def test_image_without_annotation(voc, tmp_path):
    voc()
    (tmp_path / "xml/two.xml").unlink()
    data = voc(two=None)
    assert [row["image_id"] for row in data.rows] == ["a/one"]
    assert data.notes[1:] == [
        f"1 images have no XML in {tmp_path / 'xml'}, such as 'two': left out"
    ]


def test_split_file(voc, tmp_path):
    split = tmp_path / "train.txt"
    split.write_text("two  1\n\na/one -1\ntwo 1\n")
    assert [row["image_id"] for row in voc(split_file=split).rows] == ["a/one", "two"]
    split.write_text("two\n")
    data = voc(split_file=split)
    assert ([row["image_id"] for row in data.rows], data.notes[1:]) == (["two"], [])
    split.write_text("two\nthree\n")
    assert "'three' of" in str(voc(split_file=split).problems[0])
    (tmp_path / "xml/two.xml").unlink()
    assert "two.xml: missing, 'two' of" in str(voc(two=None, split_file=split).problems[1])
    for name in ("../two", "/etc/passwd", "a/../../two"):
        split.write_text(name)
        with pytest.raises(ValueError, match=rf"train\.txt: file name '{name}' "):
            voc(split_file=split)
    with pytest.raises(FileNotFoundError, match=r"none\.txt: missing, the list of images"):
        voc(split_file=tmp_path / "none.txt")


def test_repeats(voc, tmp_path):
    data = voc(SIZE + thing() + thing("dog & puppy") + thing())
    assert data[0].annotation.class_labels.tolist() == [0, 1]
    assert data.notes[1:] == [
        f"1 objects in {tmp_path / 'xml'} repeat another of their image: left out"
    ]
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "images/two.jpg")
    with pytest.raises(ValueError, match=r"two\.JPG and .*two\.jpg: two files of one name"):
        voc()


def test_whole_dataset_faults(voc, tmp_path):
    voc()
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_pascal_voc(SPEC, tmp_path / "nowhere", tmp_path / "xml")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_pascal_voc(SPEC, tmp_path / "images", tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match="'tiny': reader 'pascal_voc' serves the task boxes, not 'semantic'"
    ):
        voc(spec=replace(SPEC, task="semantic"))
    with pytest.raises(
        ValueError, match=r"dataset 'tiny': no images in .*xml that end in \('\.jpg'"
    ):
        read_pascal_voc(SPEC, tmp_path / "xml", tmp_path / "xml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"dataset 'tiny': no images in .*images; check the path"):
        read_pascal_voc(SPEC, tmp_path / "images", tmp_path / "empty")


def test_travels_to_worker_processes(voc):
    data = voc()
    assert (
        pickle.loads(pickle.dumps(data))[0].annotation.boxes.tolist()
        == data[0].annotation.boxes.tolist()
    )


@settings(max_examples=25, deadline=None)
@given(
    objects=st.lists(
        st.tuples(
            st.sampled_from(["cat", "dog & puppy", "unknown"]),
            st.booleans(),
            st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(0, 5), st.integers(0, 3)),
        ),
        unique_by=lambda found: (found[0], found[2]),
        max_size=6,
    )
)
def test_nothing_is_invented_lost_or_renamed(tmp_path_factory, objects):
    """A box with the pixels (columns, rows) that VOC's corners name, for any list of objects."""
    root = tmp_path_factory.mktemp("voc")
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(root / "x.jpg")
    corners = [(x, y, min(x + w, 6), min(y + h, 4)) for _, _, (x, y, w, h) in objects]
    kept = {}
    for (name, difficult, _), box in zip(objects, corners, strict=True):
        if name != "unknown":
            kept.setdefault((name, box), difficult)
    parts = [
        thing(name, box, f"<difficult>{int(difficult)}</difficult>")
        for (name, difficult, _), box in zip(objects, corners, strict=True)
    ]
    (root / "x.xml").write_text(f"<annotation>{SIZE}{''.join(parts)}</annotation>")
    found = read_pascal_voc(SPEC, root, root)[0].annotation
    assert [SPEC.labels[i] for i in found.class_labels] == [name for name, _ in kept]
    assert found.is_crowd.tolist() == list(kept.values())
    for (left, top, right, bottom), (_, box) in zip(found.boxes.astype(int), kept, strict=True):
        covered = np.zeros((4, 6), bool)
        covered[top:bottom, left:right] = True
        rows, columns = np.nonzero(covered)
        assert (columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1) == box
