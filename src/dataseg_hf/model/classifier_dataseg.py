"""What classifies proposals: text embeddings of names, stored by vocabulary, and a background."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_dataseg import DaTaSegConfig


class TextClassifier(nn.Module):
    """Frozen text embeddings of the names, and one learnable background embedding shared by all
    datasets.
    """

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.background = nn.Parameter(torch.empty(config.text_embedding_dim))
        # no scalar, which sharded training (FSDP) does not take
        self.logit_scale = nn.Parameter(torch.empty(1))

    def forward(self, class_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """exp(scale) * cosine: [..., D], [C, D] -> float32 [..., C + 1], last = background."""
        with torch.autocast(class_embeddings.device.type, enabled=False):
            names = torch.cat([text_embeddings.float(), self.background.float()[None]])
            cosine = F.normalize(class_embeddings.float(), dim=-1) @ F.normalize(names, dim=-1).T
            return self.logit_scale.float().exp() * cosine


class VocabularyStore(nn.Module):
    """Embeddings of the stored vocabularies, saved with the weights: one buffer [C, D] each, or,
    with `dataset_classifiers`, one parameter.
    """

    def __init__(self, config: DaTaSegConfig) -> None:
        super().__init__()
        self.learned = config.dataset_classifiers
        self._seen: set[str] = set()
        for name, vocabulary in (config.vocabularies or {}).items():
            self.put(name, torch.empty(len(vocabulary["labels"]), config.text_embedding_dim))

    def put(self, name: str, embeddings: Tensor) -> None:
        """Store or replace the embeddings [C, D] of a vocabulary."""
        if self.learned:
            self.register_parameter(f"text_{name}", nn.Parameter(embeddings))
        else:
            self.register_buffer(f"text_{name}", embeddings)
        self._seen.discard(name)

    def get(self, name: str) -> Tensor:
        """Embeddings [C, D] of a stored vocabulary.

        Raises:
            ValueError: if a config named it and nothing embedded it.
        """
        key = f"text_{name}"
        embeddings = self.get_parameter(key) if self.learned else self.get_buffer(key)
        # looked at once, because it waits for the device, and not in a compiled graph
        if name not in self._seen and not torch.compiler.is_compiling():
            if embeddings.isnan().any():
                raise ValueError(
                    f"vocabulary '{name}' has no text embeddings: a config alone does not hold "
                    "them; load a checkpoint, or call `add_vocabulary`"
                )
            self._seen.add(name)
        return embeddings


__all__ = ["TextClassifier", "VocabularyStore"]
