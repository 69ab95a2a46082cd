#!/usr/bin/env bash
#
# datumaro 1.13.12: a set of masks without boxes, exported as Open Images with its images, is read back without a mask.
#
# Expected: the masks that were written, as with boxes beside them, or an error.
# Instead: the export leaves the four box columns of the masks' CSV empty, though the format's masks belong to boxes, and
#   writes no image sizes (`images.meta`). The import then drops every mask, with a warning that the image file is
#   missing; the image lies beside it. With a box of the same group all comes back.
# Your data: CVAT's export "Open Images" is made by datumaro, and polygons and brushed masks have no boxes there. Other
#   readers meet empty numbers where the format has a box.
# What to do: before the export add `Bbox(*mask.get_bbox(), label=mask.label, group=mask.group)` with a group for each
#   mask, or export as COCO.
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
import csv
import logging
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from datumaro import Bbox, Dataset, DatasetItem, Mask
from datumaro.components.media import Image
from PIL import Image as Picture

warned: list[str] = []


class Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warned.append(record.getMessage())


logging.getLogger().addHandler(Keep())
Picture.new("RGB", (60, 40), (90, 90, 90)).save("dog.jpg")
pixels = np.zeros((40, 60), bool)
pixels[:, :20] = True
mask, box = Mask(pixels, label=0, group=1), Bbox(0, 0, 20, 40, label=0, group=1)

print("datumaro", version("datumaro"))
found = {}
for name, annotations in {"masks alone": [mask], "masks and boxes": [mask, box]}.items():
    item = DatasetItem("a", subset="train", media=Image.from_file("dog.jpg"), annotations=annotations)
    Dataset.from_iterable([item], categories=["dog"]).export(name, "open_images", save_media=True)
    with Path(name, "annotations/train-annotations-object-segmentation.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    warned.clear()
    again = [one for item in Dataset.import_from(name, "open_images") for one in item.annotations]
    masks = sum(isinstance(one, Mask) for one in again)
    sizes = Path(name, "annotations/images.meta").exists()
    images = len(list(Path(name).rglob("a.jpg")))
    found[name] = (row["BoxXMin"], sizes, images, masks)
    print(f"{name}: BoxXMin {row['BoxXMin']!r}, image sizes {sizes}, {images} image, {masks} of 1 mask read back, {warned}")

as_stated = found == {"masks alone": ("", False, 1, 0), "masks and boxes": ("0.0", True, 1, 1)}
print("as stated" if as_stated else "CHANGED")
sys.exit(not as_stated)
EOF
