"""What training on the paper's three datasets costs, from measured operations.

python -m benchmarks.published_cost [--config src/dataseg_hf/configs/published.yaml] [--targets 20]

Builds the model of the config with random weights and counts the operations of matrix products and
convolutions in a forward and backward pass of one drawn image per dataset, at its size and with its
task. The rest is arithmetic: times images per step, share of the steps, steps; and divided by what
a GPU does, of which `--utilization` is assumed.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from benchmarks.measure import floating_point_operations

from dataseg_hf import DaTaSegConfig, DaTaSegModel
from dataseg_hf.data.catalog import CATALOG
from dataseg_hf.data.collate import Normalization, collate
from dataseg_hf.data.sample import Annotation, DatasetSpec, Instances, Sample, Segments
from dataseg_hf.data.transforms import Augmentation, augment

DEFAULT = Path(__file__).parent.parent / "src/dataseg_hf/configs/published.yaml"


def drawn(spec: DatasetSpec, side: int, targets: int) -> Sample:
    """A square of noise with so many rectangles as targets."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, side // 2, (targets, 2))
    boxes = np.concatenate(
        [corners, corners + rng.integers(side // 8, side // 2, (targets, 2))], axis=1
    )
    # a semantic target is a class: no class twice
    labels, crowd = np.arange(targets, dtype=np.int64), np.zeros(targets, bool)
    annotation: Annotation = Instances(labels, boxes.astype(np.float32), crowd)
    if spec.label_form != "boxes":
        segments = np.zeros((side, side), np.int32)
        for number, (x0, y0, x1, y1) in enumerate(boxes):
            segments[y0:y1, x0:x1] = number
        annotation = Segments(segments, labels, crowd)
    return Sample(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), annotation, 0, "drawn")


def image_operations(
    model: DaTaSegModel, name: str, spec: DatasetSpec, side: int, targets: int
) -> int:
    """Operations of forward and backward on one image."""
    sample = augment(drawn(spec, side, targets), Augmentation(side), np.random.default_rng(0))
    batch = collate(
        [sample], canvas=side, task=spec.task, normalization=Normalization([0.5] * 3, [0.25] * 3)
    )
    return floating_point_operations(
        lambda: model(**batch, vocabulary=name, task=spec.task).loss.backward()
    )


def main() -> int:
    """Print operations per image and the cost of the run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default=str(DEFAULT))
    parser.add_argument("--targets", type=int, default=20, help="objects or segments of an image")
    parser.add_argument(
        "--peak",
        type=float,
        default=989e12,
        help="operations per second of a GPU; H100 in bf16, dense",
    )
    parser.add_argument(
        "--utilization",
        type=float,
        nargs="+",
        default=[0.05, 0.3],
        help="shares of the peak that are reached: assumed",
    )
    arguments = parser.parse_args()
    settings = yaml.safe_load(Path(arguments.config).read_text())
    entries = settings["datasets"]
    torch.manual_seed(0)
    model = DaTaSegModel(DaTaSegConfig(**settings["model"])).train()
    print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {arguments.targets} "
        "targets an image"
    )
    total = sum(entry["ratio"] for entry in entries.values())
    per_step = images = 0.0
    for name, entry in entries.items():
        spec = CATALOG[entry["spec"]]
        embeddings = torch.randn(len(spec.labels), model.config.text_embedding_dim)
        model.add_vocabulary(name, spec.labels, spec.is_thing, embeddings)
        count = image_operations(model, name, spec, entry["image_size"], arguments.targets)
        share = entry["ratio"] / total
        per_step += share * entry["batch_size"] * count
        images += share * entry["batch_size"]
        print(
            f"{name:<12} {spec.task:<9} {entry['image_size']} px  {count / 1e9:8.0f} GFLOP an "
            f"image, share {share:.1%}"
        )
    steps = settings["max_steps"]
    print(f"{steps} steps x {images:.0f} images: {steps * per_step:.2e} FLOP")
    for share in arguments.utilization:
        gpu_hours = steps * per_step / arguments.peak / share / 3600
        print(
            f"at {share:.0%} (assumed) of {arguments.peak / 1e12:.0f} TFLOP/s: {gpu_hours:.0f} GPU "
            "hours"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
