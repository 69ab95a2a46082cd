"""`examples/inspect_data.py` as users start it, on folders with one planted fault each, and on the
real data.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from dataseg_hf.data.inspection import inspect_dataset, spaced
from dataseg_hf.data.sample import (
    ClassInfo,
    DatasetSpec,
    Instances,
    Sample,
    SampleDataset,
    SampleStream,
    Segments,
)
from dataseg_hf.data.sample_faults import sample_faults
from dataseg_hf.pictures.contact_sheet import contact_sheet
from dataseg_hf.pictures.overlay import category_color
from helpers import warm_python
from helpers.paths import ROOT
from helpers.run_programs import environment

pytestmark = pytest.mark.slow

SPEC = DatasetSpec(
    "three",
    "instance",
    tuple(ClassInfo(n, True) for n in ("cat", "dog", "cow")),
    {1: 0, 2: 1, 3: 2},
)


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    return warm_python.run([str(ROOT / "examples/inspect_data.py"), *arguments], environment())


def settings_file(folder: Path, **datasets: dict[str, Any]) -> str:
    file = folder / "settings.yaml"
    settings = {
        "output_dir": str(folder / "out"),
        "text_encoder": {"kind": "hashed_ngrams"},
        "datasets": datasets,
    }
    file.write_text(yaml.safe_dump(settings))
    return str(file)


def write_pngs(folder: Path) -> dict[str, Any]:
    """Four 30 x 20 JPEGs, in the PNGs id 1 on the left half, 2 right of it, 255 (void) in the
    lowest row.
    """
    for name in ("images", "maps"):
        (folder / name).mkdir()
    ids = np.ones((20, 30), np.uint8)
    ids[:, 15:] = 2
    ids[-1] = 255
    for number, name in enumerate("abcd"):
        noise = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"images/{name}.jpg")
        Image.fromarray(ids).save(folder / f"maps/{name}.png")
    return {
        "spec": {
            "task": "semantic",
            "classes": [
                {"name": "road", "ids": [1]},
                {"name": "sky", "ids": [2]},
                {"name": "sea", "ids": [3]},
            ],
            "void_ids": [255],
        },
        "reader": "image_png",
        "images": str(folder / "images"),
        "annotations": str(folder / "maps"),
    }


def write_panoptic(folder: Path, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Two COCO panoptic images of 20 x 20 pixels with segment 7 (a person, id 1) left and 8 (grass,
    id 2) right.
    """
    for name in ("images", "maps"):
        (folder / name).mkdir()
    ids = np.zeros((20, 20, 3), np.uint8)
    ids[:, :10, 0], ids[:, 10:, 0] = 7, 8
    content: dict[str, Any] = {"images": [], "annotations": []}
    for number in (1, 2):
        Image.new("RGB", (20, 20), (number, 90, 90)).save(folder / f"images/{number}.jpg")
        Image.fromarray(ids).save(folder / f"maps/{number}.png")
        content["images"].append(
            {"id": number, "file_name": f"{number}.jpg", "height": 20, "width": 20}
        )
        infos = [{"id": 7, "category_id": 1}, {"id": 8, "category_id": 2}]
        content["annotations"].append(
            {"image_id": number, "file_name": f"{number}.png", "segments_info": infos}
        )
    change(content)
    (folder / "panoptic.json").write_text(json.dumps(content))
    classes = [{"name": "person", "ids": [1], "thing": True}, {"name": "grass", "ids": [2]}]
    return {
        "spec": {"task": "panoptic", "classes": classes},
        "reader": "coco_panoptic",
        "images": str(folder / "images"),
        "annotations": str(folder / "maps"),
        "annotation_file": str(folder / "panoptic.json"),
    }


# --- planted faults


def truncated(folder: Path) -> None:
    file = folder / "images/b.jpg"
    file.write_bytes(file.read_bytes()[:400])


def text_as_png(folder: Path) -> None:
    (folder / "maps/b.png").write_text("no image")


def unknown_id(folder: Path) -> None:
    Image.fromarray(np.full((20, 30), 77, np.uint8)).save(folder / "maps/b.png")


def other_size(folder: Path) -> None:
    Image.fromarray(np.ones((20, 31), np.uint8)).save(folder / "maps/b.png")


def missing(folder: Path) -> None:
    (folder / "images/b.jpg").unlink()


def only_void(folder: Path) -> None:
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(folder / "maps/b.png")


def equal_pixels(folder: Path) -> None:
    (folder / "images/b.jpg").write_bytes((folder / "images/a.jpg").read_bytes())


def all_damaged(folder: Path) -> None:
    for name in "abcd":
        (folder / f"images/{name}.jpg").write_text("nothing")


def many_damaged(folder: Path) -> None:
    for number in range(25):
        (folder / f"images/x{number:02}.jpg").write_text("nothing")
        Image.new("L", (30, 20), 1).save(folder / f"maps/x{number:02}.png")


def nothing(folder: Path) -> None:
    """Sound files."""


def broken_segment_ids(content: dict[str, Any]) -> None:
    content["annotations"][1]["segments_info"][0]["id"] = 9


def listed_twice(content: dict[str, Any]) -> None:
    content["images"][1] |= {"id": 1}
    del content["annotations"][1]


def one_file_twice(content: dict[str, Any]) -> None:
    content["images"][1]["file_name"] = "1.jpg"


def unknown_category(content: dict[str, Any]) -> None:
    content["annotations"][1]["segments_info"][0]["category_id"] = 99


PLANTS = (
    truncated,
    text_as_png,
    unknown_id,
    other_size,
    missing,
    only_void,
    equal_pixels,
    all_damaged,
    many_damaged,
    nothing,
)
CHANGES = (broken_segment_ids, listed_twice, one_file_twice, unknown_category)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder per fault, and the settings that name them all: one process inspects the lot."""
    root = tmp_path_factory.mktemp("planted")
    entries: dict[str, dict[str, Any]] = {}
    for plant in PLANTS:
        folder = root / plant.__name__
        folder.mkdir()
        entries[plant.__name__] = write_pngs(folder)
        plant(folder)
    for change in CHANGES:
        folder = root / change.__name__
        folder.mkdir()
        entries[change.__name__] = write_panoptic(folder, change)
    return root, settings_file(root, **entries)


@pytest.fixture(scope="module")
def report(planted: tuple[Path, str]) -> dict[str, Any]:
    done = start("--config", planted[1], "--check", "all", "--json")
    assert done.returncode == 1, done.stderr
    assert "check datasets.truncated: 100%" in done.stderr
    return json.loads(done.stdout)


def of(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [found for found in report["datasets"] if found["name"] == f"datasets.{name}"]
    return found


def test_sound_files_are_counted_and_classes_that_never_occur_are_a_note(
    report: dict[str, Any],
) -> None:
    found = of(report, "nothing")
    assert found["problems"] == []
    assert (found["images"], found["checked"]) == (4, 4)
    assert found["classes"] == [
        {"name": "road", "images": 4, "segments": 4, "crowds": 0, "pixels": 4 * 19 * 15},
        {"name": "sky", "images": 4, "segments": 4, "crowds": 0, "pixels": 4 * 19 * 15},
        {"name": "sea", "images": 0, "segments": 0, "crowds": 0, "pixels": 0},
    ]
    assert found["void_share"] == pytest.approx(1 / 20)
    assert found["notes"] == ["1 of 3 classes never occur: sea"]


@pytest.mark.parametrize(
    ("name", "file", "what"),
    [
        ("truncated", "images/b.jpg", "cannot be read as an image"),
        ("text_as_png", "maps/b.png", "cannot be read as an image"),
        (
            "unknown_id",
            "maps/b.png",
            "1 category id is not in the spec of dataset 'custom': 77 (600 pixels)",
        ),
        ("other_size", "maps/b.png", "20 x 31"),
    ],
)
def test_an_image_that_cannot_be_used_is_a_problem_and_the_others_are_counted(
    planted: tuple[Path, str], report: dict[str, Any], name: str, file: str, what: str
) -> None:
    found, folder = of(report, name), planted[0] / name
    (problem,) = found["problems"]
    assert problem["image_id"] == "b"
    assert problem["file"] == str(folder / "images/b.jpg")
    assert str(folder / file) in problem["message"]
    assert what in problem["message"]
    assert found["checked"] == 4
    assert found["classes"][0]["images"] == 3


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("missing", "images/b.*: missing"),
        ("broken_segment_ids", "segment ids [7] are not in `segments_info`"),
        ("listed_twice", "image 1: listed twice in `images`"),
        ("one_file_twice", "1.jpg: the image of 2 rows"),
        (
            "unknown_category",
            "image 2: 1 category id is not in the spec of dataset 'custom': 99 (1 segment)",
        ),
    ],
)
def test_faults_of_the_listing_are_problems(report: dict[str, Any], name: str, what: str) -> None:
    (problem,) = of(report, name)["problems"]
    assert what in problem["message"]


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("only_void", "1 images without annotation: b.jpg"),
        ("equal_pixels", "2 images have equal pixels: a.jpg, b.jpg"),
    ],
)
def test_what_may_be_meant_is_a_note(report: dict[str, Any], name: str, note: str) -> None:
    found = of(report, name)
    assert found["problems"] == []
    assert note in found["notes"]


def test_where_no_image_is_left_the_report_stands_without_a_sheet(report: dict[str, Any]) -> None:
    found = of(report, "all_damaged")
    assert len(found["problems"]) == 5
    assert "no image of it can be used" in found["problems"][-1]["message"]
    assert found["contact_sheet"] is None
    assert found["notes"] == []


def test_the_json_holds_all_problems_and_their_number(report: dict[str, Any]) -> None:
    assert len(of(report, "many_damaged")["problems"]) == 25
    assert report["problems"] == sum(len(found["problems"]) for found in report["datasets"])


def test_the_screen_shows_a_line_for_each_kind_of_problem(planted: tuple[Path, str]) -> None:
    """And with two loading processes the others are as before."""
    done = start("--config", planted[1], "--check", "all", "--num_workers", "2")
    assert done.returncode == 1
    assert done.stdout.count("  problem: 25 times (images x00, x01, x02, ...), first: ") == 1
    assert done.stdout.startswith("dataset ")  # the mix
    assert "  problem: image b: " in done.stdout
    assert "39 problems; contact sheets in" in done.stdout


def test_sound_files_end_with_0_and_part_of_them_is_not_taken_for_all(tmp_path: Path) -> None:
    done = start(
        "--config", settings_file(tmp_path, small=write_pngs(tmp_path)), "--check", "2", "--json"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    found = of(report, "small")
    assert (found["checked"], report["mix"][0]["images"], report["problems"]) == (2, 4, 0)
    assert found["notes"] == ["1 of 3 classes were not seen among the 2 images checked: sea"]


def test_a_dataset_of_which_nothing_is_left_after_listing(tmp_path: Path) -> None:
    entry = write_pngs(tmp_path)
    for name in "abcd":
        (tmp_path / f"images/{name}.jpg").unlink()
    done = start("--config", settings_file(tmp_path, small=entry))
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("datasets.small: custom, semantic, 0 images, 0 checked")
    assert done.stdout.count("missing, the image of") == 1, "one line for the four"
    assert "(missing for 3 others, too: b, c, d)" in done.stdout


# --- settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check", "0"], "argument --check: '0' must be a positive number or 'all'"),
        (["--check", "some"], "argument --check: 'some' must be a positive number or 'all'"),
        (["--chek", "3"], "error: --chek: unknown option; did you mean '--check'?\n"),
        (["--config", "nowhere.yaml"], "cannot read 'nowhere.yaml'"),
        (["--datasets.small.images", "/nowhere/at/all"], "/nowhere/at/all: no such folder"),
    ],
)
def test_settings_that_cannot_work_end_with_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = start("--config", settings_file(tmp_path, small=write_pngs(tmp_path)), *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_setting_that_a_reader_lacks_is_named_with_its_file(tmp_path: Path) -> None:
    entry = write_pngs(tmp_path)
    maps = entry.pop("annotations")
    file = settings_file(tmp_path, small=entry)
    lacks = "datasets.small.annotations: reader 'image_png' needs it"
    assert start("--config", file).stderr == f"error: {file}: {lacks}\n"
    given = start("--config", file, "--datasets.small.annotations", maps, "--check", "1")
    assert given.returncode == 0, given.stderr
    elsewhere = start("--config", file, "--datasets.small.seed", "1")
    assert elsewhere.stderr == f"error: {lacks}\n", "the entry stands on the command line, too"


# --- contact sheets


def colors(picture: Image.Image) -> int:
    return len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0))


def test_the_shapes_have_no_problem_and_a_sheet_each(tmp_path: Path) -> None:
    done = start("--output_dir", str(tmp_path), "--check", "12", "--json")
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    names = [found["name"] for found in report["datasets"]]
    assert names == [
        "datasets.shapes_panoptic",
        "datasets.shapes_semantic",
        "datasets.shapes_boxes",
        "evaluation.shapes_panoptic",
        "evaluation.shapes_semantic",
        "evaluation.shapes_boxes",
        "evaluation.shapes_open",
    ]
    assert [found["checked"] for found in report["datasets"]] == [12] * 7
    assert [row["images"] for row in report["mix"]] == [600, 64, 600]
    assert sum(row["share"] for row in report["mix"]) == pytest.approx(1)
    for found in report["datasets"]:
        with Image.open(found["contact_sheet"]) as sheet:
            columns = 3 if found["name"] == "evaluation.shapes_boxes" else 2  # masks and boxes
            assert sheet.width == 2 * (columns * (320 + 6) + 6)
            assert 3 * 320 < sheet.height < 4 * 320  # six square images, two in a row
            for column in range(columns):
                left = 6 + column * 326
                first = sheet.crop((left, 28, left + 320, 28 + 320))
                assert colors(first) > 100, (found["name"], column)


def test_a_box_is_drawn_where_it_is() -> None:
    image = np.full((400, 400, 3), 255, np.uint8)
    boxes = Instances(
        np.array([0]), np.array([[100, 200, 300, 390]], np.float32), np.array([False])
    )
    sheet = np.asarray(contact_sheet([Sample(image, boxes, 1, "a.jpg")], SPEC))
    # the drawn image is 400 pixels wide, so that its column of the sheet is 0.8 times as large,
    # below the title
    right = sheet[28 : 28 + 320, 6 + 326 : 6 + 326 + 320]
    drawn = (right < 240).any(axis=2)
    rows, columns = np.flatnonzero(drawn[:316].any(axis=1)), np.flatnonzero(drawn[:316].any(axis=0))
    assert (rows[0], rows[-1]) == (pytest.approx(160, abs=2), pytest.approx(312, abs=2))
    assert (columns[0], columns[-1]) == (pytest.approx(80, abs=2), pytest.approx(240, abs=2))


def test_a_small_mask_is_drawn_above_a_large_one_that_is_listed_first() -> None:
    masks = np.zeros((2, 400, 400), bool)
    masks[0], masks[1, 100:200, 100:200] = True, True
    boxes = np.array([[0, 0, 400, 400], [100, 100, 200, 200]], np.float32)
    sample = Sample(
        np.zeros((400, 400, 3), np.uint8),
        Instances(np.array([0, 1]), boxes, np.zeros(2, bool), masks),
        1,
        "",
    )
    sheet = np.asarray(contact_sheet([sample], SPEC))
    # beside the name in the middle of the small mask
    small, large = sheet[28 + 140, 6 + 326 + 140], sheet[28 + 220, 6 + 326 + 220]
    assert np.abs(small - 0.6 * np.array(category_color(1))).max() < 3
    assert np.abs(large - 0.6 * np.array(category_color(0))).max() < 3


def test_no_sample_makes_no_sheet() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        contact_sheet([], SPEC)


# --- samples of a reader of one's own


def objects(box: tuple[float, float, float, float], label: int = 0, image_id: int = 1) -> Sample:
    annotation = Instances(np.array([label]), np.array([box], np.float32), np.array([False]))
    return Sample(np.zeros((20, 30, 3), np.uint8), annotation, image_id, f"{image_id}.jpg")


@pytest.mark.parametrize(
    ("sample", "fault"),
    [
        (
            objects((0, 0, 31, 20)),
            "box 0 from (0, 0) to (31, 20) leaves the image of 20 x 30 pixels",
        ),
        (objects((-1, 0, 30, 20)), "leaves the image"),
        (objects((5, 5, 5, 9)), "has no area"),
        (objects((5, float("nan"), 8, 9)), "has no area"),
        (objects((0, 0, 30, 20), label=3), "class indices [3] are not in 0..2"),
    ],
)
def test_objects_that_break_the_promise(sample: Sample, fault: str) -> None:
    (found,) = sample_faults(sample, SPEC)
    assert found.startswith("1.jpg: ")
    assert fault in found


def test_a_box_that_fills_the_image_is_sound() -> None:
    assert sample_faults(objects((0, 0, 30, 20)), SPEC) == []


@pytest.mark.parametrize(
    ("segment_map", "fault"),
    [
        (np.zeros((20, 31), np.int32), "image is 20 x 30 pixels"),
        (np.full((20, 30), 1, np.int32), "must lie in -1..0"),
        (np.full((20, 30), -2, np.int32), "must lie in -1..0"),
    ],
)
def test_maps_that_break_the_promise(segment_map: np.ndarray, fault: str) -> None:
    segments = Segments(segment_map, np.array([0]), np.array([False]))
    (found,) = sample_faults(Sample(np.zeros((20, 30, 3), np.uint8), segments, 1, "1.jpg"), SPEC)
    assert fault in found


def test_objects_without_a_pixel_are_a_problem_where_no_other_has_one() -> None:
    """Boxes in parts of the image, where pixels are expected."""
    tiny, sound = (objects((0, 0, size, size), image_id=size) for size in (0.6, 3.0))
    rows = {"none": [tiny, tiny], "one": [tiny, sound]}
    found = {
        name: inspect_dataset("set", SampleDataset(SPEC, samples, load=lambda sample: sample), None)
        for name, samples in rows.items()
    }
    assert [
        problem.message[:32] for problem in found["none"].problems if "pixel" in problem.message
    ] == ["none of 2 objects covers a pixel"]
    assert not [problem for problem in found["one"].problems if "pixel" in problem.message]
    assert "1 segments or objects have no pixel of their own" in found["one"].notes


def test_an_id_of_two_images_is_a_problem() -> None:
    rows = [objects((0, 0, 9, 9), image_id=number) for number in (1, 2, 1)]
    found = inspect_dataset("mine", SampleDataset(SPEC, rows, load=lambda row: row), None)
    assert [str(problem) for problem in found.problems] == [
        "image 1: the id belongs to 2 images; give each its own"
    ]


@pytest.mark.parametrize(("check", "checked"), [(2, 2), (None, 5)])
def test_a_stream_is_read_from_its_beginning(check: int | None, checked: int) -> None:
    def epoch(seed: int) -> Iterator[Sample]:
        return (objects((0, 0, 9, 9), image_id=number) for number in range(5))

    found = inspect_dataset("mine", SampleStream(SPEC, epoch, load=lambda row: row), check)
    assert (found.images, found.checked, found.usable) == (None, checked, list(range(checked)))
    assert found.classes[0].pixels == checked * 81
    assert ("2 of 3 classes never occur: dog, cow" in found.notes) == (check is None)


@pytest.mark.parametrize(
    ("size", "count", "expected"), [(10, 4, [0, 2, 5, 7]), (3, 4, [0, 1, 2]), (2, None, [0, 1])]
)
def test_checked_rows_are_spread_over_the_dataset(
    size: int, count: int | None, expected: list[int]
) -> None:
    assert list(spaced(size, count)) == expected


# --- faults of a dataset as a whole


def coco_boxes(
    folder: Path, annotations: list[dict[str, Any]], names: tuple[str, str] = ("cat", "dog")
) -> dict[str, Any]:
    """Two images of 20 x 30 pixels with boxes in COCO's format, whose categories 1 and 2 are called
    `names`.
    """
    (folder / "images").mkdir(parents=True)
    images = [
        {"id": number, "file_name": f"{number}.png", "height": 20, "width": 30} for number in (1, 2)
    ]
    for number in (1, 2):
        Image.new("RGB", (30, 20), (number, 90, 90)).save(folder / f"images/{number}.png")
    entries = [
        {"id": i, "bbox": [1 + i, 2, 5, 6], "category_id": 1, **found}
        for i, found in enumerate(annotations)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    (folder / "a.json").write_text(
        json.dumps({"images": images, "annotations": entries, "categories": categories})
    )
    classes = [
        {"name": "cat", "ids": [1], "thing": True},
        {"name": "dog", "ids": [2], "thing": True},
    ]
    return {
        "spec": {"task": "boxes", "classes": classes},
        "reader": "coco_instances",
        "images": str(folder / "images"),
        "annotation_file": str(folder / "a.json"),
    }


def test_faults_of_the_whole_dataset_are_problems(tmp_path: Path) -> None:
    swapped = coco_boxes(tmp_path / "swapped", [{"image_id": 1}, {"image_id": 2}], ("dog", "cat"))
    crowds = coco_boxes(
        tmp_path / "crowds", [{"image_id": 1, "iscrowd": 1}, {"image_id": 2, "iscrowd": True}]
    )
    many = coco_boxes(
        tmp_path / "many", [{"image_id": n % 2 + 1, "category_id": n % 3 % 2 + 1} for n in range(8)]
    )
    file = settings_file(tmp_path, swapped=swapped, crowds=crowds, many=many)
    done = start("--config", file, "--check", "all", "--json", "--model", '{"num_queries": 3}')
    assert done.returncode == 1, done.stderr
    found = {entry["name"]: [problem["message"] for problem in entry["problems"]] for entry in
             json.loads(done.stdout)["datasets"]}  # fmt: skip
    (names,) = found["datasets.swapped"]
    assert names.startswith(
        "2 category names of the files contradict the spec: 1 is 'cat' in the spec and 'dog' in"
    )
    (crowd,) = found["datasets.crowds"]
    assert crowd.startswith("all 2 objects are marked crowd")
    (queries,) = found["datasets.many"]
    assert queries.startswith(
        "every image has more objects (at least 4) than the model has queries (3)"
    )


def test_names_without_an_embedding_are_found_by_check_all_alone(tmp_path: Path) -> None:
    entry = coco_boxes(tmp_path / "data", [{"image_id": 1}, {"image_id": 2, "category_id": 2}])
    np.save(tmp_path / "names.npy", np.eye(2, dtype=np.float32))
    encoder = {"kind": "file", "path": str(tmp_path / "names.npy"), "names": ["cat", "cow"]}
    file = settings_file(tmp_path, mine=entry)
    arguments = ("--config", file, "--text_encoder", json.dumps(encoder), "--json")
    assert start(*arguments, "--check", "2").returncode == 0
    done = start(*arguments, "--check", "all")
    assert done.returncode == 1, done.stderr
    (problem,) = json.loads(done.stdout)["datasets"][0]["problems"]
    assert problem["message"].startswith("datasets.mine: ")
    assert "dog" in problem["message"]


# --- real data


@pytest.mark.skipif(
    "DATASEG_DATA" not in os.environ, reason="the real data is named by DATASEG_DATA"
)
def test_the_real_images_have_no_problem(tmp_path: Path) -> None:
    coco, camvid = (Path(os.environ["DATASEG_DATA"]) / name for name in ("coco128", "camvid"))
    entries: dict[str, dict[str, Any]] = {
        "coco_boxes": {
            "spec": "coco_boxes",
            "reader": "coco_instances",
            "images": str(coco / "images/train2017"),
            "annotation_file": str(coco / "instances_train2017_first128.json"),
            "missing_images": "skip",
        }
    }
    entries["coco_masks"] = {**entries["coco_boxes"], "spec": "coco_instances"}
    for split, missing in (("train", "error"), ("val", "skip")):
        images, panoptic = str(coco / f"images/{split}2017"), coco / "panoptic"
        entries[f"coco_panoptic_{split}"] = {
            "spec": "coco_panoptic",
            "reader": "coco_panoptic",
            "images": images,
            "missing_images": missing,
            "annotations": str(panoptic / f"panoptic_{split}2017"),
            "annotation_file": str(panoptic / f"panoptic_{split}2017.json"),
        }
        entries[f"coco_semantic_{split}"] = {
            "spec": "coco_semantic", "reader": "image_png", "images": images,
            "annotations": str(coco / f"semantic/{split}2017"),
        }  # fmt: skip
    for split in ("train", "test"):
        entries[f"camvid_{split}"] = {
            "spec": "camvid", "reader": "image_png", "images": str(camvid / split),
            "annotations": str(camvid / f"{split}annot"), "options": {"image_suffix": ".png"},
        }  # fmt: skip
    done = start("--config", settings_file(tmp_path, **entries), "--check", "all", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [problem for found in report["datasets"] for problem in found["problems"]] == []
    checked = {
        found["name"].removeprefix("datasets."): found["checked"] for found in report["datasets"]
    }
    assert checked == {
        "coco_boxes": 100,
        "coco_masks": 100,
        "coco_panoptic_train": 100,
        "coco_semantic_train": 100,
        "coco_panoptic_val": 52,
        "coco_semantic_val": 52,
        "camvid_train": 31,
        "camvid_test": 12,
    }
    assert all(found["checked"] == found["images"] for found in report["datasets"])
