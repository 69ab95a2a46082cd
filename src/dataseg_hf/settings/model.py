"""The model with which a run starts: new, or from a checkpoint; with the vocabularies of the mix,
and its processor.
"""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError

from ..data.hub_names import hub_reference, is_missing_path, loading_failure
from ..data.mixing import TrainingSet
from ..data.shapes import SHAPES_SPECS
from ..errors import ConfigError
from ..messages import shown
from ..model.cell_warm_start import segmentation_classifier, take_classifier
from ..model.configuration_dataseg import DaTaSegConfig
from ..model.image_processing_dataseg import DaTaSegImageProcessor
from ..model.modeling_dataseg import DaTaSegModel
from ..model.text_embeddings_dataseg import TextEncoder, build_text_encoder
from ..model.warm_start_dataseg import mask2former_labels, take_backbone
from .datasets import get_spec
from .paths import expand
from .run import RunConfig

LOG = logging.getLogger(__name__)

T = TypeVar("T")


# --- text -----------------------------------------------------------------------------------------


def run_text_encoder(config: RunConfig) -> TextEncoder:
    """The text encoder of a run."""
    return configured_text_encoder(text_encoder_settings(config))


def configured_text_encoder(settings: Mapping[str, Any]) -> TextEncoder:
    """The text encoder that settings describe.

    Files may name their rows by a dataset of the catalog (`names_of`).

    Raises:
        ConfigError: for settings that describe none, or files that cannot be read.
    """
    resolved = dict(settings)
    if resolved.get("kind") == "file":
        resolved = _file_settings(resolved, "text_encoder")
    elif resolved.get("kind") == "files":
        files = resolved.get("files")
        if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
            raise ConfigError(
                f"text_encoder.files: must be a list of mappings with `path`, not {shown(files)}"
            )
        resolved["files"] = [
            _file_settings(file, f"text_encoder.files.{number}")
            for number, file in enumerate(files)
        ]
    try:
        return build_text_encoder(resolved)
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise ConfigError(f"text_encoder: {error}") from error


def text_encoder_settings(config: RunConfig) -> dict[str, Any]:
    """The run's `text_encoder`; by default that of the checkpoint which the run starts from.

    Raises:
        ConfigError: for a checkpoint that cannot be loaded, or does not tell its text encoder.
    """
    if config.text_encoder is not None:
        return dict(config.text_encoder)
    assert config.model_weights is not None  # RunConfig checks it
    path, revision = hub_reference(expand(config.model_weights, "model_weights"))
    trained = _loaded(
        lambda: DaTaSegConfig.from_pretrained(path, revision=revision), "model_weights", path
    )
    if trained.text_encoder is None or trained.text_encoder["kind"] == "precomputed":
        raise ConfigError(
            f"text_encoder: is required, as '{path}' does not say how to embed new names"
        )
    return dict(trained.text_encoder)


def remembered_encoder(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint remembers of its text encoder; a path of this machine is of no use
    there.
    """
    if settings["kind"] not in ("file", "files"):
        return dict(settings)
    files = [settings] if settings["kind"] == "file" else settings["files"]
    source = ", ".join(Path(file["path"]).name for file in files)
    return {"kind": "precomputed", "source": source + ", centered" * bool(settings.get("center"))}


def _file_settings(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    resolved = dict(settings)
    if "names_of" in resolved:
        resolved["names"] = get_spec(resolved.pop("names_of"), f"{key}.names_of").labels
    for option in ("path", "names"):
        if isinstance(resolved.get(option), str):
            resolved[option] = expand(resolved[option], f"{key}.{option}")
    return resolved


def embed(
    encoder: Callable[[Sequence[str]], torch.Tensor], labels: Sequence[str], key: str
) -> torch.Tensor:
    """Embeddings [C, D] of the names.

    Raises:
        ConfigError: for names that cannot be embedded; the message says which entry has them.
    """
    try:
        return encoder(labels)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{key}: {error}") from error


# --- model ----------------------------------------------------------------------------------------


def build_model(
    config: RunConfig, datasets: Sequence[TrainingSet], encoder: TextEncoder
) -> DaTaSegModel:
    """The model with the vocabularies of the mix.

    Raises:
        ConfigError: for settings of which no model can be made, or a checkpoint that is not there
            or does not fit.
    """
    model = first_model(config, encoder)
    for dataset in datasets:
        spec = dataset.data.spec
        embeddings = embed(encoder, spec.labels, f"datasets.{dataset.name}")
        model.add_vocabulary(dataset.name, spec.labels, spec.is_thing, embeddings)
    model.set_vocabulary(config.default_vocabulary or datasets[0].name)
    model.config.training_sets = _training_sets(model.config.training_sets or [], datasets)
    if config.freeze_backbone:
        model.pretrainable_backbone().requires_grad_(False)
    if config.gradient_checkpointing:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # 5.23 gave it another name
            model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _training_sets(
    before: Sequence[Mapping[str, Any]], datasets: Sequence[TrainingSet]
) -> list[dict[str, Any]]:
    """What the checkpoint says of its training: the sets of the model it starts from, then those of
    the mix.
    """
    sets = {entry["name"]: dict(entry) for entry in before}
    for dataset in datasets:
        sets[dataset.name] = {
            "name": dataset.name,
            "annotation": dataset.task,
            "images": dataset.size,
            "image_size": dataset.augmentation.image_size,
            "drawn": dataset.data.spec.name in SHAPES_SPECS,
        }
    return list(sets.values())


def first_model(config: RunConfig, encoder: TextEncoder) -> DaTaSegModel:
    """The model before it knows the mix: new, fine-tuned, or warm-started.

    Raises:
        ConfigError: as `build_model`.
    """
    if config.model_weights is not None:
        return _from_dataseg(config, encoder)
    if config.mask2former_weights is not None:
        return _from_mask2former(config, encoder)
    model = _new_model({**config.model, **_text_settings(config, encoder)})
    if config.backbone_weights is not None:
        path, revision = hub_reference(expand(config.backbone_weights, "backbone_weights"))
        backbone = model.pretrainable_backbone()
        _loaded(lambda: take_backbone(backbone, path, revision), "backbone_weights", path)
        if config.backbone_classifier:
            _take_classifier(model, path, revision, encoder)
    return model


def _new_model(settings: Mapping[str, Any]) -> DaTaSegModel:
    try:
        model_config = DaTaSegConfig(**settings)
        _refuse_giants(model_config)
        return DaTaSegModel(model_config)
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise ConfigError(f"model: {' '.join(str(error).split())}") from error
    except (
        Exception
    ) as error:  # what a backbone's class makes of numbers that do not fit each other
        raise ConfigError(
            "model: nothing can be built of it; the sizes of `backbone_config` may not fit each "
            f"other ({type(error).__name__}: {' '.join(str(error).split())})"
        ) from error


MAX_PARAMETERS = 10**10  # 40 GB of weights (our setting)
MAX_DEPTH = 1000
DEPTHS = ("depths", "num_layers", "num_hidden_layers")


def _refuse_giants(config: DaTaSegConfig) -> None:
    """Refuse a model that would fill the memory, before it does.

    Raises:
        ValueError: names the key.
    """
    for key in DEPTHS:
        deepest = np.max(getattr(config.backbone_config, key, None) or 0)
        if deepest > MAX_DEPTH:
            raise ValueError(f"`backbone_config.{key}`: at most {MAX_DEPTH}, not {deepest}")
    with torch.device("meta"):
        count = sum(weight.numel() for weight in DaTaSegModel(config).parameters())
    if count > MAX_PARAMETERS:
        raise ValueError(
            f"the model would have {count} parameters, at most {MAX_PARAMETERS} are possible; its "
            "sizes or those of `backbone_config` are too large"
        )


def _take_classifier(
    model: DaTaSegModel, path: str, revision: str | None, encoder: TextEncoder
) -> None:
    key = "backbone_classifier"
    cells = model.cell_classifier
    if cells is None:
        raise ConfigError(f"{key}: the model has no cell classifier; set `model.cell_classifier`")
    classifier = _loaded(lambda: segmentation_classifier(path, revision), key, path)
    embeddings = embed(encoder, classifier.labels, key)
    _loaded(lambda: take_classifier(cells, classifier, embeddings), key, path)


def _text_settings(config: RunConfig, encoder: TextEncoder) -> dict[str, Any]:
    return {
        "text_embedding_dim": encoder.dim,
        "text_encoder": remembered_encoder(text_encoder_settings(config)),
    }


def _from_dataseg(config: RunConfig, encoder: TextEncoder) -> DaTaSegModel:
    path, revision = hub_reference(expand(cast(str, config.model_weights), "model_weights"))
    model = cast(
        DaTaSegModel,
        _loaded(
            lambda: DaTaSegModel.from_pretrained(
                path, revision=revision, dtype=torch.float32, **config.model
            ),
            "model_weights",
            path,
        ),
    )
    text = _text_settings(config, encoder)
    if encoder.dim != model.config.text_embedding_dim:
        raise ConfigError(
            f"text_encoder: embeds names in {encoder.dim} dimensions, but '{path}' was trained "
            f"with {model.config.text_embedding_dim}"
        )
    if model.config.text_encoder not in (None, text["text_encoder"]):
        LOG.warning(
            "'%s' was trained with the text encoder %s, this run embeds names by %s: in another "
            "text space the model starts without knowing any name",
            path,
            model.config.text_encoder,
            text["text_encoder"],
        )
    model.config.text_encoder = text["text_encoder"]
    return model.train()


def _from_mask2former(config: RunConfig, encoder: TextEncoder) -> DaTaSegModel:
    path, revision = hub_reference(
        expand(cast(str, config.mask2former_weights), "mask2former_weights")
    )

    def load() -> DaTaSegModel:
        embeddings = (
            encoder(mask2former_labels(path, revision)) if config.mask2former_classifier else None
        )
        model = DaTaSegModel.from_mask2former(
            path,
            text_embeddings=embeddings,
            take_classifier=config.mask2former_classifier,
            revision=revision,
            **{**_text_settings(config, encoder), **config.model},
        )
        return cast(DaTaSegModel, model)

    return _loaded(load, "mask2former_weights", path)


def _loaded(load: Callable[[], T], key: str, path: str) -> T:
    if is_missing_path(path):
        raise ConfigError(f"{key}: {path}: no such folder; check the path")
    try:
        return load()
    except ImportError as error:
        raise ConfigError(f"{key}: {error}") from error
    except (OSError, ValueError, RuntimeError, KeyError, StrictDataclassError) as error:
        raise ConfigError(f"{key}: cannot load '{path}': {loading_failure(path, error)}") from error


def build_processor(config: RunConfig) -> DaTaSegImageProcessor:
    """The processor saved with the model: the evaluation size of the default vocabulary."""
    default = config.default_vocabulary or next(iter(config.datasets))
    sizes = [
        entry.image_size for entry in config.evaluation.values() if entry.vocabulary == default
    ]
    size = sizes[0] if sizes else config.datasets[default].image_size
    return DaTaSegImageProcessor(
        size={"longest_edge": size},
        image_mean=list(config.image_mean),
        image_std=list(config.image_std),
        value_range=config.value_range,
    )
