"""Semantic annotation as two folders: images, and PNGs that hold a class per pixel, as a number or
as a color.
"""

from functools import partial
from typing import Any

from ..sample import DatasetSpec, Sample, SampleDataset
from .colors import Colors
from .images import read_image, require_same_size
from .map_classes import MapClasses, map_classes, read_map
from .map_segments import semantic_segments_of
from .pairs import MapFolder, pair_files, paired_samples
from .paths import IMAGE_SUFFIXES, MissingImages, StrPath, Suffixes


def read_image_png(
    spec: DatasetSpec,
    images: StrPath,
    annotations: StrPath,
    *,
    colors: Colors | None = None,
    label_file: StrPath | None = None,
    image_suffix: Suffixes = IMAGE_SUFFIXES,
    annotation_suffix: str = ".png",
    split_file: StrPath | None = None,
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """Folders of images and of PNGs that hold a class per pixel.

    Where the spec's raw ids are numbers, a pixel is that number (gray of up to 16 bits, or the
    index of a palette). Where they are colors, such as `'250,50,83'` or `'#fa3253'`, or `colors` is
    given, a pixel is its color (RGB, RGBA without its alpha, or the color of a palette).

    `a/b<image_suffix>` belongs to `a/b<annotation_suffix>`, sub-folders included; `a/b` is the
    image id. Images and PNGs may lie in one folder. One segment per class that occurs. Rows are
    sorted by image id.

    Args:
        spec: the dataset; its raw ids are the numbers or colors in the PNGs, or names in `colors`
            or `label_file`.
        images: folder of the images.
        annotations: folder of the PNGs.
        colors: path of a label map (CVAT's `labelmap.txt`), or a mapping from names to colors, see
            `colors.read_label_map`. Its names are held against the spec's.
        label_file: names of numbers (Roboflow's `_classes.csv`), see `label_files.read_label_file`.
        image_suffix: how image names end, one ending or several, e.g. ".jpg" or "_leftImg8bit.png";
            upper case counts as lower.
        annotation_suffix: how annotation names end, e.g. ".png" or "_gtFine_labelIds.png".
        split_file: text file with an image id per line, as Pascal VOC has; all images without it.
        missing_images: what to do with an annotation that has no image; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder, split file or label map.
        ValueError: for no image at all, a malformed label map, and raw ids that do not fit the
            options. Faults of single images are `problems` of the dataset, or a BadSampleError on
            loading (unknown ids or colors, different sizes, a PNG of another kind).
    """
    classes = map_classes(spec, colors, label_file)
    pairs = pair_files(
        images,
        {"annotation": MapFolder(annotations, annotation_suffix)},
        image_suffix=image_suffix,
        split_file=split_file,
        missing_images=missing_images,
    )
    return paired_samples(spec, pairs, partial(_load, classes=classes), classes)


def _load(row: dict[str, Any], classes: MapClasses) -> Sample:
    where = row["annotation"]
    ids = read_map(where, classes)
    image = read_image(row["image"], row["image"], (ids.shape[0], ids.shape[1]))
    require_same_size(image, row["image"], ids.shape, where)
    segments, remarks = semantic_segments_of(ids, classes, where)
    return image.sample(segments, row["image_id"], row["file_name"], remarks)
