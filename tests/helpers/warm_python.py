"""Scripts in processes of their own, forked from one that has imported everything they need.

Importing takes several times what a tiny run computes. Tests of the start itself and of memory
begin with nothing imported instead, by `subprocess`.
"""

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["helpers.warm_modules"])


def _run(arguments: list[str], environment: dict[str, str], outputs: list[str]) -> None:
    """What the forked process does: `python SCRIPT ARGUMENTS...`."""
    for descriptor, output in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), descriptor)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored in the process that it comes from
    multiprocessing.set_start_method(None, force=True)  # its workers start as usual
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).parent)
    runpy.run_path(arguments[0], run_name="__main__")


def warm_up() -> None:
    """Start the process to fork from, once. It reads the variables while it imports."""
    fixed = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with mock.patch.dict(os.environ, fixed):
        forkserver.ensure_running()


class Script:
    """A script that runs; has what the tests use of `subprocess.Popen`.

    Args:
        arguments: the script's file and its arguments.
        environment: all variables that it sees.
        merged: its errors go where its output goes.
    """

    def __init__(
        self, arguments: list[str], environment: dict[str, str], *, merged: bool = False
    ) -> None:
        self._folder = TemporaryDirectory()
        self._outputs = [
            str(Path(self._folder.name) / ("out" if merged else name)) for name in ("out", "err")
        ]
        for output in self._outputs:
            Path(output).touch()
        self._process = _CONTEXT.Process(target=_run, args=(arguments, environment, self._outputs))
        warm_up()
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; output and errors, the latter empty where they are merged."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired("script", timeout or 0)
        out, err = (Path(output).read_text() for output in self._outputs)
        return out, "" if self._outputs[0] == self._outputs[1] else err


def run(
    arguments: list[str], environment: dict[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """A script to its end."""
    return run_together(arguments, environment, 1, timeout)


def run_together(
    arguments: list[str], environment: dict[str, str], processes: int, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """A script on several processes, with torchrun's variables; the first failure ends all."""
    scripts = [Script(arguments, {**environment, **places}) for places in _places(processes)]
    deadline = time.monotonic() + timeout
    while any(script.returncode is None for script in scripts):
        if time.monotonic() > deadline or any(script.returncode for script in scripts):
            for script in scripts:
                script.kill()
        time.sleep(0.02)
    outputs = [script.communicate() for script in scripts]
    code = next((script.returncode for script in scripts if script.returncode), 0)
    return subprocess.CompletedProcess(arguments, code, *map("".join, zip(*outputs, strict=True)))


def _places(processes: int) -> list[dict[str, str]]:
    """Variables by process; none for a single one."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
              "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}  # fmt: skip
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
