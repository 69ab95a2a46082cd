"""Regions drawn in Label Studio: its export "JSON", one list of tasks
(https://labelstud.io/guide/export).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..name_checks import classes_not_listed, label_list_notes
from ..sample import BadSampleError, DatasetSpec, SampleDataset
from .class_ids import background_class, background_notes
from .json_files import json_list
from .label_studio_regions import brush_mask, kind_of, parse_regions, stated_size
from .paths import IMAGE_SUFFIXES, MissingImages, StrPath, require_file, require_folder
from .rows import require_images
from .shape_rows import ShapeRows
from .stated_paths import StatedPaths
from .values import flag, require_key
from .xml_files import xml_root


def read_label_studio(
    spec: DatasetSpec,
    images: StrPath,
    annotation_file: StrPath,
    *,
    image_key: str | None = None,
    completed_by: int | str | None = None,
    predictions: bool = False,
    background: str | None = None,
    missing_images: MissingImages = "error",
    setup: StrPath | None = None,
) -> SampleDataset:
    """Label Studio's export "JSON", as semantic annotation, instance masks or boxes: what the
    spec's task says.

    Brush masks, polygons, rectangles and ellipses (both may be rotated) are read; they are percents
    of the original image. A pixel belongs to an outline if its center lies in it, to a brush mask
    if its alpha is above 128. Other results (keypoints, choices, bitmasks, ...) are left out with a
    note, predictions too. Of several annotations of a task the newest counts that was not canceled
    (`updated_at`, else `created_at`, else the order of the file). In semantic annotation later
    regions lie on top, and pixels in no region are void unless `background` names their id. In the
    other tasks regions of a category that the spec calls void are left out. Tasks without
    annotation are left out with a note; a task with an empty one is an image without objects.

    The image of a task is the file below `images` whose path there is the longest tail of the
    task's path or address, with or without the prefix of 8 digits that an upload gets
    (`StatedPaths`); its path below `images` is the image id. Rows are sorted by image id, objects
    keep the order of the file. The JSON is read task by task.

    Args:
        spec: the dataset, of task `semantic`, `instance` or `boxes`; its raw ids are the labels'
            values.
        images: folder of the images.
        annotation_file: the JSON.
        image_key: of a task's `data`, where the image's address stands; else the one named like the
            results' `to_name`, or the only one that ends like an image.
        completed_by: number or e-mail of the annotator whose annotations count; those of all by
            default.
        predictions: read a task's newest prediction instead of its annotations (pre-annotations,
            such as `dataseg predict` writes).
        background: raw id of the pixels in no region (semantic annotation).
        missing_images: what to do with a task whose image is not in `images`; "skip" leaves it out.
        setup: the project's labeling setup, an XML file. Classes that it has no label for count as
            not looked for (`Sample.incomplete`); the export itself does not list the labels.

    Raises:
        FileNotFoundError: for a missing folder or JSON.
        ValueError: for a file that is no such JSON (JSON-MIN among them), or no image at all.
            Faults of single images are `problems` of the dataset (a missing key, an unknown label,
            a region with several labels or none, one that lies outside the image, an image rotated
            in the tool, an image that two tasks name), or a BadSampleError on loading (an image of
            another size than listed, damaged run lengths).
    """
    image_dir, annotation_file = (
        require_folder(images),
        require_file(annotation_file, "the JSON export"),
    )
    background_index = background_class(spec, background)
    labels = [] if setup is None else _labels_of_setup(require_file(setup, "the labeling setup"))
    choice = _Choice(image_key, completed_by, predictions)
    tasks = _Tasks(image_dir, annotation_file, choice, ShapeRows(spec, missing_images))
    for task in json_list(annotation_file, "the export 'JSON' of Label Studio"):
        tasks.add(task)
    rows, tally = tasks.rows, tasks.tally
    if not tally.tasks:
        raise ValueError(f"{annotation_file}: holds no task; export the project as 'JSON'")
    notes = [*background_notes(spec, background), *tally.notes(annotation_file)]
    notes += label_list_notes(spec, labels, setup)
    notes += rows.absent_notes(
        tally.tasks, f"tasks of {annotation_file} have no image in {image_dir}"
    )
    notes += rows.not_read_notes(f"results of {annotation_file}")
    not_looked_for = classes_not_listed(spec, labels)
    data = rows.samples(brush_mask, background_index, notes, not_looked_for=not_looked_for)
    if not len(data) and not rows.problems and tally.without == tally.tasks:
        raise ValueError(
            f"{annotation_file}: none of its {tally.tasks} tasks has an annotation that counts"
        )
    return require_images(data, image_dir)


def _labels_of_setup(path: Path) -> list[str]:
    """The values of all labels in a labeling setup."""
    root = xml_root(path, "View", "the code of the project's labeling setup")
    return [label.get("value", "") for label in root.iter("Label")]


@dataclass(frozen=True)
class _Choice:
    """Which annotation of a task is read, and of which image; as `read_label_studio` has them."""

    image_key: str | None
    completed_by: int | str | None
    predictions: bool


@dataclass
class _Tally:
    """What was left out, or chosen among several, in a file."""

    tasks: int = 0
    without: int = 0
    predicted: int = 0
    several: int = 0

    def notes(self, path: Path) -> list[str]:
        """For a user."""
        notes = []
        if self.without:
            notes.append(
                f"{self.without} of {self.tasks} tasks of {path} have no annotation that counts: "
                "left out"
            )
        if self.several:
            notes.append(
                f"{self.several} tasks of {path} have several annotations: the newest of each is "
                "taken"
            )
        if self.predicted:
            notes.append(f"{self.predicted} tasks of {path} have predictions, which are not read")
        return notes


class _Tasks:
    """Makes rows of the tasks of a file, one after the other.

    Args:
        image_dir: folder of the images.
        annotation_file: the JSON.
        choice: what of each task is read.
        rows: to which the images are added.
    """

    def __init__(
        self, image_dir: Path, annotation_file: Path, choice: _Choice, rows: ShapeRows
    ) -> None:
        self.image_dir, self.annotation_file = image_dir, annotation_file
        self.choice, self.rows, self.tally = choice, rows, _Tally()
        self._stated_paths = StatedPaths(image_dir)
        self._task_of_image: dict[str, str] = {}

    def add(self, task: Any) -> None:
        """Add the image of a task, or its problem.

        Raises:
            ValueError: for a task of another export.
        """
        _refuse_other_export(task, self.annotation_file)
        self.tally.tasks += 1
        with self.rows.image():
            self._add(task, _task_name(task, self.tally.tasks))

    def _add(self, task: Any, task_name: str) -> None:
        where = f"{self.annotation_file}: task {task_name}"
        annotation = _chosen_annotation(task, self.choice, self.tally, where)
        if annotation is None:
            return
        results = _results(annotation, where)
        data = require_key(task, "data", where)
        address = _image_address(data, results, self.choice.image_key, where)
        path = self._stated_paths.find(address, where)
        name = path.relative_to(self.image_dir).as_posix()
        if name in self._task_of_image:
            raise BadSampleError(
                f"{where}: its image {address[:200]!r} is {name}, as that of task "
                f"{self._task_of_image[name]}; remove one of the tasks, or give `images` the "
                "folders that tell them apart"
            )
        self._task_of_image[name] = task_name
        size = stated_size(results, path, where)
        shapes = parse_regions(results, self.rows, size, where)
        self.rows.add_image(
            path, self.annotation_file, image_id=name, file_name=name, size=size, shapes=shapes
        )


# --- a task


def _refuse_other_export(task: Any, path: Path) -> None:
    if (
        isinstance(task, Mapping)
        and "data" not in task
        and ("annotation_id" in task or "annotator" in task)
    ):
        raise ValueError(
            f"{path}: is the export 'JSON-MIN', which leaves out what is needed; export it as "
            "'JSON'"
        )


def _task_name(task: Any, place: int) -> str:
    identity = task.get("id") if isinstance(task, Mapping) else None
    return str(identity) if isinstance(identity, int | str) else f"number {place} of the file"


def _chosen_annotation(task: Any, choice: _Choice, tally: _Tally, where: str) -> Any:
    """The newest annotation, or prediction, that counts; None where the task has none."""
    # before 1.0
    key = "completions" if isinstance(task, Mapping) and "completions" in task else "annotations"
    if choice.predictions:
        key = "predictions"
    elif isinstance(task, Mapping) and key not in task and task.get("predictions"):
        raise BadSampleError(
            f"{where}: has predictions and no annotations; set `predictions: true` to read them"
        )
    listed = _mappings(task, key, "annotations", where)
    tally.predicted += bool(task.get("predictions")) and not choice.predictions
    counting = [
        annotation
        for annotation in listed
        if not flag(annotation.get("was_cancelled"), f"{where}: was_cancelled")
        and _is_by(annotation.get("completed_by"), choice.completed_by)
    ]
    if not counting:
        tally.without += 1
        return None
    tally.several += len(counting) > 1
    return max(enumerate(counting), key=lambda pair: (_time(pair[1]), pair[0]))[1]


def _time(annotation: Mapping[str, Any]) -> str:
    """When it was changed last; ISO 8601 sorts as text."""
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _is_by(annotator: Any, wanted: int | str | None) -> bool:
    """Whether an annotator has that number or e-mail; anyone does for None."""
    names = (
        [annotator.get("id"), annotator.get("email")]
        if isinstance(annotator, Mapping)
        else [annotator]
    )
    return wanted is None or str(wanted) in [str(name) for name in names]


def _results(annotation: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    return _mappings(annotation, "result", "results", where)


def _mappings(holder: Any, key: str, what: str, where: str) -> list[Mapping[str, Any]]:
    """The list of JSON objects at a key; BadSampleError for anything else."""
    listed = require_key(holder, key, where)
    if not isinstance(listed, list) or not all(isinstance(entry, Mapping) for entry in listed):
        raise BadSampleError(
            f"{where}: `{key}` must be a list of {what}; export the project as 'JSON'"
        )
    return listed


def _image_address(
    data: Any, results: Sequence[Mapping[str, Any]], image_key: str | None, where: str
) -> str:
    """The address of the image that was labeled."""
    if not isinstance(data, Mapping):
        raise BadSampleError(
            f"{where}: `data` must hold the image's address; export the project as 'JSON'"
        )
    if image_key is not None:
        address = require_key(data, image_key, f"{where}: data")
        if not isinstance(address, str) or not address:
            raise BadSampleError(
                f"{where}: data: {image_key!r} must be the address of one image; correct it"
            )
        return address
    labeled = _labeled_name(results, where)
    addresses = {key: value for key, value in data.items() if _ends_like_image(value)}
    if labeled in addresses:
        return addresses[labeled]
    return _only_address(data, addresses, where)


def _labeled_name(results: Sequence[Mapping[str, Any]], where: str) -> str | None:
    """The image that the regions of a task name; None where they name none."""
    labeled = sorted(
        {str(result["to_name"]) for result in results if kind_of(result) and "to_name" in result}
    )
    if len(labeled) > 1:
        raise BadSampleError(
            f"{where}: regions on several images ({', '.join(labeled)}); make a task of each image"
        )
    return labeled[0] if labeled else None


def _only_address(data: Mapping[str, Any], addresses: Mapping[Any, str], where: str) -> str:
    """The address of the one image in `data`; BadSampleError for none and for several."""
    lists = [
        key
        for key, value in data.items()
        if isinstance(value, list) and any(map(_ends_like_image, value))
    ]
    if lists:
        raise BadSampleError(
            f"{where}: data: {lists[0]!r} lists several images; make a task of each image"
        )
    if len(addresses) != 1:
        found = (
            f"{len(addresses)} values of `data` ({', '.join(map(str, addresses))}) end"
            if addresses
            else "nothing in `data` ends"
        )
        raise BadSampleError(
            f"{where}: {found} like an image; name the key of the right one as `image_key` in "
            "`options`"
        )
    return next(iter(addresses.values()))


def _ends_like_image(address: Any) -> bool:
    if not isinstance(address, str):
        return False
    path = address.split("?d=", 1)[-1] if "?d=" in address else address.split("?", 1)[0]
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES
