"""DaTaSeg model configuration."""

from .requirements_dataseg import OLDEST_TRANSFORMERS  # noqa: F401 - before what an old version lacks

# isort: split

import re
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from .configuration_efficientnet_lite_dataseg import EfficientNetLiteConfig
from .shipped_code_dataseg import AUTO_MAP, CUSTOM_PIPELINES, copy_code

DEFAULT_BACKBONE = {"model_type": "swin", "out_features": ["stage1", "stage2", "stage3", "stage4"]}
VOCABULARY_NAME = re.compile(r"[A-Za-z0-9_\-]+")

# of whole numbers from 1 on: far beyond any use, and a model that a machine can still try to hold
LARGEST = {
    "hidden_dim": 2**14,
    "mask_dim": 2**14,
    "decoder_layers": 1000,
    "class_head_layers": 1000,
    "num_attention_heads": 2**14,
    "num_queries": 100_000,
    "text_embedding_dim": 2**16,
    "mask_view_size": 1024,
    "train_num_points": 10**7,
    "dim_feedforward": 2**16,
    "encoder_feedforward_dim": 2**16,
}
NOT_NEGATIVE = (
    "class_weight",
    "mask_weight",
    "dice_weight",
    "projection_weight",
    "color_affinity_weight",
    "point_weight",
    "cell_weight",
    "no_object_weight",
    "init_std",
)
POSITIVE = ("mask_view_extent", "initial_logit_scale")
SHARES = ("position_in_cell", "importance_sample_ratio", "cell_share", "semantic_cell_share")


@strict
class DaTaSegConfig(PreTrainedConfig):
    r"""Configuration of `DaTaSegModel`. Every parameter is shared by all datasets; only the
    vocabulary changes.

    Defaults follow Mask2Former where the method is the same; what is marked [ours] is our setting.

    Args:
        backbone_config (`PreTrainedConfig` or `dict` with `model_type`, defaults to a Swin-T):
            Any transformers backbone with feature maps at two or more strides, `mobilenet_v2` or
            `efficientnet_lite`.
            The finest map gives the mask features, the others feed the queries.
        pixel_decoder (`str`, defaults to `"fpn"`):
            `"fpn"`: a feature pyramid with attention on its coarsest map [ours]. `"deformable"`:
            Mask2Former's multi-scale deformable attention; needs four strides, costs more.
        hidden_dim (`int`, defaults to 256): Channels of pixel decoder and queries.
        mask_dim (`int`, defaults to 256): Channels of the high-resolution map and of the mask
            embeddings.
        encoder_layers (`int`, defaults to 3):
            Attention layers of the pixel decoder [ours]; 6 are Mask2Former's deformable ones.
        encoder_feedforward_dim (`int`, defaults to 1024): Feed-forward width of those layers.
        decoder_layers (`int`, defaults to 9): Layers of the masked-attention decoder.
        dim_feedforward (`int`, defaults to 2048): Feed-forward width of the decoder.
        num_attention_heads (`int`, defaults to 8): Heads of every attention; divides `hidden_dim`.
        position_in_cell (`float`, defaults to 0.5):
            Where in its cell the sine position of a feature lies: 0.5 is the center, so that
            strides and image sizes agree [ours]; Mask2Former's checkpoints were trained with the
            far edge, 1.0.
        num_queries (`int`, defaults to 100): Number of mask proposals.
        text_embedding_dim (`int`, defaults to 512): Dimension D of the text and class embeddings.
        initial_logit_scale (`float`, defaults to 100.0): Starting value of exp(scale) in the
            classifier [ours].
        class_head_layers (`int`, defaults to 3):
            Linear layers of the class embedding head; 1 lets it take a Mask2Former classifier
            exactly.
        class_head_sees_mask (`bool`, defaults to `True`):
            Add an encoding of the query's own predicted mask to the query before the class head
            [ours].
        class_head_sees_features (`bool`, defaults to `False`):
            Add an encoding of the backbone's two coarsest maps under that mask, too [ours].
        cell_classifier (`bool`, defaults to `False`):
            Also give every cell of the queries' finest level a class embedding [ours]. It learns
            from sets with a class per pixel, is the start of the class embeddings of the queries
            whose mask holds the cell, and at inference makes a proposal of its own for each
            category.
        cell_dropout (`float`, defaults to 0.5):
            Share of the backbone's features that the cell classifier's linear part does not see
            while it learns, as few images teach it too much; in [0, 1) [ours].
        cell_share (`float`, defaults to 0.5):
            Share of the cells' say in the class of a query's proposal at inference [ours].
        semantic_cell_share (`float`, defaults to 0.9):
            Share of the cell classifier's own proposals in a semantic result, beside those of the
            queries [ours].
        mask_view_size (`int`, defaults to 16): Side of the square on which that view samples the
            mask [ours].
        mask_view_extent (`float`, defaults to 2.2): Half side of the view in units of the mask's
            RMS radius [ours].
        merge_in_training (`bool`, defaults to `True`):
            Let unmatched proposals of a merged category join their target in training
            (`docs/method.md`) [ours].
        merge_overlap (`float`, *optional*, defaults to 0.5):
            Share of its own mask that a proposal must have inside the target to join it; `None`
            asks for none.
        merge_reduction (`str`, defaults to `"maximum"`):
            What becomes of the mask logits of a group: their `"maximum"`, or `"soft"`, the logit of
            the probability that any of them covers the pixel.
        dataset_classifiers (`bool`, defaults to `False`):
            Baseline without text: every stored vocabulary has class embeddings of its own, random
            at first and learned. Such a model knows no other vocabulary.
        dataset_decoders (`bool`, defaults to `False`):
            Baseline: every stored vocabulary has queries, decoder and heads of its own.
        class_weight, mask_weight, dice_weight (`float`): Weights of the losses and matching costs
            (2, 5, 5).
        projection_weight (`float`, defaults to 5.0): Weight of the box projection loss, per axis
            [ours].
        color_affinity_weight (`float`, defaults to 1.0): Weight of the boxes' color-affinity loss
            [ours]; 0: off.
        color_affinity_threshold (`float`, defaults to 0.3): Color similarity from which neighbors
            agree (BoxInst).
        point_weight (`float`, defaults to 1.0): Weight of the loss of annotated points [ours].
        cell_weight (`float`, defaults to 2.0): Weight of the cell classifier's loss [ours].
        no_object_weight (`float`, defaults to 0.1): Weight of the background class in the
            classification loss.
        train_num_points (`int`, defaults to 12544):
            Points per image on which masks are compared in matching and loss; with at most that
            many cells in the mask grid every cell is used instead.
        oversample_ratio (`float`, defaults to 3.0):
            Random points per loss point, of which the most uncertain are kept (PointRend).
        importance_sample_ratio (`float`, defaults to 0.75):
            Share of the loss points that are chosen so; the others are random.
        init_std (`float`, defaults to 0.02): Standard deviation of initial embeddings.
        vocabularies (`dict[str, dict]`, defaults to `{}`):
            Stored vocabularies: name -> `{"labels": [...], "is_thing": [...]}`; embeddings are
            buffers of the model.
        default_vocabulary (`str`, *optional*): The stored vocabulary used when none is named; gives
            `id2label`.
        text_encoder (`dict`, *optional*): What embedded the stored names, see `build_text_encoder`.
        training_sets (`list[dict]`, *optional*):
            What the model was trained on, for those who use it: per dataset `name`, `annotation`
            (its task), `images` (their number, or `None`), `image_size` (pixels of the longer
            side), `drawn` (synthetic scenes).
    """

    model_type = "dataseg"
    sub_configs = {"backbone_config": AutoConfig}  # noqa: RUF012 - the base class declares it as a ClassVar
    attribute_map = {"hidden_size": "hidden_dim", "num_hidden_layers": "decoder_layers"}  # noqa: RUF012
    # tasks whose pipeline transformers knows by registration, so that a checkpoint's code is not
    # asked for
    registered_pipelines: ClassVar[tuple[str, ...]] = ()

    backbone_config: dict | PreTrainedConfig | None = None
    pixel_decoder: Literal["fpn", "deformable"] = "fpn"
    hidden_dim: int = 256
    mask_dim: int = 256
    encoder_layers: int = 3
    encoder_feedforward_dim: int = 1024
    decoder_layers: int = 9
    dim_feedforward: int = 2048
    num_attention_heads: int = 8
    position_in_cell: float | int = 0.5
    num_queries: int = 100
    text_embedding_dim: int = 512
    initial_logit_scale: float | int = 100.0
    class_head_layers: int = 3
    class_head_sees_mask: bool = True
    class_head_sees_features: bool = False
    cell_classifier: bool = False
    cell_dropout: float | int = 0.5
    cell_share: float | int = 0.5
    semantic_cell_share: float | int = 0.9
    mask_view_size: int = 16
    mask_view_extent: float | int = 2.2
    merge_in_training: bool = True
    merge_overlap: float | int | None = 0.5
    merge_reduction: Literal["maximum", "soft"] = "maximum"
    dataset_classifiers: bool = False
    dataset_decoders: bool = False
    class_weight: float | int = 2.0
    mask_weight: float | int = 5.0
    dice_weight: float | int = 5.0
    projection_weight: float | int = 5.0
    color_affinity_weight: float | int = 1.0
    point_weight: float | int = 1.0
    color_affinity_threshold: float | int = 0.3
    cell_weight: float | int = 2.0
    no_object_weight: float | int = 0.1
    train_num_points: int = 12544
    oversample_ratio: float | int = 3.0
    importance_sample_ratio: float | int = 0.75
    init_std: float | int = 0.02
    vocabularies: dict[str, Any] | None = None
    default_vocabulary: str | None = None
    text_encoder: dict[str, Any] | None = None
    training_sets: list[dict[str, Any]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if kwargs.get("custom_pipelines"):
            kwargs["custom_pipelines"] = self._unregistered(kwargs["custom_pipelines"])
        if self.backbone_config is None:
            self.backbone_config = DEFAULT_BACKBONE
        if isinstance(self.backbone_config, dict):
            self.backbone_config = backbone_config(self.backbone_config)
        if self.vocabularies is None:
            self.vocabularies = {}
        for name, vocabulary in self.vocabularies.items():
            if not isinstance(vocabulary, dict) or set(vocabulary) != {"labels", "is_thing"}:
                raise ValueError(
                    f"vocabulary '{name}' must be {{'labels': [...], 'is_thing': [...]}}, got "
                    f"{vocabulary!r:.80}"
                )
        if self.default_vocabulary is not None and self.default_vocabulary in self.vocabularies:
            labels = self.vocabularies[self.default_vocabulary]["labels"]
            self.id2label = dict(enumerate(labels))
            self.label2id = {label: index for index, label in enumerate(labels)}
        super().__post_init__(**kwargs)

    def save_pretrained(
        self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Save as transformers does, with all that lets the folder load by itself
        (`shipped_code_dataseg.py`).

        The folder's own code is named, not that of a repository from which the config came.
        """
        self.auto_map = dict(AUTO_MAP)
        self.custom_pipelines = dict(CUSTOM_PIPELINES)
        copy_code(save_directory)
        super().save_pretrained(save_directory, push_to_hub, **kwargs)
        self.custom_pipelines = self._unregistered(CUSTOM_PIPELINES)

    def _unregistered(self, pipelines: dict[str, Any]) -> dict[str, Any]:
        return {
            task: entry
            for task, entry in pipelines.items()
            if task not in self.registered_pipelines
        }

    @property
    def knows_stored_vocabularies_only(self) -> bool:
        """Whether parts of the model belong to one vocabulary each, so that no other can be asked
        for.
        """
        return self.dataset_classifiers or self.dataset_decoders

    def validate_sizes(self) -> None:
        """Refuse sizes that no model can have.

        Raises:
            ValueError: names the option.
        """
        for name, largest in LARGEST.items():
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
            if getattr(self, name) > largest:
                raise ValueError(f"`{name}` must be at most {largest}, got {getattr(self, name)}")
        if not 0 <= self.encoder_layers <= LARGEST["decoder_layers"]:
            raise ValueError(
                f"`encoder_layers` must lie in 0..{LARGEST['decoder_layers']}, got "
                f"{self.encoder_layers}"
            )
        if self.hidden_dim % self.num_attention_heads or self.hidden_dim % 4:
            raise ValueError(
                f"`hidden_dim` ({self.hidden_dim}) must be divisible by 4 (two sine and two cosine "
                "parts of the "
                f"position embedding) and by `num_attention_heads` ({self.num_attention_heads})"
            )
        if self.pixel_decoder == "deformable" and self.hidden_dim % 32:
            raise ValueError(
                f"`hidden_dim` ({self.hidden_dim}) must be divisible by 32, the groups of the "
                "deformable pixel decoder's norms"
            )
        if self.mask_view_size < 2:
            raise ValueError(f"`mask_view_size` must be at least 2, got {self.mask_view_size}")

    def validate_numbers(self) -> None:
        """Refuse weights and shares out of range.

        Raises:
            ValueError: names the option.
        """
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}")
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}")
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie in 0..1, got {getattr(self, name)}")
        if not 0 <= self.cell_dropout < 1:
            raise ValueError(f"`cell_dropout` must lie in [0, 1), got {self.cell_dropout}")
        if self.merge_overlap is not None and not 0 <= self.merge_overlap < 1:
            raise ValueError(f"`merge_overlap` must be None or in [0, 1), got {self.merge_overlap}")
        if self.oversample_ratio < 1:
            raise ValueError(f"`oversample_ratio` must be at least 1, got {self.oversample_ratio}")

    def validate_vocabularies(self) -> None:
        """Refuse vocabularies whose parts do not fit together.

        Raises:
            ValueError: names the vocabulary.
        """
        for name, vocabulary in (self.vocabularies or {}).items():
            check_vocabulary(name, vocabulary["labels"], vocabulary["is_thing"])
        if self.default_vocabulary is not None and self.default_vocabulary not in (
            self.vocabularies or {}
        ):
            raise ValueError(
                f"`default_vocabulary` is '{self.default_vocabulary}', stored are "
                f"{sorted(self.vocabularies or {})}"
            )


def backbone_config(settings: dict[str, Any]) -> PreTrainedConfig:
    """The config of the backbone that settings describe.

    Raises:
        ValueError: unless they name a known architecture.
    """
    if "model_type" not in settings:
        raise ValueError(
            "`backbone_config` has no `model_type`; name the backbone's architecture there, "
            'e.g. {"model_type": "convnext", "out_features": [...]}'
        )
    if settings["model_type"] == EfficientNetLiteConfig.model_type:
        return EfficientNetLiteConfig.from_dict(settings)
    if settings["model_type"] not in CONFIG_MAPPING:
        raise ValueError(
            f"`backbone_config` names an unknown architecture '{settings['model_type']}'"
        )
    return CONFIG_MAPPING[settings["model_type"]].from_dict(settings)


def check_vocabulary(name: str, labels: list[str], is_thing: list[bool]) -> None:
    """Check the name, labels and thing flags of a vocabulary.

    Raises:
        ValueError: unless it has a usable name, distinct labels and one thing flag per label.
    """
    if not VOCABULARY_NAME.fullmatch(name):
        raise ValueError(f"vocabulary name '{name}' may hold letters, digits, '_' and '-' only")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"vocabulary '{name}': labels must be a list of names, got {labels!r:.80}")
    if not all(isinstance(flag, bool) for flag in is_thing):
        raise ValueError(
            f"vocabulary '{name}': thing flags must be true or false, got {is_thing!r:.80}"
        )
    if not labels:
        raise ValueError(f"vocabulary '{name}' has no labels")
    if len(labels) != len(is_thing):
        raise ValueError(
            f"vocabulary '{name}' has {len(labels)} labels and {len(is_thing)} thing flags"
        )
    repeated = sorted(label for label, count in Counter(labels).items() if count > 1)
    if repeated:
        raise ValueError(f"vocabulary '{name}' names a category twice: {repeated}")


__all__ = ["DaTaSegConfig"]
