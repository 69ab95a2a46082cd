"""N pairs of class prediction and mask proposal: what the network gives, for every task.

Shapes: B images, N queries, C categories, d mask dimensions, h x w mask grid.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .connected_parts_dataseg import connected_parts
from .host_dataseg import to_device


def dot_product(mask_embeddings: Tensor, mask_features: Tensor) -> Tensor:
    """Mask logits: [B, N, d], [B, d, h, w] -> [B, N, h, w].

    A plain matrix product; einsum would copy the features.
    """
    return (mask_embeddings @ mask_features.flatten(2)).unflatten(2, mask_features.shape[-2:])


@dataclass
class LayerProposals:
    """Output of one decoder layer for a batch, in training.

    It holds no masks, so that the losses compute only those they compare.

    Args:
        class_logits: float32 [B, N, C + 1], the last column is the background.
        mask_embeddings: [B, N, d].
        mask_features: [B, d, h, w].
    """

    class_logits: Tensor
    mask_embeddings: Tensor
    mask_features: Tensor

    @property
    def mask_logits(self) -> Tensor:
        """All masks [B, N, h, w], computed anew at each call."""
        return dot_product(self.mask_embeddings, self.mask_features)


@dataclass
class ImageProposals:
    """Output of the last decoder layer for one image, at inference.

    Args:
        class_logits: [N, C + 1], the last column is the background.
        mask_logits: [N, h, w].
        valid_size: [2], height and width of the image as fractions of the padded canvas.
        is_thing: bool [C].
        semantic_weights: [N], of each proposal in a semantic result; None where all count alike.
    """

    class_logits: Tensor
    mask_logits: Tensor
    valid_size: Tensor
    is_thing: Tensor
    semantic_weights: Tensor | None = None

    @classmethod
    def of_batch(cls, outputs: Any) -> "list[ImageProposals]":
        """The proposals of each of the B images of a model's output (`DaTaSegOutput`)."""
        fields = (
            outputs.class_queries_logits,
            outputs.masks_queries_logits,
            outputs.valid_size,
            outputs.is_thing,
        )
        weights = getattr(outputs, "semantic_weights", None)
        if weights is None:
            weights = [None] * len(outputs.valid_size)
        images = [cls(*of_image) for of_image in zip(*fields, weights, strict=True)]
        # only a cell classifier gives weights; the second half are then its category proposals
        return [
            image if image.semantic_weights is None else image.objects_apart(len(image) // 2)
            for image in images
        ]

    def __len__(self) -> int:
        return len(self.class_logits)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the mask grid, in cells."""
        return self.mask_logits.shape[-2], self.mask_logits.shape[-1]

    def objects_apart(self, first: int) -> "ImageProposals":
        """The proposals, those from the `first` on that are of a thing once for each connected part
        of their mask, since a category has one proposal and an image many objects of it.
        """
        is_thing = torch.cat([self.is_thing, self.is_thing.new_zeros(1)])  # the background
        # two copies, however many masks there are
        apart = is_thing[self.likeliest_classes()[1][first:]].tolist()
        inside = (self.mask_logits[first:] > 0).cpu().numpy()
        origins = list(range(first))
        masks = list(self.mask_logits[:first])
        for place, mask in enumerate(self.mask_logits[first:]):
            parts = list(connected_parts(mask, inside[place])) if apart[place] else [mask]
            origins += [first + place] * len(parts)
            masks += parts
        weights = self.semantic_weights
        kept = to_device(torch.tensor(origins), self.mask_logits.device)
        return replace(
            self,
            class_logits=self.class_logits[kept],
            mask_logits=torch.stack(masks),
            semantic_weights=None if weights is None else weights[kept],
        )

    def mirrored(self) -> "ImageProposals":
        """The proposals for the mirror image of the whole canvas."""
        return replace(self, mask_logits=self.mask_logits.flip(-1))

    def likeliest_classes(self) -> tuple[Tensor, Tensor]:
        """Probability and index of each proposal's likeliest category: [N], int64 [N].

        The background, index C, is one of the candidates.
        """
        return self.class_logits.float().softmax(-1).max(-1)

    def class_probabilities(self) -> Tensor:
        """[N, C]; the background takes part in the softmax and is dropped after it."""
        return self.class_logits.float().softmax(-1)[:, :-1]

    def semantic_probabilities(self) -> Tensor:
        """The class probabilities as they count in a semantic result: [N, C]."""
        probabilities = self.class_probabilities()
        if self.semantic_weights is None:
            return probabilities
        return probabilities * self.semantic_weights[:, None]


__all__ = ["ImageProposals", "LayerProposals", "dot_product"]
