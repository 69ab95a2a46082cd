"""What one model costs against the three that it replaces."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from benchmarks.measure import alternating, floating_point_operations
from experiments.claims.training import Grid

from dataseg_hf import DaTaSegModel
from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.micro_batch import MicroBatch
from dataseg_hf.data.mixing import MixingSampler, TrainingSet, mixing_loader
from dataseg_hf.settings.datasets import training_mix
from dataseg_hf.settings.parsing import parse_run_config
from dataseg_hf.settings.run import RunConfig

SETS = ("shapes_panoptic", "shapes_semantic", "shapes_boxes")
SEPARATE = ("alone_panoptic", "alone_semantic", "alone_boxes")
SIDES = {"one": ("co", "co", "co"), "three": SEPARATE}
"""The run whose model serves each of the sets."""
REPEATS = 20


def measure_cost(grid: Grid) -> None:
    """Add the rows `cost_of_one` and `cost_of_three`. Without the models nothing is added."""
    seed = grid.seeds[0]
    if not all(grid.has_model(run, seed) for run in ("co", *SEPARATE)):
        return
    torch.set_num_threads(1)
    folders = {run: grid.folder(run, seed) for run in ("co", *SEPARATE)}
    models = {run: DaTaSegModel.from_pretrained(path).eval() for run, path in folders.items()}
    config = parse_run_config(["--config", f"{folders['co']}.yaml"], "unused.yaml")
    operations = step_operations(config, models["co"])
    latency = latencies(models)
    for side, runs in SIDES.items():
        rows = {run: grid.results.rows[run, seed] for run in runs}
        # the steps of a model that serves several sets are spread evenly over them
        steps = [float(rows[run]["steps"]) / runs.count(run) for run in runs]
        done = [share * operations[name] for share, name in zip(steps, SETS, strict=True)]
        values = {
            "parameters": sum(w.numel() for run in rows for w in models[run].parameters()),
            "weight_bytes": sum(weight_bytes(models[run]) for run in rows),
            "training_operations": round(sum(done)),
            "train_seconds": round(sum(float(row["train_seconds"]) for row in rows.values()), 2),
            "latency_ms": round(1000 * latency[side], 2),
        }
        grid.results.add(f"cost_of_{side}", seed, grid.settings("co", seed), values)


def weight_bytes(model: DaTaSegModel) -> int:
    """Bytes of parameters and buffers in memory."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def latencies(models: Mapping[str, DaTaSegModel]) -> dict[str, float]:
    """Seconds for one image in all three vocabularies, least of the repeats, for each side."""
    image = torch.zeros(1, 3, 64, 64)

    def predict(runs: Sequence[str]) -> None:
        for run, name in zip(runs, SETS, strict=True):
            models[run](image, vocabulary=name)

    calls = {side: partial(predict, runs) for side, runs in SIDES.items()}
    with torch.no_grad():
        timing = alternating(calls, REPEATS, torch.device("cpu"))
    return {side: timing[side].least for side in SIDES}


def step_operations(config: RunConfig, model: DaTaSegModel) -> dict[str, int]:
    """Operations of a training step on each dataset: matrix products and convolutions."""
    found = {}
    for dataset in training_mix(config):
        sampler = MixingSampler([dataset], 0, 0, 1)
        (batch,) = mixing_loader(sampler, Normalization(config.image_mean, config.image_std))

        def step(batch: MicroBatch = batch, dataset: TrainingSet = dataset) -> None:
            model(**batch.inputs, vocabulary=dataset.name, task=dataset.task).loss.backward()

        found[dataset.name] = floating_point_operations(step)
    return found
