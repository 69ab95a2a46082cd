"""The linear part of a cell classifier, fitted before the first step to the features of a frozen
backbone.

Training meets the classes image by image; the fit meets cells of all images at once. So the model
starts with what its backbone knows already, within seconds (our setting, as are all numbers here).
"""

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.collate import Normalization, pad_images
from ..data.mixing import TrainingSet
from ..data.sample import Sample, SampleStream, Segments
from ..data.transforms import TransformedSample, augment
from ..errors import ConfigError
from ..evaluation.probe import usable_samples
from ..evaluation.probe_features import cell_counts
from ..metrics.semantic import semantic_map
from ..model.cell_classifier_dataseg import dropped
from ..model.modeling_dataseg import DaTaSegModel
from ..model.tasks_dataseg import get_task
from ..settings.datasets import OnBadSample
from ..settings.run import RunConfig

LOG = logging.getLogger(__name__)

MAX_CELLS = 2**17  # of all sets together: 0.3 GB for 544 features
MAX_IMAGES = 512  # of each set
VIEWS = 2  # augmented views of each image
CELLS_PER_STEP = 1024
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.05
BALANCE = 0.25
"""Power of a class's share of the cells by which its loss is divided: 0 counts cells alike, 1
counts classes alike."""


@dataclass
class LabeledCells:
    """P annotated cells of a set.

    Args:
        features: [P, F].
        shares: [P, C], of their annotated area, by class.
        text_embeddings: [C, D], of the classes.
    """

    features: Tensor
    shares: Tensor
    text_embeddings: Tensor

    @cached_property
    def class_weights(self) -> Tensor:
        """[C], more for rarer classes."""
        return self.shares.mean(0).clamp(min=1e-6) ** -BALANCE


def with_classes(datasets: Sequence[TrainingSet]) -> list[TrainingSet]:
    """The sets whose annotation has a class per pixel, from which a cell classifier learns."""
    return [dataset for dataset in datasets if get_task(dataset.task).has_segment_map]


def check_linear_start(
    model: DaTaSegModel, datasets: Sequence[TrainingSet], config: RunConfig
) -> None:
    """Check before a run that its cell classifier has something to learn from.

    Raises:
        ConfigError: for a new cell classifier in a mix without a class per pixel, and a linear
            start without a cell classifier.
    """
    if config.linear_start > 0 and model.cell_classifier is None:
        raise ConfigError(
            "linear_start: the model has no cell classifier; set `cell_classifier: true` in "
            "`model`, or leave it out"
        )
    is_new = config.model_weights is None or config.linear_start > 0
    if model.cell_classifier is not None and is_new and not with_classes(datasets):
        raise ConfigError(
            "model.cell_classifier: no dataset of the mix has a class per pixel, so it would stay "
            "random; add a panoptic or semantic set, or leave it out"
        )


def linear_start(
    model: DaTaSegModel,
    datasets: Sequence[TrainingSet],
    normalization: Normalization,
    steps: int,
    seed: int,
) -> None:
    """Fit the cell classifier's linear part and the classifier's scale to a mix.

    Cross-entropy over each set's own names in turn. The backbone and all else stay as they are.

    Args:
        model: with a cell classifier, and the sets' vocabularies under their names.
        datasets: as `check_linear_start` wants them; those without a class per pixel have no part
            in it.
        normalization: of the pixels.
        steps: of the fit.
        seed: of views, cells and dropout.

    Raises:
        ConfigError: if all pixels of all sets are void.
        BadSampleError: for an image that cannot be used, unless its set leaves such images out.
    """
    annotated = with_classes(datasets)
    rng = np.random.default_rng(seed)
    was_training = model.training
    model.eval()
    cells = [
        labeled_cells(model, dataset, normalization, MAX_CELLS // len(annotated), rng)
        for dataset in annotated
    ]
    model.train(was_training)
    cells = [of_set for of_set in cells if len(of_set.features)]
    if not cells:
        raise ConfigError("linear_start: no pixel of the mix has a class; set it to 0")
    loss = fit(model, cells, steps, rng)
    LOG.info(
        f"Linear start: fitted to {sum(len(of_set.features) for of_set in cells)} cells of "
        f"{', '.join(dataset.name for dataset in annotated)}; loss {loss:.2f}."
    )


@torch.no_grad()
def labeled_cells(
    model: DaTaSegModel,
    dataset: TrainingSet,
    normalization: Normalization,
    limit: int,
    rng: np.random.Generator,
) -> LabeledCells:
    """At most `limit` annotated cells of augmented views of a set's images, about as many of
    each.
    """
    assert model.cell_classifier is not None
    classes, canvas = len(dataset.data.spec.labels), dataset.augmentation.image_size
    known = MAX_IMAGES if dataset.size is None else min(dataset.size, MAX_IMAGES)
    of_each = math.ceil(limit / max(1, VIEWS * known))
    width = model.cell_classifier.linear.in_features
    features, shares = [torch.zeros(0, width)], [torch.zeros(0, classes)]
    for view in _views(dataset, rng):
        assert isinstance(view.annotation, Segments)
        pixels, _ = pad_images([view.image], [view.image_id], canvas, normalization)
        maps = model.backbone(pixels.to(model.device)).feature_maps
        of_view = model.cell_classifier.cell_features(maps)[0].float().cpu()
        counts = cell_counts(
            semantic_map(view.annotation), classes, canvas, (of_view.shape[0], of_view.shape[1])
        )
        annotated = np.flatnonzero((counts.sum(1) > 0).numpy())
        most = min(len(annotated), of_each)
        chosen = torch.from_numpy(rng.choice(annotated, most, replace=False))
        features.append(of_view.flatten(0, 1)[chosen])
        shares.append(F.normalize(counts[chosen].float(), p=1, dim=1))
    return LabeledCells(
        torch.cat(features), torch.cat(shares), model.vocabularies.get(dataset.name).float().cpu()
    )


def _views(dataset: TrainingSet, rng: np.random.Generator) -> Iterator[TransformedSample]:
    for sample in _samples(dataset):
        for _ in range(VIEWS):
            yield augment(sample, dataset.augmentation, rng)


def _samples(dataset: TrainingSet) -> Iterator[Sample]:
    """At most MAX_IMAGES of a set, evenly over it, or the first of a stream."""
    data = dataset.data
    if not isinstance(data, SampleStream):
        data = data.select(range(0, len(data), math.ceil(len(data) / MAX_IMAGES)))
    policy: OnBadSample = "skip" if dataset.skip_bad_samples else "raise"
    return islice(usable_samples(data, policy), MAX_IMAGES)


def fit(
    model: DaTaSegModel, cells: Sequence[LabeledCells], steps: int, rng: np.random.Generator
) -> float:
    """Fit the linear part to the cells of each set in turn; returns the last loss."""
    assert model.cell_classifier is not None
    linear, scale = model.cell_classifier.linear, model.classifier.logit_scale
    deviation, mean = torch.std_mean(torch.cat([of_set.features for of_set in cells]), dim=0)
    model.cell_classifier.standardize(mean, deviation)
    fitted = copy.deepcopy(linear).cpu()
    log_scale = nn.Parameter(scale.detach().float().cpu().clone())
    optimizer = torch.optim.AdamW(
        [
            {"params": fitted.parameters(), "weight_decay": WEIGHT_DECAY},
            {"params": [log_scale], "weight_decay": 0.0},
        ]
    )
    loss = torch.zeros(())
    for step in range(steps):
        of_set = cells[step % len(cells)]
        chosen = torch.from_numpy(rng.integers(len(of_set.features), size=CELLS_PER_STEP))
        features = (of_set.features[chosen] - mean) / deviation.clamp(min=1e-6)
        seed = torch.from_numpy(rng.integers(2**31, size=1))
        features = dropped(features[None], model.cell_classifier.dropout, seed)[0]
        embeddings = F.normalize(fitted(features), dim=-1)
        logits = log_scale.exp() * embeddings @ F.normalize(of_set.text_embeddings, dim=-1).T
        weights = of_set.shares[chosen] * of_set.class_weights
        loss = -(weights * logits.log_softmax(-1)).sum() / weights.sum()
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        linear.weight.copy_(fitted.weight)
        linear.bias.copy_(fitted.bias)
        scale.copy_(log_scale)
    return float(loss.detach())
