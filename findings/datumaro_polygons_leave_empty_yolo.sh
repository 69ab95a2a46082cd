#!/usr/bin/env bash
#
# datumaro 1.13.12: polygons (here from CVAT XML) and masks exported as YOLO leave an EMPTY label file.
#
# Expected: a box around each polygon and mask, a YOLO segmentation line, an error, or at least a warning.
# Instead: both YOLO exporters write boxes only. Every other shape is dropped, and nothing is logged even at DEBUG.
# Your data: in YOLO an empty label file states "no object here". A set drawn with polygons turns into a set of
#   background images, and a detector trained on it learns to find nothing.
# What to do: add `Bbox(*shape.get_bbox(), label=shape.label)` for each shape before the export, and compare the
#   number of lines with the number of annotations afterwards. Sets read from COCO are safe: there datumaro
#   keeps the boxes too.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q "datumaro==1.13.12" "numpy==2.4.6" "pillow==12.3.0" || exit 2
venv/bin/python - <<'EOF'
import logging
import sys
from importlib.metadata import version
from pathlib import Path

import datumaro
import numpy as np
from PIL import Image

logged: list[str] = []


class Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logged.append(record.getMessage())


POLYGON = '<polygon label="car" points="{0},10;{1},10;{1},30;{0},30" occluded="0" z_order="0"/>'
IMAGE = '<image id="0" name="{0}.png" width="100" height="100">{1}</image>'
LABELS = "<meta><task><labels><label><name>car</name><attributes/></label></labels></task></meta>"

Path("cvat/images").mkdir(parents=True)
for subset in ("train", "val"):
    image = IMAGE.format(subset, POLYGON.format(10, 30) + POLYGON.format(40, 60))
    Path(f"cvat/{subset}.xml").write_text(f"<annotations><version>1.1</version>{LABELS}{image}</annotations>")
    Image.new("RGB", (100, 100)).save(f"cvat/images/{subset}.png")
pixels = np.zeros((100, 100), bool)
pixels[60:80, 60:80] = True

print("datumaro", version("datumaro"))
dataset = datumaro.Dataset.import_from("cvat", "cvat")
for item in dataset:
    print("read from CVAT XML:", item.id, item.subset, [a.type.name for a in item.annotations])
    item.annotations.append(datumaro.Mask(pixels, label=0))
read = sum(len(item.annotations) for item in dataset)

logging.getLogger().addHandler(Keep())
logging.getLogger().setLevel(logging.DEBUG)
written = {}
for name, labels in (("yolo", "obj_*_data/*.txt"), ("yolo_ultralytics", "labels/*/*.txt")):
    logged.clear()
    dataset.export(name, name, save_media=True)
    files = sorted(Path(name).glob(labels))
    lines = [line for file in files for line in file.read_text().splitlines()]
    words = [text for text in logged if "extra dep" not in text]  # datumaro names its own optional plugins there
    written[name] = (len(files), len(lines), len(words))
    print(f"written as {name}: {len(files)} label files, {len(lines)} objects of {read}, {len(words)} messages logged")

as_stated = read == 6 and all(result == (2, 0, 0) for result in written.values())
print("as stated" if as_stated else "CHANGED")
sys.exit(not as_stated)
EOF
