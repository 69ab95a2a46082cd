"""The state from which training goes on: written aside and renamed, so that a checkpoint is whole or not there."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .optimization import AveragedWeights
from .run_folder import PROGRESS_FILE, RunFolder

# what a full disk or an unwritable folder raises: Python's files, torch's and safetensors'
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)


class SaveError(RuntimeError):
    """Something could not be written; what was there before is still there."""


def save_training_state(
    folder: RunFolder,
    accelerator: Accelerator,
    averaged: AveragedWeights | None,
    step: int,
    seconds: float,
    keep: int,
) -> Path:
    """Write the training state on all processes together; returns its folder.

    Raises:
        SaveError: on all processes, where one of them could not write; earlier checkpoints stay.
    """
    unfinished = folder.unfinished_checkpoint(step)

    def begin() -> None:
        if accelerator.is_main_process:
            folder.begin_checkpoint(step)

    def fill() -> None:
        accelerator.save_state(str(unfinished / "state"))

    def finish() -> None:
        if accelerator.is_main_process:
            if averaged is not None:
                tensors = {name: tensor.contiguous() for name, tensor in averaged.model.state_dict().items()}
                save_file(tensors, unfinished / "averaged.safetensors")
            folder.finish_checkpoint(step, {"step": step, "train_seconds": seconds}, keep)

    for part in (begin, fill, finish):
        failure = _together(part, accelerator)
        if failure is not None:
            if accelerator.is_main_process:
                shutil.rmtree(unfinished, ignore_errors=True)  # what little it holds may be what the disk lacks
            raise SaveError(f"step {step}: the checkpoint could not be written to {folder.checkpoints}: {failure}")
    return folder.checkpoint(step)


def _together(write: Callable[[], None], accelerator: Accelerator) -> str | None:
    """Run a part on all processes; what went wrong on one of them."""
    failure = None
    try:
        write()
    except WRITE_ERRORS as error:
        failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
    failed = accelerator.reduce(torch.tensor(float(failure is not None), device=accelerator.device), "sum")
    return None if float(failed) == 0 else failure or "another process could not write"


def load_training_state(path: Path, accelerator: Accelerator, averaged: AveragedWeights | None) -> tuple[int, float]:
    """Restore the training state; returns the steps done and the seconds they took."""
    accelerator.load_state(str(path / "state"))
    if averaged is not None:
        averaged.model.load_state_dict(load_file(path / "averaged.safetensors"))
    progress = json.loads((path / PROGRESS_FILE).read_text())
    return progress["step"], progress["train_seconds"]
