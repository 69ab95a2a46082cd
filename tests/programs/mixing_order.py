"""Which dataset every process draws at every step: python mixing_order.py STEPS OUTPUT, alone or
under torchrun.
"""

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from dataseg_hf.data.mixing import MixingSampler, TrainingSet
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.data.transforms import Augmentation

NAMES = ["shapes_panoptic", "shapes_semantic", "shapes_boxes"]


def main(steps: int, output: str) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    members = [
        TrainingSet(
            name,
            shapes_dataset(name, "train", count=count),
            ratio,
            batch_size,
            Augmentation(64),
            {},
        )
        for name, count, ratio, batch_size in zip(
            NAMES, (50, 7, 20), (3.0, 1.0, 2.0), (6, 12, 6), strict=True
        )
    ]
    rank, world = accelerator.process_index, accelerator.num_processes
    batches = list(MixingSampler(members, 0, 0, steps, rank=rank, world_size=world))
    drawn = [batch[0].dataset for batch in batches]
    images = [[item.index for item in batch] for batch in batches]
    Path(f"{output}.{rank}").write_text(json.dumps({"drawn": drawn, "images": images}))
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
