"""Whole runs as users start them: real processes, killed, resumed, on two processes, with bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).parent.parent

SETTINGS = {
    "seed": 1,
    "max_steps": 8,
    "learning_rate": 0.002,
    "warmup_steps": 2,
    "num_threads": 1,
    "checkpoint_every": 2,
    "log_every": 2,
    "num_pictures": 2,
    "ema_decay": 0.9,
    "text_encoder": {"kind": "hashed_ngrams", "dim": 32},
    "model": {
        "backbone_config": {
            "model_type": "convnext",
            "patch_size": 2,
            "hidden_sizes": [8, 8, 16],
            "depths": [1, 1, 1],
            "num_stages": 3,
            "out_features": ["stage1", "stage2", "stage3"],
        },
        "hidden_dim": 16,
        "mask_dim": 8,
        "encoder_layers": 1,
        "encoder_feedforward_dim": 16,
        "decoder_layers": 2,
        "dim_feedforward": 16,
        "num_attention_heads": 2,
        "num_queries": 12,
    },
    "datasets": {
        name: {"spec": name, "reader": "shapes", "count": 8, "batch_size": 4, "image_size": 32, "ratio": 1}
        for name in ("shapes_panoptic", "shapes_semantic", "shapes_boxes")
    },
    "evaluation": {
        "shapes_panoptic": {"spec": "shapes_panoptic", "reader": "shapes", "split": "eval", "count": 5,
                            "vocabulary": "shapes_panoptic", "image_size": 32, "metrics": ["pq", "miou"]},
        "shapes_boxes": {"spec": "shapes_boxes", "reader": "shapes", "split": "eval", "count": 5,
                         "vocabulary": "shapes_boxes", "image_size": 32, "metrics": ["mask_ap"]},
        "shapes_open": {"spec": "shapes_open", "reader": "shapes", "split": "eval", "count": 5,
                        "image_size": 32, "metrics": ["pq"]},
    },
}  # fmt: skip


def command(folder: Path, *arguments: str, processes: int = 1) -> list[str]:
    """The example on a tiny config, into `folder`: by `accelerate launch`, or on several processes by torchrun."""
    config = folder.parent / "settings.yaml"
    config.write_text(yaml.safe_dump({"output_dir": str(folder), **SETTINGS}, sort_keys=False))
    if processes == 1:
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1", "--mixed_precision", "no",
                  "--dynamo_backend", "no", "--cpu", "--num_processes", "1"]  # fmt: skip
    else:  # accelerate launch starts several CPU processes through MPI only
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [*launch, str(ROOT / "examples/cotrain.py"), "--config", str(config), *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}


def start(folder: Path, *arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments, processes=processes), capture_output=True, text=True, env=environment(), timeout=300
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An uninterrupted run: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = start(folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, done.stdout


def test_a_run_leaves_model_results_curves_and_pictures(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    results = json.loads((folder / "all_results.json").read_text())
    expected = {"shapes_panoptic/pq", "shapes_panoptic/pq_things", "shapes_panoptic/pq_stuff", "shapes_panoptic/miou",
                "shapes_boxes/mask_ap", "shapes_boxes/mask_ap50", "shapes_open/pq", "train_seconds"}  # fmt: skip
    assert expected <= set(results)
    assert results["steps"] == 8
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "modeling_dataseg.py", "curves.png",
            "run_config.yaml", "history.csv", "shapes_open-step000008.png"} <= names  # fmt: skip


def test_the_mix_is_printed_before_training(whole: tuple[Path, str]) -> None:
    _, printed = whole
    assert "trainable parameters" in printed
    assert "33.3%" in printed
    assert "held out: shapes_panoptic (5 images: pq, miou)" in printed


def test_the_final_model_loads_by_the_auto_class(whole: tuple[Path, str]) -> None:
    from transformers import AutoImageProcessor, AutoModel

    folder, _ = whole
    model = AutoModel.from_pretrained(folder)
    assert sorted(model.config.vocabularies) == ["shapes_boxes", "shapes_panoptic", "shapes_semantic"]
    assert AutoImageProcessor.from_pretrained(folder).size["longest_edge"] == 32
    stored = weights(folder)
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.state_dict().items())


def test_a_killed_run_resumes_to_the_same_bits(whole: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(), start_new_session=True
    )
    deadline = time.monotonic() + 200
    while not (folder / "checkpoints/step-00000004/progress.json").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint after 200 s"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / "all_results.json").exists()

    resumed = start(folder, "--resume", "latest", "--num_workers", "2")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert "Resuming from" in resumed.stdout
    reference = weights(whole[0])
    assert all(torch.equal(tensor, reference[name]) for name, tensor in weights(folder).items())
    columns = [line.rsplit(",", 1)[0] for line in (folder / "history.csv").read_text().splitlines()]
    assert columns == [line.rsplit(",", 1)[0] for line in (whole[0] / "history.csv").read_text().splitlines()]


def test_resume_in_a_finished_folder_ends_at_once(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    before = (folder / "model.safetensors").stat().st_mtime_ns
    done = start(folder, "--resume", "latest")
    assert done.returncode == 0
    assert "holds a finished run of 8 steps" in done.stdout
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_resume_refuses_other_settings(whole: tuple[Path, str]) -> None:
    done = start(whole[0], "--resume", "latest", "--learning_rate", "0.5")
    assert done.returncode != 0
    assert "was started with other settings for ['learning_rate']" in done.stderr


def test_two_processes_do_what_one_does(whole: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = start(folder, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 process(es)" in done.stdout
    reference = weights(whole[0])
    # sums in another order: equal but for rounding, which Adam's first steps magnify
    for name, tensor in weights(folder).items():
        torch.testing.assert_close(tensor, reference[name], atol=2e-3, rtol=1e-2, msg=name)
    one, two = (json.loads((path / "all_results.json").read_text()) for path in (whole[0], folder))
    assert set(one) == set(two)


def test_resume_latest_in_an_empty_folder_starts_afresh(tmp_path: Path) -> None:
    done = start(tmp_path / "run", "--resume", "latest", "--max_steps", "1", "--evaluation", "{}")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "starting afresh" in done.stdout
    assert json.loads((tmp_path / "run/all_results.json").read_text())["steps"] == 1


def test_a_fresh_start_keeps_the_earlier_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "precious.txt").write_text("results of last week")
    done = start(folder, "--max_steps", "1", "--evaluation", "{}")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run.previous-1/precious.txt").read_text() == "results of last week"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nowhere.yaml"], "cannot read 'nowhere.yaml'"),
        (["--datasets.shapes_panoptic.spec", "cocoo"], "datasets.shapes_panoptic.spec: unknown dataset 'cocoo'"),
        (["--datasets.shapes_panoptic.count", "0"], "has no images"),
        (["--text_encoder", '{"kind": "word2vec"}'], "`kind` must be one of"),
        (["--model.num_attention_heads", "3"], "`hidden_dim` (16)"),
        (["--backbone_weights", "nowhere"], "backbone_weights: cannot load 'nowhere'"),
        (["--resume", "nowhere"], "resume: 'nowhere' is no complete checkpoint"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    call = command(tmp_path / "run", *arguments)
    script = call.index(str(ROOT / "examples/cotrain.py"))
    done = subprocess.run(
        [sys.executable, *call[script:]], capture_output=True, text=True, env=environment(), timeout=120
    )
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr
