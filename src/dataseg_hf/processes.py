"""Working on one process or all, so that every process learns of a failure on one of them and none
waits for it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException

# what a full disk or an unwritable folder raises: Python's files, torch's, safetensors', and the
# shards'
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError, CheckpointException)

Result = TypeVar("Result")
Gather = Callable[[Any], list[Any]]
PATIENCE = timedelta(days=1)
"""For which processes wait for each other: the main one may have to write much by itself."""


@dataclass(frozen=True)
class Processes:
    """Who does what.

    Args:
        gather: collects an object from every process, in the order of their ranks.
        device: of this process.
    """

    rank: int = 0
    world_size: int = 1
    gather: Gather = lambda state: [state]
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))

    @classmethod
    def started(cls) -> "Processes":
        """Those that `accelerate launch` or torchrun started together with this one."""
        accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
        return cls(
            accelerator.process_index,
            accelerator.num_processes,
            lambda state: list(gather_object([state])),
            accelerator.device,
        )

    @property
    def is_main(self) -> bool:
        """Whether this is the one that reports, and writes what belongs to all."""
        return self.rank == 0

    def together(self, do: Callable[[], Result], *errors: type[Exception]) -> Result:
        """Do something on all processes, and wait for all of them.

        Raises:
            Exception: one of these `errors`, on all processes, where it ended the work of one.
        """
        done: list[Result] = []
        failure = None
        try:
            done.append(do())
        except errors as error:
            failure = error
        for found in self.gather(failure):
            if found is not None:
                raise found
        return done[0]

    def on_main(self, do: Callable[[], Result], *errors: type[Exception]) -> Result | None:
        """As `together`, where only the main process does something; None on the others.

        Raises:
            Exception: one of these `errors`, on all processes.
        """
        return self.together(lambda: do() if self.is_main else None, *errors)


def on_main(write: Callable[[], None], accelerator: Accelerator) -> str | None:
    """As `together`, where only the main process writes."""
    return together(write if accelerator.is_main_process else lambda: None, accelerator)


def together(write: Callable[[], object], accelerator: Accelerator) -> str | None:
    """Run something on all processes; returns what went wrong on one of them, on all."""
    failure = None
    try:
        write()
    except WRITE_ERRORS as error:
        failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
    failed = accelerator.reduce(
        torch.tensor(float(failure is not None), device=accelerator.device), "sum"
    )
    return None if float(failed) == 0 else failure or "another process could not write"
