"""What a run's settings ask for beyond the plain run, in real processes."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers import warm_python
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.hub_server import HubServer
from helpers.paths import ROOT
from helpers.run_programs import environment, run_here, script, start, weights

pytestmark = pytest.mark.slow

NO_EVALUATION = ("--evaluation", "{}")


def read_json(file: Path) -> object:
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that evaluates in between, keeps the best model and writes to TensorBoard."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    done = start(
        folder,
        "--evaluate_every",
        "1 epochs of shapes_boxes",
        "--evaluation.shapes_open.every",
        "3",
        "--evaluation.shapes_boxes.every",
        "0",
        "--best_metric",
        "shapes_panoptic/miou",
        "--report_to",
        "[tensorboard]",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


def test_each_set_is_evaluated_at_its_own_interval(evaluated: tuple[Path, str]) -> None:
    folder, printed = evaluated
    rows = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    found = [
        (row["step"], sorted({key.partition("/")[0] for key in row if key != "step"}))
        for row in rows
    ]
    # 8 images, 4 of them in every third step: an epoch is 6 steps
    assert found == [
        (3, ["shapes_open"]),
        (6, ["shapes_open", "shapes_panoptic"]),
        (8, ["shapes_boxes", "shapes_open", "shapes_panoptic"]),
    ]
    assert "every 6 steps" in printed
    assert "shapes_open-step000003.png" in {path.name for path in (folder / "pictures").iterdir()}


def test_the_best_model_is_kept_and_loads(evaluated: tuple[Path, str]) -> None:
    from transformers import AutoModel

    folder, _ = evaluated
    rows = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    values = {
        row["step"]: row["shapes_panoptic/miou"] for row in rows if "shapes_panoptic/miou" in row
    }
    step = max(values, key=lambda step: (values[step], -step))  # the first of equals
    assert read_json(folder / "best/best_metric.json") == {
        "step": step, "metric": "shapes_panoptic/miou", "value": values[step]
    }  # fmt: skip
    assert sorted(AutoModel.from_pretrained(folder / "best").config.vocabularies) == [
        "shapes_boxes", "shapes_panoptic", "shapes_semantic"
    ]  # fmt: skip


def test_losses_metrics_and_pictures_are_in_tensorboard(evaluated: tuple[Path, str]) -> None:
    folder, _ = evaluated
    events = EventAccumulator(str(folder / "dataseg"), size_guidance={"images": 0})
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {
        "train/learning_rate",
        "train/gradient_norm",
        "train/images_per_second",
        "train/data_wait_share",
        "train/peak_memory_gb",
        "eval/shapes_panoptic/pq",
    } <= scalars
    assert {
        f"train/loss/{name}" for name in ("shapes_panoptic", "shapes_semantic", "shapes_boxes")
    } <= scalars
    assert [event.step for event in events.Scalars("train/gradient_norm")] == [2, 4, 6, 8]
    assert [event.step for event in events.Images("predictions/shapes_open")] == [3, 6, 8]


def test_the_folder_says_how_it_was_made(evaluated: tuple[Path, str]) -> None:
    folder, _ = evaluated
    (facts,) = read_json(folder / "run.json")  # type: ignore[misc]
    assert facts["max_steps"] == 8
    assert facts["evaluate_every"] == {"shapes_panoptic": 6, "shapes_boxes": 0, "shapes_open": 3}
    assert facts["processes"] == 1
    assert facts["precision"] == "no"
    assert facts["device_name"] is None  # of a CPU
    assert facts["started_from"] == []
    assert facts["torch"] == torch.__version__
    assert facts["images_per_step"] == {
        "shapes_panoptic": 4,
        "shapes_semantic": 4,
        "shapes_boxes": 4,
    }
    assert facts["trainable_parameters"] == sum(
        t.numel() for n, t in weights(folder).items() if ".text_" not in n
    )
    with Image.open(folder / "curves.png") as picture:
        assert picture.height > picture.width  # three panels


def test_a_run_repeats_from_the_config_in_its_folder(
    evaluated: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = evaluated
    again = warm_python.run(
        [str(ROOT / "examples/cotrain.py"), "--config", str(folder / "run_config.yaml"),
         "--output_dir", str(tmp_path / "again")],
        environment(),
    )  # fmt: skip
    assert again.returncode == 0, again.stderr[-3000:]
    one, other = weights(folder), weights(tmp_path / "again")
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_dry_run_projects_and_leaves_nothing(tmp_path: Path) -> None:
    done = start(
        tmp_path / "run", "--dry_run", "true", "--max_steps", "100 epochs of shapes_semantic"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "600 steps" in done.stdout
    assert all(
        f"\n{name}" in done.stdout
        for name in ("shapes_panoptic", "shapes_semantic", "shapes_boxes")
    )
    assert "projected: " in done.stdout
    assert not (tmp_path / "run").exists()


def test_fine_tuning_on_a_new_vocabulary_with_the_backbone_frozen(
    evaluated: tuple[Path, str], tmp_path: Path
) -> None:
    source, folder = evaluated[0], tmp_path / "run"
    entry = {
        "spec": "shapes_open",
        "reader": "shapes",
        "split": "eval",
        "count": 8,
        "batch_size": 4,
        "image_size": 32,
    }
    done = start(
        folder,
        "--datasets",
        json.dumps({"new": entry}),
        *NO_EVALUATION,
        "--model",
        "{}",
        "--text_encoder",
        "null",
        "--model_weights",
        str(source),
        "--freeze_backbone",
        "true",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = weights(source), weights(folder)
    assert all(
        torch.equal(after[name], tensor)
        for name, tensor in before.items()
        if name.startswith("backbone.")
    )
    changed = [
        name
        for name, tensor in before.items()
        if name in after and not torch.equal(after[name], tensor)
    ]
    assert any(name.startswith("pixel_decoder.") for name in changed)
    config = read_json(folder / "config.json")
    assert config["default_vocabulary"] == "new"  # type: ignore[index]
    assert "shapes_boxes" in config["vocabularies"]  # type: ignore[index]
    assert config["text_encoder"] == {"kind": "hashed_ngrams", "dim": 32}  # type: ignore[index]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    done = start(folder, *NO_EVALUATION, "--max_steps", "4")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize(
    "options",
    [
        ("--gradient_checkpointing", "true"),
        ("--torch_compile", "eager"),
        ("--gradient_accumulation_steps", "2", "--max_steps", "4 steps"),
    ],
)
def test_options_that_must_not_change_the_result(
    plain: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    other = start(tmp_path / "run", *NO_EVALUATION, "--max_steps", "4", *options)
    assert other.returncode == 0, other.stderr[-3000:]
    reference = weights(plain)
    for name, tensor in weights(tmp_path / "run").items():
        torch.testing.assert_close(tensor, reference[name], atol=2e-3, rtol=1e-2, msg=name)


def test_a_linear_start_comes_once_and_the_resumed_run_is_the_whole_one(tmp_path: Path) -> None:
    cells = (*NO_EVALUATION, "--model.cell_classifier", "true", "--linear_start", "5")
    whole = start(tmp_path / "whole", *cells, "--max_steps", "4")
    assert whole.returncode == 0, whole.stderr[-3000:]
    assert "Linear start: fitted to" in whole.stdout
    run = shutil.copytree(tmp_path / "whole", tmp_path / "run")
    second = run / "checkpoints" / "step-00000002"
    resumed = start(run, *cells, "--max_steps", "4", "--resume", str(second))
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "Linear start" not in resumed.stdout
    expected = weights(tmp_path / "whole")
    for name, tensor in weights(tmp_path / "run").items():
        assert torch.equal(tensor, expected[name]), name


def test_a_run_without_pictures_ends_with_its_results(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = start(folder, "--num_pictures", "0", "--max_steps", "1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "all_results.json").is_file()
    assert not list((folder / "pictures").glob("shapes_*"))


def test_bf16_trains(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = start(folder, *NO_EVALUATION, "--mixed_precision", "bf16", "--max_steps", "4")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "precision bf16" in done.stdout
    assert all(torch.isfinite(tensor).all() for tensor in weights(folder).values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mixed_precision", "fp16"], "mixed_precision: 'fp16' needs a GPU"),
        (["--report_to", "[clearml]"], "report_to: 'clearml' is not installed"),
        (
            ["--best_metric", "shapes_open/miou"],
            "best_metric: 'shapes_open/miou' is not measured; measured are",
        ),
        (["--best_metric", "elsewhere/pq"], "best_metric: 'elsewhere/pq' must be SET/METRIC"),
        (["--max_steps", "3 epochs of nothing"], "max_steps: 'nothing' is no entry of datasets"),
        (
            ["--evaluation.shapes_open.every", "often"],
            "evaluation.shapes_open.every: 'often' is no duration",
        ),
        (["--model_weights", "nowhere"], "model_weights: cannot load 'nowhere'"),
        (
            ["--model_weights", "a", "--backbone_weights", "b"],
            "model_weights and backbone_weights: give one",
        ),
        (["--text_encoder", "null"], "text_encoder: is required"),
        (["--config", "nowhere.yaml"], "cannot read 'nowhere.yaml'"),
        (
            ["--datasets.shapes_panoptic.spec", "cocoo"],
            "datasets.shapes_panoptic.spec: unknown dataset 'cocoo'",
        ),
        (["--datasets.shapes_panoptic.count", "0"], "has no images"),
        (["--text_encoder", '{"kind": "word2vec"}'], "`kind` must be one of"),
        (["--model.num_attention_heads", "3"], "`hidden_dim` (16)"),
        (["--backbone_weights", "nowhere"], "backbone_weights: cannot load 'nowhere'"),
        (["--linear_start", "1"], "linear_start: the model has no cell classifier"),
        (["--backbone_classifier", "true"], "backbone_classifier: needs backbone_weights"),
        (
            ["--backbone_classifier", "true", "--backbone_weights", "a", "--linear_start", "1"],
            "backbone_classifier and linear_start: give one",
        ),
        (["--torch_compile", "fast"], "torch_compile: unknown backend 'fast'; torch has ["),
        (
            ["--gradient_accumulation_steps", "3"],
            "datasets.shapes_panoptic.batch_size: 4 is not divisible by 1 proc",
        ),
        (["--resume", "nowhere"], "resume: 'nowhere' is no complete checkpoint"),
    ],
)
def test_bad_settings_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert run_here(monkeypatch, tmp_path / "run", *arguments) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in error


def test_resume_refuses_data_that_has_changed(evaluated: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = start(folder, *NO_EVALUATION)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder / "all_results.json").unlink()
    mix = json.loads((folder / "mix.json").read_text())
    mix[1]["images"] += 1
    (folder / "mix.json").write_text(json.dumps(mix))
    resumed = start(folder, *NO_EVALUATION, "--resume", "latest")
    assert resumed.returncode == 2
    assert "dataset 'shapes_semantic' has changed" in resumed.stderr
    assert "images 9 -> 8" in resumed.stderr


# --- the Hub --------------------------------------------------------------------------------------


def start_with_hub(
    hub: HubServer, folder: Path, home: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    hub_variables = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
    }
    variables = {**os.environ, **environment(), **hub_variables, "HF_HUB_OFFLINE": "0"}
    call = script(folder, *NO_EVALUATION, "--push_to_hub", "org/shapes", *arguments)
    return warm_python.run(call, variables)


def test_the_final_model_is_pushed(tmp_path: Path) -> None:
    with HubServer() as hub:
        done = start_with_hub(hub, tmp_path / "run", tmp_path / "home")
        assert done.returncode == 0, done.stderr[-3000:]
        assert "Published: " in done.stdout
        files = hub.repos["model", "org/shapes"].files
        assert {"model.safetensors", "config.json", "modeling_dataseg.py", "README.md"} <= set(
            files
        )
        assert "history.csv" not in files
        (tmp_path / "pushed.safetensors").write_bytes(files["model.safetensors"])
    pushed = load_file(tmp_path / "pushed.safetensors")
    assert all(
        torch.equal(tensor, pushed[name]) for name, tensor in weights(tmp_path / "run").items()
    )


def test_a_hub_that_refuses_the_push_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with HubServer() as hub:
        hub.fail("POST", "/commit/", times=100, status=403)
        done = start_with_hub(hub, folder, tmp_path / "home")
        assert done.returncode == 1, done.stdout[-3000:]
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert f"publish it with dataseg publish --model {folder} --repo org/shapes" in error
        assert "model.safetensors" not in hub.repos["model", "org/shapes"].files
    assert read_json(folder / "all_results.json")["steps"] == 8  # type: ignore[index]
    assert weights(folder)


def test_a_hub_that_gives_no_repository_is_known_before_training(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.fail("POST", "/api/repos/create", times=100, status=403)
        done = start_with_hub(hub, tmp_path / "run", tmp_path / "home")
    assert done.returncode == 2, done.stdout[-3000:]
    assert "error: push_to_hub: cannot make 'org/shapes' on the Hub" in done.stderr
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_license_is_asked_for_before_training(tmp_path: Path) -> None:
    """Pretrained weights, even our own, may have any license."""
    save_checkpoint(checkpoint_model(), checkpoint_processor(), tmp_path / "start")
    start = ("--model_weights", str(tmp_path / "start"), "--model", "{}", "--text_encoder", "null")
    with HubServer() as hub:
        done = start_with_hub(hub, tmp_path / "run", tmp_path / "home", *start)
        assert hub.repos == {}
    assert done.returncode == 2, done.stdout[-3000:]
    assert "error: hub_license: the weights need a license: apache-2.0 or mit" in done.stderr
    assert not (tmp_path / "run").exists()
