"""Which axis of a box stays tight when a crop cuts the object: measured on instance masks.

    DATASEG_DATA=... .venv/bin/python benchmarks/box_tightness.py

Crops the COCO images of DATASEG_DATA at random (a half to the whole of each side, three crops an
image, seed 0), clips every box to the crop, and prints the share of boxes whose clipped extent the
visible mask still fills by at least 98 %.
"""

import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from dataseg_hf.data.catalog import COCO_INSTANCES
from dataseg_hf.data.masks import boxes_of_masks
from dataseg_hf.data.readers.coco_instances import read_coco_instances
from dataseg_hf.data.sample import Instances

FILLED = 0.98


def main() -> None:
    """Count by cut axis and print a line each."""
    root = Path(os.environ["DATASEG_DATA"]) / "coco128"
    data = read_coco_instances(
        COCO_INSTANCES,
        root / "images/train2017",
        root / "instances_train2017_first128.json",
        missing_images="skip",
    )
    rng = np.random.default_rng(0)
    filled: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for index in range(len(data)):
        sample = data[index]
        truth = sample.annotation
        assert isinstance(truth, Instances)
        assert truth.masks is not None
        height, width = sample.image.shape[:2]
        for _ in range(3):
            share = 1 / np.exp(rng.uniform(0, np.log(2)))
            crop_w, crop_h = max(1, round(width * share)), max(1, round(height * share))
            left, top = (
                int(rng.integers(width - crop_w + 1)),
                int(rng.integers(height - crop_h + 1)),
            )
            corner, size = (
                np.array([left, top, left, top]),
                np.array([crop_w, crop_h, crop_w, crop_h]),
            )
            for mask, crowd in zip(truth.masks, truth.is_crowd, strict=True):
                visible = mask[top : top + crop_h, left : left + crop_w]
                if crowd or not visible.any():
                    continue
                box = boxes_of_masks(mask[None])[0] - corner
                clipped = np.clip(box, 0, size)
                seen = boxes_of_masks(visible[None])[0]
                cut = (clipped != box).reshape(2, 2).any(0)
                extent, seen_extent = clipped[2:] - clipped[:2], seen[2:] - seen[:2]
                name = {(True, False): "x only", (False, True): "y only", (True, True): "both"}.get(
                    tuple(cut.tolist())
                )
                if name is not None:
                    still = (seen_extent >= FILLED * extent).tolist()
                    filled[name].append((still[0], still[1]))
    for name, rows in sorted(filled.items()):
        in_x, in_y = np.mean(rows, axis=0)
        print(
            f"cut in {name:<7} {len(rows):>4} boxes: x extent filled {in_x:.0%}, y extent filled "
            f"{in_y:.0%}"
        )


if __name__ == "__main__":
    main()
