"""COCO (Lin et al., ECCV 2014; Kirillov et al., CVPR 2019): panoptic, semantic, instances, boxes."""

from ..sample import DatasetSpec
from .tables import classes, index_by_id

# Raw category id -> name, from COCO's panoptic categories
# (https://github.com/cocodataset/panopticapi/blob/master/panoptic_coco_categories.json). Stuff names there carry marks
# of the label merging ("tree-merged", "wall-brick"); here they are words that a text encoder can read.
# fmt: off
_THINGS = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}
_STUFF = {
    92: "banner", 93: "blanket", 95: "bridge", 100: "cardboard", 107: "counter", 109: "curtain", 112: "door",
    118: "wood floor", 119: "flower", 122: "fruit", 125: "gravel", 128: "house", 130: "light", 133: "mirror",
    138: "net", 141: "pillow", 144: "platform", 145: "playing field", 147: "railroad", 148: "river", 149: "road",
    151: "roof", 154: "sand", 155: "sea", 156: "shelf", 159: "snow", 161: "stairs", 166: "tent", 168: "towel",
    171: "brick wall", 175: "stone wall", 176: "tile wall", 177: "wood wall", 178: "water", 180: "window blind",
    181: "window", 184: "tree", 185: "fence", 186: "ceiling", 187: "sky", 188: "cabinet", 189: "table", 190: "floor",
    191: "pavement", 192: "mountain", 193: "grass", 194: "dirt", 195: "paper", 196: "food", 197: "building",
    198: "rock", 199: "wall", 200: "rug",
}
# fmt: on

_LICENCE = "annotations CC BY 4.0; images under their Flickr licences"
_HOMEPAGE = "https://cocodataset.org"
_PANOPTIC_CLASSES = _THINGS | _STUFF

COCO_PANOPTIC = DatasetSpec(
    name="coco_panoptic",
    task="panoptic",
    classes=classes(_PANOPTIC_CLASSES.values(), things=_THINGS.values()),
    id_map=index_by_id(_PANOPTIC_CLASSES),
    licence=_LICENCE,
    homepage=_HOMEPAGE,
    reader="coco_panoptic",
)
"""COCO panoptic: 80 things and 53 stuff classes, in the order of their category ids."""

COCO_SEMANTIC = DatasetSpec(
    name="coco_semantic",
    task="semantic",
    classes=COCO_PANOPTIC.classes,
    id_map=COCO_PANOPTIC.id_map,
    void_ids=frozenset({0}),
    licence=_LICENCE,
    homepage=_HOMEPAGE,
    reader="image_png",
)
"""PNGs that hold COCO's panoptic category ids (1..200), 0 where unlabelled."""

COCO_INSTANCES = DatasetSpec(
    name="coco_instances",
    task="instance",
    classes=classes(_THINGS.values(), things=_THINGS.values()),
    id_map=index_by_id(_THINGS),
    licence=_LICENCE,
    homepage=_HOMEPAGE,
    reader="coco_instances",
)
"""COCO instances: the 80 things with a mask per object."""

COCO_BOXES = DatasetSpec(
    name="coco_boxes",
    task="boxes",
    classes=COCO_INSTANCES.classes,
    id_map=COCO_INSTANCES.id_map,
    licence=_LICENCE,
    homepage=_HOMEPAGE,
    reader="coco_instances",
)
"""COCO instances of which only the boxes are used."""
