"""Faults at every file operation with which a run saves: `python fault_points.py EVERY FOLDER`
prints how many were tried and what went wrong.

A run is trained to step 2 and saved, and trained to step 4. From there each point is a forked
process that saves, and meets its fault at the n-th operation. Then the folder is judged as a resumed
run would.
"""

import errno
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from dataseg_hf.model.checksums_dataseg import CHECKSUMS_FILE, damaged_files
from dataseg_hf.settings.parsing import parse_run_config
from dataseg_hf.training.folder import RunFolder
from dataseg_hf.training.loop import CoTraining
from dataseg_hf.training.preparation import (
    PreparedRun,
    build_run,
    prepare_folder,
    start_accelerator,
)
from dataseg_hf.training.run import start_training, write_results
from dataseg_hf.training.signals import StopSignals
from dataseg_hf.training.state import SaveError

OPERATIONS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}
KILLED, REFUSED = 137, 3  # exit codes of a point
SLOW = 0.004  # seconds for each operation
YEAR = 365 * 86_400


@dataclass
class Fault:
    """What happens at the n-th file operation below a folder, counted from 0."""

    folder: Path
    place: int
    strike: Callable[["Fault"], None]
    count: int = 0
    written: str = ""  # the file opened last

    def operation(self, path: str, writes: bool = False) -> None:
        """Count an operation on a path, and strike if it is the one."""
        if not path.startswith(str(self.folder)):
            return
        self.count += 1
        if self.count - 1 == self.place:
            self.strike(self)
        if writes:
            self.written = path

    def watch(self) -> None:
        """See all operations of this process from now on."""
        sys.addaudithook(self._event)
        for module, name, position in (
            (safetensors.torch, "serialize_file", 1),
            (torch, "save", 1),
            (os, "fsync", 0),
        ):
            self._wrap(module, name, position)

    def _event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in OPERATIONS and isinstance(arguments[0], (str, os.PathLike)):
            writes = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
            if event != "open" or writes:
                self.operation(os.fspath(arguments[0]), writes)

    def _wrap(self, module: Any, name: str, position: int) -> None:
        """Count what Python does not tell: files that other languages write, and flushes."""
        original = getattr(module, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            target = arguments[position] if len(arguments) > position else ""
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else target
            if isinstance(path, (str, os.PathLike)):
                self.operation(os.fspath(path), writes=name != "fsync")
            return original(*arguments, **options)

        setattr(module, name, wrapped)


def kill(fault: Fault) -> None:
    os._exit(KILLED)


def tear(fault: Fault) -> None:
    """Killed, and what was written last reached the disk by half, as after a power failure."""
    file = Path(fault.written) if fault.written else None
    if file is not None and file.is_file() and "unfinished" in str(file):
        os.truncate(file, file.stat().st_size // 2)
    os._exit(KILLED)


def fill_disk(fault: Fault) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_device(fault: Fault) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def nothing(fault: Fault) -> None:
    pass


class Bed:
    """A run between two saves, and what it must hold after any fault."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        config = parse_run_config(["--output_dir", str(folder), *arguments], "")
        accelerator = start_accelerator(config)
        self.folder = RunFolder(folder)
        self.prepared: PreparedRun = build_run(config, self.folder, accelerator)
        self.held = ExitStack()
        prepare_folder(self.prepared, None, {"max_steps": config.max_steps}, {}, self.held)
        self.training: CoTraining = start_training(self.prepared, None)
        batches = self.training.batches()
        self.steps(batches, 2)
        self.training.save()
        self.steps(batches, 2)
        self.before = folder.parent / "before"
        shutil.copytree(folder, self.before)
        self.faults: list[str] = []
        self.points = 0

    def steps(self, batches: Iterator[Any], count: int) -> None:
        for _ in range(count):
            self.training.train_step(batches, StopSignals())

    def restore(self) -> None:
        """The folder as it was before the save."""
        for path in self.folder.path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.before, self.folder.path, dirs_exist_ok=True)

    def meet(self, fault: Fault, work: Callable[[], None]) -> tuple[int, int]:
        """Do the work in a process of its own; returns its exit code and its operations."""
        reading, writing = os.pipe()
        drawn = random.getstate()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                random.setstate(drawn)  # which Python seeds anew in a forked process
                os.close(reading)
                fault.watch()
                try:
                    work()
                    code = 0
                except SaveError:
                    code = REFUSED
                os.write(writing, str(fault.count).encode())
            finally:
                os._exit(code)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        count = os.read(reading, 20)
        os.close(reading)
        return os.waitstatus_to_exitcode(status), int(count or 0)

    def judge(self, name: str, code: int, allowed: set[int]) -> None:
        """Note what a resumed run would get wrong after a fault."""
        self.points += 1
        if code not in allowed:
            self.faults.append(f"{name}: exit code {code}")
        folder = RunFolder(self.folder.path)
        found = folder.find_checkpoint("latest")
        if found is None:
            self.faults.append(f"{name}: no checkpoint is left")
            return
        step = folder.steps_of(found)
        if digests(found) != self.known[step]:
            self.faults.append(f"{name}: {found.name} holds other bits")
        if len(folder.read_history()) < step:
            self.faults.append(f"{name}: history ends before step {step}")
        if code == 0 and step != 4:
            self.faults.append(f"{name}: a save that ended well left step {step}")
        results = folder.finished_steps(self.prepared.config)
        if results is not None and damaged_files(folder.path):
            self.faults.append(f"{name}: finished, but the model is not whole")

    # --- what is saved

    def checkpoint(self) -> None:
        self.training.save(leaving=True)

    def final_model(self) -> None:
        self.training.save(leaving=True)
        self.training.log.flush()
        write_results(self.prepared, self.training.result(), {"steps": 4, "max_steps": 8})

    def try_all(self, every: int) -> None:
        """Kills at every so many operations of what a run saves, and other faults at fewer."""
        self.meet(Fault(self.folder.path, -1, nothing), self.checkpoint)
        one, two = self.folder.checkpoint(2), self.folder.checkpoint(4)
        self.known = {4: digests(two), 2: digests(self.before / "checkpoints" / one.name)}
        for work, factor in ((self.checkpoint, 1), (self.final_model, 4)):
            self.restore()
            code, count = self.meet(Fault(self.folder.path, -1, nothing), work)
            self.judge(f"{work.__name__} without a fault", code, {0})
            for strike, code, rarer in (
                (kill, KILLED, 1), (tear, KILLED, 4), (fill_disk, REFUSED, 4), (fail_device, REFUSED, 8)
            ):  # fmt: skip
                for place in range(0, count, every * factor * rarer):
                    self.restore()
                    code_met, _ = self.meet(Fault(self.folder.path, place, strike), work)
                    name = f"{work.__name__}, {strike.__name__} at operation {place} of {count}"
                    self.judge(name, code_met, {code} if code == KILLED else {code, 0})
        self.slow_disk()
        self.clock_jumps()

    def slow_disk(self) -> None:
        """Another process that looks at the folder while it is written sees a whole checkpoint."""
        self.restore()
        drawn = random.getstate()
        child = os.fork()
        if child == 0:
            random.setstate(drawn)
            fault = Fault(self.folder.path, -1, nothing)
            fault.operation = lambda path, writes=False: time.sleep(SLOW)  # type: ignore[method-assign,misc]
            fault.watch()
            self.checkpoint()
            os._exit(0)
        looks = 0
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            try:
                found = RunFolder(self.folder.path).find_checkpoint("latest")
            except FileNotFoundError:  # deleted while it was read; the newer one is there
                continue
            looks += found is not None
        if not looks:
            self.faults.append("slow disk: nothing was seen")
        self.judge(f"slow disk, {looks} looks", 0, {0})

    def clock_jumps(self) -> None:
        """The clock of the machine may jump between any two lines."""
        real = time.time
        for jump in (YEAR, -YEAR, 3600.0, -3600.0):
            self.restore()
            time.time = lambda jump=jump: real() + jump  # type: ignore[assignment,misc]
            try:
                code, _ = self.meet(Fault(self.folder.path, -1, nothing), self.checkpoint)
            finally:
                time.time = real
            self.judge(f"clock moved by {jump} s", code, {0})


def digests(checkpoint: Path) -> dict[str, str]:
    """The checksums of a checkpoint's files, the seconds that training took aside."""
    sums = json.loads((checkpoint / CHECKSUMS_FILE).read_text())
    return {name: digest for name, digest in sums.items() if not name.endswith(".json")}


if __name__ == "__main__":
    bed = Bed(Path(sys.argv[2]), sys.argv[3:])
    bed.try_all(int(sys.argv[1]))
    bed.held.close()
    print(json.dumps({"points": bed.points, "faults": bed.faults}))
