"""Which reader's files hold the annotation that a task needs."""

from collections.abc import Mapping

from ...model.tasks_dataseg import TASKS, LabelForm
from ..sample import DatasetSpec

READER_FORMS: Mapping[str, tuple[LabelForm, ...]] = {
    "coco_panoptic": ("segments",),
    "coco_instances": ("classes", "masks", "boxes", "degrees"),
    "image_png": ("classes",),
    "instance_map": ("segments", "classes", "masks", "boxes"),
    "pascal_voc": ("boxes",),
    "yolo": ("masks", "boxes", "degrees"),
    "labelme": ("classes", "masks", "boxes", "degrees"),
    "cvat_xml": ("classes", "masks", "boxes", "degrees"),
    "label_studio": ("classes", "masks", "boxes", "degrees"),
    "supervisely": ("classes", "masks", "boxes", "degrees"),
    "open_images": ("boxes", "degrees"),
    "hub": ("segments", "classes", "masks", "boxes"),
}
"""What labels it gives, by the reader's name in a run's settings."""


def tasks_of_reader(reader: str) -> list[str]:
    """The tasks whose labels a reader of `READER_FORMS` gives."""
    forms = READER_FORMS[reader]
    return [name for name, task in TASKS.items() if task.label_form in forms]


def require_task(spec: DatasetSpec, reader: str) -> None:
    """Refuse a reader whose files do not hold what the spec's task needs; readers of one's own are
    not in the table.

    Raises:
        ValueError: names the tasks of the reader, and readers of the task.
    """
    forms = READER_FORMS.get(reader)
    if forms is None or spec.label_form in forms:
        return
    able = [other for other, given in READER_FORMS.items() if spec.label_form in given]
    raise ValueError(
        f"dataset '{spec.name}': reader '{reader}' serves the task "
        f"{' or '.join(tasks_of_reader(reader))}, not '{spec.task}'; change the spec's task, or "
        f"give annotation for a reader of '{spec.task}': {', '.join(able)}"
    )
