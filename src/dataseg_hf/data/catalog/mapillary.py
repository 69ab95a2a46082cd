"""Mapillary Vistas v1.2 (Neuhold et al., ICCV 2017): semantic and panoptic."""

from dataclasses import replace

from ..sample import DatasetSpec
from .tables import classes, index_by_id

# `readable` of each label of config_v1.2.json without dashes and brackets, in its order: the ids in
# the PNGs count it. Things are the labels with `instances`. Mask2Former has the table, too:
# register_mapillary_vistas_panoptic.py. fmt: off
_NAMES = (
    "bird",
    "ground animal",
    "curb",
    "fence",
    "guard rail",
    "barrier",
    "wall",
    "bike lane",
    "crosswalk plain",
    "curb cut",
    "parking",
    "pedestrian area",
    "rail track",
    "road",
    "service lane",
    "sidewalk",
    "bridge",
    "building",
    "tunnel",
    "person",
    "bicyclist",
    "motorcyclist",
    "other rider",
    "lane marking crosswalk",
    "lane marking general",
    "mountain",
    "sand",
    "sky",
    "snow",
    "terrain",
    "vegetation",
    "water",
    "banner",
    "bench",
    "bike rack",
    "billboard",
    "catch basin",
    "cctv camera",
    "fire hydrant",
    "junction box",
    "mailbox",
    "manhole",
    "phone booth",
    "pothole",
    "street light",
    "pole",
    "traffic sign frame",
    "utility pole",
    "traffic light",
    "traffic sign back",
    "traffic sign front",
    "trash can",
    "bicycle",
    "boat",
    "bus",
    "car",
    "caravan",
    "motorcycle",
    "on rails",
    "other vehicle",
    "trailer",
    "truck",
    "wheeled slow",
    "car mount",
    "ego vehicle",
)
_STUFF = frozenset(
    {
        "curb",
        "fence",
        "guard rail",
        "barrier",
        "wall",
        "bike lane",
        "curb cut",
        "parking",
        "pedestrian area",
        "rail track",
        "road",
        "service lane",
        "sidewalk",
        "bridge",
        "building",
        "tunnel",
        "lane marking general",
        "mountain",
        "sand",
        "sky",
        "snow",
        "terrain",
        "vegetation",
        "water",
        "pothole",
        "on rails",
        "car mount",
        "ego vehicle",
    }
)
# fmt: on

_UNLABELED = len(_NAMES)
_WITH_BRACKETS = {
    "traffic sign back": "Traffic Sign (Back)",
    "traffic sign front": "Traffic Sign (Front)",
}
_CLASSES = tuple(
    replace(found, aliases=(_WITH_BRACKETS[found.name],)) if found.name in _WITH_BRACKETS else found
    for found in classes(_NAMES, things=frozenset(_NAMES) - _STUFF)
)
_LICENSE = "CC BY-NC-SA 4.0"
_HOMEPAGE = "https://www.mapillary.com/dataset/vistas"

MAPILLARY_VISTAS_SEMANTIC = DatasetSpec(
    name="mapillary_vistas_semantic",
    task="semantic",
    classes=_CLASSES,
    id_map=index_by_id(range(len(_NAMES))),
    void_ids=frozenset({_UNLABELED}),
    license=_LICENSE,
    homepage=_HOMEPAGE,
    reader="image_png",
)
"""The palette PNGs of `v1.2/labels`."""

MAPILLARY_VISTAS_PANOPTIC = DatasetSpec(
    name="mapillary_vistas_panoptic",
    task="panoptic",
    classes=_CLASSES,
    id_map=index_by_id(range(len(_NAMES))),
    void_ids=frozenset({_UNLABELED}),
    license=_LICENSE,
    homepage=_HOMEPAGE,
    reader="instance_map",
    reader_options={"divisor": 256, "crowd": "none"},
)
"""The 16-bit PNGs of `v1.2/instances`: class * 256 + instance. 37 things and 28 stuff classes; none
is a crowd.
"""
