#!/usr/bin/env bash
#
# labelformat 0.1.17 meets supervision 0.31.2: YOLO labels made from COCO come back one class further.
#
# Expected: YOLO counts classes from 0, so a converter from COCO (categories 1..n) writes 0..n-1 and names from 0.
# Instead: labelformat copies the ids 1..n of COCO into the label lines and writes `names: {1: cat, 2: dog, ...}`.
#   supervision sorts that mapping into a list that starts at 0, so line "1 ..." is the SECOND name.
# Your data: every cat becomes a dog, every dog a cow. Only an object of the last class, which has no name then,
#   makes supervision raise; without one nothing fails. labelformat itself cannot read its own file (KeyError: 0).
# What to do: renumber the categories to 0..n-1 in the COCO file before the conversion, and look at one image after it.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q "labelformat==0.1.17" "supervision==0.31.2" "numpy==2.4.6" "pillow==12.3.0" || exit 2
venv/bin/python - <<'EOF'
import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

warnings.simplefilter("ignore")  # supervision tells that OpenCV is not installed
import supervision
from labelformat.formats import COCOObjectDetectionInput, YOLOv8ObjectDetectionInput, YOLOv8ObjectDetectionOutput
from PIL import Image

NAMES = ["cat", "dog", "cow"]
OBJECTS = [("cat", [10, 10, 20, 20]), ("dog", [50, 50, 20, 20])]

Path("yolo/images").mkdir(parents=True)
Image.new("RGB", (100, 100)).save("yolo/images/a.png")
coco = {
    "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 100}],
    "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)],
    "annotations": [
        {"id": i, "image_id": 1, "category_id": NAMES.index(name) + 1, "bbox": box, "area": 400, "iscrowd": 0}
        for i, (name, box) in enumerate(OBJECTS, 1)
    ],
}
Path("coco.json").write_text(json.dumps(coco))

print("labelformat", version("labelformat"), "supervision", version("supervision"))
config = Path("yolo/data.yaml")
YOLOv8ObjectDetectionOutput(config, "train").save(COCOObjectDetectionInput("coco.json"))
lines = Path("yolo/labels/a.txt").read_text().splitlines()
print("written:", config.read_text().split("nc:")[0].split(), lines)

dataset = supervision.DetectionDataset.from_yolo("yolo/images", "yolo/labels", str(config))
[(_, _, found)] = dataset
drawn = [name for name, _ in OBJECTS]
read = [dataset.classes[i] for i in found.class_id]
print("drawn:", drawn, "read by supervision:", read)

try:
    own = str(list(YOLOv8ObjectDetectionInput(config, "train").get_categories()))
except KeyError as error:
    own = f"KeyError: {error}"
print("read by labelformat itself:", own)

as_stated = read == ["dog", "cow"] and own == "KeyError: 0"
print("as stated" if as_stated else "CHANGED")
sys.exit(not as_stated)
EOF
