"""Text embeddings without what all names have in common."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .text_encoder_dataseg import TextEncoder


class CenteredTextEncoder:
    """Embeddings minus their mean over many names, unit norm again.

    CLIP's names lie in a narrow cone (mean cosine 0.77); without the mean they spread out
    (Mu and Viswanath 2018, arXiv 1702.01417, who also remove main directions).

    Args:
        encoder: what embeds names. Files give their own rows for the mean; a tower embeds the names
            of the catalog of datasets, as `sentence_space_dataseg.py` lists them.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self._mean: Tensor | None = None

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return self.encoder.dim

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Embed C names: float32 [C, D] on the CPU, unit norm; raises what the encoder does."""
        embeddings = self.encoder(names)
        if self._mean is None:
            self._mean = self._many().mean(dim=0)
        return F.normalize(embeddings - self._mean, dim=-1)

    def _many(self) -> Tensor:
        from .sentence_space_dataseg import NAMES

        table: Tensor | None = getattr(self.encoder, "table", None)
        return self.encoder(NAMES) if table is None else table


def centered(build: Callable[..., TextEncoder]) -> Callable[..., TextEncoder]:
    """The same builder with an option `center`, false by default."""

    def built(*, center: bool = False, **options: Any) -> TextEncoder:
        if not isinstance(center, bool):
            raise ValueError(f"text encoder: `center` must be true or false, got {center!r}")
        encoder = build(**options)
        return CenteredTextEncoder(encoder) if center else encoder

    return built
