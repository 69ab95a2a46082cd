"""What a run says while it trains: a progress bar, a line per interval, a history row per step,
trackers.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from ..data.mixing import TrainingSet
from ..model.supervision_dataseg import LOSS_TERMS
from ..settings.run import RunConfig
from .folder import RunFolder
from .schedule import Schedule

LOG = logging.getLogger(__name__)

if sys.platform == "win32":
    import psutil
else:
    import resource


@dataclass(frozen=True)
class BatchRecord:
    """What happened to a batch of one dataset in an optimizer step.

    Args:
        terms: weighted loss terms and counts.
        data_seconds: of waiting for its images.
    """

    step: int
    dataset: TrainingSet
    terms: dict[str, float]
    rate: float
    gradient_norm: float
    data_seconds: float

    @property
    def loss(self) -> float:
        """Sum of the loss terms."""
        return sum(
            value for name, value in self.terms.items() if name.removeprefix("loss_") in LOSS_TERMS
        )


class StepLog:
    """Takes in every step; only the main process writes."""

    def __init__(
        self,
        config: RunConfig,
        schedule: Schedule,
        folder: RunFolder,
        accelerator: Accelerator,
        first_step: int,
        seconds: float,
    ) -> None:
        self.config, self.folder, self.accelerator = config, folder, accelerator
        self.main = accelerator.is_main_process
        total = schedule.max_steps
        self.bar = tqdm(
            total=total, initial=first_step, disable=not self.main, unit="step", mininterval=1.0
        )
        self.rows: list[dict[str, Any]] = []
        self.interval: list[BatchRecord] = []
        self.seconds = self.since = seconds
        self.reported: set[str] = set()

    def __enter__(self) -> "StepLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """No row is lost, whatever ended training."""
        if self.interval and error is None:
            self.report(self.seconds)
        self.flush()
        self.bar.close()

    def record(self, batches: Sequence[BatchRecord], seconds: float) -> None:
        """Take in one step.

        Args:
            seconds: of training so far, over all parts of a resumed run.
        """
        self.rows += [_history_row(record, seconds) for record in batches]
        self.interval += batches
        self.seconds = seconds
        self.bar.update()
        if batches[-1].step % self.config.log_every == 0:
            self.report(seconds)
            self.flush()

    def report_skipped(self, messages: Sequence[str]) -> None:
        """Say which images of this process could not be used, each once."""
        for message in messages:
            if message not in self.reported:
                self.reported.add(message)
                LOG.warning(f"skipped: {message}")

    def report(self, seconds: float) -> None:
        """Log a line and send values to the trackers, for the steps since the last one."""
        last, losses = self.interval[-1], _mean_losses(self.interval)
        values = {
            **{f"train/loss/{name}": loss for name, loss in losses.items()},
            "train/learning_rate": last.rate,
            "train/gradient_norm": last.gradient_norm,
            **interval_speed(self.interval, seconds - self.since),
            "train/peak_memory_gb": peak_memory(self.accelerator.device) / 1e9,
        }
        if self.main:
            LOG.info(_line(last, losses, values, self.interval))
        self.accelerator.log(values, step=last.step)
        self.interval, self.since = [], seconds

    def flush(self) -> None:
        """Write the rows held so far; if the disk is full, keep them for the next time."""
        if self.main:
            try:
                self.folder.append_history(self.rows)
            except OSError as error:
                LOG.warning(
                    f"{self.folder.history_file} could not be written: {error}; its rows are kept"
                )
                return
        self.rows = []


def _history_row(record: BatchRecord, seconds: float) -> dict[str, Any]:
    row = {"step": record.step, "dataset": record.dataset.name, "loss": f"{record.loss:.5f}",
           "learning_rate": f"{record.rate:.3e}", "gradient_norm": f"{record.gradient_norm:.4f}",
           "seconds": f"{seconds:.2f}", "data_seconds": f"{record.data_seconds:.4f}"}  # fmt: skip
    return {**row, **{name: f"{value:.5g}" for name, value in record.terms.items()}}


def _mean_losses(interval: Sequence[BatchRecord]) -> dict[str, float]:
    losses: dict[str, list[float]] = {}
    for record in interval:
        losses.setdefault(record.dataset.name, []).append(record.loss)
    return {name: sum(values) / len(values) for name, values in losses.items()}


def interval_speed(interval: Sequence[BatchRecord], seconds: float) -> dict[str, float]:
    """Images per second over all processes, and the share of the time spent waiting for images."""
    return {
        "train/images_per_second": sum(record.dataset.batch_size for record in interval) / seconds,
        "train/data_wait_share": sum(record.data_seconds for record in interval) / seconds,
    }


def peak_memory(device: torch.device) -> float:
    """Most bytes that this process has held so far: on the accelerator where there is one, else of
    the machine.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most  # bytes on macOS, kilobytes on Linux


def _line(
    last: BatchRecord,
    losses: dict[str, float],
    values: dict[str, float],
    interval: Sequence[BatchRecord],
) -> str:
    parts = [f"loss {', '.join(f'{name} {loss:.2f}' for name, loss in losses.items())}"]
    parts.append(f"rate {last.rate:.2e}, gradient norm {last.gradient_norm:.1f}")
    speed, wait = values["train/images_per_second"], values["train/data_wait_share"]
    parts.append(f"{speed:.1f} images/s, {wait:.1%} waiting for data")
    parts.append(f"peak {values['train/peak_memory_gb']:.2f} GB")
    unmatched = int(sum(record.terms["unmatched_targets"] for record in interval))
    if unmatched:
        parts.append(f"{unmatched} targets beyond the number of queries")
    return f"step {last.step}: {'; '.join(parts)}"
