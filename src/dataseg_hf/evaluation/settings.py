"""What an evaluation is told: typed options, and the held-out sets of a YAML file, refused where
impossible.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import Field

from ..errors import ConfigError
from ..prediction.annotation_files import (
    ANNOTATION_FORMATS,
    LOCAL_FILES,
    AnnotationFormat,
    Outlines,
)
from ..settings.base import EntryName, Settings
from ..settings.entries import EvalEntry, MetricName
from ..settings.parts import chosen_entries, read_part

ALL_METRICS = "all"
MIRROR_STRIDE = 32
"""Stride of the coarsest grid. On canvases of whole multiples the cells of a mirror image are those
of the image.
"""


@dataclass(frozen=True)
class EvaluationOptions:
    """How a model is evaluated, whatever it is evaluated on.

    Args:
        model: Folder of a checkpoint, or its id on the Hub.
        output_dir: Folder of the report; what an earlier evaluation left there is moved aside.
        datasets: Entries of `evaluation` to score; all of them by default.
        metrics: Instead of those of each entry; `all` is every metric that the truth of an entry
            allows.
        flip: Also show the model each image mirrored and join both (test-time augmentation).
        export: Write predictions and truth in COCO's formats.
        annotations: Formats for labeling tools in which the predicted objects are written, too.
        outlines: How those tell masks: `polygons` where they tell every pixel, or `masks` alone.
        image_url_prefix: Of the image addresses in Label Studio's files.
        gallery: Best and worst images to draw of each set; 0 for none.
        batch_size: Images at once, instead of that of each entry.
        max_dets: Best predictions per image and class that count for AP, instead of that of each
            entry.
        num_workers: Loading processes per process.
        num_threads: Threads of torch on the CPU; by default torch's own choice.
    """

    model: str
    output_dir: str = "outputs/evaluation"
    datasets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    flip: bool = False
    export: bool = False
    annotations: tuple[AnnotationFormat, ...] = ()
    outlines: Outlines = "polygons"
    image_url_prefix: str = LOCAL_FILES
    gallery: int = 4
    batch_size: int | None = None
    max_dets: int | None = None
    num_workers: int = 0
    num_threads: int | None = None

    def __post_init__(self) -> None:
        allowed = [*get_args(MetricName), ALL_METRICS]
        for name in self.metrics:
            if name not in allowed:
                raise ConfigError(f"--metrics: '{name}' is not allowed; choose from {allowed}")
        if ALL_METRICS in self.metrics and len(self.metrics) > 1:
            raise ConfigError(f"--metrics: '{ALL_METRICS}' includes the others; give it alone")
        for name in self.annotations:
            if name not in ANNOTATION_FORMATS:
                raise ConfigError(
                    f"--annotations: '{name}' is not allowed; choose from "
                    f"{list(ANNOTATION_FORMATS)}"
                )
        if self.outlines not in get_args(Outlines):
            raise ConfigError(
                f"--outlines: '{self.outlines}' is not allowed; choose from "
                f"{list(get_args(Outlines))}"
            )
        for option, least in (
            ("gallery", 0),
            ("batch_size", 1),
            ("max_dets", 11),
            ("num_workers", 0),
            ("num_threads", 1),
        ):
            value = getattr(self, option)
            if value is not None and value < least:
                raise ConfigError(f"--{option}: must be {least} or more, not {value}")


class HeldOutSettings(Settings):
    """The part of a run's settings that an evaluation reads; the others (mix, schedule, ...) belong
    to training.
    """

    evaluation: dict[EntryName, EvalEntry] = Field(default_factory=dict)
    """Held-out sets, by name. `vocabulary` names a vocabulary that is stored in the model."""
    text_encoder: dict[str, Any] | None = None
    """What embeds names, where an entry names no vocabulary and the model cannot embed by itself,
    because its own embeddings came out of files."""

    def entries(self, names: Sequence[str]) -> dict[str, EvalEntry]:
        """The entries of those names, all for none.

        Raises:
            ConfigError: for an unknown one, or nothing at all.
        """
        return chosen_entries(self.evaluation, names, "evaluation")


def read_held_out(
    file: str, overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> HeldOutSettings:
    """The held-out sets of a YAML file: the settings of a training run, or of an evaluation alone.

    Args:
        overrides: `--evaluation.NAME.key value`, as for training.
        options: what the command takes beside settings, for messages.

    Raises:
        ConfigError: a line for each unknown or impossible setting, with its key; or for a file that
            cannot be read.
    """
    return read_part(HeldOutSettings, file, overrides, options)
