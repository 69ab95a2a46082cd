"""Ends with a loader open that has a process: `batches` is never read to its end."""

from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.mixing import MixingSampler, TrainingSet, mixing_loader
from dataseg_hf.data.shapes import shapes_dataset
from dataseg_hf.data.transforms import Augmentation

NAME = "shapes_panoptic"
data = shapes_dataset(NAME, "train", count=4, size=32)
member = TrainingSet(NAME, data, 1.0, 4, Augmentation(32), {})
batches = mixing_loader(MixingSampler([member], 0, 0, 9), Normalization([0.5] * 3, [0.5] * 3), 1)
next(iter(batches))
print("read", flush=True)
