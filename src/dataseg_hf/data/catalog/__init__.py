"""The facts of known datasets: classes, raw ids, thing flags. Where their files lie belongs to the
run's config.

One file per family. `docs/catalog.md` has the table.
"""

from ..sample import DatasetSpec
from .ade20k import ADE20K_PANOPTIC, ADE20K_SEMANTIC
from .camvid import CAMVID
from .cityscapes import (
    CITYSCAPES_GTFINE_PANOPTIC,
    CITYSCAPES_INSTANCES,
    CITYSCAPES_PANOPTIC,
    CITYSCAPES_SEMANTIC,
)
from .coco import COCO_BOXES, COCO_INSTANCES, COCO_PANOPTIC, COCO_SEMANTIC
from .mapillary import MAPILLARY_VISTAS_PANOPTIC, MAPILLARY_VISTAS_SEMANTIC
from .objects365 import OBJECTS365_BOXES, OBJECTS365_INSTANCES
from .pascal import (
    PASCAL_CONTEXT,
    PASCAL_CONTEXT_DETAIL,
    PASCAL_VOC_BOXES,
    PASCAL_VOC_INSTANCES,
    PASCAL_VOC_SEMANTIC,
)

CATALOG: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        COCO_PANOPTIC,
        COCO_SEMANTIC,
        COCO_INSTANCES,
        COCO_BOXES,
        ADE20K_SEMANTIC,
        ADE20K_PANOPTIC,
        OBJECTS365_BOXES,
        OBJECTS365_INSTANCES,
        CITYSCAPES_SEMANTIC,
        CITYSCAPES_PANOPTIC,
        CITYSCAPES_GTFINE_PANOPTIC,
        CITYSCAPES_INSTANCES,
        MAPILLARY_VISTAS_SEMANTIC,
        MAPILLARY_VISTAS_PANOPTIC,
        PASCAL_VOC_SEMANTIC,
        PASCAL_VOC_INSTANCES,
        PASCAL_VOC_BOXES,
        PASCAL_CONTEXT,
        PASCAL_CONTEXT_DETAIL,
        CAMVID,
    )
}
"""The known datasets, by name (`docs/catalog.md` is the table)."""

__all__ = [
    "ADE20K_PANOPTIC",
    "ADE20K_SEMANTIC",
    "CAMVID",
    "CATALOG",
    "CITYSCAPES_GTFINE_PANOPTIC",
    "CITYSCAPES_INSTANCES",
    "CITYSCAPES_PANOPTIC",
    "CITYSCAPES_SEMANTIC",
    "COCO_BOXES",
    "COCO_INSTANCES",
    "COCO_PANOPTIC",
    "COCO_SEMANTIC",
    "MAPILLARY_VISTAS_PANOPTIC",
    "MAPILLARY_VISTAS_SEMANTIC",
    "OBJECTS365_BOXES",
    "OBJECTS365_INSTANCES",
    "PASCAL_CONTEXT",
    "PASCAL_CONTEXT_DETAIL",
    "PASCAL_VOC_BOXES",
    "PASCAL_VOC_INSTANCES",
    "PASCAL_VOC_SEMANTIC",
]
