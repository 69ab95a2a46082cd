"""A stand-in for a model: proposals made of the truth of a held-out set, disturbed enough that no
score is 0 or 1.
"""

from typing import Any

import numpy as np
import torch

from dataseg_hf.data.sample import Instances
from dataseg_hf.evaluation import EvaluationSet
from dataseg_hf.model.configuration_dataseg import DaTaSegConfig
from dataseg_hf.model.modeling_dataseg import DaTaSegOutput

QUERIES = 16


class NoisyTruth(torch.nn.Module):
    """Recognizes the images of a set by their pixels, however they are batched, and proposes a
    query per true segment.

    Scores tie often. Images must fill the canvas.

    Args:
        noise: 0 gives the truth; more of it shifts masks and takes other classes.
    """

    def __init__(self, chosen: EvaluationSet, mean: float, std: float, noise: float = 0.0) -> None:
        super().__init__()
        self.noise, self.device, self.config = noise, torch.device("cpu"), DaTaSegConfig()
        self.classes = len(chosen.data.spec.classes)
        self.truth_of = {}
        for index in range(len(chosen.data)):
            sample = chosen.data[index]
            pixels = (torch.from_numpy(sample.image).permute(2, 0, 1) / 255 - mean) / std
            self.truth_of[self.key(pixels)] = (index, sample.annotation)

    @staticmethod
    def key(pixels: torch.Tensor) -> tuple[float, ...]:
        return tuple(pixels.mean((1, 2)).double().mul(1e4).round().tolist())

    def forward(
        self, pixel_values: torch.Tensor, is_thing: torch.Tensor, **_: Any
    ) -> DaTaSegOutput:
        logits, masks = zip(
            *(self.proposals(*self.truth_of[self.key(pixels)]) for pixels in pixel_values),
            strict=True,
        )
        return DaTaSegOutput(
            class_queries_logits=torch.stack(logits),
            masks_queries_logits=torch.stack(masks),
            valid_size=torch.ones(len(pixel_values), 2),
            is_thing=is_thing.expand(len(pixel_values), -1),
        )

    def proposals(self, index: int, truth: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(index)
        if isinstance(truth, Instances):
            assert truth.masks is not None
            own = truth.masks
        else:
            own = truth.segment_map == np.arange(len(truth.class_labels))[:, None, None]
        logits = torch.zeros(QUERIES, self.classes + 1)
        logits[..., -1] = 20.0
        masks = torch.full((QUERIES, *own.shape[1:]), -20.0)
        for query, (label, mask) in enumerate(zip(truth.class_labels.tolist(), own, strict=True)):
            if rng.random() < self.noise:
                mask = np.roll(mask, int(rng.integers(1, 6)), axis=int(rng.integers(2)))
            if rng.random() < self.noise / 3:
                label = int(rng.integers(self.classes))
            logits[query, label] = 20.0 + (int(rng.integers(1, 4)) if self.noise else 20)
            masks[query][torch.from_numpy(mask.copy())] = 20.0
        return logits, masks
