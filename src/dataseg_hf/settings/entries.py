"""Settings of one dataset: where it comes from, and how a run trains or is scored on it."""

from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from annotated_types import Gt, MinLen
from pydantic import Discriminator, Field, Tag, field_validator

from ..data.corruptions import Corruption
from ..data.sample import Coverage, TaskName
from ..model.image_reading_dataseg import check_value_range
from .base import (
    BatchSize,
    CanvasSide,
    EntryName,
    Fraction,
    Integer,
    NonNegativeInteger,
    NonNegativeNumber,
    Number,
    PositiveInteger,
    PositiveNumber,
    RawId,
    Scale,
    Settings,
)
from .durations import Duration

MetricName: TypeAlias = Literal["pq", "miou", "mask_ap", "box_ap"]
GROUPS_OF_METRICS = ("things", "stuff", "small", "medium", "large")
"""Parts of the classes or objects of which some metric is given in any case."""


class ClassSettings(Settings):
    """One class of a dataset that the catalog does not know."""

    name: str
    """The class's name, as the text encoder reads it."""
    ids: list[RawId] = Field(default_factory=list)
    """Raw ids in the annotation that mean this class. By default the name itself, for formats that
    write words."""
    thing: bool = False
    """Whether the class is countable."""
    aliases: list[str] = Field(default_factory=list)
    """Other names that the files use for this class. Files with a name that is neither the class's
    name nor an alias are refused."""
    exhaustive: bool = True
    """Whether an image shows none of this class where none is annotated. If false, a prediction of
    it that meets no annotation is not taught to be background."""


class SpecSettings(Settings):
    """A dataset that the catalog does not know (see `data.sample.DatasetSpec`)."""

    task: TaskName
    """Kind of its annotation."""
    classes: list[ClassSettings]
    """Classes, in the order of their indices."""
    void_ids: list[RawId] = Field(default_factory=list)
    """Raw ids that mean "unlabeled"."""
    name: str = "custom"
    """Name of the dataset, for messages and the model card."""
    license: str = "unknown"
    """License of the dataset, for the model card."""
    homepage: str = ""
    """Address of the dataset, for the model card."""
    annotated: Coverage = "everything"
    """What was annotated, see the setting of that name of an entry of `datasets`."""


def _name_or_own(value: Any) -> str:
    return "own" if isinstance(value, dict | SpecSettings) else "name"


class Source(Settings):
    """Where a dataset comes from."""

    # The discriminator reports the errors of one of the two kinds, not of both.
    spec: Annotated[
        Annotated[str, Tag("name")] | Annotated[SpecSettings, Tag("own")],
        Discriminator(_name_or_own),
    ]
    """Name of a dataset in the catalog or of a set of the shapes world, or the task and classes of
    your own dataset."""
    reader: str | None = None
    """Format of the files, one of `data.readers.READERS`, or `shapes`.
    `package.module:function` names your own reader. By default the format that the catalog
    names."""
    images: str | None = None
    """Folder of the images. Environment variables in paths are expanded."""
    annotations: str | None = None
    """Folder of the annotations."""
    annotation_file: str | None = None
    """JSON file of the annotations, for `coco_panoptic` and `coco_instances`."""
    missing_images: Literal["error", "skip"] | None = None
    """Whether listed images that are absent are an error or left out. By default an error, or what
    the catalog says."""
    unknown_ids: Literal["error", "void"] = "error"
    """Whether category ids that the spec does not name are an error or void."""
    outside: Literal["error", "clip"] = "error"
    """Whether boxes and outlines that reach far beyond their image are an error or clipped."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further keyword arguments of the reader,
    e.g. `{image_suffix: .png}`."""
    category_map: dict[str, str | None] = Field(default_factory=dict)
    """New names by class name. Renames a class, merges several into one, or makes a class
    unlabeled (null)."""
    part: tuple[Integer, Integer] | None = None
    """`[k, n]` takes every n-th image, starting at the k-th, for disjoint parts."""
    split: Literal["train", "eval"] = "train"
    """Split of the shapes world."""
    count: NonNegativeInteger | None = None
    """Number of scenes of the shapes world."""
    seed: Integer = 0
    """Seed of the shapes world."""
    max_samples: PositiveInteger | None = None
    """Take only the first images, so many of them."""
    value_range: tuple[Number, Number] | None = None
    """`[low, high]`, the values that become black and white in images of more than 8 bits. By
    default what the file says of its depth, else the range of each image. It is saved in the image
    processor, so a mix has one range, which entries without one take over."""

    @field_validator("part")
    @classmethod
    def _check_part(cls, part: tuple[int, int] | None) -> tuple[int, int] | None:
        if part is not None and not 0 <= part[0] < part[1]:
            raise ValueError(f"must be [k, n] with 0 <= k < n, not {list(part)}")
        return part

    @field_validator("value_range")
    @classmethod
    def _check_value_range(cls, given: tuple[float, float] | None) -> tuple[float, float] | None:
        try:
            return given if given is None else check_value_range(given)
        except ValueError as error:
            raise ValueError(str(error).removeprefix("value_range: ")) from error


class TrainEntry(Source):
    """A dataset of the mix: its source, and how the run trains on it. `spec` may be left out where
    `completed` names a set."""

    completed: str | None = None
    """Folder of one set that `dataseg complete` wrote, `OUTPUT/NAME`. Its `dataset.yaml` states the
    source, as far as the entry does not. The score of each mask that was made for a box, point or
    tag weighs its losses (option `score_weights` of the reader)."""
    annotated: Coverage | None = None
    """What an image may show outside of the annotated objects. With `everything`, nothing that the
    mix names; with `objects`, the stuff of its other sets, which a proposal may then be instead of
    background. By default what the spec says, else `everything`."""
    ratio: PositiveNumber | None = None
    """Share of the steps, relative to the other datasets' ratios; 1 by default."""
    probability: PositiveNumber | None = None
    """Share of the steps, instead of a ratio; all probabilities add up to 1."""
    batch_size: BatchSize = 8
    """Images per optimizer step, over all processes and accumulation steps."""
    image_size: CanvasSide = 640
    """Side of the square canvas in pixels."""
    scale_range: tuple[Scale, Scale] = (1.0, 1.0)
    """Random scale of an image relative to the canvas, from the first to the second number."""
    horizontal_flip: Fraction = 0.5
    """Probability of mirroring an image."""
    color_jitter: Fraction = 0.0
    """Largest random change of brightness, contrast and saturation; 0 turns it off."""
    loss_weights: dict[str, NonNegativeNumber] = Field(default_factory=dict)
    """Loss weights for this dataset, in place of the model's."""
    split_things: bool = False
    """Make each connected part of a thing class a target of its own (semantic annotation)."""
    reduced_decoding: bool = True
    """Decode JPEGs at a half, a quarter or an eighth of their size, where that is no less than the
    largest size that `image_size` and `scale_range` ask for. Photographs of 12 megapixels load two
    to three times as fast, and their pixels change by less than one of 255 gray levels in the
    mean."""
    keep_in_memory: bool = False
    """Keep decoded images in memory; for small sets."""

    @field_validator("scale_range")
    @classmethod
    def _check_scale_range(cls, given: tuple[float, float]) -> tuple[float, float]:
        if not 0 < given[0] <= given[1]:
            raise ValueError(f"must be [low, high] with 0 < low <= high, not {list(given)}")
        return given


class EvalEntry(Source):
    """A held-out set: its source, and what is measured on it."""

    vocabulary: str | None = None
    """Entry of `datasets` whose vocabulary the set is scored in. By default the set's own names are
    embedded, so that words that no training saw (open vocabulary) can be scored."""
    metrics: Annotated[tuple[MetricName, ...], MinLen(1)] = ("pq",)
    """What is measured. `pq` needs panoptic truth, `miou` panoptic or semantic, `mask_ap` masks or
    panoptic, `box_ap` anything but semantic."""
    batch_size: BatchSize = 8
    """Images scored at once."""
    image_size: CanvasSide = 640
    """Side of the canvas in pixels, to which the longer side of an image is resized."""
    shortest_edge: CanvasSide | None = None
    """Resize the shorter side to so many pixels instead, unless the longer side then leaves the
    canvas."""
    threshold: Fraction = 0.5
    """Least class probability of a panoptic segment."""
    overlap_threshold: Fraction = 0.8
    """Least share of its own mask that a panoptic segment keeps."""
    max_dets: Annotated[Integer, Gt(10)] = 100
    """Best predictions per image and class that count for `mask_ap` and `box_ap`. Take more than
    100 where images hold more objects of a class (cells, solar panels)."""
    class_groups: dict[EntryName, Annotated[list[str], MinLen(1)]] = Field(default_factory=dict)
    """Names of classes by group. Each metric is also given for these classes alone (`pq_novel`).
    LVIS's files state the groups `rare`, `common` and `frequent`,
    e.g. `{novel: [cat, dog]}`."""
    every: Duration | None = None
    """Interval of the set's evaluation, in place of the run's `evaluate_every`."""
    corruption: Corruption | None = None
    """Corrupt the images, in a kind and with a strength from 1 to 3,
    e.g. `{kind: noise, strength: 2}`. Kinds are `noise`, `blur`, `contrast` and `jpeg`."""

    @field_validator("class_groups")
    @classmethod
    def _check_class_groups(cls, given: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, labels in given.items():
            if len(set(labels)) < len(labels):
                raise ValueError(f"{name!r} names a class twice")
        taken = sorted(set(given) & set(GROUPS_OF_METRICS))
        if taken:
            raise ValueError(
                f"{taken[0]!r} stands for something else in `pq_{taken[0]}` or the like; rename it"
            )
        return given


AnySource = TypeVar("AnySource", bound=Source)
"""An entry of the mix or a held-out set."""


def with_default_range(entry: AnySource, value_range: tuple[float, float] | None) -> AnySource:
    """The entry with that value range, unless it states one."""
    if entry.value_range is not None:
        return entry
    return entry.model_copy(update={"value_range": value_range})
