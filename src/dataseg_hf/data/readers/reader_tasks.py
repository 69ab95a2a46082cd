"""Which reader's files hold the annotation that a task needs."""

from collections.abc import Mapping

from ..sample import DatasetSpec, TaskName

READER_TASKS: Mapping[str, tuple[TaskName, ...]] = {
    "coco_panoptic": ("panoptic",),
    "coco_instances": ("semantic", "instance", "boxes"),
    "image_png": ("semantic",),
    "instance_map": ("panoptic", "semantic", "instance", "boxes"),
    "pascal_voc": ("boxes",),
    "yolo": ("instance", "boxes"),
    "labelme": ("semantic", "instance", "boxes"),
    "cvat_xml": ("semantic", "instance", "boxes"),
    "label_studio": ("semantic", "instance", "boxes"),
    "supervisely": ("semantic", "instance", "boxes"),
    "hub": ("panoptic", "semantic", "instance", "boxes"),
}
"""By the reader's name in a run's settings."""


def require_task(spec: DatasetSpec, reader: str) -> None:
    """Refuse a reader whose files do not hold what the spec's task needs; readers of one's own are
    not in the table.

    Raises:
        ValueError: names the tasks of the reader, and readers of the task.
    """
    tasks = READER_TASKS.get(reader)
    if tasks is None or spec.task in tasks:
        return
    able = [other for other, served in READER_TASKS.items() if spec.task in served]
    raise ValueError(
        f"dataset '{spec.name}': reader '{reader}' serves the task {' or '.join(tasks)}, not "
        f"'{spec.task}'; change the "
        f"spec's task, or give annotation for a reader of '{spec.task}': {', '.join(able)}"
    )
