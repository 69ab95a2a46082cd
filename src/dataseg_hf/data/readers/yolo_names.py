"""Class names beside YOLO's txt files, which hold numbers alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..names import plain_name
from ..sample import RawId
from .paths import read_text

NAME_FILES = (
    "data.yaml",
    "data.yml",
    "dataset.yaml",
    "dataset.yml",
    "classes.txt",
    "obj.names",
    "_darknet.labels",
)
"""Files that state names: of Ultralytics and Roboflow, LabelImg and Label Studio, and Darknet."""

# above the folder of the txt files: `labels/train` lies two below the `data.yaml` of its dataset
_LEVELS = 2
_YAML = (".yaml", ".yml")
_SUFFIXES = (*_YAML, ".names")
_MAX_BYTES = 1 << 20  # of a file under another name


def stated_names(annotation_dir: Path, image_dir: Path) -> tuple[dict[RawId, str], list[str]]:
    """Names by class number out of the nearest file of names, and a note for each other one that
    contradicts it.

    Args:
        annotation_dir: folder of the txt files; looked at first, then that of the images, then
            those above. A YAML or `.names` called otherwise counts, too, if it is the only one of
            its folder that lists names.
        image_dir: folder of the images.

    Raises:
        ValueError: for such a file that cannot be read.
    """
    folders = [annotation_dir, image_dir, *list(annotation_dir.resolve().parents)[:_LEVELS]]
    files = [file for folder in folders for file in _name_files(folder)]
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
                    f"{source} calls class {number} '{nearest[number]}', but {file} "
                    f"'{names[number]}': the first counts"
                )
                break
    return nearest, notes


def _name_files(folder: Path) -> list[Path]:
    """The files of names in a folder."""
    if not folder.is_dir():
        return []
    named = {path.name.lower(): path for path in sorted(folder.iterdir()) if _may_state_names(path)}
    known = [named[name] for name in NAME_FILES if name in named]
    others = [path for name, path in named.items() if name not in NAME_FILES and _lists_names(path)]
    return known + (others if len(others) == 1 else [])


def _may_state_names(path: Path) -> bool:
    return (path.name.lower() in NAME_FILES or path.suffix.lower() in _SUFFIXES) and path.is_file()


def _lists_names(file: Path) -> bool:
    """Whether a file that may belong to something else states names of classes."""
    try:
        return file.stat().st_size <= _MAX_BYTES and bool(_read_names(file))
    except (OSError, ValueError):
        return False


def _read_names(file: Path) -> dict[RawId, str]:
    text = read_text(file)
    if file.suffix.lower() not in _YAML:
        return {
            number: line.strip() for number, line in enumerate(text.splitlines()) if line.strip()
        }
    try:
        content: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(
            f"{file}: no valid YAML ({' '.join(str(error).split())}); correct or remove it"
        ) from error
    names = content.get("names") if isinstance(content, Mapping) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping):
        return {}
    return {int(number): str(name) for number, name in names.items() if str(number).isdecimal()}
