"""All readers by name. Importing it imports what any of them needs: `datasets`, torch."""

from collections.abc import Callable, Mapping

from ..sample import SampleDataset, SampleStream
from .coco_instances import read_coco_instances
from .coco_panoptic import read_coco_panoptic
from .cvat_xml import read_cvat_xml
from .hub import read_hub
from .image_png import read_image_png
from .instance_map import read_instance_map
from .label_studio import read_label_studio
from .labelme import read_labelme
from .open_images import read_open_images
from .pascal_voc import read_pascal_voc
from .supervisely import read_supervisely
from .yolo import read_yolo

Reader = Callable[..., SampleDataset | SampleStream]

READERS: Mapping[str, Reader] = {
    "coco_panoptic": read_coco_panoptic,
    "coco_instances": read_coco_instances,
    "image_png": read_image_png,
    "instance_map": read_instance_map,
    "pascal_voc": read_pascal_voc,
    "yolo": read_yolo,
    "labelme": read_labelme,
    "cvat_xml": read_cvat_xml,
    "label_studio": read_label_studio,
    "supervisely": read_supervisely,
    "open_images": read_open_images,
    "hub": read_hub,
}
"""By the name that a run's settings use. Each takes the spec first, then the keyword arguments of
its format.
"""
