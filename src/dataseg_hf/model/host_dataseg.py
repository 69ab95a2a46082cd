"""Between host and device, with as few waits as can be.

Reading a value of a device makes the host wait until all that was asked of the device before is
done. What is read is therefore read at once, and what is small is decided on the host: counts,
crowds and void of the labels among it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

PIXELS = ("segment_map", "masks")
"""Labels that are as large as images: they are never read on the host."""


def to_host(*tensors: Tensor) -> list[Tensor]:
    """The tensors [...] on the host, which waits once; each of the shape and type that it had.

    Args:
        tensors: of any types, on the host or on one device.
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
    """A tensor [...] on a device; the host does not wait for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def host_labels(
    labels: Sequence[Mapping[str, Tensor]] | None, seeds: Tensor | None
) -> tuple[list[dict[str, Tensor]] | None, Tensor | None]:
    """The labels with all but their pixels on the host, and the seeds there.

    Args:
        labels: per image a dict, see `DaTaSegModel.forward`; None where nothing is trained, and
            nothing moved.
        seeds: int64 [B] or None.
    """
    if labels is None:
        return None, seeds
    places = [
        (image, key) for image, label in enumerate(labels) for key in label if key not in PIXELS
    ]
    small = [labels[image][key] for image, key in places]
    *moved, seeds_there = to_host(*small, torch.zeros(0) if seeds is None else seeds)
    result = [dict(label) for label in labels]
    for (image, key), tensor in zip(places, moved, strict=True):
        result[image][key] = tensor
    return result, None if seeds is None else seeds_there


__all__ = ["PIXELS", "host_labels", "to_device", "to_host"]
