"""Images and the maps that belong to them, found by their names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...messages import first_few
from ..sample import BadSampleError, DatasetSpec, Sample, SampleDataset
from .map_classes import MapClasses
from .paths import (
    MissingImages,
    StrPath,
    Suffixes,
    files_by_name,
    image_files,
    missing_image,
    require_folder,
    split_names,
)
from .rows import Rows, require_images

_MAX_NAMED = 3  # in a message, beside the first


@dataclass(frozen=True)
class MapFolder:
    """A folder of maps. `a/b<suffix>` belongs to the image `a/b`.

    Args:
        kind: what messages call a map.
    """

    folder: StrPath
    suffix: str
    kind: str = "annotation"


@dataclass(frozen=True)
class Pairs:
    """Images that have all their maps.

    Args:
        rows: columns image, image_id, file_name and one for each folder of maps, sorted by image
            id; its problems name each kind of missing file once.
        notes: what was left out on purpose.
        image_dir: folder of the images.
    """

    rows: Rows
    notes: list[str]
    image_dir: Path


def pair_files(
    images: StrPath,
    map_folders: Mapping[str, MapFolder],
    *,
    image_suffix: Suffixes,
    split_file: StrPath | None,
    missing_images: MissingImages,
) -> Pairs:
    """Find the images and their maps.

    Args:
        images: folder of the images, sub-folders included.
        map_folders: by the column that will hold their paths; the first holds the annotation, and
            may be the folder of the images. Any of the folders may lie in another.
        image_suffix: how image names end.
        split_file: text file with an image id per line; all images without it.
        missing_images: what to do with an annotation that has no image; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder or split file.
        ValueError: for two files of one name.
    """
    image_dir = require_folder(images)
    folders = {column: require_folder(maps.folder) for column, maps in map_folders.items()}
    all_folders = [image_dir, *folders.values()]
    maps_of = {
        column: _own(files_by_name(folders[column], maps.suffix), folders[column], all_folders)
        for column, maps in map_folders.items()
    }
    first = next(iter(map_folders))
    images_found = image_files(image_dir, image_suffix, folders[first], map_folders[first].suffix)
    image_of = _own(images_found, image_dir, all_folders)
    names = (
        sorted(image_of.keys() | maps_of[first].keys())
        if split_file is None
        else split_names(split_file)
    )
    rows = Rows(dict.fromkeys(("image", *map_folders, "image_id", "file_name"), pa.string()))
    notes: list[str] = []
    without_image = [name for name in names if name not in image_of]
    if without_image and missing_images == "skip":
        notes.append(
            f"{len(without_image)} of {len(names)} annotations have no image in {image_dir}: left "
            "out"
        )
    elif without_image:
        name = without_image[0]
        listed = f"'{name}' of {split_file}"
        what = f"the image of {maps_of[first][name]}" if name in maps_of[first] else listed
        path = image_dir / (name + (image_suffix if isinstance(image_suffix, str) else ".*"))
        rows.problems.append(_once(str(missing_image(path, what)), without_image))
    for name in _complete(names, image_of, map_folders, maps_of, folders, rows.problems):
        rows.add(
            image=str(image_of[name]),
            image_id=name,
            file_name=image_of[name].relative_to(image_dir).as_posix(),
            **{column: str(found[name]) for column, found in maps_of.items()},
        )
    return Pairs(rows, notes, image_dir)


def _complete(
    names: Sequence[str],
    image_of: Mapping[str, Path],
    map_folders: Mapping[str, MapFolder],
    maps_of: Mapping[str, Mapping[str, Path]],
    folders: Mapping[str, Path],
    problems: list[BadSampleError],
) -> list[str]:
    """The names that have an image and all maps; a problem is added for each folder of maps in
    which some are missing.
    """
    complete = [name for name in names if name in image_of]
    for column, maps in map_folders.items():
        without_map = [name for name in complete if name not in maps_of[column]]
        if without_map:
            path = folders[column] / (without_map[0] + maps.suffix)
            message = _missing_map(path, maps.kind, image_of[without_map[0]])
            problems.append(_once(message, without_map))
        complete = [name for name in complete if name in maps_of[column]]
    return complete


def paired_samples(
    spec: DatasetSpec,
    pairs: Pairs,
    load: Callable[[dict[str, Any]], Sample],
    classes: MapClasses,
    ignored_remedy: str = "",
) -> SampleDataset:
    """The dataset of images and their maps, whose values `classes` explains and whose rows `load`
    makes samples of.

    Raises:
        ValueError: for no image at all.
    """
    data = SampleDataset(
        spec,
        pairs.rows.dataset(),
        load,
        pairs.rows.problems,
        [*pairs.notes, *classes.notes],
        stated_names=classes.stated_names,
        ignored_remedy=ignored_remedy,
    )
    return require_images(data, pairs.image_dir)


def _missing_map(path: Path, kind: str, image: Path) -> str:
    return (
        f"{path}: missing, the {kind} of {image}; add it, say how its name ends by "
        "`annotation_suffix`, take the image "
        "out, or name the images that have one in a `split_file`"
    )


def _own(files: Mapping[str, Path], folder: Path, folders: Sequence[Path]) -> dict[str, Path]:
    """The files that lie in no other of the folders that is inside `folder`."""
    outer = folder.resolve()
    inner = [other.resolve() for other in folders if outer in other.resolve().parents]
    names = [path.relative_to(outer).as_posix() + "/" for path in inner]
    return {name: path for name, path in files.items() if not name.startswith(tuple(names))}


def _once(first: str, names: Sequence[str]) -> BadSampleError:
    """One problem for all files of a kind that are missing: the message of the first, and how many
    others there are.
    """
    others = names[1:]
    if not others:
        return BadSampleError(first)
    return BadSampleError(
        f"{first} (missing for {len(others)} others, too: {first_few(others, _MAX_NAMED)})"
    )
