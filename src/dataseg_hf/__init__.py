"""DaTaSeg for Hugging Face: one segmentation model, trained on any mix of datasets, tasks and
vocabularies.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .model.registration import register, register_with_transformers
from .version import __version__

if TYPE_CHECKING:
    from .model.configuration_dataseg import DaTaSegConfig
    from .model.image_processing_dataseg import DaTaSegImageProcessor
    from .model.modeling_dataseg import DaTaSegModel, DaTaSegOutput
    from .model.pipeline_dataseg import DaTaSegPipeline
    from .model.tasks_dataseg import TASKS
    from .model.text_embeddings_dataseg import (
        CenteredTextEncoder,
        FileTextEncoder,
        HashedNgramEncoder,
        HubTextEncoder,
        SentenceTextEncoder,
        build_text_encoder,
    )

__all__ = [
    "TASKS",
    "CenteredTextEncoder",
    "DaTaSegConfig",
    "DaTaSegImageProcessor",
    "DaTaSegModel",
    "DaTaSegOutput",
    "DaTaSegPipeline",
    "FileTextEncoder",
    "HashedNgramEncoder",
    "HubTextEncoder",
    "SentenceTextEncoder",
    "__version__",
    "build_text_encoder",
    "register",
]
_MODULES = {
    "TASKS": "tasks",
    "CenteredTextEncoder": "text_embeddings",
    "DaTaSegConfig": "configuration",
    "DaTaSegImageProcessor": "image_processing",
    "DaTaSegModel": "modeling",
    "DaTaSegOutput": "modeling",
    "DaTaSegPipeline": "pipeline",
    "FileTextEncoder": "text_embeddings",
    "HashedNgramEncoder": "text_embeddings",
    "HubTextEncoder": "text_embeddings",
    "SentenceTextEncoder": "text_embeddings",
    "build_text_encoder": "text_embeddings",
}
"""Modules of the names that need torch; they are imported when first asked for (PEP 562)."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.model.{_MODULES[name]}_dataseg"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_transformers()
