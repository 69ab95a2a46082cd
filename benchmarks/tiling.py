"""Panoptic quality on images larger than the model's: as a whole, and in windows of several
overlaps.

    python benchmarks/tiling.py --model outputs/shapes

Images: 13 mosaics of 3 x 3 held-out scenes of the shapes world, 192 pixels for a model of 64, cut
    off so that no window
coincides with a scene; stuff counts once per mosaic. The scenes one by one say what the model can
do at best.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dataseg_hf import DaTaSegImageProcessor, DaTaSegModel
from dataseg_hf.data.sample import Sample, Segments
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.metrics.panoptic import PanopticQuality
from dataseg_hf.model.thresholds_dataseg import Thresholds
from dataseg_hf.prediction.segments import id_map
from dataseg_hf.prediction.tiling import segment_image

SIDE, SCENES, COUNT = 64, 3, 13
CUT = slice(20, SCENES * SIDE - 10)
THRESHOLDS = Thresholds(score=0.3, overlap=0.5)  # those of the shapes world's evaluation
Case = tuple[Image.Image, Segments]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="outputs/shapes", help="a model of the shapes world")
    options = parser.parse_args()
    model = DaTaSegModel.from_pretrained(Path(options.model)).eval()
    processor = DaTaSegImageProcessor.from_pretrained(options.model)
    data = shapes_dataset("shapes_panoptic", "eval", size=SIDE, count=COUNT * SCENES**2)
    samples = [data[index] for index in range(len(data))]
    is_thing = data.spec.is_thing
    scenes = [(Image.fromarray(sample.image), as_segments(sample)) for sample in samples]
    mosaics = [
        mosaic(samples[first : first + SCENES**2], is_thing)
        for first in range(0, len(samples), SCENES**2)
    ]
    tiled = {
        f"windows of {SIDE}, overlap {overlap}": (mosaics, SIDE, overlap)
        for overlap in (0.0, 0.25, 0.5)
    }
    runs = {
        "scenes one by one": (scenes, None, 0.0),
        "mosaics as a whole": (mosaics, None, 0.0),
        **tiled,
    }
    for name, (cases, tile, overlap) in runs.items():
        quality, started = PanopticQuality(data.spec.labels, is_thing), time.perf_counter()
        for image, truth in cases:
            found = segment_image(model, processor, image, "panoptic", THRESHOLDS, tile, overlap)
            ids = id_map(found, range(1, len(found) + 1), (image.height, image.width))
            quality.update(
                ids,
                [{"id": i, "label_id": s.label_id} for i, s in enumerate(found, start=1)],
                truth,
            )
        result = quality.compute()
        seconds = (time.perf_counter() - started) / len(cases)
        numbers = ", ".join(f"{key} {result[key]:.3f}" for key in ("pq", "pq_things", "pq_stuff"))
        print(f"{name:<30} {numbers}, {seconds:.2f} s an image", flush=True)


def as_segments(sample: Sample) -> Segments:
    assert isinstance(sample.annotation, Segments)
    return sample.annotation


def mosaic(samples: Sequence[Sample], is_thing: Sequence[bool]) -> Case:
    """The scenes side by side, and their truth."""
    pixels = np.zeros((SCENES * SIDE, SCENES * SIDE, 3), dtype=np.uint8)
    segment_map = np.full(pixels.shape[:2], -1, dtype=np.int32)
    labels: list[int] = []
    for place, sample in enumerate(samples):
        truth = as_segments(sample)
        rows, columns = (slice(axis * SIDE, axis * SIDE + SIDE) for axis in divmod(place, SCENES))
        pixels[rows, columns] = sample.image
        for number, label in enumerate(truth.class_labels.tolist()):
            if is_thing[label] or label not in labels:
                labels.append(label)
            chosen = len(labels) - 1 if is_thing[label] else labels.index(label)
            segment_map[rows, columns][truth.segment_map == number] = chosen
    segment_map = segment_map[CUT, CUT]
    kept = np.unique(segment_map[segment_map >= 0])
    numbers = np.full(len(labels) + 1, -1, dtype=np.int32)
    numbers[kept] = np.arange(len(kept))
    truth = Segments(numbers[segment_map], np.array(labels)[kept], np.zeros(len(kept), dtype=bool))
    return Image.fromarray(pixels[CUT, CUT]), truth


if __name__ == "__main__":
    main()
