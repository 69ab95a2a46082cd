"""examples/evaluate.py as users start it: on one, two and three processes, and with bad input."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from transformers import ConvNextConfig

from dataseg_hf.metrics.files import score_panoptic
from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers import warm_python
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.example_scripts import EXAMPLES, main_of
from helpers.run_programs import LAUNCH, environment, torchrun

pytestmark = pytest.mark.slow

SCRIPT = EXAMPLES / "evaluate.py"
EXPORTS = ["--export", "--annotations", "coco_instances", "labelme", "cvat_xml", "label_studio"]
SHAPES = {
    "reader": "shapes",
    "split": "eval",
    "image_size": 32,
    "threshold": 0.1,
    "overlap_threshold": 0.2,
}
EVALUATION: dict[str, dict[str, Any]] = {
    "panoptic": {
        **SHAPES,
        "spec": "shapes_panoptic",
        "count": 7,
        "batch_size": 2,
        "metrics": ["pq", "miou"],
    },
    "boxes": {
        **SHAPES,
        "spec": "shapes_boxes",
        "count": 2,
        "batch_size": 2,
        "metrics": ["mask_ap", "box_ap"],
    },
    "open": {**SHAPES, "spec": "shapes_open", "count": 5, "batch_size": 3, "metrics": ["miou"]},
}
PET_CLASSES = [
    {"name": "cat", "ids": [0], "thing": True},
    {"name": "dog", "ids": [1]},
    {"name": "hamster", "ids": [2]},
]
PETS = {
    "spec": {"task": "semantic", "classes": PET_CLASSES, "void_ids": [255]},
    "reader": "image_png",
    "images": "${PETS}/images",
    "annotations": "${PETS}/maps",
    "vocabulary": "pets",
    "metrics": ["miou"],
    "image_size": 64,
    "batch_size": 2,
}


@pytest.fixture(scope="module")
def evaluate_main() -> Callable[..., int]:
    return main_of("evaluate")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(checkpoint_model(), checkpoint_processor(), folder)
    return str(folder)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("config") / "shapes.yaml", {"evaluation": EVALUATION})


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five photographs with a class per pixel, and the settings for them."""
    rng = np.random.default_rng(0)
    for folder in ("images", "maps"):
        (tmp_path / folder).mkdir()
    for number, size in enumerate([(40, 60), (64, 30), (50, 50), (33, 47), (20, 80)]):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            tmp_path / f"images/{number}.jpg"
        )
        Image.fromarray(rng.choice([0, 1, 2, 255], size).astype(np.uint8)).save(
            tmp_path / f"maps/{number}.png"
        )
    monkeypatch.setenv("PETS", str(tmp_path))
    written(tmp_path / "pets.yaml", {"evaluation": {"pets": PETS}})
    return tmp_path


def written(path: Path, settings: Any) -> str:
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return str(path)


def start(arguments: list[str], processes: int) -> subprocess.CompletedProcess[str]:
    """By `accelerate launch`, or on several processes by torchrun."""
    launch = torchrun(processes) if processes > 1 else LAUNCH
    command = [*launch, str(SCRIPT), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=300, check=False
    )


# --- several processes


@pytest.fixture(scope="module")
def alone(model: str, config: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation on one process."""
    folder = tmp_path_factory.mktemp("alone") / "scores"
    done = start(["--model", model, "--config", config, "--output_dir", str(folder), *EXPORTS], 1)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("processes", [2, 3])
def test_any_number_of_processes_writes_the_same(
    alone: Path, model: str, config: str, tmp_path: Path, processes: int
) -> None:
    """7, 2 and 5 images in batches of 2 and 3: batches that are not full, and processes without
    any.
    """
    folder = tmp_path / "scores"
    arguments = [
        "--model",
        model,
        "--config",
        config,
        "--output_dir",
        str(folder),
        *EXPORTS,
        "--num_workers",
        "1",
    ]
    done = warm_python.run_together([str(SCRIPT), *arguments], environment(), processes)
    assert done.returncode == 0, done.stderr[-2000:]
    found, expected = (json.loads((f / "results.json").read_text()) for f in (folder, alone))
    assert (found.pop("processes"), expected.pop("processes")) == (processes, 1)
    assert found == expected
    files = [path.relative_to(alone) for path in sorted((alone / "exports").rglob("*.*"))]
    for_metrics = [file for file in files if "annotations" not in file.parts]
    # panoptic maps and json, class maps, json of objects
    assert len(for_metrics) == 2 * (7 + 1) + 2 * 7 + 2 + 2 * 5
    # of four outputs, and LabelMe's for each image
    assert len(files) - len(for_metrics) == 4 * 4 + 7 + 7 + 2 + 5
    for file in files:
        assert (folder / file).read_bytes() == (alone / file).read_bytes(), file


def test_the_report_has_everything(alone: Path) -> None:
    results = json.loads((alone / "results.json").read_text())
    assert {
        "panoptic/pq",
        "panoptic/miou",
        "boxes/mask_ap50",
        "boxes/box_ap",
        "open/miou",
    } <= results["results"].keys()
    assert 0 < results["results"]["panoptic/miou"] < 1
    assert set(results["images"]["panoptic"]) == {f"shapes_panoptic_eval_{i:05d}" for i in range(7)}
    assert set(results["per_class"]["open"]["miou"]) > {"red circle", "grass field"}
    report = (alone / "report.md").read_text()
    assert "| red square |" in report
    # no such object in images of 64 pixels
    assert results["results"]["boxes/mask_ap_large"] is None
    assert "| mask_ap_large | - |" in report
    assert results["evaluation"]["open"]["threshold"] == 0.1
    pictures = {path.stem for path in (alone / "pictures").glob("*.png")}
    assert pictures == {
        "panoptic-confusion",
        "panoptic-best",
        "panoptic-worst",
        "open-confusion",
        "open-best",
        "open-worst",
        "boxes-masks-precision-recall",
        "boxes-boxes-precision-recall",
        "boxes-best",
        "boxes-worst",
    }
    for name in pictures:
        assert f"](pictures/{name}.png)" in report


def test_the_export_scores_what_the_report_says(alone: Path) -> None:
    folder = alone / "exports/panoptic/panoptic"
    scores = score_panoptic(
        folder / "truth.json", folder / "truth", folder / "predictions.json", folder / "predictions"
    )
    results = json.loads((alone / "results.json").read_text())["results"]
    assert (scores["pq"], scores["sq"], scores["rq"]) == tuple(
        results[f"panoptic/{key}"] for key in ("pq", "sq", "rq")
    )


def test_an_unreadable_image_is_named_on_two_processes(
    model: str, pets: Path, tmp_path: Path
) -> None:
    (pets / "images/3.jpg").write_bytes((pets / "images/3.jpg").read_bytes()[:300])
    done = start(
        [
            "--model",
            model,
            "--config",
            str(pets / "pets.yaml"),
            "--output_dir",
            str(tmp_path / "out"),
        ],
        2,
    )
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "evaluation.pets: " in errors[0]
    assert "images/3.jpg: cannot be read as an image" in errors[0]


# --- options


def test_sets_and_metrics_can_be_chosen(
    evaluate_main: Callable[..., int],
    model: str,
    config: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    arguments = [
        "--model",
        model,
        "--config",
        config,
        "--output_dir",
        str(out),
        "--datasets",
        "open",
        "boxes",
        "--metrics",
        "all",
        "--gallery",
        "0",
        "--evaluation.open.count",
        "2",
    ]
    assert evaluate_main(arguments) == 0
    results = json.loads((out / "results.json").read_text())["results"]
    assert {key.split("/")[0] for key in results} == {"open", "boxes"}
    assert {"open/pq", "open/mask_ap", "open/box_ap", "open/miou", "boxes/box_ap"} <= results.keys()
    assert "boxes/pq" not in results
    assert "| open | 2 | pq " in capsys.readouterr().out
    assert [path.name for path in (out / "pictures").glob("*-best.png")] == []
    # a second time: the first is moved aside
    assert evaluate_main([*arguments, "--datasets", "boxes"]) == 0
    assert (tmp_path / "out.previous-1/results.json").is_file()


def test_workers_change_nothing(evaluate_main: Callable[..., int], model: str, pets: Path) -> None:
    results = []
    for workers in ("0", "2"):
        out = pets / f"out{workers}"
        arguments = [
            "--model",
            model,
            "--config",
            str(pets / "pets.yaml"),
            "--output_dir",
            str(out),
        ]
        assert evaluate_main([*arguments, "--num_workers", workers, "--flip"]) == 0
        results.append((out / "results.json").read_text())
    assert results[0] == results[1]


def test_a_run_file_of_training_serves_as_well(
    evaluate_main: Callable[..., int], model: str, config: str, tmp_path: Path
) -> None:
    settings = yaml.safe_load(Path(config).read_text())
    settings |= {
        "output_dir": "x",
        "max_steps": 3,
        "text_encoder": {"kind": "hashed_ngrams", "dim": 32},
        "datasets": {"a": {"spec": "shapes_panoptic", "reader": "shapes"}},
    }
    file = written(tmp_path / "run.yaml", settings)
    out = tmp_path / "out"
    assert (
        evaluate_main(
            ["--model", model, "--config", file, "--output_dir", str(out), "--datasets", "boxes"]
        )
        == 0
    )


# --- errors: one line, exit code 2, before anything is scored


def change(**settings: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["evaluation"]["pets"].update(settings)


@pytest.mark.parametrize(
    ("edit", "options", "message"),
    [
        (change(metrics=["pq"]), [], "evaluation.pets.metrics: 'pq' needs panoptic truth, but that "
            "of 'custom' is"),
        (change(), ["--metrics", "mask_ap"], "evaluation.pets.metrics: 'mask_ap' needs panoptic or "
            "instance or objects truth"),
        (change(), ["--metrics", "iou"], "--metrics: 'iou' is not allowed; choose from ['pq', "
            "'miou', 'mask_ap', "),
        (change(), ["--metrics", "all", "pq"], "--metrics: 'all' includes the others"),
        (change(), ["--datasets", "cats"], "--datasets: no entry 'cats' in evaluation; there are "
            "['pets']"),
        (change(), ["--annotations", "coco"], "--annotations: 'coco' is not allowed; choose from "
            "['coco_instances', "),
        (change(), ["--outlines", "boxes"], "--outlines: 'boxes' is not allowed; choose from "
            "['polygons', 'masks']"),
        (change(), ["--batch_size", "0"], "--batch_size: must be 1 or more, not 0"),
        (change(), ["--max_dets", "10"], "--max_dets: must be 11 or more, not 10"),
        (change(), ["--model", "{pets}"], "--model: "),
        (change(), ["--model", "{other}"], "is a 'convnext' model, not DaTaSeg"),
        (change(), ["--config", "{pets}/no.yaml"], "--config: cannot read"),
        (change(), ["--evaluation.pets.imagesize", "32"], "imagesize"),
        (change(imagesize=32), [], "evaluation.pets.imagesize: unknown option; did you mean "
            "'image_size'?"),
        (change(), ["--modle", "x"], "--modle: unknown option; did you mean '--model'?"),
        (change(), ["--zzz", "x"], "--zzz: unknown option; allowed are ['--annotations', "),
        (change(vocabulary="scene"), [], "evaluation.pets.vocabulary: 'scene' of the model has "
            "other names than"),
        (change(vocabulary="pet"), [], "evaluation.pets.vocabulary: no vocabulary 'pet' in this "
            "model; stored are"),
        (change(images="${NOWHERE}/images"), [], "evaluation.pets.images: '${NOWHERE}/images' "
            "names an environment"),
        (change(images="${PETS}/none"), [], "none: no such folder"),
        (change(image_size=60), ["--flip"], "evaluation.pets.image_size: 60 is no multiple of 32"),
        (lambda content: content.pop("evaluation"), [], "evaluation: the settings name no set there; "
            "add an entry"),
    ],
)  # fmt: skip
def test_one_line_errors(
    evaluate_main: Callable[..., int],
    model: str,
    pets: Path,
    capsys: pytest.CaptureFixture[str],
    edit: Callable[[dict[str, Any]], Any],
    options: list[str],
    message: str,
) -> None:
    content = {"evaluation": {"pets": dict(PETS)}}
    edit(content)
    ConvNextConfig().save_pretrained(pets / "other")
    options = [option.format(pets=pets, other=pets / "other") for option in options]
    arguments = [
        "--model",
        model,
        "--config",
        written(pets / "changed.yaml", content),
        "--output_dir",
        str(pets / "out"),
    ]
    assert evaluate_main([*arguments, *options]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (pets / "out").exists()


def test_an_unreadable_image_is_named(
    evaluate_main: Callable[..., int], model: str, pets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pets / "images/3.jpg").write_bytes(b"no image")
    for workers in ("0", "1"):
        arguments = [
            "--model",
            model,
            "--config",
            str(pets / "pets.yaml"),
            "--output_dir",
            str(pets / "out"),
        ]
        assert evaluate_main([*arguments, "--num_workers", workers]) == 2
        errors = [
            line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")
        ]
        assert len(errors) == 1
        assert "images/3.jpg: cannot be read as an image" in errors[0]


def test_mirroring_what_is_left_or_right_is_refused(
    evaluate_main: Callable[..., int], model: str, pets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = [
        {"name": "left arrow", "ids": [0]},
        {"name": "dog", "ids": [1]},
        {"name": "copyright", "ids": [2]},
    ]
    entry = {
        **PETS,
        "spec": {"task": "semantic", "classes": classes, "void_ids": [255]},
        "vocabulary": None,
    }
    file = written(pets / "arrows.yaml", {"evaluation": {"pets": entry}})
    assert (
        evaluate_main(
            ["--model", model, "--config", file, "--output_dir", str(pets / "out"), "--flip"]
        )
        == 2
    )
    assert (
        "--flip: the mirror image of 'left arrow' of evaluation.pets is something else"
        in capsys.readouterr().err
    )


def test_a_model_that_cannot_embed_needs_a_vocabulary_or_an_encoder(
    evaluate_main: Callable[..., int], pets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = checkpoint_model()
    model.config.text_encoder = {"kind": "precomputed", "source": "names.npy"}
    save_checkpoint(model, checkpoint_processor(), pets / "precomputed")
    own_names = {"evaluation": {"pets": {**PETS, "vocabulary": None}}}
    gerbils = {
        **PETS["spec"],
        "classes": [*PET_CLASSES[:-1], {**PET_CLASSES[-1], "name": "gerbil"}],
    }
    settings: dict[str, Any] = {
        "evaluation": {"pets": {**PETS, "vocabulary": None, "spec": gerbils}}
    }
    arguments = [
        "--model",
        str(pets / "precomputed"),
        "--config",
        str(pets / "own.yaml"),
        "--output_dir",
        str(pets / "o"),
    ]
    for encoder, code, message in (
        (
            None,
            2,
            "evaluation.pets.vocabulary: the model cannot embed names by itself, and stores none "
            "for [gerbil]; "
            "choose from its vocabularies ['pets",
        ),
        (
            {"kind": "hashed_ngrams", "dim": 16},
            2,
            "text_encoder: gives 16 numbers per name, the model takes 32",
        ),
        (
            {"kind": "hashed_ngrams", "size": 1},
            2,
            "text_encoder: text encoder 'hashed_ngrams': unknown options ['size']",
        ),
        ({"kind": "hashed_ngrams", "dim": 32}, 0, ""),
    ):
        written(
            pets / "own.yaml",
            settings if encoder is None else {**settings, "text_encoder": encoder},
        )
        assert evaluate_main(arguments) == code
        assert message in capsys.readouterr().err
    # names that it stores need neither
    written(pets / "own.yaml", own_names)
    assert evaluate_main(arguments) == 0
