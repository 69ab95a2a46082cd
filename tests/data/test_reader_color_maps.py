"""`image_png` where the colors of the PNGs are classes."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dataseg_hf.data.name_checks import name_contradictions
from dataseg_hf.data.readers.colors import color_text, parse_color, read_label_map
from dataseg_hf.data.readers.image_png import read_image_png
from dataseg_hf.data.sample import BadSampleError, ClassInfo, DatasetSpec, UnknownIdsError
from dataseg_hf.settings.datasets import load_source
from dataseg_hf.settings.entries import ClassSettings, Source, SpecSettings
from helpers.annotation_files import save
from helpers.paths import SAMPLES

SKY, CAR, VOID = (70, 130, 180), (250, 50, 83), (0, 0, 0)
SPEC = DatasetSpec(
    name="street",
    task="semantic",
    classes=(ClassInfo("sky", False), ClassInfo("car", True)),
    id_map={"70,130,180": 0, "#fa3253": 1},
    void_ids=frozenset({"0,0,0"}),
)
MAP = np.array([[SKY, SKY, CAR], [VOID, CAR, CAR]], np.uint8)
SEGMENTS = [[0, 0, 1], [-1, 1, 1]]
LABEL_MAP = (
    "# label:color_rgb:parts:actions\nbackground:0,0,0::\nsky:70,130,180::\ncar:250,50,83::\n"
)
NAMED = replace(SPEC, id_map={"sky": 0, "Car": 1}, void_ids=frozenset({"background"}))


@pytest.fixture
def folders(tmp_path):
    save(tmp_path / "images/a.png", np.zeros((2, 3, 3), np.uint8))
    save(tmp_path / "maps/a.png", MAP)
    (tmp_path / "labelmap.txt").write_text(LABEL_MAP)
    return {"images": tmp_path / "images", "annotations": tmp_path / "maps"}


def test_colors_as_ids(folders):
    dataset = read_image_png(SPEC, **folders)
    sample = pickle.loads(pickle.dumps(dataset))[0]
    assert sample.annotation.segment_map.tolist() == SEGMENTS
    assert sample.annotation.class_labels.tolist() == [0, 1]
    assert (dataset.problems, dataset.notes, sample.remarks) == ([], [], ())


@pytest.mark.parametrize("form", ["RGBA", "P", "P of doubled colors"])
def test_alpha_and_palettes(folders, form):
    image = Image.fromarray(MAP)
    if form == "RGBA":
        image.putalpha(Image.fromarray(np.array([[0, 255, 9], [1, 2, 3]], np.uint8)))
    elif form == "P":
        image = image.quantize(16)
    else:
        image = Image.fromarray(np.array([[0, 1, 2], [3, 4, 2]], np.uint8)).convert("P")
        image.putdata([0, 1, 2, 3, 4, 2])
        image.putpalette([*SKY, *SKY, *CAR, *VOID, *CAR])
    image.save(folders["annotations"] / "a.png")
    assert read_image_png(SPEC, **folders)[0].annotation.segment_map.tolist() == SEGMENTS


def test_black_and_white_maps_are_colors_too(folders):
    save(folders["annotations"] / "a.png", np.array([[0, 0, 255], [255, 255, 255]], np.uint8))
    spec = replace(SPEC, id_map={"0,0,0": 0, "255,255,255": 1}, void_ids=frozenset())
    assert read_image_png(spec, **folders)[0].annotation.segment_map.tolist() == [
        [0, 0, 1],
        [1, 1, 1],
    ]


def test_ids_by_the_names_of_a_label_map(folders, tmp_path):
    for colors in (
        tmp_path / "labelmap.txt",
        {"background": VOID, "sky": "70,130,180", "car": "#FA3253"},
    ):
        dataset = read_image_png(NAMED, **folders, colors=colors)
        assert dataset[0].annotation.segment_map.tolist() == SEGMENTS
        assert dataset.notes == []


def test_names_that_contradict_the_spec(folders, tmp_path):
    stated = read_image_png(SPEC, **folders, colors=tmp_path / "labelmap.txt").stated_names
    assert stated == {"70,130,180": "sky", "#fa3253": "car", "0,0,0": "background"}
    assert name_contradictions(SPEC, stated) == []
    (tmp_path / "labelmap.txt").write_text(
        LABEL_MAP.replace("sky", "x").replace("car", "sky").replace("x", "car")
    )
    stated = read_image_png(SPEC, **folders, colors=tmp_path / "labelmap.txt").stated_names
    assert name_contradictions(SPEC, stated) == [
        "'70,130,180' is 'sky' in the spec and 'car' in the files",
        "'#fa3253' is 'car' in the spec and 'sky' in the files",
    ]


def test_a_class_that_no_color_can_be(folders, tmp_path):
    spec = replace(
        NAMED,
        classes=(*NAMED.classes, ClassInfo("tree", False)),
        id_map={**NAMED.id_map, "tree": 2},
    )
    (note,) = read_image_png(spec, **folders, colors=tmp_path / "labelmap.txt").notes
    assert note.startswith(
        "ids ['tree'] of the spec are neither numbers nor colors, and no label file names them"
    )


def test_unknown_colors_are_counted(folders, tmp_path):
    folders["colors"] = tmp_path / "labelmap.txt"
    unknown = MAP.copy()
    unknown[0, :2] = (0, 200, 0)
    unknown[1, 1] = (9, 9, 200)
    save(folders["annotations"] / "a.png", unknown)
    with pytest.raises(
        UnknownIdsError, match=r"maps/a\.png: 2 category ids .*'0,200,0' \(2 pixels\), '9,9,200'"
    ) as caught:
        read_image_png(NAMED, **folders)[0]
    assert caught.value.counts == {"0,200,0": 2, "9,9,200": 1}

    sample = read_image_png(replace(NAMED, unknown_ids="void"), **folders)[0]
    assert sample.annotation.segment_map.tolist() == [[-1, -1, 0], [-1, -1, 0]]
    assert "'0,200,0' (2 pixels)" in sample.remarks[0]

    without_sky = replace(NAMED, id_map={"car": 1})
    save(folders["annotations"] / "a.png", MAP)
    # by the name in the label map
    with pytest.raises(UnknownIdsError, match=r"'sky' \(2 pixels\)"):
        read_image_png(without_sky, **folders)[0]


def test_smoothed_maps_are_named_as_such(tmp_path):
    large = np.zeros((40, 40, 3), np.uint8)
    large[:, 20:] = CAR
    save(tmp_path / "images/a.png", large)
    smoothed = Image.fromarray(large).filter(ImageFilter.GaussianBlur(2))
    (tmp_path / "maps").mkdir()
    smoothed.save(tmp_path / "maps/a.png")
    with pytest.raises(
        BadSampleError, match=r"a\.png: colors that .* know: 10, in 400 pixels, such as .* beside"
    ):
        read_image_png(SPEC, tmp_path / "images", tmp_path / "maps")[0]


def test_a_color_that_differs_by_one_is_not_guessed(folders):
    near = MAP.copy()
    near[0, 2] = (251, 50, 83)
    save(folders["annotations"] / "a.png", near)
    with pytest.raises(
        BadSampleError, match=r"know: 1, in 1 pixels, such as 251,50,83 beside 250,50,83; smoothing"
    ):
        read_image_png(SPEC, **folders)[0]


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (MAP, {"format": "JPEG"}, r"a\.png: JPEG changes ids"),
        (
            np.zeros((2, 3), np.uint16),
            {},
            r"a\.png: expected colors \(RGB or a palette\), not I;16",
        ),
        (MAP[:1].repeat(3, axis=0), {}, r"images/a\.png is 2 x 3 .*maps/a\.png is 3 x 3"),
    ],
)
def test_broken_maps(folders, array, options, message):
    save(folders["annotations"] / "a.png", array, **options)
    with pytest.raises(BadSampleError, match=message):
        read_image_png(SPEC, **folders)[0]


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        ({0: 0, "1,2,3": 1}, {}, r"'street': ids \[0\] are numbers, but the maps hold colors"),
        ({"1,2,3": 0, "#010203": 1}, {}, r"ids '1,2,3' and '#010203' are one color"),
        ({"1,2,300": 0}, {}, r"color '1,2,300': red, green and blue lie in 0\.\.255"),
        (
            {"sky": 0},
            {"colors": {"sky": "blue"}},
            r"colors: 'sky': 'blue' is no color; write it '250,50,83'",
        ),
        ({"sky": 0}, {"colors": {"sky": [1, 2]}}, r"colors: 'sky': \[1, 2\] is no color"),
        (
            {"sky": 0},
            {"colors": {"sky": "1,2,3", "car": "1,2,3"}},
            r"1,2,3 belongs to 'sky' and to 'car'",
        ),
        ({"sky": 0}, {"colors": {}}, r"colors: names no color"),
        ({"sky": 0}, {"colors": 7}, r"colors: expected the path of a label map or a mapping"),
        (
            {"1,2,3": 0},
            {"label_file": "x.csv"},
            r"label_file: names numbers, but the classes are colors",
        ),
    ],
)
def test_settings_that_cannot_be(folders, ids, options, message):
    spec = replace(SPEC, id_map=ids, void_ids=frozenset())
    with pytest.raises(ValueError, match=message):
        read_image_png(spec, **folders, **options)


def test_how_colors_are_written():
    assert [
        parse_color(value) for value in ("1,2,3", " ( 1, 2 ,3 ) ", "[1,2,3]", "#010203", [1, 2, 3])
    ] == [197121] * 5
    assert [
        parse_color(value)
        for value in ("1,2", "car", "#12345", 7, None, [1, 2], [1, 2, True], "1,2,3,4")
    ] == [None] * 8
    assert color_text(197121) == "1,2,3"


@pytest.mark.parametrize(
    "text",
    [
        LABEL_MAP,
        "\ufeff" + LABEL_MAP.replace("\n", "\r\n"),
        "0 0 0 background\n70 130 180\tsky\n250  50 83 car\n",
        "name,r,g,b\nbackground,0,0,0\nsky, 70, 130, 180\ncar,250,50,83",
    ],
)
def test_forms_of_label_maps(tmp_path, text):
    path = tmp_path / "labels.txt"
    path.write_bytes(text.encode())
    assert {color_text(color): name for color, name in read_label_map(path).items()} == {
        "0,0,0": "background", "70,130,180": "sky", "250,50,83": "car"
    }  # fmt: skip


def test_label_maps_without_colors(tmp_path):
    path = tmp_path / "labelmap.txt"
    path.write_text("# label:color_rgb:parts:actions\ncar:1,2,3::\nroad:::\n")
    with pytest.raises(
        ValueError, match=r"labelmap\.txt, line 3: 'road:::' is no class with its color"
    ):
        read_label_map(path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt: missing, the label map"):
        read_label_map(tmp_path / "nowhere.txt")


def test_files_of_the_exporter_that_cvat_uses_from_settings_alone():
    root = SAMPLES / "voc_masks/colors"
    classes = [
        ClassSettings(name="road"),
        ClassSettings(name="car", thing=True),
        ClassSettings(name="person", ids=["51,221,255"], thing=True),
    ]
    source = Source(
        spec=SpecSettings(task="semantic", classes=classes, void_ids=["background"]),
        reader="image_png",
        images=str(root / "JPEGImages"),
        annotations=str(root / "SegmentationClass"),
        options={
            "colors": str(root / "labelmap.txt"),
            "split_file": str(root / "ImageSets/Segmentation/train.txt"),
        },
    )
    data = load_source(source, "datasets.mine")
    assert data.stated_names == {"51,221,255": "person"}
    expected = np.full((24, 32), -1)
    expected[12:] = 0
    expected[10:20, 2:12] = expected[8:18, 8:20] = 1
    expected[4:16, 26:30] = 2
    np.testing.assert_array_equal(data[0].annotation.segment_map, expected)
