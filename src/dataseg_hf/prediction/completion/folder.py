"""The folder of a completion: made, or gone on with where it belongs to the same model and data."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...files.output_folder import (
    ClaimedFolder,
    Reads,
    claim_output_folder,
    hold_output_folder,
    kind_of,
)
from ...files.writing import replace_file
from ...model.image_processing_dataseg import DaTaSegImageProcessor
from ...model.modeling_dataseg import DaTaSegModel
from ..teachers.loading import model_digest

KEY = "--output"
SETTINGS_FILE = "completion.json"


def open_completion(
    output: Path,
    reads: Reads,
    model: DaTaSegModel,
    processor: DaTaSegImageProcessor,
    settings: Mapping[str, Mapping[str, Any]],
) -> ClaimedFolder:
    """Make the folder, or go on with it.

    Args:
        output: where it lies, resolved.
        reads: what the command reads.
        model: with which the annotation is completed.
        processor: of the model.
        settings: of the entries of the datasets that are completed, by name.

    Raises:
        ConfigError: for a folder with other content, or completed with another model or from other
            settings of a dataset; the message names them.
    """
    if kind_of(output) == "completion":
        claimed = hold_output_folder(output, KEY)
    else:
        claimed = claim_output_folder(output, "completion", KEY, reads)
    try:
        _agree(claimed, model_digest(model, processor), settings)
    except BaseException:
        claimed.lock.release()
        raise
    return claimed


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """What is done within writes into a folder of the completion.

    Raises:
        ConfigError: where that cannot be done.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{KEY}: cannot write to '{folder}': {error}; mend that, and the same command goes on"
        ) from error


def _agree(claimed: ClaimedFolder, digest: str, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Note what decides the completion of each dataset.

    Raises:
        ConfigError: where it was begun otherwise.
    """
    file = claimed.path / SETTINGS_FILE
    earlier: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if earlier.get("model", digest) != digest:
        raise ConfigError(
            f"{KEY}: '{claimed.path}' was completed by another model; name another folder"
        )
    datasets = earlier.get("datasets", {})
    for name, given in json.loads(json.dumps(settings)).items():
        if datasets.setdefault(name, given) != given:
            raise ConfigError(
                f"{KEY}: '{claimed.path}' has '{name}' with other settings; name another folder, "
                f"or see {SETTINGS_FILE} there"
            )
    content = {"model": digest, "datasets": datasets}
    replace_file(file, json.dumps(content, indent=1) + "\n")


__all__ = ["KEY", "open_completion", "writing_into"]
