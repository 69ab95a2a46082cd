"""A teacher from a checkpoint: which kind it is, its image processor, and what it is known by."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from huggingface_hub import ModelCard, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, PreTrainedConfig
from transformers.models.auto import modeling_auto
from transformers.utils import logging as transformers_logging

from ...data.hub_names import hub_reference, is_missing_path, loading_failure
from ...errors import ConfigError
from ...model.configuration_dataseg import DaTaSegConfig
from ...model.image_processing_dataseg import DaTaSegImageProcessor
from ...model.modeling_dataseg import DaTaSegModel
from ...model.tasks_dataseg import TaskName
from .classes import Background, LabelClasses, label_classes, ordered_names
from .families import BoxTeacher, ProposalTeacher, SemanticTeacher, Teacher
from .inputs import InputMaker

KEY = "--teacher"
GRAY = (0.5, 0.5, 0.5)  # mean and deviation of most models that are not of ImageNet's statistics
_FAMILIES: dict[str, tuple[type[Teacher], tuple[str, ...]]] = {
    "AutoModelForSemanticSegmentation": (SemanticTeacher, ()),
    "AutoModelForUniversalSegmentation": (ProposalTeacher, ("videomt",)),
    "AutoModelForInstanceSegmentation": (ProposalTeacher, ("rf_detr",)),
    "AutoModelForImageSegmentation": (ProposalTeacher, ()),
    "AutoModelForObjectDetection": (BoxTeacher, ()),
}
"""Classes of transformers that load teachers, and the model types among them whose outputs are
others: several frames, and class scores without a background.
"""
_NAMES_OF = {
    "AutoModelForSemanticSegmentation": modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
    "AutoModelForUniversalSegmentation": (
        modeling_auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES
    ),
    "AutoModelForInstanceSegmentation": modeling_auto.MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING_NAMES,
    "AutoModelForImageSegmentation": modeling_auto.MODEL_FOR_IMAGE_SEGMENTATION_MAPPING_NAMES,
    "AutoModelForObjectDetection": modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
}


@dataclass(frozen=True)
class TeacherOptions:
    """How a teacher is used.

    Args:
        kind: of the labels; by default the first that the teacher can give.
        vocabulary: of a DaTaSeg model: a stored one, or words with commas.
        threshold: 0..1, least confidence of what is not void.
        background: whether a class of that name is a class or void.
        stuff: names that are not countable; by default those which the model or the catalog calls
            so.
        image_size: pixels of the longer side, for a checkpoint without an image processor: images
            are resized to it and padded below and on the right to a square. Given, it also replaces
            a processor that is there.
        image_mean, image_std: of the RGB channels in 0..1, with `image_size`.
        device: of torch; by default the accelerator if there is one.
        trust_remote_code: whether code that comes with the checkpoint may run.
    """

    kind: TaskName | None = None
    vocabulary: str | None = None
    threshold: float = 0.5
    background: Background = "void"
    stuff: tuple[str, ...] | None = None
    image_size: int | None = None
    image_mean: tuple[float, float, float] = GRAY
    image_std: tuple[float, float, float] = GRAY
    device: str | None = None
    trust_remote_code: bool = False


def load_teacher(name_or_folder: str, options: TeacherOptions) -> Teacher:
    """The teacher of a checkpoint, ready to label.

    Args:
        name_or_folder: a folder, or `org/name` or `org/name@revision` on the Hub.
        options: how it is used.

    Raises:
        ConfigError: for what cannot be loaded, is no teacher, or does not go with the options.
    """
    if is_missing_path(name_or_folder):
        raise ConfigError(f"{KEY}: {name_or_folder}: no such folder; check the path")
    path, revision = hub_reference(name_or_folder)
    loading = {"revision": revision, "trust_remote_code": options.trust_remote_code}
    device = _device(options.device)
    try:
        config = AutoConfig.from_pretrained(path, **loading)
        if isinstance(config, DaTaSegConfig):
            return _own(path, revision, options, device)
        return _of_transformers(path, config, options, device, loading)
    except ConfigError:
        raise
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ConfigError(f"{KEY}: {loading_failure(path, error)}") from error


def _device(name: str | None) -> torch.device:
    if name is None:
        found = torch.accelerator.current_accelerator(check_available=True)
        return found or torch.device("cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"--device: '{name}' cannot be used here: {reason}") from error


# --- ours -----------------------------------------------------------------------------------------


def _own(path: str, revision: str | None, options: TeacherOptions, device: torch.device) -> Teacher:
    model = DaTaSegModel.from_pretrained(path, revision=revision)
    processor = DaTaSegImageProcessor.from_pretrained(path, revision=revision)
    if options.vocabulary is not None:
        try:
            model.set_vocabulary(model.parse_vocabulary(options.vocabulary))
        except ValueError as error:
            raise ConfigError(f"--vocabulary: {error}") from error
    stored = model.stored_vocabulary(str(model.config.default_vocabulary))
    kind = _kind(ProposalTeacher, options, path)
    classes = _classes(stored["labels"], stored["is_thing"], options, kind)
    model.eval().to(device)
    inputs = InputMaker(processor, model)
    return ProposalTeacher(model, processor, inputs, classes, kind, options.threshold)


# --- of transformers ------------------------------------------------------------------------------


def _of_transformers(
    path: str,
    config: PreTrainedConfig,
    options: TeacherOptions,
    device: torch.device,
    loading: dict[str, Any],
) -> Teacher:
    if options.vocabulary is not None:
        raise ConfigError(
            f"--vocabulary: {path} is a '{config.model_type}' model, whose words are fixed; leave "
            "the option out"
        )
    auto_class = _auto_class(config, path)
    family = _FAMILIES[auto_class][0]
    kind = _kind(family, options, path)
    classes = _classes(ordered_names(config.id2label), None, options, kind)
    processor = _processor(path, config, options, loading)
    model = getattr(transformers, auto_class).from_pretrained(path, **loading)
    model.eval().to(device)
    task = kind if config.model_type == "oneformer" else None
    inputs = InputMaker(processor, model, task)
    return family(model, processor, inputs, classes, kind, options.threshold)


def _auto_class(config: PreTrainedConfig, path: str) -> str:
    """The name of the Auto class that loads a checkpoint as it was saved."""
    saved = (config.architectures or [""])[0]
    own_code = getattr(config, "auto_map", None) or {}
    for name, (_, others) in _FAMILIES.items():
        if saved in _NAMES_OF[name].values() or name in own_code:
            if config.model_type not in others:
                return name
            break
    raise ConfigError(
        f"{KEY}: {path} is a {saved or config.model_type!r}; a teacher is a semantic, instance or "
        "universal segmentation model or an object detector of transformers, or a DaTaSeg model"
    )


def _kind(family: type[Teacher], options: TeacherOptions, path: str) -> TaskName:
    kind = options.kind or family.kinds[0]
    if kind not in family.kinds:
        raise ConfigError(f"--task: {path} gives {' or '.join(family.kinds)} labels, not {kind}")
    return kind


def _classes(
    names: list[str], is_thing: list[bool] | None, options: TeacherOptions, kind: TaskName
) -> LabelClasses:
    if options.stuff is not None:
        unknown = sorted(set(options.stuff) - set(names))
        if unknown:
            raise ConfigError(
                f"--stuff: {unknown} are no classes of the teacher, which has {names}"
            )
        is_thing = [name not in options.stuff for name in names]
    try:
        return label_classes(names, is_thing, kind, options.background)
    except ValueError as error:
        raise ConfigError(f"{KEY}: {error}") from error


def _processor(
    path: str, config: PreTrainedConfig, options: TeacherOptions, loading: dict[str, Any]
) -> Any:
    if options.image_size is not None:
        return DaTaSegImageProcessor(
            size={"longest_edge": options.image_size},
            image_mean=list(options.image_mean),
            image_std=list(options.image_std),
        )
    loader = AutoProcessor if config.model_type == "oneformer" else AutoImageProcessor
    # it tells of the missing torchvision for each processor
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        return loader.from_pretrained(path, **loading)
    except OSError as error:
        raise ConfigError(
            f"{KEY}: {path} has no image processor (preprocessor_config.json); add the file, or "
            "state how it was trained by --image_size (pixels of the longer side; padded to a "
            "square), --image_mean and --image_std"
        ) from error
    finally:
        transformers_logging.set_verbosity(level)


# --- what a teacher is known by -------------------------------------------------------------------


def teacher_digest(teacher: Teacher) -> str:
    """As `model_digest`."""
    return model_digest(teacher.model, teacher.processor)


def model_digest(model: Any, processor: Any) -> str:
    """SHA-256 of a model's weights, config and image processor: equal for equal models, wherever
    they lie.
    """
    digest = hashlib.sha256()
    config = {**model.config.to_dict(), "_name_or_path": None}
    settings = [config, processor.to_dict()]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def stated_license(name_or_folder: str) -> str | None:
    """The license in the front matter of a checkpoint's README.md; None where none is stated, or it
    cannot be read.
    """
    path, revision = hub_reference(name_or_folder)
    card = Path(path) / "README.md"
    try:
        if not Path(path).is_dir():
            card = Path(hf_hub_download(path, "README.md", revision=revision))
        data = ModelCard.load(card, ignore_metadata_errors=True).data
    except (OSError, ValueError, yaml.YAMLError, HfHubHTTPError):
        return None
    stated = data.get("license_name") or data.license
    return None if stated is None else str(stated)
