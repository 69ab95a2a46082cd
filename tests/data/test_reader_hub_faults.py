"""What is wrong with rows, columns and options of `read_hub`, and how it is told."""

from dataclasses import replace

import numpy as np
import pytest
from datasets import Image as ImageFeature
from datasets import Json, List, Value

from dataseg_hf.data.readers.hub import read_hub
from dataseg_hf.data.sample import BadSampleError, SampleStream
from helpers.hub_files import (
    AS_LISTS,
    BOXES,
    INSTANCE,
    LABELED,
    OBJECT,
    OBJECTS,
    PANOPTIC,
    SEGMENTS,
    SEMANTIC,
    WITH_SEGMENTS,
    as_structs,
    both,
    encoded,
    objects,
    only_sample,
    own_cache_and_no_network,
    panoptic,
    photo,
    write,
)

offline = pytest.fixture(autouse=True)(own_cache_and_no_network)


# --- one row, the others go on

TRUNCATED = encoded(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8), "JPEG")[:500]
GOOD = {"image": photo(), "label": encoded(np.ones((2, 3), np.uint8))}


@both
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": TRUNCATED}, r"column 'image': cannot be read as an image"),
        ({"image": b"no image"}, r"column 'image': cannot be read as an image"),
        ({"image": b""}, r"column 'image': cannot be read as an image"),
        ({"image": None}, r"column 'image' is empty; give the image, or remove the row"),
        ({"label": None}, r"column 'label' is empty"),
        ({"image": photo(3, 3)}, r"column 'image' is 3 x 3 .* column 'label' is 2 x 3"),
        (
            {"image": encoded(np.zeros((1, 1, 3), np.uint8))},
            r"column 'image': an image of 1 x 1 pixels",
        ),
        (
            {"label": encoded(np.full((2, 3), 9, np.uint8))},
            r"column 'label': 1 category id is not in the spec of dataset 'tiny': 9 ",
        ),
        ({"label": photo()}, r"column 'label': expected one id per pixel"),
    ],
)
def test_bad_rows_with_a_label(tmp_path, streaming, change, message):
    rows = [{**GOOD, "id": "good"}, {**GOOD, **change, "id": "b/2"}]
    path = write(tmp_path / "d", rows, {**LABELED, "id": Value("string")})
    data = read_hub(
        SEMANTIC, path=str(path), label_column="label", image_id_column="id", streaming=streaming
    )
    found = list(data.epoch(1)) if isinstance(data, SampleStream) else [data.rows[0], data.rows[1]]
    (good,), (bad,) = ([row for row in found if row["id"] == name] for name in ("good", "b/2"))
    assert data.load(good).image_id == "good"
    number = "0-1" if streaming else "1"
    with pytest.raises(
        BadSampleError,
        match=rf"^dataset 'tiny', split 'train', row {number} \(image b/2\): {message}",
    ):
        data.load(bad)


def test_a_row_without_image_id(tmp_path):
    path = write(
        tmp_path / "d",
        [{**GOOD, "id": 4}, {**GOOD, "id": None}],
        {**LABELED, "id": Value("int64")},
    )
    data = read_hub(SEMANTIC, path=str(path), label_column="label", image_id_column="id")
    assert data[0].image_id == 4
    with pytest.raises(BadSampleError, match=r"row 1: column 'id' is empty; give the image an id"):
        data[1]


@both
@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            [([0, 0, float("nan"), 1], 0)],
            r"object 0 of column 'objects': 'bbox' must be four finite numbers \(xywh\)",
        ),
        (
            [([0, 0, 1, 1], 0), ([0, 0, float("inf"), 1], 0)],
            r"object 1 of column 'objects': 'bbox' must be four finite",
        ),
        ([([2, 0, -1, 1], 0)], r"object 0 .*the box from \(2, 0\) to \(1, 1\) has no area"),
        ([([9, 0, 1, 1], 0)], r"object 0 .*lies outside the image of 2 x 3 pixels"),
        (
            [([0, 0, 1, 1], None)],
            r"column 'objects': 1 category id is not in the spec of dataset 'tiny': None",
        ),
        ([(None, 0)], r"object 0 .*'bbox' must be four finite numbers \(xywh\), not None"),
    ],
)
def test_bad_objects(tmp_path, streaming, found, message):
    entries = [{"bbox": box, "category": category} for box, category in found]
    # of no fixed length: pyarrow before 26 cannot read such a list back where a place is empty
    features = {**OBJECTS, "objects": List({**OBJECT, "bbox": List(Value("float32"))})}
    path = write(tmp_path / "d", [{"image": photo(), "objects": entries}], features)
    data = read_hub(BOXES, path=str(path), objects_column="objects", streaming=streaming)
    with pytest.raises(
        BadSampleError, match=rf"^dataset 'tiny', split 'train', row (0-)?0: {message}"
    ):
        only_sample(data)


def test_an_unknown_category_number(tmp_path):
    features = {"image": ImageFeature(), "objects": List({**OBJECT, "category": Value("int32")})}
    path = write(
        tmp_path / "d",
        [{"image": photo(), "objects": [{"bbox": [0, 0, 1, 1], "category": 5}]}],
        features,
    )
    with pytest.raises(BadSampleError, match=r"category id is not in the spec of dataset 'tiny'"):
        read_hub(BOXES, path=str(path), objects_column="objects")[0]


@pytest.mark.parametrize("features", [OBJECTS, AS_LISTS], ids=["structs", "lists"])
def test_a_row_without_objects_is_not_one_with_an_empty_list(tmp_path, features):
    path = write(tmp_path / "d", [{"image": photo(), "objects": None}], features)
    with pytest.raises(BadSampleError, match=r"row 0: column 'objects'"):
        read_hub(BOXES, path=str(path), objects_column="objects")[0]


def test_lists_of_different_lengths(tmp_path):
    row = {"image": photo(), "objects": {"bbox": [[0, 0, 1, 1]], "category": [0, 1]}}
    path = write(tmp_path / "d", [row], AS_LISTS)
    with pytest.raises(
        BadSampleError,
        match=r"column 'objects' has lists of different lengths {'bbox': 1, 'category': 2}",
    ):
        read_hub(BOXES, path=str(path), objects_column="objects")[0]


def test_pixels_read_as_fractions(tmp_path):
    row = {"image": photo(), "objects": as_structs(objects(([0, 0, 3, 2], 0)))}
    path = write(tmp_path / "d", [row], OBJECTS)
    with pytest.raises(BadSampleError, match=r"no fraction of the image; is `normalized` right\?"):
        read_hub(BOXES, path=str(path), objects_column="objects", normalized=True)[0]


@pytest.mark.parametrize(
    ("box", "polygon", "message"),
    [
        (
            [20, 10, 44, 30],
            [20, 10, 44, 10, 44, 30, 20, 30],
            r"`bbox` spans .* it looks like left, top, right, bottom",
        ),
        (
            [2, 2, 6, 6],
            [20, 10, 44, 10, 44, 30, 20, 30],
            r"`bbox` spans \(2, 2\) to \(8, 8\), but its segmentation",
        ),
        (
            [20, 10, 44, 38],
            [20, 10, 90, 10, 90, 60],
            r"reaches 26 pixels beyond the image of 48 x 64",
        ),
    ],
)
def test_outlines_that_their_boxes_contradict(tmp_path, box, polygon, message):
    features = {"image": ImageFeature(), "objects": List({**OBJECT, "segmentation": Json()})}
    entry = {"bbox": box, "category": 0, "segmentation": [polygon]}
    path = write(tmp_path / "d", [{"image": photo(48, 64), "objects": [entry]}], features)
    data = read_hub(
        INSTANCE, path=str(path), objects_column="objects", segmentation_key="segmentation"
    )
    with pytest.raises(BadSampleError, match=message):
        data[0]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 2, 2]], r"polygon of 2 points"),
        ([], r"no polygon"),
        ({"size": [2, 3], "counts": [1, 2]}, r"add up to 6"),
        ({"size": [3, 2], "counts": [0, 6]}, r"run lengths of size \[3, 2\]"),
        (5, r"a segmentation is a list of polygons or run lengths"),
        (None, r"a segmentation is a list of polygons or run lengths"),
    ],
)
def test_bad_segmentations(tmp_path, segmentation, message):
    features = {"image": ImageFeature(), "objects": List({**OBJECT, "segmentation": Json()})}
    entry = {"bbox": [0, 0, 1, 1], "category": 0, "segmentation": segmentation}
    path = write(tmp_path / "d", [{"image": photo(), "objects": [entry]}], features)
    data = read_hub(
        INSTANCE, path=str(path), objects_column="objects", segmentation_key="segmentation"
    )
    with pytest.raises(BadSampleError, match=rf"row 0: object 0 of column 'objects'.*{message}"):
        data[0]


@both
@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (SEGMENTS[:2], r"column 'label': segment ids \[5\] are not in `segments_info`"),
        (
            [*SEGMENTS, {**SEGMENTS[0], "id": 0}],
            r"column 'segments_info': segment ids must be unique and above 0",
        ),
        (
            [*SEGMENTS, SEGMENTS[0]],
            r"column 'segments_info': segment ids must be unique and above 0",
        ),
        (
            [*SEGMENTS[:2], {**SEGMENTS[2], "category_id": 18}],
            r"column 'segments_info': 1 category id .*: 18 \(1 segment\)",
        ),
        (
            [*SEGMENTS[:2], {**SEGMENTS[2], "id": None}],
            r"column 'segments_info': segment ids must be unique and above 0",
        ),
        (None, r"column 'segments_info' is empty"),
    ],
)
def test_bad_segments(tmp_path, streaming, segments, message):
    with pytest.raises(
        BadSampleError, match=rf"^dataset 'tiny', split 'train', row (0-)?0: {message}"
    ):
        only_sample(panoptic(tmp_path, segments, streaming=streaming))


def test_a_gray_panoptic_png(tmp_path):
    row = {**GOOD, "segments_info": [{"id": 1, "category_id": 17, "iscrowd": 0, "area": 6}]}
    path = write(tmp_path / "d", [row], WITH_SEGMENTS)
    data = read_hub(PANOPTIC, path=str(path), label_column="label", segments_column="segments_info")
    with pytest.raises(BadSampleError, match=r"column 'label': a panoptic PNG is RGB"):
        data[0]


# --- the whole dataset, at once


@both
@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (SEMANTIC, {}, r"'semantic' needs the option `label_column`"),
        (
            SEMANTIC,
            {"label_column": "mask"},
            r"has no column 'mask'; there are \['image', 'label', 'number', 'objects', "
            r"'segments'\]",
        ),
        (
            SEMANTIC,
            {"label_column": "label", "image_column": "img"},
            r"has no column 'img'; there are \['image', ",
        ),
        (
            SEMANTIC,
            {"label_column": "number"},
            r"column 'number' holds Value\('int64'\), not encoded images",
        ),
        (
            SEMANTIC,
            {"label_column": "label", "image_id_column": "objects"},
            r"column 'objects' holds .* ids are whole numbers or words",
        ),
        (
            SEMANTIC,
            {"label_column": "label", "segments_column": "segments"},
            r"'semantic' has no use for the option `segments_column`",
        ),
        (
            SEMANTIC,
            {"label_column": "label", "box_format": "xyxy"},
            r"'semantic' has no use for the option `box_format`",
        ),
        (PANOPTIC, {"label_column": "label"}, r"'panoptic' needs the option `segments_column`"),
        (
            PANOPTIC,
            {"label_column": "label", "segments_column": "number"},
            r"column 'number' holds .*list of structs",
        ),
        (
            PANOPTIC,
            {"label_column": "label", "segments_column": "objects"},
            r"column 'objects' has no key 'id'; there are \['bbox', 'category'\]",
        ),
        (
            PANOPTIC,
            {"label_column": "label", "segments_column": "segments"},
            r"column 'segments', key 'category_id' holds words, but the id map",
        ),
        (BOXES, {}, r"'boxes' needs the option `objects_column`"),
        (
            BOXES,
            {"objects_column": "objects", "segmentation_key": "bbox"},
            r"'boxes' has no use for the option `segmentation_key`",
        ),
        (
            BOXES,
            {"objects_column": "objects", "label_column": "label"},
            r"'boxes' has no use for the option `label_column`",
        ),
        (
            BOXES,
            {"objects_column": "objects", "bbox_key": "box"},
            r"column 'objects' has no key 'box'; there are \['bbox', 'category'\]",
        ),
        (
            BOXES,
            {"objects_column": "objects", "category_key": "label"},
            r"column 'objects' has no key 'label'",
        ),
        (
            BOXES,
            {"objects_column": "objects", "crowd_key": "iscrowd"},
            r"column 'objects' has no key 'iscrowd'",
        ),
        (
            BOXES,
            {"objects_column": "objects", "category_key": "bbox"},
            r"key 'bbox' holds .*ids are whole numbers or words",
        ),
        (
            BOXES,
            {"objects_column": "objects", "box_format": "yxyx"},
            r"`box_format` is one of .*not 'yxyx'",
        ),
        (
            INSTANCE,
            {"objects_column": "objects"},
            r"'instance' needs the option `segmentation_key`",
        ),
        (
            replace(BOXES, id_map={"cat": 0}, void_ids=frozenset()),
            {"objects_column": "objects"},
            r"holds the numbers of ClassLabel\(names=\['cat', .*the id map of dataset 'tiny' has "
            r"none of them",
        ),
        (SEMANTIC, {"label_column": "label", "split": "nope"}, r"(?i)split.*nope"),
    ],
)
def test_options_and_columns_that_do_not_fit(tmp_path, streaming, spec, options, message):
    features = {
        **LABELED,
        **OBJECTS,
        "number": Value("int64"),
        "segments": List({"id": Value("int64"), "category_id": Value("string")}),
    }
    path = write(tmp_path / "d", [{**GOOD, "objects": [], "number": 1, "segments": []}], features)
    with pytest.raises(ValueError, match=message) as found:
        read_hub(spec, path=str(path), streaming=streaming, **options)
    assert not isinstance(found.value, BadSampleError)


def test_a_buffer_without_rows_or_without_a_stream(tmp_path):
    path = str(write(tmp_path / "d", [GOOD], LABELED))
    with pytest.raises(ValueError, match="`shuffle_buffer` must be 1 or more"):
        read_hub(SEMANTIC, path=path, label_column="label", streaming=True, shuffle_buffer=0)
    with pytest.raises(ValueError, match="`shuffle_buffer` is for `streaming` alone"):
        read_hub(SEMANTIC, path=path, label_column="label", shuffle_buffer=5)


def test_a_dataset_without_rows(tmp_path):
    path = str(write(tmp_path / "d", [], LABELED))
    with pytest.raises(
        ValueError, match=r"dataset 'tiny', split 'train': cannot be loaded: .*no data"
    ):
        read_hub(SEMANTIC, path=path, label_column="label")
    stream = read_hub(SEMANTIC, path=path, label_column="label", streaming=True)
    assert isinstance(stream, SampleStream)
    with pytest.raises(ValueError, match="no rows"):
        list(stream.epoch(0))


@both
def test_a_dataset_that_is_not_there(tmp_path, streaming):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_hub(
            SEMANTIC, path=str(tmp_path / "nowhere"), label_column="label", streaming=streaming
        )
    with pytest.raises(
        ValueError, match=r"dataset 'tiny', split 'train': cannot be loaded: .*nobody/nothing"
    ):
        read_hub(SEMANTIC, path="nobody/nothing", label_column="label", streaming=streaming)


@both
def test_files_that_are_no_parquet(tmp_path, streaming):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    options = {
        "path": "parquet",
        "data_files": str(tmp_path / "a.parquet"),
        "label_column": "label",
    }
    with pytest.raises(ValueError, match=r"(?i)parquet"):
        read_hub(SEMANTIC, streaming=streaming, **options)


def test_a_damaged_file_among_good_ones(tmp_path):
    path = write(tmp_path / "d", [GOOD] * 4, LABELED, shards=2)
    file = path / "data/train-00001-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(
        ValueError, match=r"dataset 'tiny', split 'train': cannot be loaded: .*(?i:parquet)"
    ):
        read_hub(SEMANTIC, path=str(path), label_column="label")


def test_a_stream_whose_columns_are_not_known(tmp_path):
    (tmp_path / "a.csv").write_text("image,label\na.png,b.png\n")
    options = {"path": "csv", "data_files": str(tmp_path / "a.csv"), "label_column": "label"}
    with pytest.raises(
        ValueError, match="the columns of this stream are not known; read it without `streaming`"
    ):
        read_hub(SEMANTIC, streaming=True, **options)
    with pytest.raises(
        ValueError, match=r"column 'image' holds Value.*string'\), not encoded images"
    ):
        read_hub(SEMANTIC, **options)
