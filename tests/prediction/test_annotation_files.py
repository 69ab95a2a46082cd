"""Predicted segments as annotation files, read back with the same pixels by readers and by the
tools' own rules.
"""

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_utils

from dataseg_hf.data.brush_rle import encode_brush
from dataseg_hf.data.readers.coco_instances import read_coco_instances
from dataseg_hf.data.readers.cvat_xml import read_cvat_xml
from dataseg_hf.data.readers.label_studio import read_label_studio
from dataseg_hf.data.readers.labelme import read_labelme
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, Instances, SampleDataset
from dataseg_hf.prediction.annotation_files import (
    ANNOTATION_FORMATS,
    AnnotatedImage,
    AnnotationStyle,
    AnnotationWriter,
    Category,
    Outlines,
)
from dataseg_hf.prediction.annotation_files.outlines import outline_polygons
from dataseg_hf.prediction.segments import cropped

Masks = list[NDArray[np.bool_]]

NAMES = ["cat", 'a & b <"c">', "Straße 道"]
CATEGORIES = [
    Category(number, name, number < 30) for number, name in zip((7, 12, 30), NAMES, strict=True)
]


def drawn(*rows: str) -> NDArray[np.bool_]:
    """A mask of its pixels, `#`."""
    return np.array([[pixel == "#" for pixel in row] for row in rows])


RING = drawn("####", "#..#", "####")
PARTS = drawn("##..", "##..", "...#")
DIAGONAL = drawn("#...", ".#..", "....")
PINCHED = drawn("##..", "#.#.", "###.")  # one part, and an outline that touches itself
FULL = np.ones((3, 4), dtype=bool)
DOT = drawn("....", "..#.", "....")
EVERY_KIND = [RING, PARTS, DIAGONAL, PINCHED, FULL, DOT]

masks_of_a_size = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


# --- outlines


def by_pycocotools(
    polygons: Sequence[Sequence[tuple[int, int]]], size: tuple[int, int]
) -> NDArray[np.bool_]:
    flat = [[float(value) for point in polygon for value in point] for polygon in polygons]
    return mask_utils.decode(mask_utils.merge(mask_utils.frPyObjects(flat, *size))).astype(bool)


@pytest.mark.parametrize(
    ("mask", "polygons"),
    [
        (DOT, [[(2, 1), (3, 1), (3, 2), (2, 2)]]),
        (FULL, [[(0, 0), (4, 0), (4, 3), (0, 3)]]),
        (PARTS, [[(0, 0), (2, 0), (2, 2), (0, 2)], [(3, 2), (4, 2), (4, 3), (3, 3)]]),
        (drawn("##.", ".#."), [[(0, 0), (2, 0), (2, 2), (1, 2), (1, 1), (0, 1)]]),
        (np.zeros((2, 2), dtype=bool), []),
        (RING, None),
        (DIAGONAL, None),
        (PINCHED, None),
    ],
)
def test_outlines_by_hand(
    mask: NDArray[np.bool_], polygons: list[list[tuple[int, int]]] | None
) -> None:
    assert outline_polygons(cropped(mask, 0, None)) == polygons


@given(masks_of_a_size)
def test_outlines_give_the_same_pixels(mask: NDArray[np.bool_]) -> None:
    polygons = outline_polygons(cropped(mask, 0, None))
    if polygons:
        assert np.array_equal(by_pycocotools(polygons, mask.shape), mask)


@given(masks_of_a_size)
def test_outlines_are_left_out_for_holes_and_touching_corners_only(mask: NDArray[np.bool_]) -> None:
    from scipy.ndimage import label

    wide = np.pad(mask, 1)
    a, b, c, d = wide[:-1, :-1], wide[:-1, 1:], wide[1:, :-1], wide[1:, 1:]
    touching = ((a & d & ~b & ~c) | (b & c & ~a & ~d)).any()
    holes = label(~wide, np.ones((3, 3)))[1] > 1
    polygons = outline_polygons(cropped(mask, 0, None))
    assert (polygons is None) == (touching or holes)
    if polygons is not None:
        assert len(polygons) == label(mask)[1]


# --- brush masks


def decode_brush(data: Sequence[int]) -> NDArray[np.uint8]:
    """By the rules of the decoder in label-studio-sdk 2.1 (`converter/brush.py`), whose results are
    below.
    """
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def number(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    size, word = number(32), number(5) + 1
    widths = [number(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < size:
        is_run = number(1)
        count = number(widths[number(2)]) + 1
        values += [number(word)] * count if is_run else [number(word) for _ in range(count)]
    return np.array(values, dtype=np.uint8)


@given(masks_of_a_size)
def test_brush_masks_are_decoded(mask: NDArray[np.bool_]) -> None:
    values = decode_brush(encode_brush(mask)).reshape(*mask.shape, 4)
    assert np.array_equal(values, np.repeat(mask[:, :, None], 4, axis=2) * 255)


def test_brush_masks_of_long_runs() -> None:
    mask = np.zeros((300, 400), dtype=bool)
    mask[100:290] = True
    values = decode_brush(encode_brush(mask)).reshape(300, 400, 4)
    assert np.array_equal(values[:, :, 3] == 255, mask)


# --- round trips


def written(
    folder: Path,
    images: Sequence[Masks],
    formats: Sequence[Any] = ANNOTATION_FORMATS,
    outlines: Outlines = "polygons",
    scores: bool = True,
) -> tuple[Path, Path]:
    """Folders of the images and of their annotation files; the k-th mask of an image is of category
    k modulo 3.
    """
    photos = folder / "photos"
    (photos / "sub").mkdir(parents=True)
    writer = AnnotationWriter(folder / "out", formats, AnnotationStyle(CATEGORIES, outlines))
    for index, masks in enumerate(images):
        file_name = f"sub/{index} é&.png"
        size = masks[0].shape
        Image.new("RGB", size[::-1]).save(photos / file_name)
        segments = [
            cropped(mask, number % 3, 0.25 + number / 100 if scores else None)
            for number, mask in enumerate(masks)
        ]
        writer.add(
            index,
            AnnotatedImage(
                index + 1, str(index), file_name, (size[0], size[1]), segments, photos / file_name
            ),
        )
    writer.finish()
    return photos, folder / "out"


def spec(words: bool) -> DatasetSpec:
    ids: Any = {c.name if words else c.id: number for number, c in enumerate(CATEGORIES)}
    return DatasetSpec("found", "instance", tuple(ClassInfo(name, True) for name in NAMES), ids)


def check_same(data: SampleDataset, images: Sequence[Masks]) -> None:
    assert [str(problem) for problem in data.problems] == []
    for sample, masks in zip(data, images, strict=True):
        assert isinstance(sample.annotation, Instances)
        found = sample.annotation.masks
        assert found is not None
        assert np.array_equal(found, np.array(masks))
        assert sample.annotation.class_labels.tolist() == [
            number % 3 for number in range(len(masks))
        ]
        assert not sample.annotation.is_crowd.any()


def read_coco(photos: Path, out: Path) -> SampleDataset:
    return read_coco_instances(
        spec(words=False), images=photos, annotation_file=out / "coco_instances.json"
    )


def read_labelme_files(photos: Path, out: Path) -> SampleDataset:
    return read_labelme(spec(words=True), annotations=out / "labelme", images=photos)


def read_cvat(photos: Path, out: Path) -> SampleDataset:
    return read_cvat_xml(spec(words=True), images=photos, annotation_file=out / "cvat.xml")


def read_pre_annotations(photos: Path, out: Path) -> SampleDataset:
    file = out / "label_studio.json"
    return read_label_studio(
        spec(words=True), images=photos, annotation_file=file, predictions=True
    )


READ_BACK = {
    "coco_instances": read_coco,
    "labelme": read_labelme_files,
    "cvat_xml": read_cvat,
    "label_studio": read_pre_annotations,
}


@st.composite
def images_of_masks(draw: st.DrawFn) -> list[Masks]:
    images = []
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.integers(2, 8)), draw(st.integers(2, 8))
        mask = hnp.arrays(bool, size).filter(lambda mask: bool(mask.any()))
        images.append(draw(st.lists(mask, min_size=1, max_size=4)))
    return images


@pytest.mark.parametrize("outlines", ["polygons", "masks"])
@pytest.mark.parametrize("name", READ_BACK)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(images=images_of_masks())
@example(images=[EVERY_KIND])
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, name: str, outlines: Outlines, images: list[Masks]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    check_same(READ_BACK[name](*written(folder, images, [name], outlines)), images)


# --- by hand, as the tools read them


def cvat_mask(shape: ElementTree.Element, size: tuple[int, int]) -> NDArray[np.bool_]:
    """CVAT's `load_anno` takes the run lengths of a mask, row by row, and the points of a polygon
    as they are.
    """
    if shape.tag == "polygon":
        points = [tuple(map(float, pair.split(","))) for pair in shape.attrib["points"].split(";")]
        return by_pycocotools([points], size)  # type: ignore[list-item]
    runs = list(map(int, shape.attrib["rle"].split(",")))
    left, top, width, height = (
        int(shape.attrib[key]) for key in ("left", "top", "width", "height")
    )
    mask = np.zeros(size, dtype=bool)
    window = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    mask[top : top + height, left : left + width] = window
    return mask


def region_mask(region: dict[str, Any]) -> NDArray[np.bool_]:
    size = region["original_height"], region["original_width"]
    if region["type"] == "brushlabels":
        return decode_brush(region["value"]["rle"]).reshape(*size, 4)[:, :, 3] > 128
    points = [(x / 100 * size[1], y / 100 * size[0]) for x, y in region["value"]["points"]]
    return by_pycocotools([points], size)  # type: ignore[list-item]


@pytest.mark.parametrize("outlines", ["polygons", "masks"])
@settings(max_examples=25, deadline=None)
@given(images=images_of_masks())
@example(images=[EVERY_KIND])
def test_cvat_and_label_studio_by_hand(
    tmp_path_factory: pytest.TempPathFactory, outlines: Outlines, images: list[Masks]
) -> None:
    _, out = written(
        tmp_path_factory.mktemp("hand"), images, ["cvat_xml", "label_studio"], outlines
    )
    in_cvat = ElementTree.parse(out / "cvat.xml").findall("image")
    tasks = json.loads((out / "label_studio.json").read_text())
    for element, task, masks in zip(in_cvat, tasks, images, strict=True):
        regions = task["predictions"][0]["result"]
        for number, (shape, region, mask) in enumerate(zip(element, regions, masks, strict=True)):
            assert np.array_equal(cvat_mask(shape, mask.shape), mask)
            assert np.array_equal(region_mask(region), mask)
            assert shape.attrib["label"] == region["value"][region["type"]][0] == NAMES[number % 3]


def test_what_the_files_say(tmp_path: Path) -> None:
    photos, out = written(tmp_path, [[DOT, RING, PARTS]])
    coco = json.loads((out / "coco_instances.json").read_text())
    assert coco["categories"][2] == {"id": 30, "name": "Straße 道", "isthing": 0}
    assert coco["images"] == [{"id": 1, "file_name": "sub/0 é&.png", "height": 3, "width": 4}]
    dot, ring, parts = coco["annotations"]
    assert dot == {
        "id": 1,
        "image_id": 1,
        "category_id": 7,
        "bbox": [2, 1, 1, 1],
        "area": 1,
        "iscrowd": 0,
        "score": 0.25,
        "segmentation": [[2, 1, 3, 1, 3, 2, 2, 2]],
    }
    assert ring["segmentation"] == {"size": [3, 4], "counts": [0, 4, 1, 2, 1, 4]}
    assert (ring["iscrowd"], ring["category_id"], len(parts["segmentation"])) == (0, 12, 2)

    labelme = json.loads((out / "labelme/0.json").read_text())
    assert (out / "labelme" / labelme["imagePath"]).samefile(photos / "sub/0 é&.png")
    assert [shape["shape_type"] for shape in labelme["shapes"]] == [
        "polygon",
        "mask",
        "polygon",
        "polygon",
    ]
    assert [shape["group_id"] for shape in labelme["shapes"]] == [None, None, 3, 3]
    assert [shape["score"] for shape in labelme["shapes"]] == [0.25, 0.26, 0.27, 0.27]
    assert labelme["shapes"][1]["points"] == [[0, 0], [3, 2]]

    cvat = ElementTree.parse(out / "cvat.xml")
    assert [name.text for name in cvat.iterfind("meta/task/labels/label/name")] == NAMES
    image = cvat.find("image")
    assert image is not None
    assert image.attrib == {"id": "0", "name": "sub/0 é&.png", "width": "4", "height": "3"}
    assert [shape.tag for shape in image] == ["polygon", "mask", "mask"]
    assert image[0].attrib["points"] == "2,1;3,1;3,2;2,2"
    assert image[1].attrib["rle"] == "0, 5, 2, 5"
    assert [shape.findtext("attribute[@name='score']") for shape in image] == [
        "0.2500",
        "0.2600",
        "0.2700",
    ]

    (task,) = json.loads((out / "label_studio.json").read_text())
    assert task["data"] == {"image": "/data/local-files/?d=sub/0%20%C3%A9%26.png"}
    (prediction,) = task["predictions"]
    assert prediction["score"] == pytest.approx(0.26)
    assert [region["score"] for region in prediction["result"]] == [0.25, 0.26, 0.27]
    assert prediction["result"][0]["value"]["points"][0] == pytest.approx([50, 100 / 3])
    setup = ElementTree.parse(out / "label_studio_setup.xml")
    for region in prediction["result"]:
        control = setup.find(f"*[@name='{region['from_name']}']")
        assert control is not None
        assert (control.tag.lower(), control.attrib["toName"]) == (
            region["type"],
            region["to_name"],
        )
        assert [label.attrib["value"] for label in control] == NAMES


def test_pre_annotations_are_not_taken_for_annotations(tmp_path: Path) -> None:
    photos, out = written(tmp_path, [[DOT]], ["label_studio"])
    data = read_label_studio(
        spec(words=True), images=photos, annotation_file=out / "label_studio.json"
    )
    (problem,) = map(str, data.problems)
    assert problem.endswith(
        "has predictions and no annotations; set `predictions: true` to read them"
    )


def test_objects_without_a_score(tmp_path: Path) -> None:
    _, out = written(tmp_path, [[DOT, RING]], scores=False)
    for file in [
        out / "coco_instances.json",
        out / "labelme/0.json",
        out / "cvat.xml",
        out / "label_studio.json",
    ]:
        assert "score" not in file.read_text(encoding="utf-8"), file


@pytest.mark.parametrize("scores", [True, False])
def test_images_without_objects(tmp_path: Path, scores: bool) -> None:
    photos, out = written(tmp_path, [[np.zeros((3, 4), dtype=bool)]], scores=scores)
    for read in READ_BACK.values():
        (sample,) = list(read(photos, out))
        assert len(sample.annotation.class_labels) == 0
    assert [len(image) for image in ElementTree.parse(out / "cvat.xml").findall("image")] == [0]
    assert json.loads((out / "label_studio.json").read_text())[0]["predictions"][0]["result"] == []


def image(name: str, *masks: NDArray[np.bool_]) -> AnnotatedImage:
    return AnnotatedImage(1, name, f"{name}.png", (3, 4), [cropped(mask, 0, 0.5) for mask in masks])


def test_no_image_at_all(tmp_path: Path) -> None:
    AnnotationWriter(tmp_path, ANNOTATION_FORMATS, AnnotationStyle(CATEGORIES)).finish()
    assert json.loads((tmp_path / "coco_instances.json").read_text())["images"] == []
    assert json.loads((tmp_path / "label_studio.json").read_text()) == []
    assert ElementTree.parse(tmp_path / "cvat.xml").findall("image") == []


def test_segments_without_a_pixel_are_counted(tmp_path: Path) -> None:
    writer = AnnotationWriter(tmp_path, ["coco_instances"], AnnotationStyle(CATEGORIES))
    writer.add(0, image("a", np.zeros((3, 4), dtype=bool), DOT))
    writer.finish()
    assert writer.empty_segments == 1
    assert len(json.loads((tmp_path / "coco_instances.json").read_text())["annotations"]) == 1


def test_several_processes_write_the_same(tmp_path: Path) -> None:
    images = [
        AnnotatedImage(f"n{i}", str(i), f"{i}.png", (3, 4), [cropped(RING, i % 3, 0.5)] * i)
        for i in range(12)
    ]
    for processes in (1, 3):
        writers = [
            AnnotationWriter(
                tmp_path / str(processes), ANNOTATION_FORMATS, AnnotationStyle(CATEGORIES), rank
            )
            for rank in range(processes)
        ]
        for index, one in enumerate(images):
            writers[index // 2 % processes].add(index, one)
        writers[0].finish(processes)
    alone = {
        path.relative_to(tmp_path / "1"): path.read_bytes()
        for path in (tmp_path / "1").rglob("*.*")
    }
    several = {
        path.relative_to(tmp_path / "3"): path.read_bytes()
        for path in (tmp_path / "3").rglob("*.*")
    }
    assert alone == several
    assert len(alone) == 4 + 12


def test_a_process_without_images(tmp_path: Path) -> None:
    writer, _ = (
        AnnotationWriter(tmp_path, ["cvat_xml"], AnnotationStyle(CATEGORIES), rank)
        for rank in range(2)
    )
    writer.add(0, image("a", DOT))
    writer.finish(processes=2)
    assert [path.name for path in tmp_path.iterdir()] == ["cvat.xml"]


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((40, 60)) < 0.5
    writer = AnnotationWriter(tmp_path, ANNOTATION_FORMATS, AnnotationStyle(CATEGORIES))
    for index in range(300):
        writer.add(
            index,
            AnnotatedImage(index, str(index), f"{index}.png", (40, 60), [cropped(noise, 0, 0.5)]),
        )
    tracemalloc.start()
    writer.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(file.stat().st_size for file in tmp_path.glob("*.*"))
    assert size > 2_000_000
    assert peak < 300_000


# --- nothing is lost


def test_files_of_an_earlier_run_are_not_written_over(tmp_path: Path) -> None:
    style = AnnotationStyle(CATEGORIES)
    for name, target in (
        ("coco_instances", "coco_instances.json"),
        ("labelme", "labelme"),
        ("cvat_xml", "cvat.xml"),
        ("label_studio", "label_studio.json"),
    ):
        folder = tmp_path / name
        writer = AnnotationWriter(folder, [name], style)  # type: ignore[list-item]
        writer.check(["a.png"])
        writer.add(0, image("a", DOT))
        writer.finish()
        with pytest.raises(
            FileExistsError, match=rf"{target} is there, perhaps corrected by hand; move it, or"
        ):
            AnnotationWriter(folder, [name], style).check(["a.png"])  # type: ignore[list-item]


def test_a_killed_run_leaves_no_half_file(tmp_path: Path) -> None:
    writer = AnnotationWriter(tmp_path, ["coco_instances"], AnnotationStyle(CATEGORIES))
    writer.add(0, image("a", DOT))
    assert not (tmp_path / "coco_instances.json").exists()
    again = AnnotationWriter(tmp_path, ["coco_instances"], AnnotationStyle(CATEGORIES))
    again.check(["b.png"])
    again.add(0, image("b", DOT))
    again.finish()
    assert [
        entry["file_name"]
        for entry in json.loads((tmp_path / "coco_instances.json").read_text())["images"]
    ] == ["b.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["coco_instances.json"]


def test_names_that_xml_cannot_hold_are_refused(tmp_path: Path) -> None:
    bell = AnnotationStyle([Category(1, "bell \a", True)])
    for name in ("cvat_xml", "label_studio"):
        with pytest.raises(
            ValueError, match=r"category name 'bell \\x07' has the character '\\x07', which no XML"
        ):
            AnnotationWriter(tmp_path, [name], bell)  # type: ignore[list-item]
    writer = AnnotationWriter(tmp_path, ["cvat_xml", "coco_instances"], AnnotationStyle(CATEGORIES))
    with pytest.raises(ValueError, match=r"file name 'a.x01\.png' has the character"):
        writer.check(["b.png", "a\x01.png"])
    with pytest.raises(ValueError, match=r"file name 'a.ud800\.png' has the character"):
        writer.check(["a\ud800.png"])
    AnnotationWriter(tmp_path, ["coco_instances", "labelme"], bell).check(["a\x01.png"])
