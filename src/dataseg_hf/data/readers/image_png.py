"""Semantic annotation as two folders: images, and PNGs that hold a class id per pixel."""

from functools import partial
from typing import Any

import pyarrow as pa

from ..sample import BadSampleError, DatasetSpec, Sample, SampleDataset
from .files import (
    MissingImages,
    Rows,
    StrPath,
    files_by_name,
    missing_image,
    read_id_map,
    read_rgb,
    require_folder,
    require_images,
    require_same_size,
    semantic_segments,
    split_names,
)


def read_image_png(
    spec: DatasetSpec,
    images: StrPath,
    annotations: StrPath,
    *,
    image_suffix: str = ".jpg",
    annotation_suffix: str = ".png",
    split_file: StrPath | None = None,
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """Folders of images and of PNGs (grey of 1 to 16 bits, or palette) that hold a class id per pixel.

    `a/b<image_suffix>` belongs to `a/b<annotation_suffix>`, sub-folders included; `a/b` is the image id. One segment
    per class that occurs. Rows are sorted by image id.

    Args:
        spec: the dataset; its raw ids are the values of the PNGs (of a palette PNG the indices, not the colours).
        images: folder of the images.
        annotations: folder of the PNGs.
        image_suffix: how image names end, e.g. ".jpg" or "_leftImg8bit.png"; upper case counts as lower.
        annotation_suffix: how annotation names end, e.g. ".png" or "_gtFine_labelIds.png".
        split_file: text file with an image id per line, as Pascal VOC has; all images without it.
        missing_images: what to do with an annotation that has no image; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder or split file.
        ValueError: for no image at all. Faults of single images are `problems` of the dataset, or a BadSampleError on
            loading (unknown id, different sizes, a PNG that does not hold one id per pixel).
    """
    image_dir, annotation_dir = require_folder(images), require_folder(annotations)
    image_of = files_by_name(image_dir, image_suffix)
    map_of = files_by_name(annotation_dir, annotation_suffix)
    names = sorted(image_of.keys() | map_of.keys()) if split_file is None else split_names(split_file)
    notes: list[str] = []
    rows = Rows({
        "image": pa.string(), "annotation": pa.string(), "image_id": pa.string(), "file_name": pa.string()
    })  # fmt: skip
    absent = 0
    for name in names:
        with rows.image():
            if name not in image_of:
                if missing_images == "skip":
                    absent += 1
                    continue
                what = f"the image of {map_of[name]}" if name in map_of else f"'{name}' of {split_file}"
                raise BadSampleError(missing_image(image_dir / (name + image_suffix), what))
            if name not in map_of:
                raise BadSampleError(
                    f"{annotation_dir / (name + annotation_suffix)}: missing, the annotation of {image_of[name]}; "
                    "add it, or take the image out"
                )
            rows.add(
                image=str(image_of[name]),
                annotation=str(map_of[name]),
                image_id=name,
                file_name=image_of[name].relative_to(image_dir).as_posix(),
            )
    if absent:
        notes.append(f"{absent} of {len(names)} annotations have no image in {image_dir}: left out")
    load = partial(_load, spec=spec)
    return require_images(SampleDataset(spec, rows.dataset(), load, rows.problems, notes), image_dir)


def _load(row: dict[str, Any], spec: DatasetSpec) -> Sample:
    ids = read_id_map(row["annotation"], row["annotation"])
    image = read_rgb(row["image"], row["image"], (ids.shape[0], ids.shape[1]))
    require_same_size(image, row["image"], ids.shape, row["annotation"])
    return Sample(image, semantic_segments(ids, spec, row["annotation"]), row["image_id"], row["file_name"])
