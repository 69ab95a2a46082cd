"""What the tests of commands need that let a model look at a mix: a model, a config, a line."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from dataseg_hf.sharing.checkpoint import save_checkpoint
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor


def saved_model(folder: Path) -> Path:
    """A small untrained model in a folder."""
    save_checkpoint(checkpoint_model(), checkpoint_processor(), folder)
    return folder


def shapes_config(folder: Path, names: Iterable[str], count: int, **options: Any) -> Path:
    """A config with sets of the shapes world, so many scenes each; `options` of the reader, by
    name of the set.
    """
    common = {"reader": "shapes", "count": count, "image_size": 64}
    datasets = {name: {"spec": name, **common, "options": options.get(name, {})} for name in names}
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump({"datasets": datasets}))
    return file


def command(model: Path, config: Path, output: Path, *more: str) -> list[str]:
    """Arguments of a command."""
    places = ["--model", str(model), "--config", str(config), "--output", str(output)]
    return [*places, "--batch_size", "2", *more]
