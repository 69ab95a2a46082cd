"""Where a sample breaks the promises of `data.sample`."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .sample import Annotation, DatasetSpec, Instances, Sample, Segments

_BOX_TOLERANCE = 1e-3  # pixels: boxes are float32


def sample_faults(sample: Sample, spec: DatasetSpec) -> list[str]:
    """Where a sample breaks the promises of `data.sample`, as a reader of the user's own may; one
    message each.
    """
    image, annotation = sample.image, sample.annotation
    count = len(annotation.class_labels)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        return [
            f"{sample.file_name}: image is {image.dtype} {image.shape}, but must be uint8 RGB [H, "
            "W, 3]; convert it"
        ]
    height, width = image.shape[:2]
    faults = [*_label_faults(annotation, len(spec.classes))]
    if isinstance(annotation, Segments):
        faults += _map_faults(annotation.segment_map, count, height, width)
    else:
        faults += _object_faults(annotation, count, height, width)
    return [f"{sample.file_name}: {fault}" for fault in faults]


def _label_faults(annotation: Annotation, num_classes: int) -> Iterator[str]:
    labels, flags = annotation.class_labels, annotation.is_crowd
    unknown = sorted({label for label in labels.tolist() if not 0 <= label < num_classes})
    if unknown:
        yield (
            f"class indices {unknown} are not in 0..{num_classes - 1}; map raw ids to class indices"
        )
    if len(flags) != len(labels):
        yield f"{len(flags)} crowd flags for {len(labels)} class labels; give one for each"


def _map_faults(
    segment_map: NDArray[np.integer], count: int, height: int, width: int
) -> Iterator[str]:
    if segment_map.shape != (height, width):
        yield (
            f"image is {height} x {width} pixels (height x width), but its annotation is "
            f"{segment_map.shape}; export both in one size"
        )
    elif segment_map.size and not -1 <= segment_map.min() <= segment_map.max() < count:
        yield (
            f"segment map goes from {segment_map.min()} to {segment_map.max()}, but must lie in "
            f"-1..{count - 1}; list every segment, -1 is void"
        )


def _object_faults(objects: Instances, count: int, height: int, width: int) -> Iterator[str]:
    if objects.boxes.shape != (count, 4):
        yield f"boxes are {objects.boxes.shape}, but must be [{count}, 4], one for each class label"
        return
    if objects.masks is not None and objects.masks.shape != (count, height, width):
        yield (
            f"masks are {objects.masks.shape}, but must be [{count}, {height}, {width}] as the "
            "image"
        )
    for number, box in enumerate(objects.boxes):
        left, top, right, bottom = box.tolist()
        text = f"box {number} from ({left:g}, {top:g}) to ({right:g}, {bottom:g})"
        if not np.isfinite(box).all() or right <= left or bottom <= top:
            yield f"{text} has no area; correct or remove it"
        elif (
            min(left, top) < -_BOX_TOLERANCE
            or right > width + _BOX_TOLERANCE
            or bottom > height + _BOX_TOLERANCE
        ):
            yield (
                f"{text} leaves the image of {height} x {width} pixels (height x width); clip or "
                "remove it"
            )
