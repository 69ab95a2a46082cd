"""What goes to the experiment trackers that a run names (`report_to`), through Accelerate."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from PIL import Image

from ..errors import ConfigError
from ..settings.run import RunConfig

PROJECT = "dataseg"  # name of the project, and of the folder of TensorBoard's files


def check_trackers(names: Sequence[str]) -> None:
    """Check that Accelerate has the trackers, as it would leave others out.

    Raises:
        ConfigError: for a tracker that it does not know or that is not installed.
    """
    available = sorted(str(tracker.value) for tracker in get_available_trackers())
    for name in names:
        if name not in available:
            raise ConfigError(
                f"report_to: '{name}' is not installed or not known to Accelerate; found are "
                f"{available}"
            )


def start_trackers(accelerator: Accelerator, config: RunConfig, summary: Mapping[str, Any]) -> None:
    """Open the trackers with the summary of the run; all of its settings stand in its
    `run_config.yaml`.
    """
    plain = {key: value for key, value in summary.items() if isinstance(value, (int, float, str))}
    accelerator.init_trackers(
        PROJECT, config={**plain, "learning_rate": config.learning_rate, "seed": config.seed}
    )


def log_metrics(accelerator: Accelerator, results: Mapping[str, float], step: int) -> None:
    """Metrics of an evaluation; those that are not defined (no such object in the set) are left
    out.
    """
    accelerator.log(
        {f"eval/{key}": value for key, value in results.items() if not np.isnan(value)}, step=step
    )


def log_picture(accelerator: Accelerator, name: str, picture: Image.Image, step: int) -> None:
    """A grid of predictions, to the trackers that take pictures."""
    pixels = np.asarray(picture.convert("RGB"))[None]
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.log_images({f"predictions/{name}": pixels}, step=step, dataformats="NHWC")
        elif tracker.name == "wandb":
            tracker.log_images({f"predictions/{name}": pixels}, step=step)
