"""PASCAL VOC (Everingham et al., IJCV 2010) and PASCAL Context (Mottaghi et al., CVPR 2014)."""

from ..sample import DatasetSpec
from .tables import classes, index_by_id

# The words of the XML files, in the order of the PNGs' ids 1..20 (VOCdevkit, VOCinit.m).
# fmt: off
_VOC_NAMES = {
    "aeroplane": "aeroplane", "bicycle": "bicycle", "bird": "bird", "boat": "boat",
    "bottle": "bottle", "bus": "bus", "car": "car", "cat": "cat", "chair": "chair", "cow": "cow",
    "diningtable": "dining table", "dog": "dog", "horse": "horse", "motorbike": "motorbike",
    "person": "person", "pottedplant": "potted plant", "sheep": "sheep", "sofa": "sofa",
    "train": "train", "tvmonitor": "tv monitor",
}
# In the order of the authors' 59_labels.txt. Its first 20 are VOC's, but "table" is any table.
_CONTEXT_THINGS = tuple(name.replace("dining table", "table") for name in _VOC_NAMES.values())
_CONTEXT_NAMES = (
    *_CONTEXT_THINGS,
    "bag", "bed", "bench", "book", "building", "cabinet", "ceiling", "cloth", "computer", "cup",
    "door", "fence", "floor", "flower", "food", "grass", "ground", "keyboard", "light", "mountain",
    "mouse", "curtain", "platform", "sign", "plate", "road", "rock", "shelves", "sidewalk", "sky",
    "snow", "bedclothes", "track", "tree", "truck", "wall", "water", "window", "wood",
)
# fmt: on

_VOC_CLASSES = classes(_VOC_NAMES.values(), things=_VOC_NAMES.values())
_VOC_LICENSE = "images under Flickr's terms of use; none stated for the annotations"
_VOC_HOMEPAGE = "http://host.robots.ox.ac.uk/pascal/VOC/"

PASCAL_VOC_SEMANTIC = DatasetSpec(
    name="pascal_voc_semantic",
    task="semantic",
    classes=_VOC_CLASSES,
    id_map=index_by_id(range(1, 21)),
    void_ids=frozenset({0, 255}),
    license=_VOC_LICENSE,
    homepage=_VOC_HOMEPAGE,
    reader="image_png",
)
"""The palette PNGs of SegmentationClass: 1..20; background (0) and the outlines of objects (255)
are void.
"""

PASCAL_VOC_INSTANCES = DatasetSpec(
    name="pascal_voc_instances",
    task="instance",
    classes=_VOC_CLASSES,
    id_map=index_by_id(range(1, 21)),
    void_ids=frozenset({0, 255}),
    license=_VOC_LICENSE,
    homepage=_VOC_HOMEPAGE,
    reader="instance_map",
)
"""The palette PNGs of SegmentationClass and SegmentationObject together: a mask per object, without
its outline (255).

The folder SegmentationObject is the reader's option `objects`.
"""

PASCAL_VOC_BOXES = DatasetSpec(
    name="pascal_voc_boxes",
    task="boxes",
    classes=_VOC_CLASSES,
    id_map=index_by_id(_VOC_NAMES),
    license=_VOC_LICENSE,
    homepage=_VOC_HOMEPAGE,
    reader="pascal_voc",
)
"""The XML files of Annotations; raw ids are the class words in them."""

_CONTEXT_CLASSES = classes(_CONTEXT_NAMES, things=_CONTEXT_THINGS)
_CONTEXT_HOMEPAGE = "https://cs.stanford.edu/~roozbeh/pascal-context/"

PASCAL_CONTEXT = DatasetSpec(
    name="pascal_context",
    task="semantic",
    classes=_CONTEXT_CLASSES,
    id_map=index_by_id(range(1, 60)),
    void_ids=frozenset({0}),
    license=_VOC_LICENSE,
    homepage=_CONTEXT_HOMEPAGE,
    reader="image_png",
)
"""The 59 frequent classes, with the ids of the authors' PNGs (59_context_labels.tar.gz,
59_labels.txt); 0 is the rest.

Things are the 20 classes of which PASCAL VOC annotates objects (our setting: the dataset says
nothing of things).
"""

PASCAL_CONTEXT_DETAIL = DatasetSpec(
    name="pascal_context_detail",
    task="semantic",
    classes=_CONTEXT_CLASSES,
    id_map={
        raw_id: _CONTEXT_NAMES.index(name)
        for raw_id, name in enumerate(sorted(_CONTEXT_NAMES), start=1)
    },
    void_ids=frozenset({0}),
    license=_VOC_LICENSE,
    homepage=_CONTEXT_HOMEPAGE,
    reader="image_png",
)
"""The same classes with the ids of the other PNGs in use, in which 1..59 follow the alphabet.

MMSegmentation's `pascal_context.py` converter writes them from the json of PASCAL in Detail. Both
kinds hold 0..59, so no reader can tell them apart.
"""
