"""Damaged and wrong PNGs, label maps and folders: a line that names the file, a counted note or the
right result.
"""

import io
import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataseg_hf.data.readers.image_png import read_image_png
from dataseg_hf.data.readers.instance_map import read_instance_map
from dataseg_hf.data.sample import (
    BadSampleError,
    ClassInfo,
    DatasetSpec,
    Sample,
    SampleDataset,
    Segments,
)
from dataseg_hf.data.sample_faults import sample_faults
from helpers.annotation_files import save

MUTANTS = 200  # of each format
SECONDS = 5  # for one of them, which takes milliseconds
LABEL_MAP = (
    "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\ncar:250,50,83::\n"
)
CONFIG = json.dumps(
    {"labels": [{"name": f"x--{name}", "readable": name} for name in ("background", "road", "car")]}
)

SPEC = DatasetSpec(
    name="street",
    task="panoptic",
    classes=(ClassInfo("road", False), ClassInfo("car", True)),
    id_map={"road": 0, "car": 1},
    void_ids=frozenset({"background"}),
)
CLASSES = np.zeros((12, 16), np.uint16)
CLASSES[6:] = 1
CLASSES[2:8, 2:7] = CLASSES[3:9, 9:14] = 2
OBJECTS = np.where(CLASSES == 2, 1 + (np.arange(16) > 7), 0)
COLORS = np.array([(0, 0, 0), (128, 64, 128), (250, 50, 83)], np.uint8)
CHANNELS = np.stack([CLASSES, OBJECTS, np.zeros_like(CLASSES)], axis=-1).astype(np.uint8)

Read = Callable[[Path, DatasetSpec], SampleDataset]


def places(root: Path) -> dict[str, Any]:
    return {"images": root / "images", "annotations": root / "maps"}


FORMATS: dict[str, tuple[dict[str, np.ndarray], str, Read]] = {
    "image_png of ids": (
        {"maps": CLASSES.astype(np.uint8)},
        "names.txt",
        lambda root, spec: read_image_png(
            replace(spec, task="semantic"), **places(root), label_file=root / "names.txt"
        ),
    ),
    "image_png of colors": (
        {"maps": COLORS[CLASSES]},
        "labelmap.txt",
        lambda root, spec: read_image_png(
            replace(spec, task="semantic"), **places(root), colors=root / "labelmap.txt"
        ),
    ),
    "pairs of ids": (
        {"maps": CLASSES.astype(np.uint8), "objects": OBJECTS.astype(np.uint8)},
        "config.json",
        lambda root, spec: read_instance_map(
            spec, **places(root), objects=root / "objects", label_file=root / "config.json"
        ),
    ),
    "pairs of colors": (
        {"maps": COLORS[CLASSES], "objects": COLORS[OBJECTS]},
        "labelmap.txt",
        lambda root, spec: read_instance_map(
            replace(spec, task="instance"),
            **places(root),
            objects=root / "objects",
            colors=root / "labelmap.txt",
        ),
    ),
    "divisor": (
        {"maps": np.where(CLASSES == 2, 2000 + OBJECTS, CLASSES).astype(np.uint16)},
        "config.json",
        lambda root, spec: read_instance_map(
            spec, **places(root), divisor=1000, label_file=root / "config.json"
        ),
    ),
    "channels": (
        {"maps": CHANNELS},
        "config.json",
        lambda root, spec: read_instance_map(
            replace(spec, task="boxes"),
            **places(root),
            instance_channels=True,
            label_file=root / "config.json",
        ),
    ),
}
TEXTS = {"names.txt": "background\nroad\ncar\n", "labelmap.txt": LABEL_MAP, "config.json": CONFIG}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write the files of a format, two images with the same maps, into a folder; returns it."""

    def files(kind: str) -> Path:
        maps, table, _ = FORMATS[kind]
        for name in ("a", "b"):
            save(tmp_path / f"images/{name}.png", np.full((12, 16, 3), 90, np.uint8))
            for folder, array in maps.items():
                save(tmp_path / f"{folder}/{name}.png", array)
        (tmp_path / table).write_text(TEXTS[table])
        return tmp_path

    return files


@contextmanager
def restored(path: Path) -> Iterator[None]:
    """Within it the file may be changed, removed, or made a folder."""
    content = path.read_bytes()
    try:
        yield
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)


# --- mutations: each changes a file and says how


def flip_bytes(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, len(content), rng.integers(1, 4)):
        content[place] ^= 1 << rng.integers(0, 8)
    path.write_bytes(content)


def cut(path: Path, rng: np.random.Generator) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(0, len(content))])


def change_mode(path: Path, rng: np.random.Generator) -> None:
    image = Image.open(path)
    mode = str(rng.choice(["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "F"]))
    if mode in ("CMYK", "F"):  # PNG has neither
        image.convert("RGB" if mode == "CMYK" else "L").convert(mode).save(path, "TIFF")
    elif image.mode == "I;16" or mode == "I;16":
        array = np.asarray(image if image.mode == "I;16" else image.convert("L"))
        Image.fromarray(array.astype(np.uint16 if mode == "I;16" else np.uint8)).save(path, "PNG")
    else:
        image.convert(mode).save(path, "PNG")


def change_size(path: Path, rng: np.random.Generator) -> None:
    array = np.asarray(Image.open(path))
    height, width = rng.integers(1, 30, 2)
    Image.fromarray(np.resize(array, (height, width, *array.shape[2:]))).save(path, "PNG")


def change_pixels(path: Path, rng: np.random.Generator) -> None:
    array = np.asarray(Image.open(path)).copy()
    rows, columns = rng.integers(0, array.shape[0], 5), rng.integers(0, array.shape[1], 5)
    array[rows, columns] = rng.integers(
        0, np.iinfo(array.dtype).max, (5, *array.shape[2:]), endpoint=True
    )
    Image.fromarray(array).save(path, "PNG")


def smooth(path: Path, rng: np.random.Generator) -> None:
    image = Image.open(path).convert("RGB")
    image.resize((33, 25), Image.Resampling.BILINEAR).resize(
        image.size, Image.Resampling.BILINEAR
    ).save(path, "PNG")


def lossy(path: Path, rng: np.random.Generator) -> None:
    buffer = io.BytesIO()
    Image.open(path).convert("RGB").save(buffer, "JPEG", quality=int(rng.integers(5, 95)))
    path.write_bytes(buffer.getvalue())


def remove(path: Path, rng: np.random.Generator) -> None:
    path.unlink()


def empty(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(b"")


def make_folder(path: Path, rng: np.random.Generator) -> None:
    path.unlink()
    path.mkdir()


def other_number(path: Path, rng: np.random.Generator) -> None:
    text = path.read_text()
    digits = [place for place, character in enumerate(text) if character.isdigit()]
    if digits:
        place = int(rng.choice(digits))
        other = str(rng.choice(["", "-1", "999", "1e400", "9" * 5000, "NaN", "0x1", ",", "1.5"]))
        path.write_text(text[:place] + other + text[place + 1 :])


def other_lines(path: Path, rng: np.random.Generator) -> None:
    lines = path.read_text().splitlines() or [""]
    place = int(rng.integers(0, len(lines)))
    lines[place : place + 1] = [
        [],
        [lines[place]] * 2,
        ["car"],
        ["truck:9,9,9::"],
        [":1,2,3::"],
        ["\0"],
        ["road:250,50,83"],
        ["car,1,2,3"],
    ][int(rng.integers(0, 8))]
    path.write_text("\n".join(lines))


def other_json(path: Path, rng: np.random.Generator) -> None:
    values = [
        "null",
        "[]",
        '{"labels": null}',
        '{"labels": [null]}',
        '{"labels": [{"name": 1}]}',
        "NaN",
        "[" * 5000,
    ]
    values += [
        '{"labels": [{"readable": ["car"]}]}',
        '{"labels": {"0": "car"}}',
        '{"labels": [{"name": ""}]}',
    ]
    values += [json.dumps({"labels": [{"name": "car"}] * 3})]
    path.write_text(str(rng.choice(values)))


def other_encoding(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(
        path.read_text(errors="replace").encode(str(rng.choice(["utf-16", "utf-8-sig", "utf-32"])))
    )


OF_MAPS = [
    flip_bytes,
    flip_bytes,
    cut,
    change_mode,
    change_size,
    change_pixels,
    smooth,
    lossy,
    remove,
    empty,
    make_folder,
]
OF_TEXTS = [
    flip_bytes,
    cut,
    other_number,
    other_lines,
    other_json,
    other_encoding,
    remove,
    empty,
    make_folder,
]


@contextmanager
def time_limit() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise TimeoutError(f"took more than {SECONDS} seconds")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def outcome(read: Read, root: Path, spec: DatasetSpec) -> tuple[str, np.ndarray | None]:
    """What becomes of a set: "refused" by its reader, "problem" of an image, or "read"; and what
    image "a" holds.

    Other errors than those that the readers promise get through.
    """
    messages = []
    first = None
    try:
        with time_limit():
            data = read(root, spec)
    except (ValueError, OSError) as error:
        messages.append(str(error))
        kind = "refused"
    else:
        messages += map(str, data.problems)
        for row in data.rows:
            try:
                with time_limit():
                    sample = data.load(row)
            except BadSampleError as error:
                messages.append(str(error))
                continue
            assert sample_faults(sample, data.spec) == []
            if sample.image_id == "a":
                first = content(sample)
        kind = "problem" if messages else "read"
    for message in messages:
        assert str(root) in message or "'street'" in message, message
        assert "\n" not in message
    return kind, first


def content(sample: Sample) -> np.ndarray:
    annotation = sample.annotation
    return annotation.segment_map if isinstance(annotation, Segments) else annotation.boxes


@pytest.mark.parametrize("kind", FORMATS)
def test_mutants(write, kind):
    maps, table, read = FORMATS[kind]
    rng = np.random.default_rng(0)
    root = write(kind)
    undamaged = outcome(read, root, SPEC)
    assert undamaged[0] == "read"
    outcomes: Counter[str] = Counter()
    for number in range(MUTANTS):
        if number % 4 == 3:
            path, mutations = root / table, OF_TEXTS
        else:
            path, mutations = root / str(rng.choice([*maps, *maps, "images"])) / "b.png", OF_MAPS
        mutation = mutations[int(rng.integers(0, len(mutations)))]
        spec = replace(SPEC, unknown_ids="void") if rng.random() < 0.2 else SPEC
        with restored(path):
            mutation(path, rng)
            try:
                found, first = outcome(read, root, spec)
            except Exception as error:
                raise AssertionError(
                    f"mutant {number}: {mutation.__name__} of {path.name}"
                ) from error
        outcomes[found] += 1
        if found != "refused" and path.name == "b.png":
            np.testing.assert_array_equal(first, undamaged[1], "the other image is not spoilt")
    assert sum(outcomes.values()) == MUTANTS
    assert min(outcomes[end] for end in ("read", "problem", "refused")) > 0, (
        "mutants end in every way"
    )
