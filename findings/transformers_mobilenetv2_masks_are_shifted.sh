#!/usr/bin/env bash
#
# transformers 5.23.0: segmentations of MobileNetV2 + DeepLabV3 at 513 pixels are shifted by up to 7 pixels.
#
# Expected: `post_process_semantic_segmentation` puts the class of a cell where the network saw it.
# Instead: with TensorFlow's padding (`tf_padding`) and 513 pixels, cell i of the 33 looks at pixel 16 i, from the
#   first pixel of the image to the last. The post-processing enlarges with half-pixel centers, which puts it at
#   15.5 i + 7.3: 7 pixels too far right and down at the left and top edge, 7 too far left and up at the others.
# Your data: 513 is the size these checkpoints are made for. Labels of a teacher lose the borders of objects; with a
#   converted PASCAL VOC model on 52 photographs the same logits gave a mean IoU of 0.474, corner-aligned 0.487.
# What to do: where (size - 1) is a multiple of (cells - 1) and size is none of cells, enlarge the logits yourself with
#   `F.interpolate(logits, size, mode="bilinear", align_corners=True)`.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q "transformers==5.23.0" "torch==2.13.0" "numpy==2.4.6" "pillow==12.3.0" || exit 2
venv/bin/python - <<'PY'
import sys
from types import SimpleNamespace

import torch
import transformers
from transformers import (
    MobileNetV2Config,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2ImageProcessor,
)

SIZE, STRIDE = 513, 16
model = MobileNetV2ForSemanticSegmentation(
    MobileNetV2Config(output_stride=STRIDE, tf_padding=True, num_labels=2)
).eval()
with torch.no_grad():  # only the middles of the kernels, so that a cell sees the middle of what it looks at
    for parameter in model.parameters():
        if parameter.dim() == 4:
            middle = parameter.shape[-1] // 2
            parameter.zero_()
            parameter[:, :, middle, middle] = 1 / parameter.shape[1]
pixels = torch.full((1, 3, SIZE, SIZE), 0.001, requires_grad=True)  # no ReLU6 is full
# the features before the head, whose pooled branch sees the whole image
features = model.mobilenet_v2(pixels).last_hidden_state
cells = features.shape[-1]


def pixel_seen(cell: int) -> int:
    (gradient,) = torch.autograd.grad(features[0, 0, 16, cell], pixels, retain_graph=True)
    columns = gradient[0].abs().sum((0, 1)).nonzero().flatten().tolist()
    assert len(columns) == 1, columns
    return int(columns[0])


seen = [pixel_seen(cell) for cell in range(cells)]

# where the post-processing puts a cell: logits that rise by one from cell to cell
ramp = torch.arange(cells, dtype=torch.float32).expand(cells, cells)
processor = MobileNetV2ImageProcessor()


def first_column_above(value: float) -> int:
    logits = torch.stack([torch.full_like(ramp, value), ramp])[None]
    found = processor.post_process_semantic_segmentation(
        SimpleNamespace(logits=logits), target_sizes=[(SIZE, SIZE)]
    )[0]
    return int((found[0] == 1).int().argmax())


# midway between the middles of cells 1 and 2 the two logits are equal; one column further the ramp wins
turn = first_column_above(1.5) - 1
print(
    f"transformers {transformers.__version__}: {cells} cells; cells 0, 1, 2 and {cells - 1} see pixels {seen[0]}, {seen[1]}, "
    f"{seen[2]} and {seen[-1]}; midway between cells 1 and 2 is put at pixel {turn}, not {(seen[1] + seen[2]) // 2}"
)
same = seen == [16 * cell for cell in range(33)] and turn in (30, 31)
print("as stated" if same else "changed")
sys.exit(0 if same else 1)
PY
