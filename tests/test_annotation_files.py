"""Predicted segments as annotation files, read back with the same pixels: by the project's readers, and by tools' rules."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from dataseg_hf.annotation_files import (
    ANNOTATION_FORMATS,
    AnnotatedImage,
    AnnotationStyle,
    AnnotationWriter,
    Category,
    Outlines,
)
from dataseg_hf.annotation_files.brush_rle import encode_brush
from dataseg_hf.annotation_files.outlines import outline_polygons
from dataseg_hf.data.readers.coco_instances import read_coco_instances
from dataseg_hf.data.readers.labelme import read_labelme
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, Instances, SampleDataset
from dataseg_hf.segments import Segment, cropped

Masks = list[NDArray[np.bool_]]

NAMES = ["cat", 'a & b <"c">', "Straße 道"]
CATEGORIES = [Category(number, name, number < 30) for number, name in zip((7, 12, 30), NAMES, strict=True)]


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


def by_pycocotools(polygons: Sequence[Sequence[tuple[int, int]]], size: tuple[int, int]) -> NDArray[np.bool_]:
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
def test_outlines_by_hand(mask: NDArray[np.bool_], polygons: list[list[tuple[int, int]]] | None) -> None:
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
    """By the rules of the decoder in label-studio-sdk 2.1 (`converter/brush.py`), whose results are below."""
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
    """Folders of the images and of their annotation files; the k-th mask of an image is of category k modulo 3."""
    photos = folder / "photos"
    (photos / "sub").mkdir(parents=True)
    writer = AnnotationWriter(folder / "out", formats, AnnotationStyle(CATEGORIES, outlines))
    for index, masks in enumerate(images):
        file_name = f"sub/{index} é&.png"
        size = masks[0].shape
        Image.new("RGB", size[::-1]).save(photos / file_name)
        segments = [
            cropped(mask, number % 3, 0.25 + number / 100 if scores else None) for number, mask in enumerate(masks)
        ]
        writer.add(
            index, AnnotatedImage(index + 1, str(index), file_name, (size[0], size[1]), segments, photos / file_name)
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
        assert sample.annotation.class_labels.tolist() == [number % 3 for number in range(len(masks))]
        assert not sample.annotation.is_crowd.any()


def read_coco(photos: Path, out: Path) -> SampleDataset:
    return read_coco_instances(spec(words=False), images=photos, annotation_file=out / "coco_instances.json")


def read_labelme_files(photos: Path, out: Path) -> SampleDataset:
    return read_labelme(spec(words=True), annotations=out / "labelme", images=photos)


READ_BACK = {"coco_instances": read_coco, "labelme": read_labelme_files}


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
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(images=images_of_masks())
@example(images=[EVERY_KIND])
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, name: str, outlines: Outlines, images: list[Masks]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    check_same(READ_BACK[name](*written(folder, images, [name], outlines)), images)
