"""Text embeddings of a CLIP, SigLIP or BERT-type text encoder, from the Hub or a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    CLIPTextModelWithProjection,
    Siglip2TextModel,
    SiglipTextModel,
)

from .text_cache_dataseg import cache_key, folder_digest, read_cached, write_cached
from .text_encoder_dataseg import checked_names
from .text_pooling_dataseg import pooled, read_pooling

DEFAULT_TEMPLATES = ("a photo of a {}.",)

# A checkpoint holds the image tower too; naming its keys here keeps the loading report silent about
# them.
_IMAGE_TOWER = [r"^vision_model\.", r"^visual_projection\.", r"^logit_(scale|bias)$"]


class _ClipText(CLIPTextModelWithProjection):
    _keys_to_ignore_on_load_unexpected = _IMAGE_TOWER


class _SiglipText(SiglipTextModel):
    _keys_to_ignore_on_load_unexpected = _IMAGE_TOWER


class _Siglip2Text(Siglip2TextModel):
    _keys_to_ignore_on_load_unexpected = _IMAGE_TOWER


class _Tower(NamedTuple):
    """How a family's text tower is run: its class, which output is the embedding, the config field
    of its length.
    """

    model_class: Any
    output: str
    dim_field: str
    padding: str
    templates: tuple[str, ...] = DEFAULT_TEMPLATES


_CLIP = _Tower(_ClipText, "text_embeds", "projection_dim", "longest")
_SIGLIP = _Tower(_SiglipText, "pooler_output", "projection_size", "max_length")
_SIGLIP2 = _Tower(_Siglip2Text, "pooler_output", "projection_size", "max_length")
_TOKENS = "last_hidden_state"
_BERT = _Tower(AutoModel, _TOKENS, "hidden_size", "longest", ("{}",))
_COUNTED_FROM_PADDING = ("camembert", "mpnet", "roberta", "xlm-roberta")
"""Families whose first position is the one after the padding token's id."""
_TOWERS = {
    **dict.fromkeys(("bert", "distilbert", "electra", *_COUNTED_FROM_PADDING), _BERT),
    "clip": _CLIP,
    "clip_text_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_text_model": _SIGLIP,
    "siglip2": _SIGLIP2,
    "siglip2_text_model": _SIGLIP2,
}


class HubTextEncoder:
    """Text embeddings of a CLIP, SigLIP, SigLIP 2 or BERT-type encoder, from the Hub or a folder.

    Every template is filled with the name and embedded; the unit embeddings are averaged and made
    unit norm again (prompt ensembling, CLIP, arXiv 2103.00020). Prompts are lower-cased, as CLIP
    and SigLIP were trained, and those of SigLIP padded to the full length. A BERT-type encoder
    (sentence-transformers) gives the mean of its tokens, or what its `modules.json` says.
    The tower is fetched at the first use and kept in evaluation mode on `device`; it belongs to no
    module, so it never enters a checkpoint. Embeddings are kept on disk by the content of tower and
    prompts (`text_cache_dataseg.py`): for names embedded before, the tower is not even loaded.

    Args:
        name_or_path: Hub id or local folder with a config, safetensors weights and a tokenizer.
        templates: prompts, each with one `{}` for the name; by default "a photo of a {}.", and the
            name alone for BERT-type encoders.
        revision: branch, tag or commit on the Hub.
        device: where the tower runs.
        use_cache: look embeddings up on disk, and keep new ones there.

    Raises:
        OSError: at first use, when the tower cannot be fetched.
        ValueError: for a template without `{}`, an unsupported or incomplete model, or a prompt
            longer than it reads.
    """

    BATCH_SIZE = 64  # prompts

    def __init__(
        self,
        name_or_path: str,
        templates: Sequence[str] | None = None,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        use_cache: bool = True,
    ) -> None:
        if templates is not None and (
            isinstance(templates, str)
            or not templates
            or any(t.count("{}") != 1 for t in templates)
        ):
            raise ValueError(
                f"templates must be a list of strings with one {{}} each for the name, got "
                f"{templates!r}"
            )
        self.name_or_path = name_or_path
        self._templates = None if templates is None else tuple(templates)
        self.revision = revision
        self.device = torch.device(device)
        self.use_cache = use_cache
        self._config: Any = None
        self._tokenizer: Any = None
        self._model: Any = None
        self._pooling_read: str | None = None

    @property
    def templates(self) -> tuple[str, ...]:
        """The prompts; reads the tower's config where none were given."""
        return self._tower().templates if self._templates is None else self._templates

    @property
    def dim(self) -> int:
        """D, the length of an embedding; reads the tower's config, not its weights."""
        return int(getattr(self._text_config(), self._tower().dim_field))

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Embed C names: float32 [C, D] on the CPU, unit norm."""
        names = checked_names(names)
        prompts = [
            template.replace("{}", name).lower() for name in names for template in self.templates
        ]
        content = self._content() if self.use_cache else None
        if content is None:
            return self._ensemble(prompts)
        key = cache_key(content, prompts, len(self.templates))
        cached = read_cached(key)
        if cached is None:
            cached = self._ensemble(prompts)
            write_cached(key, cached)
        return cached

    def _content(self) -> str | None:
        """What the tower is, whatever it is called: the digest of a folder, or the commit on the
        Hub, where known.
        """
        folder = Path(self.name_or_path)
        # the pooling's config lies in a sub-folder
        pooling = f" {self._pooling()}" if self._tower().output == _TOKENS else ""
        if folder.is_dir():
            return folder_digest(folder) + pooling
        commit = self._top_config()._commit_hash
        return None if commit is None else f"{self.name_or_path}@{commit}{pooling}"

    @torch.no_grad()
    def _ensemble(self, prompts: list[str]) -> Tensor:
        """Unit means [C, D] of the unit embeddings of C groups of prompts, one per template."""
        batches = [
            prompts[i : i + self.BATCH_SIZE] for i in range(0, len(prompts), self.BATCH_SIZE)
        ]
        features = torch.cat([self._embed(batch) for batch in batches])
        means = F.normalize(features, dim=-1).unflatten(0, (-1, len(self.templates))).mean(dim=1)
        return F.normalize(means, dim=-1)

    def _embed(self, prompts: list[str]) -> Tensor:
        """Raw features float32 [P, D] of P prompts."""
        if self._model is None:
            self._tokenizer = self._fetch(AutoTokenizer)
            self._model = self._load_model()
        limit = self._limit()
        input_ids = self._tokenizer(prompts)["input_ids"]
        for prompt, ids in zip(prompts, input_ids, strict=True):
            if len(ids) > limit:
                raise ValueError(
                    f"prompt {prompt!r} has {len(ids)} tokens, '{self.name_or_path}' reads at most "
                    f"{limit}"
                )
        padded = self._tokenizer.pad(
            {"input_ids": input_ids},
            padding=self._tower().padding,
            max_length=limit,
            return_tensors="pt",
        )
        if self._tower().output == _TOKENS:
            read = {key: padded[key].to(self.device) for key in ("input_ids", "attention_mask")}
            tokens = self._model(**read).last_hidden_state
            return pooled(tokens, read["attention_mask"], self._pooling()).cpu()
        # No padding mask: SigLIP was trained without one, and CLIP is causal: its end token sees no
        # padding.
        output = self._model(input_ids=padded["input_ids"].to(self.device))
        return cast(Tensor, output[self._tower().output]).cpu()

    def _limit(self) -> int:
        """Tokens that the tower reads at most."""
        config = self._text_config()
        before = config.pad_token_id + 1 if config.model_type in _COUNTED_FROM_PADDING else 0
        return int(config.max_position_embeddings) - before

    def _pooling(self) -> str:
        if self._pooling_read is None:
            self._pooling_read = read_pooling(self.name_or_path, self.revision)
        return self._pooling_read

    def _load_model(self) -> Any:
        model, info = self._fetch(
            self._tower().model_class,
            config=self._text_config(),
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
        # BERT's own pooler is trained for next sentences and not used
        missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
        if missing:
            raise ValueError(
                f"'{self.name_or_path}' has no weights for {missing}, which "
                "would be random; give a checkpoint of the whole CLIP or SigLIP model, or of its "
                "text model with projection"
            )
        return model.eval().to(self.device)

    def _tower(self) -> _Tower:
        model_type = self._top_config().model_type
        if model_type not in _TOWERS:
            allowed = ", ".join(sorted(_TOWERS))
            raise ValueError(
                f"'{self.name_or_path}' is a '{model_type}' model; a text tower must be one of: "
                f"{allowed}"
            )
        return _TOWERS[model_type]

    def _text_config(self) -> Any:
        return self._top_config().get_text_config()

    def _top_config(self) -> Any:
        if self._config is None:
            self._config = self._fetch(AutoConfig)
        return self._config

    def _fetch(self, cls: Any, **kwargs: Any) -> Any:
        try:
            return cls.from_pretrained(self.name_or_path, revision=self.revision, **kwargs)
        except OSError as error:
            revision = f" at revision '{self.revision}'" if self.revision else ""
            raise OSError(
                f"text tower '{self.name_or_path}'{revision} cannot be loaded "
                f"({str(error).strip().splitlines()[0]}); choose a stored vocabulary, give "
                "`text_embeddings=` yourself, or the path of a local folder with config, "
                "safetensors and tokenizer"
            ) from error
