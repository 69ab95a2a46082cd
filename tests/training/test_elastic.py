"""Training under torchrun's automatic restarts: killed workers change no bit."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from helpers.run_programs import environment, script, start, weights
from helpers.thoroughness import HOSTILE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HOSTILE, reason="takes minutes: make hostile runs it"),
]

OPTIONS = (
    "--evaluation",
    "{}",
    "--check_samples",
    "1",
    "--max_steps",
    "12",
    "--checkpoint_every",
    "2",
)
RESTARTS = "5"
FRESH_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"  # docs/training.md, Elastic training


def agent(folder: Path, *launch: str) -> subprocess.Popen[str]:
    """torchrun on the example, in a process of its own, with what it says in a file beside."""
    command = [sys.executable, "-m", "torch.distributed.run", "--max-restarts", RESTARTS, *launch]
    log = (folder.parent / f"agent-{time.monotonic_ns()}.txt").open("w")
    return subprocess.Popen(
        [*command, *script(folder, *OPTIONS, "--resume", "latest")],
        env={**environment(), FRESH_STORE: "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(process.pid).children()
        if any("cotrain.py" in word for word in child.cmdline())
    ]


def wait_for_steps(folder: Path, count: int, *agents: subprocess.Popen[str]) -> None:
    deadline, history = time.monotonic() + 240, folder / "history.csv"
    while not (history.exists() and len(history.read_text().splitlines()) > count):
        for process in agents:
            assert process.poll() is None, _said(folder)
        assert time.monotonic() < deadline, _said(folder)
        time.sleep(0.02)


def _said(folder: Path) -> str:
    return "\n".join(file.read_text()[-3000:] for file in folder.parent.glob("agent-*.txt"))


def kill_one(process: subprocess.Popen[str], rng: random.Random) -> None:
    os.kill(rng.choice(workers(process)).pid, signal.SIGKILL)


def assert_same_bits(folder: Path, reference: Path) -> None:
    found, known = weights(folder), weights(reference)
    assert set(found) == set(known)
    assert all(torch.equal(tensor, known[name]) for name, tensor in found.items())
    rows = [line.split(",")[0] for line in (folder / "history.csv").read_text().splitlines()[1:]]
    assert rows == [str(step) for step in range(1, 13)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbs, on two processes."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = start(folder, *OPTIONS, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_killed_workers_of_one_node(tmp_path: Path, reference: Path) -> None:
    folder, rng = tmp_path / "run", random.Random(1)
    process = agent(folder, "--standalone", "--nproc_per_node", "2")
    wait_for_steps(folder, rng.randrange(3, 6), process)
    kill_one(process, rng)
    assert process.wait(300) == 0, _said(folder)
    assert_same_bits(folder, reference)


def test_killed_workers_of_two_nodes(tmp_path: Path, reference: Path) -> None:
    """Two agents on the loopback, of each of which the worker is killed."""
    folder, rng = tmp_path / "run", random.Random(2)
    launch = two_nodes()
    one, two = agent(folder, *launch), agent(folder, *launch)
    wait_for_steps(folder, 3, one, two)
    for process in (one, two):
        kill_one(process, rng)
        time.sleep(rng.uniform(5, 10))
    assert one.wait(300) == 0, _said(folder)
    assert two.wait(300) == 0, _said(folder)
    assert_same_bits(folder, reference)


def test_a_node_that_comes_back(tmp_path: Path, reference: Path) -> None:
    """The node that does not hold the rendezvous dies as a whole, and is started again."""
    folder = tmp_path / "run"
    launch = two_nodes()
    first = agent(folder, *launch)
    while not psutil.Process(first.pid).net_connections("tcp"):  # it holds the rendezvous
        assert first.poll() is None, _said(folder)
        time.sleep(0.1)
    second = agent(folder, *launch)
    wait_for_steps(folder, 3, first, second)
    for process in [*workers(second), psutil.Process(second.pid)]:
        process.kill()
    second.wait()
    time.sleep(5)
    assert first.poll() is None, _said(folder)
    again = agent(folder, *launch)
    assert first.wait(300) == 0, _said(folder)
    assert again.wait(300) == 0, _said(folder)
    assert_same_bits(folder, reference)


def two_nodes() -> tuple[str, ...]:
    """What torchrun is started with on each of two nodes, whose rendezvous is on the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rendezvous = ("--rdzv-backend", "c10d", "--rdzv-id", "test")
    endpoint = ("--rdzv-endpoint", f"127.0.0.1:{port}")
    return ("--nnodes", "2", "--nproc_per_node", "1", *rendezvous, *endpoint)
