"""Cityscapes (Cordts et al., CVPR 2016): semantic, panoptic and instances."""

from ..sample import DatasetSpec
from .tables import classes, index_by_id

# Label ids of
# https://github.com/mcordts/cityscapesScripts/blob/master/cityscapesscripts/helpers/labels.py. fmt:
# off
_STUFF = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
}
_THINGS = {
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
_NOT_EVALUATED = {
    0: "unlabeled",
    1: "ego vehicle",
    2: "rectification border",
    3: "out of roi",
    4: "static",
    5: "dynamic",
    6: "ground",
    9: "parking",
    10: "rail track",
    14: "guard rail",
    15: "bridge",
    16: "tunnel",
    18: "polegroup",
    29: "caravan",
    30: "trailer",
}  # and -1, license plate, which the PNGs do not draw
# fmt: on

_NAMES = _STUFF | _THINGS
_CLASSES = classes(_NAMES.values(), things=_THINGS.values())
_LICENSE = "non-commercial (Cityscapes license agreement)"
_HOMEPAGE = "https://www.cityscapes-dataset.com"
_INSTANCE_IDS = {
    "divisor": 1000,
    "image_suffix": "_leftImg8bit.png",
    "annotation_suffix": "_gtFine_instanceIds.png",
}

CITYSCAPES_SEMANTIC = DatasetSpec(
    name="cityscapes_semantic",
    task="semantic",
    classes=_CLASSES,
    id_map=index_by_id(_NAMES),
    void_ids=frozenset(_NOT_EVALUATED),
    license=_LICENSE,
    homepage=_HOMEPAGE,
    reader="image_png",
    reader_options={
        "image_suffix": "_leftImg8bit.png",
        "annotation_suffix": "_gtFine_labelIds.png",
    },
)
"""The 19 evaluated classes out of the published labelIds PNGs (not the trainIds that one may derive
from them).
"""

CITYSCAPES_PANOPTIC = DatasetSpec(
    name="cityscapes_panoptic",
    task="panoptic",
    classes=_CLASSES,
    id_map=index_by_id(_NAMES),
    license=_LICENSE,
    homepage=_HOMEPAGE,
    reader="coco_panoptic",
    # aachen_000000_000019_gtFine_leftImg8bit.png -> aachen/aachen_000000_000019_leftImg8bit.png
    reader_options={
        "file_name_pattern": (
            r"^([^_]+)_(.+)_gtFine_leftImg8bit\.png$",
            r"\1/\1_\2_leftImg8bit.png",
        ),
    },
)
"""8 things and 11 stuff classes, as cityscapesscripts' `csCreatePanopticImgs` writes them without
--use-train-id.
"""

CITYSCAPES_GTFINE_PANOPTIC = DatasetSpec(
    name="cityscapes_gtfine_panoptic",
    task="panoptic",
    classes=_CLASSES,
    id_map=index_by_id(_NAMES),
    void_ids=frozenset(_NOT_EVALUATED),
    license=_LICENSE,
    homepage=_HOMEPAGE,
    reader="instance_map",
    reader_options=_INSTANCE_IDS,
)
"""The same out of the published instanceIds PNGs, without a conversion; groups, such as cargroup,
are crowds.
"""

CITYSCAPES_INSTANCES = DatasetSpec(
    name="cityscapes_instances",
    task="instance",
    classes=classes(_THINGS.values(), things=_THINGS.values()),
    id_map=index_by_id(_THINGS),
    void_ids=frozenset({*_NOT_EVALUATED, *_STUFF}),
    license=_LICENSE,
    homepage=_HOMEPAGE,
    reader="instance_map",
    reader_options=_INSTANCE_IDS,
)
"""The 8 things of the instanceIds PNGs, a mask each; groups are crowds."""
