"""Gradients of a step: forward and backward over micro-batches and processes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..data.mixing import MicroBatch, TrainingSet, to_device
from ..model.modeling_dataseg import DaTaSegModel
from ..model.supervision_dataseg import resolve_loss_weights
from ..model.targets_dataseg import count_targets
from ..settings.run import RunConfig
from .failures import DivergedError, agree, divergence
from .schedule import Schedule


def accumulate_gradients(
    parallel_model: nn.Module,
    dataset: TrainingSet,
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
    device = accelerator.device
    targets = sum(count_targets(batch.inputs["labels"]) for batch in micro_batches)
    num_targets = accelerator.reduce(torch.tensor(float(targets)).to(device), "sum")
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
        for name, value in terms.items():
            totals[name] = totals[name] + value.detach()
        totals["skipped_images"] = totals["skipped_images"] + len(batch.skipped)
    names = sorted(totals)
    summed = accelerator.reduce(torch.stack([totals[name].float() for name in names]), "sum")
    return dict(zip(names, summed.tolist(), strict=True))


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
        DivergedError: on all processes, if the loss of one of them is not finite.
    """
    device = accelerator.device
    problem, terms = None, {}
    try:
        output = parallel_model(
            **to_device(batch.inputs, device),
            vocabulary=dataset.name,
            task=dataset.task,
            num_targets=num_targets,
            num_images=torch.tensor(float(dataset.batch_size), device=device),
            sampling_seeds=torch.tensor(batch.seeds, device=device),
            loss_weights=weights,
        )
        terms = output.loss_dict
        if not bool(torch.isfinite(output.loss)):
            problem = f"the loss is {float(output.loss)}"
    except FloatingPointError as error:
        problem = str(error)
    if any(agree([problem is not None], accelerator)):
        known = {name: float(value) for name, value in terms.items()}
        raise DivergedError(divergence(step, dataset, [batch], problem, known, accelerator))
    return output.loss, {**terms, "unmatched_targets": output.unmatched_targets}


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
