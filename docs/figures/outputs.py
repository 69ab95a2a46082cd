"""docs/outputs.png: held-out scenes, the kind of annotation that their training sets have, and what
the one model says.

python examples/evaluate.py --model outputs/shapes --config shapes \
    --output_dir outputs/shapes_scores
python docs/figures/outputs.py --model outputs/shapes --scores outputs/shapes_scores/results.json

Shown is of each set the scene with the median score, so that the picture is neither better nor
worse than the model. Segments have the mean color of what they cover, as many names are colors;
outlines and names tell them apart.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dataseg_hf import DaTaSegImageProcessor, DaTaSegModel
from dataseg_hf.data.sample import Annotation, Instances, Segments
from dataseg_hf.data.shapes import SHAPES_SPECS, shapes_dataset
from dataseg_hf.metrics import semantic_map
from dataseg_hf.model.mask_nms_dataseg import DEFAULT_IOU
from dataseg_hf.model.thresholds_dataseg import Thresholds
from dataseg_hf.pictures.overlay import (
    boxes_overlay,
    overlay,
    prediction_grid,
    segments_overlay,
    semantic_overlay,
)
from dataseg_hf.prediction.tiling import segment_image

AS_SCORED = Thresholds(score=0.3, mask=0.5, overlap=0.5)  # by src/dataseg_hf/configs/shapes.yaml
# vocabulary and held-out set -> heading, task of the output, what a segment needs to be drawn
SETS = {
    "shapes_panoptic": ("trained with panoptic maps", "panoptic", AS_SCORED),
    "shapes_semantic": ("trained with classes per pixel", "panoptic", AS_SCORED),
    "shapes_boxes": ("trained with boxes", "instance", Thresholds(score=0.5, nms=DEFAULT_IOU)),
}
SCORES = Path("outputs/shapes_scores/results.json")
ROWS = ("held-out scenes", "what training images are annotated with", "what the one model says: {}")
CELL_WIDTH = 256  # pixels


def main() -> None:
    """Draw the picture that the command line asks for."""
    parser = argparse.ArgumentParser(
        description="Draw what a model of the shapes world makes of held-out scenes."
    )
    parser.add_argument(
        "--model", default="outputs/shapes", help="folder of a model of `make cotrain`"
    )
    parser.add_argument("--scores", default=SCORES, type=Path, help="its evaluation")
    parser.add_argument(
        "--output", default=Path("docs/outputs.png"), type=Path, help="picture to write"
    )
    options = parser.parse_args()
    scores = json.loads(options.scores.read_text())["images"]
    scenes = {name: median_scene(list(scores[name].values())) for name in SETS}
    model = DaTaSegModel.from_pretrained(options.model).eval()
    processor = DaTaSegImageProcessor.from_pretrained(options.model)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    picture = outputs_picture(model, processor, scenes)
    picture.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(options.output, optimize=True)
    print(f"{options.output}: scenes {scenes}")


def median_scene(scores: Sequence[float | None]) -> int:
    """Index of the image with the (lower) median score; images that have none are left out."""
    ranked = sorted((score, index) for index, score in enumerate(scores) if score is not None)
    return ranked[(len(ranked) - 1) // 2][1]


def outputs_picture(
    model: DaTaSegModel, processor: DaTaSegImageProcessor, scenes: Mapping[str, int]
) -> Image.Image:
    """A column per set: a scene, its annotation as in training, the output in the set's
    vocabulary.
    """
    columns = []
    for name, (_, task, thresholds) in SETS.items():
        sample = shapes_dataset(name, "eval")[scenes[name]]
        image, names = Image.fromarray(sample.image), SHAPES_SPECS[name].labels
        model.set_vocabulary(name)
        found = segment_image(model, processor, image, task, thresholds)
        output = segments_overlay(image, found, names, mean_colors=True)
        columns.append((image, annotated(image, name, sample.annotation, names), output))
    tasks = ", ".join(task for _, task, _ in SETS.values())
    captions = [row.format(tasks) for row in ROWS]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return prediction_grid(rows, [heading for heading, _, _ in SETS.values()], CELL_WIDTH, captions)


def annotated(image: Image.Image, name: str, truth: Annotation, names: list[str]) -> Image.Image:
    """The truth of a scene as the set's training images are annotated."""
    if isinstance(truth, Instances):
        return boxes_overlay(
            image, truth.boxes, truth.class_labels.tolist(), names, mean_colors=True
        )
    assert isinstance(truth, Segments)
    if SHAPES_SPECS[name].label_form == "classes":
        return semantic_overlay(image, semantic_map(truth), names, mean_colors=True)
    segments = [
        {"id": number, "label_id": int(label)} for number, label in enumerate(truth.class_labels)
    ]
    return overlay(image, np.asarray(truth.segment_map), segments, names, mean_colors=True)


if __name__ == "__main__":
    main()
