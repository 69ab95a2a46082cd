#!/usr/bin/env bash
#
# transformers 5.23.0, Mask2Former and MaskFormer: one panoptic segment id carries two labels.
#
# Expected: `post_process_panoptic_segmentation(..., label_ids_to_fuse={sky})` gives every segment an id of its own, and
#   all parts of the sky one common id.
# Instead: after the second part of the sky, the counter goes back to the id of the sky and counts on from there. The
#   next object gets an id that another object already has.
# Your data: a cat and a dog end up as one segment of the map, and no code can tell their pixels apart again. Read as
#   a dictionary by id, the last label wins; as COCO panoptic JSON, the file has one id twice.
# What to do: call it without `label_ids_to_fuse`, where all ids differ, and give the parts of each stuff class one id
#   yourself.
#
# Exit code: 0 while this is so, 1 if it changed, 2 if the packages could not be installed.
set -uo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv || exit 2
venv/bin/pip install -q "transformers==5.23.0" "torch==2.13.0" "numpy==2.4.6" "pillow==12.3.0" || exit 2
venv/bin/python - <<'EOF'
import sys

import torch
import transformers
from transformers import Mask2FormerImageProcessorPil, MaskFormerImageProcessorPil
from transformers.models.mask2former.modeling_mask2former import Mask2FormerForUniversalSegmentationOutput
from transformers.models.maskformer.modeling_maskformer import MaskFormerForInstanceSegmentationOutput

SKY, CAT, DOG = 0, 1, 2
QUERIES = [SKY, CAT, SKY, DOG]  # each is sure of one quarter of the image, from top to bottom
SIDE = 16

classes = torch.full((1, 4, 4), -10.0)  # 1 image, 4 queries, 3 classes and "no object"
masks = torch.full((1, 4, SIDE, SIDE), -10.0)
for query, label in enumerate(QUERIES):
    classes[0, query, label] = 10.0
    masks[0, query, 4 * query : 4 * query + 4] = 10.0


def panoptic(processor: object, output: type, fused: set[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """(id, label) of each segment, and the id of each quarter of the map."""
    predicted = output(class_queries_logits=classes, masks_queries_logits=masks)
    [result] = processor.post_process_panoptic_segmentation(
        predicted, target_sizes=[(SIDE, SIDE)], label_ids_to_fuse=fused
    )
    segments = [(segment["id"], segment["label_id"]) for segment in result["segments_info"]]
    return segments, result["segmentation"][::4, 0].tolist()


print("transformers", transformers.__version__, "- labels: sky 0, cat 1, dog 2")
as_stated = True
for processor, output in (
    (Mask2FormerImageProcessorPil(), Mask2FormerForUniversalSegmentationOutput),
    (MaskFormerImageProcessorPil(), MaskFormerForInstanceSegmentationOutput),
):
    segments, quarters = panoptic(processor, output, {SKY})
    print(f"{type(processor).__name__}: fused: (id, label) {segments}, ids of the quarters {quarters}")
    as_stated &= segments == [(1, SKY), (2, CAT), (1, SKY), (2, DOG)] and quarters == [1, 2, 1, 2]
    segments, quarters = panoptic(processor, output, set())
    print(f"{type(processor).__name__}: not fused: (id, label) {segments}, ids of the quarters {quarters}")
    as_stated &= quarters == [1, 2, 3, 4]

print("as stated" if as_stated else "CHANGED")
sys.exit(not as_stated)
EOF
