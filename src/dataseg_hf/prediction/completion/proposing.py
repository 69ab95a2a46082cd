"""A model's proposals for the images of a dataset, in the dataset's own words and in those of the
whole mix.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
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
        spec: of the dataset.
        classes: what `forward` is told of the categories.
        image_size: pixels of an image's longer side, and of the canvas.
        batch_size: images at once.
        mix: the second layer of the dataset, if there is one.
        classes_of_mix: what `forward` would be told of its categories.
    """

    model: DaTaSegModel
    normalization: Normalization
    spec: DatasetSpec
    classes: dict[str, Any]
    image_size: int
    batch_size: int
    mix: DatasetSpec | None = None
    classes_of_mix: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: DaTaSegModel,
        processor: DaTaSegImageProcessor,
        name: str,
        spec: DatasetSpec,
        image_size: int,
        batch_size: int,
        mix: DatasetSpec | None = None,
    ) -> "Proposer":
        """With the vocabulary that the model stores for the dataset of that name, where it has the
        dataset's names, else with embeddings of these.

        Raises:
            ConfigError: for names that the model cannot embed.
        """
        normalization = Normalization(processor.image_mean, processor.image_std)
        classes = _classes(model, name, spec)
        of_mix = {} if mix is None else _classes_of_mix(model, mix)
        return cls(model, normalization, spec, classes, image_size, batch_size, mix, of_mix)

    def batches(self, samples: Iterator[Sample]) -> Iterator[Proposed]:
        """The samples in batches, each with the proposals for it."""
        while batch := list(islice(samples, self.batch_size)):
            yield list(zip(batch, self.of_batch(batch), strict=True))

    @torch.no_grad()
    def of_batch(self, samples: Sequence[Sample]) -> list[ImageProposals]:
        """The proposals for each of the samples, which go through the model together."""
        return ImageProposals.of_batch(self.model(**self._inputs(samples), **self.classes))

    @torch.no_grad()
    def in_all_words(
        self, samples: Sequence[Sample]
    ) -> list[tuple[ImageProposals, ImageProposals | None]]:
        """As `of_batch`; and the same in the words of the mix, if there is a second layer."""
        inputs = self._inputs(samples)
        output = self.model(**inputs, **self.classes)
        own = ImageProposals.of_batch(output)
        if self.mix is None:
            return [(one, None) for one in own]
        if self.model.cell_classifier is not None:  # whose proposals differ with the words
            other = ImageProposals.of_batch(self.model(**inputs, **self.classes_of_mix))
            return list(zip(own, other, strict=True))
        logits = self.model.classifier(
            output.class_embeddings, self.classes_of_mix["text_embeddings"]
        )
        things = self.classes_of_mix["is_thing"]
        return [
            (one, replace(one, class_logits=in_mix, is_thing=things))
            for one, in_mix in zip(own, logits, strict=True)
        ]

    def _inputs(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """What `forward` is told of the images."""
        pixel_values, pixel_mask = pad_images(
            [resize_only(sample, self.image_size).image for sample in samples],
            [sample.image_id for sample in samples],
            self.image_size,
            self.normalization,
        )
        device = self.model.device
        return {"pixel_values": pixel_values.to(device), "pixel_mask": pixel_mask.to(device)}


def _classes(model: DaTaSegModel, name: str, spec: DatasetSpec) -> dict[str, Any]:
    stored = (model.config.vocabularies or {}).get(name)
    if stored is not None and stored["labels"] == spec.labels:
        return {"vocabulary": name}
    return _embedded(model, spec, f"datasets.{name}")


def _classes_of_mix(model: DaTaSegModel, mix: DatasetSpec) -> dict[str, Any]:
    if model.config.knows_stored_vocabularies_only:
        raise ConfigError(
            "--second_layer: the model has parts of its own for each dataset, so that it cannot "
            "look for the names of the others; leave it out, or take a model that shares them"
        )
    return _embedded(model, mix, "--second_layer")


def _embedded(model: DaTaSegModel, spec: DatasetSpec, key: str) -> dict[str, Any]:
    try:
        embeddings = model.embed(spec.labels).to(model.device)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{key}: {error}") from error
    things = torch.tensor(spec.is_thing, device=model.device)
    return {"text_embeddings": embeddings, "is_thing": things}


__all__ = ["Proposed", "Proposer"]
