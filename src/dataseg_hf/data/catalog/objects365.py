"""Objects365 v2 (Shao et al., ICCV 2019): boxes, and the masks of 1,000 images that DaTaSeg's authors added."""

from ..sample import DatasetSpec
from .tables import classes, index_by_id

# In the order of the category ids of zhiyuan_objv2_train.json. Spelling is corrected ("Moniter", "Campel"), "/" reads
# "or"; four names that say too little are completed: "Trash bin Can", "Canned", and as in v1 "Tennis" and "French".
# fmt: off
_NAMES = (
    "person", "sneakers", "chair", "other shoes", "hat", "car", "lamp", "glasses", "bottle", "desk", "cup",
    "street lights", "cabinet or shelf", "handbag or satchel", "bracelet", "plate", "picture or frame", "helmet",
    "book", "gloves", "storage box", "boat", "leather shoes", "flower", "bench", "potted plant", "bowl or basin",
    "flag", "pillow", "boots", "vase", "microphone", "necklace", "ring", "suv", "wine glass", "belt",
    "monitor or tv", "backpack", "umbrella", "traffic light", "speaker", "watch", "tie", "trash can", "slippers",
    "bicycle", "stool", "barrel or bucket", "van", "couch", "sandals", "basket", "drum", "pen or pencil", "bus",
    "wild bird", "high heels", "motorcycle", "guitar", "carpet", "cell phone", "bread", "camera", "can", "truck",
    "traffic cone", "cymbal", "lifesaver", "towel", "stuffed toy", "candle", "sailboat", "laptop", "awning", "bed",
    "faucet", "tent", "horse", "mirror", "power outlet", "sink", "apple", "air conditioner", "knife", "hockey stick",
    "paddle", "pickup truck", "fork", "traffic sign", "balloon", "tripod", "dog", "spoon", "clock", "pot", "cow",
    "cake", "dining table", "sheep", "hanger", "blackboard or whiteboard", "napkin", "other fish",
    "orange or tangerine", "toiletry", "keyboard", "tomato", "lantern", "machinery vehicle", "fan",
    "green vegetables", "banana", "baseball glove", "airplane", "mouse", "train", "pumpkin", "soccer", "skiboard",
    "luggage", "nightstand", "teapot", "telephone", "trolley", "head phone", "sports car", "stop sign", "dessert",
    "scooter", "stroller", "crane", "remote", "refrigerator", "oven", "lemon", "duck", "baseball bat",
    "surveillance camera", "cat", "jug", "broccoli", "piano", "pizza", "elephant", "skateboard", "surfboard", "gun",
    "skating and skiing shoes", "gas stove", "donut", "bow tie", "carrot", "toilet", "kite", "strawberry",
    "other balls", "shovel", "pepper", "computer box", "toilet paper", "cleaning products", "chopsticks",
    "microwave", "pigeon", "baseball", "cutting or chopping board", "coffee table", "side table", "scissors",
    "marker", "pie", "ladder", "snowboard", "cookies", "radiator", "fire hydrant", "basketball", "zebra", "grape",
    "giraffe", "potato", "sausage", "tricycle", "violin", "egg", "fire extinguisher", "candy", "fire truck",
    "billiards", "converter", "bathtub", "wheelchair", "golf club", "briefcase", "cucumber", "cigar or cigarette",
    "paint brush", "pear", "heavy truck", "hamburger", "extractor", "extension cord", "tong", "tennis racket",
    "folder", "american football", "earphone", "mask", "kettle", "tennis ball", "ship", "swing", "coffee machine",
    "slide", "carriage", "onion", "green beans", "projector", "frisbee", "washing machine or drying machine",
    "chicken", "printer", "watermelon", "saxophone", "tissue", "toothbrush", "ice cream", "hot air balloon", "cello",
    "french fries", "scale", "trophy", "cabbage", "hot dog", "blender", "peach", "rice", "wallet or purse",
    "volleyball", "deer", "goose", "tape", "tablet", "cosmetics", "trumpet", "pineapple", "golf ball", "ambulance",
    "parking meter", "mango", "key", "hurdle", "fishing rod", "medal", "flute", "brush", "penguin", "megaphone",
    "corn", "lettuce", "garlic", "swan", "helicopter", "green onion", "sandwich", "nuts", "speed limit sign",
    "induction cooker", "broom", "trombone", "plum", "rickshaw", "goldfish", "kiwi fruit", "router or modem",
    "poker card", "toaster", "shrimp", "sushi", "cheese", "notepaper", "cherry", "pliers", "cd", "pasta", "hammer",
    "cue", "avocado", "hami melon", "flask", "mushroom", "screwdriver", "soap", "recorder", "bear", "eggplant",
    "board eraser", "coconut", "tape measure or ruler", "pig", "showerhead", "globe", "chips", "steak",
    "crosswalk sign", "stapler", "camel", "formula 1", "pomegranate", "dishwasher", "crab", "hoverboard", "meatball",
    "rice cooker", "tuba", "calculator", "papaya", "antelope", "parrot", "seal", "butterfly", "dumbbell", "donkey",
    "lion", "urinal", "dolphin", "electric drill", "hair dryer", "egg tart", "jellyfish", "treadmill", "lighter",
    "grapefruit", "game board", "mop", "radish", "baozi", "target", "french horn", "spring rolls", "monkey",
    "rabbit", "pencil case", "yak", "red cabbage", "binoculars", "asparagus", "barbell", "scallop", "noodles",
    "comb", "dumpling", "oyster", "table tennis paddle", "cosmetics brush or eyeliner pencil", "chainsaw", "eraser",
    "lobster", "durian", "okra", "lipstick", "cosmetics mirror", "curling", "table tennis",
)
# fmt: on

_CLASSES = classes(_NAMES, things=_NAMES)
_ID_MAP = index_by_id(range(1, 366))
_HOMEPAGE = "https://www.objects365.org"
_LICENCE = "annotations CC BY 4.0; images under Flickr's terms of use"
_READER_OPTIONS = {"file_name_pattern": (r"^images/v[12]/", "")}  # the archives unpack to patch0/, patch1/, ...

OBJECTS365_BOXES = DatasetSpec(
    name="objects365_boxes",
    task="boxes",
    classes=_CLASSES,
    id_map=_ID_MAP,
    licence=_LICENCE,
    homepage=_HOMEPAGE,
    reader="coco_instances",
    reader_options=_READER_OPTIONS,
)
"""365 classes of objects, a box each (zhiyuan_objv2_train.json, zhiyuan_objv2_val.json)."""

OBJECTS365_INSTANCES = DatasetSpec(
    name="objects365_instances",
    task="instance",
    classes=_CLASSES,
    id_map=_ID_MAP,
    licence=_LICENCE,
    homepage="https://github.com/google-research-datasets/DaTaSeg-Objects365-Instance-Segmentation",
    reader="coco_instances",
    reader_options=_READER_OPTIONS,
)
"""DaTaSeg's benchmark: 12,836 masks for the boxes of 1,000 validation images (o365_instance_seg_val.json)."""
