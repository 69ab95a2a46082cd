"""Class names beside YOLO's txt files, which hold numbers alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..names import plain_name
from ..sample import RawId
from .paths import read_text

NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names", "_darknet.labels")
"""Files that state names: of Ultralytics and Roboflow, LabelImg and Label Studio, and Darknet."""

_LEVELS = 2  # above the folder of the txt files: `labels/train` lies two below the `data.yaml` of its dataset


def stated_names(annotation_dir: Path, image_dir: Path) -> tuple[dict[RawId, str], list[str]]:
    """Names by class number out of the nearest file of names, and a note for each other one that contradicts it.

    Args:
        annotation_dir: folder of the txt files; looked at first, then that of the images, then those above.
        image_dir: folder of the images.

    Raises:
        ValueError: for such a file that cannot be read.
    """
    folders = [annotation_dir, image_dir, *list(annotation_dir.resolve().parents)[:_LEVELS]]
    files = [folder / name for folder in folders for name in NAME_FILES if (folder / name).is_file()]
    nearest: dict[RawId, str] = {}
    notes = []
    for file in dict.fromkeys(file.resolve() for file in files):
        names = _read_names(file)
        if not nearest:
            nearest, source = names, file
            continue
        for number in sorted(nearest.keys() & names.keys(), key=str):
            if plain_name(nearest[number]) != plain_name(names[number]):
                notes.append(
                    f"{source} calls class {number} '{nearest[number]}', but {file} '{names[number]}': the first counts"
                )
                break
    return nearest, notes


def _read_names(file: Path) -> dict[RawId, str]:
    text = read_text(file)
    if file.suffix not in (".yaml", ".yml"):
        return {number: line.strip() for number, line in enumerate(text.splitlines()) if line.strip()}
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: no valid YAML ({' '.join(str(error).split())}); correct or remove it") from error
    names = content.get("names") if isinstance(content, Mapping) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping):
        return {}
    return {int(number): str(name) for number, name in names.items() if str(number).isdecimal()}
