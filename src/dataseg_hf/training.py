"""The co-training loop: one dataset per step, every parameter shared. Accelerate does the engine work."""

import copy
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from tqdm.auto import tqdm

from .data.mixing import MicroBatch, MixingSampler, TrainingSet, mixing_loader, to_device
from .modeling_dataseg import DaTaSegModel
from .run_config import RunConfig
from .run_folder import RunFolder
from .tasks_dataseg import LOSS_TERMS, count_targets, loss_weights

Evaluate = Callable[[DaTaSegModel, int], dict[str, float]]


@dataclass
class Outcome:
    """What training came to.

    model: the weights to use, averaged ones where averaging is on. seconds: of training alone, over all parts of a
    resumed run.
    """

    model: DaTaSegModel
    steps: int
    seconds: float


class DivergedError(RuntimeError):
    """The loss became infinite or not a number."""


def train(
    config: RunConfig,
    model: DaTaSegModel,
    members: Sequence[TrainingSet],
    folder: RunFolder,
    accelerator: Accelerator,
    evaluate: Evaluate,
    checkpoint: Path | None = None,
) -> Outcome:
    """Train `model` on the mix.

    Args:
        evaluate: Called with the model and the step at every evaluation interval, on all processes.
        checkpoint: Folder of a complete checkpoint to continue from.

    Raises:
        DivergedError: naming step, dataset and images, when a loss is not finite.
    """
    model.to(memory_format=torch.channels_last)  # faster convolutions, on CPUs and GPUs alike
    optimizer = AdamW(parameter_groups(model, config), lr=config.learning_rate, betas=config.adam_betas, fused=True)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    averaged = AveragedWeights(model, config.ema_decay) if config.ema_decay > 0 else None
    step, seconds = 0, 0.0
    if checkpoint is not None:
        step, seconds = load_training_state(checkpoint, accelerator, averaged)
    if accelerator.is_main_process:
        folder.start_history(step)

    sampler = MixingSampler(
        members,
        config.seed,
        first_step=step,
        last_step=config.max_steps,
        micro_batches=config.gradient_accumulation_steps,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    loader = mixing_loader(sampler, config.image_mean, config.image_std, config.num_workers)
    log = StepLog(config, members, folder, accelerator, step)
    wrapped.train()
    started = time.perf_counter() - seconds
    for micro_batches in _grouped(loader, config.gradient_accumulation_steps):
        rate = learning_rate(config, step)
        set_learning_rate(optimizer, rate)
        terms = accumulate_gradients(config, wrapped, members, micro_batches, step, accelerator)
        norm = accelerator.clip_grad_norm_(wrapped.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        if averaged is not None:
            averaged.update(model, step)
        step += 1
        seconds = time.perf_counter() - started

        stop = out_of_time(config, seconds, accelerator)
        for batch in micro_batches:
            log.report_skipped(batch.skipped)
        log.record(step, members[micro_batches[0].member], terms, rate, float(norm), seconds)
        if config.checkpoint_every and step % config.checkpoint_every == 0 and step < config.max_steps:
            log.flush()
            save_training_state(folder, accelerator, averaged, step, seconds, config.keep_checkpoints)
        if config.evaluate_every and step % config.evaluate_every == 0 and step < config.max_steps and not stop:
            log.flush()
            evaluate(averaged.model if averaged is not None else model, step)
        # pictures, metrics and checkpoints are not training
        started = time.perf_counter() - seconds
        if stop:
            accelerator.print(
                f"Stopped after {step} of {config.max_steps} steps: max_minutes {config.max_minutes} reached."
            )
            break
    log.close()
    if step > 0 and config.checkpoint_every:
        save_training_state(folder, accelerator, averaged, step, seconds, config.keep_checkpoints)
    return Outcome(averaged.model if averaged is not None else model, step, seconds)


def accumulate_gradients(
    config: RunConfig,
    wrapped: nn.Module,
    members: Sequence[TrainingSet],
    micro_batches: Sequence[MicroBatch],
    step: int,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Forward and backward of one optimiser step; returns its loss terms, summed over micro-batches and processes.

    The losses are normalised by the targets of the whole step, so that the gradient is the same for any number of
    processes and micro-batches.
    """
    member = members[micro_batches[0].member]
    counted = torch.tensor(float(sum(count_targets(batch.inputs["labels"]) for batch in micro_batches)))
    num_targets = accelerator.reduce(counted.to(accelerator.device), "sum")
    num_images = torch.tensor(float(member.batch_size), device=accelerator.device)
    weights = step_loss_weights(config, accelerator.unwrap_model(wrapped), member, step)
    totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=accelerator.device))
    for number, batch in enumerate(micro_batches, start=1):
        last = number == len(micro_batches)
        with nullcontext() if last else accelerator.no_sync(wrapped):
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
                finite = bool(torch.isfinite(output.loss))
            except FloatingPointError as error:
                raise DivergedError(_divergence(step, member, batch, str(error))) from error
            if not finite:
                raise DivergedError(_divergence(step, member, batch, f"the loss is {float(output.loss)}"))
            # DistributedDataParallel averages over processes; the loss is already a share of the whole
            accelerator.backward(output.loss * accelerator.num_processes)
        for name, value in output.loss_dict.items():
            totals[name] = totals[name] + value.detach()
        totals["unmatched_targets"] = totals["unmatched_targets"] + output.unmatched_targets
        totals["skipped_images"] = totals["skipped_images"] + len(batch.skipped)
    names = sorted(totals)
    summed = accelerator.reduce(torch.stack([totals[name].float() for name in names]), "sum")
    return dict(zip(names, summed.tolist(), strict=True))


def _divergence(step: int, member: TrainingSet, batch: MicroBatch, what: str) -> str:
    return (
        f"step {step + 1}, dataset '{member.name}', images {batch.image_ids}: {what}; "
        "lower learning_rate or max_grad_norm, or look at these images"
    )


def step_loss_weights(config: RunConfig, model: DaTaSegModel, member: TrainingSet, step: int) -> dict[str, float]:
    """Loss weights of a step: the dataset's, with the colour affinity ramped up (our setting: masks must first find
    their objects before neighbouring pixels are made to agree)."""
    weights = loss_weights(model.config, member.loss_weights)
    ramp = config.color_affinity_ramp * config.max_steps
    weights["color_affinity"] *= min(1.0, step / ramp) if ramp > 0 else 1.0
    return weights


# --- optimisation ----------------------------------------------------------------------------------------------------


def parameter_groups(model: DaTaSegModel, config: RunConfig) -> list[dict[str, Any]]:
    """Trainable parameters by learning-rate factor and weight decay."""
    undecayed = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    undecayed |= {id(p) for p in model.classifier.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = config.backbone_lr_factor if name.startswith("backbone.") else 1.0
        # vectors are norms and biases
        decay = 0.0 if parameter.dim() < 2 or id(parameter) in undecayed else config.weight_decay
        groups[factor, decay].append(parameter)
    return [
        {"params": parameters, "lr_factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def learning_rate(config: RunConfig, step: int) -> float:
    """Rate of the step-th step, counted from 0: linear warm-up, then the schedule."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    progress = step / config.max_steps
    decay = {"cosine": 0.5 * (1 + math.cos(math.pi * progress)), "poly": (1 - progress) ** 0.9, "constant": 1.0}
    return config.learning_rate * warmup * decay[config.schedule]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the rate of every group; a function of the step alone, so there is no scheduler state to save."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]


class AveragedWeights:
    """Exponential moving average of the parameters; decay at most (1 + t) / (10 + t) at the start (our setting)."""

    def __init__(self, model: DaTaSegModel, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: DaTaSegModel, step: int) -> None:
        """Move the average towards the model's parameters."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), [p.detach() for p in model.parameters()], weight)


# --- checkpoints -----------------------------------------------------------------------------------------------------


def save_training_state(
    folder: RunFolder,
    accelerator: Accelerator,
    averaged: AveragedWeights | None,
    step: int,
    seconds: float,
    keep: int,
) -> None:
    """Write the training state aside and rename it into place, on all processes together."""
    unfinished = folder.checkpoint(step).with_name(f"unfinished-{step:08d}")
    if accelerator.is_main_process:
        folder.begin_checkpoint(step)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(unfinished / "state"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if averaged is not None:
            tensors = {name: tensor.contiguous() for name, tensor in averaged.model.state_dict().items()}
            save_file(tensors, unfinished / "averaged.safetensors")
        folder.finish_checkpoint(unfinished, {"step": step, "train_seconds": seconds}, keep)
    accelerator.wait_for_everyone()


def load_training_state(path: Path, accelerator: Accelerator, averaged: AveragedWeights | None) -> tuple[int, float]:
    """Restore the training state; returns the steps done and the seconds they took."""
    accelerator.load_state(str(path / "state"))
    if averaged is not None:
        averaged.model.load_state_dict(load_file(path / "averaged.safetensors"))
    progress = json.loads((path / "progress.json").read_text())
    return progress["step"], progress["train_seconds"]


# --- the rest --------------------------------------------------------------------------------------------------------


class StepLog:
    """Progress bar, a line per interval, and one history row per step; silent but on the main process."""

    def __init__(
        self,
        config: RunConfig,
        members: Sequence[TrainingSet],
        folder: RunFolder,
        accelerator: Accelerator,
        first_step: int,
    ) -> None:
        self.config, self.folder = config, folder
        self.main = accelerator.is_main_process
        self.bar = tqdm(total=config.max_steps, initial=first_step, disable=not self.main, unit="step", mininterval=1.0)
        self.rows: list[dict[str, Any]] = []
        self.reported: set[str] = set()
        self.losses: dict[str, list[float]] = {member.name: [] for member in members}
        self.images, self.since = 0, time.perf_counter()

    def record(
        self, step: int, member: TrainingSet, terms: dict[str, float], rate: float, norm: float, seconds: float
    ) -> None:
        """Take in one step."""
        loss = sum(value for name, value in terms.items() if name.removeprefix("loss_") in LOSS_TERMS)
        row = {"step": step, "dataset": member.name, "loss": f"{loss:.5f}", "learning_rate": f"{rate:.3e}",
               "gradient_norm": f"{norm:.4f}", "seconds": f"{seconds:.2f}"}  # fmt: skip
        self.rows.append({**row, **{name: f"{value:.5g}" for name, value in terms.items()}})
        self.losses[member.name].append(loss)
        self.images += member.batch_size
        self.bar.update()
        if step % self.config.log_every == 0:
            self.write_line(step, rate, norm)
            self.flush()

    def report_skipped(self, messages: Sequence[str]) -> None:
        """Say which images of this process could not be used, each once."""
        for message in messages:
            if message not in self.reported:
                self.reported.add(message)
                self.bar.write(f"skipped: {message}")

    def write_line(self, step: int, rate: float, norm: float) -> None:
        """Mean loss per dataset since the last line."""
        now = time.perf_counter()
        means = [f"{name} {sum(values) / len(values):.2f}" for name, values in self.losses.items() if values]
        unmatched = int(sum(float(row["unmatched_targets"]) for row in self.rows))
        note = f", {unmatched} targets beyond the number of queries" if unmatched else ""
        if self.main:
            speed = self.images / (now - self.since)
            self.bar.write(
                f"step {step}: loss {', '.join(means)}; rate {rate:.2e}, gradient norm {norm:.1f}, "
                f"{speed:.0f} images/s{note}"
            )
        self.images, self.since = 0, now
        for values in self.losses.values():
            values.clear()

    def flush(self) -> None:
        """Write the rows held so far."""
        if self.main:
            self.folder.append_history(self.rows)
        self.rows = []

    def close(self) -> None:
        """Write what is left."""
        self.flush()
        self.bar.close()


def out_of_time(config: RunConfig, seconds: float, accelerator: Accelerator) -> bool:
    """Whether the time limit is reached, decided alike on all processes."""
    if config.max_minutes is None:
        return False
    elapsed = accelerator.reduce(torch.tensor(seconds, device=accelerator.device), "mean")
    return float(elapsed) >= 60 * config.max_minutes


def _grouped(loader: Iterator[MicroBatch], size: int) -> Iterator[list[MicroBatch]]:
    """The micro-batches of each optimiser step together."""
    group: list[MicroBatch] = []
    for batch in loader:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
