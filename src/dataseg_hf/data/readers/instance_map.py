"""Maps of instances: PNGs that tell of each pixel its class and its object."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..sample import Annotation, BadSampleError, DatasetSpec, Sample, SampleDataset
from .class_ids import VOID
from .colors import Colors, color_text, holds_rgb, read_colors
from .id_maps import read_id_map, read_rgb_ids
from .images import read_image, require_same_size
from .map_classes import MapClasses, map_classes, read_map
from .map_segments import (
    CountedMap,
    SegmentKey,
    count_map,
    instances_of_segments,
    segments_of_numbers,
)
from .pairs import MapFolder, pair_files, paired_samples
from .paths import IMAGE_SUFFIXES, MissingImages, StrPath, Suffixes

CrowdRule: TypeAlias = Literal["class_id", "instance_0", "none"]
"""Which pixels of a thing class are a region of many objects: those that hold the class id alone,
without an instance (Cityscapes), those of instance 0 (VOC, DeepLab, KITTI-STEP), or none (Mapillary
Vistas).
"""

_CITYSCAPES_DIVISOR = 1000
_VOC_BORDER = 255  # of an 8-bit or palette map of objects
_OBJECT_BITS = 24  # of a class and an object packed into one number
_MAX_OBJECT = (1 << _OBJECT_BITS) - 1


@dataclass(frozen=True)
class _Encoding:
    """How the files hold classes and instances. divisor: of class * divisor + instance; None for
    pairs of maps and for channels.
    """

    classes: MapClasses
    crowd: CrowdRule
    divisor: int | None = None
    in_channels: bool = False


def read_instance_map(
    spec: DatasetSpec,
    images: StrPath,
    annotations: StrPath,
    *,
    objects: StrPath | None = None,
    divisor: int | None = None,
    instance_channels: bool = False,
    crowd: CrowdRule | None = None,
    colors: Colors | None = None,
    label_file: StrPath | None = None,
    image_suffix: Suffixes = IMAGE_SUFFIXES,
    annotation_suffix: str = ".png",
    split_file: StrPath | None = None,
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """A folder of images and PNGs that tell of each pixel its class and its object, in one of three
    encodings.

    - `objects`: pairs, as Pascal VOC and CVAT's "Segmentation mask" have them. The class stands in
      the PNG in `annotations` (SegmentationClass), the number or color of the object in that in
      `objects` (SegmentationObject), of one name. Object 0 (black) is none; 255 in 8 bits or a
      palette is VOC's border, which is void.
    - `divisor`: one PNG of class * divisor + instance, as Cityscapes (1000) and Mapillary Vistas
      (256) have it.
    - `instance_channels`: one RGB PNG. Red is the class; green and blue together are the instance,
      and both are 0 for none (ADE20K's `annotations_instance`, KITTI-STEP).

    Things become a segment per object, stuff one per class. Pixels of a thing class without an
    object, as `crowd` tells them, are a crowd of that class: neither target nor background. For the
    tasks `instance` and `boxes` the things are the objects; where the spec calls no class a thing,
    each class has objects. A box is the tight one of an object's pixels. For `semantic` objects are
    merged. `a/b<image_suffix>` belongs to `a/b<annotation_suffix>`, sub-folders included; `a/b` is
    the image id. Rows are sorted by image id.

    Args:
        spec: the dataset; its raw ids are the numbers or colors of classes in the PNGs, or names in
            `colors` or `label_file`.
        images: folder of the images.
        annotations: folder of the PNGs.
        objects: folder of the PNGs of objects.
        divisor: what a class is multiplied by.
        instance_channels: whether red is the class, green and blue the instance.
        crowd: which pixels of things are crowds. Only with `divisor` and `instance_channels`; by
            default "class_id" with divisor 1000 and "instance_0" with channels. Another divisor
            needs it. With "class_id", values below the divisor are class ids; with the others they
            are instances of class 0.
        colors: with `objects`, as in `read_image_png`.
        label_file: names of class numbers, such as Mapillary's `config_v2.0.json`, see
            `label_files.read_label_file`.
        image_suffix, annotation_suffix, split_file, missing_images: as in `read_image_png`.

    Raises:
        FileNotFoundError: for a missing folder or file.
        ValueError: unless exactly one encoding is given, for no image at all, and as `map_classes`.
            Faults of single images are `problems` of the dataset, or a BadSampleError on loading
            (unknown classes, different sizes, an object with pixels of two classes, a PNG of
            another kind).
    """
    encoding = _encoding(
        map_classes(spec, colors, label_file), objects, divisor, instance_channels, crowd
    )
    map_folders = {"annotation": MapFolder(annotations, annotation_suffix)}
    if objects is not None:
        map_folders["objects"] = MapFolder(objects, annotation_suffix, "map of objects")
    pairs = pair_files(
        images,
        map_folders,
        image_suffix=image_suffix,
        split_file=split_file,
        missing_images=missing_images,
    )
    load = partial(_load, encoding=encoding)
    return paired_samples(spec, pairs, load, encoding.classes, _no_instance(encoding))


def _encoding(
    classes: MapClasses,
    objects: StrPath | None,
    divisor: int | None,
    instance_channels: bool,
    crowd: CrowdRule | None,
) -> _Encoding:
    """How the files hold classes and instances; ValueError for options that do not fit."""
    given = [objects is not None, divisor is not None, bool(instance_channels)]
    if sum(given) != 1:
        raise ValueError(
            "give exactly one of `objects` (a folder of maps of objects), `divisor` (class * "
            "divisor + instance) and `instance_channels` (red is the class); "
            f"{sum(given)} of them are given"
        )
    if crowd not in (None, *get_args(CrowdRule)):
        raise ValueError(
            f"crowd: {crowd!r} is not allowed; choose from 'class_id', 'instance_0', 'none'"
        )
    if classes.are_colors and objects is None:
        raise ValueError(
            "colors are classes with `objects` alone; the other encodings hold class numbers"
        )
    if objects is not None:
        if crowd not in (None, "instance_0"):
            raise ValueError(
                "crowd: with `objects` it is 'instance_0', pixels of a thing class without an "
                "object"
            )
        return _Encoding(classes, "instance_0")
    if divisor is None:
        if crowd == "class_id":
            raise ValueError("crowd: with `instance_channels` it is 'instance_0' or 'none'")
        return _Encoding(classes, crowd or "instance_0", in_channels=True)
    return _Encoding(classes, _crowd_of_divisor(divisor, crowd), divisor)


def _crowd_of_divisor(divisor: Any, crowd: CrowdRule | None) -> CrowdRule:
    """The rule for maps of class * divisor + instance; ValueError where it is left open, and for a
    divisor that is none.
    """
    if not isinstance(divisor, int) or isinstance(divisor, bool) or divisor < 2:
        raise ValueError(f"divisor: {divisor!r} must be a whole number above 1")
    if crowd is None and divisor != _CITYSCAPES_DIVISOR:
        raise ValueError(
            f"crowd: say what divisor {divisor} leaves open: 'class_id' where values below it are "
            "classes without an instance (Cityscapes), 'instance_0' where instance 0 is none, "
            "'none' where every instance is an object (Mapillary Vistas)"
        )
    return crowd or "class_id"


def _no_instance(encoding: _Encoding) -> str:
    """What to do where no pixel of a thing class belongs to an object."""
    if encoding.divisor is not None:
        return (
            f"no number holds an instance; check `divisor` ({encoding.divisor}) and `crowd` "
            f"({encoding.crowd})"
        )
    if encoding.in_channels:
        return (
            "green and blue are 0 everywhere; where that is an object, too, set `options: {crowd: "
            "none}`"
        )
    return "the maps of `objects` are 0 (black) there; check that folder"


# --- loading


@dataclass(frozen=True)
class _Pixels:
    """A map whose numbers are pairs of class and object.

    Args:
        counted: the map.
        classes: [N], class number or packed color of each of its numbers.
        objects: [N], object of each; None for no object, VOID (-1) for what the map of objects
            calls void.
    """

    counted: CountedMap
    classes: Sequence[int]
    objects: Sequence[int | None]


def _load(row: dict[str, Any], encoding: _Encoding) -> Sample:
    where, spec = row["annotation"], encoding.classes.spec
    pixels = _read_pair(row, encoding) if "objects" in row else _read_one(where, encoding)
    size = pixels.counted.size
    image = read_image(row["image"], row["image"], size)
    require_same_size(image, row["image"], size, where)
    class_of, remarks = encoding.classes.class_indices(
        pixels.classes, pixels.counted.pixels.tolist(), where
    )
    if "objects" in row:
        _require_one_class(pixels, class_of, spec, row["objects"])
    segments = segments_of_numbers(pixels.counted, _keys(class_of, pixels.objects, spec))
    annotation: Annotation = segments
    if spec.label_form in ("masks", "boxes"):
        annotation = instances_of_segments(segments, with_masks=spec.label_form == "masks")
    return image.sample(annotation, row["image_id"], row["file_name"], remarks)


def _keys(
    class_of: Sequence[int], objects: Sequence[int | None], spec: DatasetSpec
) -> list[SegmentKey | None]:
    """The segment of each (class, object)."""
    only_objects = spec.label_form in ("masks", "boxes")
    has_objects = (
        spec.is_thing if any(spec.is_thing) or not only_objects else [True] * len(spec.classes)
    )
    keys: list[SegmentKey | None] = []
    for class_index, number in zip(class_of, objects, strict=True):
        if class_index == VOID or number == VOID:
            keys.append(None)
        elif spec.label_form == "classes" or not has_objects[class_index]:
            keys.append(None if only_objects else (class_index, False, 0))
        elif number is not None:
            keys.append((class_index, False, number))
        else:
            keys.append((class_index, True, 0) if spec.is_thing[class_index] else None)
    return keys


def _read_one(path: str, encoding: _Encoding) -> _Pixels:
    """Classes and objects from one PNG that holds both."""
    if encoding.in_channels:
        counted = count_map(read_rgb_ids(path, path))
        classes, instances = counted.numbers & 255, counted.numbers >> 8
    else:
        counted = count_map(read_id_map(path, path))
        assert encoding.divisor is not None
        classes, instances = np.divmod(counted.numbers, encoding.divisor)
    has_object = np.full(len(instances), True)
    if encoding.crowd == "class_id":
        has_object = counted.numbers >= (encoding.divisor or 0)
        classes = np.where(has_object, classes, counted.numbers)
    elif encoding.crowd == "instance_0":
        has_object = instances > 0
    # the whole number, as classes that the spec merges may have instances of one number
    objects = [
        number if has else None
        for number, has in zip(counted.numbers.tolist(), has_object, strict=True)
    ]
    return _Pixels(counted, classes.tolist(), objects)


def _read_pair(row: dict[str, Any], encoding: _Encoding) -> _Pixels:
    """Classes and objects from a PNG each."""
    path = row["annotation"]
    classes = read_map(path, encoding.classes)
    objects, border = _read_objects(row["objects"])
    if classes.shape != objects.shape:
        raise BadSampleError(
            f"{row['objects']} is {objects.shape[0]} x {objects.shape[1]} pixels (height x width), "
            f"but the classes in {path} are {classes.shape[0]} x {classes.shape[1]}; find the pair "
            "that belongs together"
        )
    counted = count_map((classes.astype(np.int64) << _OBJECT_BITS) | objects)
    numbers = (counted.numbers & _MAX_OBJECT).tolist()
    found = [VOID if number == border else number or None for number in numbers]
    return _Pixels(counted, (counted.numbers >> _OBJECT_BITS).tolist(), found)


def _read_objects(path: str) -> tuple[NDArray[np.integer], int | None]:
    """Number of the object of each pixel [H, W], and the number of the border if there is one."""
    if holds_rgb(path):
        return read_colors(path, path), None
    ids = read_id_map(path, path)
    if ids.min() < 0 or ids.max() > _MAX_OBJECT:
        raise BadSampleError(
            f"{path}: numbers of objects lie in 0..{_MAX_OBJECT}, not {ids.min()}..{ids.max()}; "
            "does it hold something else?"
        )
    return ids, _VOC_BORDER if ids.dtype == np.uint8 else None


def _require_one_class(
    pixels: _Pixels, class_of: Sequence[int], spec: DatasetSpec, where: str
) -> None:
    """BadSampleError where the two maps disagree: an object that has pixels of several classes."""
    classes_of: dict[int, Counter[int]] = {}
    for number, class_index, count in zip(
        pixels.objects, class_of, pixels.counted.pixels.tolist(), strict=True
    ):
        if number is not None and number != VOID and class_index != VOID:
            classes_of.setdefault(number, Counter())[class_index] += count
    torn = {number: classes for number, classes in classes_of.items() if len(classes) > 1}
    if not torn:
        return
    number, classes = next(iter(torn.items()))
    shares = " and ".join(
        f"'{spec.labels[index]}' ({count} pixels)" for index, count in classes.most_common(3)
    )
    name = color_text(number) if holds_rgb(where) else number
    more = f" ({len(torn) - 1} more objects, too)" if len(torn) > 1 else ""
    raise BadSampleError(
        f"{where}: object {name} has pixels of {len(classes)} classes, {shares}{more}; the maps of "
        "classes and objects disagree: export both anew, with objects numbered over the whole image"
    )
