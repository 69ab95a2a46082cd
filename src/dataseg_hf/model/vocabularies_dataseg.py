"""The vocabularies of a model: stored with it, chosen, or given with a call."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .classifier_dataseg import VocabularyStore
from .configuration_dataseg import check_vocabulary
from .pretrained_dataseg import DaTaSegPreTrainedModel
from .query_decoder_dataseg import DatasetDecoders, QueryDecoder
from .text_embeddings_dataseg import build_text_encoder
from .words_dataseg import (
    checked_flags,
    checked_words,
    listed,
    parse_vocabulary,
    places_of,
    plain_name,
    stored_names,
    unknown_vocabulary,
)


class VocabularyMixin(DaTaSegPreTrainedModel):
    """What a model knows of names. Its classifier itself is in `classifier_dataseg.py`."""

    query_decoder: QueryDecoder | DatasetDecoders
    vocabularies: VocabularyStore

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
        embeddings = self._embeddings_to_store(name, labels, text_embeddings)
        known = self.config.vocabularies or {}
        if isinstance(self.query_decoder, DatasetDecoders) and name not in known:
            self.query_decoder.add(name).to(self.device, self.dtype).apply(self._init_weights)
        self.config.vocabularies = {**known, name: {"labels": labels, "is_thing": things}}
        self.vocabularies.put(name, embeddings.detach().to(self.device, torch.float32).clone())
        if self.config.default_vocabulary is None or self.config.default_vocabulary == name:
            self.set_vocabulary(name)

    def _embeddings_to_store(
        self, name: str, labels: Sequence[str], given: Tensor | None
    ) -> Tensor:
        """Embeddings [C, D] of a new vocabulary."""
        dim = self.config.text_embedding_dim
        if self.config.dataset_classifiers:
            given = F.normalize(torch.randn(len(labels), dim), dim=-1)
        embeddings = self.embed(labels) if given is None else given
        if tuple(embeddings.shape) != (len(labels), dim):
            raise ValueError(
                f"vocabulary '{name}': text embeddings have shape {tuple(embeddings.shape)}, but "
                f"{len(labels)} labels in a {dim}-dimensional text space need {(len(labels), dim)}"
            )
        if not torch.isfinite(embeddings).all():
            raise ValueError(f"vocabulary '{name}': text embeddings are not finite")
        return embeddings

    def set_vocabulary(
        self,
        vocabulary: str | Sequence[str],
        is_thing: Sequence[bool] | None = None,
        text_embeddings: Tensor | None = None,
    ) -> None:
        """Choose what `forward` classifies by default, and `id2label` with it: a stored name, or a
        list of words.

        A list of words is stored under the name "custom"; `is_thing` and `text_embeddings`
        [C, D] are as for `add_vocabulary`.

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
                    f"choose a stored vocabulary: {sorted(self.config.vocabularies or {})}"
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
        """Labels and thing flags of a stored vocabulary.

        Raises:
            ValueError: for a name that is not stored; the message lists those that are.
        """
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
            f"{list(words)}, use words among its names ({listed(stored_names(stored))}), or choose "
            f"a stored vocabulary, by name: {sorted(stored)}"
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
        # in every forward pass, so nobody shall wait for it
        things = torch.tensor(flags, dtype=torch.bool).to(embeddings.device, non_blocking=True)
        return embeddings, things

    def _stuff_of_others(self, vocabulary: str) -> Tensor | None:
        """Embeddings [O, D] of the stuff that the other stored vocabularies name: what an image may
        show of which nothing but objects was annotated (our setting). None without such stuff, and
        where each vocabulary has parts of its own.
        """
        rows = []
        known = {plain_name(label) for label in self.stored_vocabulary(vocabulary)["labels"]}
        shared = not self.config.knows_stored_vocabularies_only
        for name, other in (self.config.vocabularies or {}).items() if shared else ():
            embeddings = self.vocabularies.get(name)
            for place, (label, is_thing) in enumerate(
                zip(other["labels"], other["is_thing"], strict=True)
            ):
                if not is_thing and plain_name(label) not in known:
                    known.add(plain_name(label))
                    rows.append(embeddings[place])
        return torch.stack(rows) if rows else None

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


__all__ = ["VocabularyMixin"]
