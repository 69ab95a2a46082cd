"""The co-training loop: one dataset per step, every parameter shared. Accelerate runs it on any
devices.
"""

import copy
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer

from ..data.collate import Normalization
from ..data.micro_batch import MicroBatch
from ..data.mixing import MixingSampler, TrainingSet, batches_per_step, mixing_loader
from ..ending import SIGHUP
from ..model.modeling_dataseg import DaTaSegModel
from ..settings.run import RunConfig
from .failures import DataError, DivergedError, agree, data_failure, divergence, fetch
from .folder import RunFolder
from .gradients import BatchLosses, accumulate_gradients, read_together, step_loss_weights
from .log import BatchRecord, StepLog
from .optimization import AveragedWeights, learning_rate, parameter_groups, set_learning_rate
from .schedule import Schedule
from .signals import StopRequested, StopSignals
from .state import SaveError, SaveModel, load_training_state, save_training_state

LOG = logging.getLogger(__name__)

# The metrics of the model on the named held-out sets after a step; all processes compute them.
Evaluate = Callable[[DaTaSegModel, int, Sequence[str]], dict[str, float]]

# A gradient scaler that skips so many steps in a row will not find a scale any more (our setting).
MAX_SKIPPED_STEPS = 50


@dataclass
class TrainedModel:
    """The model at the end of training.

    Args:
        model: the weights to use, averaged ones where averaging is on.
        seconds: of training alone, over all parts of a resumed run.
    """

    model: DaTaSegModel
    steps: int
    seconds: float


class CoTraining:
    """A run between two steps: `step` of them are done, and took `seconds`."""

    def __init__(
        self,
        config: RunConfig,
        schedule: Schedule,
        model: DaTaSegModel,
        datasets: Sequence[TrainingSet],
        folder: RunFolder,
        accelerator: Accelerator,
        save_model: SaveModel,
        checkpoint: Path | None = None,
    ) -> None:
        """Prepare a run, or go on with one from a checkpoint.

        Args:
            save_model: writes a model into a folder.
            checkpoint: folder of a complete checkpoint to continue from.
        """
        self.config, self.schedule, self.datasets = config, schedule, datasets
        self.folder, self.accelerator, self.save_model = folder, accelerator, save_model
        self.model = model
        sharded = accelerator.distributed_type == DistributedType.FSDP
        if not sharded:  # shards must lie in memory in their order
            # Convolutions are faster so, on CPUs and GPUs alike.
            model.to(memory_format=torch.channels_last)
        self.unsharded = copy.deepcopy(model).requires_grad_(False) if sharded else None
        self.averaged = AveragedWeights(model, config.ema_decay) if config.ema_decay > 0 else None
        self.parallel_model, self.optimizer = self._prepare()
        self.step, self.seconds, self.saved_step, self.skipped_steps = 0, 0.0, -1, 0
        if checkpoint is not None:
            self.step, self.seconds = load_training_state(checkpoint, accelerator, self.averaged)
            self.saved_step = self.step
        self.log = StepLog(config, schedule, folder, accelerator, self.step, self.seconds)

    def _prepare(self) -> tuple[nn.Module, Optimizer]:
        """Compile the model, wrap it for several processes, and move its copies to the device."""
        config, model = self.config, self.model
        if config.torch_compile is not None:
            for module in (model.backbone, model.pixel_decoder, model.query_decoder):
                # In place, so that the names of the weights stay.
                module.compile(backend=config.torch_compile)
        groups = parameter_groups(model, config)
        optimizer = AdamW(groups, lr=config.learning_rate, betas=config.adam_betas, fused=True)
        parallel_model, optimizer = self.accelerator.prepare(model, optimizer)
        for copied in (self.unsharded, None if self.averaged is None else self.averaged.model):
            if copied is not None:
                copied.to(self.accelerator.device)
        parallel_model.train()
        return parallel_model, optimizer

    def run(self, evaluate: Evaluate, signals: StopSignals) -> TrainedModel:
        """Train to the end of the schedule, or of the time.

        Args:
            signals: A noted signal stops training after the current step.

        Raises:
            StopRequested: when a signal came; the state was saved.
            DataError: when images cannot be loaded; the state was saved.
            DivergedError: naming step, dataset, images and loss terms, when a loss or gradient is
                not finite.
            SaveError: when a checkpoint cannot be written and the settings do not say to go on.
        """
        batches = self.batches()
        with self.log:
            self.evaluate(evaluate, self.missing_evaluations())
            while self.step < self.schedule.max_steps and not self.out_of_time():
                self.train_step(batches, signals)
                if self.step < self.schedule.max_steps:
                    due = self.schedule.evaluations_due(self.step)
                    if self.schedule.checkpoint_due(self.step) or due:
                        self.save()  # before an evaluation, whatever becomes of that
                    self.evaluate(evaluate, due)
            self.save()
        return TrainedModel(self.result(), self.step, self.seconds)

    # --- a step

    def train_step(self, batches: Iterator[list[MicroBatch]], signals: StopSignals) -> None:
        """Fetch images, optimize, log; raises as `run`."""
        started = time.perf_counter()
        micro_batches, failure = fetch(batches)
        data_seconds = time.perf_counter() - started
        self.stop_if_asked(signals, failure)

        records = self.optimize(micro_batches, data_seconds)
        self.seconds = self.agreed_clock(self.seconds + time.perf_counter() - started)
        for batch in micro_batches:
            self.log.report_skipped(batch.skipped)
        self.log.record(records, self.seconds)

    def batches(self) -> Iterator[list[MicroBatch]]:
        """The micro-batches of this process, a list per remaining step."""
        micro_batches = self.config.gradient_accumulation_steps
        size = micro_batches * batches_per_step(self.datasets)
        sampler = MixingSampler(
            self.datasets,
            self.config.seed,
            first_step=self.step,
            last_step=self.schedule.max_steps,
            micro_batches=micro_batches,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
        )
        loader = mixing_loader(
            sampler,
            Normalization(self.config.image_mean, self.config.image_std),
            self.config.num_workers,
            self.accelerator.device,
        )
        group: list[MicroBatch] = []
        for batch in loader:
            group.append(batch)
            if len(group) == size:
                yield group
                group = []

    def optimize(
        self, micro_batches: Sequence[MicroBatch], data_seconds: float
    ) -> list[BatchRecord]:
        """One optimizer step, on one dataset or on a batch of each; a record for each batch.

        Args:
            data_seconds: spent waiting for these images.

        Raises:
            DivergedError: for a loss or gradient that is not finite.
        """
        rate = learning_rate(self.config, self.schedule, self.step, self.seconds)
        set_learning_rate(self.optimizer, rate)
        size = self.config.gradient_accumulation_steps
        batches = [
            micro_batches[first : first + size] for first in range(0, len(micro_batches), size)
        ]
        datasets = [self.datasets[batch[0].dataset] for batch in batches]
        terms, norm = self.read(self.backward(datasets, batches), self.clip())
        problem = self.take_step(norm)
        if problem is not None:
            text = divergence(
                self.step, datasets[-1], micro_batches, problem, terms[-1], self.accelerator
            )
            raise DivergedError(text)
        waited = data_seconds / len(batches)
        return [
            BatchRecord(self.step, dataset, of_batch, rate, norm, waited)
            for dataset, of_batch in zip(datasets, terms, strict=True)
        ]

    def backward(
        self, datasets: Sequence[TrainingSet], batches: Sequence[Sequence[MicroBatch]]
    ) -> list[BatchLosses]:
        """Add up the gradients of a step's batches; returns the losses of each."""
        total = sum(dataset.ratio for dataset in datasets)
        losses = []
        for dataset, batch in zip(datasets, batches, strict=True):
            weights = step_loss_weights(self.config, self.schedule, self.model, dataset, self.step)
            losses.append(
                accumulate_gradients(
                    self.parallel_model,
                    dataset,
                    batch,
                    self.step,
                    weights,
                    self.accelerator,
                    share=dataset.ratio / total,
                    last_of_step=batch is batches[-1],
                )
            )
        return losses

    def clip(self) -> Tensor:
        """Clip the gradient; returns its norm before, a scalar."""
        norm = self.accelerator.clip_grad_norm_(
            self.parallel_model.parameters(), self.config.max_grad_norm
        )
        return norm.full_tensor() if isinstance(norm, DTensor) else cast(Tensor, norm)

    def read(
        self, losses: Sequence[BatchLosses], norm: Tensor
    ) -> tuple[list[dict[str, float]], float]:
        """The loss terms of each batch and the norm of the gradient. Beside the matching, this is
        where a step waits for the device.

        Args:
            norm: scalar.

        Raises:
            DivergedError: for a loss that is not finite.
        """
        tensors = [tensor for one in losses for tensor in (one.own, one.totals)]
        *values, [norm_read] = read_together([*tensors, norm])
        terms = [
            one.terms(own, totals, self.step, self.accelerator)
            for one, own, totals in zip(losses, values[::2], values[1::2], strict=True)
        ]
        return terms, norm_read

    def take_step(self, norm: float) -> str | None:
        """Change the weights, unless the gradient is not finite; returns why training cannot go
        on, or None.
        """
        scaler, finite = self.accelerator.scaler, norm < float("inf")
        if finite or scaler is not None:
            self.optimizer.step()
        # A scaler of half precision gradients finds its scale by skipping steps.
        self.skipped_steps = 0 if finite else self.skipped_steps + 1
        if not finite and (scaler is None or self.skipped_steps >= MAX_SKIPPED_STEPS):
            return f"the norm of the gradient is {norm}"
        self.optimizer.zero_grad()
        if self.averaged is not None:
            self.averaged.update(self.model, self.step)
        self.step += 1
        return None

    # --- between steps

    def stop_if_asked(self, signals: StopSignals, failure: Exception | None) -> None:
        """Save the state and leave if any process got a signal or could not load its images.

        Raises:
            StopRequested: after a signal.
            DataError: for images that could not be loaded; its message also tells if saving failed.
        """
        got = signals.received
        interrupted, hung_up, stopped, failed = agree(
            [got == signal.SIGINT, got == SIGHUP, got is not None, failure is not None],
            self.accelerator,
        )
        if stopped:
            self.save(leaving=True)
            number = signal.SIGINT if interrupted else SIGHUP if hung_up else None
            raise StopRequested(number or signal.SIGTERM, self.step)
        if failed:
            message = data_failure(failure)
            try:
                self.save(leaving=True)
            except SaveError as error:
                message = f"{message}. And {error}"
            raise DataError(message) from failure

    def agreed_clock(self, seconds: float) -> float:
        """The main process's clock: all processes use the same rate and stop after the same
        step.
        """
        if self.schedule.max_seconds is None or self.accelerator.num_processes == 1:
            return seconds
        return float(
            broadcast(torch.tensor(seconds, dtype=torch.float64, device=self.accelerator.device))
        )

    def out_of_time(self) -> bool:
        """Whether the time limit is reached."""
        limit = self.schedule.max_seconds
        late = limit is not None and self.seconds >= limit
        if late:
            LOG.info(
                f"Stopped after {self.step} of {self.schedule.max_steps} steps: max_minutes "
                f"{self.config.max_minutes} reached. The learning rate had come down by then."
            )
        return late

    def missing_evaluations(self) -> list[str]:
        """Held-out sets that were due after this step and are not recorded: a run may have been
        stopped just before their evaluation.
        """
        due = (
            self.schedule.evaluations_due(self.step)
            if 0 < self.step < self.schedule.max_steps
            else []
        )
        recorded = (
            self.folder.evaluated_sets(self.step) if self.accelerator.is_main_process else set(due)
        )
        missing = agree([name not in recorded for name in due], self.accelerator)
        return [name for name, is_missing in zip(due, missing, strict=True) if is_missing]

    def evaluate(self, evaluate: Evaluate, due: Sequence[str]) -> dict[str, float]:
        """Score the held-out sets that are due; a signal to a run of one process ends it, and
        resuming repeats it.
        """
        if not due:
            return {}
        device = self.accelerator.device
        try:
            # a loader draws a number, by which dropout would differ where an evaluation is not
            # repeated after a resume
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                return evaluate(self.result(), self.step, due)
        except StopRequested:
            self.save(leaving=True)
            raise
        finally:
            self.parallel_model.train()

    def result(self) -> DaTaSegModel:
        """The model as it is scored and saved: averaged where averaging is on, put together where
        it is sharded.

        All processes must call it.
        """
        if self.averaged is not None:
            return self.averaged.model
        if self.unsharded is None:
            return self.model
        for whole, shard in zip(self.unsharded.parameters(), self.model.parameters(), strict=True):
            whole.copy_(cast(DTensor, shard.detach()).full_tensor())
        return self.unsharded

    def save(self, leaving: bool = False) -> None:
        """Write a checkpoint, unless there is one of this step.

        Args:
            leaving: the run ends after it. A failure is then an error, as it cannot be made good;
                otherwise `on_save_error` decides.
        """
        self.log.flush()
        if self.saved_step == self.step:
            return
        result, keep = self.result(), self.config.keep_checkpoints
        progress = {"step": self.step, "train_seconds": self.seconds, **self.schedule.as_progress()}
        try:
            save_training_state(
                self.folder, self.accelerator, result, self.save_model, progress, keep
            )
        except SaveError as error:
            if self.config.on_save_error == "raise" or leaving:
                raise
            LOG.warning(f"{error}; training goes on, earlier checkpoints are kept")
        else:
            self.saved_step = self.step
