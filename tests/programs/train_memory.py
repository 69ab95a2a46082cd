"""Peak memory in bytes of a training step on one image of 512 x 512, and of the steps on scenes of
ever more objects: python train_memory.py TASK OBJECTS...
"""

import resource
import sys

import numpy as np
import torch

from dataseg_hf import DaTaSegConfig, DaTaSegModel
from dataseg_hf.data.collate import Normalization, collate
from dataseg_hf.data.sample import Annotation, Instances, Sample, Segments
from dataseg_hf.data.transforms import Augmentation, augment

SIDE = 512


def scene(task: str, count: int) -> Sample:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, SIDE - 40, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(10, 40, (count, 2))], axis=1)
    labels, crowd = rng.integers(0, 10, count).astype(np.int64), np.zeros(count, bool)
    masks = np.zeros((count, SIDE, SIDE), bool) if task == "instance" else None
    segments = np.full((SIDE, SIDE), -1, np.int32)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        segments[y0:y1, x0:x1] = number
        if masks is not None:
            masks[number, y0:y1, x0:x1] = True
    annotation: Annotation = Instances(labels, boxes.astype(np.float32), crowd, masks)
    if task == "panoptic":
        annotation = Segments(segments, labels, crowd)
    return Sample(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), annotation, 1, "scene.png")


def main(task: str, counts: list[int]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = DaTaSegModel(DaTaSegConfig(text_embedding_dim=64, decoder_layers=3)).train()
    model.add_vocabulary(
        "world", [f"class {number}" for number in range(10)], [True] * 10, torch.randn(10, 64)
    )
    for count in counts:
        train_step(model, task, count)
        print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def train_step(model: DaTaSegModel, task: str, count: int) -> None:
    sample = augment(scene(task, count), Augmentation(SIDE), np.random.default_rng(0))
    # the sample itself is not held on to: in training it lives in a loading process
    batch = collate(
        [sample], canvas=SIDE, task=task, normalization=Normalization([0.5] * 3, [0.3] * 3)
    )  # type: ignore[arg-type]
    del sample
    model(**batch, vocabulary="world", task=task).loss.backward()
    model.zero_grad()


if __name__ == "__main__":
    main(sys.argv[1], [int(count) for count in sys.argv[2:]])
