"""The IoU of each class that a trained model reaches, to compare a probe with."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data.collate import Normalization
from ..errors import ConfigError
from ..settings.entries import with_default_range
from ..settings.run import RunConfig
from ..sharing.checkpoint import load_checkpoint
from .inference import Inference
from .run import evaluation_set
from .scoring import Processes, score
from .settings import EvaluationOptions, HeldOutSettings

LOG = logging.getLogger(__name__)


def model_ious(
    model: str, config: RunConfig, names: Sequence[str]
) -> Mapping[str, Mapping[str, float]]:
    """IoU by held-out set and class.

    Args:
        model: folder or Hub id of a checkpoint, which is scored here, or the `results.json` of its
            evaluation.
        config: settings of the run that has the held-out sets.
        names: of these sets.

    Raises:
        ConfigError: for a checkpoint or file that cannot be used.
    """
    if model.endswith(".json"):
        return _read(Path(model), names)
    trained, processor = load_checkpoint(model)
    options = EvaluationOptions(model=model, metrics=("miou",))
    settings = HeldOutSettings(evaluation=config.evaluation, text_encoder=config.text_encoder)
    inference = Inference(Normalization(processor.image_mean, processor.image_std))
    found = {}
    for name in names:
        entry = with_default_range(config.evaluation[name], processor.value_range)
        eval_set = evaluation_set(name, entry, options, settings, trained)
        per_class = score(trained, eval_set, inference, Processes()).metrics["miou"]["per_class"]
        found[name] = {label: values["iou"] for label, values in per_class.items()}
    return found


def _read(file: Path, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """What an evaluation wrote; sets that it did not score by mean IoU are left out."""
    try:
        per_class = json.loads(file.read_text(encoding="utf-8"))["per_class"]
        found = {
            name: {
                label: math.nan if values["iou"] is None else values["iou"]
                for label, values in per_class[name]["miou"].items()
            }
            for name in names
            if "miou" in per_class.get(name, {})
        }
    except OSError as error:
        raise ConfigError(f"--model: cannot read '{file}': {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"--model: '{file}' has no scores by class; name the results.json of dataseg evaluate"
        ) from error
    return found
