#!/usr/bin/env bash
#
# datumaro 1.13.12 and supervision 0.31.2 meet pycocotools 2.0.11: ordinary objects are exported as crowds.
#
# Expected: one object with a mask is one object in COCO JSON (`iscrowd: 0`; RLE is allowed there).
# Instead: datumaro writes `iscrowd: 1` for every Mask without an attribute `is_crowd`, supervision for every object
#   that has a hole or two parts.
# Your data: COCO evaluation does not count crowds, and training code usually skips them. A set of masks alone has NO
#   ground truth left: perfect predictions score AP -1, and no tool says a word.
# What to do: count `iscrowd` after the export. Where no crowd was drawn, set it to 0 in the JSON and keep the RLE.
#   The ways around it in datumaro (`segmentation_mode="polygons"`, the attribute `is_crowd=False`) fill holes and take
#   a border of one pixel off each object.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q \
  "datumaro==1.13.12" "supervision==0.31.2" "pycocotools==2.0.11" "numpy==2.4.6" "pillow==12.3.0" || exit 2
venv/bin/python - <<'EOF'
import contextlib
import io
import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

warnings.simplefilter("ignore")  # supervision tells that OpenCV is not installed
import datumaro
import numpy as np
import supervision
from datumaro.components.media import Image
from PIL import Image as PillowImage
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

square, ring, parts = masks = np.zeros((3, 40, 40), bool)
square[2:12, 2:12] = True
ring[15:30, 2:17] = True
ring[20:25, 7:12] = False
parts[2:8, 20:26] = parts[2:8, 30:36] = True


def from_datumaro() -> Path:
    drawn = [datumaro.Mask(mask, label=0, id=i, group=i) for i, mask in enumerate(masks, 1)]
    item = datumaro.DatasetItem("a", media=Image.from_numpy(np.zeros((40, 40, 3), np.uint8)), annotations=drawn)
    datumaro.Dataset.from_iterable([item], categories=["thing"]).export("datumaro", "coco_instances")
    return Path("datumaro/annotations/instances_default.json")


def from_supervision() -> Path:
    PillowImage.new("RGB", (40, 40)).save("a.png")
    boxes = supervision.mask_to_xyxy(masks).astype(float)
    found = supervision.Detections(xyxy=boxes, mask=masks, class_id=np.zeros(3, int))
    dataset = supervision.DetectionDataset(classes=["thing"], images=["a.png"], annotations={"a.png": found})
    dataset.as_coco(annotations_path="supervision.json")
    return Path("supervision.json")


def perfect_score(file: Path) -> tuple[int, float]:
    """Objects that count, and AP where every one of the file is predicted to the pixel."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        results = [
            {key: a[key] for key in ("image_id", "category_id")} | {"score": 1.0, "segmentation": truth.annToRLE(a)}
            for a in truth.dataset["annotations"]
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        counted = sum(not ignored for image in evaluation.evalImgs[:1] for ignored in image["gtIgnore"])
        evaluation.accumulate()
        evaluation.summarize()
    return counted, float(evaluation.stats[0])


print(*(f"{name} {version(name)}" for name in ("datumaro", "supervision", "pycocotools")), sep=", ")
as_stated = True
for write, expected in ((from_datumaro, [1, 1, 1]), (from_supervision, [0, 1, 1])):
    file = write()
    coco = json.loads(file.read_text())
    crowds = [a["iscrowd"] for a in coco["annotations"]]
    counted, ap = perfect_score(file)
    for annotation in coco["annotations"]:
        annotation["iscrowd"] = 0
    file.write_text(json.dumps(coco))
    mended, mended_ap = perfect_score(file)
    print(f"{write.__name__}: iscrowd of square, ring, two parts: {crowds}")
    print(f"  as exported: {counted} of 3 objects count, AP {ap:.1f}; all set to 0: {mended} of 3, AP {mended_ap:.1f}")
    as_stated &= crowds == expected and counted == crowds.count(0) and mended == 3

print("as stated" if as_stated else "CHANGED")
sys.exit(not as_stated)
EOF
