"""What one model costs against the three that it replaces (experiment i)."""

from typing import Any

import torch
from benchmarks.claims.grid import BOXES, PANOPTIC, RUNS, SEMANTIC
from benchmarks.claims.runner import Grid
from benchmarks.measure import alternating, floating_point_operations

from dataseg_hf import DaTaSegModel
from dataseg_hf.data.mixing import MicroBatch, MixingSampler, TrainingSet, mixing_loader
from dataseg_hf.settings.datasets import training_mix
from dataseg_hf.settings.parsing import parse_run_config
from dataseg_hf.settings.run import RunConfig

SEPARATE = {PANOPTIC: "alone_panoptic", SEMANTIC: "alone_semantic", BOXES: "alone_boxes"}
REPEATS = 20


def measured_cost(grid: Grid) -> dict[str, Any] | None:
    """Parameters, weights in memory, operations and seconds of training, latency; None without the
    models.
    """
    seed = grid.seeds[0]
    folders = {name: grid.output(RUNS[name], seed) for name in ("co", *SEPARATE.values())}
    if not all((folder / "model.safetensors").exists() for folder in folders.values()):
        return None
    torch.set_num_threads(1)
    models = {name: DaTaSegModel.from_pretrained(folder).eval() for name, folder in folders.items()}
    config = parse_run_config(["--config", str(folders["co"].with_suffix(".yaml"))], "unused.yaml")
    operations = step_operations(config, models["co"])
    image = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        timing = alternating(
            {
                "one": lambda: [models["co"](image, vocabulary=name) for name in SEPARATE],
                "three": lambda: [
                    models[run](image, vocabulary=name) for name, run in SEPARATE.items()
                ],
            },
            REPEATS,
            torch.device("cpu"),
        )
    trained = {name: grid.finished(RUNS[name], seed) for name in models}
    steps = {name: result.steps for name, result in trained.items() if result is not None}
    seconds = {name: result.train_seconds for name, result in trained.items() if result is not None}
    separate = list(SEPARATE.values())
    if set(steps) != set(models):
        return None
    return {
        "parameters": {
            "one": parameters(models["co"]),
            "three": sum(parameters(models[name]) for name in separate),
        },
        "weight_bytes": {
            "one": weight_bytes(models["co"]),
            "three": sum(weight_bytes(models[name]) for name in separate),
        },
        "training_operations": {
            "one": round(steps["co"] * sum(operations.values()) / len(operations)),
            "three": sum(round(steps[run] * operations[name]) for name, run in SEPARATE.items()),
        },
        "training_seconds": {
            "one": seconds["co"],
            "three": round(sum(seconds[name] for name in separate), 1),
        },
        "latency_ms_in_three_vocabularies": {
            "one": round(1000 * timing["one"].least, 2),
            "three": round(1000 * timing["three"].least, 2),
        },
    }


def parameters(model: DaTaSegModel) -> int:
    """Numbers that training changes or loads."""
    return sum(parameter.numel() for parameter in model.parameters())


def weight_bytes(model: DaTaSegModel) -> int:
    """Of parameters and buffers, as they lie in memory."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def step_operations(config: RunConfig, model: DaTaSegModel) -> dict[str, int]:
    """Operations of a training step on each dataset (matrix products and convolutions, forward and
    backward).
    """
    found = {}
    for member in training_mix(config):
        (batch,) = mixing_loader(
            MixingSampler([member], 0, 0, 1), config.image_mean, config.image_std
        )

        def step(batch: MicroBatch = batch, member: TrainingSet = member) -> None:
            model(**batch.inputs, vocabulary=member.name, task=member.task).loss.backward()

        found[member.name] = floating_point_operations(step)
    return found
