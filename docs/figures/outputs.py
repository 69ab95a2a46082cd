"""docs/outputs.png: held-out scenes, the kind of annotation that their training sets have, and what the one model says.

python docs/figures/outputs.py --model outputs/shapes --output docs/outputs.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from dataseg_hf import DaTaSegImageProcessor, DaTaSegModel
from dataseg_hf.data.sample import Annotation, Instances, Segments
from dataseg_hf.data.shapes import SHAPES_SPECS, shapes_dataset
from dataseg_hf.metrics import semantic_map
from dataseg_hf.tiling import Thresholds, segment_image
from dataseg_hf.visualization import boxes_overlay, overlay, prediction_grid, segments_overlay, semantic_overlay

SETS = {  # vocabulary and held-out set -> heading, task of the output
    "shapes_panoptic": ("trained with panoptic maps", "panoptic"),
    "shapes_semantic": ("trained with classes per pixel", "panoptic"),
    "shapes_boxes": ("trained with boxes", "instance"),
}
ROWS = ("held-out scenes", "what training images are annotated with", "what the one model says: {}")
THRESHOLDS = Thresholds(score=0.3, mask=0.5, overlap=0.5)  # as examples/configs/shapes.yaml evaluates
CELL_WIDTH = 280  # pixels


def main() -> None:
    """Draw the first scene of each held-out set."""
    parser = argparse.ArgumentParser(description="Draw what a model of the shapes world makes of held-out scenes.")
    parser.add_argument("--model", default="outputs/shapes", help="folder of a model of `make cotrain`")
    parser.add_argument("--output", default=Path("docs/outputs.png"), type=Path, help="picture to write")
    options = parser.parse_args()
    picture = outputs_picture(
        DaTaSegModel.from_pretrained(options.model).eval(), DaTaSegImageProcessor.from_pretrained(options.model)
    )
    picture.quantize(128, dither=Image.Dither.NONE).save(options.output, optimize=True)


def outputs_picture(model: DaTaSegModel, processor: DaTaSegImageProcessor) -> Image.Image:
    """A column per set: the scene, its annotation as in training, the output in the set's vocabulary."""
    columns = []
    for name, (_, task) in SETS.items():
        sample = shapes_dataset(name, "eval", count=1)[0]
        image, names = Image.fromarray(sample.image), SHAPES_SPECS[name].labels
        model.set_vocabulary(name)
        found = segment_image(model, processor, image, task, THRESHOLDS)
        columns.append(
            (image, annotated(image, name, sample.annotation, names), segments_overlay(image, found, names))
        )
    tasks = ", ".join(task for _, task in SETS.values())
    captions = [row.format(tasks) for row in ROWS]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return prediction_grid(rows, [heading for heading, _ in SETS.values()], CELL_WIDTH, captions)


def annotated(image: Image.Image, name: str, truth: Annotation, names: list[str]) -> Image.Image:
    """The truth of a scene as the set's training images are annotated."""
    task = SHAPES_SPECS[name].task
    if isinstance(truth, Instances):
        return boxes_overlay(image, truth.boxes, truth.class_labels.tolist(), names)
    assert isinstance(truth, Segments)
    if task == "semantic":
        return semantic_overlay(image, semantic_map(truth), names)
    segments = [{"id": number, "label_id": int(label)} for number, label in enumerate(truth.class_labels)]
    return overlay(image, np.asarray(truth.segment_map), segments, names)


if __name__ == "__main__":
    main()
