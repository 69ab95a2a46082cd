"""Figures drawn in Supervisely: a project's folder
(https://docs.supervisely.com/data-organization/00_ann_format_navi).
"""

from collections.abc import Sequence
from pathlib import Path

from ..name_checks import classes_not_listed
from ..sample import DatasetSpec, RawId, SampleDataset
from .class_ids import background_class, background_notes
from .json_files import read_json
from .paths import MissingImages, StrPath, require_folder, require_image
from .rows import require_images
from .shape_rows import ShapeRows
from .supervisely_figures import figure_mask, parse_figures, stated_size
from .supervisely_meta import ids_are_numbers, meta_notes, read_meta


def read_supervisely(
    spec: DatasetSpec,
    annotations: StrPath,
    *,
    background: RawId | None = None,
    missing_images: MissingImages = "error",
) -> SampleDataset:
    """A Supervisely project, or one dataset of it, as semantic annotation, instance masks or boxes,
    by the spec's task.

    `ann/NAME.EXT.json` belongs to `img/NAME.EXT` beside it; `meta.json` of the project, which lists
    its classes, lies in `annotations` or in a folder above. Bitmaps, polygons with holes and
    rectangles are read; other geometries are left out with a note. Supervisely's SDK writes the
    numbers of pixels: a rectangle holds both its corners, a polygon its whole border
    (`cv2.fillPoly`), a hole is cut out with its border, and so it is here. In a file with a
    fraction in any corner, which the SDK never writes, corners lie between pixels instead, and a
    pixel belongs to an outline if its center lies in it. Figures of one class that are bound
    together (`instance`) are one object. In semantic annotation later figures lie on top, and
    pixels in no figure are void unless `background` names their id. In the other tasks figures of a
    class that the spec calls void are left out. The image id is `DATASET/NAME.EXT`. Rows are sorted
    by it, objects keep the order of the file.

    Args:
        spec: the dataset, of task `semantic`, `instance` or `boxes`; its raw ids are the words in
            `classTitle`, or, where all of them are numbers, `classId`.
        annotations: folder of the project, or of one of its datasets.
        background: raw id of the pixels in no figure (semantic annotation).
        missing_images: what to do with an annotation that has no image; "skip" leaves it out.

    Raises:
        FileNotFoundError: for a missing folder.
        ValueError: for a damaged `meta.json`, or no annotation at all. Faults of single images are
            `problems` of the dataset (broken JSON, a missing key, an unknown class, a figure that
            is none or lies outside the image), or a BadSampleError on loading (an image of another
            size than listed, a damaged bitmap).
    """
    folder = require_folder(annotations)
    paths = sorted(path for path in folder.rglob("*.json") if path.parent.name == "ann")
    if not paths:
        raise ValueError(
            f"dataset '{spec.name}': no ann/*.json in {folder}; name the folder of a project in "
            "Supervisely's format"
        )
    background_index = background_class(spec, background)
    meta, rows = read_meta(folder), ShapeRows(spec, missing_images)
    for path in paths:
        with rows.image():
            image = path.parent.parent / "img" / path.name.removesuffix(".json")
            require_image(image, f"the image of {path}")
            content = read_json(path)
            size = stated_size(content, path, image)
            shapes = parse_figures(content, meta, rows, size, path)
            image_id = (path.parent.parent.relative_to(folder) / image.name).as_posix()
            file_name = image.relative_to(folder).as_posix()
            rows.add_image(
                image, path, image_id=image_id, file_name=file_name, size=size, shapes=shapes
            )
    notes = [
        *rows.not_read_notes(f"objects in {folder} of geometries"),
        *meta_notes(spec, meta, folder),
        *background_notes(spec, background),
    ]
    notes += rows.absent_notes(len(paths), f"annotations in {folder} have no image")
    if unlabeled := _images_without_annotation(paths):
        notes.append(
            f"{len(unlabeled)} images in {folder} have no annotation, such as {unlabeled[0]}: left "
            "out"
        )
    not_looked_for = () if ids_are_numbers(spec) else classes_not_listed(spec, meta.titles)
    data = rows.samples(
        figure_mask, background_index, notes, meta.stated_names(spec), not_looked_for
    )
    return require_images(data, folder)


def _images_without_annotation(paths: Sequence[Path]) -> list[str]:
    annotated = {(path.parent.parent / "img", path.name.removesuffix(".json")) for path in paths}
    folders = sorted({folder for folder, _ in annotated if folder.is_dir()})
    images = [
        (folder, path.name)
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]
    return [str(folder / name) for folder, name in images if (folder, name) not in annotated]
