"""Runs that are killed, told to stop, short of disk, or whose data breaks: nothing saved is lost,
nothing differs.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image

from dataseg_hf.model.checksums_dataseg import damaged_files
from dataseg_hf.training.folder import RunFolder
from helpers import warm_python
from helpers.paths import PROGRAMS
from helpers.run_programs import (
    SETTINGS,
    begin,
    environment,
    script,
    start,
    wait_until,
    weights,
)
from helpers.warm_python import Scripts

pytestmark = pytest.mark.slow

EVALUATE = ("--evaluate_every", "3")


def optimizer_state(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints/step-00000008/state/optimizer.bin", weights_only=True)


def history(folder: Path) -> list[list[str]]:
    """The rows, without the two clocks at their end."""
    return [line.split(",")[:-2] for line in (folder / "history.csv").read_text().splitlines()]


def evaluations(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]


def assert_same_run(one: Path, other: Path) -> None:
    """The same bits of weights, averaged weights and optimizer state, and the same history."""
    for tensors, others in (
        (weights(one), weights(other)),
        (flat(optimizer_state(one)), flat(optimizer_state(other))),
    ):
        assert set(tensors) == set(others)
        assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())
    assert history(one) == history(other)
    assert evaluations(one) == evaluations(other)


def flat(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, values in state["state"].items()
        for name, value in values.items()
    }


@pytest.mark.parametrize(("processes", "workers"), [(1, 2), (2, 0)])
def test_a_run_killed_three_times_ends_in_the_same_bits(
    tmp_path: Path, processes: int, workers: int
) -> None:
    # drop path draws from torch's global generator, whose state must come back too
    backbone = {**SETTINGS["model"]["backbone_config"], "drop_path_rate": 0.3}
    options = (*EVALUATE, "--checkpoint_every", "1", "--num_workers", str(workers),
               "--model.backbone_config", json.dumps(backbone))  # fmt: skip
    whole = start(tmp_path / "whole" / "run", *options, processes=processes)
    assert whole.returncode == 0, whole.stderr[-3000:]

    folder = tmp_path / "killed" / "run"
    for kill_at in sorted(random.Random(processes).sample(range(1, 8), 3)):
        process = begin(folder, *options, "--resume", "latest", processes=processes)
        wait_until((folder / f"checkpoints/step-{kill_at:08d}/progress.json").exists, process)
        kill_family(process)
        assert not (folder / "all_results.json").exists()
    resumed = start(folder, *options, "--resume", "latest", processes=processes)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert f"Resuming from {folder}/checkpoints/step-0000000" in resumed.stdout
    assert_same_run(tmp_path / "whole" / "run", folder)
    assert not list((folder / "checkpoints").glob("unfinished-*"))


def kill_family(process: Scripts) -> None:
    """Kill -9 the processes of a run and their workers."""
    roots = [psutil.Process(script.pid) for script in process.scripts]
    for member in [*roots, *(child for root in roots for child in root.children(recursive=True))]:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.communicate()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0)]
)
def test_a_signal_saves_and_the_resumed_run_is_the_whole_one(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    options = (*EVALUATE, "--checkpoint_every", "100")  # no checkpoint but that of the signal
    whole = start(tmp_path / "whole" / "run", *options)
    assert whole.returncode == 0, whole.stderr[-3000:]
    folder = tmp_path / "stopped" / "run"
    process = begin(folder, *options, "--log_every", "1")
    wait_until(lambda: len(read(folder / "history.csv").splitlines()) > 2, process)
    os.kill(process.scripts[0].pid, number)
    printed = process.communicate(timeout=100)[0]
    assert process.returncode == code, printed
    assert f"stopped by {number.name} after step" in printed
    assert not (folder / "all_results.json").exists()
    resumed = start(folder, *options, "--resume", "latest")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert_same_run(tmp_path / "whole" / "run", folder)


def test_a_signal_after_the_last_step_lets_the_model_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = begin(folder, "--max_steps", "2", "--evaluation", "{}")
    wait_until(lambda: (folder / "checkpoints/step-00000002").exists(), process)
    process.scripts[0].terminate()
    printed = process.communicate(timeout=100)[0]
    assert process.returncode == 0, printed
    assert (folder / "all_results.json").exists()
    assert damaged_files(folder) == []


def test_a_signal_in_a_dry_run_leaves_nothing_behind(tmp_path: Path) -> None:
    folder, temporary = tmp_path / "deep" / "run", tmp_path / "temporary"
    temporary.mkdir()
    # with nothing imported: the warm process knows its own folder for temporary files
    process = subprocess.Popen(
        [sys.executable, *script(folder, "--dry_run", "true")],
        env={**environment(), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not any(temporary.iterdir()):
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    printed = process.communicate(timeout=100)[0]
    assert process.returncode == 128 + signal.SIGTERM, printed
    assert list(temporary.iterdir()) == []
    assert not folder.exists()


@pytest.mark.parametrize("resume", [(), ("--resume", "latest")])
def test_a_second_run_in_the_folder_is_refused(tmp_path: Path, resume: tuple[str, ...]) -> None:
    folder = tmp_path / "run"
    long = ("--max_steps", "2000", "--checkpoint_every", "4", "--log_every", "1")
    first = begin(folder, *long, "--evaluation", "{}")
    wait_until(lambda: len(read(folder / "history.csv").splitlines()) > 8, first)
    before = (folder / "run.json").read_text()
    second = start(folder, *long, "--evaluation", "{}", *resume)
    assert second.returncode == 2
    assert f"error: output_dir: '{folder}' is in use by 'cotrain.py" in second.stderr
    assert (folder / "run.json").read_text() == before
    first.scripts[0].terminate()
    assert first.communicate(timeout=100) is not None
    assert first.returncode == 0
    steps = [int(row[0]) for row in history(folder)[1:]]
    assert steps == list(range(1, len(steps) + 1))


def test_a_signal_to_one_of_two_processes_stops_both(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = begin(
        folder, "--max_steps", "2000", "--checkpoint_every", "1000", "--log_every", "1", processes=2
    )
    wait_until(lambda: len(read(folder / "history.csv").splitlines()) > 2, process)
    process.scripts[1].terminate()
    printed = process.communicate(timeout=100)[0]
    assert process.returncode == 0, printed
    assert printed.count("stopped by SIGTERM after step") == 2
    (saved,) = (folder / "checkpoints").iterdir()
    assert int(saved.name.removeprefix("step-")) == len(history(folder)) - 1


def test_a_signal_that_cannot_save_is_no_success(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = begin(folder, "--max_steps", "2000", "--checkpoint_every", "1000", "--log_every", "1",
                    "--on_save_error", "warn", "--evaluation", "{}")  # fmt: skip
    wait_until(lambda: len(read(folder / "history.csv").splitlines()) > 2, process)
    (folder / "checkpoints").write_text("where the checkpoints should go")
    process.scripts[0].terminate()
    printed = process.communicate(timeout=100)[0]
    assert process.returncode == 1, printed
    assert "the checkpoint could not be written" in printed


def test_going_on_from_an_earlier_checkpoint_sets_the_later_ones_aside(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    whole = start(folder, "--keep_checkpoints", "3", "--evaluation", "{}")
    assert whole.returncode == 0, whole.stderr[-3000:]
    before = weights(folder)
    (folder / "all_results.json").unlink()
    again = start(
        folder,
        "--keep_checkpoints",
        "1",
        "--evaluation",
        "{}",
        "--resume",
        f"{folder}/checkpoints/step-00000004",
    )
    assert again.returncode == 0, again.stderr[-3000:]
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["step-00000008", "superseded-step-00000006", "superseded-step-00000008"]
    assert [row[0] for row in history(folder)] == ["step", *map(str, range(1, 9))]
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(folder).items())


def test_a_checkpoint_is_a_model_that_loads(tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = tmp_path / "run"
    done = start(folder, "--evaluation", "{}")
    assert done.returncode == 0, done.stderr[-3000:]
    model = AutoModel.from_pretrained(folder / "checkpoints/step-00000008")
    final = weights(folder)
    assert all(torch.equal(tensor, final[name]) for name, tensor in model.state_dict().items())


def test_what_a_time_limit_ended_goes_on_with_another_limit(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = start(folder, "--max_minutes", "0.000001", "--evaluation", "{}")
    assert first.returncode == 0, first.stderr[-3000:]
    assert json.loads((folder / "all_results.json").read_text())["steps"] == 1
    same = start(folder, "--max_minutes", "0.000001", "--evaluation", "{}", "--resume", "latest")
    assert "holds a finished run of 1 steps" in same.stdout
    more = start(folder, "--max_minutes", "10", "--evaluation", "{}", "--resume", "latest")
    assert more.returncode == 0, more.stderr[-3000:]
    assert json.loads((folder / "all_results.json").read_text())["steps"] == 8


def read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def start_limited(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(PROGRAMS / "full_disk.py")
    return warm_python.run([program, *script(folder, *arguments)], environment())


BIG = ("--model.dim_feedforward", "4096")  # weights of some 700 kB


def test_a_full_disk_ends_the_run_and_keeps_the_earlier_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = start(folder, *BIG, "--max_minutes", "0.000001", "--evaluation", "{}")
    assert first.returncode == 0, first.stderr[-3000:]
    (folder / "all_results.json").unlink()
    before = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert before == ["step-00000001"]
    full = start_limited(folder, *BIG, "--resume", "latest", "--evaluation", "{}")
    assert full.returncode == 1
    (error,) = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
    assert "step 2: the checkpoint could not be written to" in error
    assert "File too large" in error
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == before
    resumed = start(folder, *BIG, "--resume", "latest", "--evaluation", "{}")
    assert resumed.returncode == 0, resumed.stderr[-3000:]


def test_a_full_disk_is_a_warning_where_the_settings_say_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    full = start_limited(folder, *BIG, "--on_save_error", "warn", "--evaluation", "{}")
    warnings = [line for line in full.stdout.splitlines() if line.startswith("warning: ")]
    assert [line.split(":")[1].strip() for line in warnings] == [
        "step 2",
        "step 4",
        "step 6",
        "step 8",
    ]
    assert all("training goes on" in line for line in warnings)
    # the final model does not fit either, which is no warning: there would be no result
    assert full.returncode == 1
    assert "the final model could not be written" in full.stderr
    assert len(history(folder)) == 9


def test_an_unwritable_folder_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, said in (
        (f"{tmp_path}/file/run", "is a file, or lies in one"),
        ("/proc/run", "cannot write to"),
    ):
        done = start(tmp_path / "run", "--output_dir", folder)
        assert done.returncode == 2
        (error,) = [
            line for line in done.stderr.splitlines() if line.startswith("error: output_dir: ")
        ]
        assert f"'{folder}'" in error
        assert said in error


def test_a_killed_worker_saves_what_was_trained(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = (
        "--num_workers",
        "1",
        "--checkpoint_every",
        "100",
        "--max_steps",
        "2000",
        "--log_every",
        "1",
        "--evaluation",
        "{}",
    )
    process = begin(folder, *options)
    wait_until(lambda: len(read(folder / "history.csv").splitlines()) > 3, process)
    workers = psutil.Process(process.scripts[0].pid).children()
    assert workers
    for worker in workers:
        worker.kill()
    printed = process.communicate(timeout=100)[0]
    assert process.returncode == 1, printed
    assert "a loading process died" in printed
    assert "--resume latest" in printed
    (saved,) = (folder / "checkpoints").iterdir()
    steps = int(saved.name.removeprefix("step-"))
    assert steps == len(history(folder)) - 1  # every step that was trained


def test_a_dataset_that_turns_unreadable_saves_what_was_trained(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for number in range(4):
        Image.new("RGB", (32, 32), (60 * number, 90, 30)).save(images / f"{number}.png")
        Image.new("L", (32, 32), 1).save(labels / f"{number}.png")
    entry = {
        "spec": {"task": "semantic", "classes": [{"name": "road", "ids": [1]}]},
        "reader": "image_png",
        "images": str(images),
        "annotations": str(labels),
        "batch_size": 2,
        "image_size": 32,
        "options": {"image_suffix": ".png"},
    }
    options = (
        "--datasets",
        json.dumps({"mine": entry}),
        "--evaluation",
        "{}",
        "--max_steps",
        "2000",
        "--checkpoint_every",
        "1000",
        "--log_every",
        "1",
    )
    folder = tmp_path / "out" / "run"
    process = begin(folder, *options)
    wait_until(lambda: len(read(folder / "history.csv").splitlines()) > 3, process)
    (images / "2.png").write_bytes(b"no longer an image")
    printed = process.communicate(timeout=100)[0]
    assert process.returncode == 2, printed
    (error,) = [line for line in printed.splitlines() if "error: " in line]
    assert "dataset 'mine'" in error
    assert "2.png" in error
    assert "--resume latest" in error
    (saved,) = (folder / "checkpoints").iterdir()
    assert int(saved.name.removeprefix("step-")) == len(history(folder)) - 1


def test_a_loss_that_is_not_finite_stops_two_processes_with_its_terms(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = start(
        folder,
        "--learning_rate",
        "1e30",
        "--warmup_steps",
        "0",
        "--checkpoint_every",
        "1",
        processes=2,
    )
    assert done.returncode != 0
    (error,) = {
        line[line.index("error: ") :] for line in done.stderr.splitlines() if "error: step" in line
    }
    assert "dataset 'shapes_" in error
    assert "images ['shapes_" in error
    assert "Checkpoints are kept" in error
    assert sorted(path.name for path in (folder / "checkpoints").iterdir())[0].startswith(
        "step-0000000"
    )


def test_history_rows_that_do_not_fit_are_not_half_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.start_history(0)
    folder.append_history([{"step": 1, "dataset": "first"}])
    before = folder.history_file.read_bytes()
    limits, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            folder.append_history([{"step": 2, "dataset": "a name that does not fit any more"}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert folder.history_file.read_bytes() == before
