"""Every image of the real data sets, against their own files and pycocotools."""

import json
import os
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from dataseg_hf.data.catalog import (
    ADE20K_SEMANTIC,
    CAMVID,
    COCO_BOXES,
    COCO_INSTANCES,
    COCO_PANOPTIC,
    COCO_SEMANTIC,
)
from dataseg_hf.data.readers.coco_instances import read_coco_instances
from dataseg_hf.data.readers.coco_panoptic import read_coco_panoptic
from dataseg_hf.data.readers.image_png import read_image_png
from dataseg_hf.data.sample import SampleDataset

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root() -> Path:
    if "DATASEG_DATA" not in os.environ:
        pytest.skip("DATASEG_DATA is not set")
    return Path(os.environ["DATASEG_DATA"])


def coco_panoptic(root: Path, split: str) -> tuple[SampleDataset, Path]:
    maps = root / "coco128/panoptic" / f"panoptic_{split}2017"
    path = maps.with_suffix(".json")
    images = root / "coco128/images" / f"{split}2017"
    return read_coco_panoptic(COCO_PANOPTIC, images, maps, path, missing_images="skip"), path


def panopticapi_sample(root: Path) -> tuple[SampleDataset, Path]:
    folder = root / "panopticapi_sample"
    path = folder / "panoptic_examples.json"
    return read_coco_panoptic(
        COCO_PANOPTIC, folder / "input_images", folder / "panoptic_examples", path
    ), path


def coco_objects(root: Path, spec=COCO_INSTANCES) -> tuple[SampleDataset, Path]:
    path = root / "coco128/instances_train2017_first128.json"
    return read_coco_instances(
        spec, root / "coco128/images/train2017", path, missing_images="skip"
    ), path


def coco_semantic(root: Path, split: str) -> SampleDataset:
    folder = root / "coco128"
    return read_image_png(
        COCO_SEMANTIC, folder / f"images/{split}2017", folder / f"semantic/{split}2017"
    )


@pytest.mark.parametrize(
    ("read", "count"),
    [
        (lambda root: coco_panoptic(root, "train"), 100),
        (lambda root: coco_panoptic(root, "val"), 52),
        (panopticapi_sample, 2),
    ],
    ids=["train", "val", "panopticapi"],
)
def test_segments_and_areas_are_those_of_the_json(root, read, count):
    data, path = read(root)
    assert (len(data), data.problems) == (count, [])
    entries = {entry["image_id"]: entry for entry in json.loads(path.read_text())["annotations"]}
    for i in range(len(data)):
        sample = data[i]
        # the reader orders segments by id
        listed = sorted(
            entries[sample.image_id]["segments_info"], key=lambda segment: segment["id"]
        )
        assert sorted(row["id"] for row in data.rows[i]["segments"]) == [
            segment["id"] for segment in listed
        ]
        areas = np.bincount(
            sample.annotation.segment_map[sample.annotation.segment_map >= 0], minlength=len(listed)
        )
        assert areas.tolist() == [segment["area"] for segment in listed]
        assert sample.annotation.is_crowd.tolist() == [
            bool(segment["iscrowd"]) for segment in listed
        ]
        raw_ids = [segment["category_id"] for segment in listed]
        assert sample.annotation.class_labels.tolist() == [
            COCO_PANOPTIC.id_map[raw_id] for raw_id in raw_ids
        ]


def test_absent_images_of_a_subset_are_noted(root):
    data, path = coco_panoptic(root, "val")
    (note,) = data.notes
    assert note.startswith(f"48 of 100 images listed in {path} are not in ")


@pytest.mark.parametrize(("split", "count"), [("train", 100), ("val", 52)])
def test_semantic_pngs_agree_with_panoptic_ones(root, split, count):
    panoptic, semantic = coco_panoptic(root, split)[0], coco_semantic(root, split)
    assert (len(semantic), semantic.problems) == (count, [])
    for i in range(count):
        one, other = panoptic[i], semantic[i]
        assert one.file_name == other.file_name
        class_maps = [
            np.append(s.annotation.class_labels, -1)[s.annotation.segment_map] for s in (one, other)
        ]
        np.testing.assert_array_equal(class_maps[0], class_maps[1])


def test_masks_of_objects_are_those_of_pycocotools(root):
    data, path = coco_objects(root)
    assert (len(data), data.problems) == (100, [])
    peer = COCO(str(path))
    boxes_only = coco_objects(root, COCO_BOXES)[0]
    crowds = 0
    for i in range(len(data)):
        sample, annotation = data[i], data[i].annotation
        expected = peer.loadAnns(peer.getAnnIds(imgIds=sample.image_id))
        assert annotation.class_labels.tolist() == [
            COCO_INSTANCES.id_map[a["category_id"]] for a in expected
        ]
        assert annotation.is_crowd.tolist() == [bool(a["iscrowd"]) for a in expected]
        for mask, box, entry in zip(annotation.masks, annotation.boxes, expected, strict=True):
            np.testing.assert_array_equal(mask, peer.annToMask(entry).astype(bool))
            left, top, width, height = entry["bbox"]
            np.testing.assert_allclose(box, [left, top, left + width, top + height], atol=0.51)
        crowds += int(annotation.is_crowd.sum())
        other = boxes_only[i].annotation
        assert other.masks is None
        np.testing.assert_array_equal(other.boxes, annotation.boxes)
    assert crowds > 0


def class_histogram(data: SampleDataset) -> dict[int, int]:
    counts: dict[int, int] = defaultdict(int)
    for i in range(len(data)):
        annotation = data[i].annotation
        assert data[i].image.shape[:2] == annotation.segment_map.shape
        for index, label in enumerate(annotation.class_labels.tolist()):
            counts[label] += int((annotation.segment_map == index).sum())
        counts[-1] += int((annotation.segment_map == -1).sum())
    return dict(counts)


def raw_histogram(data: SampleDataset) -> dict[int, int]:
    """The same, straight from the PNGs."""
    counts: dict[int, int] = defaultdict(int)
    for row in data.rows:
        for raw_id, pixels in zip(
            *np.unique(np.asarray(Image.open(row["annotation"])), return_counts=True), strict=True
        ):
            counts[data.spec.id_map.get(int(raw_id), -1)] += int(pixels)
    return {-1: 0, **counts}


@pytest.mark.parametrize(("split", "count"), [("train", 31), ("test", 12)])
def test_camvid(root, split, count):
    folder = root / "camvid"
    data = read_image_png(CAMVID, folder / split, folder / f"{split}annot", image_suffix=".png")
    assert (len(data), data.problems) == (count, [])
    assert data[0].image.shape == (360, 480, 3)
    assert class_histogram(data) == raw_histogram(data)


def test_ade20k(root):
    folder = root / "ade20k_sample"
    data = read_image_png(ADE20K_SEMANTIC, folder / "images", folder / "annotations")
    assert (len(data), data.problems) == (3, [])
    assert class_histogram(data) == raw_histogram(data)


def test_gray_photographs_become_rgb(root):
    folder = root / "coco128/images/train2017"
    gray = [path.name for path in sorted(folder.iterdir()) if Image.open(path).mode == "L"]
    assert gray
    data, _ = coco_panoptic(root, "train")
    image = data[data.rows["file_name"].index(gray[0])].image
    assert image.shape[2] == 3
    assert (image == image[..., :1]).all()


def test_parts_are_disjoint_and_complete(root):
    data, _ = coco_panoptic(root, "train")
    ids = [list(data.part(i, of=3).rows["image_id"]) for i in range(3)]
    assert sorted(image_id for part in ids for image_id in part) == list(data.rows["image_id"])
    assert not set(ids[0]) & set(ids[1])


def test_datasets_travel_to_worker_processes(root):
    for data in (
        coco_panoptic(root, "train")[0],
        coco_objects(root)[0],
        coco_semantic(root, "val"),
    ):
        copy = pickle.loads(pickle.dumps(data))
        np.testing.assert_array_equal(copy[3].image, data[3].image)
        assert copy.spec == data.spec
