"""What a run is told: typed settings, read from YAML with command-line overrides, refused where impossible."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from .configuration_dataseg import DaTaSegConfig

MetricName = Literal["pq", "miou", "mask_ap"]


class ConfigError(ValueError):
    """A setting that is unknown or impossible; the message names its key."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from.

    Args:
        spec: Name of a dataset in the catalog, or of a set of the shapes world.
        reader: Format of its files, or `shapes`.
        images: Folder of the images. Environment variables in paths are expanded.
        annotations: Folder of the annotation PNGs (`coco_panoptic`, `image_png`).
        annotation_file: JSON file (`coco_panoptic`, `coco_instances`).
        image_suffix: File name ending of the images (`image_png`).
        missing_images: Whether listed images that are absent are an error or left out.
        part: `[k, n]`: every n-th image, starting at the k-th: disjoint parts by a fixed rule.
        split, count, seed: Split, number of scenes and seed of the shapes world.
        max_samples: Use the first so many images.
    """

    spec: str
    reader: Literal["shapes", "coco_panoptic", "coco_instances", "image_png"]
    images: str | None = None
    annotations: str | None = None
    annotation_file: str | None = None
    image_suffix: str = ".jpg"
    missing_images: Literal["error", "skip"] = "error"
    part: tuple[int, int] | None = None
    split: Literal["train", "eval"] = "train"
    count: int | None = None
    seed: int = 0
    max_samples: int | None = None

    def check(self, key: str) -> None:
        """Raise ConfigError for an impossible value; `key` is where the entry stands."""
        if self.part is not None:
            index, of = self.part
            _require(0 <= index < of, f"{key}.part: {list(self.part)} must be [k, n] with 0 <= k < n")
        _require(self.max_samples is None or self.max_samples > 0, f"{key}.max_samples: must be positive")


@dataclass(frozen=True)
class TrainEntry(Source):
    """A member of the mix: its source and how this run trains on it.

    Args:
        ratio: Share of the steps, relative to the other entries'.
        batch_size: Images per optimiser step, over all processes and accumulation steps.
        image_size: Side of the square canvas, in pixels.
        scale_range, horizontal_flip, colour_jitter: See `data.transforms.Augmentation`.
        loss_weights: Overrides of the model's loss weights for this dataset.
        split_things: Take the connected parts of a thing class as targets of their own (semantic annotation).
        keep_in_memory: Hold decoded images; for small sets.
    """

    ratio: float = 1.0
    batch_size: int = 8
    image_size: int = 640
    scale_range: tuple[float, float] = (1.0, 1.0)
    horizontal_flip: float = 0.5
    colour_jitter: float = 0.0
    loss_weights: dict[str, float] = field(default_factory=dict)
    split_things: bool = False
    keep_in_memory: bool = False

    def check(self, key: str) -> None:
        """As `Source.check`."""
        super().check(key)
        for name in ("ratio", "batch_size", "image_size"):
            _require(getattr(self, name) > 0, f"{key}.{name}: must be positive, not {getattr(self, name)}")


@dataclass(frozen=True)
class EvalEntry(Source):
    """A held-out set: its source and what is measured on it.

    Args:
        vocabulary: Entry of `datasets` whose vocabulary it is scored in; by default its own names are embedded, so
            that a set with words no training saw (open vocabulary) can be scored.
        metrics: `pq` (needs panoptic truth), `miou` (panoptic or semantic), `mask_ap` (masks or panoptic).
        batch_size, image_size: Images at once and side of the canvas.
        threshold, overlap_threshold: Least class probability of a panoptic segment, and least share of its own mask
            that it keeps.
    """

    vocabulary: str | None = None
    metrics: tuple[MetricName, ...] = ("pq",)
    batch_size: int = 8
    image_size: int = 640
    threshold: float = 0.5
    overlap_threshold: float = 0.8

    def check(self, key: str) -> None:
        """As `Source.check`."""
        super().check(key)
        _require(len(self.metrics) > 0, f"{key}.metrics: name at least one of {list(get_args(MetricName))}")
        for name in ("batch_size", "image_size"):
            _require(getattr(self, name) > 0, f"{key}.{name}: must be positive, not {getattr(self, name)}")


@dataclass(frozen=True)
class RunConfig:
    """Everything a co-training run is told.

    Args:
        output_dir: Folder of checkpoints, logs, pictures and the final model.
        datasets: The mix, by name; the name is also that of the vocabulary stored in the model.
        evaluation: Held-out sets, by name; their metrics are reported as `{name}/{metric}`.
        model: Fields of `DaTaSegConfig`.
        text_encoder: What embeds the category names, see `build_text_encoder`. A file may say `names_of: SPEC` when
            its rows follow the classes of a catalogued dataset.
        default_vocabulary: Entry of `datasets` that the saved model classifies by; the first by default.
        backbone_weights: Folder or Hub id of pretrained backbone weights; none trains from scratch.
        mask2former_weights: Instead, folder or Hub id of a transformers Mask2Former to start from; `model` then holds
            only what shall differ from it.
        mask2former_classifier: Start from its classifier as well; the text encoder must embed its labels.
        image_mean, image_std: Normalisation of pixel values in 0..1.
        seed: Of initialisation, order, augmentation and sampled points.
        max_steps: Length of the schedule in optimiser steps.
        max_minutes: Stop training after so many minutes, wherever the schedule stands; then evaluate and save.
        learning_rate: Peak. backbone_lr_factor: times the rate for the backbone.
        adam_betas: Decay rates of AdamW's two moments.
        weight_decay: For weights; norms, biases, embeddings of queries and the classifier's own parameters have none.
        warmup_steps: Linear warm-up. schedule: `cosine` to 0, `poly` (power 0.9) or `constant`.
        max_grad_norm: Gradient clipping.
        color_affinity_ramp: Share of the steps over which the colour-affinity loss grows from 0 to its weight.
        ema_decay: Decay of averaged weights, which are evaluated and saved; 0 turns averaging off.
        gradient_accumulation_steps: Micro-batches per optimiser step.
        mixed_precision: `no`, `bf16` or `fp16`; by default what `accelerate launch` says.
        num_workers: Loading processes per training process.
        num_threads: Threads of torch on the CPU; by default torch's own choice. Pinned, a run repeats bit by bit.
        log_every, evaluate_every, checkpoint_every: In steps; the latter two may be 0 for never (only at the end).
        keep_checkpoints: How many of the newest are kept.
        num_pictures: Images per prediction grid.
        resume: `latest` or the path of a checkpoint.
    """

    output_dir: str
    datasets: dict[str, TrainEntry]
    text_encoder: dict[str, Any]
    evaluation: dict[str, EvalEntry] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    default_vocabulary: str | None = None
    backbone_weights: str | None = None
    mask2former_weights: str | None = None
    mask2former_classifier: bool = True
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    seed: int = 0
    max_steps: int = 1000
    max_minutes: float | None = None
    learning_rate: float = 1e-4
    backbone_lr_factor: float = 1.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05
    warmup_steps: int = 50
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    max_grad_norm: float = 1.0
    color_affinity_ramp: float = 0.3
    ema_decay: float = 0.0
    gradient_accumulation_steps: int = 1
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    num_workers: int = 0
    num_threads: int | None = None
    log_every: int = 50
    evaluate_every: int = 0
    checkpoint_every: int = 0
    keep_checkpoints: int = 2
    num_pictures: int = 6
    resume: str | None = None

    def __post_init__(self) -> None:
        _require(len(self.datasets) > 0, "datasets: the mix is empty")
        for name in ("max_steps", "learning_rate", "max_grad_norm", "log_every", "keep_checkpoints",
                     "gradient_accumulation_steps"):  # fmt: skip
            _require(getattr(self, name) > 0, f"{name}: must be positive, not {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "evaluate_every", "checkpoint_every", "num_workers", "seed"):
            _require(getattr(self, name) >= 0, f"{name}: must not be negative, not {getattr(self, name)}")
        _require(0 <= self.ema_decay < 1, f"ema_decay: must be in [0, 1), not {self.ema_decay}")
        _require(
            0 <= self.color_affinity_ramp <= 1, f"color_affinity_ramp: must be in 0..1, not {self.color_affinity_ramp}"
        )
        known = sorted(DaTaSegConfig.__annotations__)
        for name in sorted(set(self.model) - set(known)):
            raise ConfigError(f"model.{name}: unknown option; allowed are {known}")
        for name, member in self.datasets.items():
            member.check(f"datasets.{name}")
        for name, entry in self.evaluation.items():
            entry.check(f"evaluation.{name}")
            _require(
                entry.vocabulary is None or entry.vocabulary in self.datasets,
                f"evaluation.{name}.vocabulary: '{entry.vocabulary}' is no entry of datasets {sorted(self.datasets)}",
            )
        _require(
            self.default_vocabulary is None or self.default_vocabulary in self.datasets,
            f"default_vocabulary: '{self.default_vocabulary}' is no entry of datasets {sorted(self.datasets)}",
        )


def parse_run_config(arguments: Sequence[str], default_config: str | Path) -> RunConfig:
    """Settings from `--config FILE` (YAML; else `default_config`) and `--key value` or `--outer.key value` overrides.

    Raises:
        ConfigError: in one line, with the key, for an unknown or impossible setting, or a missing file.
    """
    parser = ArgumentParser(exit_on_error=False, description="Train one DaTaSeg model on a mix of datasets.")
    parser.add_argument("--config", action="config", help=f"YAML file; default {default_config}")
    parser.add_class_arguments(RunConfig, nested_key=None)
    named = _config_files(arguments)
    if not named:
        arguments = ["--config", str(default_config), *arguments]
    for file in named or [str(default_config)]:
        _check_keys(file)
    try:
        parsed = parser.instantiate(parser.parse_args(list(arguments)))
    except (ArgumentError, TypeError) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    return RunConfig(**{f.name: parsed[f.name] for f in fields(RunConfig)})


def _config_files(arguments: Sequence[str]) -> list[str]:
    """Files that the command line names by `--config FILE` or `--config=FILE`."""
    files = [argument.partition("=")[2] for argument in arguments if argument.startswith("--config=")]
    return files + [value for flag, value in pairwise(arguments) if flag == "--config"]


def _check_keys(file: str) -> None:
    """Refuse keys that no setting has, by their full path: the parser names only its last part."""
    try:
        settings = yaml.safe_load(Path(file).read_text())
    except OSError as error:
        raise ConfigError(f"--config: cannot read '{file}': {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--config: '{file}' is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, Mapping):
        raise ConfigError(f"--config: '{file}' must hold a mapping of settings")
    for problem in _problems(settings, RunConfig, ""):
        raise ConfigError(f"{file}: {problem}")


def _problems(settings: Mapping[str, Any], kind: type, path: str) -> Iterator[str]:
    """What is wrong with the keys of a mapping that stands for a settings class, and of the entries inside it."""
    hints = {f.name: get_type_hints(kind)[f.name] for f in fields(kind)}
    for key, value in settings.items():
        hint = hints.get(key)
        if hint is None:
            yield f"{path}{key}: unknown option; allowed are {sorted(hints)}"
        elif get_origin(hint) is Literal and value not in get_args(hint):
            yield f"{path}{key}: '{value}' is not allowed; choose from {list(get_args(hint))}"
        elif get_origin(hint) is dict and is_dataclass(get_args(hint)[1]) and isinstance(value, Mapping):
            entry_kind = get_args(hint)[1]
            for name, entry in value.items():
                here = f"{path}{key}.{name}"
                if not isinstance(entry, Mapping):
                    yield f"{here}: must be a mapping of settings"
                    continue
                required = {f.name for f in fields(entry_kind) if f.default is f.default_factory is MISSING}
                for missing in sorted(required - set(entry)):
                    yield f"{here}.{missing}: is required"
                yield from _problems(entry, entry_kind, f"{here}.")


def expand(path: str, key: str) -> str:
    """A path with its environment variables and `~` expanded; ConfigError for a variable that is not set."""
    expanded = os.path.expanduser(os.path.expandvars(path))
    if "$" in expanded:
        raise ConfigError(f"{key}: '{path}' names an environment variable that is not set")
    return expanded
