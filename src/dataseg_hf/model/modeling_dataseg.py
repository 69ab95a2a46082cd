"""DaTaSeg: one segmentation model for many datasets, tasks and vocabularies (Gu et al., NeurIPS
2023).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import IMAGE_PROCESSOR_NAME, ModelOutput, can_return_tuple, logging

from .backbones_dataseg import UNUSED_IN_BACKBONE, build_backbone
from .configuration_dataseg import DaTaSegConfig, check_vocabulary
from .deformable_pixel_decoder_dataseg import (
    DeformablePixelDecoder,
    SamplingOffsets,
    SamplingWeights,
)
from .feature_pyramid_dataseg import PLAIN_TRANSFORMERS, FeaturePyramid
from .image_processing_dataseg import DaTaSegImageProcessor
from .pixel_decoder_dataseg import PixelDecoder
from .query_decoder_dataseg import QueryDecoder
from .tasks_dataseg import (
    TASKS,
    LossResult,
    Proposals,
    Truth,
    count_targets,
    get_task,
    loss_weights,
)
from .text_embeddings_dataseg import build_text_encoder
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
from .words_dataseg import (
    checked_flags,
    checked_words,
    did_you_mean,
    listed,
    parse_vocabulary,
    places_of,
    stored_names,
    unknown_vocabulary,
)

logger = logging.get_logger(__name__)


@dataclass
class DaTaSegOutput(ModelOutput):
    """Proposals of a batch; names as in transformers' Mask2Former.

    Args:
        loss: Sum of `loss_dict`, when labels are given.
        loss_dict: Weighted loss terms, summed over the decoder layers.
        class_queries_logits: [B, N, C + 1], last = background.
        masks_queries_logits: [B, N, h, w] at the stride of the finest feature map.
        class_embeddings: [B, N, D], before the classifier.
        is_thing: bool [B, C], thing flags of the vocabulary.
        valid_size: [B, 2], height and width of each image as fractions of the padded canvas.
        unmatched_targets: Number of targets that found no query, when labels are given.
        auxiliary_class_queries_logits, auxiliary_masks_queries_logits:
            One tensor per earlier decoder layer, with `output_auxiliary_logits=True`.
    """

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    class_queries_logits: Tensor | None = None
    masks_queries_logits: Tensor | None = None
    class_embeddings: Tensor | None = None
    is_thing: Tensor | None = None
    valid_size: Tensor | None = None
    unmatched_targets: Tensor | None = None
    auxiliary_class_queries_logits: tuple[Tensor, ...] | None = None
    auxiliary_masks_queries_logits: tuple[Tensor, ...] | None = None


class TextClassifier(nn.Module):
    """Frozen text embeddings of the names, and one learnable background embedding shared by all
    datasets.
    """

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.background = nn.Parameter(torch.empty(config.text_embedding_dim))
        # no scalar, which sharded training (FSDP) does not take
        self.logit_scale = nn.Parameter(torch.empty(1))

    def forward(self, class_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """exp(scale) * cosine: [..., D], [C, D] -> float32 [..., C + 1], last = background."""
        with torch.autocast(class_embeddings.device.type, enabled=False):
            names = torch.cat([text_embeddings.float(), self.background.float()[None]])
            cosine = F.normalize(class_embeddings.float(), dim=-1) @ F.normalize(names, dim=-1).T
            return self.logit_scale.float().exp() * cosine


class VocabularyStore(nn.Module):
    """Embeddings of the stored vocabularies, saved with the weights: one buffer [C, D] each, or,
    with `dataset_classifiers`, one parameter.
    """

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.learned = config.dataset_classifiers
        self._seen: set[str] = set()
        for name, vocabulary in (config.vocabularies or {}).items():
            self.put(name, torch.empty(len(vocabulary["labels"]), config.text_embedding_dim))

    def put(self, name: str, embeddings: Tensor) -> None:
        """Store or replace the embeddings [C, D] of a vocabulary."""
        if self.learned:
            self.register_parameter(f"text_{name}", nn.Parameter(embeddings))
        else:
            self.register_buffer(f"text_{name}", embeddings)
        self._seen.discard(name)

    def get(self, name: str) -> Tensor:
        """Embeddings [C, D] of a stored vocabulary; ValueError where a config named it and nothing
        embedded it.
        """
        key = f"text_{name}"
        embeddings = self.get_parameter(key) if self.learned else self.get_buffer(key)
        # looked at once, because it waits for the device, and not in a compiled graph
        if name not in self._seen and not torch.compiler.is_compiling():
            if embeddings.isnan().any():
                raise ValueError(
                    f"vocabulary '{name}' has no text embeddings: a config alone does not hold "
                    "them; "
                    "load a checkpoint, or call `add_vocabulary`"
                )
            self._seen.add(name)
        return embeddings


class DatasetDecoders(nn.Module):
    """A query decoder for each stored vocabulary: the baseline of `dataset_decoders`."""

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.config = config
        for name in config.vocabularies or {}:
            self.add(name)

    def add(self, name: str) -> QueryDecoder:
        """A decoder for a vocabulary that had none; returns it, for its initialization."""
        decoder = QueryDecoder(self.config)
        self.add_module(f"of_{name}", decoder)
        return decoder

    def of(self, name: str) -> QueryDecoder:
        """The decoder of a stored vocabulary."""
        return cast(QueryDecoder, self.get_submodule(f"of_{name}"))


PIXEL_DECODERS: dict[str, type[PixelDecoder] | type[DeformablePixelDecoder]] = {
    "fpn": PixelDecoder,
    "deformable": DeformablePixelDecoder,
}


class DaTaSegPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialization."""

    config: DaTaSegConfig
    base_model_prefix = "dataseg"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = True
    # the decoders, whose parts share maps, for several devices; their layers as units of sharded
    # training
    _no_split_modules = [  # noqa: RUF012 - the base class's type
        "FeaturePyramid", "PixelDecoder", "DeformablePixelDecoder", "QueryDecoder",
        "EncoderLayer", "DeformableEncoderLayer", "DecoderLayer",
    ]  # fmt: skip
    _keep_in_fp32_modules_strict = ["logit_scale"]  # noqa: RUF012 - the base class's type

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, (SamplingOffsets, SamplingWeights)):
            module.start()
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_uniform_(module.weight, a=1)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            # queries that start alike would all get the same gradient but for their positions
            init.normal_(module.weight, std=1.0)
        elif isinstance(module, TextClassifier):
            init.normal_(module.background, std=self.config.init_std)
            init.constant_(module.logit_scale, math.log(self.config.initial_logit_scale))
        elif isinstance(module, VocabularyStore):
            # not-a-number until loaded or set: a vocabulary without embeddings must not pass for
            # one
            for embeddings in (*module.buffers(), *module.parameters()):
                init.constant_(embeddings, float("nan"))


class DaTaSegModel(DaTaSegPreTrainedModel):
    """Backbone, pixel decoder, query decoder and text classifier; one set of weights for all
    datasets and tasks.
    """

    image_processor: DaTaSegImageProcessor | None = None
    """Of a model that started from a Mask2Former: what its images shall go through, saved with the
    model.
    """

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__(config)
        self.backbone = build_backbone(config)
        channels = cast(Sequence[int], self.backbone.channels)
        self.pixel_decoder = PIXEL_DECODERS[config.pixel_decoder](config, channels)
        self.query_decoder = (
            DatasetDecoders(config) if config.dataset_decoders else QueryDecoder(config)
        )
        self.classifier = TextClassifier(config)
        self.vocabularies = VocabularyStore(config)
        self._freeze()
        self.post_init()
        # sharded training looks for every class that is named
        present = {type(module).__name__ for module in self.modules()}
        self._no_split_modules = sorted(present & set(self._no_split_modules or ()))

    def get_input_embeddings(self) -> None:
        """None: there are no tokens. Sharded training asks."""

    def get_output_embeddings(self) -> None:
        """None, as above."""

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """Save as transformers does, with the code, and with the processor of the Mask2Former that
        the model started from, or of the folder that it was loaded from.

        A processor that is in the folder already stays.
        """
        if (
            kwargs.get("is_main_process", True)
            and not (Path(save_directory) / IMAGE_PROCESSOR_NAME).is_file()
        ):
            processor = self.image_processor or _processor_in(self.name_or_path)
            if processor is not None:
                processor.save_pretrained(save_directory)
        super().save_pretrained(save_directory, *args, **kwargs)

    # --- warm starts

    @classmethod
    def from_mask2former(
        cls,
        name_or_path: str | Path,
        text_encoder: Mapping[str, Any] | None = None,
        text_embeddings: Tensor | None = None,
        is_thing: Sequence[bool] | None = None,
        vocabulary: str = "checkpoint",
        take_classifier: bool = True,
        revision: str | None = None,
        output_loading_info: bool = False,
        **options: Any,
    ) -> "DaTaSegModel | tuple[DaTaSegModel, WarmStart]":
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
        cls,
        name_or_path: str | Path,
        revision: str | None = None,
        output_loading_info: bool = False,
        **options: Any,
    ) -> "DaTaSegModel | tuple[DaTaSegModel, WarmStart]":
        """Start from a pretrained backbone alone: any checkpoint of an architecture that
        `backbone_config` takes.

        Args:
            name_or_path: Hub id or folder, with safetensors weights, with or without heads.
            revision: Branch, tag or commit on the Hub.
            output_loading_info: Also return the `WarmStart` report, of the backbone.
            options: Of `DaTaSegConfig`. Without `backbone_config` every stage of the checkpoint
                gives a feature map.

        Raises:
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
        if decoder.mask_view is not None:
            decoder.mask_view.silence()
        self.classifier.logit_scale.fill_(math.log(mean_length(self)))
        return aligned.explained

    def train(self, mode: bool = True) -> "DaTaSegModel":
        """Training mode, in which the backbone's batch norms stay frozen, lest statistics depend on
        the batch.
        """
        super().train(mode)
        self._freeze()  # here as well, as loading makes every parameter trainable again
        backbone = self.pretrainable_backbone()
        if not any(parameter.requires_grad for parameter in backbone.parameters()):
            backbone.eval()  # no dropout in a backbone that is not trained
        return self

    def _freeze(self) -> None:
        for norm in _batch_norms(self.backbone):
            norm.eval().requires_grad_(False)
        backbone_config = cast(PreTrainedConfig, self.config.backbone_config)
        unused = UNUSED_IN_BACKBONE.get(backbone_config.model_type)
        for name, parameter in self.backbone.named_parameters():
            if unused is not None and name.startswith(unused):
                parameter.requires_grad_(False)

    # --- vocabularies

    def add_vocabulary(
        self,
        name: str,
        labels: Sequence[str],
        is_thing: Sequence[bool] | None = None,
        text_embeddings: Tensor | None = None,
    ) -> None:
        """Store a vocabulary with the model.

        Args:
            name: Letters, digits, `_` and `-`. An existing vocabulary of that name is replaced.
            labels: Distinct category names.
            is_thing: Whether each is countable; all of them by default.
            text_embeddings: [C, D] in the space the model was trained with; by default the config's
                `text_encoder` embeds the labels. Of no use with `dataset_classifiers`, which start
                at random.

        Raises:
            ValueError: if names, flags and embeddings do not fit together.
        """
        labels = checked_words(labels)
        things = checked_flags(is_thing, len(labels))
        check_vocabulary(name, labels, things)
        if self.config.dataset_classifiers:
            text_embeddings = F.normalize(
                torch.randn(len(labels), self.config.text_embedding_dim), dim=-1
            )
        elif text_embeddings is None:
            text_embeddings = self.embed(labels)
        expected = (len(labels), self.config.text_embedding_dim)
        if tuple(text_embeddings.shape) != expected:
            raise ValueError(
                f"vocabulary '{name}': text embeddings have shape {tuple(text_embeddings.shape)}, "
                f"but {len(labels)} "
                f"labels in a {expected[1]}-dimensional text space need {expected}"
            )
        if not torch.isfinite(text_embeddings).all():
            raise ValueError(f"vocabulary '{name}': text embeddings are not finite")
        known = self.config.vocabularies or {}
        if isinstance(self.query_decoder, DatasetDecoders) and name not in known:
            self.query_decoder.add(name).to(self.device, self.dtype).apply(self._init_weights)
        self.config.vocabularies = {**known, name: {"labels": labels, "is_thing": things}}
        self.vocabularies.put(name, text_embeddings.detach().to(self.device, torch.float32).clone())
        if self.config.default_vocabulary is None or self.config.default_vocabulary == name:
            self.set_vocabulary(name)

    def set_vocabulary(
        self,
        vocabulary: str | Sequence[str],
        is_thing: Sequence[bool] | None = None,
        text_embeddings: Tensor | None = None,
    ) -> None:
        """Choose what `forward` classifies by default, and `id2label` with it: a stored name, or a
        list of words.

        A list of words is stored under the name "custom"; `is_thing` and `text_embeddings` are as
        for `add_vocabulary`.

        Raises:
            ValueError: for a name that is not stored, a word that seems to name a stored
                vocabulary, words that cannot be embedded, and whatever else is neither a name nor a
                list of words.
        """
        if not isinstance(vocabulary, str):
            words = checked_words(vocabulary, self.config.vocabularies)
            if self.config.knows_stored_vocabularies_only:
                raise ValueError(
                    "this model has parts of its own for each dataset and knows no other words: "
                    "choose a stored "
                    f"vocabulary: {sorted(self.config.vocabularies or {})}"
                )
            self.add_vocabulary("custom", words, is_thing, text_embeddings)
            vocabulary = "custom"
        elif is_thing is not None or text_embeddings is not None:
            raise ValueError(
                f"vocabulary '{vocabulary}' is stored with its own embeddings and thing flags; "
                "replace them with `add_vocabulary`, or leave out `is_thing` and `text_embeddings`"
            )
        labels = self.stored_vocabulary(vocabulary)["labels"]
        self.config.default_vocabulary = vocabulary
        self.config.id2label = dict(enumerate(labels))
        self.config.label2id = {label: index for index, label in enumerate(labels)}

    def stored_vocabulary(self, name: str) -> Mapping[str, Any]:
        """Labels and thing flags of a stored vocabulary; ValueError lists what is stored."""
        stored = self.config.vocabularies or {}
        if name not in stored:
            raise ValueError(unknown_vocabulary(name, stored))
        return stored[name]

    def parse_vocabulary(self, text: str) -> str | list[str]:
        """What a line of text asks for, as `set_vocabulary` takes it: a stored name, or the words
        between commas.
        """
        return parse_vocabulary(text, self.config.vocabularies or {})

    def embed(self, labels: Sequence[str]) -> Tensor:
        """Text embeddings [C, D] of names by the config's text encoder.

        Without an encoder, or with one that cannot be fetched, the names of the stored vocabularies
        still have theirs; case, blanks, hyphens and underscores do not matter.

        Raises:
            ValueError: for names that have no embedding; the message lists those that have.
            OSError: for an encoder that cannot be fetched.
        """
        encoder = self.config.text_encoder
        unknown = self.without_embedding(labels)
        if encoder is None or encoder.get("kind") == "precomputed":
            if unknown:
                raise ValueError(self._no_embedding(unknown))
            return self._stored_embeddings(labels)
        try:
            return build_text_encoder(encoder)(labels)
        except OSError:
            if unknown:
                raise
            return self._stored_embeddings(labels)

    def without_embedding(self, labels: Sequence[str]) -> list[str]:
        """Those of the names that no stored vocabulary has."""
        return [
            label
            for label, place in zip(labels, self._places(labels), strict=True)
            if place is None
        ]

    def _places(self, labels: Sequence[str]) -> list[tuple[str, int] | None]:
        return places_of(labels, self.config.vocabularies or {}, self.config.default_vocabulary)

    def _stored_embeddings(self, labels: Sequence[str]) -> Tensor:
        """The rows [C, D] of names that are stored."""
        rows = [
            self.vocabularies.get(place[0])[place[1]]
            for place in self._places(labels)
            if place is not None
        ]
        return torch.stack(rows).detach().float().cpu()

    def _no_embedding(self, words: Sequence[str]) -> str:
        stored = self.config.vocabularies or {}
        encoder = self.config.text_encoder
        reason = (
            f"its embeddings were precomputed ({encoder['source']})"
            if encoder
            else "no `text_encoder`"
        )
        return (
            f"this model cannot embed new words: {reason}; pass `text_embeddings` for "
            f"{list(words)}, use words among "
            f"its names ({listed(stored_names(stored))}), or choose a stored vocabulary, by name: "
            f"{sorted(stored)}"
        )

    def _classes(
        self, text_embeddings: Tensor | None, is_thing: Tensor | None, vocabulary: str | None
    ) -> tuple[Tensor, Tensor]:
        """Text embeddings [C, D] and thing flags [C] that a call asks for."""
        if vocabulary is not None and not isinstance(vocabulary, str):
            raise ValueError(
                "`vocabulary` of a call names a stored vocabulary, got "
                f"{type(vocabulary).__name__} "
                f"{vocabulary!r:.60}: call `model.set_vocabulary(words)` before, or pass "
                "`text_embeddings=model.embed(words)` instead"
            )
        if text_embeddings is not None:
            self._check_text_embeddings(text_embeddings)
            if vocabulary is not None:
                raise ValueError("give either `text_embeddings` or `vocabulary`, not both")
            return text_embeddings, _thing_flags(is_thing, text_embeddings)
        if is_thing is not None:
            raise ValueError(
                "`is_thing` goes with `text_embeddings`; a stored vocabulary has flags of its own"
            )
        name = self._chosen_vocabulary(vocabulary)
        flags = self.stored_vocabulary(name)["is_thing"]
        embeddings = self.vocabularies.get(name)
        return embeddings, torch.tensor(flags, dtype=torch.bool, device=embeddings.device)

    def _check_text_embeddings(self, text_embeddings: Any) -> None:
        if not isinstance(text_embeddings, Tensor):
            raise ValueError(
                f"`text_embeddings` must be a tensor [C, {self.config.text_embedding_dim}], "
                f"got {type(text_embeddings).__name__}: of words it is `model.embed(words)`"
            )
        if self.config.knows_stored_vocabularies_only:
            raise ValueError(
                "this model has parts of its own for each dataset: name a stored `vocabulary` "
                f"({sorted(self.config.vocabularies or {})}) instead of `text_embeddings`"
            )
        if text_embeddings.dim() != 2 or text_embeddings.shape[1] != self.config.text_embedding_dim:
            raise ValueError(
                f"`text_embeddings` must be [C, {self.config.text_embedding_dim}], got "
                f"{tuple(text_embeddings.shape)}"
            )

    def _chosen_vocabulary(self, vocabulary: str | None) -> str:
        name = self.config.default_vocabulary if vocabulary is None else vocabulary
        if name is None:
            raise ValueError(
                "the model has no vocabulary yet: call `set_vocabulary`, or pass `text_embeddings`"
            )
        return name

    # --- forward

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        text_embeddings: Tensor | None = None,
        is_thing: Tensor | None = None,
        vocabulary: str | None = None,
        task: str | None = None,
        labels: Sequence[Mapping[str, Tensor]] | None = None,
        num_targets: Tensor | None = None,
        num_images: Tensor | None = None,
        sampling_seeds: Tensor | None = None,
        loss_weights: Mapping[str, float] | None = None,
        output_auxiliary_logits: bool = False,
        **kwargs: Any,
    ) -> DaTaSegOutput:
        """Propose masks and classify them; with `labels` and `task`, also the loss.

        Args:
            pixel_values: [B, 3, H, W], normalized.
            pixel_mask: [B, H, W], 1 = image, 0 = padding (bottom and right).
            text_embeddings: [C, D], the categories of this call; with `is_thing` bool [C] (default:
                all things).
            vocabulary: Instead, the name of a stored vocabulary; default
                `config.default_vocabulary`.
            task: "panoptic", "semantic", "instance" or "boxes": whose labels are given.
            labels: Per image a dict with `class_labels` int64 [M] and, by task,
                panoptic, semantic: `segment_map` int [H, W], index into M, -1 = void;
                instance: `masks` uint8 [M, h, w] at any resolution of the canvas;
                boxes: `boxes` float [M, 4], xyxy in 0..1 of the padded canvas, and optionally
                    `box_axes` bool [M, 2],
                false where a crop cut the box on that axis (x, y);
                instance and boxes: optionally `is_crowd` bool [M], regions that are neither target
                nor background.
            num_targets, num_images: Totals of the whole optimizer step, when it spans several calls
                or processes; losses of the calls then add up to the loss of the whole.
            sampling_seeds: int64 [B], seeds of the points on which masks are compared.
            loss_weights: Overrides of the config's loss weights, keys as in
                `tasks_dataseg.LOSS_TERMS`.
            output_auxiliary_logits: Also return the logits of the earlier decoder layers.
        """
        chosen = None if task is None else get_task(task)
        embeddings, things = self._classes(text_embeddings, is_thing, vocabulary)
        if pixel_mask is None:
            pixel_mask = torch.ones_like(pixel_values[:, 0])
        if pixel_mask.shape != pixel_values[:, 0].shape:
            raise ValueError(
                f"`pixel_mask` has shape {tuple(pixel_mask.shape)}, `pixel_values` "
                f"{tuple(pixel_values.shape)}"
            )
        inside = pixel_mask.to(torch.bool)
        features = self.pixel_decoder(
            self.backbone(pixel_values.to(self.dtype)).feature_maps, inside
        )
        every_layer = labels is not None or output_auxiliary_logits
        decoder = self.query_decoder
        if isinstance(decoder, DatasetDecoders):
            decoder = decoder.of(self._chosen_vocabulary(vocabulary))
        heads, mask_logits = decoder(features, inside, every_layer)
        class_logits = self.classifier(torch.stack([code for code, _ in heads]), embeddings)
        layers = [
            Proposals(logits, mask_embeddings, features.mask_features)
            for logits, (_, mask_embeddings) in zip(class_logits, heads, strict=True)
        ]
        valid_size = torch.stack(
            [inside.any(2).float().mean(1), inside.any(1).float().mean(1)], dim=-1
        )
        result = None
        if labels is not None:
            if chosen is None:
                raise ValueError(
                    f"`labels` are given without `task`; name what they annotate: {sorted(TASKS)}"
                )
            chosen.check_labels(labels)
            if len(labels) != len(pixel_values):
                raise ValueError(
                    f"`labels` must hold a dict per image: got {len(labels)} for "
                    f"{len(pixel_values)} images"
                )
            truth = Truth(
                labels=labels,
                image=pixel_values.float(),
                inside=inside,
                valid_size=valid_size,
                is_thing=things,
                num_targets=_count(num_targets, count_targets(labels), pixel_values).clamp(min=1),
                num_images=_count(num_images, len(labels), pixel_values),
                seeds=sampling_seeds,
            )
            result = self._loss(layers, chosen, truth, loss_weights)
        output = DaTaSegOutput(
            loss=None if result is None else torch.stack(list(result.terms.values())).sum(),
            loss_dict=None if result is None else result.terms,
            class_queries_logits=layers[-1].class_logits,
            masks_queries_logits=mask_logits,
            class_embeddings=heads[-1][0],
            is_thing=things.expand(pixel_values.shape[0], -1),
            valid_size=valid_size,
            unmatched_targets=None if result is None else result.unmatched,
        )
        if output_auxiliary_logits:
            output.auxiliary_class_queries_logits = tuple(
                layer.class_logits for layer in layers[:-1]
            )
            output.auxiliary_masks_queries_logits = tuple(
                layer.mask_logits for layer in layers[:-1]
            )
        return output

    def _loss(
        self,
        layers: list[Proposals],
        task: Any,
        truth: Truth,
        overrides: Mapping[str, float] | None,
    ) -> LossResult:
        # in float32 whatever the autocast: matching costs of half precision overflow
        with torch.autocast(device_type=truth.image.device.type, enabled=False):
            return task.loss(layers, truth, self.config, loss_weights(self.config, overrides))


def _batch_norms(module: nn.Module) -> list[nn.Module]:
    return [
        child for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)
    ]


def _thing_flags(is_thing: Any, text_embeddings: Tensor) -> Tensor:
    """bool [C] of the flags that a call gives with text embeddings [C, D]; all true where it gives
    none.
    """
    # `len` would fix the count in an exported program
    count, device = text_embeddings.shape[0], text_embeddings.device
    if is_thing is None:
        return torch.ones(count, dtype=torch.bool, device=device)
    flags = (
        is_thing
        if isinstance(is_thing, Tensor)
        else torch.tensor(checked_flags(is_thing, count), device=device)
    )
    if flags.shape != text_embeddings.shape[:1]:
        raise ValueError(f"`is_thing` has shape {tuple(flags.shape)} for {count} embeddings")
    return flags


def _processor_in(folder: str) -> DaTaSegImageProcessor | None:
    """The processor in the folder that a model was loaded from; None for a new model, or one of the
    Hub.
    """
    found = folder != "" and (Path(folder) / IMAGE_PROCESSOR_NAME).is_file()
    return DaTaSegImageProcessor.from_pretrained(folder) if found else None


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse what `DaTaSegConfig` would take and nobody would read."""
    known = sorted(DaTaSegConfig.__annotations__)
    for name in sorted(set(options) - set(known)):
        raise ValueError(f"unknown option '{name}'; known are {known}{did_you_mean(name, known)}")
    encoder = options.get("text_encoder")
    if encoder is not None and not isinstance(encoder, Mapping):
        raise ValueError(f"`text_encoder` must be a mapping with a `kind`, got {encoder!r:.80}")


def _count(given: Tensor | None, counted: int, like: Tensor) -> Tensor:
    return torch.as_tensor(
        counted if given is None else given, dtype=torch.float32, device=like.device
    )


__all__ = ["DaTaSegModel", "DaTaSegOutput", "DaTaSegPreTrainedModel"]
