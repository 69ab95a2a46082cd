import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dataseg_hf.data.catalog import (
    CITYSCAPES_INSTANCES,
    CITYSCAPES_PANOPTIC,
    MAPILLARY_VISTAS_PANOPTIC,
    PASCAL_VOC_INSTANCES,
)
from dataseg_hf.data.name_checks import name_contradictions
from dataseg_hf.data.readers.coco_panoptic import read_coco_panoptic
from dataseg_hf.data.readers.instance_map import read_instance_map
from dataseg_hf.data.sample import BadSampleError, ClassInfo, DatasetSpec, UnknownIdsError
from dataseg_hf.data.sample_faults import sample_faults
from dataseg_hf.errors import ConfigError
from dataseg_hf.settings.datasets import load_source
from dataseg_hf.settings.entries import ClassSettings, Source, SpecSettings
from helpers.annotation_files import save
from helpers.paths import SAMPLES

PANOPTIC = DatasetSpec(
    name="street",
    task="panoptic",
    classes=(ClassInfo("road", False), ClassInfo("car", True)),
    id_map={7: 0, 26: 1},
    void_ids=frozenset({0}),
)
INSTANCE, BOXES, SEMANTIC = (
    replace(PANOPTIC, task=task) for task in ("instance", "boxes", "semantic")
)
DIVIDED = np.array([[7, 7, 26000, 26001], [7, 0, 26, 26001]])


def write(root, annotation, objects=None):
    """A data set of one image; arrays [H, W(, 3)]."""
    save(root / "images/a.png", np.zeros((*annotation.shape[:2], 3), np.uint8))
    save(root / "maps/a.png", annotation)
    folders = {"images": root / "images", "annotations": root / "maps"}
    if objects is not None:
        save(root / "objects/a.png", objects)
        folders["objects"] = root / "objects"
    return folders


def content(segments):
    """The parts of Segments as lists."""
    return segments.segment_map.tolist(), segments.class_labels.tolist(), segments.is_crowd.tolist()


# --- class * divisor + instance


def test_divisor_by_hand(tmp_path):
    dataset = read_instance_map(
        PANOPTIC, **write(tmp_path, DIVIDED.astype(np.uint16)), divisor=1000
    )
    sample = pickle.loads(pickle.dumps(dataset))[0]
    assert content(sample.annotation) == (
        [[0, 0, 1, 2], [0, -1, 3, 2]],
        [0, 1, 1, 1],
        [False, False, False, True],
    ), "stuff is one segment, things are one each, the class alone is a group of them"
    assert sample_faults(sample, PANOPTIC) == []


def test_tasks_by_hand(tmp_path):
    folders = write(tmp_path, DIVIDED.astype(np.uint16))
    objects = read_instance_map(INSTANCE, **folders, divisor=1000)[0].annotation
    assert objects.class_labels.tolist() == [1, 1, 1]
    assert objects.is_crowd.tolist() == [False, False, True]
    assert objects.boxes.tolist() == [[2, 0, 3, 1], [3, 0, 4, 2], [2, 1, 3, 2]]
    assert [mask.astype(int).tolist() for mask in objects.masks] == [
        [[0, 0, 1, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 1], [0, 0, 0, 1]],
        [[0, 0, 0, 0], [0, 0, 1, 0]],
    ]
    boxes = read_instance_map(BOXES, **folders, divisor=1000)[0].annotation
    assert boxes.masks is None
    np.testing.assert_array_equal(boxes.boxes, objects.boxes)
    semantic = read_instance_map(SEMANTIC, **folders, divisor=1000)[0].annotation
    assert content(semantic) == ([[0, 0, 1, 1], [0, -1, 1, 1]], [0, 1], [False, False])


def test_no_object_at_all(tmp_path):
    folders = write(tmp_path, np.full((2, 3), 7, np.uint16))
    objects = read_instance_map(INSTANCE, **folders, divisor=1000)[0].annotation
    assert objects.boxes.shape == (0, 4)
    assert objects.masks.shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("crowd", "segment_map", "is_crowd"),
    [
        ("instance_0", [[0, 0, 2, 1], [0, -1, -1, 1]], [False, False, True]),
        ("none", [[0, 0, 1, 2], [0, -1, -1, 2]], [False, False, False]),
    ],
)
def test_what_is_a_crowd(tmp_path, crowd, segment_map, is_crowd):
    """Class * 256 + instance of two cars, instance 0 and 1; 3 is instance 3 of class 0, which is
    void.
    """
    ids = np.array(
        [[7 * 256, 7 * 256 + 5, 26 * 256, 26 * 256 + 1], [7 * 256, 0, 3, 26 * 256 + 1]], np.uint16
    )
    dataset = read_instance_map(PANOPTIC, **write(tmp_path, ids), divisor=256, crowd=crowd)
    assert content(dataset[0].annotation) == (segment_map, [0, 1, 1], is_crowd)


def test_classes_that_are_not_called_things_have_objects_too_if_none_is(tmp_path):
    spec = replace(INSTANCE, classes=(ClassInfo("road", False), ClassInfo("car", False)))
    objects = read_instance_map(spec, **write(tmp_path, DIVIDED.astype(np.uint16)), divisor=1000)[
        0
    ].annotation
    assert objects.class_labels.tolist() == [1, 1]
    assert not objects.is_crowd.any()


def test_merged_classes_keep_their_objects_apart(tmp_path):
    spec = replace(PANOPTIC, id_map={7: 0, 26: 1, 27: 1})
    ids = np.array([[7, 26000, 27000], [7, 26, 27]], np.uint16)
    annotation = read_instance_map(spec, **write(tmp_path, ids), divisor=1000)[0].annotation
    assert content(annotation)[0] == [[0, 1, 2], [0, 3, 3]]


def test_unknown_classes(tmp_path):
    ids = np.array([[7, 28, 28004, 28005], [29001, 7, 7, 7]], np.uint16)
    folders = write(tmp_path, ids)
    with pytest.raises(
        UnknownIdsError,
        match=r"maps/a\.png: 2 category ids .*: 28 \(3 pixels\), 29 \(1 pixel\); add",
    ):
        read_instance_map(PANOPTIC, **folders, divisor=1000)[0]
    sample = read_instance_map(replace(PANOPTIC, unknown_ids="void"), **folders, divisor=1000)[0]
    assert sample.annotation.segment_map.tolist() == [[0, -1, -1, -1], [-1, 0, 0, 0]]
    assert "taken as void: 2 category ids" in sample.remarks[0]


# --- red is the class


def test_instance_channels_by_hand(tmp_path):
    pixels = [[(7, 0, 0), (26, 1, 0), (26, 1, 1)], [(7, 4, 0), (26, 0, 0), (0, 0, 0)]]
    folders = write(tmp_path, np.array(pixels, np.uint8))
    annotation = read_instance_map(PANOPTIC, **folders, instance_channels=True)[0].annotation
    assert content(annotation) == (
        [[0, 1, 2], [0, 3, -1]],
        [0, 1, 1, 1],
        [False, False, False, True],
    )
    annotation = read_instance_map(PANOPTIC, **folders, instance_channels=True, crowd="none")[
        0
    ].annotation
    assert not annotation.is_crowd.any()


# --- pairs

CLASSES = np.array([[7, 7, 26, 26], [7, 0, 26, 26]], np.uint8)
OBJECTS = np.array([[0, 3, 1, 2], [0, 0, 255, 0]], np.uint8)
PAIR = ([[0, 0, 1, 2], [0, -1, -1, 3]], [0, 1, 1, 1], [False, False, False, True])


def test_pair_by_hand(tmp_path):
    """Object 255 is the border, and a car without an object a group of cars; road is one
    segment.
    """
    annotation = read_instance_map(PANOPTIC, **write(tmp_path, CLASSES, OBJECTS))[0].annotation
    assert content(annotation) == PAIR


def test_pairs_of_palettes(tmp_path):
    folders = write(tmp_path, CLASSES, OBJECTS)
    for name in ("maps", "objects"):
        gray = Image.open(tmp_path / name / "a.png")
        palette = Image.new("P", gray.size)
        palette.putdata(list(np.asarray(gray).ravel().tolist()))
        palette.putpalette([0, 0, 0] * 256)  # all colors alike: indices count
        palette.save(tmp_path / name / "a.png")
    assert content(read_instance_map(PANOPTIC, **folders)[0].annotation) == PAIR


def test_more_than_255_objects(tmp_path):
    objects = np.array([[0, 0, 255, 300], [0, 0, 255, 300]], np.uint16)
    classes = np.where(CLASSES == 0, 7, CLASSES)
    annotation = read_instance_map(PANOPTIC, **write(tmp_path, classes, objects))[0].annotation
    assert content(annotation)[0] == [[0, 0, 1, 2], [0, 0, 1, 2]]


def test_pairs_of_colors(tmp_path):
    """As CVAT writes them: black is no object, and colors tell objects apart."""
    road, car = (128, 64, 128), (250, 50, 83)
    classes = np.array([[road, car, car], [(0, 0, 0), car, car]], np.uint8)
    objects = np.array(
        [[(128, 0, 0), (0, 128, 0), (0, 0, 128)], [(0, 0, 0), (0, 128, 0), (0, 0, 0)]], np.uint8
    )
    folders = write(tmp_path, classes, objects)
    spec = replace(PANOPTIC, id_map={"road": 0, "car": 1}, void_ids=frozenset({"background"}))
    colors = {"background": "0,0,0", "road": list(road), "car": "#fa3253"}
    annotation = read_instance_map(spec, **folders, colors=colors)[0].annotation
    assert content(annotation) == (
        [[0, 1, 2], [-1, 1, 3]],
        [0, 1, 1, 1],
        [False, False, False, True],
    )


def test_maps_that_disagree(tmp_path):
    objects = np.array([[1, 1, 1, 1], [2, 0, 2, 2]], np.uint8)
    folders = write(tmp_path, CLASSES, objects)
    with pytest.raises(
        BadSampleError,
        match=r"objects/a\.png: object 1 has pixels of 2 classes, 'road' \(2 pixels\) and 'car' "
        r"\(2 pixels\) "
        r"\(1 more objects, too\); the maps of classes and objects disagree: export both anew",
    ):
        read_instance_map(PANOPTIC, **folders)[0]
    merged = replace(PANOPTIC, id_map={7: 1, 26: 1})
    assert read_instance_map(merged, **folders)[0].annotation.class_labels.tolist() == [1, 1]


def test_void_pixels_of_an_object_are_void(tmp_path):
    objects = np.array([[0, 0, 1, 1], [0, 1, 1, 1]], np.uint8)
    annotation = read_instance_map(PANOPTIC, **write(tmp_path, CLASSES, objects))[0].annotation
    assert content(annotation)[0] == [[0, 0, 1, 1], [0, -1, 1, 1]]


def test_pairs_that_are_none(tmp_path):
    folders = write(tmp_path, CLASSES, OBJECTS[:1].repeat(3, axis=0))
    with pytest.raises(
        BadSampleError,
        match=r"objects/a\.png is 3 x 4 pixels .*maps/a\.png are 2 x 4; find the pair",
    ):
        read_instance_map(PANOPTIC, **folders)[0]
    (tmp_path / "objects/a.png").unlink()
    dataset = read_instance_map(PANOPTIC, **folders)
    (problem,) = map(str, dataset.problems)
    assert problem.startswith(
        f"{tmp_path}/objects/a.png: missing, the map of objects of {tmp_path}/images/a.png; add it"
    )
    assert len(dataset) == 0


def test_numbers_of_objects_that_are_none(tmp_path):
    folders = write(tmp_path, CLASSES, OBJECTS)
    (tmp_path / "objects/a.png").unlink()
    Image.fromarray(np.full((2, 4), 1 << 25, np.int32)).save(tmp_path / "objects/a.tif")
    (tmp_path / "maps/a.png").rename(tmp_path / "maps/a.tif")
    with pytest.raises(
        BadSampleError, match=r"numbers of objects lie in 0\.\.16777215, not 33554432\.\.33554432"
    ):
        read_instance_map(PANOPTIC, **folders, annotation_suffix=".tif")[0]


# --- settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"give exactly one of `objects` .*; 0 of them are given"),
        ({"divisor": 1000, "instance_channels": True}, r"2 of them are given"),
        ({"divisor": 256}, r"crowd: say what divisor 256 leaves open"),
        ({"divisor": 0}, r"divisor: 0 must be a whole number above 1"),
        ({"divisor": "1000"}, r"divisor: '1000' must be a whole number above 1"),
        ({"divisor": True}, r"divisor: True must be a whole number above 1"),
        (
            {"divisor": 1000, "crowd": "all"},
            r"crowd: 'all' is not allowed; choose from 'class_id', 'instance_0', 'none'",
        ),
        ({"divisor": 1000, "crowd": ["none"]}, r"crowd: \['none'\] is not allowed"),
        (
            {"instance_channels": True, "crowd": "class_id"},
            r"crowd: with `instance_channels` it is",
        ),
        ({"objects": ".", "crowd": "none"}, r"crowd: with `objects` it is 'instance_0'"),
        (
            {"divisor": 1000, "colors": {"car": "1,2,3"}},
            r"ids \[7, 26, 0\] are numbers, but the maps hold colors",
        ),
    ],
)
def test_settings_that_cannot_be(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        read_instance_map(PANOPTIC, **write(tmp_path, CLASSES), **options)


def test_colors_of_a_single_map(tmp_path):
    spec = replace(PANOPTIC, id_map={"1,2,3": 0}, void_ids=frozenset())
    with pytest.raises(ValueError, match="colors are classes with `objects` alone"):
        read_instance_map(spec, **write(tmp_path, CLASSES), divisor=1000)


# --- names of Mapillary Vistas

CONFIG = """{"labels": [
    {"name": "animal--bird", "readable": "Bird", "instances": true, "evaluate": true, "color": [165, 42, 42]},
    {"name": "construction--flat--bike-lane", "readable": "Bike Lane", "instances": false, "color": [128, 64, 255]},
    {"name": "void--unlabeled", "readable": "Unlabeled", "instances": false, "color": [0, 0, 0]}
], "version": "1.2"}"""


@pytest.mark.parametrize(
    "ids", [["bird", "bike lane"], ["Bird", "construction--flat--bike-lane"], [0, 1]]
)
def test_classes_by_the_names_of_a_config(tmp_path, ids):
    (tmp_path / "config_v1.2.json").write_text(CONFIG)
    spec = DatasetSpec(
        name="vistas",
        task="panoptic",
        classes=(ClassInfo("bird", True), ClassInfo("bike lane", False)),
        id_map=dict(zip(ids, range(2), strict=True)),
        void_ids=frozenset({"unlabeled"}),
    )
    folders = write(tmp_path, np.array([[0, 1, 1], [256, 257, 512]], np.uint16))
    dataset = read_instance_map(
        spec, **folders, divisor=256, crowd="none", label_file=tmp_path / "config_v1.2.json"
    )
    assert content(dataset[0].annotation) == ([[0, 1, 1], [2, 2, -1]], [0, 0, 1], [False] * 3)
    assert name_contradictions(spec, dataset.stated_names) == []
    assert dataset.stated_names == ({0: "Bird", 1: "Bike Lane"} if ids[0] == 0 else {})
    swapped = replace(spec, id_map={1: 0, 0: 1})
    stated = read_instance_map(
        swapped, **folders, divisor=256, crowd="none", label_file=tmp_path / "config_v1.2.json"
    ).stated_names
    assert name_contradictions(swapped, stated) == [
        "0 is 'bike lane' in the spec and 'Bird' in the files",
        "1 is 'bird' in the spec and 'Bike Lane' in the files",
    ]


def test_unknown_classes_are_named(tmp_path):
    (tmp_path / "config_v1.2.json").write_text(CONFIG)
    folders = write(tmp_path, np.array([[0, 1], [256, 257]], np.uint16))
    spec = replace(PANOPTIC, id_map={"bike lane": 0}, void_ids=frozenset())
    options = {"divisor": 256, "crowd": "none", "label_file": tmp_path / "config_v1.2.json"}
    with pytest.raises(
        UnknownIdsError, match=r"1 category id is not in the spec .*: 'Bird' \(2 pixels\)"
    ):
        read_instance_map(spec, **folders, **options)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config\.json: not valid JSON"),
        ("[" * 100_000, r"config\.json: not valid JSON"),
        ("[]", r"config\.json: expected a list `labels`"),
        ('{"labels": [1]}', r"config\.json: label 0: key 'readable' or 'name' is missing"),
    ],
)
def test_broken_configs(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_instance_map(
            PANOPTIC, **write(tmp_path, CLASSES), divisor=1000, label_file=tmp_path / "config.json"
        )


# --- files of the real tools


def test_cityscapes_instance_ids_are_what_its_own_panoptic_converter_makes_of_them():
    root = SAMPLES / "cityscapes"
    images = root / "leftImg8bit/train"
    converted = read_coco_panoptic(
        CITYSCAPES_PANOPTIC,
        images,
        root / "gtFine/cityscapes_panoptic_train",
        root / "gtFine/cityscapes_panoptic_train.json",
        **CITYSCAPES_PANOPTIC.reader_options,
    )
    dataset = load_source(
        Source(
            spec="cityscapes_gtfine_panoptic",
            images=str(images),
            annotations=str(root / "gtFine/train"),
        ),
        "datasets.x",
    )
    ours, theirs = dataset[0].annotation, converted[0].annotation
    assert dataset[0].image_id == "aachen/aachen_000000_000019"
    segments = {(c, crowd, (ours.segment_map == i).tobytes()) for i, (c, crowd) in enumerate(
        zip(ours.class_labels.tolist(), ours.is_crowd.tolist(), strict=True)
    )}  # fmt: skip
    assert segments == {
        (c, crowd, (theirs.segment_map == i).tobytes())
        for i, (c, crowd) in enumerate(
            zip(theirs.class_labels.tolist(), theirs.is_crowd.tolist(), strict=True)
        )
    }
    assert sum(ours.is_crowd.tolist()) == 2, "a group of cars and one of bicycles"


def test_cityscapes_instances():
    root = SAMPLES / "cityscapes"
    dataset = read_instance_map(
        CITYSCAPES_INSTANCES,
        root / "leftImg8bit/train",
        root / "gtFine/train",
        **CITYSCAPES_INSTANCES.reader_options,
    )
    objects = dataset[0].annotation
    names = [CITYSCAPES_INSTANCES.labels[label] for label in objects.class_labels]
    assert list(zip(names, objects.is_crowd.tolist(), strict=True)) == [
        ("person", False),
        ("rider", False),
        ("car", False),
        ("car", False),
        ("car", True),
        ("bicycle", True),
    ]
    assert objects.boxes[2].tolist() == [2, 14, 10, 20], (
        "cityscapesScripts says [2, 14, 8, 6] (x, y, width, height)"
    )
    assert objects.masks[2].sum() == 48


@pytest.mark.parametrize("form", ["colors", "ids"])
def test_pairs_of_the_exporter_that_cvat_uses(form):
    root = SAMPLES / "voc_masks" / form
    numbered = form == "ids"
    classes = [ClassSettings(name=name, thing=name != "road") for name in ("road", "car", "person")]
    options = {
        "objects": str(root / "SegmentationObject"),
        "split_file": str(root / "ImageSets/Segmentation/train.txt"),
    }
    options["label_file" if numbered else "colors"] = str(root / "labelmap.txt")
    source = Source(
        spec=SpecSettings(task="panoptic", classes=classes, void_ids=["background"]),
        reader="instance_map",
        images=str(root / "JPEGImages"),
        annotations=str(root / "SegmentationClass"),
        options=options,
    )
    data = load_source(source, "datasets.mine")
    annotation = data[0].annotation
    expected = np.full((24, 32), -1)
    expected[12:] = 0
    expected[10:20, 2:12] = 1
    expected[8:18, 8:20] = 2
    expected[4:16, 26:30] = 3
    assert annotation.class_labels.tolist() == [0, 1, 1, 2]
    order = [
        0,
        *(1 + np.argsort([np.argmax((annotation.segment_map == i).any(axis=0)) for i in (1, 2)])),
        3,
    ]
    np.testing.assert_array_equal(np.array([*order, -1])[expected], annotation.segment_map)
    assert data.notes == []


def test_catalogd_formats(tmp_path):
    """VOC and Mapillary, as their specs say, on maps by hand."""
    folders = write(
        tmp_path,
        np.array([[0, 255, 7], [0, 7, 7]], np.uint8),
        np.array([[0, 255, 1], [0, 2, 1]], np.uint8),
    )
    objects = read_instance_map(PASCAL_VOC_INSTANCES, **folders)[0].annotation
    assert objects.boxes.tolist() == [[2, 0, 3, 2], [1, 1, 2, 2]]
    assert [PASCAL_VOC_INSTANCES.labels[label] for label in objects.class_labels] == ["car", "car"]
    ids = np.array([[55 * 256, 55 * 256 + 1], [13 * 256, 65 * 256]], np.uint16)
    del folders["objects"]
    save(tmp_path / "images/a.png", np.zeros((2, 2, 3), np.uint8))
    save(tmp_path / "maps/a.png", ids)
    spec = MAPILLARY_VISTAS_PANOPTIC
    segments = read_instance_map(spec, **folders, **spec.reader_options)[0].annotation
    assert [spec.labels[label] for label in segments.class_labels] == ["road", "car", "car"]
    assert segments.segment_map.tolist() == [[1, 2], [0, -1]]


def test_a_spec_that_the_catalog_lacks_from_settings(tmp_path):
    folders = write(tmp_path, DIVIDED.astype(np.uint16))
    spec = SpecSettings(
        task="instance", classes=[ClassSettings(name="car", ids=[26], thing=True)], void_ids=[0, 7]
    )
    source = Source(
        spec=spec,
        reader="instance_map",
        images=str(folders["images"]),
        annotations=str(folders["annotations"]),
        options={"divisor": 1000},
    )
    assert load_source(source, "datasets.mine")[0].annotation.class_labels.tolist() == [0, 0, 0]
    with pytest.raises(
        ConfigError, match=r"datasets\.mine: crowd: say what divisor 100 leaves open"
    ):
        load_source(source.model_copy(update={"options": {"divisor": 100}}), "datasets.mine")
