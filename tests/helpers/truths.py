"""Batches of labels as the losses see them, and the loss of a task on them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dataseg_hf.model.configuration_dataseg import DaTaSegConfig
from dataseg_hf.model.proposals_dataseg import LayerProposals
from dataseg_hf.model.supervision_dataseg import LossInputs, LossResult, resolve_loss_weights
from dataseg_hf.model.targets_dataseg import Truth, count_targets
from dataseg_hf.model.tasks_dataseg import get_task
from helpers.proposals import IS_THING


def make_truth(
    labels: Sequence[dict[str, Tensor]],
    size: tuple[int, int],
    valid: Sequence[tuple[int, int]] | None = None,
    **options: Any,
) -> Truth:
    """A batch of gray images of `size`; `valid` is each image's height and width in pixels."""
    valid = [size] * len(labels) if valid is None else valid
    valid_mask = torch.zeros(len(labels), *size, dtype=torch.bool)
    for mask, (height, width) in zip(valid_mask, valid, strict=True):
        mask[:height, :width] = True
    defaults: dict[str, Any] = {
        "image": torch.zeros(len(labels), 3, *size),
        "valid_mask": valid_mask,
        "valid_size": torch.tensor(valid) / torch.tensor(size),
        "is_thing": IS_THING,
        "num_targets": torch.tensor(float(max(count_targets(labels), 1))),
        "num_images": torch.tensor(float(len(labels))),
    }
    return Truth(labels=labels, **{**defaults, **options})


def task_loss(
    task: str, layers: Sequence[LayerProposals], truth: Truth, config: DaTaSegConfig
) -> LossResult:
    return get_task(task).loss(
        LossInputs(layers, truth, config, resolve_loss_weights(config, None))
    )


def total(result: LossResult) -> Tensor:
    return torch.stack(list(result.terms.values())).sum()
