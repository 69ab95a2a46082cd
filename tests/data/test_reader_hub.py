import json
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from datasets import Image as ImageFeature
from datasets import Json, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_utils

from dataseg_hf.data.readers.hub import read_hub
from dataseg_hf.data.sample import BadSampleError, SampleDataset, SampleStream
from helpers.hub_files import (
    AS_LISTS,
    BOXES,
    INSTANCE,
    LABELED,
    OBJECT,
    OBJECTS,
    PANOPTIC,
    SEMANTIC,
    as_structs,
    both,
    encoded,
    objects,
    only_sample,
    own_cache_and_no_network,
    panoptic,
    photo,
    rgb_of,
    write,
)

offline = pytest.fixture(autouse=True)(own_cache_and_no_network)


# --- image + label PNG


@both
def test_semantic_by_hand(tmp_path, streaming):
    ids = np.array([[1, 1, 300], [0, 7, 1]], dtype=np.uint16)
    path = write(tmp_path / "d", [{"image": photo(gray=40), "label": encoded(ids)}], LABELED)
    sample = only_sample(
        read_hub(SEMANTIC, path=str(path), label_column="label", streaming=streaming)
    )
    assert sample.annotation.segment_map.tolist() == [[0, 0, 1], [-1, 1, 0]]
    assert sample.annotation.class_labels.tolist() == [0, 1]
    assert sample.annotation.is_crowd.tolist() == [False, False]
    np.testing.assert_array_equal(sample.image, np.full((2, 3, 3), 40, np.uint8))
    assert (sample.image_id, sample.file_name) == (("0-0", "0-0") if streaming else (0, "0"))


@both
def test_a_palette_png_gives_its_indices(tmp_path, streaming):
    label = Image.fromarray(np.array([[1, 7, 0], [1, 7, 0]], np.uint8)).convert("P")
    label.putdata([1, 7, 0, 1, 7, 0])
    path = write(tmp_path / "d", [{"image": photo(), "label": encoded(label)}], LABELED)
    sample = only_sample(
        read_hub(SEMANTIC, path=str(path), label_column="label", streaming=streaming)
    )
    assert sample.annotation.segment_map.tolist() == [[0, 1, -1], [0, 1, -1]]


@both
def test_names_of_columns_ids_and_files(tmp_path, streaming):
    rows = [
        {
            "pixel_values": {"bytes": photo(), "path": "street/a.png"},
            "mask": encoded(np.ones((2, 3), np.uint8)),
            "id": "s1",
        }
    ]
    path = write(
        tmp_path / "d",
        rows,
        {"pixel_values": ImageFeature(), "mask": ImageFeature(), "id": Value("string")},
    )
    options = {"image_column": "pixel_values", "label_column": "mask", "image_id_column": "id"}
    sample = only_sample(read_hub(SEMANTIC, path=str(path), streaming=streaming, **options))
    assert (sample.image_id, sample.file_name) == ("s1", "a.png")


def test_parquet_files_of_other_tools(tmp_path):
    label = encoded(np.full((2, 3), 7, np.uint8))
    frame = pd.DataFrame({"image": [photo()], "label": [{"bytes": label, "path": None}]})
    frame.to_parquet(tmp_path / "a.parquet")
    for streaming in (False, True):
        data = read_hub(
            SEMANTIC,
            path="parquet",
            data_files=str(tmp_path / "*.parquet"),
            label_column="label",
            streaming=streaming,
        )
        assert only_sample(data).annotation.class_labels.tolist() == [1]


def test_images_are_read_as_by_every_reader(tmp_path):
    """EXIF: stored 2 x 3, upright 3 x 2; CMYK and gray become RGB; 16-bit gray is scaled."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    turned = encoded(np.zeros((2, 3, 3), np.uint8), "JPEG", exif=exif)
    images = [
        (turned, (3, 2)),
        (turned, (2, 3)),  # annotated on the stored pixels
        (encoded(Image.new("CMYK", (3, 2)), "JPEG"), (2, 3)),
        (encoded(np.full((2, 3), 5, np.uint8)), (2, 3)),
        (encoded(np.array([[100, 4100, 2102]] * 2, np.uint16)), (2, 3)),
    ]
    rows = [{"image": image, "label": encoded(np.ones(size, np.uint8))} for image, size in images]
    data = read_hub(SEMANTIC, path=str(write(tmp_path / "d", rows, LABELED)), label_column="label")
    samples = [data[index] for index in range(len(data))]
    assert [sample.image.shape for sample in samples] == [(*size, 3) for _, size in images]
    assert (samples[2].image == 255).all()
    assert (samples[3].image == 5).all()
    assert samples[4].image[0, :, 0].tolist() == [0, 255, 128]  # by its own range


# --- image + objects


@both
@pytest.mark.parametrize("layout", ["list of structs", "struct of lists"])
def test_boxes_by_hand(tmp_path, streaming, layout):
    """In 4 x 6 pixels: one inside, one clipped at the right, one void, one without height."""
    found = objects(([1, 0, 2, 3], 1), ([3, 1, 6, 2], 0), ([0, 0, 1, 1], 2), ([2, 2, 2, 0], 0))
    features = OBJECTS if layout == "list of structs" else AS_LISTS
    row = {
        "image": photo(4, 6),
        "objects": as_structs(found) if layout == "list of structs" else found,
    }
    path = write(tmp_path / "d", [row], features)
    annotation = only_sample(
        read_hub(BOXES, path=str(path), objects_column="objects", streaming=streaming)
    ).annotation
    assert annotation.boxes.tolist() == [[1, 0, 3, 3], [3, 1, 6, 3]]
    assert annotation.boxes.dtype == np.float32
    assert annotation.class_labels.tolist() == [1, 0]
    assert annotation.is_crowd.tolist() == [False, False]
    assert annotation.masks is None


@pytest.mark.parametrize("features", [OBJECTS, AS_LISTS], ids=["structs", "lists"])
@pytest.mark.parametrize("spec", [BOXES, INSTANCE], ids=["boxes", "instance"])
def test_an_image_without_objects(tmp_path, features, spec):
    options = {}
    if spec.task == "instance":
        options["segmentation_key"] = "segmentation"
        extra = List(List(Value("float32")))
        if features is OBJECTS:
            features = {**OBJECTS, "objects": List({**OBJECT, "segmentation": extra})}
        else:
            features = {**AS_LISTS, "objects": {**AS_LISTS["objects"], "segmentation": List(extra)}}
    nothing = (
        [] if isinstance(features["objects"], List) else {key: [] for key in features["objects"]}
    )
    path = write(tmp_path / "d", [{"image": photo(), "objects": nothing}], features)
    annotation = read_hub(spec, path=str(path), objects_column="objects", **options)[0].annotation
    assert annotation.boxes.shape == (0, 4)
    assert annotation.class_labels.shape == (0,)
    assert (annotation.masks is None) if spec is BOXES else (annotation.masks.shape == (0, 2, 3))


@pytest.mark.parametrize(
    ("box", "options"),
    [
        ([1, 1, 4, 2], {"box_format": "xywh"}),
        ([1, 1, 5, 3], {"box_format": "xyxy"}),
        ([3, 2, 4, 2], {"box_format": "cxcywh"}),
        ([0.125, 0.25, 0.625, 0.75], {"box_format": "xyxy", "normalized": True}),
        ([0.375, 0.5, 0.5, 0.5], {"box_format": "cxcywh", "normalized": True}),
    ],
)
def test_box_formats(tmp_path, box, options):
    """One box, from column 1 to 5 and row 1 to 3 of 4 x 8 pixels."""
    row = {"image": photo(4, 8), "objects": as_structs(objects((box, 0)))}
    path = write(tmp_path / "d", [row], OBJECTS)
    data = read_hub(BOXES, path=str(path), objects_column="objects", **options)
    assert data[0].annotation.boxes.tolist() == [[1, 1, 5, 3]]


def test_categories_as_words_and_other_keys(tmp_path):
    spec = replace(BOXES, id_map={"Cat": 0, "lawn": 1}, void_ids=frozenset({"crowd"}))
    entry = {"box": List(Value("int64")), "label": Value("string"), "many": Value("bool")}
    values = [("lawn", False), ("crowd", False), ("Cat", True), ("Cat", None)]
    rows = [
        {
            "image": photo(),
            "things": [
                {"box": [0, 0, 1, 2], "label": label, "many": many} for label, many in values
            ],
        }
    ]
    path = write(tmp_path / "d", rows, {"image": ImageFeature(), "things": List(entry)})
    options = {
        "objects_column": "things",
        "bbox_key": "box",
        "category_key": "label",
        "crowd_key": "many",
    }
    annotation = read_hub(spec, path=str(path), **options)[0].annotation
    assert annotation.class_labels.tolist() == [1, 0, 0]
    assert annotation.is_crowd.tolist() == [False, True, False]


@both
def test_instances_from_polygons_and_run_lengths(tmp_path, streaming):
    """Overlapping masks stay overlapping; run lengths, compressed and not, equal pycocotools'
    masks.
    """
    first, second = np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)
    first[1:3, 1:4], second[:, 2:] = 1, 1
    compressed = mask_utils.encode(np.asfortranarray(first))
    segmentations = [
        {"size": [4, 5], "counts": compressed["counts"].decode("ascii")},
        # down the columns: two empty ones, then three full ones
        {"size": [4, 5], "counts": [8, 12]},
        [[1, 1, 4, 1, 4, 3, 1, 3]],
    ]
    entries = [
        {"bbox": [0, 0, 5, 4], "category": 0, "segmentation": each} for each in segmentations
    ]
    features = {"image": ImageFeature(), "objects": List({**OBJECT, "segmentation": Json()})}
    path = write(tmp_path / "d", [{"image": photo(4, 5), "objects": entries}], features)
    options = {
        "objects_column": "objects",
        "segmentation_key": "segmentation",
        "streaming": streaming,
    }
    annotation = only_sample(read_hub(INSTANCE, path=str(path), **options)).annotation
    np.testing.assert_array_equal(annotation.masks, np.stack([first, second, first]).astype(bool))
    assert annotation.masks.dtype == bool


def test_run_lengths_as_a_struct_of_bytes(tmp_path):
    """As `pycocotools.mask.encode` gives them, in a typed column."""
    mask = np.asfortranarray(np.eye(4, dtype=np.uint8))
    features = {
        "image": ImageFeature(),
        "objects": List(
            {**OBJECT, "segmentation": {"size": List(Value("int32")), "counts": Value("binary")}}
        ),
    }
    entry = {"bbox": [0, 0, 4, 4], "category": 1, "segmentation": mask_utils.encode(mask)}
    path = write(tmp_path / "d", [{"image": photo(4, 4), "objects": [entry]}], features)
    data = read_hub(
        INSTANCE, path=str(path), objects_column="objects", segmentation_key="segmentation"
    )
    np.testing.assert_array_equal(data[0].annotation.masks[0], mask.astype(bool))


# --- image + panoptic PNG + segments


@both
def test_panoptic_by_hand(tmp_path, streaming):
    annotation = only_sample(panoptic(tmp_path, streaming=streaming)).annotation
    assert annotation.segment_map.tolist() == [[0, 0, 1], [-1, -1, 1]]
    assert annotation.class_labels.tolist() == [0, 1]
    assert annotation.is_crowd.tolist() == [True, False]


def test_panoptic_segments_as_a_struct_of_lists_without_crowd(tmp_path):
    lists = {"id": [300, 5], "category_id": [193, 17]}
    features = {**LABELED, "segments_info": {key: List(Value("int64")) for key in lists}}
    row = {
        "image": photo(),
        "label": encoded(rgb_of([[5, 5, 300], [0, 0, 300]])),
        "segments_info": lists,
    }
    path = write(tmp_path / "d", [row], features)
    annotation = read_hub(
        PANOPTIC, path=str(path), label_column="label", segments_column="segments_info"
    )[0].annotation
    assert annotation.segment_map.tolist() == [[0, 0, 1], [-1, -1, 1]]
    assert annotation.is_crowd.tolist() == [False, False]


# --- folders of images


@both
@pytest.mark.parametrize("archive", [False, True], ids=["folder", "zip"])
def test_image_folders(tmp_path, streaming, archive):
    folder = tmp_path / "d/train"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a", "sub/b")):
        (folder / f"{name}.png").write_bytes(photo(gray=number))
        (folder / f"{name}_ids.png").write_bytes(encoded(np.full((2, 3), (1, 7)[number], np.uint8)))
    lines = [
        json.dumps({"file_name": f"{name}.png", "label_file_name": f"{name}_ids.png"})
        for name in ("a", "sub/b")
    ]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    path = tmp_path / "d"
    if archive:
        path = tmp_path / "z"
        path.mkdir()
        with zipfile.ZipFile(path / "train.zip", "w") as file:
            for member in sorted(folder.rglob("*.*")):
                file.write(member, member.relative_to(folder))
    data = read_hub(SEMANTIC, path=str(path), label_column="label", streaming=streaming)
    samples = (
        [data[i] for i in (0, 1)]
        if isinstance(data, SampleDataset)
        else [data.load(row) for row in data.epoch(0)]
    )
    found = {
        (s.file_name, int(s.image[0, 0, 0]), s.annotation.class_labels.item()) for s in samples
    }
    assert found == {("a.png", 0, 0), ("b.png", 1, 1)}


@both
def test_only_image_folders_name_files(tmp_path, streaming):
    """The author of a parquet file does not say which file of this machine is read."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(photo())
    label = {"bytes": encoded(np.ones((2, 3), np.uint8)), "path": None}
    frame = pd.DataFrame({"image": [{"bytes": None, "path": str(secret)}], "label": [label]})
    frame.to_parquet(tmp_path / "a.parquet")
    options = {
        "path": "parquet",
        "data_files": str(tmp_path / "a.parquet"),
        "label_column": "label",
    }
    data = read_hub(SEMANTIC, streaming=streaming, **options)
    with pytest.raises(
        BadSampleError,
        match=r"row 0.*column 'image' names the file .*secret\.png' instead of holding",
    ):
        only_sample(data)


# --- any annotation comes back


@st.composite
def panoptic_rows(draw):
    height, width = draw(st.integers(2, 6)), draw(st.integers(2, 6))
    ids = draw(st.lists(st.integers(1, 2**24 - 1), min_size=1, max_size=4, unique=True))
    choices = draw(
        st.lists(st.sampled_from([0, *ids]), min_size=height * width, max_size=height * width)
    )
    present = sorted(set(choices) - {0})
    categories = {segment: draw(st.sampled_from([17, 193, 255])) for segment in present}
    crowds = {segment: draw(st.booleans()) for segment in present}
    return np.array(choices).reshape(height, width), categories, crowds


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(panoptic_rows(), min_size=1, max_size=3),
    streaming=st.booleans(),
    lists=st.booleans(),
)
def test_panoptic_rows_come_back(tmp_path_factory, rows, streaming, lists):
    tables = []
    for ids, categories, crowds in rows:
        infos = {
            "id": list(categories),
            "category_id": list(categories.values()),
            "iscrowd": [int(crowds[segment]) for segment in categories],
        }
        image = photo(*ids.shape)
        tables.append(
            {
                "image": image,
                "label": encoded(rgb_of(ids)),
                "info": infos if lists else as_structs(infos),
            }
        )
    kinds = {key: Value("int64") for key in ("id", "category_id", "iscrowd")}
    info = {key: List(kind) for key, kind in kinds.items()} if lists else List(kinds)
    path = write(tmp_path_factory.mktemp("rows") / "d", tables, {**LABELED, "info": info})
    data = read_hub(
        PANOPTIC, path=str(path), label_column="label", segments_column="info", streaming=streaming
    )
    if isinstance(data, SampleStream):
        samples = [
            data.load(row)
            for row in sorted(data.epoch(0), key=lambda row: int(row["row number"].split("-")[1]))
        ]
    else:
        samples = [data[index] for index in range(len(data))]
    assert len(samples) == len(rows)
    for sample, (ids, categories, crowds) in zip(samples, rows, strict=True):
        kept = [segment for segment, category in categories.items() if category != 255]
        assert sample.annotation.class_labels.tolist() == [
            PANOPTIC.id_map[categories[segment]] for segment in kept
        ]
        assert sample.annotation.is_crowd.tolist() == [crowds[segment] for segment in kept]
        expected = np.full(ids.shape, -1)
        for index, segment in enumerate(kept):
            expected[ids == segment] = index
        np.testing.assert_array_equal(sample.annotation.segment_map, expected)


@st.composite
def boxes_in_pixels(draw):
    """xyxy of whole pixels in 16 x 16, so that fractions of the image are exact."""
    left, top = draw(st.integers(0, 15)), draw(st.integers(0, 15))
    return left, top, draw(st.integers(left + 1, 16)), draw(st.integers(top + 1, 16))


@settings(max_examples=25, deadline=None)
@given(
    boxes=st.lists(st.tuples(boxes_in_pixels(), st.integers(0, 2)), max_size=4),
    box_format=st.sampled_from(["xywh", "xyxy", "cxcywh"]),
    normalized=st.booleans(),
    lists=st.booleans(),
)
def test_boxes_come_back_in_any_format(tmp_path_factory, boxes, box_format, normalized, lists):
    def stored(box):
        left, top, right, bottom = box
        values = {
            "xyxy": (left, top, right, bottom),
            "xywh": (left, top, right - left, bottom - top),
            "cxcywh": ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top),
        }[box_format]
        return [value / 16 if normalized else value for value in values]

    found = objects(*((stored(box), category) for box, category in boxes))
    row = {"image": photo(16, 16), "objects": found if lists else as_structs(found)}
    path = write(tmp_path_factory.mktemp("rows") / "d", [row], AS_LISTS if lists else OBJECTS)
    options = {"objects_column": "objects", "box_format": box_format, "normalized": normalized}
    annotation = read_hub(BOXES, path=str(path), **options)[0].annotation
    kept = [(box, category) for box, category in boxes if category != 2]
    assert annotation.boxes.tolist() == [list(map(float, box)) for box, _ in kept]
    assert annotation.class_labels.tolist() == [category for _, category in kept]
