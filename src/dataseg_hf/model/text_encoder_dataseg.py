"""What an encoder of category names is, and the one that needs no model: hashed n-grams."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


class TextEncoder(Protocol):
    """Anything that turns names into embeddings of one space."""

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Embed C names: float32 [C, D] on the CPU, unit norm, in the order given."""


def checked_names(names: Sequence[str]) -> list[str]:
    """The names as a list.

    Raises:
        ValueError: for none at all, a blank one, or one string in place of a list.
    """
    if isinstance(names, str):
        raise ValueError(f"names must be a list of strings, got the single string {names!r}")
    if len(names) == 0:
        raise ValueError("names is empty: give at least one category name")
    for index, name in enumerate(names):
        if not name.strip():
            raise ValueError(
                f"category name {index} is empty: every category needs a name to embed"
            )
    return list(names)


class _HashedEncoder:
    """What needs a length and nothing else."""

    def __init__(self, dim: int = 256) -> None:
        if not isinstance(dim, int) or dim < 1:
            raise ValueError(f"dim must be a whole number of at least 1, got {dim}")
        self._dim = dim

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return self._dim


class HashedNgramEncoder(_HashedEncoder):
    """Text embeddings without a model: names that share words are neighbors, others are nearly
    orthogonal.

    Lower-cased, punctuation read as spaces; a word contributes itself and its character 3-grams and
    4-grams (with word boundaries, as in fastText, arXiv 1607.04606), which draw "circle" and
    "circles" together. Each feature is a vector of random signs (Achlioptas 2003) taken from its
    hash, so equal on every platform and version. Words add up: their order does not count ("house
    cat" and "cat house" are one embedding), nor does meaning ("sofa" and "couch" are strangers).
    Weights and features are our setting.
    """

    WORD_WEIGHT = 1.0
    NGRAM_WEIGHT = 0.7  # of all n-grams of a word together
    NGRAM_SIZES = (3, 4)

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Embed C names: float32 [C, D], unit norm; ValueError for a name without a letter or
        digit.
        """
        rows = np.stack([self._name_vector(name) for name in checked_names(names)])
        return F.normalize(torch.from_numpy(rows), dim=-1).float()

    def _name_vector(self, name: str) -> NDArray[np.floating[Any]]:
        words = re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", name).lower()).split()
        if not words:
            raise ValueError(f"category name {name!r} has no letter or digit: nothing to embed")
        return np.sum([self._word_vector(word) for word in words], axis=0)

    def _word_vector(self, word: str) -> NDArray[np.floating[Any]]:
        marked = f"<{word}>"
        ngrams = [marked[i : i + n] for n in self.NGRAM_SIZES for i in range(len(marked) - n + 1)]
        spelling = (
            np.sum([self._signs("ngram", ngram) for ngram in ngrams], axis=0) / len(ngrams) ** 0.5
        )
        return self.WORD_WEIGHT * self._signs("word", word) + self.NGRAM_WEIGHT * spelling

    def _signs(self, kind: str, text: str) -> NDArray[np.floating[Any]]:
        return random_signs(f"{kind}:{text}", self._dim)


class HashedNameEncoder(_HashedEncoder):
    """A direction of its own for every name, nearly orthogonal to all others: class numbers instead
    of meaning.

    Equal names, of whatever dataset, are one class; all others are strangers ("circle" and
    "circles", too). The baseline of a label space merged by hand (MSeg, Lambert et al., CVPR 2020),
    with `category_map` as the hand.
    """

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Embed C names: float32 [C, D], unit norm."""
        rows = np.stack([random_signs(f"name:{name}", self._dim) for name in checked_names(names)])
        return F.normalize(torch.from_numpy(rows), dim=-1).float()


def random_signs(text: str, dim: int) -> NDArray[np.floating[Any]]:
    """A vector [dim] of signs that follows from the text, the same on every platform."""
    digest = hashlib.shake_256(text.encode()).digest(-(-dim // 8))
    return np.unpackbits(np.frombuffer(digest, dtype=np.uint8))[:dim] * 2.0 - 1.0
