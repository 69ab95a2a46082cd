"""200 damaged files of every format: each is refused in one clear line, read, or leaves out what it
cannot use.

A format joins with an entry of `FORMATS`: what makes its files, changed at random, and the call
that reads them.
"""

import base64
import io
import json
import random
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dataseg_hf.data.readers.hub_rows import Columns, RowLoader
from dataseg_hf.data.readers.reader_tasks import READER_FORMS, tasks_of_reader
from dataseg_hf.data.readers.registry import READERS
from dataseg_hf.data.sample import BadSampleError, ClassInfo, DatasetSpec, SampleDataset
from dataseg_hf.data.sample_faults import sample_faults
from helpers.annotation_files import rgb_of, save, write_json
from helpers.mutations import mutated_bytes, mutated_json, mutated_lines, mutated_xml

NUM_MUTATIONS = 200
CLASSES = (ClassInfo("cat", True), ClassInfo("dog", True), ClassInfo("tree", False))
WORDS = DatasetSpec(
    "tiny", "instance", CLASSES, {"cat": 0, "dog": 1, "tree": 2}, frozenset({"ignore"})
)
NUMBERS = replace(WORDS, id_map={0: 0, 1: 1, 2: 2}, void_ids=frozenset({255}))
HEIGHT, WIDTH = 6, 8

Random = random.Random
Read = Callable[[DatasetSpec, Path], SampleDataset]


@dataclass(frozen=True)
class Format:
    """write: puts a changed file below a folder. read: reads it. spec: its task is set to each of
    the reader's.
    """

    write: Callable[[Path, Random], None]
    read: Read
    spec: DatasetSpec = WORDS


def image(root: Path, name: str = "a.png") -> None:
    save(root / name, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))


def png(array: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def json_file(name: str, document: Any) -> Callable[[Path, Random], None]:
    """Writes a changed document; every tenth has its bytes changed instead."""

    def write(root: Path, rng: Random) -> None:
        image(root)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if rng.random() < 0.1:
            path.write_bytes(mutated_bytes(json.dumps(document).encode(), rng))
        else:
            write_json(path, mutated_json(document, rng))

    return write


def xml_file(name: str, text: str) -> Callable[[Path, Random], None]:
    def write(root: Path, rng: Random) -> None:
        image(root)
        (root / name).write_bytes(mutated_xml(text, rng))

    return write


# --- documents


CVAT = """<annotations><version>1.1</version><meta><task><labels><label><name>cat</name></label><label><name>dog</name>
</label></labels></task></meta><image id="0" name="a.png" subset="train" width="8" height="6">
<polygon label="cat" occluded="0" points="1.00,1.00;5.00,1.00;5.00,4.00" z_order="1" group_id="2"></polygon>
<box label="dog" outside="0" xtl="2.0" ytl="2.0" xbr="6.0" ybr="5.0" rotation="30.0" z_order="0" group_id="2"></box>
<ellipse label="cat" cx="4.0" cy="3.0" rx="2.0" ry="1.5" rotation="10" z_order="0"></ellipse>
<mask label="tree" rle="1, 2, 3" left="2" top="1" width="3" height="2" z_order="0"></mask>
<points label="cat" points="1.00,1.00"></points></image></annotations>"""

VOC = """<annotation><filename>a.png</filename><size><width>8</width><height>6</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>5</ymax></bndbox>
</object><object><name>dog</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>8</xmax><ymax>6</ymax></bndbox></object>
</annotation>"""

# 192 values of 8 bits, run lengths of 3, 4, 8 and 16 bits: a run of 96 of value 0, one of 96 of
# value 255
_BRUSH_BITS = (
    f"{192:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    + f"110{95:08b}{0:08b}"
    + f"110{95:08b}{255:08b}"
)
BRUSH = [int(_BRUSH_BITS[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(_BRUSH_BITS), 8)]


def result(kind: str, label: str, **value: Any) -> dict[str, Any]:
    return {
        "id": f"{kind}{label}",
        "type": f"{kind}labels",
        "to_name": "image",
        "from_name": "tag",
        "image_rotation": 0,
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "value": {**value, f"{kind}labels": [label]},
    }


LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"image": "/data/upload/1/0a1b2c3d-a.png"},
        "predictions": [],
        "annotations": [
            {
                "id": 5,
                "completed_by": 1,
                "was_cancelled": False,
                "updated_at": "2026-01-01T00:00:00Z",
                "result": [
                    result("polygon", "cat", points=[[10, 10], [60, 10], [60, 70]], closed=True),
                    result("rectangle", "dog", x=25, y=25, width=50, height=50, rotation=20),
                    result("ellipse", "cat", x=50, y=50, radiusX=25, radiusY=20, rotation=0),
                    result("brush", "tree", format="rle", rle=BRUSH),
                    result("keypoint", "cat", x=1, y=1, width=1),
                ],
            },
            {"id": 6, "was_cancelled": True, "result": []},
        ],
    }
]

SUPERVISELY = {
    "description": "",
    "tags": [],
    "size": {"height": HEIGHT, "width": WIDTH},
    "objects": [
        {
            "classTitle": "cat",
            "classId": 1,
            "geometryType": "bitmap",
            "instance": "x",
            "bitmap": {
                "origin": [2, 1],
                "data": base64.b64encode(zlib.compress(png([[0, 9], [9, 9]]))).decode(),
            },
        },
        {
            "classTitle": "dog",
            "geometryType": "polygon",
            "points": {
                "exterior": [[1, 1], [6, 1], [6, 5], [1, 5]],
                "interior": [[[2, 2], [4, 2], [4, 4]]],
            },
        },
        {
            "classTitle": "cat",
            "geometryType": "rectangle",
            "instance": "x",
            "points": {"exterior": [[1, 1], [3, 3]], "interior": []},
        },
        {
            "classTitle": "tree",
            "geometryType": "point",
            "points": {"exterior": [[1, 1]], "interior": []},
        },
    ],
}

LABELME = {
    "version": "5.5.0",
    "flags": {},
    "imagePath": "a.png",
    "imageData": None,
    "imageHeight": HEIGHT,
    "imageWidth": WIDTH,
    "shapes": [
        {
            "label": "cat",
            "shape_type": "polygon",
            "points": [[1, 1], [5, 1], [5, 4]],
            "group_id": 1,
        },
        {"label": "dog", "shape_type": "rectangle", "points": [[1, 1], [4, 4]], "group_id": None},
        {"label": "cat", "shape_type": "circle", "points": [[3, 3], [3, 5]], "group_id": 1},
        {
            "label": "tree",
            "shape_type": "mask",
            "points": [[2, 2], [3, 3]],
            "mask": base64.b64encode(png([[0, 9], [9, 9]])).decode(),
        },
    ],
}

COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
    "categories": [{"id": index, "name": c.name} for index, c in enumerate(CLASSES)],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 0, "iscrowd": 0, "area": 9, "bbox": [1, 1, 4, 3],
         "segmentation": [[1, 1, 5, 1, 5, 4]]},
        {"id": 2, "image_id": 1, "category_id": 1, "iscrowd": 1, "area": 4, "bbox": [0, 0, 1, 4],
         "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 4, 44]}},
        {"id": 3, "image_id": 1, "category_id": 2, "iscrowd": 0, "area": 4, "bbox": [0, 0, 1, 4],
         "segmentation": {"size": [HEIGHT, WIDTH], "counts": "04\\1"}},
    ],
}  # fmt: skip

PANOPTIC = {
    "images": COCO["images"],
    "categories": COCO["categories"],
    "annotations": [
        {
            "image_id": 1, "file_name": "a.png",
            "segments_info": [
                {"id": 1, "category_id": 0, "iscrowd": 0, "area": 24, "bbox": [0, 0, 4, 6]},
                {"id": 2, "category_id": 2, "iscrowd": 1, "area": 24, "bbox": [4, 0, 4, 6]},
            ],
        }
    ],
}  # fmt: skip

OPEN_IMAGES = {
    "train-annotations-bbox.csv": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
    "a,xclick,cat,1,0.125,0.5,0.25,0.75,0\na,xclick,dog,1,0.5,1,0,1,1\n",
    "train-annotations-object-segmentation.csv": "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,"
    "BoxYMin,BoxYMax,PredictedIoU,Clicks\na_cat_1.png,a,cat,1,0.125,0.5,0.25,0.75,0.9,0 0 1\n",
    "train-annotations-human-imagelabels.csv": "ImageID,Source,LabelName,Confidence\n"
    "a,verification,cat,1\na,verification,tree,0\na,verification,dog,1\n",
    "class-descriptions.csv": "cat,Cat\ndog,Dog\n",
}

YOLO = "0 0.5 0.5 0.5 0.5\n1 0.1 0.1 0.6 0.1 0.6 0.6\n1 0.2 0.2 0.6 0.1 0.6 0.6\n"

HUB = [
    {"bbox": [1.0, 1.0, 4.0, 3.0], "category": 0, "segmentation": [[1.0, 1.0, 5.0, 1.0, 5.0, 4.0]]},
    {"bbox": [0.0, 0.0, 2.0, 2.0], "category": 1, "segmentation": [[0.0, 0.0, 2.0, 0.0, 2.0, 2.0]]},
]


# --- files


def write_supervisely(root: Path, rng: Random) -> None:
    image(root, "day/img/a.png")
    meta = {
        "classes": [{"id": i, "title": c.name, "shape": "any"} for i, c in enumerate(CLASSES)],
        "tags": [],
    }
    write_json(root / "meta.json", meta if rng.random() < 0.8 else mutated_json(meta, rng))
    json_file("day/ann/a.png.json", SUPERVISELY)(root, rng)


def write_panoptic(root: Path, rng: Random) -> None:
    ids = np.ones((HEIGHT, WIDTH), np.int64)
    ids[:, 4:] = 2
    save(root / "maps/a.png", rgb_of(ids))
    json_file("panoptic.json", PANOPTIC)(root, rng)


def write_open_images(root: Path, rng: Random) -> None:
    """Three CSVs and a mask; the values of one of them are changed, or its bytes."""
    image(root, "images/a.png")
    save(root / "csv/masks/a_cat_1.png", np.full((HEIGHT // 2, WIDTH // 2), 255, np.uint8))
    changed = rng.choice(list(OPEN_IMAGES))
    for name, text in OPEN_IMAGES.items():
        path = root / "csv" / name
        if name != changed:
            path.write_text(text)
        elif rng.random() < 0.2:
            path.write_bytes(mutated_bytes(text.encode(), rng))
        else:
            rows = mutated_json([line.split(",") for line in text.splitlines()], rng)
            cells = [
                row if isinstance(row, list) else [row]
                for row in (rows if isinstance(rows, list) else [rows])
            ]
            path.write_text("\n".join(",".join(map(str, row)) for row in cells), "utf-8")


def write_yolo(root: Path, rng: Random) -> None:
    image(root)
    (root / "a.txt").write_text(mutated_lines(YOLO, rng))


def write_id_map(root: Path, rng: Random) -> None:
    """A PNG of ids of another size, depth or channels, or with its bytes changed."""
    image(root, "images/a.png")
    path = root / "labels/a.png"
    shape = rng.choice(
        [(HEIGHT, WIDTH)] * 3 + [(WIDTH, HEIGHT), (1, 1), (HEIGHT, WIDTH, 3), (HEIGHT, WIDTH, 4)]
    )
    dtype = rng.choice([np.uint8, np.uint8, np.uint16] if len(shape) == 2 else [np.uint8])
    save(path, np.full(shape, rng.choice([0, 1, 2, 3, 255, 40_000]) % np.iinfo(dtype).max, dtype))
    if rng.random() < 0.5:
        path.write_bytes(mutated_bytes(path.read_bytes(), rng))


def write_hub(root: Path, rng: Random) -> None:
    """Objects that Arrow stores in the column's type: where it refuses a change, another one is
    made.
    """
    column_type = pa.array([HUB]).type
    while True:
        try:
            stored = pa.array([mutated_json(HUB, rng)], column_type).to_pylist()[0]
        except (pa.ArrowException, OverflowError, ValueError, TypeError):
            continue
        if stored != HUB:
            (root / "row.json").write_text(json.dumps(stored))
            return


def read_hub_row(spec: DatasetSpec, root: Path) -> SampleDataset:
    columns = Columns(
        objects_column="objects",
        segmentation_key="segmentation" if spec.task == "instance" else None,
    )
    picture = {"bytes": png(np.full((HEIGHT, WIDTH, 3), 90)), "path": None}
    row = {
        "image": picture,
        "objects": json.loads((root / "row.json").read_text()),
        "row number": 0,
    }
    return SampleDataset(spec, [row], RowLoader(spec, columns, "dataset 'tiny'", by_path=False))


FORMATS: Mapping[str, Format] = {
    "cvat_xml": Format(
        xml_file("cvat.xml", CVAT),
        lambda spec, root: READERS["cvat_xml"](spec, root, root / "cvat.xml"),
    ),
    "label_studio": Format(
        json_file("export.json", LABEL_STUDIO),
        lambda spec, root: READERS["label_studio"](spec, root, root / "export.json"),
    ),
    "supervisely": Format(write_supervisely, lambda spec, root: READERS["supervisely"](spec, root)),
    "labelme": Format(
        json_file("a.json", LABELME), lambda spec, root: READERS["labelme"](spec, root)
    ),
    "pascal_voc": Format(
        xml_file("a.xml", VOC),
        lambda spec, root: READERS["pascal_voc"](spec, root, root, image_suffix=".png"),
    ),
    "coco_instances": Format(
        json_file("coco.json", COCO),
        lambda spec, root: READERS["coco_instances"](spec, root, root / "coco.json"),
        NUMBERS,
    ),
    "coco_panoptic": Format(
        write_panoptic,
        lambda spec, root: READERS["coco_panoptic"](
            spec, root, root / "maps", root / "panoptic.json"
        ),
        NUMBERS,
    ),
    "open_images": Format(
        write_open_images,
        lambda spec, root: READERS["open_images"](spec, root / "images", root / "csv"),
    ),
    "yolo": Format(write_yolo, lambda spec, root: READERS["yolo"](spec, root, root), NUMBERS),
    "image_png": Format(
        write_id_map,
        lambda spec, root: READERS["image_png"](
            spec, root / "images", root / "labels", image_suffix=".png"
        ),
        NUMBERS,
    ),
    "hub": Format(write_hub, read_hub_row, NUMBERS),
}
"""By the name of the reader."""

TASKS = {
    **{name: tasks_of_reader(name) for name in READER_FORMS},
    "hub": ("instance", "boxes"),
}  # of the objects in the row above


# --- the test


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files_end_in_a_clear_line(name: str, tmp_path: Path) -> None:
    tried = FORMATS[name]
    outcomes: Counter[str] = Counter()
    for seed in range(NUM_MUTATIONS):
        root = tmp_path / str(seed)
        root.mkdir()
        tried.write(root, random.Random(seed))
        spec = replace(tried.spec, task=TASKS[name][seed % len(TASKS[name])])
        try:
            outcomes[outcome(tried.read, spec, root)] += 1
        except Exception as error:
            raise AssertionError(
                f"mutation {seed} of {name}, as {spec.task}: {error!r}; the files are in {root}"
            ) from error
    assert sum(outcomes.values()) == NUM_MUTATIONS
    assert outcomes["read"] >= 10, "some changes do no harm"
    assert outcomes["read"] <= NUM_MUTATIONS * 0.8, "most do"


def outcome(read: Read, spec: DatasetSpec, root: Path) -> str:
    """What became of a changed file: "refused" as a whole, a "problem" of its image, or "read"."""
    try:
        data = read(spec, root)
    except (ValueError, FileNotFoundError) as error:
        require_clear_line(str(error))
        return "refused"
    for text in map(str, [*data.problems, *data.notes]):
        require_clear_line(text)
    found = "problem" if data.problems else "read"
    for row in data.rows:
        try:
            sample = data.load(row)
        except BadSampleError as error:
            require_clear_line(str(error))
            found = "problem"
            continue
        assert sample_faults(sample, spec) == []
    return found


def require_clear_line(text: str) -> None:
    """One line, not empty, and short enough to be read."""
    assert text.strip(), "an empty message"
    assert "\n" not in text, f"several lines: {text!r}"
    assert len(text) < 2000, f"{len(text)} characters: {text[:200]!r}"
