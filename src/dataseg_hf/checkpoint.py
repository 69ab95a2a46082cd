"""Checkpoints that carry their own code, so that they load without this package (`trust_remote_code=True`)."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from . import pipeline_dataseg
from .image_processing_dataseg import DaTaSegImageProcessor
from .modeling_dataseg import DaTaSegModel

PIPELINE_TASK = "dataseg-segmentation"
MODEL_CLASS = "modeling_dataseg.DaTaSegModel"
AUTO_MAP = {
    "AutoConfig": "configuration_dataseg.DaTaSegConfig",
    "AutoModel": MODEL_CLASS,
    "AutoModelForUniversalSegmentation": MODEL_CLASS,
    "AutoModelForImageSegmentation": MODEL_CLASS,
    "AutoImageProcessor": "image_processing_dataseg.DaTaSegImageProcessor",
}
CUSTOM_PIPELINES = {
    PIPELINE_TASK: {"impl": "pipeline_dataseg.DaTaSegPipeline", "pt": ["AutoModelForImageSegmentation"]}
}


def save_checkpoint(
    model: DaTaSegModel,
    processor: DaTaSegImageProcessor,
    folder: str | Path,
    state_dict: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights (safetensors), config, processor and all code that loads them into a folder.

    Beside what `save_pretrained` of both writes, the config names every Auto class and the pipeline, whose file comes
    along: `pipeline("dataseg-segmentation", model=folder, trust_remote_code=True)`.

    Args:
        model: the bare model, without wrappers of a training framework.
        processor: with the image size of the model's default vocabulary.
        folder: made if missing.
        state_dict: the weights, where a wrapper spreads them over processes; by default the model's own.
    """
    model.config.auto_map = dict(AUTO_MAP)
    model.config.custom_pipelines = {task: dict(entry) for task, entry in CUSTOM_PIPELINES.items()}
    model.save_pretrained(folder, state_dict=state_dict)
    processor.save_pretrained(folder)
    code = Path(pipeline_dataseg.__file__)
    shutil.copyfile(code, Path(folder) / code.name)
