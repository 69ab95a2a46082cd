"""The pipelines that transformers knows once this package is imported."""

from typing import Any

from transformers import AutoModelForImageSegmentation, ImageSegmentationPipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_dataseg import DaTaSegConfig
from .pipeline_dataseg import DaTaSegPipeline
from .shipped_code_dataseg import PIPELINE_TASK, PLAIN_PIPELINE_TASK


class PipelineOfModel(ImageSegmentationPipeline):
    """Makes the pipeline of "image-segmentation": ours for a DaTaSeg model, transformers' own for
    every other.
    """

    def __new__(cls, model: Any, *args: Any, **kwargs: Any) -> Any:
        """transformers' own pipeline would ignore `vocabulary=`, as it does every argument that it
        does not know.
        """
        ours = model.config.model_type == DaTaSegConfig.model_type
        return (DaTaSegPipeline if ours else ImageSegmentationPipeline)(model, *args, **kwargs)


def register_pipelines() -> None:
    """Make `pipeline` know both tasks for models of this package. Repeating it does no harm."""
    if PIPELINE_TASK not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(
            PIPELINE_TASK, DaTaSegPipeline, AutoModelForImageSegmentation
        )
    PIPELINE_REGISTRY.supported_tasks[PLAIN_PIPELINE_TASK]["impl"] = PipelineOfModel
    DaTaSegConfig.registered_pipelines = (PLAIN_PIPELINE_TASK,)
