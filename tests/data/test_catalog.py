import csv
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from dataseg_hf.data.catalog import (
    ADE20K_PANOPTIC,
    ADE20K_SEMANTIC,
    CAMVID,
    CATALOG,
    CITYSCAPES_GTFINE_PANOPTIC,
    CITYSCAPES_INSTANCES,
    CITYSCAPES_PANOPTIC,
    CITYSCAPES_SEMANTIC,
    COCO_BOXES,
    COCO_INSTANCES,
    COCO_PANOPTIC,
    COCO_SEMANTIC,
    MAPILLARY_VISTAS_PANOPTIC,
    MAPILLARY_VISTAS_SEMANTIC,
    OBJECTS365_BOXES,
    OBJECTS365_INSTANCES,
    PASCAL_CONTEXT,
    PASCAL_CONTEXT_DETAIL,
    PASCAL_VOC_BOXES,
    PASCAL_VOC_INSTANCES,
    PASCAL_VOC_SEMANTIC,
)
from dataseg_hf.data.sample import DatasetSpec, RawId
from helpers.paths import ROOT

DOCS = ROOT / "docs" / "catalog.md"


@pytest.fixture(scope="module")
def data() -> Path:
    if "DATASEG_DATA" not in os.environ:
        pytest.skip("DATASEG_DATA is not set")
    return Path(os.environ["DATASEG_DATA"])


@pytest.fixture(scope="module")
def row_names(data) -> dict[str, list[str]]:
    """Names of the rows of published text embeddings, as their authors wrote them."""
    return json.loads((data / "clip_text/row_names.json").read_text())


def name_by_id(spec: DatasetSpec) -> dict[RawId, str]:
    return {raw_id: spec.labels[index] for raw_id, index in spec.id_map.items()}


def numbered(names: str, start: int = 1) -> dict[int, str]:
    """Ids in a row to the names of a comma-separated list."""
    return dict(enumerate((name.strip() for name in names.split(",")), start=start))


# --- every spec

ALL_SPECS = pytest.mark.parametrize("spec", CATALOG.values(), ids=CATALOG.keys())


@ALL_SPECS
def test_every_spec_is_consistent(spec):
    assert CATALOG[spec.name] is spec
    assert sorted(spec.id_map.values()) == list(range(len(spec.classes)))
    assert not spec.void_ids & spec.id_map.keys()
    assert len(set(spec.labels)) == len(spec.labels)
    assert spec.license != "unknown"
    assert spec.homepage.startswith("http")
    assert pickle.loads(pickle.dumps(spec)) == spec


@ALL_SPECS
def test_names_are_words_that_a_text_encoder_can_read(spec):
    for label in spec.labels:
        assert label == " ".join(label.lower().split())
        assert label == "formula 1" or label.replace(" ", "").isalpha()


TASKS_AND_READERS = {
    "coco_panoptic": ("panoptic", "coco_panoptic"),
    "coco_semantic": ("semantic", "image_png"),
    "coco_instances": ("instance", "coco_instances"),
    "coco_boxes": ("boxes", "coco_instances"),
    "ade20k_semantic": ("semantic", "image_png"),
    "ade20k_panoptic": ("panoptic", "coco_panoptic"),
    "objects365_boxes": ("boxes", "coco_instances"),
    "objects365_instances": ("instance", "coco_instances"),
    "cityscapes_semantic": ("semantic", "image_png"),
    "cityscapes_panoptic": ("panoptic", "coco_panoptic"),
    "cityscapes_gtfine_panoptic": ("panoptic", "instance_map"),
    "cityscapes_instances": ("instance", "instance_map"),
    "mapillary_vistas_semantic": ("semantic", "image_png"),
    "mapillary_vistas_panoptic": ("panoptic", "instance_map"),
    "pascal_voc_semantic": ("semantic", "image_png"),
    "pascal_voc_instances": ("instance", "instance_map"),
    "pascal_voc_boxes": ("boxes", "pascal_voc"),
    "pascal_context": ("semantic", "image_png"),
    "pascal_context_detail": ("semantic", "image_png"),
    "camvid": ("semantic", "image_png"),
}


def test_tasks_and_readers():
    assert {name: (spec.task, spec.reader) for name, spec in CATALOG.items()} == TASKS_AND_READERS


CLASSES_AND_THINGS = {
    "coco_panoptic": (133, 80),
    "coco_semantic": (133, 80),
    "coco_instances": (80, 80),
    "coco_boxes": (80, 80),
    "ade20k_semantic": (150, 100),
    "ade20k_panoptic": (150, 100),
    "objects365_boxes": (365, 365),
    "objects365_instances": (365, 365),
    "cityscapes_semantic": (19, 8),
    "cityscapes_panoptic": (19, 8),
    "cityscapes_gtfine_panoptic": (19, 8),
    "cityscapes_instances": (8, 8),
    "mapillary_vistas_semantic": (65, 37),
    "mapillary_vistas_panoptic": (65, 37),
    "pascal_voc_semantic": (20, 20),
    "pascal_voc_instances": (20, 20),
    "pascal_voc_boxes": (20, 20),
    "pascal_context": (59, 20),
    "pascal_context_detail": (59, 20),
    "camvid": (11, 3),
}


def test_counts():
    assert {
        name: (len(spec.classes), sum(spec.is_thing)) for name, spec in CATALOG.items()
    } == CLASSES_AND_THINGS


# --- COCO


def readable(official: str) -> set[str]:
    """The words of an official COCO category name without its marks of the label merging."""
    words = official.replace("playingfield", "playing field").replace("-", " ").split()
    return set(words) - {"merged", "other", "stuff"}


def test_coco_ids_and_things_are_the_official_ones(data):
    categories = json.loads((data / "panopticapi_sample/panoptic_coco_categories.json").read_text())
    for spec in (COCO_PANOPTIC, COCO_SEMANTIC):
        assert spec.id_map == {category["id"]: i for i, category in enumerate(categories)}
        assert spec.is_thing == [bool(category["isthing"]) for category in categories]
    assert [set(name.split()) for name in COCO_PANOPTIC.labels] == [
        readable(c["name"]) for c in categories
    ]

    instances = json.loads((data / "coco128/instances_train2017_first128.json").read_text())[
        "categories"
    ]
    for spec in (COCO_INSTANCES, COCO_BOXES):
        assert spec.labels == [category["name"] for category in instances]
        assert spec.id_map == {category["id"]: i for i, category in enumerate(instances)}


def test_coco_void():
    assert COCO_SEMANTIC.void_ids == {0}
    assert not COCO_PANOPTIC.void_ids | COCO_INSTANCES.void_ids | COCO_BOXES.void_ids


def test_coco_class_order_is_that_of_the_stored_text_embeddings(data, row_names):
    assert [set(name.split()) for name in COCO_PANOPTIC.labels] == [
        readable(row) for row in row_names["coco133"]
    ]
    assert row_names["coco80"] == COCO_INSTANCES.labels
    embeddings = np.load(data / "clip_text/openai_vitb16/coco_panoptic_clip_hand_craft_ViTB16.npy")
    assert len(embeddings) == len(COCO_PANOPTIC.classes)


# --- ADE20K

# Column "SceneParse150" of the instance challenge's mapping, as Mask2Former's
# ade20k_instance_catid_mapping.txt has it.
ADE20K_THING_IDS = """
    8 9 11 13 15 16 19 20 21 23 24 25 28 31 32 33 34 36 37 38 39 40 42 43 44 45 46 48 50 51 54 56 57 58 59 63 65 66 67
    68 70 71 72 73 74 75 76 77 79 81 82 83 84 86 87 88 89 90 91 93 94 96 98 99 103 104 105 108 109 111 112 113 116 117
    119 120 121 122 124 125 126 127 128 130 131 133 134 135 136 137 138 139 140 143 144 145 147 148 149 150
"""


def test_ade20k_names_are_the_first_official_synonyms(data, row_names):
    lines = (data / "ade20k_sample/objectInfo150.txt").read_text().splitlines()[1:]
    official = {}
    for line in lines:
        raw_id, _, _, _, names = line.split("\t")
        official[int(raw_id)] = names.split(",")[0].strip()
    assert name_by_id(ADE20K_SEMANTIC) == official
    assert name_by_id(ADE20K_PANOPTIC) == {raw_id - 1: name for raw_id, name in official.items()}
    assert ADE20K_SEMANTIC.labels == row_names["ade150"]


def test_ade20k_ids_without_data():
    assert ADE20K_SEMANTIC.id_map == {raw_id: raw_id - 1 for raw_id in range(1, 151)}
    assert ADE20K_SEMANTIC.void_ids == {0}
    assert ADE20K_PANOPTIC.id_map == {raw_id: raw_id for raw_id in range(150)}
    assert not ADE20K_PANOPTIC.void_ids
    assert [ADE20K_SEMANTIC.labels[i - 1] for i in (1, 13, 21, 150)] == [
        "wall",
        "person",
        "car",
        "flag",
    ]


def test_ade20k_things_are_the_classes_of_the_instance_challenge():
    things = {int(raw_id) for raw_id in ADE20K_THING_IDS.split()}
    for spec, first_id in ((ADE20K_SEMANTIC, 1), (ADE20K_PANOPTIC, 0)):
        flagged = {
            raw_id - first_id + 1
            for raw_id, index in spec.id_map.items()
            if spec.classes[index].is_thing
        }
        assert flagged == things


# --- Objects365

OBJECTS365_COMPLETED = {
    "trash bin can": "trash can",
    "canned": "can",
    "tennis": "tennis ball",
    "french": "french horn",
    # slips of the corrected list itself
    "ballon": "balloon",
    "billards": "billiards",
    "noddles": "noodles",
}


def test_objects365_names_are_the_official_ones_with_their_spelling_corrected(data):
    with (data / "clip_text/openai_vitb32_detic/Objects365_names_fix.csv").open() as file:
        corrected = {int(raw_id): name for raw_id, _, name in csv.reader(file)}
    words = {
        raw_id: " ".join(name.lower().replace("/", " or ").split())
        for raw_id, name in corrected.items()
    }
    expected = {raw_id: OBJECTS365_COMPLETED.get(name, name) for raw_id, name in words.items()}
    assert name_by_id(OBJECTS365_BOXES) == expected
    assert name_by_id(OBJECTS365_INSTANCES) == expected


def test_objects365_ids_without_data():
    """Some ids by hand, among them completed names and those that one could mistake for each
    other.
    """
    for spec in (OBJECTS365_BOXES, OBJECTS365_INSTANCES):
        assert spec.id_map == {raw_id: raw_id - 1 for raw_id in range(1, 366)}
        assert not spec.void_ids
        names = name_by_id(spec)
        assert [names[i] for i in (1, 38, 211, 298, 340, 358, 365)] == [
            "person",
            "monitor or tv",
            "tennis ball",
            "board eraser",
            "french horn",
            "eraser",
            "table tennis",
        ]


@pytest.mark.parametrize(
    "spec", [OBJECTS365_BOXES, OBJECTS365_INSTANCES], ids=lambda spec: spec.name
)
def test_objects365_listed_names_become_paths_in_the_unpacked_archives(spec):
    pattern, replacement = spec.reader_options["file_name_pattern"]
    for listed, on_disk in {
        "images/v1/patch4/objects365_v1_00215264.jpg": "patch4/objects365_v1_00215264.jpg",
        "images/v2/patch16/objects365_v2_00908726.jpg": "patch16/objects365_v2_00908726.jpg",
        "patch4/objects365_v1_00215264.jpg": "patch4/objects365_v1_00215264.jpg",
    }.items():
        assert re.sub(pattern, replacement, listed) == on_disk


# --- Cityscapes

# (label id, train id) of cityscapesscripts/helpers/labels.py where the train id is not 255
CITYSCAPES_TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10,
    24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip


def test_cityscapes_ids_are_those_of_labels_py():
    for spec in (CITYSCAPES_SEMANTIC, CITYSCAPES_PANOPTIC):
        assert spec.id_map == CITYSCAPES_TRAIN_IDS
    assert CITYSCAPES_SEMANTIC.void_ids == {0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30}
    assert CITYSCAPES_SEMANTIC.id_map.keys() | CITYSCAPES_SEMANTIC.void_ids == set(range(34)), (
        "every label id"
    )
    assert not CITYSCAPES_PANOPTIC.void_ids, "its json lists evaluated categories alone"


def test_cityscapes_maps_of_instances_know_every_label_id():
    for spec in (CITYSCAPES_GTFINE_PANOPTIC, CITYSCAPES_INSTANCES):
        assert spec.id_map.keys() | spec.void_ids == set(range(34))
        assert spec.reader_options["divisor"] == 1000
    things = {raw_id: index - 11 for raw_id, index in CITYSCAPES_TRAIN_IDS.items() if index >= 11}
    assert CITYSCAPES_INSTANCES.id_map == things


def test_cityscapes_names_and_things(row_names):
    for spec in (CITYSCAPES_SEMANTIC, CITYSCAPES_PANOPTIC):
        assert spec.labels == row_names["cityscapes19"]


def test_cityscapes_things_are_people_and_vehicles():
    for spec in (CITYSCAPES_SEMANTIC, CITYSCAPES_PANOPTIC):
        assert [c.name for c in spec.classes if c.is_thing] == [
            "person",
            "rider",
            "car",
            "truck",
            "bus",
            "train",
            "motorcycle",
            "bicycle",
        ]


def test_cityscapes_files():
    """Names on disk are those of the archives leftImg8bit and gtFine; createPanopticImgs.py builds
    the listed ones.
    """
    image, annotation = (
        "aachen_000000_000019_leftImg8bit.png",
        "aachen_000000_000019_gtFine_labelIds.png",
    )
    options = CITYSCAPES_SEMANTIC.reader_options
    assert image.removesuffix(options["image_suffix"]) == annotation.removesuffix(
        options["annotation_suffix"]
    )
    assert image.removesuffix(options["image_suffix"]) == "aachen_000000_000019"

    listed = "aachen_000000_000019_gtFine_instanceIds.png".replace(
        "_instanceIds.png", "_leftImg8bit.png"
    )
    pattern, replacement = CITYSCAPES_PANOPTIC.reader_options["file_name_pattern"]
    assert re.sub(pattern, replacement, listed) == f"aachen/{image}"


# --- Mapillary Vistas


def test_mapillary_vistas_ids():
    """Ids of config_v1.2.json by hand, the first, the last and those that its things and stuff
    border on.
    """
    for spec in (MAPILLARY_VISTAS_SEMANTIC, MAPILLARY_VISTAS_PANOPTIC):
        names = name_by_id(spec)
        assert [names[i] for i in (0, 8, 13, 17, 19, 24, 27, 43, 45, 54, 55, 58, 64)] == [
            "bird",
            "crosswalk plain",
            "road",
            "building",
            "person",
            "lane marking general",
            "sky",
            "pothole",
            "pole",
            "bus",
            "car",
            "on rails",
            "ego vehicle",
        ]
        assert spec.void_ids == {65}
        stuff = [
            name for name, is_thing in zip(spec.labels, spec.is_thing, strict=True) if not is_thing
        ]
        assert stuff[-4:] == ["pothole", "on rails", "car mount", "ego vehicle"]
    assert MAPILLARY_VISTAS_PANOPTIC.reader_options == {"divisor": 256, "crowd": "none"}


# --- PASCAL

VOC = numbered(
    "aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, "
    "motorbike, person, "
    "pottedplant, sheep, sofa, train, tvmonitor"
)  # the order of VOCinit.m
CONTEXT = numbered(
    "aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, table, dog, horse, "
    "motorbike, person, "
    "pottedplant, sheep, sofa, train, tvmonitor, bag, bed, bench, book, building, cabinet, "
    "ceiling, cloth, computer, "
    "cup, door, fence, floor, flower, food, grass, ground, keyboard, light, mountain, mouse, "
    "curtain, platform, sign, "
    "plate, road, rock, shelves, sidewalk, sky, snow, bedclothes, track, tree, truck, wall, water, "
    "window, wood"
)  # 59_labels.txt
CONTEXT_OF_DETAIL = numbered(
    "aeroplane, bag, bed, bedclothes, bench, bicycle, bird, boat, book, bottle, building, bus, "
    "cabinet, car, cat, "
    "ceiling, chair, cloth, computer, cow, cup, curtain, dog, door, fence, floor, flower, food, "
    "grass, ground, horse, "
    "keyboard, light, motorbike, mountain, mouse, person, plate, platform, pottedplant, road, "
    "rock, sheep, shelves, "
    "sidewalk, sign, sky, snow, sofa, table, track, train, tree, truck, tvmonitor, wall, water, "
    "window, wood"
)  # PascalContextDataset59 of MMSegmentation
READABLE = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}


def in_words(names: dict[int, str]) -> dict[int, str]:
    return {raw_id: READABLE.get(name, name) for raw_id, name in names.items()}


def test_pascal_voc_ids_and_names():
    assert name_by_id(PASCAL_VOC_SEMANTIC) == in_words(VOC)
    assert PASCAL_VOC_SEMANTIC.void_ids == {0, 255}
    assert PASCAL_VOC_INSTANCES.id_map == PASCAL_VOC_SEMANTIC.id_map
    assert PASCAL_VOC_INSTANCES.void_ids == PASCAL_VOC_SEMANTIC.void_ids
    assert name_by_id(PASCAL_VOC_BOXES) == {word: READABLE.get(word, word) for word in VOC.values()}
    assert not PASCAL_VOC_BOXES.void_ids
    assert PASCAL_VOC_BOXES.labels == PASCAL_VOC_SEMANTIC.labels


def test_pascal_context_ids_and_names():
    assert name_by_id(PASCAL_CONTEXT) == in_words(CONTEXT)
    assert name_by_id(PASCAL_CONTEXT_DETAIL) == in_words(CONTEXT_OF_DETAIL)
    assert PASCAL_CONTEXT.void_ids == PASCAL_CONTEXT_DETAIL.void_ids == {0}
    assert PASCAL_CONTEXT.classes == PASCAL_CONTEXT_DETAIL.classes
    assert {c.name for c in PASCAL_CONTEXT.classes if c.is_thing} == {
        "table" if name == "dining table" else name for name in in_words(VOC).values()
    }


def test_pascal_names_are_those_of_the_stored_text_embeddings(row_names):
    assert [READABLE.get(row, row) for row in row_names["voc20"]] == PASCAL_VOC_SEMANTIC.labels
    names = {
        "table" if row == "diningtable" else READABLE.get(row, row)
        for row in row_names["context59"]
    }
    assert names == set(PASCAL_CONTEXT.labels)


# --- CamVid


def test_camvid():
    assert name_by_id(CAMVID) == numbered(
        "sky, building, pole, road, pavement, tree, sign symbol, fence, car, pedestrian, bicyclist",
        start=0,
    )
    assert CAMVID.void_ids == {11}
    assert [c.name for c in CAMVID.classes if c.is_thing] == ["car", "pedestrian", "bicyclist"]
    assert CAMVID.reader_options == {"image_suffix": ".png"}


# --- the table in the docs


def ranges(raw_ids: frozenset[RawId] | set[RawId]) -> str:
    """Numbers as "1-11, 13", words as "words"."""
    numbers = sorted(raw_id for raw_id in raw_ids if isinstance(raw_id, int))
    if len(numbers) < len(raw_ids):
        return "words"
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return (
        ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs) or "-"
    )


def table_row(spec: DatasetSpec) -> str:
    cells = [
        f"`{spec.name}`",
        spec.task,
        str(len(spec.classes)),
        str(sum(spec.is_thing)),
        f"`{spec.reader}`",
        ranges(set(spec.id_map)),
        ranges(spec.void_ids),
        spec.license,
        f"<{spec.homepage}>",
    ]
    return f"| {' | '.join(cells)} |"


def test_the_table_in_the_docs_is_that_of_the_catalog():
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert rows == [table_row(spec) for spec in CATALOG.values()]
