"""The same drawn objects in the files of every annotation format."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image, ImageDraw

from dataseg_hf.data.readers.registry import READERS
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, SampleDataset, TaskName

CLASSES = ("cat", "dog")
COLORS = ((250, 50, 83), (51, 221, 255))


@dataclass(frozen=True)
class World:
    """Images of one size, each with outlines [x1, y1, x2, y2, ...] in whole pixels of two classes
    in turn.
    """

    num_images: int
    height: int
    width: int
    outlines: Sequence[Sequence[int]]

    def names(self) -> list[str]:
        """File names of the images, in order."""
        return [f"{number:06}.png" for number in range(self.num_images)]

    def objects(self) -> list[tuple[int, Sequence[int]]]:
        """Class index and outline of each object of an image; all images have the same."""
        return [(place % 2, outline) for place, outline in enumerate(self.outlines)]


def drawn_world(
    num_images: int, objects_per_image: int, height: int = 480, width: int = 640
) -> World:
    """Twelve-cornered objects that do not overlap, in a grid."""
    columns = int(np.ceil(np.sqrt(objects_per_image)))
    cell_height, cell_width = height // columns, width // columns
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    outlines = []
    for place in range(objects_per_image):
        center = (place % columns + 0.5) * cell_width, (place // columns + 0.5) * cell_height
        radii = 0.3 * min(cell_height, cell_width) * (1 + 0.3 * np.cos(5 * angles))
        points = np.stack(
            [center[0] + radii * np.cos(angles), center[1] + radii * np.sin(angles)], axis=1
        )
        outlines.append(points.round().astype(int).ravel().tolist())
    return World(num_images, height, width, outlines)


def write_images(world: World, folder: Path) -> None:
    """One picture under every name, by hard links."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(
        0, 256, (world.height, world.width, 3), dtype=np.uint8
    )
    first, *others = world.names()
    Image.fromarray(noise).save(folder / first)
    for name in others:
        os.link(folder / first, folder / name)


# --- one writer a format: fills a folder that holds `images`, returns the reader's arguments


def _coco(world: World, root: Path) -> dict[str, Any]:
    images = [{"id": i, "file_name": name, "height": world.height, "width": world.width}
              for i, name in enumerate(world.names())]  # fmt: skip
    entries: list[dict[str, Any]] = []
    for image in range(world.num_images):
        for class_index, outline in world.objects():
            xs, ys = outline[0::2], outline[1::2]
            box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
            entries.append(
                {
                    "id": len(entries),
                    "image_id": image,
                    "category_id": class_index + 1,
                    "iscrowd": 0,
                    "bbox": box,
                    "segmentation": [outline],
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    (root / "a.json").write_text(
        json.dumps({"images": images, "annotations": entries, "categories": categories})
    )
    return {"images": root / "images", "annotation_file": root / "a.json"}


def _cvat(world: World, root: Path) -> dict[str, Any]:
    with (root / "a.xml").open("w") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>')
        for number, name in enumerate(world.names()):
            file.write(
                f'<image id="{number}" name={quoteattr(name)} width="{world.width}" '
                f'height="{world.height}">'
            )
            for class_index, outline in world.objects():
                points = ";".join(
                    f"{x},{y}" for x, y in zip(outline[0::2], outline[1::2], strict=True)
                )
                file.write(
                    f'<polygon label="{CLASSES[class_index]}" occluded="0" points="{points}" '
                    'z_order="0"/>'
                )
            file.write("</image>")
        file.write("</annotations>")
    return {"images": root / "images", "annotation_file": root / "a.xml"}


def _label_studio(world: World, root: Path) -> dict[str, Any]:
    sides = world.width, world.height
    results = [
        {
            "id": str(place),
            "type": "polygonlabels",
            "from_name": "label",
            "to_name": "image",
            "image_rotation": 0,
            "original_width": world.width,
            "original_height": world.height,
            "value": {
                "points": [
                    [100 * x / sides[0], 100 * y / sides[1]]
                    for x, y in zip(outline[0::2], outline[1::2], strict=True)
                ],
                "polygonlabels": [CLASSES[class_index]],
            },
        }
        for place, (class_index, outline) in enumerate(world.objects())
    ]
    tasks = [
        {
            "id": number,
            "data": {"image": f"/data/upload/1/{name}"},
            "annotations": [{"id": number, "result": results}],
        }
        for number, name in enumerate(world.names())
    ]
    (root / "a.json").write_text(json.dumps(tasks))
    return {"images": root / "images", "annotation_file": root / "a.json"}


def _supervisely(world: World, root: Path) -> dict[str, Any]:
    project = root / "project"
    (project / "ds/ann").mkdir(parents=True)
    (project / "ds/img").symlink_to((root / "images").resolve(), target_is_directory=True)
    meta = {
        "classes": [{"id": n, "title": name, "shape": "polygon"} for n, name in enumerate(CLASSES)]
    }
    (project / "meta.json").write_text(json.dumps(meta))
    objects = [
        {
            "classId": class_index, "classTitle": CLASSES[class_index], "geometryType": "polygon",
            "points": {"exterior": np.reshape(outline, (-1, 2)).tolist(), "interior": []},
        }
        for class_index, outline in world.objects()
    ]  # fmt: skip
    text = json.dumps({"size": {"height": world.height, "width": world.width}, "objects": objects})
    for name in world.names():
        (project / f"ds/ann/{name}.json").write_text(text)
    return {"annotations": project}


def _labelme(world: World, root: Path) -> dict[str, Any]:
    (root / "json").mkdir()
    shapes = [
        {
            "label": CLASSES[c],
            "shape_type": "polygon",
            "group_id": None,
            "points": np.reshape(o, (-1, 2)).tolist(),
        }
        for c, o in world.objects()
    ]
    for name in world.names():
        content = {
            "imagePath": name,
            "imageHeight": world.height,
            "imageWidth": world.width,
            "shapes": shapes,
        }
        (root / f"json/{Path(name).stem}.json").write_text(json.dumps(content))
    return {"annotations": root / "json", "images": root / "images"}


def _yolo(world: World, root: Path) -> dict[str, Any]:
    (root / "txt").mkdir()
    scale = np.array([world.width, world.height])
    lines = [
        f"{class_index} "
        + " ".join(f"{value:.6f}" for value in (np.reshape(outline, (-1, 2)) / scale).ravel())
        for class_index, outline in world.objects()
    ]
    for name in world.names():
        (root / f"txt/{Path(name).stem}.txt").write_text("\n".join(lines))
    return {"images": root / "images", "annotations": root / "txt"}


def _drawn(world: World, mode: str, fills: Sequence[Any]) -> Image.Image:
    canvas = Image.new(mode, (world.width, world.height))
    for (_, outline), fill in zip(world.objects(), fills, strict=True):
        ImageDraw.Draw(canvas).polygon(outline, fill=fill)
    return canvas


def _linked(canvas: Image.Image, folder: Path, names: Sequence[str]) -> None:
    folder.mkdir()
    first, *others = names
    canvas.save(folder / first)
    for name in others:
        os.link(folder / first, folder / name)


def _instance_ids(world: World, root: Path) -> dict[str, Any]:
    fills = [
        (class_index + 1) * 1000 + place for place, (class_index, _) in enumerate(world.objects())
    ]
    ids = np.asarray(_drawn(world, "I", fills)).astype(np.uint16)
    _linked(Image.fromarray(ids), root / "ids", world.names())
    return {"images": root / "images", "annotations": root / "ids", "divisor": 1000}


def _colors(world: World, root: Path) -> dict[str, Any]:
    _linked(
        _drawn(world, "RGB", [COLORS[c] for c, _ in world.objects()]),
        root / "colors",
        world.names(),
    )
    return {"images": root / "images", "annotations": root / "colors"}


_WORDS: Mapping[int | str, int] = {name: index for index, name in enumerate(CLASSES)}
_FROM_ONE: Mapping[int | str, int] = {1: 0, 2: 1}
_FROM_ZERO: Mapping[int | str, int] = {0: 0, 1: 1}
_RGB: Mapping[int | str, int] = {
    ",".join(map(str, color)): index for index, color in enumerate(COLORS)
}


@dataclass(frozen=True)
class Format:
    """How a format is written and read. id_map, void_ids: of the spec."""

    reader: str
    task: TaskName
    write: Callable[[World, Path], dict[str, Any]]
    id_map: Mapping[int | str, int]
    void_ids: frozenset[int | str] = frozenset()

    def read(self, arguments: Mapping[str, Any]) -> SampleDataset:
        """The dataset of the files that `write` left."""
        classes = tuple(ClassInfo(name, True) for name in CLASSES)
        spec = DatasetSpec(self.reader, self.task, classes, self.id_map, self.void_ids)
        data = READERS[self.reader](spec, **arguments)
        assert isinstance(data, SampleDataset)
        assert not data.problems, str(data.problems[0])
        return data


FORMATS: Mapping[str, Format] = {
    "coco_instances": Format("coco_instances", "instance", _coco, _FROM_ONE),
    "labelme": Format("labelme", "instance", _labelme, _WORDS),
    "yolo": Format("yolo", "instance", _yolo, _FROM_ZERO),
    "cvat_xml": Format("cvat_xml", "instance", _cvat, _WORDS),
    "label_studio": Format("label_studio", "instance", _label_studio, _WORDS),
    "supervisely": Format("supervisely", "instance", _supervisely, _WORDS),
    "instance_map": Format("instance_map", "instance", _instance_ids, _FROM_ONE, frozenset({0})),
    "image_png, colors": Format("image_png", "semantic", _colors, _RGB, frozenset({"0,0,0"})),
}
