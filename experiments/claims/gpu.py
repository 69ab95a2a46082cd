"""The part for a GPU: photographs at 512 pixels with more steps, and the cost of three sizes.

    make claims-gpu                                            # on a machine with CUDA
    make claims-gpu ARGS="--quick --steps 4 --sides 64 --batch 1 --repeats 1"   # to try it anywhere

Adds rows to experiments/claims/results.csv (without a GPU to outputs/claims/gpu/results.csv):
`gpu:{run},{precision}` with metrics and seconds of the co-trained and the separate models, and
`gpu:{backbone},{side},{precision}` with images per second and peak memory.
"""

import argparse
import os
import sys
from collections.abc import Callable
from itertools import product

import torch
from benchmarks.measure import alternating, peak_memory
from benchmarks.scenes import NUM_CLASSES, training_batch
from experiments.claims.results import RESULTS, Results
from experiments.claims.runs import DROP, RUNS, Settings, composed, merged
from experiments.claims.training import OUTPUTS, TrainingError, photographs_at_hand, trained
from transformers import Dinov2Config, PreTrainedConfig, ResNetConfig, SwinConfig

from dataseg_hf import DaTaSegConfig, DaTaSegModel

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FOLDER = OUTPUTS / "gpu"
STAGES = ["stage1", "stage2", "stage3", "stage4"]
TRAINED = ("photos_co", "photos_alone_panoptic", "photos_alone_camvid")
PRECISIONS = {"float32": "no", "bfloat16": "bf16"}
NUM_SEGMENTS = 12
NAMES = [f"name {number}" for number in range(NUM_CLASSES)]


def backbones() -> dict[str, PreTrainedConfig]:
    """The sizes that are measured, with random weights, which do not change the work."""
    return {
        "R50": ResNetConfig(out_features=STAGES),
        "Swin-T": SwinConfig(out_features=STAGES),
        "DINOv2-B": Dinov2Config(patch_size=14, out_features=["stage12"]),
    }


def measure_models(options: argparse.Namespace, results: Results) -> None:
    """Images per second and peak bytes of inference and training, by model, side and precision."""
    for name, backbone in backbones().items():
        torch.manual_seed(0)
        model = DaTaSegModel(DaTaSegConfig(backbone_config=backbone))
        embeddings = torch.randn(NUM_CLASSES, model.config.text_embedding_dim)
        model.add_vocabulary("names", NAMES, text_embeddings=embeddings)
        model.to(DEVICE)
        for side, precision in product(options.sides, PRECISIONS):
            values: dict[str, float] = {"batch": options.batch}
            calls = steps_of(model, side, precision, options.batch)
            for step, call in calls.items():
                least = alternating({step: call}, options.repeats, DEVICE)[step].least
                values[f"{step}_images_per_second"] = round(options.batch / least, 2)
                values[f"{step}_peak_bytes"] = peak_memory(call, DEVICE)
            results.add(f"gpu:{name},{side},{precision}", 0, vars(options), values)


def steps_of(
    model: DaTaSegModel, side: int, precision: str, batch: int
) -> dict[str, Callable[[], None]]:
    """A step of inference and one of training on a batch of `side` x `side` images."""
    data = training_batch(batch, side, NUM_SEGMENTS)
    pixel_values = data.pixel_values.to(DEVICE)
    labels = [
        {"class_labels": classes.to(DEVICE), "segment_map": segments.to(DEVICE)}
        for segments, classes in zip(data.segment_maps, data.class_labels, strict=True)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    autocast = torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bfloat16")

    @torch.inference_mode()
    def inference() -> None:
        with autocast:
            model.eval()(pixel_values=pixel_values)

    def training() -> None:
        with autocast:
            loss = model.train()(pixel_values=pixel_values, task="panoptic", labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return {"inference": inference, "training": training}


def measure_photographs(options: argparse.Namespace, results: Results) -> int:
    """Metrics and seconds of the runs on photographs, one seed. Returns how many failed."""
    environment, failed = {"ACCELERATE_USE_CPU": str(DEVICE.type == "cpu").lower()}, 0
    for name, (precision, mixed) in product(TRAINED, PRECISIONS.items()):
        folder = FOLDER / f"{name}-{precision}"
        settings = composed(RUNS[name], 0, str(folder), quick=options.quick)
        settings = larger(settings, options.steps, options.sides[0], mixed)
        try:
            values = trained(settings, folder, environment)
            results.add(f"gpu:{name},{precision}", 0, settings, values)
        except TrainingError as error:
            failed += 1
            print(f"{name}, {precision}: {error}", file=sys.stderr, flush=True)
    return failed


def larger(settings: Settings, steps: int, side: int, mixed_precision: str) -> Settings:
    """The settings with so many steps on images of `side` pixels, threads and loading for a GPU."""
    loading = {"num_threads": DROP, "num_workers": min(8, (os.cpu_count() or 1) - 1)}
    parts = ("datasets", "evaluation")
    sizes = {part: {entry: {"image_size": side} for entry in settings[part]} for part in parts}
    changes = {"max_steps": steps, "mixed_precision": mixed_precision, **loading, **sizes}
    return merged(settings, changes)


def main() -> int:
    """Measure and write; exit code 2 without the photographs, 1 if a training failed."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    add = parser.add_argument
    add("--steps", type=int, default=4000, help="of the photographs' runs")
    add("--sides", type=int, nargs="+", default=[512, 640], help="the first is the photographs'")
    add("--batch", type=int, default=8, help="images of the throughput")
    add("--repeats", type=int, default=10)
    add("--quick", action="store_true", help="score on eight images of each held-out set")
    options = parser.parse_args()
    if not photographs_at_hand():
        return 2
    results = Results(RESULTS if DEVICE.type == "cuda" else FOLDER / "results.csv")
    measure_models(options, results)
    failed = measure_photographs(options, results)
    print(f"{results.path} is written.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
