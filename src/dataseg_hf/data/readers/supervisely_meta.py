"""The classes of a Supervisely project, as its `meta.json` lists them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..name_checks import label_list_notes
from ..sample import DatasetSpec, RawId
from .json_files import read_json
from .values import require_key, whole_number

_META = "meta.json"


@dataclass
class Meta:
    """What a `meta.json` says of the classes.

    Args:
        path: of the file; None if the project has none.
        titles: of all classes.
        title_of: title by class id, where ids are stated.
        shape_of: kind of shape by title, where it is stated.
    """

    path: Path | None = None
    titles: list[str] = field(default_factory=list)
    title_of: dict[RawId, str] = field(default_factory=dict)
    shape_of: dict[str, str] = field(default_factory=dict)

    def stated_names(self, spec: DatasetSpec) -> Mapping[RawId, str]:
        """Titles by raw id of the spec."""
        return (
            {**self.title_of} if ids_are_numbers(spec) else {title: title for title in self.titles}
        )


def read_meta(folder: Path) -> Meta:
    """The classes of the project that a folder is, or belongs to.

    Raises:
        ValueError: for a file that is no such JSON, and a title that is no text or occurs twice.
    """
    above = [folder.resolve(), *folder.resolve().parents][:4]  # datasets may lie in datasets
    path = next((parent / _META for parent in above if (parent / _META).is_file()), None)
    if path is None:
        return Meta()
    classes = require_key(read_json(path), "classes", path)
    if not isinstance(classes, list):
        raise ValueError(f"{path}: `classes` must be a list; export the project anew")
    meta = Meta(path)
    for place, entry in enumerate(classes, start=1):
        where = f"{path}: class {place}"
        title, shape = require_key(entry, "title", where), entry.get("shape")
        if not isinstance(title, str) or title in meta.titles:
            raise ValueError(f"{where}: the title {title!r} must be a word of its own; correct it")
        meta.titles.append(title)
        if entry.get("id") is not None:
            meta.title_of[whole_number(entry["id"], f"{where}: id")] = title
        if isinstance(shape, str):
            meta.shape_of[title] = shape
    return meta


def meta_notes(spec: DatasetSpec, meta: Meta, folder: Path) -> list[str]:
    """What a user should know of a project's list of classes beside the spec."""
    if meta.path is None:
        return [
            f"no {_META} in {folder} or above: the names of its classes are not compared with the "
            "spec"
        ]
    return [] if ids_are_numbers(spec) else label_list_notes(spec, meta.titles, meta.path)


def ids_are_numbers(spec: DatasetSpec) -> bool:
    """Whether the spec's raw ids are the `id` of classes; otherwise they are titles."""
    return all(isinstance(raw_id, int) for raw_id in spec.id_map)
