"""ADE20K (Zhou et al., CVPR 2017): the 150 classes of scene parsing, and their panoptic form."""

from ..sample import DatasetSpec
from .tables import classes, index_by_id

# The first of each class's synonyms in the benchmark's own list, in its order
# (https://github.com/CSAILVision/sceneparsing/blob/master/objectInfo150.txt).
# fmt: off
_NAMES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass",
    "cabinet", "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain",
    "chair", "car", "water", "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field",
    "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp", "bathtub", "railing",
    "cushion", "base", "box", "column", "signboard", "chest of drawers", "counter", "sand", "sink",
    "skyscraper", "fireplace", "refrigerator", "grandstand", "path", "stairs", "runway", "case",
    "pool table", "pillow", "screen door", "stairway", "river", "bridge", "bookcase", "blind",
    "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove", "palm",
    "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel", "bus",
    "towel", "light", "truck", "tower", "chandelier", "awning", "streetlight", "booth",
    "television", "airplane", "dirt track", "apparel", "pole", "land", "bannister", "escalator",
    "ottoman", "bottle", "buffet", "poster", "stage", "van", "ship", "fountain", "conveyer belt",
    "canopy", "washer", "plaything", "swimming pool", "stool", "barrel", "basket", "waterfall",
    "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank", "trade name",
    "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket", "sculpture",
    "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen",
    "plate", "monitor", "bulletin board", "shower", "radiator", "glass", "clock", "flag",
)
# The other 100 are the classes of the instance challenge (annotations_instance of
# ADEChallengeData2016).
_STUFF = frozenset({
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "grass", "sidewalk", "earth",
    "mountain", "plant", "water", "house", "sea", "rug", "field", "rock", "base", "sand",
    "skyscraper", "grandstand", "path", "runway", "stairway", "river", "bridge", "blind", "hill",
    "bar", "hovel", "tower", "dirt track", "land", "escalator", "buffet", "poster", "stage",
    "conveyer belt", "canopy", "swimming pool", "waterfall", "tent", "cradle", "tank", "lake",
    "blanket", "pier", "crt screen", "shower",
})
# fmt: on

_CLASSES = classes(_NAMES, things=frozenset(_NAMES) - _STUFF)
_LICENSE = "annotations BSD-3-Clause; images for non-commercial research and education"
_HOMEPAGE = "https://groups.csail.mit.edu/vision/datasets/ADE20K/"

ADE20K_SEMANTIC = DatasetSpec(
    name="ade20k_semantic",
    task="semantic",
    classes=_CLASSES,
    id_map=index_by_id(range(1, 151)),
    void_ids=frozenset({0}),
    license=_LICENSE,
    homepage=_HOMEPAGE,
    reader="image_png",
)
"""The PNGs of ADEChallengeData2016: 1..150, 0 for everything else."""

ADE20K_PANOPTIC = DatasetSpec(
    name="ade20k_panoptic",
    task="panoptic",
    classes=_CLASSES,
    id_map=index_by_id(range(150)),
    license=_LICENSE,
    homepage=_HOMEPAGE,
    reader="coco_panoptic",
)
"""100 things and 50 stuff classes in COCO's panoptic format, with category ids from 0: one less
than in the PNGs.

The benchmark publishes semantic and instance PNGs; this is the form into which Mask2Former's
`prepare_ade20k_pan_seg.py` joins them (`ade20k_panoptic_train.json`, `ade20k_panoptic_val.json`).
"""
