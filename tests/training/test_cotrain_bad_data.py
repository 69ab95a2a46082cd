"""Data that cannot work ends the main job before training: exit code 2, and one line with the place
and the remedy.
"""

import importlib.util
import json
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from helpers.paths import ROOT
from helpers.run_programs import SETTINGS, start

pytestmark = pytest.mark.slow

OWN = {
    "task": "semantic",
    "classes": [{"name": "road", "ids": [1]}, {"name": "car", "ids": [2], "thing": True}],
}


def load_cotrain() -> Any:
    spec = importlib.util.spec_from_file_location("cotrain", ROOT / "examples/cotrain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def semantic(root: Path) -> dict[str, Any]:
    """Two images with their label PNGs."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (32, 24), (90, 120, 30)).save(root / f"images/{name}.jpg")
        labels = np.ones((24, 32), np.uint8)
        labels[5:12, 6:20] = 2
        Image.fromarray(labels).save(root / f"labels/{name}.png")
    return {
        "spec": OWN,
        "reader": "image_png",
        "images": f"{root}/images",
        "annotations": f"{root}/labels",
    }


def coco(root: Path, task: str, **changes: Any) -> dict[str, Any]:
    """One image with one object, whose annotation takes the changes; `images` and `top` change the
    rest.
    """
    (root / "images").mkdir(parents=True)
    Image.new("RGB", (32, 24)).save(root / "images/a.jpg")
    image = {"id": 7, "file_name": "a.jpg", "height": 24, "width": 32, **changes.pop("image", {})}
    annotation = {
        "id": 9,
        "image_id": 7,
        "category_id": 1,
        "bbox": [3, 4, 10, 12],
        "iscrowd": 0,
        "area": 120,
        "segmentation": [[3, 4, 13, 4, 13, 16, 3, 16]],
        **changes,
    }
    (root / "objects.json").write_text(json.dumps({"images": [image], "annotations": [annotation]}))
    spec = {"task": task, "classes": [{"name": "car", "ids": [1], "thing": True}]}
    return {
        "spec": spec,
        "reader": "coco_instances",
        "images": f"{root}/images",
        "annotation_file": f"{root}/objects.json",
    }


def panoptic(root: Path, listed: tuple[int, ...], drawn: tuple[int, ...]) -> dict[str, Any]:
    for folder in ("images", "maps"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (32, 24)).save(root / "images/a.jpg")
    ids = np.zeros((24, 32, 3), np.uint8)
    for place, segment_id in enumerate(drawn):
        ids[4 * place : 4 * place + 4, :, 0] = segment_id
    Image.fromarray(ids).save(root / "maps/a.png")
    segments = [{"id": segment_id, "category_id": 1} for segment_id in listed]
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 7, "file_name": "a.png", "segments_info": segments}],
    }
    (root / "panoptic.json").write_text(json.dumps(content))
    return {
        "spec": {"task": "panoptic", "classes": [{"name": "car", "ids": [1], "thing": True}]},
        "reader": "coco_panoptic", "images": f"{root}/images", "annotations": f"{root}/maps",
        "annotation_file": f"{root}/panoptic.json",
    }  # fmt: skip


def truncated(root: Path) -> dict[str, Any]:
    entry = semantic(root)
    photo = root / "images/b.jpg"
    photo.write_bytes(photo.read_bytes()[:-200])
    return entry


def no_image(root: Path) -> dict[str, Any]:
    entry = semantic(root)
    (root / "labels/b.png").write_text("<html>404 not found</html>")
    return entry


def one_pixel(root: Path) -> dict[str, Any]:
    entry = semantic(root)
    Image.new("RGB", (1, 1)).save(root / "images/b.jpg")
    return entry


def too_large(root: Path) -> dict[str, Any]:
    """A PNG whose header promises 100,000 x 1,000 pixels."""
    entry = semantic(root)
    header = struct.pack(">IIBBBBB", 100_000, 1_000, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    image = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    (root / "labels/b.png").write_bytes(image)
    return entry


def unknown_id(root: Path) -> dict[str, Any]:
    entry = semantic(root)
    Image.fromarray(np.full((24, 32), 9, np.uint8)).save(root / "labels/b.png")
    return entry


def without(root: Path, folder: str) -> dict[str, Any]:
    entry = semantic(root)
    next((root / folder).glob("b.*")).unlink()
    return entry


def empty(root: Path) -> dict[str, Any]:
    entry = semantic(root)
    for path in root.glob("*/*"):
        path.unlink()
    return entry


def no_json(root: Path) -> dict[str, Any]:
    entry = coco(root, "boxes")
    (root / "objects.json").write_text('{"images": [{"id": 1')
    return entry


RLE = {"size": [24, 32], "counts": [100, 10]}
BAD: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "truncated JPEG": (truncated, "images/b.jpg: cannot be read as an image"),
    "PNG that is no image": (no_image, "labels/b.png: cannot be read as an image"),
    "1x1 image": (one_pixel, "images/b.jpg: an image of 1 x 1 pixels"),
    "image over the limit": (
        too_large,
        "labels/b.png: 1000 x 100000 pixels (height x width) are more than 89478485",
    ),
    "unknown id in a PNG": (
        unknown_id,
        "labels/b.png: 1 category id is not in the spec of dataset 'custom': 9 ",
    ),
    "annotation of a missing image": (lambda root: without(root, "images"), "images/b.*: missing"),
    "image without annotation": (lambda root: without(root, "labels"), "labels/b.png: missing"),
    "empty dataset": (empty, "no images in"),
    "listed image missing": (
        lambda root: coco(root, "boxes", image={"file_name": "b.jpg"}),
        "images/b.jpg: missing",
    ),
    "unknown category": (
        lambda root: coco(root, "boxes", category_id=5),
        "image 7: 1 category id is not in the",
    ),
    "object of an unlisted image": (
        lambda root: coco(root, "boxes", image_id=8),
        "image 8: has annotations, but",
    ),
    "segment not in the json": (
        lambda root: panoptic(root, (1,), (1, 2)),
        "maps/a.png: segment ids [2] are not in",
    ),
    "run lengths of another area": (
        lambda root: coco(root, "instance", segmentation=RLE),
        "to 768 pixels, not 110",
    ),
    "polygon of 2 points": (
        lambda root: coco(root, "instance", segmentation=[[1, 1, 5, 5]]),
        "a polygon of 2 points",
    ),
    "NaN box": (lambda root: coco(root, "boxes", bbox=[1, float("nan"), 3, 4]), "objects.json"),
    "infinite box": (lambda root: coco(root, "boxes", bbox=[1, 1, 1e999, 4]), "objects.json"),
    "negative box": (
        lambda root: coco(root, "boxes", bbox=[3, 4, -5, 6]),
        "image 7, annotation 9: the box",
    ),
    "file name that leads out": (
        lambda root: coco(root, "boxes", image={"file_name": "../images/a.jpg"}),
        "image 7: file name '../images/a.jpg' must be a relative path",
    ),
    "json that is none": (no_json, "objects.json: not valid JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_ends_the_job_before_training(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    build, message = BAD[name]
    entry = {**build(tmp_path / "data"), "batch_size": 2, "image_size": 32}
    settings = {
        **SETTINGS,
        "output_dir": str(tmp_path / "run"),
        "datasets": {"mine": entry},
        "evaluation": {},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setattr(sys, "argv", ["cotrain.py", "--config", str(tmp_path / "run.yaml")])
    assert load_cotrain().main() == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {tmp_path / 'run.yaml'}: datasets.mine")
    assert message in errors[0]
    assert not (tmp_path / "run").exists(), "nothing is begun"


def run_with(tmp_path: Path, entry: dict[str, Any], *arguments: str) -> Any:
    override = json.dumps({"mine": {**entry, "batch_size": 2, "image_size": 32}})
    return start(
        tmp_path / "run",
        "--datasets",
        override,
        "--evaluation",
        "{}",
        "--max_steps",
        "4",
        *arguments,
    )


def test_in_a_real_process(tmp_path: Path) -> None:
    done = run_with(tmp_path, truncated(tmp_path / "data"))
    assert done.returncode != 0
    assert "images/b.jpg: cannot be read as an image" in done.stderr


def test_bad_images_are_skipped_and_counted_where_allowed(tmp_path: Path) -> None:
    done = run_with(
        tmp_path, truncated(tmp_path / "data"), "--on_bad_sample", "skip", "--num_workers", "1"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (tmp_path / "run/history.csv").read_text().splitlines()
    column = lines[0].split(",").index("skipped_images")
    assert sum(int(float(line.split(",")[column])) for line in lines[1:]) == 4, (
        "once an epoch, and a step is an epoch"
    )
    assert (done.stdout + done.stderr).count("images/b.jpg: cannot be read as an image") == 1, (
        "said once"
    )


def test_gray_cmyk_16_bit_and_turned_images_train(tmp_path: Path) -> None:
    entry = semantic(tmp_path / "data")
    entry["options"] = {"image_suffix": ".tif"}
    for path in (tmp_path / "data/images").iterdir():
        path.unlink()
    sources = tmp_path / "data/images"
    labels = np.ones((24, 32), np.uint8)
    for name in "abcd":
        Image.fromarray(labels).save(tmp_path / f"data/labels/{name}.png")
    Image.new("L", (32, 24), 90).save(sources / "a.tif")
    Image.new("CMYK", (32, 24), (90, 10, 0, 3)).save(sources / "b.tif")
    Image.fromarray(np.full((24, 32), 40_000, np.uint16)).save(sources / "c.tif")
    turned = Image.Exif()
    turned[0x0112] = 6
    # stored upright, shown lying
    Image.new("RGB", (24, 32), (9, 9, 9)).save(sources / "d.tif", exif=turned)
    done = run_with(tmp_path, entry, "--check_samples", "4")
    assert done.returncode == 0, done.stderr[-2000:]
