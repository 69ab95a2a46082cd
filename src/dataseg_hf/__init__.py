"""DaTaSeg for Hugging Face: one segmentation model, trained on any mix of datasets, tasks and
vocabularies.
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageSegmentation,
    AutoModelForUniversalSegmentation,
)

from .model.configuration_dataseg import DaTaSegConfig
from .model.image_processing_dataseg import DaTaSegImageProcessor
from .model.modeling_dataseg import DaTaSegModel, DaTaSegOutput
from .model.pipeline_dataseg import DaTaSegPipeline
from .model.registered_pipelines import register_pipelines
from .model.tasks_dataseg import TASKS
from .model.text_embeddings_dataseg import (
    FileTextEncoder,
    HashedNgramEncoder,
    HubTextEncoder,
    build_text_encoder,
)
from .version import __version__


def register() -> None:
    """Make the Auto classes and `pipeline` know DaTaSeg. Repeating it does no harm."""
    AutoConfig.register(DaTaSegConfig.model_type, DaTaSegConfig, exist_ok=True)
    for auto_class in (AutoModel, AutoModelForUniversalSegmentation, AutoModelForImageSegmentation):
        auto_class.register(DaTaSegConfig, DaTaSegModel, exist_ok=True)
    AutoImageProcessor.register(
        DaTaSegConfig, image_processor_classes={"pil": DaTaSegImageProcessor}, exist_ok=True
    )
    DaTaSegConfig.register_for_auto_class()
    DaTaSegModel.register_for_auto_class("AutoModel")
    DaTaSegImageProcessor.register_for_auto_class()
    register_pipelines()


register()

__all__ = [
    "TASKS",
    "DaTaSegConfig",
    "DaTaSegImageProcessor",
    "DaTaSegModel",
    "DaTaSegOutput",
    "DaTaSegPipeline",
    "FileTextEncoder",
    "HashedNgramEncoder",
    "HubTextEncoder",
    "__version__",
    "build_text_encoder",
    "register",
]
