"""A cell classifier that starts from the classifier of a semantic segmentation model."""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import MobileNetV2ForSemanticSegmentation

from .cell_classifier_dataseg import CellClassifier
from .warm_start_dataseg import checkpoint_config


class LinearClassifier(NamedTuple):
    """A linear classifier of the cells of a map.

    Args:
        labels: its C classes.
        weight: [C, d].
        bias: [C].
    """

    labels: list[str]
    weight: Tensor
    bias: Tensor


def segmentation_classifier(
    name_or_path: str | Path, revision: str | None = None
) -> LinearClassifier:
    """The last layer of a transformers `MobileNetV2ForSemanticSegmentation`.

    Raises:
        OSError: for a checkpoint that cannot be fetched.
        ValueError: for one of another architecture.
    """
    config = checkpoint_config(name_or_path, revision)
    if "MobileNetV2ForSemanticSegmentation" not in (config.architectures or ()):
        raise ValueError(
            f"'{name_or_path}' is no MobileNetV2ForSemanticSegmentation, the only model whose "
            "classifier can be taken over"
        )
    model = MobileNetV2ForSemanticSegmentation.from_pretrained(
        name_or_path, revision=revision, use_safetensors=True
    )
    last = model.segmentation_head.classifier.convolution
    labels = [config.id2label[index] for index in range(last.out_channels)]
    return LinearClassifier(labels, last.weight.detach().flatten(1), last.bias.detach())


@torch.no_grad()
def take_classifier(
    cells: CellClassifier, classifier: LinearClassifier, text_embeddings: Tensor
) -> None:
    """Let the cells' linear part classify the backbone's coarsest map as a linear classifier does.

    The map to the text space whose products with the text embeddings are the classifier's logits,
    but for what they have in common (least squares of least norm). Cosines keep their order, so the
    likeliest of the classifier's own names is the same; where embeddings of names depend on each
    other, nearly so (our setting).

    Args:
        cells: whose last features are those of the coarsest map.
        classifier: of d features.
        text_embeddings: [C, D] of its labels.

    Raises:
        ValueError: for a coarsest map of fewer features.
    """
    width = classifier.weight.shape[1]
    if cells.coarsest_width != width:
        raise ValueError(
            f"the classifier sees {width} features, the backbone's coarsest map has "
            f"{cells.coarsest_width}: set `segmentation_head: true` in `backbone_config`"
        )
    names = F.normalize(text_embeddings.double(), dim=-1)
    solve = torch.linalg.pinv(names - names.mean(0))
    weight, bias = classifier.weight.double(), classifier.bias.double()
    weight, bias = solve @ (weight - weight.mean(0)), solve @ (bias - bias.mean())
    # a direction of the text space is as good at any length; what is learned beside it starts small
    length = weight.norm()
    cells.linear.weight.zero_()
    cells.linear.weight[:, -width:] = (weight / length).float()
    cells.linear.bias.copy_((bias / length).float())


__all__ = ["LinearClassifier", "segmentation_classifier", "take_classifier"]
