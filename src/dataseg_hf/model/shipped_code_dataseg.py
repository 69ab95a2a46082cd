"""What makes a saved folder load by itself: the names of its classes in the config, and all the
code beside it.

`DaTaSegConfig.save_pretrained` writes both, so that every way of saving a model does:
`model.save_pretrained`, that of a pipeline, and `Trainer.save_model`. transformers alone would
leave out what the saved class itself does not import.
"""

import shutil
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_import_files

PIPELINE_TASK = "dataseg-segmentation"
PLAIN_PIPELINE_TASK = "image-segmentation"
MODEL_CLASS = "modeling_dataseg.DaTaSegModel"
AUTO_MAP = {
    "AutoConfig": "configuration_dataseg.DaTaSegConfig",
    "AutoModel": MODEL_CLASS,
    "AutoModelForUniversalSegmentation": MODEL_CLASS,
    "AutoModelForImageSegmentation": MODEL_CLASS,
    "AutoImageProcessor": "image_processing_dataseg.DaTaSegImageProcessor",
}
PIPELINE_ENTRY = {
    "impl": "pipeline_dataseg.DaTaSegPipeline",
    "pt": ["AutoModelForImageSegmentation"],
}
CUSTOM_PIPELINES = {PIPELINE_TASK: PIPELINE_ENTRY, PLAIN_PIPELINE_TASK: PIPELINE_ENTRY}


def copy_code(folder: str | Path) -> None:
    """Copy all files of the code into a folder, which is made if missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file in [__file__, *get_relative_import_files(__file__)]:
        shutil.copyfile(file, folder / Path(file).name)


def _needed() -> tuple[type, ...]:
    """The classes named above. transformers copies the files that a file imports, so that these are
    always there.
    """
    from .configuration_dataseg import DaTaSegConfig
    from .image_processing_dataseg import DaTaSegImageProcessor
    from .modeling_dataseg import DaTaSegModel
    from .pipeline_dataseg import DaTaSegPipeline

    return DaTaSegConfig, DaTaSegModel, DaTaSegImageProcessor, DaTaSegPipeline


__all__ = ["AUTO_MAP", "CUSTOM_PIPELINES", "PIPELINE_TASK", "PLAIN_PIPELINE_TASK", "copy_code"]
