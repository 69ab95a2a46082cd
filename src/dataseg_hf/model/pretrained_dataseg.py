"""Loading, saving and initialization of the model."""

import math
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .cell_classifier_dataseg import CellClassifier
from .classifier_dataseg import TextClassifier, VocabularyStore
from .configuration_dataseg import DaTaSegConfig
from .deformable_pixel_decoder_dataseg import SamplingOffsets, SamplingWeights
from .query_decoder_dataseg import QueryDecoder


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

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As the base class, from safetensors only: a pickle could run code."""
        kwargs.setdefault("use_safetensors", True)
        return super().from_pretrained(*args, **kwargs)

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
        elif isinstance(module, QueryDecoder):
            if module.cell_gain is not None:
                init.ones_(module.cell_gain)
        elif isinstance(module, CellClassifier):
            init.zeros_(module.feature_mean)
            init.ones_(module.feature_deviation)
            init.zeros_(module.output.weight)  # what the backbone knows comes first
        elif isinstance(module, TextClassifier):
            init.normal_(module.background, std=self.config.init_std)
            init.constant_(module.logit_scale, math.log(self.config.initial_logit_scale))
        elif isinstance(module, VocabularyStore):
            # not-a-number until loaded or set: a vocabulary without embeddings must not pass for
            # one
            for embeddings in (*module.buffers(), *module.parameters()):
                init.constant_(embeddings, float("nan"))


__all__ = ["DaTaSegPreTrainedModel"]
