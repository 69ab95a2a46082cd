"""examples/predict.py from the command line, and the drawing it does."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from transformers import ConvNextConfig

from dataseg_hf.data.readers.coco_panoptic import read_coco_panoptic
from dataseg_hf.data.sample import ClassInfo, DatasetSpec
from dataseg_hf.files.output_folder import MARKER
from dataseg_hf.pictures.overlay import (
    category_color,
    overlay,
    prediction_grid,
    segments_overlay,
    semantic_overlay,
)
from dataseg_hf.prediction import tiling
from dataseg_hf.prediction.segments import Segment
from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.paths import ROOT

SCRIPT = ROOT / "examples" / "predict.py"


def load_script():
    spec = importlib.util.spec_from_file_location("predict", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def predict():
    return load_script().main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(checkpoint_model(), checkpoint_processor(), folder)
    return str(folder)


@pytest.fixture
def photos(tmp_path):
    """A folder of two images and a file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (50, 90)), ("b.png", (80, 30))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def command(model, inputs, output, *more):
    return ["--model", model, "--input", *map(str, inputs), "--output", str(output), *more]


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
def test_one_picture_per_image(predict, model, photos, tmp_path, task, capsys):
    out = tmp_path / "out"
    assert predict(command(model, [photos], out, "--task", task, "--threshold", "0.1")) == 0
    assert written(out / "overlays") == ["a.png", "b.png"]
    assert set(written(out)) == {MARKER, "overlays", "predictions.json"} | (
        {"ids"} if task != "instance" else set()
    )
    with Image.open(out / "overlays" / "a.png") as picture:
        assert picture.width >= 384  # enlarged
        assert picture.height > picture.width * 50 / 90  # the legend
    assert f"2 of 2 images segmented into {out}" in capsys.readouterr().out


LOW = ["--threshold", "0.1", "--overlap_threshold", "0.01"]  # a random model is never sure


def written(folder):
    return sorted(file.name for file in folder.iterdir())


def results(out):
    return json.loads((out / "predictions.json").read_text())


def instances(out):
    """The results, and pycocotools' index of them."""
    index = COCO(str(out / "predictions.json"))
    return index.dataset, index


def test_panoptic_results_are_read_by_a_reader_of_coco(predict, model, photos, tmp_path):
    out = tmp_path / "out"
    predict(command(model, [photos], out, *LOW, "--vocabulary", "pets"))
    content = results(out)
    assert content["categories"] == [
        {"id": number, "name": name, "isthing": 1}
        for number, name in enumerate(["cat", "dog", "hamster"], start=1)
    ]
    classes = tuple(ClassInfo(category["name"], True) for category in content["categories"])
    spec = DatasetSpec("found", "panoptic", classes, {1: 0, 2: 1, 3: 2})
    data = read_coco_panoptic(
        spec, images=photos, annotations=out / "ids", annotation_file=out / "predictions.json"
    )
    assert not data.problems
    for sample, record in zip(data, content["annotations"], strict=True):
        assert record["segments_info"]
        assert sample.annotation.segment_map.shape == sample.image.shape[:2]
        for number, info in enumerate(record["segments_info"]):
            mask = sample.annotation.segment_map == number
            assert info["area"] == mask.sum()
            assert info["category_id"] == sample.annotation.class_labels[number] + 1
            assert 0.1 < info["score"] <= 1
            y, x = mask.nonzero()
            assert info["bbox"] == [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]


def test_instance_results_are_read_by_pycocotools(predict, model, photos, tmp_path):
    out = tmp_path / "out"
    predict(command(model, [photos], out, "--threshold", "0.05", "--task", "instance"))
    content, index = instances(out)
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "b.png"]
    assert (
        len({record["id"] for record in content["annotations"]}) == len(content["annotations"]) > 2
    )
    for record in content["annotations"]:
        mask = index.annToMask(record)
        image = index.imgs[record["image_id"]]
        assert mask.shape == (image["height"], image["width"])
        assert record["area"] == mask.sum() > 0
        y, x = mask.nonzero()
        assert record["bbox"] == [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
        assert index.cats[record["category_id"]]["name"] in ("cat", "dog")


def test_semantic_maps_and_their_json_agree(predict, model, photos, tmp_path):
    out = tmp_path / "out"
    predict(command(model, [photos], out, "--task", "semantic"))
    content, index = instances(out)
    for image in content["images"]:
        ids = np.array(Image.open(out / "ids" / f"{Path(image['file_name']).stem}.png"))
        assert ids.min() > 0
        records = index.imgToAnns[image["id"]]
        assert sorted(record["category_id"] for record in records) == np.unique(ids).tolist()
        for record in records:
            assert np.array_equal(index.annToMask(record), ids == record["category_id"])
            assert "score" not in record


@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
def test_annotation_files_have_the_objects_of_the_results(predict, model, photos, tmp_path, task):
    out = tmp_path / "out"
    arguments = command(model, [photos], out, *LOW, "--task", task, "--annotations")
    assert predict([*arguments, "coco_instances", "labelme", "cvat_xml", "label_studio"]) == 0
    assert written(out / "annotations") == [
        "coco_instances.json", "cvat.xml", "label_studio.json", "label_studio_setup.xml", "labelme",
    ]  # fmt: skip
    index = COCO(str(out / "annotations/coco_instances.json"))
    content = results(out)
    assert index.dataset["images"] == content["images"]
    assert index.dataset["categories"] == content["categories"]
    listed = [
        info
        for entry in content["annotations"]
        for info in (entry["segments_info"] if task == "panoptic" else [entry])
    ]  # fmt: skip
    assert len(index.dataset["annotations"]) == len(listed) > 0
    for annotation, info in zip(index.dataset["annotations"], listed, strict=True):
        assert {
            key: annotation.get(key) for key in ("category_id", "area", "bbox", "iscrowd", "score")
        } == {key: info.get(key) for key in ("category_id", "area", "bbox", "iscrowd", "score")}
        assert index.annToMask(annotation).sum() == info["area"]
    labelme = json.loads((out / "annotations/labelme/a.json").read_text())
    assert (out / "annotations/labelme" / labelme["imagePath"]).samefile(photos / "a.jpg")


def test_how_annotation_files_name_images(predict, model, photos, tmp_path):
    (photos / "deep").mkdir()
    (photos / "b.png").rename(photos / "deep" / "b c.png")
    out = tmp_path / "out"
    options = [
        "--annotations",
        "label_studio",
        "coco_instances",
        "--image_url_prefix",
        "s3://bucket/",
        *LOW,
    ]
    assert (
        predict(
            command(
                model, [photos / "a.jpg", photos / "deep"], out, "--outlines", "masks", *options
            )
        )
        == 0
    )
    tasks = json.loads((out / "annotations/label_studio.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [
        "s3://bucket/a.jpg",
        "s3://bucket/deep/b%20c.png",
    ]
    coco = json.loads((out / "annotations/coco_instances.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["a.jpg", "deep/b c.png"]
    assert all(isinstance(annotation["segmentation"], dict) for annotation in coco["annotations"])


def test_corrected_annotations_are_not_written_over(predict, model, photos, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = command(model, [photos / "a.jpg"], out, "--annotations", "labelme")
    assert predict(arguments) == 0
    (out / "annotations/labelme/a.json").write_text("corrected")
    assert predict([*arguments, "coco_instances"]) == 0
    assert "held earlier predictions, now in " in capsys.readouterr().out
    assert (tmp_path / "out.previous-1/annotations/labelme/a.json").read_text() == "corrected"
    assert written(out / "annotations") == ["coco_instances.json", "labelme"]


def test_large_images_in_windows(predict, model, photos, tmp_path):
    for name, more in (
        ("whole", []),
        ("own", ["--tile"]),
        ("small", ["--tile", "40", "--tile_overlap", "0.5"]),
    ):
        assert (
            predict(
                command(model, [photos / "a.jpg"], tmp_path / name, "--task", "semantic", *more)
            )
            == 0
        )
    whole, own, small = (
        (tmp_path / name / "ids" / "a.png").read_bytes() for name in ("whole", "own", "small")
    )
    assert len({whole, own, small}) == 3


def test_patterns(predict, model, photos, tmp_path):
    (photos / "deep" / "er").mkdir(parents=True)
    (photos / "b.png").rename(photos / "deep" / "er" / "b.png")
    out = tmp_path / "out"
    assert predict(command(model, [photos / "**" / "*.[jp][pn]g"], out)) == 0
    assert written(out / "overlays") == ["a.png", "b.png"]


def test_words_and_stored_vocabularies(predict, model, photos, tmp_path):
    pictures, out = [], tmp_path / "out"
    for vocabulary in ("pets", "scene", "tree, red car", "hamster"):
        arguments = command(
            model, [photos / "a.jpg"], out, "--vocabulary", vocabulary, "--task", "semantic"
        )
        assert predict(arguments) == 0
        pictures.append((out / "overlays" / "a.png").read_bytes())
    assert len(set(pictures)) == len(pictures)
    # each time the earlier predictions were moved aside
    for number, picture in enumerate(pictures[:-1], start=1):
        assert (tmp_path / f"out.previous-{number}" / "overlays" / "a.png").read_bytes() == picture


def test_repeated_objects_are_left_out(predict, model, photos, tmp_path):
    counts = []
    for more in (["--nms", "1"], [], ["--nms", "0.7"], ["--nms", "0"]):
        task = ["--task", "instance", "--threshold", "0.02"]
        assert predict(command(model, [photos / "b.png"], tmp_path / "out", *task, *more)) == 0
        counts.append(len(results(tmp_path / "out")["annotations"]))
    assert counts[0] > counts[1] == counts[2] >= counts[3] > 0


@pytest.mark.parametrize("name", ["pet", "Pets", "scen"])
def test_a_slip_in_the_name_of_a_vocabulary_is_no_category(
    predict, model, photos, tmp_path, capsys, name
):
    assert predict(command(model, [photos], tmp_path / "out", "--vocabulary", name)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: --vocabulary: '{name}' is no category of this model")
    assert "did you mean 'pets'?" in line or "did you mean 'scene'?" in line


def test_a_model_that_cannot_embed_says_what_to_type(predict, photos, tmp_path, capsys):
    model = checkpoint_model()
    model.config.text_encoder = None
    save_checkpoint(model, checkpoint_processor(), tmp_path / "model")
    arguments = ["--task", "semantic", "--vocabulary"]
    assert (
        predict(
            command(str(tmp_path / "model"), [photos], tmp_path / "out", *arguments, "CAT, sky")
        )
        == 0
    )
    assert [category["name"] for category in results(tmp_path / "out")["categories"]] == [
        "CAT",
        "sky",
    ]
    assert (
        predict(
            command(str(tmp_path / "model"), [photos], tmp_path / "out", *arguments, "tree, cat")
        )
        == 2
    )
    line = capsys.readouterr().err
    assert "error: --vocabulary: this model cannot embed new words" in line
    assert "use words among its names (cat, dog, hamster, grass, sky)" in line
    assert "by name: ['pets', 'scene']" in line


@pytest.mark.parametrize(
    ("task", "needed"),
    [
        ("panoptic", "--threshold 1, --mask_threshold 0.5, --overlap_threshold 0.8"),
        ("instance", "--threshold 1, --mask_threshold 0.5"),
    ],
)
def test_a_note_says_what_was_missing_where_nothing_is_found(
    predict, model, photos, tmp_path, capsys, task, needed
):
    options = ("--task", task, "--threshold")
    assert predict(command(model, [photos], tmp_path / "out", *options, "1")) == 0
    said = capsys.readouterr().out
    (note,) = [line for line in said.splitlines() if line.startswith("note: ")]
    highest = float(re.search(r"highest class probability is (0\.\d\d),", note)[1])
    assert note.startswith("note: no segments in 2 images: ")
    assert f"a segment needs {needed}; lower them" in note
    loose = ("--mask_threshold", "0", "--overlap_threshold", "0")
    for threshold, found in ((highest - 0.02, True), (highest + 0.02, False)):
        arguments = command(model, [photos], tmp_path / "out", *options, f"{threshold:.2f}", *loose)
        assert predict(arguments) == 0
        # the score of an object is lower: its class probability times that of its mask
        if not (found and task == "instance"):
            assert ("note: " not in capsys.readouterr().out) == found


def test_the_help_names_the_thresholds_of_each_task(predict, capsys):
    with pytest.raises(SystemExit):
        predict(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "panoptic: class probability; instance: class probability times the mean probability in "
        "the mask; semantic: "
        "without effect, every pixel gets a class (0..1, default 0.5)",
        "(panoptic, instance; 0..1, default 0.5)",
        "(panoptic; 0..1, default 0.8)",
        "(instance; 0..1, 1 keeps all, default 0.7)",
    ):
        assert part in text


def test_unreadable_files_do_not_stop_the_others(predict, model, photos, tmp_path, capsys):
    (photos / "broken.jpg").write_bytes((photos / "a.jpg").read_bytes()[:200])
    (photos / "text.png").write_text("no image")
    assert predict(command(model, [photos], tmp_path / "out")) == 1
    assert written(tmp_path / "out" / "overlays") == ["a.png", "b.png"]
    assert len(results(tmp_path / "out")["images"]) == 2
    captured = capsys.readouterr()
    assert "2 of 4 images" in captured.out
    reported = [line for line in captured.err.splitlines() if line.startswith("not read: ")]
    assert [Path(line.removeprefix("not read: ").split(":")[0]).name for line in reported] == [
        "broken.jpg",
        "text.png",
    ]


def test_an_image_that_cannot_be_segmented_does_not_stop_the_others(
    predict, model, photos, tmp_path, monkeypatch, capsys
):
    """Whatever the model raises, such as for memory; the results are written as well."""
    original = tiling.segment_image

    def fail_at_b(model, processor, image, *rest):
        if image.size == (30, 80):
            raise RuntimeError("not enough memory:\nyou tried to allocate 100 GB")
        return original(model, processor, image, *rest)

    monkeypatch.setattr(tiling, "segment_image", fail_at_b)
    arguments = ["--model", model, "--input", str(photos / "a.jpg"), str(photos / "b.png")]
    assert predict([*arguments, "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "b.png: RuntimeError: not enough memory: you tried to allocate 100 GB" in error
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.jpg"]


def test_ctrl_c_keeps_the_results_so_far(predict, model, photos, tmp_path, monkeypatch, capsys):
    original = tiling.segment_image

    def stop_at_b(model, processor, image, *rest):
        if image.size == (30, 80):
            raise KeyboardInterrupt
        return original(model, processor, image, *rest)

    monkeypatch.setattr(tiling, "segment_image", stop_at_b)
    arguments = ["--model", model, "--input", str(photos / "a.jpg"), str(photos / "b.png")]
    assert predict([*arguments, "--output", str(tmp_path / "out")]) == 130
    assert "stopped: 1 images are in" in capsys.readouterr().err
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.jpg"]
    assert not (tmp_path / "out/in_use.lock").exists()


def test_a_full_disk_is_one_line_and_keeps_the_results_so_far(
    predict, model, photos, tmp_path, monkeypatch, capsys
):
    original = Image.Image.save

    def save(image, file, *rest, **options):
        if str(file).endswith("b.png"):
            raise OSError(28, "No space left on device")
        return original(image, file, *rest, **options)

    monkeypatch.setattr(Image.Image, "save", save)
    arguments = ["--model", model, "--input", str(photos / "a.jpg"), str(photos / "b.png")]
    assert predict([*arguments, "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: --output: [Errno 28] No space left on device; 1 images are in")
    content = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.jpg"]


def test_photos_are_turned_upright(predict, model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.new("RGB", (400, 200)).save(tmp_path / "turned.jpg", exif=exif)
    assert predict(command(model, [tmp_path / "turned.jpg"], tmp_path / "out")) == 0
    with Image.open(tmp_path / "out" / "overlays" / "turned.png") as picture:
        assert picture.height > 400 > picture.width


def test_images_of_16_bits_are_not_clipped(predict, model, tmp_path):
    gray = np.random.default_rng(0).integers(0, 256, (40, 60))
    Image.fromarray(gray.astype(np.uint8)).save(tmp_path / "eight.png")
    Image.fromarray((gray * 256 + 255).astype(np.uint16)).save(tmp_path / "sixteen.png")
    out = tmp_path / "out"
    assert (
        predict(
            command(
                model, [tmp_path / "eight.png", tmp_path / "sixteen.png"], out, "--task", "semantic"
            )
        )
        == 0
    )
    assert (out / "overlays" / "eight.png").read_bytes() == (
        out / "overlays" / "sixteen.png"
    ).read_bytes()


def test_the_value_range_of_16_bits(predict, model, tmp_path, capsys):
    deep = np.random.default_rng(0).integers(300, 4000, (40, 60))
    Image.fromarray(deep.astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.rint((deep.clip(500, 3500) - 500) / 3000 * 255).astype(np.uint8)).save(
        tmp_path / "eight.png"
    )
    out, images = tmp_path / "out", [tmp_path / "deep.png", tmp_path / "eight.png"]
    arguments = command(model, images, out, "--task", "semantic", "--value_range", "500", "3500")
    assert predict(arguments) == 0
    assert (out / "overlays" / "eight.png").read_bytes() == (
        out / "overlays" / "deep.png"
    ).read_bytes()
    assert predict(command(model, images, out, "--value_range", "9", "9")) == 2
    assert "error: value_range: must be two numbers [low, high]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda model, photos, out: command(model, [photos / "no.jpg"], out),
            "no.jpg does not exist",
        ),
        (
            lambda model, photos, out: command(model, [out.parent / "empty"], out),
            "no image in folder",
        ),
        (
            lambda model, photos, out: command(model, [photos, out.parent / "a.png"], out),
            "would both become",
        ),
        (
            lambda model, photos, out: command(model, [photos / "*.bmp"], out),
            "*.bmp does not exist",
        ),
        (lambda model, photos, out: command(str(photos), [photos], out), "config.json"),
        (
            lambda model, photos, out: command(str(out.parent / "other"), [photos], out),
            "is a 'convnext' model",
        ),
        (
            lambda model, photos, out: command(model, [photos], out, "--vocabulary", "a, a"),
            "names a category twice",
        ),
    ],
)
def test_one_line_errors(predict, model, photos, tmp_path, capsys, change, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.png").write_bytes((photos / "b.png").read_bytes())
    ConvNextConfig().save_pretrained(tmp_path / "other")
    assert predict(change(model, photos, tmp_path / "out")) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert message in error[0]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--threshold", "2", "must lie in 0..1, got 2.0"),
        ("--overlap_threshold", "-1", "must lie in 0..1, got -1.0"),
        ("--tile_overlap", "1", "must lie in 0..1, below 1, got 1.0"),
        ("--tile", "-5", "must be at least 32 pixels, got -5"),
        ("--tile", "1", "must be at least 32 pixels, got 1"),
        ("--vocabulary", "", "names nothing; give a vocabulary of the model, or words with commas"),
        (
            "--vocabulary",
            " , ",
            "names nothing; give a vocabulary of the model, or words with commas",
        ),
    ],
)
def test_impossible_options(predict, model, photos, tmp_path, capsys, option, value, message):
    with pytest.raises(SystemExit) as stop:
        predict(command(model, [photos], tmp_path / "out", f"{option}={value}"))
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"argument {option}: {message}")


@pytest.mark.slow
def test_from_the_shell(model, photos, tmp_path):
    arguments = [sys.executable, str(SCRIPT), *command(model, [photos], tmp_path / "out")]
    (photos / "text.png").write_text("no image")
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"not read: {photos / 'text.png'}: ")


# --- drawing

NAMES = ["cat", "dog", "grass"]


def blend(color, gray):
    return tuple(round(0.4 * gray + 0.6 * part) for part in color)


def test_colors_differ():
    colors = np.array([category_color(label_id) for label_id in range(150)], dtype=float)
    distances = np.linalg.norm(colors[:, None] - colors, axis=-1) + 1000 * np.eye(150)
    assert distances.min() > 20
    assert distances[:20, :20].min() > 35


def test_segments_have_the_color_of_their_category():
    image = Image.new("RGB", (400, 200), (100, 100, 100))
    segmentation = np.zeros((200, 400), dtype=np.int32)
    segmentation[:, 100:200], segmentation[:, 200:] = 1, 2
    drawn = overlay(
        image, segmentation, [{"id": 1, "label_id": 2}, {"id": 2, "label_id": 0}], NAMES
    )
    assert drawn.getpixel((10, 10)) == (100, 100, 100)
    assert drawn.getpixel((110, 5)) == blend(category_color(2), 100)
    assert drawn.getpixel((390, 190)) == blend(category_color(0), 100)
    assert drawn.getpixel((199, 100)) == (255, 255, 255)  # the outline between the two
    assert drawn.size[0] == 400
    assert drawn.size[1] > 200
    legend = np.array(drawn)[200:].reshape(-1, 3).tolist()
    assert list(category_color(0)) in legend
    assert list(category_color(2)) in legend
    assert list(category_color(1)) not in legend


def test_of_overlapping_masks_the_best_is_on_top():
    image = Image.new("L", (400, 400), 100)
    masks = torch.zeros(2, 400, 400, dtype=torch.bool)
    masks[0, :, :300], masks[1, :, 100:] = True, True
    drawn = overlay(image, masks, [{"label_id": 0}, {"label_id": 1}], NAMES)
    assert drawn.getpixel((200, 10)) == blend(category_color(0), 100)
    assert drawn.getpixel((390, 10)) == blend(category_color(1), 100)


@pytest.mark.parametrize("size", [(64, 32), (500, 300), (4000, 1900)])
def test_segments_are_drawn_as_their_masks_are(size):
    """Also where the picture is enlarged or reduced."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    segments, masks = [], []
    for label_id in (2, 0, 2):
        top, left = (int(rng.integers(0, side // 2)) for side in size[::-1])
        inside = rng.random((size[1] // 3, size[0] // 3)) < 0.9
        segments.append(Segment(label_id, 0.5, inside, top, left))
        masks.append(segments[-1].within(slice(0, size[1]), slice(0, size[0])))
    infos = [{"label_id": segment.label_id} for segment in segments]
    expected = overlay(image, np.array(masks), infos, NAMES)
    assert segments_overlay(image, segments, NAMES) == expected
    assert segments_overlay(image, [], NAMES) == overlay(
        image, np.zeros((0, *size[::-1]), bool), [], NAMES
    )


def test_segments_in_the_colors_of_what_they_cover():
    """Yellow and blue halves keep their colors, in picture and legend; what has no segment is
    gray.
    """
    pixels = np.zeros((400, 400, 3), dtype=np.uint8)
    pixels[:, :200], pixels[:, 200:], pixels[:100] = (240, 200, 40), (20, 60, 200), (250, 0, 50)
    segmentation = np.zeros((400, 400), dtype=int)
    segmentation[100:, :200], segmentation[100:, 200:] = 1, 2
    infos = [{"id": 1, "label_id": 1}, {"id": 2, "label_id": 0}]
    drawn = overlay(Image.fromarray(pixels), segmentation, infos, NAMES, mean_colors=True)
    assert drawn.getpixel((5, 390)) == (240, 200, 40)
    assert drawn.getpixel((390, 390)) == (20, 60, 200)
    assert drawn.getpixel((5, 5)) == (100, 100, 100)
    legend = np.array(drawn)[400:].reshape(-1, 3).tolist()
    assert [240, 200, 40] in legend
    assert list(category_color(1)) not in legend
    semantic = semantic_overlay(Image.fromarray(pixels), segmentation - 1, NAMES, mean_colors=True)
    assert semantic.getpixel((5, 390)) == (240, 200, 40)


def test_semantic_map_with_void():
    classes = np.full((400, 400), 2)
    classes[:100] = -1
    drawn = semantic_overlay(Image.new("RGB", (400, 400), (100, 100, 100)), classes, NAMES)
    assert drawn.getpixel((10, 10)) == (100, 100, 100)
    assert drawn.getpixel((10, 390)) == blend(category_color(2), 100)


def test_nothing_found():
    drawn = overlay(Image.new("RGB", (400, 300)), np.zeros((300, 400), int), [], NAMES)
    assert np.array(drawn)[:300].max() == 0
    assert drawn.height > 300


def test_small_images_are_enlarged():
    drawn = semantic_overlay(Image.new("RGB", (64, 32)), np.zeros((32, 64), int), NAMES)
    assert drawn.width == 384
    assert drawn.height > 192


def test_what_does_not_fit_is_refused():
    image = Image.new("RGB", (400, 300))
    with pytest.raises(ValueError, match="differ in size"):
        overlay(image, np.ones((30, 40), int), [{"id": 1, "label_id": 0}], NAMES)
    with pytest.raises(ValueError, match="differ in size"):
        semantic_overlay(image, np.ones((400, 300), int), NAMES)
    with pytest.raises(ValueError, match=r"\[1, H, W\]"):
        overlay(image, np.ones((2, 300, 400), bool), [{"label_id": 0}], NAMES)
    with pytest.raises(ValueError, match="2 titles"):
        prediction_grid([[image]], ["image", "truth"])
    with pytest.raises(ValueError, match="2 titles"):
        prediction_grid([], ["image", "truth"])


def test_grid():
    rows = [[Image.new("RGB", (200, 100), "red"), Image.new("RGB", (50, 100), "blue")]] * 2
    grid = prediction_grid(rows, ["image", "prediction"], cell_width=100)
    assert grid.width == 2 * 100 + 3 * 6
    assert grid.height == 28 + 2 * (200 + 6)
    assert grid.getpixel((50, 30)) == (255, 0, 0)
    assert grid.getpixel((50, 28 + 60)) == (255, 255, 255)
    assert grid.getpixel((6 + 100 + 6 + 50, 28 + 206 + 100)) == (0, 0, 255)
