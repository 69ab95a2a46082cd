"""docs/photos_small.png: photographs in the public domain, and what the small model for photographs
says of them in two of its vocabularies.

python docs/figures/photos_small.py
"""

from pathlib import Path

from PIL import Image

from dataseg_hf import DaTaSegImageProcessor, DaTaSegModel
from dataseg_hf.model.thresholds_dataseg import Thresholds
from dataseg_hf.pictures.overlay import prediction_grid, segments_overlay
from dataseg_hf.prediction.tiling import segment_image

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "checkpoints/photos-small"
PHOTOGRAPHS = sorted((ROOT / "spaces/dataseg-demo/examples").glob("voc.*.png"))
VOCABULARIES = {"voc": "21 VOC classes", "coco_panoptic": "133 COCO classes"}
DRAWN = Thresholds(score=0.4, overlap=0.5)


def main() -> None:
    """Draw the picture."""
    model = DaTaSegModel.from_pretrained(MODEL).eval()
    processor = DaTaSegImageProcessor.from_pretrained(MODEL)
    rows = [[Image.open(file).convert("RGB")] for file in PHOTOGRAPHS]
    for vocabulary in VOCABULARIES:
        model.set_vocabulary(vocabulary)
        names = model.stored_vocabulary(vocabulary)["labels"]
        for row in rows:
            segments = segment_image(model, processor, row[0], "panoptic", DRAWN)
            row.append(segments_overlay(row[0], segments, names))
    grid = prediction_grid(rows, ["image", *VOCABULARIES.values()], cell_width=288)
    grid.quantize(192).save(ROOT / "docs/photos_small.png", optimize=True)


if __name__ == "__main__":
    main()
