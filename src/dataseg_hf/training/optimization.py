"""What the optimizer is told: parameter groups, the learning rate of a step, averaged weights."""

import copy
import math
from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..model.modeling_dataseg import DaTaSegModel
from ..settings.run import RunConfig
from .schedule import Schedule

FITTED_LR_FACTOR = 0.1
"""Of the cells' linear map that `linear_start` has fitted to a frozen backbone (our setting). At
the full rate it learns the few training images too well, at 0 objects suffer (docs/photos.md).
"""


def parameter_groups(model: DaTaSegModel, config: RunConfig) -> list[dict[str, Any]]:
    """Trainable parameters by learning-rate factor and weight decay.

    What has the factor 0 is frozen, so that no step computes gradients for it.
    """
    undecayed = {
        id(p)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for p in module.parameters()
    }
    undecayed |= {id(p) for p in model.classifier.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        factor = lr_factor(name, config)
        if factor == 0:
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        # vectors are norms and biases
        decay = 0.0 if parameter.dim() < 2 or id(parameter) in undecayed else config.weight_decay
        groups[factor, decay].append(parameter)
    return [
        {"params": parameters, "lr_factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def lr_factor(name: str, config: RunConfig) -> float:
    """Factor of the learning rate of the parameter of that name."""
    if name.startswith("backbone."):
        return config.backbone_lr_factor
    if config.backbone_lr_factor == 0:
        # learned from more images than the run has
        if config.backbone_classifier and name.startswith("cell_classifier."):
            return 0.0
        if config.linear_start and name.startswith("cell_classifier.linear."):
            return FITTED_LR_FACTOR
    return 1.0


def learning_rate(config: RunConfig, schedule: Schedule, step: int, seconds: float = 0.0) -> float:
    """Rate of the step-th step, counted from 0, after so many seconds of training: warm-up, then
    the schedule.
    """
    begun = step + 1 - schedule.first_step
    warmup = min(1.0, begun / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    remaining = max(0.0, 1 - schedule.progress(step, seconds))
    decay = {
        "cosine": 0.5 * (1 - math.cos(math.pi * remaining)),
        "poly": remaining**0.9,
        "linear": remaining,
        "constant": 1.0,
    }
    return config.learning_rate * warmup * decay[config.schedule]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the rate of every group; a function of step and clock, so there is no scheduler state to
    save.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]


class AveragedWeights:
    """Exponential moving average of the parameters; decay at most (1 + t) / (10 + t) at the start
    (our setting).
    """

    def __init__(self, model: DaTaSegModel, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: DaTaSegModel, step: int) -> None:
        """Move the average toward the model's parameters."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.model.parameters()), [p.detach() for p in model.parameters()], weight
        )
