"""What the numbers and colors in maps mean: the raw ids of a spec, and by those its classes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..names import plain_name
from ..sample import BadSampleError, DatasetSpec, RawId, UnknownIdsError, unknown_ids_text
from .class_ids import VOID
from .colors import Colors, color_text, holds_rgb, parse_color, read_colors, read_label_map
from .id_maps import read_id_map
from .label_files import read_label_file
from .paths import StrPath

# Both our settings: how far, of 255, a channel of a color may be from a known one to be taken for
# its damaged copy; and how many unknown colors cannot all be classes.
_NEAR, _MANY = 16, 64


@dataclass(frozen=True)
class MapClasses:
    """What stands in the pixels of a dataset's maps.

    Args:
        spec: the dataset.
        are_colors: whether it is packed colors, else numbers.
        raw_ids: the spec's raw id of each number or color where it is not the number itself.
        stated_names: what files beside the maps call each raw id of the spec.
        notes: what a user should know of them.
    """

    spec: DatasetSpec
    are_colors: bool = False
    raw_ids: Mapping[int, RawId] = field(default_factory=dict)
    stated_names: Mapping[RawId, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def class_indices(
        self, numbers: Sequence[int], pixels: Sequence[int], where: str
    ) -> tuple[list[int], tuple[str, ...]]:
        """Class index of each number or packed color, VOID for void, and the remark on void ones.

        Args:
            numbers: [N], as they stand in one map.
            pixels: [N], how many pixels have each.
            where: file, with which messages begin.

        Raises:
            UnknownIdsError: for ids that the spec does not know, unless `unknown_ids` is "void".
            BadSampleError: for unknown colors of which some are nearly known ones.
        """
        raw_ids, unknown = [self._raw_id(number) for number in numbers], Counter[RawId]()
        for raw_id, count in zip(raw_ids, pixels, strict=True):
            if not self.spec.knows(raw_id):
                unknown[raw_id] += count
        if unknown and self.spec.unknown_ids == "error":
            if self.are_colors:
                self._refuse_blurred(unknown, where)
            raise UnknownIdsError(where, self.spec.name, unknown, "pixel")
        found = (self.spec.class_index(raw_id, where) for raw_id in raw_ids)
        remarks = (_taken_as_void(self.spec, unknown, where),) if unknown else ()
        return [VOID if index is None else index for index in found], remarks

    def _raw_id(self, number: int) -> RawId:
        if number in self.raw_ids:
            return self.raw_ids[number]
        return color_text(number) if self.are_colors else number

    def _refuse_blurred(self, unknown: Mapping[RawId, int], where: str) -> None:
        """BadSampleError where unknown colors look like known ones that were blended; nothing is
        guessed from it.
        """
        found = (raw_id for raw_id in unknown if parse_color(raw_id) is not None)
        colors = sorted(found, key=lambda color: -unknown[color])
        known = list(self.raw_ids)
        if not colors or not known:
            return
        parts = np.array([_channels(color) for color in known])
        for color in colors[:_MANY]:
            distances = np.abs(parts - _channels(parse_color(color) or 0)).max(axis=1)
            nearest = int(distances.argmin())
            if distances[nearest] <= _NEAR or len(colors) > _MANY:
                pixels = sum(unknown[color] for color in colors)
                raise BadSampleError(
                    f"{where}: colors that the spec of dataset '{self.spec.name}' does not know: "
                    f"{len(colors)}, in {pixels} pixels, such as {color} beside "
                    f"{self._shown(known[nearest])}; smoothing, resizing and lossy formats do "
                    "that. Export the map again without them; a color that is a class of its own "
                    "belongs in `ids` or `void_ids`, and `unknown_ids: void` in the entry leaves "
                    "such pixels unlabeled"
                )

    def _shown(self, color: int) -> str:
        name, text = self.raw_ids[color], color_text(color)
        return text if parse_color(name) is not None else f"{text} ({name})"


def _channels(color: int) -> list[int]:
    return [color & 255, color >> 8 & 255, color >> 16]


def _taken_as_void(spec: DatasetSpec, unknown: Mapping[RawId, int], where: str) -> str:
    return (
        f"{where}: taken as void: {unknown_ids_text(spec.name, unknown, 'pixel').partition(';')[0]}"
    )


def read_map(path: str, classes: MapClasses) -> NDArray[np.integer]:
    """Numbers or packed colors [H, W] of a map of classes.

    Raises:
        BadSampleError: as `read_colors` and `read_id_map`.
    """
    if classes.are_colors:
        return read_colors(path, path)
    try:
        return read_id_map(path, path)
    except BadSampleError as error:
        if not holds_rgb(path):
            raise
        raise BadSampleError(
            f"{path}: holds colors, but the ids of dataset '{classes.spec.name}' are numbers; "
            "where colors are its "
            "classes, write them as `ids: ['250,50,83']`, or name them by the option `colors`"
        ) from error


def map_classes(
    spec: DatasetSpec, colors: Colors | None = None, label_file: StrPath | None = None
) -> MapClasses:
    """What a spec's raw ids and the files beside the maps say of the pixels.

    Colors are classes where the spec has colors as raw ids or `colors` is given; otherwise numbers
    are.

    Args:
        spec: its raw ids are numbers, colors (`'250,50,83'`, `'#fa3253'`), or names of `colors` or
            of `label_file`.
        colors: names and colors, see `colors.read_label_map`.
        label_file: names and numbers, see `label_files.read_label_file`.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: for ids that are both numbers and colors, names that no file explains, and
            malformed files.
    """
    raw_ids = [*spec.id_map, *spec.void_ids]
    color_of: dict[int, RawId] = {}
    for raw_id in raw_ids:
        color = parse_color(raw_id)
        if color is not None and color_of.setdefault(color, raw_id) != raw_id:
            raise ValueError(
                f"dataset '{spec.name}': ids {color_of[color]!r} and {raw_id!r} are one color; "
                "keep one"
            )
    if not color_of and colors is None:
        return _numbered(spec, raw_ids, label_file)
    if label_file is not None:
        raise ValueError(
            "label_file: names numbers, but the classes are colors; give `colors` instead"
        )
    numbers = [raw_id for raw_id in raw_ids if isinstance(raw_id, int)]
    if numbers:
        raise ValueError(
            f"dataset '{spec.name}': ids {numbers[:5]} are numbers, but the maps hold colors; "
            "write them as '250,50,83' or by the names in `colors`"
        )
    return _colored(spec, color_of, {} if colors is None else read_label_map(colors))


def _colored(
    spec: DatasetSpec, color_of: Mapping[int, RawId], label_map: Mapping[int, str]
) -> MapClasses:
    named = {color: name for color, name in label_map.items() if color not in color_of}
    words = [raw_id for raw_id in (*spec.id_map, *spec.void_ids) if raw_id not in color_of.values()]
    stated = {raw_id: label_map[color] for color, raw_id in color_of.items() if color in label_map}
    return MapClasses(
        spec, True, {**color_of, **named}, stated, _without_place(spec, words, label_map.values())
    )


def _numbered(
    spec: DatasetSpec, raw_ids: Sequence[RawId], label_file: StrPath | None
) -> MapClasses:
    if label_file is None:
        if not any(isinstance(raw_id, int) for raw_id in raw_ids):
            raise ValueError(
                f"dataset '{spec.name}': ids {raw_ids[:5]} are names; maps hold numbers or colors: "
                "give those as `ids`, or a file of names as option `colors` or `label_file`"
            )
        return MapClasses(spec)
    names_of = read_label_file(label_file)
    words = [raw_id for raw_id in raw_ids if isinstance(raw_id, str)]
    named: dict[int, RawId] = {}
    stated: dict[RawId, str] = {}
    for number, names in names_of.items():
        if number in spec.id_map or number in spec.void_ids:
            stated[number] = _agreeing(names, spec, number)
            continue
        named[number] = next((name for name in names if spec.knows(name)), names[0])
    all_names = [name for names in names_of.values() for name in names]
    return MapClasses(spec, False, named, stated, _without_place(spec, words, all_names))


def _agreeing(names: Sequence[str], spec: DatasetSpec, number: int) -> str:
    """The one of several names of a number that the spec uses, else the first."""
    if number not in spec.id_map:
        return names[0]
    own = spec.classes[spec.id_map[number]]
    allowed = {plain_name(name) for name in (own.name, *own.aliases)}
    return next((name for name in names if plain_name(name) in allowed), names[0])


def _without_place(
    spec: DatasetSpec, words: Sequence[RawId], names: Iterable[str]
) -> tuple[str, ...]:
    """The note on classes that no pixel can have, since no file says which number or color they
    are.
    """
    known = {plain_name(name) for name in names}
    absent = [word for word in words if word in spec.id_map and plain_name(str(word)) not in known]
    if not absent:
        return ()
    return (
        f"ids {absent[:5]} of the spec are neither numbers nor colors, and no label file names "
        "them: never found",
    )
