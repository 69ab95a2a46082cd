"""Category names -> frozen text embeddings: float32 [C, D], unit norm, one row per name.

The classifier of DaTaSeg is a frozen text encoder's view of a dataset's category names (Gu et al.,
NeurIPS 2023, arXiv 2306.01736). Here a spec, which a config can keep, becomes one of its sources:
hashed n-grams or a sentence encoder (nothing to download), a text tower (CLIP, SigLIP, BERT and
its kin), or files of embeddings computed elsewhere. Different sources, or different towers, are
different spaces.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .text_centered_dataseg import CenteredTextEncoder, centered
from .text_encoder_dataseg import HashedNameEncoder, HashedNgramEncoder, TextEncoder
from .text_files_dataseg import FileTextEncoder, JoinedTextEncoder, file_encoder, joined_encoder
from .text_sentence_dataseg import SentenceTextEncoder
from .text_towers_dataseg import HubTextEncoder


class PrecomputedTextEncoder:
    """What a checkpoint remembers of embeddings that came from a file: where from, not how to make
    more.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    @property
    def dim(self) -> int:
        """Raises ValueError, as embedding does: the length stands in the checkpoint's own
        embeddings.
        """
        raise self._refusal()

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Raises ValueError, which says in which space embeddings for new names must be given."""
        raise self._refusal()

    def _refusal(self) -> ValueError:
        return ValueError(
            "this checkpoint cannot embed new words: its embeddings were precomputed; choose a "
            f"stored vocabulary, or give `text_embeddings=` of the same space ({self.source})"
        )


class _Kind(NamedTuple):
    build: Callable[..., TextEncoder]
    required: tuple[str, ...]
    optional: tuple[str, ...]


_KINDS = {
    "hashed_ngrams": _Kind(HashedNgramEncoder, (), ("dim",)),
    "hashed_names": _Kind(HashedNameEncoder, (), ("dim",)),
    "sentence": _Kind(SentenceTextEncoder, (), ()),
    "hub": _Kind(centered(HubTextEncoder), ("name_or_path",), ("templates", "revision", "center")),
    "file": _Kind(
        centered(file_encoder), ("path", "names"), ("names_key", "aliases", "key", "center")
    ),
    "files": _Kind(centered(joined_encoder), ("files",), ("center",)),
    "precomputed": _Kind(PrecomputedTextEncoder, ("source",), ()),
}


def build_text_encoder(spec: Mapping[str, Any]) -> TextEncoder:
    """The encoder that a spec describes; a spec is plain JSON, so that a config can keep it.

    - `{"kind": "hashed_ngrams", "dim": 256}`: `HashedNgramEncoder`.
    - `{"kind": "hashed_names", "dim": 256}`: `HashedNameEncoder`.
    - `{"kind": "sentence"}`: `SentenceTextEncoder`.
    - `{"kind": "hub", "name_or_path": ..., "templates": [...], "revision": ...}`: `HubTextEncoder`.
    - `{"kind": "file", "path": ..., "names": ..., "names_key": ..., "aliases": {...}, "key": ...}`:
      `FileTextEncoder`; names are a list, or the path of a `.txt` (a name per line) or `.json` (a
      list, or an object with `names_key`).
    - `{"kind": "files", "files": [{"path": ..., "names": ..., ...}, ...]}`: `JoinedTextEncoder` of
      such files.
    - The last three with `"center": true`: `CenteredTextEncoder` of them.
    - `{"kind": "precomputed", "source": ...}`: `PrecomputedTextEncoder`, which refuses to embed.

    Raises:
        ValueError: for an unknown kind, an unknown option, or a missing one; the message lists what
            is allowed.
    """
    options = dict(spec)
    name = options.pop("kind", None)
    if name not in _KINDS:
        raise ValueError(f"text encoder: `kind` must be one of {sorted(_KINDS)}, got {name!r}")
    kind = _KINDS[name]
    unknown = sorted(set(options) - {*kind.required, *kind.optional})
    missing = sorted(set(kind.required) - set(options))
    if unknown or missing:
        raise ValueError(
            f"text encoder '{name}': unknown options {unknown}, missing options {missing}; "
            f"required: {list(kind.required)}, optional: {list(kind.optional)}"
        )
    return kind.build(**options)


__all__ = [
    "CenteredTextEncoder",
    "FileTextEncoder",
    "HashedNameEncoder",
    "HashedNgramEncoder",
    "HubTextEncoder",
    "JoinedTextEncoder",
    "PrecomputedTextEncoder",
    "SentenceTextEncoder",
    "TextEncoder",
    "build_text_encoder",
]
