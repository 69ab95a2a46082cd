"""The state from which training goes on: written aside and renamed, so that a checkpoint is whole
or not there.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from accelerate import Accelerator
from safetensors.torch import load_file

from ..model.modeling_dataseg import DaTaSegModel
from ..processes import on_main, together
from .folder import PROGRESS_FILE, RunFolder
from .optimization import AveragedWeights

LOG = logging.getLogger(__name__)

OnSaveError = Literal["raise", "warn"]
SaveModel = Callable[[DaTaSegModel, Path], None]


class SaveError(RuntimeError):
    """Something could not be written; what was there before is still there."""


def save_training_state(
    folder: RunFolder,
    accelerator: Accelerator,
    result: DaTaSegModel,
    save_model: SaveModel,
    progress: Mapping[str, float],
    keep: int,
) -> None:
    """Write a checkpoint on all processes together: a loadable model, and the training state in a
    folder of its own.

    Args:
        progress: step, seconds and schedule, for `RunFolder.progress_of`.

    Raises:
        SaveError: on all processes, where one of them could not write; earlier checkpoints stay.
    """
    step = int(progress["step"])
    unfinished = folder.unfinished_checkpoint(step)

    def finish() -> None:
        save_model(result, unfinished)
        folder.finish_checkpoint(step, progress, keep)

    failure = (
        on_main(lambda: folder.begin_checkpoint(step), accelerator)
        or together(lambda: accelerator.save_state(str(unfinished / "state")), accelerator)
        or on_main(finish, accelerator)
    )
    if failure is not None:
        if accelerator.is_main_process:
            # what little it holds may be what the disk lacks
            shutil.rmtree(unfinished, ignore_errors=True)
        raise SaveError(
            f"step {step}: the checkpoint could not be written to {folder.checkpoints}: {failure}"
        )


def load_training_state(
    path: Path, accelerator: Accelerator, averaged: AveragedWeights | None
) -> tuple[int, float]:
    """Restore the training state; returns the steps done and the seconds they took."""
    own = f"random_states_{accelerator.process_index}.pkl"
    if not (path / "state" / own).is_file():
        LOG.warning(
            f"{path / 'state'} has no {own}: the checkpoint is of fewer processes, so that this "
            "process draws other random numbers than a run that went through"
        )
    accelerator.load_state(str(path / "state"))
    if averaged is not None:
        averaged.model.load_state_dict(load_file(path / "model.safetensors"))
    progress = json.loads((path / PROGRESS_FILE).read_text())
    return progress["step"], progress["train_seconds"]


def write_or_warn(
    write: Callable[[], None], what: str, on_save_error: OnSaveError, accelerator: Accelerator
) -> None:
    """Write something on the main process; a failure is an error on all processes, or a warning.

    Raises:
        SaveError: where `on_save_error` is "raise".
    """
    failure = on_main(write, accelerator)
    if failure is None:
        return
    message = f"{what} could not be written: {failure}"
    if on_save_error == "raise":
        raise SaveError(message)
    LOG.warning(f"{message}; training goes on")
