"""Labels on the host: what is small is decided there, so that no step waits for the device.

Reading a value of a device makes the host wait until all that was asked of the device before is
done. Counts, crowds and void are therefore read from the labels on the host, and what the losses
need of them is copied to the device, for which nobody waits.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

PIXELS = ("segment_map", "masks")
"""Labels that are as large as images: they are never read on the host."""


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors on the host; those of devices come in one copy.

    Args:
        tensors: of any shapes and types, on the host or on one device.
    """
    distant = [one for one in tensors if one.device.type != "cpu"]
    if not distant:
        return list(tensors)
    raw = torch.cat([one.detach().reshape(-1).view(torch.uint8) for one in distant]).cpu()
    parts = iter(raw.split([one.numel() * one.element_size() for one in distant]))
    return [
        # a copy begins at an address that its type allows
        one if one.device.type == "cpu" else next(parts).clone().view(one.dtype).view(one.shape)
        for one in tensors
    ]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; the host does not wait for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def host_labels(
    labels: Sequence[Mapping[str, Tensor]], seeds: Tensor | None
) -> tuple[list[dict[str, Tensor]], Tensor | None]:
    """The labels with all but their pixels on the host, and the seeds there.

    Args:
        labels: per image a dict, see `DaTaSegModel.forward`.
        seeds: int64 [B] or None.
    """
    places = [
        (image, key) for image, label in enumerate(labels) for key in label if key not in PIXELS
    ]
    small = [labels[image][key] for image, key in places]
    *moved, seeds_there = to_host([*small, torch.zeros(0) if seeds is None else seeds])
    result = [dict(label) for label in labels]
    for (image, key), tensor in zip(places, moved, strict=True):
        result[image][key] = tensor
    return result, None if seeds is None else seeds_there


__all__ = ["PIXELS", "host_labels", "to_device", "to_host"]
