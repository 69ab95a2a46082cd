"""Scripts in processes of their own, forked from one that has imported what they need.

Importing takes several times what a tiny run computes. There are two such processes: RUNS has
imported all of this package, PEERS only what transformers imports, neither transformers nor this
package. Tests of memory begin with nothing imported instead, by `subprocess`; so does one test of
each way to start a command.
"""

import importlib
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock


class WarmProcess:
    """A process to fork from, started when it is first needed.

    Args:
        server: of which it is the process.
        modules: what it imports, a module of `helpers`.
    """

    def __init__(self, server: forkserver.ForkServer, modules: str) -> None:
        self._server = server
        server.set_forkserver_preload([modules])

    def warm_up(self) -> None:
        """Start it. It reads the variables while it imports."""
        fixed = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with mock.patch.dict(os.environ, {**fixed, "PYTHONPATH": os.pathsep.join(sys.path)}):
            self._server.ensure_running()

    def start(self, process: ForkServerProcess) -> None:
        """Start a process as its fork; multiprocessing itself knows one server only."""
        self.warm_up()
        connect = self._server.connect_to_new_process
        with mock.patch.object(forkserver, "connect_to_new_process", connect):
            process.start()


RUNS = WarmProcess(forkserver._forkserver, "helpers.warm_modules")  # that of multiprocessing
PEERS = WarmProcess(forkserver.ForkServer(), "helpers.warm_peers")
_CONTEXT = multiprocessing.get_context("forkserver")


def _run(arguments: list[str], environment: Mapping[str, str], outputs: list[str]) -> None:
    """What the forked process does: `python SCRIPT ARGUMENTS...`."""
    for descriptor, output in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), descriptor)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored in the process that it comes from
    multiprocessing.set_start_method(None, force=True)  # its workers start as usual
    os.environ.clear()
    os.environ.update(environment)
    # the Hub's address and cache, which it read from the variables when it was imported
    importlib.reload(importlib.import_module("huggingface_hub.constants"))
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).parent)
    runpy.run_path(arguments[0], run_name="__main__")


class Script:
    """A script that runs; has what the tests use of `subprocess.Popen`.

    Args:
        arguments: the script's file and its arguments.
        environment: all variables that it sees.
        merged: its errors go where its output goes.
        warm: what it is forked from.
    """

    def __init__(
        self,
        arguments: list[str],
        environment: Mapping[str, str],
        *,
        merged: bool = False,
        warm: WarmProcess = RUNS,
    ) -> None:
        self._folder = TemporaryDirectory()
        self._outputs = [
            str(Path(self._folder.name) / ("out" if merged else name)) for name in ("out", "err")
        ]
        for output in self._outputs:
            Path(output).touch()
        self._process = _CONTEXT.Process(
            target=_run, args=(arguments, dict(environment), self._outputs)
        )
        warm.start(self._process)
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


class Scripts:
    """A script that runs on several processes, with torchrun's variables: the first failure ends
    all. Has what the tests use of `subprocess.Popen`.

    Args:
        arguments, environment, merged: as of `Script`.
        processes: how many.
    """

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        processes: int,
        *,
        merged: bool = False,
    ) -> None:
        self.scripts = [
            Script(arguments, {**environment, **places}, merged=merged)
            for places in _places(processes)
        ]

    @property
    def returncode(self) -> int | None:
        """Of the first that failed, 0 if none did; None while one of them runs."""
        codes = [script.returncode for script in self.scripts]
        if None not in codes:
            return next((code for code in codes if code), 0)
        if any(codes):
            self.kill()
        return None

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        for script in self.scripts:
            script.kill()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for the end; the outputs of all processes, one behind the other, and the errors."""
        deadline = time.monotonic() + timeout
        while self.returncode is None:
            if time.monotonic() > deadline:
                self.kill()
                raise subprocess.TimeoutExpired("script", timeout)
            time.sleep(0.02)
        outputs = [script.communicate() for script in self.scripts]
        out, errors = ("".join(parts) for parts in zip(*outputs, strict=True))
        return out, errors


def run(
    arguments: list[str], environment: dict[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """A script to its end."""
    return run_together(arguments, environment, 1, timeout)


def run_together(
    arguments: list[str], environment: dict[str, str], processes: int, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """A script on several processes to its end."""
    scripts = Scripts(arguments, environment, processes)
    output = scripts.communicate(timeout)
    return subprocess.CompletedProcess(arguments, scripts.returncode or 0, *output)


def run_code_cold(
    code: str, environment: Mapping[str, str], *arguments: str, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """The same in a new process, for code of a checkpoint.

    transformers copies that code into a new package and imports it at once. In a forked process
    that can happen within one tick of the file system's clock, and Python then does not find the
    package.
    """
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, env=dict(environment), capture_output=True, text=True, timeout=timeout, check=False
    )


def run_code(
    code: str, environment: Mapping[str, str], *arguments: str, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """`python -c CODE ARGUMENTS...` to its end, where neither transformers nor this package has
    been imported.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "code.py"
        file.write_text(code)
        script = Script([str(file), *arguments], environment, warm=PEERS)
        output = script.communicate(timeout)
        return subprocess.CompletedProcess(code, script.returncode or 0, *output)


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
