"""The entry of the labels in a run's `datasets`, ready to paste."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ...model.tasks_dataseg import get_task
from .annotation import ANNOTATION_FILE, CLASS_FILE, MAPS, void_id
from .folder import LabelingFolder, LabelingSettings

ENTRY_FILE, IMAGE_LIST = "dataset.yaml", "images.txt"


class _OneLine(dict[str, Any]):
    """A mapping that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """Writes `_OneLine`."""


_Dumper.add_representer(
    _OneLine,
    lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True),
)


def dataset_entry(folder: LabelingFolder, listed: bool = False) -> dict[str, Any]:
    """The settings that read the labels of a folder.

    Args:
        folder: of the labeling.
        listed: whether the images with labels stand in `IMAGE_LIST`, as there are others.
    """
    settings, path = folder.settings, folder.path
    task = get_task(settings.task)
    if task.label_form == "classes":
        options = {"label_file": str(path / CLASS_FILE)}
        if listed:
            options["split_file"] = str(path / IMAGE_LIST)
        reader = {
            "reader": "image_png",
            "images": settings.images,
            "annotations": str(path / MAPS),
            "options": options,
        }
        return {"spec": _spec(settings, first_id=0, void=[void_id(settings.names)]), **reader}
    maps = {"annotations": str(path / MAPS)} if task.has_segment_map else {}
    return {
        "spec": _spec(settings, first_id=1, void=[]),
        "reader": "coco_panoptic" if task.has_segment_map else "coco_instances",
        "images": settings.images,
        **maps,
        "annotation_file": str(path / ANNOTATION_FILE),
    }


def entry_text(name: str, entry: Mapping[str, Any]) -> str:
    """The entry as YAML, with the key `datasets` above it."""
    text = yaml.dump(
        {"datasets": {name: dict(entry)}},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
    return f"# Labels of a teacher: paste the entry into the `datasets` of a run.\n{text}"


def read_entry(folder: LabelingFolder) -> dict[str, Any]:
    """The entry that was written at the end of the labeling."""
    (entry,) = yaml.safe_load((folder.path / ENTRY_FILE).read_text())["datasets"].values()
    return dict(entry)


def write_image_list(folder: Path, names: Sequence[str]) -> bool:
    """Write the names of the images that have labels; False where such a list cannot tell them, as
    what follows a blank counts for nothing in it.
    """
    if any(len(name.split()) != 1 for name in names):
        return False
    (folder / IMAGE_LIST).write_text("".join(f"{name}\n" for name in sorted(names)))
    return True


def _spec(settings: LabelingSettings, first_id: int, void: list[int]) -> dict[str, Any]:
    teacher = Path(settings.teacher).name or "teacher"
    classes = [
        _OneLine({"name": name, "ids": [number], "thing": thing})
        for number, (name, thing) in enumerate(
            zip(settings.names, settings.is_thing, strict=True), start=first_id
        )
    ]
    return {
        "name": f"labels of {teacher}",
        "task": settings.task,
        "license": settings.license or "unknown",
        "classes": classes,
        **({"void_ids": void} if void else {}),
    }
