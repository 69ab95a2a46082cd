"""Readers: files of one format -> `SampleDataset`, one function per format. Pixels are read when a row is loaded."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from .sample import DatasetSpec, Instances, Sample, SampleDataset, Segments

StrPath: TypeAlias = str | Path
MissingImages: TypeAlias = Literal["error", "skip"]


# ------------------------------------------------------------------------------------------------- COCO panoptic


@dataclass(frozen=True)
class _PanopticRow:
    image_path: Path
    map_path: Path
    image_id: int | str
    file_name: str
    segments: tuple[tuple[int, int, bool], ...]  # (segment id, class index or -1 for void, is crowd)


def read_coco_panoptic(
    spec: DatasetSpec,
    image_dir: StrPath,
    annotation_dir: StrPath,
    annotation_file: StrPath,
    *,
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """COCO panoptic format (https://cocodataset.org/#format-data): one RGB PNG per image and one JSON file.

    A pixel's segment id is R + 256 G + 65536 B; 0 is void. `segments_info` gives category and crowd flag per segment.
    Segments of a category that the spec calls void become void pixels. Rows are sorted by image id.

    Args:
        spec: the dataset; its raw ids are the JSON's category ids.
        image_dir: folder of the images.
        annotation_dir: folder of the PNGs.
        annotation_file: the JSON file.
        missing_images: what to do with a listed image that is not in `image_dir`; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder, JSON file, PNG or (with "error") image.
        ValueError: for a missing key, an unknown category, segments that differ between PNG and JSON (on loading),
            different sizes of image and PNG (on loading), or no image at all.
    """
    image_dir, annotation_dir, annotation_file = _folder(image_dir), _folder(annotation_dir), Path(annotation_file)
    content = _read_json(annotation_file)
    annotations: dict[Any, dict[str, Any]] = {}
    for annotation in _key(content, "annotations", annotation_file):
        image_id = _key(annotation, "image_id", f"{annotation_file}: annotations")
        if image_id in annotations:
            raise ValueError(f"{annotation_file}: image {image_id} has two annotations; panoptic format has one")
        annotations[image_id] = annotation

    rows = []
    for image_id, file_name, path, _ in _listed_images(content, annotation_file, image_dir, missing_images):
        where = f"{annotation_file}: image {image_id}"
        if image_id not in annotations:
            raise ValueError(f"{where}: listed in `images`, but has no entry in `annotations`")
        annotation = annotations[image_id]
        map_path = _inside(annotation_dir, _key(annotation, "file_name", where), where)
        _require_file(map_path, f"the annotation of image {image_id} in {annotation_file}")
        segments = _panoptic_segments(spec, _key(annotation, "segments_info", where), where)
        rows.append(_PanopticRow(path, map_path, image_id, file_name, segments))
    return SampleDataset(spec, _sorted_by_id(_some(rows, spec, image_dir)), _load_panoptic)


def _panoptic_segments(spec: DatasetSpec, infos: list[dict[str, Any]], where: str) -> tuple[tuple[int, int, bool], ...]:
    segments = []
    for info in infos:
        class_index = spec.class_index(_key(info, "category_id", where), where)
        segments.append(
            (_key(info, "id", where), -1 if class_index is None else class_index, bool(info.get("iscrowd", 0)))
        )
    ids = [segment_id for segment_id, _, _ in segments]
    if 0 in ids or len(set(ids)) < len(ids):
        raise ValueError(f"{where}: segment ids must be unique and not 0 (void), but are {sorted(ids)}")
    return tuple(sorted(segments))


def _load_panoptic(row: _PanopticRow) -> Sample:
    image = _read_rgb(row.image_path)
    ids = _read_panoptic_png(row.map_path)
    _require_same_size(row.image_path, image.shape[:2], row.map_path, ids.shape)

    listed = np.array([0] + [segment_id for segment_id, _, _ in row.segments])  # sorted; 0 is void
    position = np.minimum(np.searchsorted(listed, ids), len(listed) - 1)
    unlisted = ids != listed[position]
    if unlisted.any():
        raise ValueError(f"{row.map_path}: segment ids {np.unique(ids[unlisted]).tolist()} are not in `segments_info`")
    pixels = np.bincount(position.ravel(), minlength=len(listed))[1:]
    if (pixels == 0).any():
        raise ValueError(
            f"{row.map_path}: segment ids {listed[1:][pixels == 0].tolist()} of `segments_info` have no pixel"
        )

    classes = np.array([class_index for _, class_index, _ in row.segments], dtype=np.int64)
    is_crowd = np.array([crowd for _, _, crowd in row.segments], dtype=bool)
    labelled = classes >= 0
    index_of = np.concatenate([[-1], np.where(labelled, np.cumsum(labelled) - 1, -1)]).astype(np.int32)
    annotation = Segments(index_of[position], classes[labelled], is_crowd[labelled])
    return Sample(image, annotation, row.image_id, row.file_name)


def _read_panoptic_png(path: Path) -> NDArray[np.int32]:
    with _open_image(path) as png:
        if png.mode != "RGB":
            raise ValueError(
                f"{path}: a panoptic PNG is RGB (segment id = R + 256 G + 65536 B), but this is {png.mode}"
            )
        rgb = np.asarray(png).astype(np.int32)
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


# ------------------------------------------------------------------------------------------------ COCO instances


@dataclass(frozen=True)
class _InstanceRow:
    image_path: Path
    image_id: int | str
    file_name: str
    size: tuple[int, int]  # height, width
    objects: str  # JSON list of [class index, is crowd, xywh, segmentation]; text is far smaller than Python's lists


def read_coco_instances(
    spec: DatasetSpec,
    image_dir: StrPath,
    annotation_file: StrPath,
    *,
    boxes_only: bool = False,
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """COCO instances format (https://cocodataset.org/#format-data): one JSON file with an entry per object.

    Segmentations may be polygons, compressed or uncompressed run lengths; instances may overlap; crowd regions are
    kept and flagged. Objects of a category that the spec calls void are left out. An image without objects is a
    sample with M = 0. Rows are sorted by image id, objects keep the order of the file.

    Args:
        spec: the dataset; its raw ids are the JSON's category ids.
        image_dir: folder of the images.
        annotation_file: the JSON file.
        boxes_only: read no masks (`Instances.masks` is None), whether the file has them or not.
        missing_images: what to do with a listed image that is not in `image_dir`; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder, JSON file or (with "error") image.
        ValueError: for a missing key, an unknown category, an object of an unlisted image, a malformed box or
            segmentation (the latter on loading), an image of another size than listed (on loading), or no image at all.
    """
    image_dir, annotation_file = _folder(image_dir), Path(annotation_file)
    content = _read_json(annotation_file)
    listed_ids = {_key(image, "id", f"{annotation_file}: images") for image in _key(content, "images", annotation_file)}
    objects: dict[Any, list[list[Any]]] = defaultdict(list)
    for annotation in _key(content, "annotations", annotation_file):
        image_id = _key(annotation, "image_id", f"{annotation_file}: annotations")
        where = f"{annotation_file}: image {image_id}, annotation {annotation.get('id')}"
        if image_id not in listed_ids:
            raise ValueError(f"{where}: the image is not listed in `images`")
        class_index = spec.class_index(_key(annotation, "category_id", where), where)
        if class_index is None:
            continue
        segmentation = None if boxes_only else _key(annotation, "segmentation", where)
        box = _checked_box(_key(annotation, "bbox", where), where)
        objects[image_id].append([class_index, bool(annotation.get("iscrowd", 0)), box, segmentation])

    rows = []
    for image_id, file_name, path, entry in _listed_images(content, annotation_file, image_dir, missing_images):
        where = f"{annotation_file}: image {image_id}"
        size = (_key(entry, "height", where), _key(entry, "width", where))
        rows.append(_InstanceRow(path, image_id, file_name, size, json.dumps(objects[image_id])))
    load = partial(_load_instances, annotation_file=annotation_file, boxes_only=boxes_only)
    return SampleDataset(spec, _sorted_by_id(_some(rows, spec, image_dir)), load)


def _checked_box(box: Any, where: str) -> list[float]:
    if not isinstance(box, list) or len(box) != 4 or min(box[2:]) < 0:
        raise ValueError(f"{where}: `bbox` must be [x, y, width, height] with width, height >= 0, not {box}")
    return box


def _load_instances(row: _InstanceRow, annotation_file: Path, boxes_only: bool) -> Sample:
    image = _read_rgb(row.image_path)
    _require_same_size(row.image_path, image.shape[:2], annotation_file, row.size)
    objects = json.loads(row.objects)
    boxes = np.array([box for _, _, box, _ in objects], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    annotation = Instances(
        class_labels=np.array([class_index for class_index, _, _, _ in objects], dtype=np.int64),
        boxes=boxes.astype(np.float32),
        is_crowd=np.array([crowd for _, crowd, _, _ in objects], dtype=bool),
    )
    if not boxes_only:
        annotation.masks = np.zeros((len(objects), *row.size), dtype=bool)
        for mask, (_, _, _, segmentation) in zip(annotation.masks, objects, strict=True):
            mask[:] = _decode_segmentation(segmentation, row.size, f"{annotation_file}: image {row.image_id}")
    return Sample(image, annotation, row.image_id, row.file_name)


def _decode_segmentation(segmentation: Any, size: tuple[int, int], where: str) -> NDArray[np.uint8]:
    """Mask [H, W] of 0 and 1 from polygons [[x1, y1, ...], ...] or run lengths {"size": [h, w], "counts": ...}."""
    if isinstance(segmentation, list):
        return _decode_polygons(segmentation, size, where)
    if not isinstance(segmentation, dict):
        raise ValueError(f"{where}: a segmentation is a list of polygons or run lengths, not {segmentation!r}")
    counts = _key(segmentation, "counts", where)
    if tuple(_key(segmentation, "size", where)) != size:
        raise ValueError(f"{where}: run lengths of size {segmentation['size']}, but the image is {list(size)}")
    runs = np.array(counts if isinstance(counts, list) else _decompress_counts(counts), dtype=np.int64)
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise ValueError(
            f"{where}: run lengths must be >= 0 and add up to {size[0] * size[1]} pixels, not {runs.sum()}"
        )
    column_major = np.repeat(np.arange(len(runs), dtype=np.int64) % 2, runs).astype(np.uint8)
    return column_major.reshape(size[1], size[0]).T


def _decode_polygons(polygons: list[Any], size: tuple[int, int], where: str) -> NDArray[np.uint8]:
    from pycocotools import mask as mask_utils  # an optional dependency that only polygons need

    if not polygons or any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise ValueError(f"{where}: a segmentation needs polygons of 3 or more points (x1, y1, x2, y2, ...)")
    return mask_utils.decode(mask_utils.merge(mask_utils.frPyObjects(polygons, *size)))


def _decompress_counts(text: str) -> list[int]:
    """Run lengths out of COCO's compressed form (https://github.com/cocodataset/cocoapi, maskApi.c).

    Each number is a little-endian run of characters c, ord(c) - 48 = 5 bits of value and a flag (32) "more to come",
    in two's complement; from the fourth number on it is the difference to the number two before.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


# -------------------------------------------------------------------------------------- folders of images and PNGs


@dataclass(frozen=True)
class _ImagePngRow:
    image_path: Path
    map_path: Path
    name: str
    file_name: str


def read_image_png(
    spec: DatasetSpec,
    image_dir: StrPath,
    annotation_dir: StrPath,
    *,
    image_suffix: str = ".jpg",
    annotation_suffix: str = ".png",
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """Semantic annotation as two folders: images, and PNGs that hold a class id per pixel (8-bit, 16-bit or palette).

    `a/b<image_suffix>` belongs to `a/b<annotation_suffix>`, sub-folders included; `a/b` is the image id. One segment
    per class that occurs. Rows are sorted by image id.

    Args:
        spec: the dataset; its raw ids are the values of the PNGs (of a palette PNG the indices, not the colours).
        image_dir: folder of the images.
        annotation_dir: folder of the PNGs.
        image_suffix: how image names end, e.g. ".jpg" or "_leftImg8bit.png".
        annotation_suffix: how annotation names end, e.g. ".png" or "_gtFine_labelIds.png".
        missing_images: what to do with an annotation that has no image; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder or annotation, or (with "error") image.
        ValueError: for no image at all, and on loading for an unknown id, different sizes of image and PNG, or a PNG
            that does not hold one id per pixel.
    """
    image_dir, annotation_dir = _folder(image_dir), _folder(annotation_dir)
    images = _files_by_name(image_dir, image_suffix)
    maps = _files_by_name(annotation_dir, annotation_suffix)
    for name in sorted(images.keys() - maps.keys()):
        raise FileNotFoundError(
            f"{annotation_dir / (name + annotation_suffix)}: missing, the annotation of {images[name]}"
        )
    if missing_images != "skip":
        for name in sorted(maps.keys() - images.keys()):
            raise FileNotFoundError(_missing_image(image_dir / (name + image_suffix), f"the image of {maps[name]}"))
    rows = [
        _ImagePngRow(images[name], maps[name], name, images[name].relative_to(image_dir).as_posix())
        for name in sorted(images)
    ]
    return SampleDataset(spec, _some(rows, spec, image_dir), partial(_load_image_png, spec=spec))


def _files_by_name(folder: Path, suffix: str) -> dict[str, Path]:
    """The files below `folder` that end in `suffix`, by relative path without it."""
    files = (path for path in folder.rglob(f"*{suffix}") if path.is_file())
    return {path.relative_to(folder).as_posix().removesuffix(suffix): path for path in files}


def _load_image_png(row: _ImagePngRow, spec: DatasetSpec) -> Sample:
    image = _read_rgb(row.image_path)
    ids = _read_id_png(row.map_path)
    _require_same_size(row.image_path, image.shape[:2], row.map_path, ids.shape)

    raw_ids, position = np.unique(ids, return_inverse=True)
    class_of = [spec.class_index(int(raw_id), str(row.map_path)) for raw_id in raw_ids]
    present = sorted({class_index for class_index in class_of if class_index is not None})
    segment_of = np.array([-1 if c is None else present.index(c) for c in class_of], dtype=np.int32)
    annotation = Segments(
        segment_map=segment_of[position.reshape(ids.shape)],
        class_labels=np.array(present, dtype=np.int64),
        is_crowd=np.zeros(len(present), dtype=bool),
    )
    return Sample(image, annotation, row.name, row.file_name)


def _read_id_png(path: Path) -> NDArray[np.integer]:
    with _open_image(path) as png:
        if png.mode not in ("L", "P", "I", "I;16"):
            raise ValueError(f"{path}: expected one id per pixel (8-bit or 16-bit grey, or palette), not {png.mode}")
        if png.mode == "L" and png.format == "PNG" and _png_bit_depth(path) < 8:
            raise ValueError(
                f"{path}: grey of less than 8 bits, in which Pillow scales the ids; store 8 bits or a palette"
            )
        return np.array(png)


def _png_bit_depth(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]  # signature 8 bytes, IHDR length and name 8, width and height 8, bit depth 1


# ------------------------------------------------------------------------------------------------ shared by the readers


def _folder(path: StrPath) -> Path:
    if not Path(path).is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    return Path(path)


def _require_file(path: Path, what: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing, {what}")


def _missing_image(path: Path, what: str) -> str:
    return f"{path}: missing, {what}; add it, or pass missing_images='skip' to leave it out"


def _read_json(path: Path) -> dict[str, Any]:
    _require_file(path, "the annotation file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object at the top, not a {type(content).__name__}")
    return content


def _key(record: dict[str, Any], key: str, where: StrPath) -> Any:
    if key not in record:
        raise ValueError(f"{where}: key '{key}' is missing")
    return record[key]


def _inside(root: Path, name: str, where: str) -> Path:
    """`root / name`, where `name` comes out of a file and must not lead out of `root`."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if not name or posix.is_absolute() or windows.anchor or ".." in windows.parts:
        raise ValueError(f"{where}: file name '{name}' must be a relative path without '..'")
    return root / name


def _listed_images(
    content: dict[str, Any], annotation_file: Path, image_dir: Path, missing_images: MissingImages
) -> Iterable[tuple[int | str, str, Path, dict[str, Any]]]:
    """(image id, file name, path, entry) of each entry of `images` whose file is there."""
    seen = set()
    for entry in _key(content, "images", annotation_file):
        image_id = _key(entry, "id", f"{annotation_file}: images")
        where = f"{annotation_file}: image {image_id}"
        if image_id in seen:
            raise ValueError(f"{where}: listed twice in `images`")
        seen.add(image_id)
        file_name = _key(entry, "file_name", where)
        path = _inside(image_dir, file_name, where)
        if path.is_file():
            yield image_id, file_name, path, entry
        elif missing_images != "skip":
            raise FileNotFoundError(_missing_image(path, f"image {image_id} of {annotation_file}"))


def _sorted_by_id(rows: list[Any]) -> list[Any]:
    return sorted(rows, key=lambda row: (isinstance(row.image_id, str), row.image_id))


def _some(rows: list[Any], spec: DatasetSpec, image_dir: Path) -> list[Any]:
    if not rows:
        raise ValueError(f"dataset '{spec.name}': no images in {image_dir}")
    return rows


def _open_image(path: Path) -> ImageFile.ImageFile:
    try:
        image = Image.open(path)
        image.load()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as an image: {error}") from error
    return image


def _read_rgb(path: Path) -> NDArray[np.uint8]:
    """uint8 [H, W, 3]; grey and palette images become RGB."""
    with _open_image(path) as image:
        return np.array(image.convert("RGB"))


def _require_same_size(image_path: Path, image_size: Sequence[int], other: Path, other_size: Sequence[int]) -> None:
    if tuple(image_size) != tuple(other_size):
        raise ValueError(
            f"{image_path} is {image_size[0]} x {image_size[1]} pixels (height x width), "
            f"but its annotation in {other} is {other_size[0]} x {other_size[1]}"
        )
