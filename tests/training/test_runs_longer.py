"""Runs that go on with other settings: longer ones, those that change no result, and the way for
all others.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from dataseg_hf.errors import ConfigError
from dataseg_hf.settings.entries import TrainEntry
from dataseg_hf.settings.run import RunConfig
from dataseg_hf.training.folder import RunFolder
from helpers.run_programs import run_here, start, weights

NO_EVALUATION = ("--evaluation", "{}")


def rates(folder: Path) -> list[float]:
    return [float(row["learning_rate"]) for row in RunFolder(folder).read_history()]


def assert_same_weights(one: Path, other: Path) -> None:
    expected, found = weights(one), weights(other)
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 8 steps under a cosine."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = start(folder, *NO_EVALUATION)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.slow
def test_a_finished_run_is_made_longer_and_interrupted(finished: Path, tmp_path: Path) -> None:
    """The rate starts again at step 8; killed in the second part, the run ends in the same bits."""
    folder = shutil.copytree(finished, tmp_path / "run")
    options = (*NO_EVALUATION, "--resume", "latest", "--max_steps", "14", "--keep_checkpoints", "9")
    longer = start(folder, *options)
    assert longer.returncode == 0, longer.stderr[-2000:]
    assert "the learning rate starts again after step 8" in longer.stdout
    assert json.loads((folder / "all_results.json").read_text())["steps"] == 14
    assert json.loads((folder / "superseded-all_results.json").read_text())["steps"] == 8
    # 6 further steps: 2 of warm-up, then the cosine (1 + cos(pi k / 6)) / 2 of the peak 0.002
    expected = [0.001, 0.002 * 0.9330127, 0.0015, 0.001, 0.0005, 0.002 * 0.0669873]
    assert rates(folder)[8:] == pytest.approx(expected, rel=1e-3)

    killed = shutil.copytree(folder, tmp_path / "killed")
    for name in ("all_results.json", "model.safetensors"):
        (killed / name).unlink()
    for step in (12, 14):
        shutil.rmtree(killed / f"checkpoints/step-{step:08d}")
    resumed = start(killed, *options)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert "step-00000010" in resumed.stdout
    assert_same_weights(folder, killed)
    assert "holds a finished run of 14 steps" in start(killed, *options).stdout


@pytest.mark.slow
def test_a_longer_run_of_a_constant_rate_is_the_long_run(tmp_path: Path) -> None:
    options = (*NO_EVALUATION, "--schedule", "constant", "--color_affinity_ramp", "0")
    whole = start(tmp_path / "whole" / "run", *options, "--max_steps", "6")
    assert whole.returncode == 0, whole.stderr[-2000:]
    folder = tmp_path / "parts" / "run"
    for steps in ("4", "6"):
        done = start(folder, *options, "--max_steps", steps, "--resume", "latest")
        assert done.returncode == 0, done.stderr[-2000:]
    assert "starts again" not in done.stdout
    assert_same_weights(tmp_path / "whole" / "run", folder)


@pytest.mark.slow
def test_the_way_that_a_refusal_names_works(finished: Path, tmp_path: Path) -> None:
    refused = start(finished, *NO_EVALUATION, "--resume", "latest", "--learning_rate", "0.001")
    assert refused.returncode == 2
    (error,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    named = f"--model_weights {finished}/checkpoints/step-00000008 --output_dir NEW"
    assert named in error
    options = named.replace("NEW", str(tmp_path / "new")).split()
    done = start(tmp_path / "run", *NO_EVALUATION, "--learning_rate", "0.001", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "new/all_results.json").read_text())["steps"] == 8


@pytest.mark.slow
def test_a_run_is_not_shortened_below_what_it_has(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run_here(monkeypatch, finished, *NO_EVALUATION, "--resume", "latest", "--max_steps", "5")
        == 2
    )
    assert "error: max_steps: 5, but the checkpoint has 8 steps" in capsys.readouterr().err
    assert (finished / "all_results.json").exists()


# --- which settings may change


def settings(**options: Any) -> RunConfig:
    entry = {"spec": "shapes_panoptic", "reader": "shapes", "count": 8, **options.pop("entry", {})}
    return RunConfig(
        **{
            "output_dir": "x",
            "datasets": {"a": TrainEntry(**entry)},
            "text_encoder": {"kind": "hashed_ngrams"},
        }
        | options
    )


@pytest.mark.parametrize(
    "options",
    [
        {"max_steps": 2000},
        {"max_minutes": 3.0},
        {"num_threads": 3},
        {"on_bad_sample": "skip"},
        {"gradient_accumulation_steps": 2},
        {"gradient_checkpointing": True},
        {"dry_run": True},
        {"best_metric": None, "evaluate_every": 3},
        {"entry": {"keep_in_memory": True}},
        {"entry": {"images": "elsewhere"}},
    ],
)
def test_settings_that_change_no_result_may_change(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(settings())
    folder.check_same_run(settings(**options))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"learning_rate": 0.5}, "['learning_rate']"),
        ({"schedule": "constant", "seed": 3}, "['schedule', 'seed']"),
        ({"entry": {"image_size": 32, "keep_in_memory": True}}, "['datasets.a.image_size']"),
        ({"datasets": {"b": TrainEntry(spec="shapes_panoptic")}}, "['datasets']"),
    ],
)
def test_settings_that_change_the_result_may_not(
    tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(settings())
    with pytest.raises(ConfigError) as raised:
        folder.check_same_run(settings(**options))
    assert f"other settings for {named} (see run_config.yaml there)" in str(raised.value)


def test_a_run_of_a_version_with_other_names_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    own = {"task": "boxes", "classes": [], "license": "mine"}
    now = settings(entry={"color_jitter": 0.2, "spec": own})
    folder.write_config(now)
    text = folder.config_file.read_text()
    old = text.replace("color_jitter", "colour_jitter").replace("license", "licence")
    folder.config_file.write_text(old)
    folder.check_same_run(now)
    with pytest.raises(ConfigError, match=r"datasets\.a\.color_jitter"):
        folder.check_same_run(settings(entry={"color_jitter": 0.3, "spec": own}))


def test_a_setting_that_an_older_version_did_not_know_had_its_default(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(settings())
    lines = folder.config_file.read_text().splitlines(keepends=True)
    folder.config_file.write_text(
        "".join(line for line in lines if "ema_decay" not in line and "ratio" not in line)
    )
    folder.check_same_run(settings())
    with pytest.raises(ConfigError, match="ema_decay"):
        folder.check_same_run(settings(ema_decay=0.9))


def test_a_checkpoint_of_an_older_version_is_part_of_the_schedule_of_its_run(
    tmp_path: Path,
) -> None:
    folder = RunFolder(tmp_path)
    folder.append_start({"max_steps": 8})
    # a first try to make it longer, killed before its first checkpoint
    folder.append_start({"max_steps": 12})
    checkpoint = folder.checkpoint(6)
    checkpoint.mkdir(parents=True)
    (checkpoint / "progress.json").write_text('{"step": 6, "train_seconds": 3.5}')
    assert folder.progress_of(checkpoint) == {
        "step": 6, "train_seconds": 3.5, "max_steps": 8, "first_step": 0, "first_seconds": 0.0
    }  # fmt: skip


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    checkpoint = RunFolder(tmp_path / "other").checkpoint(6)
    checkpoint.mkdir(parents=True)
    (checkpoint / "progress.json").write_text('{"step": 6}')
    with pytest.raises(
        ConfigError, match=r"is no checkpoint of the run in .*--model_weights .*step-00000006"
    ):
        RunFolder(tmp_path / "run").find_checkpoint(str(checkpoint))


def test_the_best_of_another_metric_is_not_the_one_to_beat(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_best(lambda path: None, 3, "a/pq", 0.9)
    assert folder.best_value("a/pq") == 0.9
    assert folder.best_value("a/miou") == float("-inf")
