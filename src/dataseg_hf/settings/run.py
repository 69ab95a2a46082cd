"""What a training run is told."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from .base import (
    BatchSize,
    Decay,
    EntryName,
    Fraction,
    NonNegativeInteger,
    NonNegativeNumber,
    PositiveInteger,
    PositiveNumber,
    Processes,
    Seed,
    Settings,
    Temperature,
    Threads,
)
from .durations import Duration, PositiveDuration, parse_duration
from .entries import EvalEntry, TrainEntry, with_default_range
from .errors import unknown_key


class RunConfig(Settings):
    """Everything a co-training run is told.

    A duration is a number of steps, `"12 epochs of NAME"` (an entry of `datasets`) or
    `"90000 images"`; it becomes steps once, at the start. A name on the Hub may end in `@revision`.
    """

    output_dir: str
    """Folder of checkpoints, logs, pictures and the final model."""
    datasets: dict[EntryName, TrainEntry]
    """The mix, by name. The name is also that of the vocabulary stored in the model."""
    text_encoder: dict[str, Any] | None = None
    """What embeds the category names (see `build_text_encoder` and the page on text encoders).
    A file may say `names_of: SPEC` when its rows follow the classes of a dataset in the catalog.
    With `model_weights` it may be left out: the checkpoint's own encoder is then used."""
    evaluation: dict[EntryName, EvalEntry] = Field(default_factory=dict)
    """Held-out sets, by name. Their metrics are reported as `{name}/{metric}`."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Fields of `DaTaSegConfig`."""
    default_vocabulary: str | None = None
    """Entry of `datasets` that the saved model classifies by; the first by default."""
    model_weights: str | None = None
    """Folder or Hub id of a DaTaSeg checkpoint to start from (fine-tuning). Its vocabularies
    stay."""
    backbone_weights: str | None = None
    """Folder or Hub id of pretrained backbone weights to start from. `efficientnet-lite0` and
    `efficientnet-lite2` are in the extra `photos`; `image_mean` and `image_std` then default to
    theirs."""
    backbone_classifier: bool = False
    """Also start the linear part of `model.cell_classifier` from the classifier of
    `backbone_weights`, a MobileNetV2 with a DeepLab head (`segmentation_head: true` in
    `model.backbone_config`); the text encoder must embed its labels."""
    mask2former_weights: str | None = None
    """Folder or Hub id of a transformers Mask2Former to start from. `model` then holds only what
    differs from it. A run without any of the three weights trains from scratch."""
    mask2former_classifier: bool = True
    """Also start from the Mask2Former's classifier; the text encoder must embed its labels."""
    freeze_backbone: bool = False
    """Do not train the backbone."""
    linear_start: NonNegativeInteger = 0
    """Steps that fit the linear part of `model.cell_classifier` to the frozen backbone's features,
    before training; 0 starts it at random. 500 take half a minute on two cores."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    torch_compile: str | None = None
    """Backend of torch.compile for backbone, pixel decoder and query decoder, e.g. `inductor`."""
    image_mean: tuple[Fraction, Fraction, Fraction] = (0.485, 0.456, 0.406)
    """Mean of the pixel values in 0..1, per channel, for normalization."""
    image_std: tuple[PositiveNumber, PositiveNumber, PositiveNumber] = (0.229, 0.224, 0.225)
    """Standard deviation of the pixel values in 0..1, per channel, for normalization."""
    size_temperature: Temperature | None = None
    """Draw each dataset in proportion to (number of images) ** (1 / temperature), instead of by
    ratios. 1 is by size; higher values make the shares more equal."""
    every_dataset_in_a_step: bool = False
    """Train every step on a batch of each dataset, with the losses weighted by the shares, instead
    of on one dataset drawn by its share. A baseline."""
    on_bad_sample: Literal["raise", "skip"] = "raise"
    """What to do with an image that cannot be used. `raise` ends the run, `skip` takes another
    image of the dataset instead, counts and reports it."""
    check_samples: NonNegativeInteger = 32
    """Images of each dataset, evenly spaced, that are read before training starts."""
    seed: Seed = 0
    """Seed of initialization, order, augmentation and sampled points."""
    max_steps: PositiveDuration = 1000
    """Length of the schedule."""
    max_minutes: PositiveNumber | None = None
    """Stop after so many minutes of training, over all parts of a resumed run, then evaluate and
    save. If the steps will not be done by then, the learning rate comes down by the clock."""
    learning_rate: PositiveNumber = 1e-4
    """Peak learning rate."""
    backbone_lr_factor: NonNegativeNumber = 1.0
    """Factor of the learning rate for the backbone. 0 freezes it, which saves its backward pass."""
    adam_betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay rates of AdamW's two moments."""
    weight_decay: NonNegativeNumber = 0.05
    """Decay of weights. Norms, biases, embeddings of queries and the classifier's own parameters
    have none."""
    warmup_steps: Duration = 50
    """Length of the linear warm-up."""
    schedule: Literal["cosine", "linear", "poly", "constant"] = "cosine"
    """Decay of the learning rate to 0 (`poly` has power 0.9), or `constant`."""
    max_grad_norm: PositiveNumber = 1.0
    """Largest norm of the gradient; longer gradients are clipped."""
    color_affinity_ramp: Fraction = 0.3
    """Share of the steps over which the color-affinity loss grows from 0 to its weight."""
    ema_decay: Decay = 0.0
    """Decay of the averaged weights, which are evaluated and saved; 0 turns averaging off."""
    gradient_accumulation_steps: BatchSize = 1
    """Micro-batches per optimizer step."""
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """Precision of the computation. By default what `accelerate launch` says."""
    num_workers: Processes = 0
    """Loading processes per training process."""
    num_threads: Threads | None = None
    """Threads of torch on the CPU. By default torch's own choice; with a fixed number, a run
    repeats bit by bit."""
    log_every: PositiveInteger = 50
    """Steps between two lines of the log."""
    report_to: list[str] = Field(default_factory=list)
    """Trackers that Accelerate knows, e.g. `[tensorboard]`."""
    evaluate_every: Duration = 0
    """Interval of evaluations; 0 is only at the end."""
    checkpoint_every: Duration = 0
    """Interval of checkpoints; 0 is only at the end. Each evaluation is also preceded by one."""
    keep_checkpoints: PositiveInteger = 2
    """How many of the newest checkpoints are kept."""
    best_metric: str | None = None
    """`{set}/{metric}` of `evaluation`, higher is better. The model that was best in it is kept in
    the folder `best`, beside the last one."""
    on_save_error: Literal["raise", "warn"] = "raise"
    """What to do when a checkpoint cannot be written. `raise` ends the run, `warn` goes on."""
    num_pictures: NonNegativeInteger = 6
    """Images per prediction grid; 0 draws none."""
    push_to_hub: str | None = None
    """Repository (`org/name`) on the Hub to which the final model goes, with code and card."""
    hub_private: bool = False
    """Make that repository private."""
    hub_license: str | None = None
    """License of the published weights, as the Hub writes it, e.g. `cc-by-4.0`. Required with
    `push_to_hub`, but for models of the drawn scenes alone (`apache-2.0`)."""
    dry_run: bool = False
    """Build everything, train two steps on each dataset, evaluate on a few images, say how long and
    how large the run would be, and leave nothing behind."""
    resume: str | None = None
    """Checkpoint of the run in `output_dir` to go on from, as a path, or `latest`."""

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The one value range that entries of the mix state."""
        stated = (entry.value_range for entry in self.datasets.values())
        return next((given for given in stated if given is not None), None)

    @model_validator(mode="before")
    @classmethod
    def _normalize_for_backbone(cls, settings: Any) -> Any:
        """Unless given, mean and deviation are those that the backbone was trained with."""
        name = settings.get("backbone_weights") if isinstance(settings, Mapping) else None
        return {**backbone_normalization(name), **settings} if isinstance(name, str) else settings

    @field_validator("output_dir")
    @classmethod
    def _check_output_dir(cls, folder: str) -> str:
        _require(folder.strip() != "", "is empty; name a folder")
        return folder

    @field_validator("datasets")
    @classmethod
    def _check_mix(cls, datasets: dict[str, TrainEntry]) -> dict[str, TrainEntry]:
        _require(len(datasets) > 0, "the mix is empty; add an entry")
        return datasets

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: dict[str, Any]) -> dict[str, Any]:
        from ..model.configuration_dataseg import DaTaSegConfig  # with torch, after `--help`

        for name in sorted(set(model) - set(DaTaSegConfig.__annotations__)):
            # The message names its own key, as a validator of a field cannot name a part of it.
            raise ValueError(f".{name}: {unknown_key(name, DaTaSegConfig.__annotations__)}")
        return model

    @model_validator(mode="after")
    def _check_together(self) -> "RunConfig":
        check_durations(self)
        check_starting_point(self)
        check_shares(self.datasets, self.size_temperature)
        check_vocabularies(self)
        check_loss_weights(self.datasets)
        self._share_value_range()
        return self

    def _share_value_range(self) -> None:
        """Refuse two value ranges in a mix; entries without one get that of the others."""
        shared = self.value_range
        for name, entry in self.datasets.items():
            _require(
                entry.value_range in (None, shared),
                f"datasets.{name}.value_range: is {entry.value_range}, but another entry's is "
                f"{shared}; the image processor knows one: leave out both, or convert the images "
                "to 8 bits",
            )
        self.datasets.update(
            {name: with_default_range(entry, shared) for name, entry in self.datasets.items()}
        )
        self.evaluation.update(
            {name: with_default_range(entry, shared) for name, entry in self.evaluation.items()}
        )


def backbone_normalization(weights: str) -> dict[str, tuple[float, float, float]]:
    """`image_mean` and `image_std` of backbone weights that need others than the defaults."""
    # with torch, after `--help`
    from ..model.configuration_efficientnet_lite_dataseg import IMAGE_MEAN, IMAGE_STD
    from ..model.efficientnet_lite_weights_dataseg import lite_size

    if lite_size(weights) is None:
        return {}
    return {"image_mean": IMAGE_MEAN, "image_std": IMAGE_STD}


# --- settings that must fit each other ------------------------------------------------------------


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def check_durations(config: RunConfig) -> None:
    """Check that durations in epochs name datasets of the mix.

    Raises:
        ValueError: for a dataset that is not in it.
    """
    names = ("max_steps", "warmup_steps", "evaluate_every", "checkpoint_every")
    durations = {name: getattr(config, name) for name in names}
    durations |= {f"evaluation.{name}.every": e.every for name, e in config.evaluation.items()}
    for key, duration in durations.items():
        dataset = None if duration is None else parse_duration(duration).dataset
        _require(
            dataset is None or dataset in config.datasets,
            f"{key}: '{dataset}' is no entry of datasets {sorted(config.datasets)}",
        )


def check_starting_point(config: RunConfig) -> None:
    """Check what a run starts from.

    Raises:
        ValueError: for two starting points, a start without a text encoder, and a best metric of no
            held-out set.
    """
    starts = ["model_weights", "backbone_weights", "mask2former_weights"]
    given = [name for name in starts if getattr(config, name) is not None]
    _require(len(given) < 2, f"{' and '.join(given)}: give one; each of them holds a backbone")
    _require(
        not config.backbone_classifier or config.backbone_weights is not None,
        "backbone_classifier: needs backbone_weights, whose classifier it takes",
    )
    _require(
        not (config.backbone_classifier and config.linear_start),
        "backbone_classifier and linear_start: give one; both set the cells' linear part",
    )
    _require(
        config.text_encoder is not None or config.model_weights is not None,
        "text_encoder: is required, unless model_weights names a checkpoint that remembers its own",
    )
    held_out = (config.best_metric or "").rpartition("/")[0]
    _require(
        config.best_metric is None or held_out in config.evaluation,
        f"best_metric: '{config.best_metric}' must be SET/METRIC with a set of "
        f"{sorted(config.evaluation)}",
    )


def check_shares(datasets: Mapping[str, TrainEntry], size_temperature: float | None) -> None:
    """Check the shares of a mix.

    Raises:
        ValueError: for shares that are given in two ways, or probabilities that do not add up to 1.
    """
    with_ratio = [name for name, entry in datasets.items() if entry.ratio is not None]
    with_probability = [name for name, entry in datasets.items() if entry.probability is not None]
    if size_temperature is not None:
        for name in with_ratio + with_probability:
            raise ValueError(
                f"datasets.{name}: has a share, but size_temperature sets the shares; drop one"
            )
    if not with_probability:
        return
    for name in with_ratio:
        raise ValueError(
            f"datasets.{name}.ratio: other entries give a probability; give all entries one kind"
        )
    for name in sorted(set(datasets) - set(with_probability)):
        raise ValueError(
            f"datasets.{name}: has no probability, but other entries have; give all of them one"
        )
    total = sum(entry.probability or 0.0 for entry in datasets.values())
    _require(
        abs(total - 1) < 1e-6,
        f"datasets: the probabilities add up to {total:g}, not 1; correct them, or use `ratio`",
    )


def check_loss_weights(datasets: Mapping[str, TrainEntry]) -> None:
    """Check that the loss weights of entries are of loss terms.

    Raises:
        ValueError: for another one.
    """
    if not any(entry.loss_weights for entry in datasets.values()):
        return
    from ..model.supervision_dataseg import LOSS_TERMS  # with torch, after `--help`

    for name, entry in datasets.items():
        for term in sorted(set(entry.loss_weights) - set(LOSS_TERMS)):
            key = f"datasets.{name}.loss_weights.{term[:80]}"
            raise ValueError(f"{key}: {unknown_key(term[:80], LOSS_TERMS)}")


def check_vocabularies(config: RunConfig) -> None:
    """Check the vocabularies that settings name.

    Raises:
        ValueError: for one that is not in the mix, or is missing where a model needs one.
    """
    known = sorted(config.datasets)
    named = {"default_vocabulary": config.default_vocabulary}
    named |= {
        f"evaluation.{name}.vocabulary": e.vocabulary for name, e in config.evaluation.items()
    }
    for key, vocabulary in named.items():
        _require(
            vocabulary is None or vocabulary in known,
            f"{key}: '{vocabulary}' is no entry of datasets {known}",
        )
    for name, entry in config.evaluation.items():
        for part in ("dataset_classifiers", "dataset_decoders"):
            _require(
                entry.vocabulary is not None or not config.model.get(part),
                f"evaluation.{name}.vocabulary: is required with model.{part}, whose model knows "
                f"the names of {known} only",
            )
