"""The part for a GPU: photographs at 512 pixels with a longer schedule, and what models of three
sizes cost there.

    make claims-gpu                     # where CUDA is; then `make claims ARGS="--report"`
    make claims-gpu ARGS="--steps 4 --sides 64 --batch 1 --repeats 1"  # to try it

Writes `experiments/claims/results/gpu.json` (without a GPU `outputs/claims/gpu/gpu.json`): the
device, metrics and seconds of the co-trained and the separate models in float32 and bfloat16,
images per second and peak memory.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from benchmarks.measure import alternating, peak_memory
from benchmarks.scenes import NUM_CLASSES, training_batch
from experiments.claims.grid import DROP, RUNS, Settings, composed, merged
from experiments.claims.photographs import photographs_at_hand
from experiments.claims.results import RESULTS, of_training
from experiments.claims.runner import OUTPUTS, ROOT
from transformers import Dinov2Config, PreTrainedConfig, ResNetConfig, SwinConfig

from dataseg_hf import DaTaSegConfig, DaTaSegModel

FOLDER = OUTPUTS / "gpu"
STAGES = ["stage1", "stage2", "stage3", "stage4"]
TRAINED = ("photos_co", "photos_alone_panoptic", "photos_alone_camvid")
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
NUM_SEGMENTS = 12


def backbones() -> dict[str, PreTrainedConfig]:
    """The sizes that are measured, with random weights, which do not change the work."""
    return {
        "R50": ResNetConfig(out_features=STAGES),
        "Swin-T": SwinConfig(out_features=STAGES),
        "DINOv2-B": Dinov2Config(
            patch_size=14, out_features=["stage12"], reshape_hidden_states=True
        ),
    }


def measured_models(
    device: torch.device, sides: Sequence[int], batch: int, repeats: int
) -> list[dict[str, Any]]:
    """Images per second and peak memory of inference and training: a row for each model, side and
    precision.
    """
    rows = []
    for name, backbone in backbones().items():
        torch.manual_seed(0)
        model = DaTaSegModel(DaTaSegConfig(backbone_config=backbone))
        names = [f"name {number}" for number in range(NUM_CLASSES)]
        embeddings = torch.randn(NUM_CLASSES, model.config.text_embedding_dim)
        model.add_vocabulary("names", names, text_embeddings=embeddings)
        model.to(device)
        for side in sides:
            for precision, dtype in PRECISIONS.items():
                row = {"backbone": name, "side": side, "precision": precision}
                rows.append(row | _measured(model, side, dtype, device, batch, repeats))
    return rows


def _measured(
    model: DaTaSegModel,
    side: int,
    dtype: torch.dtype | None,
    device: torch.device,
    batch: int,
    repeats: int,
) -> dict[str, float]:
    data = training_batch(batch, side, NUM_SEGMENTS)
    pixel_values = data.pixel_values.to(device)
    labels = [
        {"class_labels": classes.to(device), "segment_map": segments.to(device)}
        for segments, classes in zip(data.segment_maps, data.class_labels, strict=True)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    autocast = torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)

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

    found = {}
    for name, call in {"inference": inference, "training": training}.items():
        timing = alternating({name: call}, repeats, device)[name]
        found[f"{name}_images_per_second"] = round(batch / timing.least, 2)
        found[f"{name}_peak_bytes"] = peak_memory(call, device)
    return found


def trained_photographs(steps: int, side: int, device: torch.device) -> dict[str, Any]:
    """Metrics and seconds of the runs on photographs in both precisions, one seed; `error` where
    one failed.
    """
    found: dict[str, Any] = {}
    for name in TRAINED:
        for precision, mixed in {"float32": "no", "bfloat16": "bf16"}.items():
            output = FOLDER / f"{name}-{precision}"
            settings = larger(composed(RUNS[name], 0, str(output)), steps, side, mixed)
            found[f"{name}, {precision}"] = _trained(settings, output, device)
    return found


def larger(settings: Settings, steps: int, side: int, mixed_precision: str) -> Settings:
    """The settings of a run with so many steps of images of `side` pixels; threads and loading as a
    GPU needs them.
    """
    changes: Settings = {"max_steps": steps, "mixed_precision": mixed_precision}
    changes |= {"num_threads": DROP, "num_workers": min(8, (os.cpu_count() or 1) - 1)}
    for part in ("datasets", "evaluation"):
        changes[part] = {entry: {"image_size": side} for entry in settings[part]}
    return merged(settings, changes)


def _trained(settings: Mapping[str, Any], output: Path, device: torch.device) -> dict[str, Any]:
    output.mkdir(parents=True, exist_ok=True)
    config = output.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(dict(settings), sort_keys=False))
    command = [sys.executable, str(ROOT / "examples/cotrain.py"), "--config", str(config)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": str(device.type == "cpu").lower()}
    started = time.perf_counter()
    done = subprocess.run(
        command, env=environment, cwd=ROOT, check=False, capture_output=True, text=True
    )
    output.with_suffix(".log").write_text(done.stdout + done.stderr)
    if done.returncode:
        return {"error": f"exit code {done.returncode}, see {output.with_suffix('.log').name}"}
    return {"seconds": round(time.perf_counter() - started, 1), **of_training(output)}


def main() -> int:
    """Measure and write; exit code 2 without the photographs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=4000, help="of the photographs' runs")
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[512, 640], help="the first is the photographs'"
    )
    parser.add_argument("--batch", type=int, default=8, help="images of the throughput")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not photographs_at_hand():
        print("DATASEG_DATA is not set: where are the photographs?", file=sys.stderr)
        return 2
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    found = {
        "device": f"{name}, torch {torch.__version__}",
        "steps": options.steps,
        "side": options.sides[0],
        "batch": options.batch,
        "models": measured_models(device, options.sides, options.batch, options.repeats),
        "photographs": trained_photographs(options.steps, options.sides[0], device),
    }
    file = (RESULTS if device.type == "cuda" else FOLDER) / "gpu.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{file} is written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
