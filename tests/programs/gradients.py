"""Gradients of one optimizer step on eight images, for any number of processes and micro-batches.

python gradients.py MICRO_BATCHES FOLDER, alone or under torchrun; writes FOLDER/TASK.safetensors for each of the tasks.
"""

import sys
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from safetensors.torch import save_file

from dataseg_hf import DaTaSegConfig, DaTaSegModel, HashedNgramEncoder
from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.mixing import MixingSampler, TrainingSet, mixing_loader
from dataseg_hf.data.readers.objects_of_degrees import ObjectsOfDegrees
from dataseg_hf.data.sample import (
    ClassInfo,
    DatasetSpec,
    Instances,
    Sample,
    SampleDataset,
    Segments,
    TaskName,
)
from dataseg_hf.data.transforms import Augmentation
from dataseg_hf.training.gradients import accumulate_gradients

SIDE, IMAGES = 64, 8
CLASSES = (ClassInfo("red box", True), ClassInfo("blue box", True), ClassInfo("floor", False))


def scene(row: int, task: str) -> Sample:
    """Image `row` has `row % 4` rectangles: two of the eight images have none, and halves differ in
    their number.
    """
    rng = np.random.default_rng(row)
    image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    count = row % 4
    corners = rng.integers(0, SIDE // 2, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(8, SIDE // 2, (count, 2))], axis=1)
    labels = rng.integers(0, len(CLASSES), count).astype(np.int64)
    crowd = np.zeros(count, bool)
    masks = np.zeros((count, SIDE, SIDE), bool)
    segments = np.full((SIDE, SIDE), -1, np.int32)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        masks[number, y0:y1, x0:x1] = True
        segments[y0:y1, x0:x1] = number
        image[y0:y1, x0:x1, labels[number]] = 255
    if task in ("panoptic", "semantic"):
        return Sample(image, Segments(segments, labels, crowd), row, f"{row}.png")
    if task == "objects":
        return Sample(image, of_each_degree(labels, boxes, masks), row, f"{row}.png")
    annotation = Instances(
        labels, boxes.astype(np.float32), crowd, masks if task == "instance" else None
    )
    return Sample(image, annotation, row, f"{row}.png")


def of_each_degree(labels: np.ndarray, boxes: np.ndarray, masks: np.ndarray) -> Instances:
    """The first object with its mask, the second with its box, the third with a point."""
    objects = ObjectsOfDegrees((SIDE, SIDE))
    for number, label in enumerate(labels.tolist()):
        middle = [*((boxes[number, :2] + boxes[number, 2:]) / 2)]
        objects.add(
            label,
            False,
            masks[number] if number == 0 else None,
            boxes[number].tolist() if number == 1 else None,
            middle if number == 2 else (),
        )
    return objects.instances()


def step(task: TaskName, micro_batches: int, accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """Gradients of the step's only batch, by parameter."""
    torch.manual_seed(0)
    spec = DatasetSpec(name="world", task=task, classes=CLASSES, id_map={})
    data = SampleDataset(spec, range(IMAGES), lambda row: scene(row, task))
    member = TrainingSet("world", data, 1.0, IMAGES, Augmentation(SIDE, horizontal_flip=0.0), {})
    config = DaTaSegConfig(
        backbone_config={
            "model_type": "resnet",
            "embedding_size": 8,
            "hidden_sizes": [8, 16, 16, 16],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        },
        hidden_dim=32,
        mask_dim=16,
        encoder_layers=1,
        encoder_feedforward_dim=32,
        decoder_layers=3,
        dim_feedforward=32,
        num_attention_heads=4,
        num_queries=12,
        text_embedding_dim=16,
        train_num_points=128,  # fewer than cells, so that points are drawn
    )
    model = DaTaSegModel(config).train()
    model.add_vocabulary("world", spec.labels, spec.is_thing, HashedNgramEncoder(16)(spec.labels))
    wrapped = accelerator.prepare(model)
    sampler = MixingSampler(
        [member], 0, 0, 1, micro_batches, accelerator.process_index, accelerator.num_processes
    )
    batches = list(mixing_loader(sampler, Normalization([0.5] * 3, [0.25] * 3)))
    accumulate_gradients(wrapped, member, batches, 0, {}, accelerator)
    return {name: p.grad.contiguous() for name, p in model.named_parameters() if p.grad is not None}


def main(micro_batches: int, folder: str) -> None:
    torch.set_num_threads(1)
    settings = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    accelerator = Accelerator(cpu=True, kwargs_handlers=[settings])
    for task in get_args(TaskName):
        gradients = step(task, micro_batches, accelerator)
        if accelerator.is_main_process:
            save_file(gradients, Path(folder) / f"{task}.safetensors")
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
