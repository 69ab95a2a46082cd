"""The co-training loop: one dataset per step, every parameter shared. Accelerate does the engine
work.
"""

import copy
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast, gather_object
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW

from ..data.collate import Normalization
from ..data.mixing import (
    MicroBatch,
    MixingSampler,
    TrainingSet,
    batches_per_step,
    mixing_loader,
    to_device,
)
from ..data.sample import BadSampleError
from ..model.modeling_dataseg import DaTaSegModel
from ..model.supervision_dataseg import resolve_loss_weights
from ..model.targets_dataseg import count_targets
from ..settings.run import RunConfig
from .folder import RunFolder
from .log import StepFacts, StepLog
from .optimization import AveragedWeights, learning_rate, parameter_groups, set_learning_rate
from .schedule import Schedule
from .signals import StopRequested, StopSignals
from .state import SaveError, SaveModel, load_training_state, save_training_state

# the metrics of the model on the named held-out sets after a step, computed by all processes
Evaluate = Callable[[DaTaSegModel, int, Sequence[str]], dict[str, float]]

# a gradient scaler that skips so many steps in a row will not find a scale any more (our setting)
MAX_SKIPPED_STEPS = 50


@dataclass
class Outcome:
    """What training came to.

    Args:
        model: the weights to use, averaged ones where averaging is on.
        seconds: of training alone, over all parts of a resumed run.
    """

    model: DaTaSegModel
    steps: int
    seconds: float


class DivergedError(RuntimeError):
    """The loss or its gradient became infinite or not a number."""


class DataError(RuntimeError):
    """The images of a step could not be loaded; its `__cause__` says why, on the process on which
    it happened.
    """


class CoTraining:
    """A run between two steps: `step` of them are done, and took `seconds`."""

    def __init__(
        self,
        config: RunConfig,
        schedule: Schedule,
        model: DaTaSegModel,
        members: Sequence[TrainingSet],
        folder: RunFolder,
        accelerator: Accelerator,
        save_model: SaveModel,
        checkpoint: Path | None = None,
    ) -> None:
        """save_model: writes a model into a folder. checkpoint: folder of a complete checkpoint to
        continue from.
        """
        self.config, self.schedule, self.members = config, schedule, members
        self.folder, self.accelerator, self.save_model = folder, accelerator, save_model
        self.model = model
        sharded = accelerator.distributed_type == DistributedType.FSDP
        if not sharded:  # shards must lie in memory in their order
            # faster convolutions, on CPUs and GPUs alike
            model.to(memory_format=torch.channels_last)
        self.unsharded = copy.deepcopy(model).requires_grad_(False) if sharded else None
        self.averaged = AveragedWeights(model, config.ema_decay) if config.ema_decay > 0 else None
        if config.torch_compile is not None:
            for module in (model.backbone, model.pixel_decoder, model.query_decoder):
                # in place: the names of the weights stay
                module.compile(backend=config.torch_compile)
        groups = parameter_groups(model, config)
        optimizer = AdamW(groups, lr=config.learning_rate, betas=config.adam_betas, fused=True)
        self.wrapped, self.optimizer = accelerator.prepare(model, optimizer)
        for aside in (self.unsharded, None if self.averaged is None else self.averaged.model):
            if aside is not None:
                aside.to(accelerator.device)
        self.wrapped.train()
        self.step, self.seconds, self.saved_step, self.skipped_steps = 0, 0.0, -1, 0
        if checkpoint is not None:
            self.step, self.seconds = load_training_state(checkpoint, accelerator, self.averaged)
            self.saved_step = self.step
        self.log = StepLog(config, schedule, folder, accelerator, self.step, self.seconds)

    def run(self, evaluate: Evaluate, signals: StopSignals) -> Outcome:
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
        last_step = self.schedule.max_steps
        batches = self.batches()
        with self.log:
            self.evaluate(evaluate, self.missing_evaluations())
            while self.step < last_step and not self.out_of_time():
                started = time.perf_counter()
                micro_batches, failure = _fetch(batches)
                data_seconds = time.perf_counter() - started
                self.stop_if_asked(signals, failure)

                facts = self.optimize(micro_batches, data_seconds)
                self.seconds = self.agreed_clock(self.seconds + time.perf_counter() - started)
                for batch in micro_batches:
                    self.log.report_skipped(batch.skipped)
                self.log.record(facts, self.seconds)

                if self.step < last_step:
                    due = self.schedule.evaluations_due(self.step)
                    if self.schedule.checkpoint_due(self.step) or due:
                        self.save()  # before an evaluation, whatever becomes of that
                    self.evaluate(evaluate, due)
            self.save()
        return Outcome(self.result(), self.step, self.seconds)

    # --- a step

    def batches(self) -> Iterator[list[MicroBatch]]:
        """The micro-batches of this process, a list per remaining step."""
        micro_batches = self.config.gradient_accumulation_steps
        size = micro_batches * batches_per_step(self.members)
        sampler = MixingSampler(
            self.members,
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
        )
        group: list[MicroBatch] = []
        for batch in loader:
            group.append(batch)
            if len(group) == size:
                yield group
                group = []

    def optimize(self, micro_batches: Sequence[MicroBatch], data_seconds: float) -> list[StepFacts]:
        """One optimizer step, on one dataset or on a batch of each; facts of each of its
        batches.
        """
        rate = learning_rate(self.config, self.schedule, self.step, self.seconds)
        set_learning_rate(self.optimizer, rate)
        size = self.config.gradient_accumulation_steps
        batches = [
            micro_batches[first : first + size] for first in range(0, len(micro_batches), size)
        ]
        members = [self.members[batch[0].member] for batch in batches]
        terms_of = []
        for number, (member, batch) in enumerate(zip(members, batches, strict=True), start=1):
            weights = step_loss_weights(self.config, self.schedule, self.model, member, self.step)
            share = member.ratio / sum(one.ratio for one in members)
            last = number == len(batches)
            terms_of.append(
                accumulate_gradients(
                    self.wrapped, member, batch, self.step, weights, self.accelerator, share, last
                )
            )
        norm = float(
            self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.config.max_grad_norm)
        )
        finite = norm < float("inf")
        if finite or self.accelerator.scaler is not None:
            self.optimizer.step()
        # a scaler of half precision gradients finds its scale by skipping steps
        self.skipped_steps = 0 if finite else self.skipped_steps + 1
        if not finite and (
            self.accelerator.scaler is None or self.skipped_steps >= MAX_SKIPPED_STEPS
        ):
            problem = f"the norm of the gradient is {norm}"
            raise DivergedError(
                divergence(
                    self.step, members[-1], micro_batches, problem, terms_of[-1], self.accelerator
                )
            )
        self.optimizer.zero_grad()
        if self.averaged is not None:
            self.averaged.update(self.model, self.step)
        self.step += 1
        waited = data_seconds / len(batches)
        return [
            StepFacts(self.step, member, terms, rate, norm, waited)
            for member, terms in zip(members, terms_of, strict=True)
        ]

    # --- between steps

    def stop_if_asked(self, signals: StopSignals, failure: Exception | None) -> None:
        """Leave with the state saved, when a process got a signal or could not load its images."""
        got = signals.received
        interrupted, terminated, failed = agree(
            [got == signal.SIGINT, got == signal.SIGTERM, failure is not None], self.accelerator
        )
        if interrupted or terminated:
            self.save(leaving=True)
            raise StopRequested(signal.SIGINT if interrupted else signal.SIGTERM, self.step)
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
            self.accelerator.print(
                f"Stopped after {self.step} of {self.schedule.max_steps} steps: max_minutes "
                f"{self.config.max_minutes} "
                "reached. The learning rate had come down by then."
            )
        return late

    def missing_evaluations(self) -> list[str]:
        """What was due after this step and is not recorded: a run may have been stopped just before
        it.
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
        try:
            return evaluate(self.result(), self.step, due)
        except StopRequested:
            self.save(leaving=True)
            raise
        finally:
            self.wrapped.train()

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
        """Write a checkpoint, unless there is one of this step; a failure is an error, or a warning
        if so set.

        leaving: the run ends after it, so that a failure cannot be made good and is an error.
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
            self.accelerator.print(
                f"warning: {error}; training goes on, earlier checkpoints are kept"
            )
        else:
            self.saved_step = self.step


# --- gradients ------------------------------------------------------------------------------------


def accumulate_gradients(
    wrapped: nn.Module,
    member: TrainingSet,
    micro_batches: Sequence[MicroBatch],
    step: int,
    weights: Mapping[str, float],
    accelerator: Accelerator,
    share: float = 1.0,
    last_of_step: bool = True,
) -> dict[str, float]:
    """Forward and backward of a batch; returns its loss terms, summed over micro-batches and
    processes.

    The losses are normalized by the targets of the whole batch, so that the gradient is the same
    for any number of processes and micro-batches.

    Args:
        share: of this batch in the gradient of the step.
        last_of_step: whether the step ends with it, so that the processes exchange their gradients.
    """
    counted = torch.tensor(
        float(sum(count_targets(batch.inputs["labels"]) for batch in micro_batches))
    )
    num_targets = accelerator.reduce(counted.to(accelerator.device), "sum")
    num_images = torch.tensor(float(member.batch_size), device=accelerator.device)
    totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=accelerator.device))
    for number, batch in enumerate(micro_batches, start=1):
        last = last_of_step and number == len(micro_batches)
        with nullcontext() if last else accelerator.no_sync(wrapped):
            problem, terms = None, {}
            try:
                output = wrapped(
                    **to_device(batch.inputs, accelerator.device),
                    vocabulary=member.name,
                    task=member.task,
                    num_targets=num_targets,
                    num_images=num_images,
                    sampling_seeds=torch.tensor(batch.seeds, device=accelerator.device),
                    loss_weights=weights,
                )
                terms = output.loss_dict
                problem = (
                    None
                    if bool(torch.isfinite(output.loss))
                    else f"the loss is {float(output.loss)}"
                )
            except FloatingPointError as error:
                problem = str(error)
            if any(agree([problem is not None], accelerator)):
                known = {name: float(value) for name, value in terms.items()}
                raise DivergedError(divergence(step, member, [batch], problem, known, accelerator))
            # DistributedDataParallel averages over processes; the loss is already a share of the
            # whole
            accelerator.backward(output.loss * (accelerator.num_processes * share))
        for name, value in terms.items():
            totals[name] = totals[name] + value.detach()
        totals["unmatched_targets"] = totals["unmatched_targets"] + output.unmatched_targets
        totals["skipped_images"] = totals["skipped_images"] + len(batch.skipped)
    names = sorted(totals)
    summed = accelerator.reduce(torch.stack([totals[name].float() for name in names]), "sum")
    return dict(zip(names, summed.tolist(), strict=True))


def step_loss_weights(
    config: RunConfig, schedule: Schedule, model: DaTaSegModel, member: TrainingSet, step: int
) -> dict[str, float]:
    """Loss weights of a step: the dataset's, with the color affinity ramped up (our setting: masks
    must first find their objects before neighboring pixels are made to agree).
    """
    weights = resolve_loss_weights(model.config, member.loss_weights)
    ramp = config.color_affinity_ramp * schedule.max_steps
    weights["color_affinity"] *= min(1.0, step / ramp) if ramp > 0 else 1.0
    return weights


# --- processes and failures -----------------------------------------------------------------------


def agree(flags: Sequence[bool], accelerator: Accelerator) -> list[bool]:
    """Which of the flags are set on any process: all processes then do the same."""
    raised = torch.tensor([float(flag) for flag in flags], device=accelerator.device)
    return [value > 0 for value in accelerator.reduce(raised, "sum").tolist()]


def divergence(
    step: int,
    member: TrainingSet,
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
        f"step {step + 1}, dataset '{member.name}', {'; '.join(found)}. Checkpoints are kept; "
        "lower learning_rate or max_grad_norm and start from one with --model_weights, or look at "
        "these images"
    )


def data_failure(failure: Exception | None) -> str:
    """What to say of images that could not be loaded on this process, or on another one."""
    if failure is None:
        return "another process could not load its images"
    if isinstance(failure, BadSampleError):
        return f"{failure}; correct the data or set on_bad_sample to 'skip', then --resume latest"
    if "DataLoader worker" in str(failure):
        return (
            f"a loading process died ({' '.join(str(failure).split())}): its memory may have run "
            "out; use fewer "
            "num_workers or no keep_in_memory, then --resume latest"
        )
    return (
        f"{type(failure).__name__} while loading images: {failure}; mend the reader, then --resume "
        "latest"
    )


def _fetch(batches: Iterator[list[MicroBatch]]) -> tuple[list[MicroBatch], Exception | None]:
    """The next step's micro-batches, or why there are none: whatever a reader raised, the state is
    saved first.
    """
    try:
        return next(batches), None
    except Exception as error:
        return [], error
