import json
import os
import pickle
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_utils

from dataseg_hf.data.catalog import CAMVID, COCO_BOXES, COCO_INSTANCES, COCO_PANOPTIC, COCO_SEMANTIC
from dataseg_hf.data.readers import _decode_segmentation, read_coco_instances, read_coco_panoptic, read_image_png
from dataseg_hf.data.sample import ClassInfo, DatasetSpec

SPEC = DatasetSpec(
    name="tiny",
    task="panoptic",
    classes=(ClassInfo("cat", True), ClassInfo("grass", False)),
    id_map={17: 0, 193: 1, 194: 1},
    void_ids=frozenset({255}),
)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def rgb_of(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


# ------------------------------------------------------------------------------------------------- COCO panoptic

SEGMENT_IDS = np.array([[5, 5, 300], [0, 70000, 300]])


@pytest.fixture
def panoptic(tmp_path):
    """(content of the JSON, function that writes it and reads the dataset)."""
    save(tmp_path / "images/b.png", np.zeros((2, 3, 3), np.uint8))
    save(tmp_path / "images/a.png", np.full((2, 3), 9, np.uint8))  # grey
    save(tmp_path / "maps/b.png", rgb_of(SEGMENT_IDS))
    save(tmp_path / "maps/a.png", rgb_of(np.full((2, 3), 1)))
    content = {
        "images": [{"id": 10, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "annotations": [
            {
                "image_id": 9,
                "file_name": "b.png",
                "segments_info": [
                    {"id": 70000, "category_id": 255},
                    {"id": 300, "category_id": 193, "iscrowd": 0},
                    {"id": 5, "category_id": 17, "iscrowd": 1},
                ],
            },
            {"image_id": 10, "file_name": "a.png", "segments_info": [{"id": 1, "category_id": 17, "iscrowd": 0}]},
        ],
    }

    def read(**options):
        (tmp_path / "panoptic.json").write_text(json.dumps(content))
        return read_coco_panoptic(SPEC, tmp_path / "images", tmp_path / "maps", tmp_path / "panoptic.json", **options)

    return content, read


def test_panoptic_by_hand(panoptic):
    _, read = panoptic
    dataset = read()
    assert [dataset[i].image_id for i in range(len(dataset))] == [9, 10], "sorted by image id"
    sample = dataset[0]
    assert sample.file_name == "b.png"
    assert sample.annotation.class_labels.tolist() == [0, 1]
    assert sample.annotation.is_crowd.tolist() == [True, False]
    assert sample.annotation.segment_map.tolist() == [[0, 0, 1], [-1, -1, 1]]
    assert sample.annotation.segment_map.dtype == np.int32
    assert sample.annotation.class_labels.dtype == np.int64
    np.testing.assert_array_equal(dataset[1].image, np.full((2, 3, 3), 9))


def test_panoptic_missing_image(panoptic, tmp_path):
    _, read = panoptic
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png.*image 10.*missing_images='skip'"):
        read()
    assert [row.image_id for row in read(missing_images="skip").rows] == [9]
    (tmp_path / "images/b.png").unlink()
    with pytest.raises(ValueError, match=r"dataset 'tiny': no images in .*images"):
        read(missing_images="skip")


def test_panoptic_missing_png(panoptic, tmp_path):
    _, read = panoptic
    (tmp_path / "maps/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"maps/a\.png.*image 10"):
        read(missing_images="skip")


def test_panoptic_ids_that_the_json_does_not_list(panoptic):
    content, read = panoptic
    del content["annotations"][0]["segments_info"][1]
    with pytest.raises(ValueError, match=r"b\.png: segment ids \[300\] are not in `segments_info`"):
        read()[0]


def test_panoptic_segment_without_pixels(panoptic):
    content, read = panoptic
    content["annotations"][0]["segments_info"].append({"id": 6, "category_id": 17})
    with pytest.raises(ValueError, match=r"b\.png: segment ids \[6\].*no pixel"):
        read()[0]


@pytest.mark.parametrize("segment_id", [0, 5])
def test_panoptic_segment_ids_are_unique_and_not_void(panoptic, segment_id):
    content, read = panoptic
    content["annotations"][0]["segments_info"].append({"id": segment_id, "category_id": 17})
    with pytest.raises(ValueError, match=r"image 9: segment ids must be unique and not 0"):
        read()


def test_panoptic_unknown_category(panoptic):
    content, read = panoptic
    content["annotations"][1]["segments_info"][0]["category_id"] = 18
    with pytest.raises(ValueError, match=r"panoptic\.json: image 10: category id 18 is not in the id map of .*'tiny'"):
        read()


def test_panoptic_sizes_differ(panoptic, tmp_path):
    _, read = panoptic
    save(tmp_path / "images/a.png", np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"images/a\.png is 4 x 5 .*maps/a\.png is 2 x 3"):
        read()[1]


def test_panoptic_png_must_be_rgb(panoptic, tmp_path):
    _, read = panoptic
    save(tmp_path / "maps/a.png", np.ones((2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"maps/a\.png: a panoptic PNG is RGB.*this is L"):
        read()[1]


def test_panoptic_image_without_annotation_and_doubled_ones(panoptic):
    content, read = panoptic
    content["images"].append(content["images"][0])
    with pytest.raises(ValueError, match="image 10: listed twice"):
        read()
    content["images"].pop()
    last = content["annotations"].pop()
    with pytest.raises(ValueError, match=r"image 10: .*no entry in `annotations`"):
        read()
    content["annotations"] += [last, last]
    with pytest.raises(ValueError, match="image 10 has two annotations"):
        read()


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ([], "images"),
        ([], "annotations"),
        (["images", 0], "id"),
        (["images", 0], "file_name"),
        (["annotations", 0], "image_id"),
        (["annotations", 0], "file_name"),
        (["annotations", 0], "segments_info"),
        (["annotations", 0, "segments_info", 0], "id"),
        (["annotations", 0, "segments_info", 0], "category_id"),
    ],
)
def test_panoptic_missing_key(panoptic, path, key):
    content, read = panoptic
    record = content
    for step in path:
        record = record[step]
    del record[key]
    with pytest.raises(ValueError, match=rf"panoptic\.json.*key '{key}' is missing"):
        read()


@pytest.mark.parametrize("name", ["../b.png", "/etc/b.png", "x/../../b.png", "..\\b.png", "C:\\b.png", "\\b.png", ""])
@pytest.mark.parametrize("part", ["images", "annotations"])
def test_file_names_never_leave_their_root(panoptic, part, name):
    content, read = panoptic
    content[part][0]["file_name"] = name
    with pytest.raises(ValueError, match=re.escape(f"file name '{name}' must be a relative path")):
        read(missing_images="skip")


def test_annotation_file_errors(panoptic, tmp_path):
    _, read = panoptic
    read()
    folders = (tmp_path / "images", tmp_path / "maps")
    with pytest.raises(FileNotFoundError, match=r"no\.json"):
        read_coco_panoptic(SPEC, *folders, tmp_path / "no.json")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_coco_panoptic(SPEC, tmp_path / "nowhere", tmp_path / "maps", tmp_path / "panoptic.json")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_coco_panoptic(SPEC, tmp_path / "images", tmp_path / "nowhere", tmp_path / "panoptic.json")
    (tmp_path / "broken.json").write_text('{"images": [')
    with pytest.raises(ValueError, match=r"broken\.json: not valid JSON"):
        read_coco_panoptic(SPEC, *folders, tmp_path / "broken.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError, match=r"list\.json: expected a JSON object"):
        read_coco_panoptic(SPEC, *folders, tmp_path / "list.json")


def test_broken_image_file_is_named(panoptic, tmp_path):
    _, read = panoptic
    save(tmp_path / "images/a.png", np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8))
    whole = (tmp_path / "images/a.png").read_bytes()
    for content in (b"no image", whole[: len(whole) // 2]):
        (tmp_path / "images/a.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"images/a\.png: cannot be read as an image"):
            read()[1]


# ------------------------------------------------------------------------------------------------ COCO instances


@pytest.fixture
def instances(tmp_path):
    """(content of the JSON, function that writes it and reads the dataset)."""
    for name in ("a.png", "b.png"):
        save(tmp_path / "images" / name, np.zeros((4, 6, 3), np.uint8))
    compressed = mask_utils.encode(np.asfortranarray(box_mask(1, 1, 4, 3).astype(np.uint8)))
    segmentations = [
        [[0, 0, 4, 0, 4, 2, 0, 2]],
        {"size": [4, 6], "counts": compressed["counts"].decode()},
        {"size": [4, 6], "counts": [20, 4]},
        [[0, 0, 1, 0, 1, 1, 0, 1], [5, 3, 6, 3, 6, 4, 5, 4]],
    ]
    content = {
        "images": [
            {"id": 2, "file_name": "a.png", "height": 4, "width": 6},
            {"id": 1, "file_name": "b.png", "height": 4, "width": 6},
        ],
        "annotations": [
            {
                "id": i,
                "image_id": 2,
                "category_id": 17,
                "bbox": [1, 2, 3, 1.5],
                "iscrowd": int(i == 2),
                "segmentation": s,
            }
            for i, s in enumerate(segmentations)
        ],
    }
    content["annotations"].append(
        {"id": 7, "image_id": 2, "category_id": 255, "bbox": [0, 0, 1, 1], "segmentation": []}
    )

    def read(**options):
        (tmp_path / "instances.json").write_text(json.dumps(content))
        return read_coco_instances(SPEC, tmp_path / "images", tmp_path / "instances.json", **options)

    return content, read


def box_mask(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((4, 6), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def test_instances_by_hand(instances):
    _, read = instances
    dataset = read()
    assert [row.image_id for row in dataset.rows] == [1, 2]
    empty, sample = dataset[0].annotation, dataset[1].annotation
    assert empty.class_labels.shape == (0,)
    assert empty.boxes.shape == (0, 4)
    assert empty.masks.shape == (0, 4, 6)

    assert sample.class_labels.tolist() == [0] * 4, "the void object is left out"
    assert sample.boxes.dtype == np.float32
    assert sample.boxes.tolist() == [[1, 2, 4, 3.5]] * 4
    assert sample.is_crowd.tolist() == [False, False, True, False]
    expected = [
        box_mask(0, 0, 4, 2),
        box_mask(1, 1, 4, 3),
        box_mask(5, 0, 6, 4),
        box_mask(0, 0, 1, 1) | box_mask(5, 3, 6, 4),
    ]
    assert sample.masks.dtype == bool
    np.testing.assert_array_equal(sample.masks, expected)
    assert (sample.masks[0] & sample.masks[1]).any(), "overlapping instances stay overlapping"


def test_boxes_only(instances):
    content, read = instances
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    sample = read(boxes_only=True)[1]
    assert sample.annotation.masks is None
    assert sample.annotation.boxes.tolist() == [[1, 2, 4, 3.5]] * 4
    with pytest.raises(ValueError, match=r"image 2, annotation 0: key 'segmentation' is missing"):
        read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 3}, "image 3, annotation 0: the image is not listed"),
        ({"category_id": 4}, "image 2, annotation 0: category id 4"),
        ({"bbox": [0, 0, 1]}, "annotation 0: `bbox` must be"),
        ({"bbox": [0, 0, -1, 1]}, "annotation 0: `bbox` must be"),
        ({"segmentation": []}, "image 2: a segmentation needs polygons"),
        ({"segmentation": [[0, 0, 1, 1]]}, "image 2: a segmentation needs polygons"),
        ({"segmentation": "text"}, "image 2: a segmentation is a list of polygons or run lengths"),
        ({"segmentation": {"size": [4, 6]}}, "image 2: key 'counts' is missing"),
        ({"segmentation": {"size": [6, 4], "counts": [24]}}, r"image 2: run lengths of size \[6, 4\].*\[4, 6\]"),
        ({"segmentation": {"size": [4, 6], "counts": [20]}}, "image 2: run lengths .*24 pixels, not 20"),
        ({"segmentation": {"size": [4, 6], "counts": [-4, 28]}}, "image 2: run lengths must be >= 0"),
        ({"segmentation": {"size": [4, 6], "counts": ""}}, "image 2: run lengths .*24 pixels, not 0"),
    ],
)
def test_malformed_objects(instances, change, message):
    content, read = instances
    content["annotations"][0].update(change)
    with pytest.raises(ValueError, match=message):
        read()[1]


def test_instances_sizes_differ(instances):
    content, read = instances
    content["images"][1]["width"] = 7
    with pytest.raises(ValueError, match=r"b\.png is 4 x 6 .*instances\.json is 4 x 7"):
        read()[0]


def test_instances_missing_image(instances, tmp_path):
    _, read = instances
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png.*image 2"):
        read()
    assert len(read(missing_images="skip")) == 1


@settings(max_examples=50, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    density=st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
    seed=st.integers(0, 999),
)
def test_run_lengths_agree_with_pycocotools(size, density, seed):
    mask = np.random.default_rng(seed).random(size) < density
    run_lengths = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    decoded = _decode_segmentation({"size": list(size), "counts": run_lengths["counts"].decode()}, size, "test")
    np.testing.assert_array_equal(decoded, mask)


# -------------------------------------------------------------------------------------- folders of images and PNGs


@pytest.fixture
def folders(tmp_path):
    save(tmp_path / "images/b.jpg", np.zeros((2, 3, 3), np.uint8))
    save(tmp_path / "images/a/c.jpg", np.zeros((2, 3, 3), np.uint8))
    save(tmp_path / "maps/b.png", np.array([[193, 193, 17], [255, 194, 193]], np.uint8))
    save(tmp_path / "maps/a/c.png", np.full((2, 3), 255, np.uint8))
    return tmp_path / "images", tmp_path / "maps"


def test_image_png_by_hand(folders):
    dataset = read_image_png(SPEC, *folders)
    assert [(dataset[i].image_id, dataset[i].file_name) for i in range(2)] == [("a/c", "a/c.jpg"), ("b", "b.jpg")]
    void, sample = dataset[0].annotation, dataset[1].annotation
    assert sample.class_labels.tolist() == [0, 1], "two raw ids of one class are one segment"
    assert sample.segment_map.tolist() == [[1, 1, 0], [-1, 1, 1]]
    assert sample.segment_map.dtype == np.int32
    assert not sample.is_crowd.any()
    assert void.class_labels.shape == (0,)
    assert (void.segment_map == -1).all()


def test_image_png_reads_16_bits_and_palette_indices(folders):
    ids = np.array([[193, 193, 17], [255, 194, 193]])
    expected = read_image_png(SPEC, *folders)[1].annotation.segment_map
    palette = Image.fromarray(ids.astype(np.uint8)).convert("P")
    palette.putdata(ids.ravel().tolist())
    palette.putpalette(list(range(255, -1, -1)) * 3)
    for image in (Image.fromarray(ids.astype(np.uint16)), palette):
        image.save(folders[1] / "b.png")
        np.testing.assert_array_equal(read_image_png(SPEC, *folders)[1].annotation.segment_map, expected)

    wide = replace(SPEC, id_map={3000: 1}, void_ids=frozenset({0}))
    save(folders[1] / "b.png", np.array([[3000, 0, 0]] * 2, np.uint16))
    assert read_image_png(wide, *folders)[1].annotation.segment_map.tolist() == [[0, -1, -1]] * 2


def four_bit_png(rows: list[bytes], width: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), 4, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_image_png_refuses_what_holds_no_ids(folders):
    save(folders[1] / "b.png", np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(ValueError, match=r"maps/b\.png: expected one id per pixel.*not RGB"):
        read_image_png(SPEC, *folders)[1]
    # Pillow hands out 1 as 17 here, which would pass for the class with raw id 17
    (folders[1] / "b.png").write_bytes(four_bit_png([b"\x11\x10"] * 2, 3))
    with pytest.raises(ValueError, match=r"maps/b\.png: grey of less than 8 bits"):
        read_image_png(SPEC, *folders)[1]


def test_image_png_unknown_id_and_sizes(folders):
    save(folders[1] / "b.png", np.array([[17, 17, 18]] * 2, np.uint8))
    with pytest.raises(ValueError, match=r"maps/b\.png: category id 18 is not in the id map of dataset 'tiny'"):
        read_image_png(SPEC, *folders)[1]
    save(folders[1] / "b.png", np.full((3, 3), 17, np.uint8))
    with pytest.raises(ValueError, match=r"images/b\.jpg is 2 x 3 .*maps/b\.png is 3 x 3"):
        read_image_png(SPEC, *folders)[1]


def test_image_png_missing_files(folders, tmp_path):
    (folders[0] / "b.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"images/b\.jpg: missing, the image of .*maps/b\.png.*skip"):
        read_image_png(SPEC, *folders)
    assert len(read_image_png(SPEC, *folders, missing_images="skip")) == 1
    (folders[1] / "a/c.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"maps/a/c\.png: missing, the annotation of .*images/a/c\.jpg"):
        read_image_png(SPEC, *folders, missing_images="skip")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_image_png(SPEC, tmp_path / "nowhere", folders[1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"dataset 'tiny': no images in .*empty"):
        read_image_png(SPEC, tmp_path / "empty", tmp_path / "empty")


def test_image_png_suffixes(tmp_path):
    save(tmp_path / "x/one_left.png", np.zeros((1, 1, 3), np.uint8))
    save(tmp_path / "x/one_ids.png", np.full((1, 1), 17, np.uint8))
    dataset = read_image_png(SPEC, tmp_path, tmp_path, image_suffix="_left.png", annotation_suffix="_ids.png")
    assert dataset[0].image_id == "x/one"


# ----------------------------------------------------------------------------------------------------- real data


@pytest.fixture(scope="module")
def coco() -> Path:
    if "DATASEG_DATA" not in os.environ:
        pytest.skip("DATASEG_DATA is not set")
    return Path(os.environ["DATASEG_DATA"]) / "coco128"


def coco_panoptic(coco, split, **options):
    folder = coco / "panoptic" / f"panoptic_{split}2017"
    return read_coco_panoptic(
        COCO_PANOPTIC, coco / f"images/{split}2017", folder, folder.with_suffix(".json"), **options
    )


def coco_objects(coco, spec=COCO_INSTANCES, **options):
    annotation_file = coco / "instances_train2017_first128.json"
    return read_coco_instances(spec, coco / "images/train2017", annotation_file, missing_images="skip", **options)


def test_coco_counts(coco):
    assert len(coco_panoptic(coco, "train")) == 100
    with pytest.raises(FileNotFoundError, match=r"missing, image \d+ of .*panoptic_val2017\.json"):
        coco_panoptic(coco, "val")
    assert len(coco_panoptic(coco, "val", missing_images="skip")) == 52
    assert len(coco_objects(coco)) == 100
    assert len(read_image_png(COCO_SEMANTIC, coco / "images/train2017", coco / "semantic/train2017")) == 100


def test_parts_are_disjoint_and_complete(coco):
    dataset = coco_panoptic(coco, "train")
    ids = [[row.image_id for row in dataset.part(i, of=3).rows] for i in range(3)]
    assert sorted(image_id for part in ids for image_id in part) == [row.image_id for row in dataset.rows]
    assert not set(ids[0]) & set(ids[1])


def test_semantic_png_agrees_with_panoptic_png(coco):
    panoptic = coco_panoptic(coco, "val", missing_images="skip").part(0, of=4)
    semantic = read_image_png(COCO_SEMANTIC, coco / "images/val2017", coco / "semantic/val2017").part(0, of=4)
    for i in range(len(panoptic)):
        one, other = panoptic[i], semantic[i]
        assert one.file_name == other.file_name
        np.testing.assert_array_equal(one.image, other.image)
        class_maps = [np.append(s.annotation.class_labels, -1)[s.annotation.segment_map] for s in (one, other)]
        np.testing.assert_array_equal(class_maps[0], class_maps[1])


def test_coco_objects_agree_with_pycocotools_and_their_boxes(coco):
    raw = json.loads((coco / "instances_train2017_first128.json").read_text())
    by_image = {}
    for annotation in raw["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    dataset = coco_objects(coco).part(0, of=5)
    differences = []
    for i in range(len(dataset)):
        sample = dataset[i]
        height, width = sample.image.shape[:2]
        expected = by_image.get(sample.image_id, [])
        masks = sample.annotation.masks
        assert len(masks) == len(expected)
        for mask, box, annotation in zip(masks, sample.annotation.boxes, expected, strict=True):
            run_lengths = mask_utils.frPyObjects(annotation["segmentation"], height, width)
            merged = mask_utils.merge(run_lengths) if isinstance(run_lengths, list) else run_lengths
            assert mask.sum() == mask_utils.area(merged)
            rows, columns = np.nonzero(mask)
            extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            differences.append(np.abs(extent - box).max())
    assert np.quantile(differences, 0.9) < 2, "polygons are rasterised and a few drawn loosely, boxes are not"


def test_coco_crowd_is_kept(coco):
    dataset = coco_objects(coco, COCO_BOXES, boxes_only=True)
    raw = json.loads((coco / "instances_train2017_first128.json").read_text())["annotations"]
    crowded = {annotation["image_id"] for annotation in raw if annotation["iscrowd"]}
    with_crowd = [i for i, row in enumerate(dataset.rows) if row.image_id in crowded]
    assert with_crowd
    for i in with_crowd:
        sample = dataset[i]
        expected = [bool(annotation["iscrowd"]) for annotation in raw if annotation["image_id"] == sample.image_id]
        assert sample.annotation.is_crowd.tolist() == expected
        assert sample.annotation.masks is None


def test_grey_photograph_becomes_rgb(coco):
    folder = coco / "images/train2017"
    grey = [p for p in sorted(folder.iterdir()) if Image.open(p).mode == "L"]
    assert grey
    dataset = coco_panoptic(coco, "train")
    sample = next(dataset[i] for i, row in enumerate(dataset.rows) if row.file_name == grey[0].name)
    assert sample.image.shape[2] == 3
    assert (sample.image == sample.image[..., :1]).all()


def test_camvid(coco):
    root = coco.parent / "camvid"
    train, test = (
        read_image_png(CAMVID, root / split, root / f"{split}annot", image_suffix=".png") for split in ("train", "test")
    )
    assert (len(train), len(test)) == (31, 12)
    sample = train[0]
    assert sample.image.shape == (360, 480, 3)
    labels = {CAMVID.labels[c] for c in sample.annotation.class_labels}
    assert {"sky", "building", "road"} <= labels
    assert (sample.annotation.segment_map == -1).any()


def test_datasets_travel_to_worker_processes(coco):
    semantic = read_image_png(COCO_SEMANTIC, coco / "images/val2017", coco / "semantic/val2017")
    for dataset in (coco_panoptic(coco, "train"), coco_objects(coco), semantic):
        copy = pickle.loads(pickle.dumps(dataset))
        np.testing.assert_array_equal(copy[3].image, dataset[3].image)
        assert copy.spec == dataset.spec
