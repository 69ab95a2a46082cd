"""A model's proposals for the images of a dataset, in the dataset's own words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import torch

from ...data.collate import Normalization, pad_images
from ...data.sample import DatasetSpec, Sample
from ...data.transforms import resize_only
from ...errors import ConfigError
from ...model.image_processing_dataseg import DaTaSegImageProcessor
from ...model.modeling_dataseg import DaTaSegModel
from ...model.proposals_dataseg import ImageProposals

Proposed: TypeAlias = Sequence[tuple[Sample, ImageProposals]]
"""Samples, each with the proposals for its image."""


@dataclass(frozen=True)
class Proposer:
    """A model that looks at the images of one dataset.

    Args:
        model: in evaluation mode.
        normalization: of the pixels.
        classes: what `forward` is told of the categories.
        image_size: pixels of an image's longer side, and of the canvas.
        batch_size: images at once.
    """

    model: DaTaSegModel
    normalization: Normalization
    classes: dict[str, Any]
    image_size: int
    batch_size: int

    @classmethod
    def of(
        cls,
        model: DaTaSegModel,
        processor: DaTaSegImageProcessor,
        name: str,
        spec: DatasetSpec,
        image_size: int,
        batch_size: int,
    ) -> "Proposer":
        """With the vocabulary that the model stores for the dataset of that name, where it has the
        dataset's names, else with embeddings of these.

        Raises:
            ConfigError: for names that the model cannot embed.
        """
        normalization = Normalization(processor.image_mean, processor.image_std)
        return cls(model, normalization, _classes(model, name, spec), image_size, batch_size)

    def batches(self, samples: Iterator[Sample]) -> Iterator[Proposed]:
        """The samples in batches, each with the proposals for it."""
        while batch := list(islice(samples, self.batch_size)):
            yield list(zip(batch, self.of_batch(batch), strict=True))

    @torch.no_grad()
    def of_batch(self, samples: Sequence[Sample]) -> list[ImageProposals]:
        """The proposals for each of the samples, which go through the model together."""
        pixel_values, pixel_mask = pad_images(
            [resize_only(sample, self.image_size).image for sample in samples],
            [sample.image_id for sample in samples],
            self.image_size,
            self.normalization,
        )
        device = self.model.device
        output = self.model(
            pixel_values=pixel_values.to(device), pixel_mask=pixel_mask.to(device), **self.classes
        )
        return ImageProposals.of_batch(output)


def _classes(model: DaTaSegModel, name: str, spec: DatasetSpec) -> dict[str, Any]:
    stored = (model.config.vocabularies or {}).get(name)
    if stored is not None and stored["labels"] == spec.labels:
        return {"vocabulary": name}
    try:
        embeddings = model.embed(spec.labels).to(model.device)
    except (ValueError, OSError) as error:
        raise ConfigError(f"datasets.{name}: {error}") from error
    things = torch.tensor(spec.is_thing, device=model.device)
    return {"text_embeddings": embeddings, "is_thing": things}


__all__ = ["Proposed", "Proposer"]
