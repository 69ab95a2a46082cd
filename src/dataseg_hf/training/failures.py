"""What can go wrong in a step, agreed on by all processes, and what to say of it."""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..data.micro_batch import MicroBatch
from ..data.mixing import TrainingSet
from ..data.sample import BadSampleError


class DivergedError(RuntimeError):
    """The loss or its gradient became infinite or not a number."""


class DataError(RuntimeError):
    """The images of a step could not be loaded; its `__cause__` says why, on the process on which
    it happened.
    """


def agree(flags: Sequence[bool], accelerator: Accelerator) -> list[bool]:
    """Which of the flags are set on any process: all processes then do the same.

    Several processes wait for each other here; one alone waits for nothing.
    """
    if accelerator.num_processes == 1:
        return list(flags)
    raised = torch.tensor([float(flag) for flag in flags], device=accelerator.device)
    return [value > 0 for value in accelerator.reduce(raised, "sum").tolist()]


def divergence(
    step: int,
    dataset: TrainingSet,
    batches: Sequence[MicroBatch],
    problem: str | None,
    terms: Mapping[str, float],
    accelerator: Accelerator,
) -> str:
    """What to say of a step that is not finite; a process without a problem of its own names those
    of the others.
    """
    ids = [image_id for batch in batches for image_id in batch.image_ids]
    shown = ", ".join(f"{name} {value:.5g}" for name, value in terms.items())
    own = (
        None
        if problem is None
        else f"images {ids}: {problem}{f' (terms: {shown})' if shown else ''}"
    )
    found = [message for message in gather_object([own]) if message is not None]
    return (
        f"step {step + 1}, dataset '{dataset.name}', {'; '.join(found)}. Checkpoints are kept; "
        "lower learning_rate or max_grad_norm and start from one with --model_weights, or look at "
        "these images"
    )


def data_failure(failure: Exception | None) -> str:
    """What to say of images that could not be loaded on this process, or on another one."""
    if failure is None:
        return "another process could not load its images"
    if isinstance(failure, BadSampleError):
        return f"{failure}; correct the data or set on_bad_sample to 'skip', then --resume latest"
    if _loading_process_died(failure):
        return (
            f"a loading process died ({' '.join(str(failure).split())}): its memory may have run "
            "out; use fewer num_workers or no keep_in_memory, then --resume latest"
        )
    return (
        f"{type(failure).__name__} while loading images: {failure}; mend the reader, then --resume "
        "latest"
    )


def _loading_process_died(failure: Exception) -> bool:
    """Whether torch noticed it, or it died while a batch was being received from it."""
    if "DataLoader worker (pid" in str(failure):
        return True
    frames = traceback.extract_tb(failure.__traceback__)
    received = bool(frames) and "multiprocessing" in Path(frames[-1].filename).parts
    return received and isinstance(failure, (ConnectionError, EOFError))


def fetch(batches: Iterator[list[MicroBatch]]) -> tuple[list[MicroBatch], Exception | None]:
    """The next step's micro-batches, or the error of a reader, so that the state can be saved
    before it is raised.
    """
    try:
        return next(batches), None
    except Exception as error:
        return [], error
