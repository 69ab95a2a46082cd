"""DaTaSeg: one segmentation model for many datasets, tasks and vocabularies (Gu et al., NeurIPS
2023).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.utils import IMAGE_PROCESSOR_NAME, ModelOutput, can_return_tuple

from .backbones_dataseg import UNUSED_IN_BACKBONE, build_backbone
from .cell_classifier_dataseg import CellClassifier
from .cell_proposals_dataseg import Proposals, with_cells
from .checksums_dataseg import write_checksums
from .classifier_dataseg import TextClassifier, VocabularyStore
from .configuration_dataseg import DaTaSegConfig
from .deformable_pixel_decoder_dataseg import DeformablePixelDecoder
from .host_dataseg import host_labels, to_device
from .image_processing_dataseg import DaTaSegImageProcessor
from .pixel_decoder_dataseg import PixelDecoder
from .pretrained_dataseg import DaTaSegPreTrainedModel
from .proposals_dataseg import LayerProposals
from .query_decoder_dataseg import ClassViews, DatasetDecoders, QueryDecoder
from .supervision_dataseg import LossInputs, LossResult, resolve_loss_weights
from .targets_dataseg import Truth, count_targets
from .tasks_dataseg import TASKS, Task, get_task
from .warm_start_mixin_dataseg import WarmStartMixin

PIXEL_DECODERS: dict[str, type[PixelDecoder] | type[DeformablePixelDecoder]] = {
    "fpn": PixelDecoder,
    "deformable": DeformablePixelDecoder,
}


@dataclass
class DaTaSegOutput(ModelOutput):
    """Proposals of a batch; names as in transformers' Mask2Former.

    Args:
        loss: Sum of `loss_dict`, when labels are given.
        loss_dict: Weighted loss terms, summed over the decoder layers.
        class_queries_logits: [B, N, C + 1], last = background. In evaluation mode, a cell
            classifier adds N proposals of categories to those of the queries.
        masks_queries_logits: [B, N, h, w] at the stride of the finest feature map; alike.
        semantic_weights: [B, N], of each proposal in a semantic result, with a cell classifier in
            evaluation mode.
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
    semantic_weights: Tensor | None = None
    class_embeddings: Tensor | None = None
    is_thing: Tensor | None = None
    valid_size: Tensor | None = None
    unmatched_targets: Tensor | None = None
    auxiliary_class_queries_logits: tuple[Tensor, ...] | None = None
    auxiliary_masks_queries_logits: tuple[Tensor, ...] | None = None


class _Proposed(NamedTuple):
    """What the network makes of a batch.

    Args:
        layers: of the decoder; the last one only, unless all were asked for.
        class_embeddings: [B, N, D], of the last layer.
        mask_logits: [B, N, h, w], of the last layer.
        cell_logits: [B, C, h', w'], of a model with a cell classifier.
        num_others: of how many names of other vocabularies the layers have logits, too.
    """

    layers: list[LayerProposals]
    class_embeddings: Tensor
    mask_logits: Tensor
    cell_logits: Tensor | None
    num_others: int

    @property
    def own_class_logits(self) -> list[Tensor]:
        """Class logits of each layer without the names of other vocabularies: [B, N, C + 1]."""
        every = [layer.class_logits for layer in self.layers]
        if not self.num_others:
            return every
        return [
            torch.cat([one[..., : -1 - self.num_others], one[..., -1:]], dim=-1) for one in every
        ]


class DaTaSegModel(WarmStartMixin):
    """Backbone, pixel decoder, query decoder and text classifier; one set of weights for all
    datasets and tasks.
    """

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__(config)
        self.backbone = build_backbone(config)
        channels = cast(Sequence[int], self.backbone.channels)
        self.pixel_decoder = PIXEL_DECODERS[config.pixel_decoder](config, channels)
        self.query_decoder = (
            DatasetDecoders(config, channels)
            if config.dataset_decoders
            else QueryDecoder(config, channels)
        )
        self.classifier = TextClassifier(config)
        self.cell_classifier = CellClassifier(config, channels) if config.cell_classifier else None
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
        """Save as transformers does, with the code, checksums of the weights, and the processor of
        the Mask2Former that the model started from, or of the folder that it was loaded from.

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
        if kwargs.get("is_main_process", True):
            weights = Path(save_directory).glob("model*.safetensors")
            write_checksums(Path(save_directory), weights)

    def train(self, mode: bool = True) -> "DaTaSegModel":
        """Training mode.

        The backbone's batch norms stay frozen, as their statistics would depend on the batch.
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
            vocabulary: Instead, a stored one's name; `config.default_vocabulary` by default.
            task: Name of the task whose labels are given, see `TASKS`.
            labels: Per image a dict with `class_labels` int64 [M] and the task's annotation:
                `segment_map` int [H, W], index into M, -1 = void (panoptic, semantic);
                `masks` uint8 [M, h, w] at any resolution of the canvas (instance);
                `boxes` float [M, 4], xyxy in 0..1 of the canvas, and optionally `box_axes` bool
                [M, 2], false where a crop cut the box on that axis (x, y) (boxes);
                both, `degrees` int [M] and `points` [M, P, 2], see `ObjectTargets` (objects).
                Further `is_crowd` bool [M]; `mask_weights`, `exhaustive`, `objects_only`: `Truth`.
            num_targets, num_images: Totals of an optimizer step over several calls or processes,
                whose losses then add up.
            sampling_seeds: int64 [B], of the points that masks are compared on and of dropout.
            loss_weights: Overrides of the config's, keys as in `supervision_dataseg.LOSS_TERMS`.
            output_auxiliary_logits: Also return the logits of the earlier decoder layers.

        Raises:
            ValueError: for an unknown task, vocabulary or loss weight, labels without a task or
                that do not carry its annotation, and a mask of another shape than the images.
        """
        # not len(), which fixes the size in an exported graph
        chosen = _checked_task(task, labels, pixel_values.shape[0])
        embeddings, things = self._classes(text_embeddings, is_thing, vocabulary)
        others = self._others(vocabulary, text_embeddings, labels)
        labels, sampling_seeds = host_labels(labels, sampling_seeds)
        valid_mask = _valid_mask(pixel_values, pixel_mask)
        every_layer = labels is not None or output_auxiliary_logits
        proposed = self._propose(
            pixel_values, valid_mask, (embeddings, others), vocabulary, every_layer, sampling_seeds
        )
        valid_size = _valid_size(valid_mask)
        result = None
        if labels is not None and chosen is not None:
            truth = Truth(
                labels=labels,
                image=pixel_values.float(),
                valid_mask=valid_mask,
                valid_size=valid_size,
                is_thing=things,
                num_targets=_count(num_targets, count_targets(labels), pixel_values).clamp(min=1),
                num_images=_count(num_images, len(labels), pixel_values),
                seeds=sampling_seeds,
                num_others=proposed.num_others,
            )
            result = self._loss(proposed, chosen, truth, loss_weights)
        final = self._final_proposals(proposed, valid_mask)
        return DaTaSegOutput(
            loss=None if result is None else torch.stack(list(result.terms.values())).sum(),
            loss_dict=None if result is None else result.terms,
            class_queries_logits=final.class_logits,
            masks_queries_logits=final.mask_logits,
            semantic_weights=final.semantic_weights,
            class_embeddings=proposed.class_embeddings,
            is_thing=things.expand(pixel_values.shape[0], -1),
            valid_size=valid_size,
            unmatched_targets=None if result is None else result.unmatched,
            **(_auxiliary_logits(proposed) if output_auxiliary_logits else {}),
        )

    def _propose(
        self,
        pixel_values: Tensor,
        valid_mask: Tensor,
        names: tuple[Tensor, Tensor | None],
        vocabulary: str | None,
        every_layer: bool,
        seeds: Tensor | None,
    ) -> _Proposed:
        """Proposals of the decoder layers, all of them or the last one only.

        Args:
            names: text embeddings of the C categories, and of O names of other vocabularies.
        """
        text_embeddings, others = names
        maps = self.backbone(pixel_values.to(self.dtype)).feature_maps
        features = self.pixel_decoder(maps, valid_mask)
        cells = cell_logits = None
        if self.cell_classifier is not None:
            cells = self.cell_classifier(maps, features, valid_mask, seeds)
            cell_logits = self.classifier(cells, text_embeddings)[..., :-1].permute(0, 3, 1, 2)
        views = ClassViews(maps, cells, valid_mask)
        heads, mask_logits = self._decoder(vocabulary)(features, views, every_layer)
        if others is not None:
            text_embeddings = torch.cat([text_embeddings, others])
        class_logits = self.classifier(torch.stack([code for code, _ in heads]), text_embeddings)
        layers = [
            LayerProposals(logits, mask_embeddings, features.mask_features)
            for logits, (_, mask_embeddings) in zip(class_logits, heads, strict=True)
        ]
        num_others = 0 if others is None else len(others)
        return _Proposed(layers, heads[-1][0], mask_logits, cell_logits, num_others)

    def _others(
        self,
        vocabulary: str | None,
        text_embeddings: Tensor | None,
        labels: Sequence[Mapping[str, Tensor]] | None,
    ) -> Tensor | None:
        """Embeddings [O, D] of what images with such labels may show beside the vocabulary."""
        if text_embeddings is None and any("objects_only" in label for label in labels or ()):
            return self._stuff_of_others(self._chosen_vocabulary(vocabulary))
        return None

    def _final_proposals(self, proposed: _Proposed, valid_mask: Tensor) -> Proposals:
        """Those of the last layer; in evaluation mode with what a cell classifier adds."""
        proposals = Proposals(proposed.own_class_logits[-1], proposed.mask_logits)
        if self.training or proposed.cell_logits is None:
            return proposals
        return with_cells(
            proposals,
            proposed.cell_logits,
            valid_mask,
            self.config.cell_share,
            self.config.semantic_cell_share,
        )

    def _decoder(self, vocabulary: str | None) -> QueryDecoder:
        """The query decoder, that of the vocabulary where each has its own."""
        if isinstance(self.query_decoder, DatasetDecoders):
            return self.query_decoder.of(self._chosen_vocabulary(vocabulary))
        return self.query_decoder

    def _loss(
        self,
        proposed: _Proposed,
        task: Task,
        truth: Truth,
        overrides: Mapping[str, float] | None,
    ) -> LossResult:
        weights = resolve_loss_weights(self.config, overrides)
        # in float32 whatever the autocast: matching costs of half precision overflow
        with torch.autocast(device_type=truth.image.device.type, enabled=False):
            return task.loss(
                LossInputs(proposed.layers, truth, self.config, weights, proposed.cell_logits)
            )


def _checked_task(
    name: str | None, labels: Sequence[Mapping[str, Tensor]] | None, num_images: int
) -> Task | None:
    """The task of that name; ValueError where it is unknown or does not fit the labels."""
    task = None if name is None else get_task(name)
    if labels is None:
        return task
    if task is None:
        raise ValueError(
            f"`labels` are given without `task`; name what they annotate: {sorted(TASKS)}"
        )
    task.check_labels(labels, num_images)
    return task


def _valid_mask(pixel_values: Tensor, pixel_mask: Tensor | None) -> Tensor:
    """bool [B, H, W], false in the padding; all true without a `pixel_mask`."""
    if pixel_mask is None:
        pixel_mask = torch.ones_like(pixel_values[:, 0])
    if pixel_mask.shape != pixel_values[:, 0].shape:
        raise ValueError(
            f"`pixel_mask` has shape {tuple(pixel_mask.shape)}, `pixel_values` "
            f"{tuple(pixel_values.shape)}"
        )
    return pixel_mask.to(torch.bool)


def _valid_size(valid_mask: Tensor) -> Tensor:
    """Height and width of each image as fractions of the canvas, [B, 2]."""
    return torch.stack(
        [valid_mask.any(2).float().mean(1), valid_mask.any(1).float().mean(1)], dim=-1
    )


def _auxiliary_logits(proposed: _Proposed) -> dict[str, tuple[Tensor, ...]]:
    """Those of the earlier layers, by the field of the output."""
    return {
        "auxiliary_class_queries_logits": tuple(proposed.own_class_logits[:-1]),
        "auxiliary_masks_queries_logits": tuple(one.mask_logits for one in proposed.layers[:-1]),
    }


def _batch_norms(module: nn.Module) -> list[nn.Module]:
    return [
        child for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)
    ]


def _processor_in(folder: str) -> DaTaSegImageProcessor | None:
    """The processor in the folder that a model was loaded from; None for a new model, or one of the
    Hub.
    """
    found = folder != "" and (Path(folder) / IMAGE_PROCESSOR_NAME).is_file()
    return DaTaSegImageProcessor.from_pretrained(folder) if found else None


def _count(given: Tensor | None, counted: int, like: Tensor) -> Tensor:
    if isinstance(given, Tensor):
        return to_device(given, like.device).float()
    # written by the device itself: a number that is copied to it would be waited for
    return torch.full((), float(counted if given is None else given), device=like.device)


__all__ = ["DaTaSegModel", "DaTaSegOutput", "DaTaSegPreTrainedModel"]
