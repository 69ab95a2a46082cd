"""Writing on one process or all, so that every process learns of a failure on one of them and none
waits for it.
"""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException

# what a full disk or an unwritable folder raises: Python's files, torch's, safetensors', and the
# shards'
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError, CheckpointException)


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
