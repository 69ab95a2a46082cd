"""Images as a teacher's own image processor makes them, in batches that need no padding."""

import inspect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..segments import Size


@dataclass(frozen=True)
class ImageInputs:
    """One image as a model takes it.

    Args:
        tensors: by argument of the model, each of a batch of one.
        valid_size: float32 [2], height and width of the image as fractions of the padded input.
        size: height and width of the image in pixels.
    """

    tensors: dict[str, Tensor]
    valid_size: Tensor
    size: Size

    @property
    def canvas(self) -> Size:
        """Height and width of the padded input in pixels."""
        height, width = self.tensors["pixel_values"].shape[-2:]
        return height, width


class InputMaker:
    """Calls an image processor image by image, without what would keep labels from the border.

    Args:
        processor: of the checkpoint.
        model: whose arguments decide what is kept of the processor's results.
        task: asked of a model that is told its task (OneFormer); None for others.
    """

    def __init__(self, processor: Any, model: torch.nn.Module, task: str | None = None) -> None:
        self.processor, self.task = processor, task
        self.taken = set(inspect.signature(model.forward).parameters)
        self.options: dict[str, Any] = {}
        if getattr(processor, "do_center_crop", None):
            self.options["do_center_crop"] = False  # the rest of the image would have no labels
        # EoMT pads without a mask, and cuts large images into windows for semantic results
        self.pads_unseen = hasattr(processor, "do_split_image")
        if self.pads_unseen:
            self.options |= {"do_split_image": False, "do_pad": True}
        if task is not None:
            self.options["task_inputs"] = [task]

    def __call__(self, image: Image.Image) -> ImageInputs:
        """The inputs of an RGB image, as it lies."""
        made = self.processor(images=[image], return_tensors="pt", **self.options)
        tensors = {
            name: value
            for name, value in made.items()
            if name in self.taken and isinstance(value, Tensor)
        }
        size = image.height, image.width
        return ImageInputs(tensors, self._valid_size(made, size), size)

    def _valid_size(self, made: Any, size: Size) -> Tensor:
        mask = made.get("pixel_mask")
        if mask is not None:
            inside = mask[0].bool()
            return torch.stack([inside.any(1).float().mean(), inside.any(0).float().mean()])
        if self.pads_unseen:
            return torch.tensor(size) / max(size)
        return torch.ones(2)


def batches_of_one_shape(inputs: Sequence[ImageInputs]) -> list[list[int]]:
    """Places of inputs that can be put together as they are.

    Padding to the largest of a batch would make labels depend on the other images.
    """
    places: dict[Any, list[int]] = defaultdict(list)
    for place, one in enumerate(inputs):
        places[tuple((name, value.shape) for name, value in one.tensors.items())].append(place)
    return list(places.values())


def joined(inputs: Sequence[ImageInputs], device: torch.device) -> dict[str, Tensor]:
    """The tensors [1, ...] of several images of one shape as [B, ...], on the device."""
    return {
        name: torch.cat([one.tensors[name] for one in inputs]).to(device)
        for name in inputs[0].tensors
    }
