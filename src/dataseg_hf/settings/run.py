"""What a run is told: typed settings, read from YAML with command-line overrides, refused where
impossible.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser
from pydantic import TypeAdapter, ValidationError

from ..data.corruptions import Corruption
from ..data.sample import TaskName
from ..errors import ConfigError
from ..model.image_reading_dataseg import check_value_range
from .durations import Duration, parse_duration

MetricName = Literal["pq", "miou", "mask_ap", "box_ap"]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


@dataclass(frozen=True)
class ClassSettings:
    """One class of a dataset that the catalog does not know.

    Args:
        name: As the text encoder reads it.
        ids: Raw ids in the annotation that mean this class; the name itself by default (formats
            that write words).
        thing: Whether it is countable.
        aliases: What the files call it where that is not the name; a name of theirs that is neither
            is refused.
    """

    name: str
    ids: list[int | str] = field(default_factory=list)
    thing: bool = False
    aliases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SpecSettings:
    """The facts of a dataset that the catalog does not know, see `data.sample.DatasetSpec`.

    Args:
        task: What its annotation is.
        classes: In the order of their indices.
        void_ids: Raw ids that mean "unlabeled".
        name, license, homepage: For messages and the model card.
    """

    task: TaskName
    classes: list[ClassSettings]
    void_ids: list[int | str] = field(default_factory=list)
    name: str = "custom"
    license: str = "unknown"
    homepage: str = ""


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from.

    Args:
        spec: Name of a dataset in the catalog or of a set of the shapes world, or the facts of one
            of your own.
        reader: Format of its files (`data.readers.READERS`), `shapes`, or `package.module:function`
            of your own reader; by default the one that the catalog names.
        images: Folder of the images. Environment variables in paths are expanded.
        annotations: Folder of the annotations.
        annotation_file: JSON file (`coco_panoptic`, `coco_instances`).
        missing_images: Whether listed images that are absent are an error or left out; by default
            an error, or what the catalog says.
        unknown_ids: Whether category ids that the spec does not name are an error or void.
        outside: Whether boxes and outlines that reach far beyond their image are an error or cut at
            its border.
        options: Further keyword arguments of the reader, e.g. `{image_suffix: .png}`.
        category_map: From class names to new ones: renames a class, merges several into one, or,
            with null, makes it unlabeled (the way of MSeg).
        part: `[k, n]`: every n-th image, starting at the k-th: disjoint parts by a fixed rule.
        split, count, seed: Split, number of scenes and seed of the shapes world.
        max_samples: Use the first so many images.
        value_range: `[low, high]`: the values that become black and white in images of more than 8
            bits; by default what the file tells of its depth, else the range of each image
            (`image_reading_dataseg.py`). It is saved in the image processor, so a mix has one at
            most, which entries without one take over.
    """

    spec: str | SpecSettings
    reader: str | None = None
    images: str | None = None
    annotations: str | None = None
    annotation_file: str | None = None
    missing_images: Literal["error", "skip"] | None = None
    unknown_ids: Literal["error", "void"] = "error"
    outside: Literal["error", "clip"] = "error"
    options: dict[str, Any] = field(default_factory=dict)
    category_map: dict[str, str | None] = field(default_factory=dict)
    part: tuple[int, int] | None = None
    split: Literal["train", "eval"] = "train"
    count: int | None = None
    seed: int = 0
    max_samples: int | None = None
    value_range: tuple[float, float] | None = None

    def check(self, key: str) -> None:
        """Raise ConfigError for an impossible value; `key` is where the entry stands."""
        if self.part is not None:
            index, of = self.part
            _require(
                0 <= index < of, f"{key}.part: {list(self.part)} must be [k, n] with 0 <= k < n"
            )
        _require(
            self.max_samples is None or self.max_samples > 0, f"{key}.max_samples: must be positive"
        )
        if self.value_range is not None:
            try:
                check_value_range(self.value_range)
            except ValueError as error:
                raise ConfigError(f"{key}.{error}") from error


AnySource = TypeVar("AnySource", bound=Source)
"""An entry of the mix or a held-out set."""


@dataclass(frozen=True)
class TrainEntry(Source):
    """A member of the mix: its source and how this run trains on it.

    Args:
        ratio: Share of the steps, relative to the other entries'; 1 by default.
        probability: Instead of ratios: share of the steps, adding up to 1 over all entries.
        batch_size: Images per optimizer step, over all processes and accumulation steps.
        image_size: Side of the square canvas, in pixels.
        scale_range, horizontal_flip, color_jitter: See `data.transforms.Augmentation`.
        loss_weights: Overrides of the model's loss weights for this dataset.
        split_things: Take the connected parts of a thing class as targets of their own (semantic
            annotation).
        keep_in_memory: Hold decoded images; for small sets.
    """

    ratio: float | None = None
    probability: float | None = None
    batch_size: int = 8
    image_size: int = 640
    scale_range: tuple[float, float] = (1.0, 1.0)
    horizontal_flip: float = 0.5
    color_jitter: float = 0.0
    loss_weights: dict[str, float] = field(default_factory=dict)
    split_things: bool = False
    keep_in_memory: bool = False

    def check(self, key: str) -> None:
        """As `Source.check`."""
        super().check(key)
        for name in ("ratio", "probability", "batch_size", "image_size"):
            value = getattr(self, name)
            _require(
                value is None or value > 0,
                f"{key}.{name}: must be positive, not {value}; leave the entry out",
            )


@dataclass(frozen=True)
class EvalEntry(Source):
    """A held-out set: its source and what is measured on it.

    Args:
        vocabulary: Entry of `datasets` whose vocabulary it is scored in; by default its own names
            are embedded, so that a set with words no training saw (open vocabulary) can be scored.
        metrics: `pq` (needs panoptic truth), `miou` (panoptic or semantic), `mask_ap` (masks or
            panoptic), `box_ap` (anything but semantic).
        batch_size, image_size: Images at once and side of the canvas, to which the longer side is
            resized.
        shortest_edge: Resize the shorter side to so many pixels instead, unless the longer one then
            leaves the canvas.
        threshold, overlap_threshold: Least class probability of a panoptic segment, and least share
            of its own mask that it keeps.
        max_dets: Best predictions per image and class that count for `mask_ap` and `box_ap`; more
            than 100 where images hold more objects of a class (cells, solar panels).
        every: Interval of its evaluation, instead of the run's `evaluate_every`.
        corruption: Corrupt its images, e.g. `{kind: noise, strength: 2}`; see
            `data.corruptions.Corruption`.
    """

    vocabulary: str | None = None
    metrics: tuple[MetricName, ...] = ("pq",)
    batch_size: int = 8
    image_size: int = 640
    shortest_edge: int | None = None
    threshold: float = 0.5
    overlap_threshold: float = 0.8
    max_dets: int = 100
    every: Duration | None = None
    corruption: Corruption | None = None

    def check(self, key: str) -> None:
        """As `Source.check`."""
        super().check(key)
        _require(
            len(self.metrics) > 0,
            f"{key}.metrics: name at least one of {list(get_args(MetricName))}",
        )
        for name in ("batch_size", "image_size"):
            _require(
                getattr(self, name) > 0,
                f"{key}.{name}: must be positive, not {getattr(self, name)}",
            )
        _require(self.max_dets > 10, f"{key}.max_dets: must be above 10, not {self.max_dets}")


@dataclass(frozen=True)
class RunConfig:
    """Everything a co-training run is told.

    A duration is a number of steps, `"12 epochs of NAME"` (an entry of `datasets`) or `"90000
    images"`; it becomes steps once, at the start. A name on the Hub may end in `@revision`.

    Args:
        output_dir: Folder of checkpoints, logs, pictures and the final model.
        datasets: The mix, by name; the name is also that of the vocabulary stored in the model.
        text_encoder: What embeds the category names, see `build_text_encoder`. A file may say
            `names_of: SPEC` when its rows follow the classes of a catalogd dataset. Only with
            `model_weights` it may be left out: then it is what the checkpoint was trained with.
        evaluation: Held-out sets, by name; their metrics are reported as `{name}/{metric}`.
        model: Fields of `DaTaSegConfig`.
        default_vocabulary: Entry of `datasets` that the saved model classifies by; the first by
            default.
        model_weights: Folder or Hub id of a DaTaSeg checkpoint to start from (fine-tuning). Its
            vocabularies stay.
        backbone_weights: Instead, folder or Hub id of pretrained backbone weights.
        mask2former_weights: Instead, folder or Hub id of a transformers Mask2Former; `model` then
            holds only what shall differ from it. None of the three trains from scratch.
        mask2former_classifier: Start from its classifier as well; the text encoder must embed its
            labels.
        freeze_backbone: Do not train the backbone.
        gradient_checkpointing: Compute activations again in the backward pass instead of keeping
            them.
        torch_compile: Backend of torch.compile for backbone, pixel decoder and query decoder, e.g.
            `inductor`.
        image_mean, image_std: Normalization of pixel values in 0..1.
        size_temperature: Instead of ratios: draw each dataset in proportion to (number of images)
            ** (1 / temperature); 1 is by size, and the higher, the more alike the shares.
        every_dataset_in_a_step: Baseline: instead of one dataset drawn by its share, every step
            trains on a batch of each, whose losses count by their shares.
        on_bad_sample: What to do with an image that cannot be used: `raise` ends the run, `skip`
            takes another image of the dataset instead, counts and reports it.
        check_samples: Images of each dataset, evenly spaced, that are read before training starts.
        seed: Of initialization, order, augmentation and sampled points.
        max_steps: Length of the schedule, a duration.
        max_minutes: Stop after so many minutes of training, over all parts of a resumed run; then
            evaluate and save. If the steps will not be done by then, the learning rate comes down
            by the clock (`Schedule.progress`).
        learning_rate: Peak. backbone_lr_factor: times the rate for the backbone.
        adam_betas: Decay rates of AdamW's two moments.
        weight_decay: For weights; norms, biases, embeddings of queries and the classifier's own
            parameters have none.
        warmup_steps: Linear warm-up, a duration. schedule: `cosine` or `linear` to 0, `poly` (power
            0.9), `constant`.
        max_grad_norm: Gradient clipping.
        color_affinity_ramp: Share of the steps over which the color-affinity loss grows from 0 to
            its weight.
        ema_decay: Decay of averaged weights, which are evaluated and saved; 0 turns averaging off.
        gradient_accumulation_steps: Micro-batches per optimizer step.
        mixed_precision: `no`, `bf16` or `fp16`; by default what `accelerate launch` says.
        num_workers: Loading processes per training process.
        num_threads: Threads of torch on the CPU; by default torch's own choice. Pinned, a run
            repeats bit by bit.
        log_every: Steps between two lines of the log.
        report_to: Trackers that Accelerate knows, e.g. `[tensorboard]`.
        evaluate_every, checkpoint_every: Durations; 0 is never (only at the end). A checkpoint also
            precedes every evaluation.
        keep_checkpoints: How many of the newest are kept.
        best_metric: `{set}/{metric}` of `evaluation`, the higher the better: the model that was
            best in it is kept in `best`, beside the last one.
        on_save_error: What to do when a checkpoint cannot be written: `raise` ends the run, `warn`
            goes on.
        num_pictures: Images per prediction grid.
        push_to_hub: Repository (`org/name`) on the Hub to which the final model goes, with code and
            card.
        hub_private: Whether that repository is made private.
        hub_license: License of the published weights, as the Hub writes it, e.g. `cc-by-4.0`.
            Required with `push_to_hub`, but for models of the drawn scenes alone (`apache-2.0`).
        dry_run: Build everything, train two steps on each dataset, evaluate on a few images, say
            how long and how large the run would be, and leave nothing behind.
        resume: `latest` or the path of a checkpoint of the run in `output_dir`.
    """

    output_dir: str
    datasets: dict[str, TrainEntry]
    text_encoder: dict[str, Any] | None = None
    evaluation: dict[str, EvalEntry] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    default_vocabulary: str | None = None
    model_weights: str | None = None
    backbone_weights: str | None = None
    mask2former_weights: str | None = None
    mask2former_classifier: bool = True
    freeze_backbone: bool = False
    gradient_checkpointing: bool = False
    torch_compile: str | None = None
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    size_temperature: float | None = None
    every_dataset_in_a_step: bool = False
    on_bad_sample: Literal["raise", "skip"] = "raise"
    check_samples: int = 32
    seed: int = 0
    max_steps: Duration = 1000
    max_minutes: float | None = None
    learning_rate: float = 1e-4
    backbone_lr_factor: float = 1.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05
    warmup_steps: Duration = 50
    schedule: Literal["cosine", "linear", "poly", "constant"] = "cosine"
    max_grad_norm: float = 1.0
    color_affinity_ramp: float = 0.3
    ema_decay: float = 0.0
    gradient_accumulation_steps: int = 1
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    num_workers: int = 0
    num_threads: int | None = None
    log_every: int = 50
    report_to: list[str] = field(default_factory=list)
    evaluate_every: Duration = 0
    checkpoint_every: Duration = 0
    keep_checkpoints: int = 2
    best_metric: str | None = None
    on_save_error: Literal["raise", "warn"] = "raise"
    num_pictures: int = 6
    push_to_hub: str | None = None
    hub_private: bool = False
    hub_license: str | None = None
    dry_run: bool = False
    resume: str | None = None

    def __post_init__(self) -> None:
        _require(self.output_dir.strip() != "", "output_dir: is empty; name a folder")
        _require(len(self.datasets) > 0, "datasets: the mix is empty")
        for name in (
            "max_steps",
            "learning_rate",
            "max_grad_norm",
            "log_every",
            "keep_checkpoints",
            "gradient_accumulation_steps",
        ):
            value = getattr(self, name)
            _require(isinstance(value, str) or value > 0, f"{name}: must be positive, not {value}")
        for name in ("max_minutes", "num_threads"):
            value = getattr(self, name)
            _require(
                value is None or value > 0,
                f"{name}: must be positive, not {value}; leave it out for no limit",
            )
        for name in (
            "warmup_steps",
            "weight_decay",
            "evaluate_every",
            "checkpoint_every",
            "num_workers",
            "check_samples",
            "seed",
            "num_pictures",
            "backbone_lr_factor",
        ):
            value = getattr(self, name)
            _require(
                isinstance(value, str) or value >= 0, f"{name}: must not be negative, not {value}"
            )
        _require(
            all(0 <= beta < 1 for beta in self.adam_betas),
            f"adam_betas: must be in [0, 1), not {self.adam_betas}",
        )
        _require(
            all(std > 0 for std in self.image_std),
            f"image_std: must be positive, not {self.image_std}",
        )
        _require(0 <= self.ema_decay < 1, f"ema_decay: must be in [0, 1), not {self.ema_decay}")
        _require(
            0 <= self.color_affinity_ramp <= 1,
            f"color_affinity_ramp: must be in 0..1, not {self.color_affinity_ramp}",
        )
        self._check_durations()
        self._check_start()
        from ..model.configuration_dataseg import DaTaSegConfig  # with torch, after `--help`

        known = sorted(DaTaSegConfig.__annotations__)
        for name in sorted(set(self.model) - set(known)):
            raise ConfigError(f"model.{name}: unknown option; allowed are {known}")
        for name, member in self.datasets.items():
            member.check(f"datasets.{name}")
        _check_shares(self.datasets, self.size_temperature)
        self._share_value_range()
        for name, entry in self.evaluation.items():
            entry.check(f"evaluation.{name}")
            _require(
                entry.vocabulary is None or entry.vocabulary in self.datasets,
                f"evaluation.{name}.vocabulary: '{entry.vocabulary}' is no entry of datasets "
                f"{sorted(self.datasets)}",
            )
            for part in ("dataset_classifiers", "dataset_decoders"):
                _require(
                    entry.vocabulary is not None or not self.model.get(part),
                    f"evaluation.{name}.vocabulary: is required with model.{part}, whose model "
                    "knows the names of "
                    f"{sorted(self.datasets)} only",
                )
        _require(
            self.default_vocabulary is None or self.default_vocabulary in self.datasets,
            f"default_vocabulary: '{self.default_vocabulary}' is no entry of datasets "
            f"{sorted(self.datasets)}",
        )

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The one value range that entries of the mix state."""
        return next(
            (
                entry.value_range
                for entry in self.datasets.values()
                if entry.value_range is not None
            ),
            None,
        )

    def _share_value_range(self) -> None:
        """Refuse two value ranges in a mix; entries without one get that of the others."""
        shared = self.value_range
        for name, entry in self.datasets.items():
            _require(
                entry.value_range in (None, shared),
                f"datasets.{name}.value_range: is {entry.value_range}, but another entry's is "
                f"{shared}; the image "
                "processor knows one: leave out both, or convert the images to 8 bits",
            )
        for field_name in ("datasets", "evaluation"):
            entries = {
                name: with_default_range(entry, shared)
                for name, entry in getattr(self, field_name).items()
            }
            object.__setattr__(self, field_name, entries)  # the class is frozen

    def _check_durations(self) -> None:
        """Refuse what is not written as a duration, and epochs of a dataset that is not in
        the mix.
        """
        named: dict[str, Duration | None] = {
            name: getattr(self, name)
            for name in ("max_steps", "warmup_steps", "evaluate_every", "checkpoint_every")
        }
        named |= {
            f"evaluation.{name}.every": entry.every for name, entry in self.evaluation.items()
        }
        for key, duration in named.items():
            if duration is None:
                continue
            try:
                parsed = parse_duration(duration)
            except ValueError as error:
                raise ConfigError(f"{key}: {error}") from error
            dataset = parsed.dataset
            _require(
                key != "max_steps" or parsed.amount > 0,
                f"{key}: must be positive, not '{duration}'",
            )
            _require(
                dataset is None or dataset in self.datasets,
                f"{key}: '{dataset}' is no entry of datasets {sorted(self.datasets)}",
            )

    def _check_start(self) -> None:
        """Refuse two starting points, and a start without a text encoder; a best metric of no
        held-out set.
        """
        starts = ["model_weights", "backbone_weights", "mask2former_weights"]
        given = [name for name in starts if getattr(self, name) is not None]
        _require(len(given) < 2, f"{' and '.join(given)}: give one; each of them holds a backbone")
        _require(
            self.text_encoder is not None or self.model_weights is not None,
            "text_encoder: is required, unless model_weights names a checkpoint that remembers its "
            "own",
        )
        if self.best_metric is not None:
            held_out = self.best_metric.rpartition("/")[0]
            _require(
                held_out in self.evaluation,
                f"best_metric: '{self.best_metric}' must be SET/METRIC with a set of "
                f"{sorted(self.evaluation)}",
            )


def with_default_range(entry: AnySource, value_range: tuple[float, float] | None) -> AnySource:
    """The entry with that value range, unless it states one."""
    return entry if entry.value_range is not None else replace(entry, value_range=value_range)


def _check_shares(datasets: Mapping[str, TrainEntry], size_temperature: float | None) -> None:
    """Refuse a mix whose shares are said in two ways, or whose probabilities do not add up."""
    with_ratio = [name for name, entry in datasets.items() if entry.ratio is not None]
    with_probability = [name for name, entry in datasets.items() if entry.probability is not None]
    if size_temperature is not None:
        _require(
            size_temperature > 0, f"size_temperature: must be positive, not {size_temperature}"
        )
        for name in with_ratio + with_probability:
            raise ConfigError(
                f"datasets.{name}: has a share, but size_temperature sets the shares; drop one"
            )
    if with_probability:
        for name in with_ratio:
            raise ConfigError(
                f"datasets.{name}.ratio: other entries give a probability; give all entries one "
                "kind"
            )
        for name in sorted(set(datasets) - set(with_probability)):
            raise ConfigError(
                f"datasets.{name}: has no probability, but other entries have; give all of them one"
            )
        total = sum(entry.probability or 0.0 for entry in datasets.values())
        _require(
            abs(total - 1) < 1e-6,
            f"datasets: the probabilities add up to {total:g}, not 1; correct them, or use `ratio`",
        )


def parse_run_config(arguments: Sequence[str], default_config: str | Path) -> RunConfig:
    """Settings from `--config FILE` (YAML; else `default_config`) and `--key value` or `--outer.key
    value` overrides.

    Raises:
        ConfigError: in one line, with the key, for an unknown or impossible setting, or a missing
            file.
    """
    parser = ArgumentParser(
        exit_on_error=False, description="Train one DaTaSeg model on a mix of datasets."
    )
    parser.add_argument("--config", action="config", help=f"YAML file; default {default_config}")
    parser.add_class_arguments(RunConfig, nested_key=None)
    named = config_files(arguments)
    if not named:
        arguments = ["--config", str(default_config), *arguments]
    settings = {file: read_settings(file) for file in named or [str(default_config)]}
    try:
        parsed = parser.instantiate(parser.parse_args(list(arguments)))
    except (ArgumentError, TypeError) as error:
        for file, written in settings.items():
            for problem in wrong_types(written, RunConfig, ""):
                raise ConfigError(f"{file}: {problem}") from error
        raise ConfigError(" ".join(str(error).split())) from error
    return RunConfig(**{f.name: parsed[f.name] for f in fields(RunConfig)})


def config_files(arguments: Sequence[str]) -> list[str]:
    """Files that the command line names by `--config FILE` or `--config=FILE`."""
    files = [
        argument.partition("=")[2] for argument in arguments if argument.startswith("--config=")
    ]
    return files + [value for flag, value in pairwise(arguments) if flag == "--config"]


def read_settings(file: str) -> Mapping[str, Any]:
    """The settings in a YAML file; ConfigError for keys that no run has, by their full path (the
    parser names only its last part).
    """
    try:
        settings = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config: cannot read '{file}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config: '{file}' is no text in UTF-8; save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--config: '{file}' is no valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(settings, Mapping):
        raise ConfigError(f"--config: '{file}' must hold a mapping of settings")
    for problem in _problems(settings, RunConfig, ""):
        raise ConfigError(f"{file}: {problem}")
    return settings


def _problems(settings: Mapping[str, Any], kind: type, path: str) -> Iterator[str]:
    """What is wrong with the keys of a mapping that stands for a settings class, and of those
    inside it.
    """
    hints = {f.name: get_type_hints(kind)[f.name] for f in fields(kind)}
    for missing in sorted(
        f.name for f in fields(kind) if path and f.default is f.default_factory is MISSING
    ):
        if missing not in settings:
            yield f"{path}{missing}: is required"
    for key, value in settings.items():
        hint = hints.get(key)
        if hint is None:
            yield f"{path}{key}: unknown option; allowed are {sorted(hints)}"
        else:
            yield from _value_problems(value, hint, f"{path}{key}")


def _value_problems(value: Any, hint: Any, path: str) -> Iterator[str]:
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint]
    allowed = [get_args(kind) for kind in choices if get_origin(kind) is Literal]
    if allowed and value is not None and value not in allowed[0]:
        yield f"{path}: '{value}' is not allowed; choose from {list(allowed[0])}"
    for here, (entry, kind) in _nested(value, hint, path).items():
        if isinstance(entry, Mapping):
            yield from _problems(entry, kind, f"{here}.")
        else:
            yield f"{here}: must be a mapping of settings"


def _nested(value: Any, hint: Any, path: str) -> dict[str, tuple[Any, type]]:
    """The members of a value that stand for settings classes, and those classes, by their
    full key.
    """
    kind = next((kind for kind in get_args(hint) if is_dataclass(kind)), None)
    if not isinstance(kind, type):
        return {}
    if get_origin(hint) is dict and isinstance(value, Mapping):
        return {f"{path}.{name}": (entry, kind) for name, entry in value.items()}
    if get_origin(hint) is list and isinstance(value, Sequence) and not isinstance(value, str):
        return {f"{path}.{number}": (entry, kind) for number, entry in enumerate(value)}
    return {path: (value, kind)} if isinstance(value, Mapping) else {}


def wrong_types(settings: Mapping[str, Any], kind: type, path: str) -> Iterator[str]:
    """Values of known keys that are not of their type, by their full path, of which the parser
    names the last part.
    """
    hints = get_type_hints(kind)
    for key, value in settings.items():
        members = _nested(value, hints[key], f"{path}{key}")
        for here, (entry, nested_kind) in members.items():
            yield from wrong_types(entry, nested_kind, f"{here}.")
        if members:
            continue
        try:
            TypeAdapter(hints[key]).validate_python(value)
        except ValidationError as error:
            yield f"{path}{key}: {value!r} cannot be used: {error.errors()[0]['msg']}"


def paths_read(
    sources: Mapping[str, Source],
    text_encoder: Mapping[str, Any] | None,
    models: Mapping[str, str | None],
) -> dict[str, str]:
    """What settings may name on this machine, expanded, by key: of data, text embeddings and
    models.
    """
    named: dict[str, Any] = {"text_encoder": text_encoder, **models}
    for key, source in sources.items():
        for name in ("images", "annotations", "annotation_file", "options"):
            named[f"{key}.{name}"] = getattr(source, name)
    return {key: os.path.expanduser(os.path.expandvars(text)) for key, text in _strings(named, "")}


def _strings(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """All strings in nested settings, with their keys."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _strings(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, Sequence):
        for number, inner in enumerate(value):
            yield from _strings(inner, f"{key}.{number}")


def expand(path: str, key: str) -> str:
    """A path with its environment variables and `~` expanded; ConfigError for a variable that is
    not set.
    """
    expanded = os.path.expanduser(os.path.expandvars(path))
    if "$" in expanded:
        raise ConfigError(f"{key}: '{path}' names an environment variable that is not set")
    return expanded
