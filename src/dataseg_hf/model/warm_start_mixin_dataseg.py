"""Models that start from the weights of another one."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers.utils import logging

from .classifier_dataseg import TextClassifier
from .configuration_dataseg import DaTaSegConfig, check_vocabulary
from .configuration_efficientnet_lite_dataseg import IMAGE_MEAN, IMAGE_STD
from .efficientnet_lite_weights_dataseg import lite_size
from .feature_pyramid_dataseg import PLAIN_TRANSFORMERS, FeaturePyramid
from .image_processing_dataseg import DaTaSegImageProcessor
from .query_decoder_dataseg import QueryDecoder
from .text_embeddings_dataseg import build_text_encoder
from .vocabularies_dataseg import VocabularyMixin
from .warm_start_dataseg import (
    WarmStart,
    align_classifier,
    backbone_settings,
    mask2former_settings,
    mask2former_weights,
    mean_length,
    read_mask2former,
    take_backbone,
    take_weights,
)
from .words_dataseg import checked_flags, did_you_mean

logger = logging.get_logger(__name__)
Model = TypeVar("Model", bound="WarmStartMixin")


class WarmStartMixin(VocabularyMixin):
    """Starts from a Mask2Former, or from a backbone alone."""

    backbone: nn.Module
    classifier: TextClassifier
    image_processor: DaTaSegImageProcessor | None = None
    """What the images of a model started from a Mask2Former or an EfficientNet-Lite need; saved
    with the model."""

    @classmethod
    def from_mask2former(
        cls: type[Model],
        name_or_path: str | Path,
        text_encoder: Mapping[str, Any] | None = None,
        text_embeddings: Tensor | None = None,
        is_thing: Sequence[bool] | None = None,
        vocabulary: str = "checkpoint",
        take_classifier: bool = True,
        revision: str | None = None,
        output_loading_info: bool = False,
        **options: Any,
    ) -> "Model | tuple[Model, WarmStart]":
        """Start from a transformers Mask2Former checkpoint (`docs/warm_start.md`).

        Backbone, pixel decoder, queries, transformer decoder and mask head are taken: its masks are
        the checkpoint's, on images without padding. With a text encoder or text embeddings the
        class head, the background and the scale are computed from the checkpoint's classifier, and
        its labels become the model's vocabulary. The model's `image_processor` is that of the
        checkpoint.

        Args:
            name_or_path: Hub id or folder, with safetensors weights.
            text_encoder: As `config.text_encoder`; embeds the checkpoint's labels, and names to
                come.
            text_embeddings: Instead, [C, D], one row per label of the checkpoint, in the order of
                its ids.
            is_thing: Thing flags of the labels, which a Mask2Former checkpoint does not hold; all
                things by default.
            vocabulary: Name under which the labels are stored.
            take_classifier: Without, the text encoder is only remembered, and all that classifies
                is new.
            revision: Branch, tag or commit on the Hub.
            output_loading_info: Also return the `WarmStart` report.
            options: Of `DaTaSegConfig`, over those of the checkpoint. What then fits no longer is
                initialized anew.

        Raises:
            OSError: for a checkpoint that cannot be fetched.
            ValueError: for one that is no Mask2Former, or of a form that no released checkpoint
                has; for an unknown option, and another number of thing flags than of labels.
        """
        if options.get("dataset_classifiers") or options.get("dataset_decoders"):
            raise ValueError(
                "a Mask2Former checkpoint has one decoder and one classifier: leave `dataset_*` out"
            )
        if options.get("cell_classifier") and take_classifier:
            raise ValueError(
                "a Mask2Former checkpoint knows no classes of cells, so its classifier cannot be "
                "taken beside a new `cell_classifier`: leave one out (`take_classifier=False`)"
            )
        _check_options({"text_encoder": text_encoder, **options})
        source = read_mask2former(name_or_path, revision)
        labels = [source.config.id2label[index] for index in range(source.config.num_labels)]
        settings = mask2former_settings(source.config)
        if is_thing is not None:
            check_vocabulary(vocabulary, labels, checked_flags(is_thing, len(labels)))
        if take_classifier and text_embeddings is None and text_encoder is not None:
            text_embeddings = build_text_encoder(text_encoder)(labels)
        if not take_classifier:
            text_embeddings = None
        if text_embeddings is not None:
            settings |= {"text_embedding_dim": text_embeddings.shape[-1], "class_head_layers": 1}
        model = cls(DaTaSegConfig(**{**settings, "text_encoder": text_encoder, **options})).eval()
        model.image_processor = DaTaSegImageProcessor.from_mask2former(name_or_path, revision)
        report = take_weights(model, mask2former_weights(source.state_dict()))
        if text_embeddings is not None:
            model.add_vocabulary(vocabulary, labels, is_thing, text_embeddings)
            report.explained = model._take_classifier(source.class_predictor, text_embeddings)
        logger.warning(f"warm start from '{name_or_path}': {report.summary()}")
        return (model, report) if output_loading_info else model

    @classmethod
    def from_backbone(
        cls: type[Model],
        name_or_path: str | Path,
        revision: str | None = None,
        output_loading_info: bool = False,
        **options: Any,
    ) -> "Model | tuple[Model, WarmStart]":
        """Start from a pretrained backbone alone: any checkpoint of an architecture that
        `backbone_config` takes.

        Args:
            name_or_path: Hub id or folder, with safetensors weights, with or without heads. Also
                `"efficientnet-lite0"` to `"efficientnet-lite2"`, whose package must be installed,
                or its file of weights; `image_processor` then has their mean and deviation.
            revision: Branch, tag or commit on the Hub.
            output_loading_info: Also return the `WarmStart` report, of the backbone.
            options: Of `DaTaSegConfig`. Without `backbone_config` every stage of the checkpoint
                gives a feature map.

        Raises:
            ImportError: if the package of an EfficientNet-Lite's weights is not installed.
            OSError: for a checkpoint that cannot be fetched.
            ValueError: for one that is no backbone, or not the one of `backbone_config`.
        """
        _check_options(options)
        settings = {
            "backbone_config": backbone_settings(name_or_path, revision, PLAIN_TRANSFORMERS),
            **options,
        }
        model = cls(DaTaSegConfig(**settings)).eval()
        report = take_backbone(model.pretrainable_backbone(), name_or_path, revision)
        if lite_size(name_or_path) is not None:
            model.image_processor = DaTaSegImageProcessor(
                image_mean=list(IMAGE_MEAN), image_std=list(IMAGE_STD)
            )
        logger.warning(f"backbone from '{name_or_path}': {report.summary()}")
        return (model, report) if output_loading_info else model

    def pretrainable_backbone(self) -> nn.Module:
        """The part of the backbone that checkpoints of its architecture hold: all but a feature
        pyramid.
        """
        return (
            self.backbone.transformer
            if isinstance(self.backbone, FeaturePyramid)
            else self.backbone
        )

    @torch.no_grad()
    def _take_classifier(self, classifier: nn.Linear, text_embeddings: Tensor) -> float:
        """Make the class head equal a linear classifier over the same classes; how much of it could
        be expressed.
        """
        if self.config.class_head_layers > 1:
            raise ValueError(
                "a classifier can be taken by a class head of one layer only: leave "
                "`class_head_layers`"
            )
        decoder = cast(QueryDecoder, self.query_decoder)
        head = cast(nn.Linear, decoder.class_head[0])
        aligned = align_classifier(classifier.weight, classifier.bias, text_embeddings)
        head.weight.copy_(aligned.weight)
        head.bias.copy_(aligned.bias)
        self.classifier.background.copy_(aligned.background)
        decoder.silence_views()
        self.classifier.logit_scale.fill_(math.log(mean_length(self)))
        return aligned.explained


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse what `DaTaSegConfig` would take and nobody would read."""
    known = sorted(DaTaSegConfig.__annotations__)
    for name in sorted(set(options) - set(known)):
        raise ValueError(f"unknown option '{name}'; known are {known}{did_you_mean(name, known)}")
    encoder = options.get("text_encoder")
    if encoder is not None and not isinstance(encoder, Mapping):
        raise ValueError(f"`text_encoder` must be a mapping with a `kind`, got {encoder!r:.80}")


__all__ = ["WarmStartMixin"]
