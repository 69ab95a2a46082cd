"""Names of different datasets that mean the same, written down before any encoder saw them.

A group is one meaning. Only different spellings count: where the other dataset has the very same
name, nothing is asked. `SYNONYMS` is for choosing; `HELD_OUT`, of other names and larger datasets,
says whether the choice holds. `SPELLINGS` are official names beside what the catalog makes of them.
"""

CHOSEN_SETS = (
    "coco_panoptic",
    "ade20k_semantic",
    "cityscapes_semantic",
    "pascal_context",
    "pascal_voc_semantic",
    "camvid",
)
HELD_OUT_SETS = ("objects365_boxes", "mapillary_vistas_semantic")

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("sofa", "couch"),
    ("tv", "television", "tv monitor"),
    ("motorbike", "motorcycle", "minibike"),
    ("aeroplane", "airplane"),
    ("pavement", "sidewalk"),
    ("person", "pedestrian"),
    ("bicyclist", "rider"),
    ("traffic sign", "sign symbol", "sign", "signboard"),
    ("window", "windowpane"),
    ("earth", "ground", "dirt"),
    ("vegetation", "tree"),
    ("vegetation", "plant"),
    ("potted plant", "plant"),
    ("railroad", "track"),
    ("shelf", "shelves"),
    ("dining table", "table"),
    ("sports ball", "ball"),
    ("window blind", "blind"),
)

# Of these, only what has a dataset of HELD_OUT_SETS on at least one side is asked.
HELD_OUT: tuple[tuple[str, ...], ...] = (
    ("street lights", "street light", "streetlight"),
    ("trash can", "ashcan"),
    ("handbag or satchel", "handbag"),
    ("monitor or tv", "tv", "television", "tv monitor"),
    ("picture or frame", "painting"),
    ("barrel or bucket", "barrel"),
    ("bowl or basin", "bowl"),
    ("carpet", "rug"),
    ("stuffed toy", "teddy bear"),
    ("orange or tangerine", "orange"),
    ("skiboard", "skis"),
    ("luggage", "suitcase"),
    ("gas stove", "stove"),
    ("hair dryer", "hair drier"),
    ("washing machine or drying machine", "washer"),
    ("cabinet or shelf", "cabinet"),
    ("cabinet or shelf", "shelf"),
    ("surveillance camera", "cctv camera"),
    ("rider", "bicyclist"),
    ("rider", "motorcyclist"),
    ("traffic sign", "traffic sign front", "sign symbol"),
    ("rail track", "railroad", "track"),
    ("train", "on rails"),
    ("ground animal", "animal"),
    ("wild bird", "bird"),
    ("storage box", "box"),
)

SPELLINGS: dict[str, dict[str, str]] = {
    "coco_panoptic": {
        "wall-other-merged": "wall",
        "building-other-merged": "building",
        "food-other-merged": "food",
        "water-other": "water",
        "window-other": "window",
        "tree-merged": "tree",
        "table-merged": "table",
        "pavement-merged": "pavement",
        "rug-merged": "rug",
        "grass-merged": "grass",
        "door-stuff": "door",
        "mirror-stuff": "mirror",
        "floor-wood": "wood floor",
        "wall-brick": "brick wall",
        "playingfield": "playing field",
    },
    "pascal_voc_semantic": {
        "diningtable": "dining table",
        "pottedplant": "potted plant",
        "tvmonitor": "tv monitor",
    },
    "camvid": {"SignSymbol": "sign symbol"},
}
"""Dataset -> official spelling -> name in the catalog."""

