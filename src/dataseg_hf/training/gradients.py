"""Gradients of a step: forward and backward over micro-batches and processes."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..data.micro_batch import MicroBatch, to_device
from ..data.mixing import TrainingSet
from ..model.modeling_dataseg import DaTaSegModel
from ..model.supervision_dataseg import resolve_loss_weights
from ..model.targets_dataseg import count_targets
from ..settings.run import RunConfig
from .failures import DivergedError, agree, divergence
from .schedule import Schedule


@dataclass(frozen=True)
class BatchLosses:
    """The losses of a batch, which nobody has read from the device yet.

    Args:
        dataset: that the batch is of.
        micro_batches: of this process.
        own: [number of micro-batches], the loss of each on this process.
        names: of the T loss terms and counts.
        totals: [1 + T], the loss and what `names` name, summed over micro-batches and processes.
    """

    dataset: TrainingSet
    micro_batches: Sequence[MicroBatch]
    own: Tensor
    names: Sequence[str]
    totals: Tensor

    def terms(
        self, own: Sequence[float], totals: Sequence[float], step: int, accelerator: Accelerator
    ) -> dict[str, float]:
        """Loss terms and counts by name.

        Args:
            own, totals: the values of these tensors.

        Raises:
            DivergedError: on all processes, if the loss of one of them is not finite.
        """
        loss, *values = totals
        terms = dict(zip(self.names, values, strict=True))
        if math.isfinite(loss):
            return terms
        wrong = [number for number, one in enumerate(own) if not math.isfinite(one)]
        batches = [self.micro_batches[number] for number in wrong]
        problem = f"the loss is {own[wrong[0]]}" if wrong else None
        raise DivergedError(divergence(step, self.dataset, batches, problem, terms, accelerator))


def read_together(tensors: Sequence[Tensor]) -> list[list[float]]:
    """The values of tensors [...], each as a flat list; the host waits once for the device."""
    values = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors]).tolist()
    places = list(accumulate((tensor.numel() for tensor in tensors), initial=0))
    return [values[first:last] for first, last in pairwise(places)]


def accumulate_gradients(
    parallel_model: nn.Module,
    dataset: TrainingSet,
    micro_batches: Sequence[MicroBatch],
    step: int,
    weights: Mapping[str, float],
    accelerator: Accelerator,
    share: float = 1.0,
    last_of_step: bool = True,
) -> BatchLosses:
    """Forward and backward of a batch.

    The losses are normalized by the targets of the whole batch, so that the gradient is the same
    for any number of processes and micro-batches.

    Args:
        share: of this batch in the gradient of the step.
        last_of_step: whether the step ends with it, so that the processes exchange their gradients.

    Raises:
        DivergedError: on all processes, if masks cannot be matched on one of them.
    """
    device = accelerator.device
    targets = sum(count_targets(batch.inputs["labels"]) for batch in micro_batches)
    num_targets = accelerator.reduce(torch.full((), float(targets), device=device), "sum")
    own: list[Tensor] = []
    totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device))
    for number, batch in enumerate(micro_batches, start=1):
        last = last_of_step and number == len(micro_batches)
        with nullcontext() if last else accelerator.no_sync(parallel_model):
            loss, terms = checked_forward(
                parallel_model, dataset, batch, num_targets, step, weights, accelerator
            )
            # DistributedDataParallel averages over processes; the loss is already a share of the
            # whole.
            accelerator.backward(loss * (accelerator.num_processes * share))
        own.append(loss.detach().float())
        for name, value in terms.items():
            totals[name] = totals[name] + value.detach()
        totals["skipped_images"] = totals["skipped_images"] + len(batch.skipped)
    names = sorted(totals)
    added = torch.stack([torch.stack(own).sum(), *(totals[name].float() for name in names)])
    summed = accelerator.reduce(added, "sum")
    return BatchLosses(dataset, micro_batches, torch.stack(own), names, summed)


def checked_forward(
    parallel_model: nn.Module,
    dataset: TrainingSet,
    batch: MicroBatch,
    num_targets: Tensor,
    step: int,
    weights: Mapping[str, float],
    accelerator: Accelerator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a micro-batch, and its terms with the number of unmatched targets; all scalars.

    Args:
        num_targets: of the whole batch, over all processes; a scalar.

    Raises:
        DivergedError: on all processes, if masks cannot be matched on one of them.
    """
    problem, output = None, None
    try:
        output = parallel_model(
            **to_device(batch.inputs, accelerator.device),
            vocabulary=dataset.name,
            task=dataset.task,
            num_targets=num_targets,
            num_images=torch.full((), float(dataset.batch_size), device=accelerator.device),
            sampling_seeds=torch.tensor(batch.seeds),
            loss_weights=weights,
        )
    except FloatingPointError as error:
        problem = str(error)
    if any(agree([problem is not None], accelerator)) or output is None:
        raise DivergedError(divergence(step, dataset, [batch], problem, {}, accelerator))
    return output.loss, {**output.loss_dict, "unmatched_targets": output.unmatched_targets}


def step_loss_weights(
    config: RunConfig, schedule: Schedule, model: DaTaSegModel, dataset: TrainingSet, step: int
) -> dict[str, float]:
    """Loss weights of a step: the dataset's, with the color affinity ramped up (our setting: masks
    must first find their objects before neighboring pixels are made to agree).
    """
    weights = resolve_loss_weights(model.config, dataset.loss_weights)
    ramp = config.color_affinity_ramp * schedule.max_steps
    weights["color_affinity"] *= min(1.0, step / ramp) if ramp > 0 else 1.0
    return weights
