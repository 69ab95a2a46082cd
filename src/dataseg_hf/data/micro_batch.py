"""What one process computes at once, and how it travels: from a loading process, to a device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

_SENT_BY_VALUE = 1 << 18  # bytes


@dataclass
class MicroBatch:
    """What one process computes at once.

    Args:
        inputs: tensors of the model's forward (`labels` a list of dicts).
        skipped: a message per image that could not be used and was replaced by another.
    """

    dataset: int
    inputs: dict
    seeds: list[int]
    image_ids: list[int | str]
    skipped: list[str] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        """On the way from a worker every tensor costs a shared file: small ones, which are many, go
        by value.
        """
        labels = [
            {
                name: value.numpy() if value.nbytes <= _SENT_BY_VALUE else value
                for name, value in label.items()
            }
            for label in self.inputs["labels"]
        ]
        return {**self.__dict__, "inputs": {**self.inputs, "labels": labels}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        labels = [
            {name: torch.as_tensor(value) for name, value in label.items()}
            for label in state["inputs"]["labels"]
        ]
        self.__dict__.update(state, inputs={**state["inputs"], "labels": labels})

    def pin_memory(self) -> "MicroBatch":
        """The same with its tensors in page-locked memory, from which a GPU copies while the
        process goes on. `DataLoader` calls it.
        """
        return replace(self, inputs=_each_tensor(self.inputs, Tensor.pin_memory))


def to_device(inputs: Mapping[str, Tensor | list[dict[str, Tensor]]], device: torch.device) -> dict:
    """The inputs of a micro-batch with their tensors on a device. Labels stay on the host, where
    the model reads them.

    Args:
        inputs: what `collate` returns: tensors [B, ...], and a list of B label dictionaries.
        device: where the tensors go.
    """
    # from pinned memory; from any other, a copy is finished when `to` returns
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in inputs.items()
    }


def _each_tensor(
    inputs: Mapping[str, Tensor | list[dict[str, Tensor]]], change: Callable[[Tensor], Tensor]
) -> dict:
    return {
        key: [{name: change(tensor) for name, tensor in label.items()} for label in value]
        if isinstance(value, list)
        else change(value)
        for key, value in inputs.items()
    }
