"""One command at a time in a folder: refused by name, unless the owner is gone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataseg_hf.files import lock
from dataseg_hf.files.lock import (
    LOCK_FILE,
    OWNER_FILE,
    FolderInUseError,
    lock_folder,
    refuse_in_use,
)
from dataseg_hf.files.output_folder import check_output_folder, claim_output_folder

HOLDER = """
import sys, time
from pathlib import Path
from dataseg_hf.files.lock import lock_folder
sys.argv = ["dataseg", "cotrain", "--secret", "token"]
held = lock_folder(Path({folder!r}), "output_dir")
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes into the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(folder=str(tmp_path))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_in_use_is_refused_with_the_command_the_process_and_since_when(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    for attempt in (lock_folder, refuse_in_use):
        with pytest.raises(FolderInUseError) as refusal:
            attempt(tmp_path, "--output_dir")
        message = str(refusal.value)
        assert message.startswith(f"--output_dir: '{tmp_path}' is in use by 'dataseg cotrain', ")
        assert f"process {holder.pid} on {socket.gethostname()}, since 20" in message
        assert "token" not in message


def test_nothing_is_moved_out_of_a_folder_in_use(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    (tmp_path / "run_config.yaml").write_text("output_dir: x\ndatasets: {}\nmax_steps: 1\n")
    (tmp_path / "mix.json").write_text("[]")
    for attempt in (check_output_folder, claim_output_folder):
        with pytest.raises(FolderInUseError, match="is in use by"):
            attempt(tmp_path, "run", "output_dir")
    assert (tmp_path / "mix.json").exists()


def test_the_lock_of_a_killed_process_is_taken_over_at_once(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK_FILE).exists()
    started = time.monotonic()
    with lock_folder(tmp_path, "output_dir"):
        assert json.loads((tmp_path / OWNER_FILE).read_text())["pid"] == os.getpid()
    assert time.monotonic() - started < 60  # without waiting for the lease to end
    assert sorted(tmp_path.iterdir()) == []


def test_the_lock_of_another_host_is_taken_over_after_the_stated_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock as another host left it, which nobody renews."""
    monkeypatch.setattr(lock, "LEASE_SECONDS", 3.0)
    monkeypatch.setattr(lock, "_PATIENCE", 0.5)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(socket, "gethostname", lambda: "node-7")
        held = lock_folder(tmp_path, "output_dir")
    with pytest.raises(FolderInUseError, match="on node-7"):
        refuse_in_use(tmp_path, "output_dir")  # its thread renews it
    held._lease._stop_heartbeat()  # as if the host were gone
    with lock_folder(tmp_path, "output_dir"):
        assert json.loads((tmp_path / OWNER_FILE).read_text())["host"] != "node-7"


def test_earlier_output_is_moved_without_the_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with claim_output_folder(folder, "predictions", "--output"):
        (folder / "predictions.json").write_text("{}")
    with claim_output_folder(folder, "predictions", "--output") as claimed:
        assert claimed.earlier is not None
        assert not (claimed.earlier / LOCK_FILE).exists()
        assert (folder / LOCK_FILE).exists()
    assert not (folder / LOCK_FILE).exists()
