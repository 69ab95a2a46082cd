#!/usr/bin/env bash
#
# rasterio 1.4.4 meets Pillow 12.3.0: an uncompressed 16-bit RGB TIFF stored band by band is read as noise.
#
# Expected: how a TIFF is stored (interleaved by pixel or by band, compressed or not) does not change its pixels. What
#   Pillow cannot read, it refuses.
# Instead: Pillow reads the bands of an uncompressed file as 8-bit data. Low and high bytes become pixels side by side,
#   each row fills two rows, and the lower half of the image is never read. Compressed, the same file is read in place.
#   In each case only the upper 8 bits of the 16 are left.
# Your data: satellite images are often stored band by band. The model is trained on noise that lies beside correct
#   label maps; size and mode are right and nothing is logged. 12-bit data (0..4095) keeps 16 gray values at best.
# What to do: read 16-bit images with rasterio or tifffile and scale them yourself. For Pillow, store them by pixel
#   (`interleave="pixel"`), or look at tag 284 (`image.tag_v2.get(284) == 2` is band by band).
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
HEIGHT, WIDTH = 32, 48
upper = np.empty((3, HEIGHT, WIDTH), np.uint16)  # the upper 8 bits of each band, another color in the lower half
upper[:, : HEIGHT // 2] = np.reshape([18, 86, 154], (3, 1, 1))
upper[:, HEIGHT // 2 :] = np.reshape([200, 100, 50], (3, 1, 1))
image16 = upper * 256 + 7
expected = np.moveaxis(upper, 0, 2)

print("rasterio", rasterio.__version__, "Pillow", PIL.__version__)
print("expected colors:", np.unique(expected.reshape(-1, 3), axis=0).tolist())
right = {}
for interleave in ("pixel", "band"):
    for compress in ("none", "deflate"):
        storage = {"driver": "GTiff", "interleave": interleave, "compress": compress, "photometric": "RGB"}
        with rasterio.open("a.tif", "w", count=3, dtype="uint16", height=HEIGHT, width=WIDTH, **storage) as target:
            target.write(image16)
        with rasterio.open("a.tif") as source:
            by_rasterio = np.array_equal(source.read(), image16)
        with Image.open("a.tif") as image:
            by_pillow = np.asarray(image)
            mode = image.mode
        share = float((by_pillow == expected).all(axis=2).mean())
        right[interleave, compress] = by_rasterio, share
        colors = np.unique(by_pillow.reshape(-1, 3), axis=0).tolist()
        print(f"by {interleave}, compression {compress}: rasterio right: {by_rasterio}")
        print(f"    Pillow {mode}, {by_pillow.dtype}: {share:.0%} of the pixels right, colors {colors}")

as_stated = right.pop(("band", "none")) == (True, 0.25) and set(right.values()) == {(True, 1.0)}
print("as stated" if as_stated else "CHANGED")
sys.exit(not as_stated)
EOF
