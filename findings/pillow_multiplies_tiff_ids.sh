#!/usr/bin/env bash
#
# rasterio 1.4.4 meets Pillow 12.3.0: class ids of a 4-bit or 2-bit TIFF are multiplied when Pillow opens it.
#
# Expected: a label map written with NBITS=4 (ids 0..15, half the size on disk) is read with the ids that were written.
# Instead: Pillow stretches 4 bits to 0..255 (ids times 17) and 2 bits (ids times 85) as if they were gray values. Mode
#   "L" does not show it. 1-bit files have mode "1" and keep their ids; rasterio reads all of them right.
# Your data: id 1 becomes 17 and id 15 becomes 255, which much training code ignores as void. Where 17 or 34 are
#   classes, too, objects are learned under a wrong name and nothing fails.
# What to do: read such files with rasterio, write label maps with 8 bits, or look at tag 258
#   (`image.tag_v2[258] == (4,)`) and divide by 17.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q "rasterio==1.4.4" "pillow==12.3.0" "numpy==2.4.6" || exit 2
venv/bin/python - <<'EOF'
import sys
import warnings

import numpy as np
import PIL
import rasterio
from PIL import Image

warnings.simplefilter("ignore")  # rasterio tells that the file has no place on a map
print("rasterio", rasterio.__version__, "Pillow", PIL.__version__)
as_stated = True
for bits, factor in ((4, 17), (2, 85), (8, 1)):
    ids = np.tile(np.arange(min(2**bits, 16), dtype=np.uint8), (4, 1))
    file = f"{bits}.tif"
    shape = {"height": ids.shape[0], "width": ids.shape[1]}
    with rasterio.open(file, "w", driver="GTiff", count=1, dtype="uint8", nbits=bits, **shape) as target:
        target.write(ids, 1)
    with rasterio.open(file) as source:
        by_rasterio = source.read(1)
    with Image.open(file) as image:
        by_pillow = np.asarray(image)
        mode, depth = image.mode, image.tag_v2[258]
    print(f"{bits} bits: rasterio {by_rasterio[0].tolist()}")
    print(f"        Pillow   {by_pillow[0].tolist()} (mode {mode}, tag 258 {depth})")
    as_stated &= mode == "L" and depth == (bits,)
    as_stated &= np.array_equal(by_rasterio, ids) and np.array_equal(by_pillow, ids.astype(int) * factor)

print("as stated" if as_stated else "CHANGED")
sys.exit(not as_stated)
EOF
