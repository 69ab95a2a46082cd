"""Do the datasets pull the shared weights apart? Cosines of their gradients at the end of
co-training.
"""

from collections.abc import Mapping
from itertools import combinations, islice
from typing import Any

import torch
from benchmarks.claims.grid import RUNS
from benchmarks.claims.runner import Grid
from torch import Tensor
from torch.nn import functional as F

from dataseg_hf import DaTaSegModel
from dataseg_hf.data.mixing import MixingSampler, TrainingSet, mixing_loader
from dataseg_hf.settings.datasets import training_mix
from dataseg_hf.settings.parsing import parse_run_config
from dataseg_hf.settings.run import RunConfig

PARTS = ("backbone", "pixel_decoder", "query_decoder", "classifier")
BATCHES_OF_A_HALF = 8


def measured_conflict(grid: Grid) -> dict[str, Any] | None:
    """`{part: {"A and B": [cosine of each seed]}}` for each two datasets, and for a dataset with
    itself: the gradients of two halves of its batches, which is what a cosine can reach here. None
    without the models.
    """
    folders = [
        grid.output(RUNS["co"], seed)
        for seed in grid.seeds
        if grid.finished(RUNS["co"], seed) is not None
    ]
    if len(folders) < len(grid.seeds) or not all(
        (folder / "model.safetensors").exists() for folder in folders
    ):
        return None
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[float]]] = {part: {} for part in PARTS}
    for folder in folders:
        config = parse_run_config(["--config", str(folder.with_suffix(".yaml"))], "unused.yaml")
        model = DaTaSegModel.from_pretrained(folder).train()
        halves = {
            member.name: _gradients_of_halves(model, member, config)
            for member in training_mix(config)
        }
        for part in PARTS:
            for pair, cosine in cosines(halves, part).items():
                found[part].setdefault(pair, []).append(round(cosine, 3))
    return found


def _gradients_of_halves(
    model: DaTaSegModel, member: TrainingSet, config: RunConfig
) -> list[dict[str, Tensor]]:
    """The mean gradient of each part of the model over two disjoint lots of batches."""
    loader = iter(
        mixing_loader(
            MixingSampler([member], config.seed, 0, 2 * BATCHES_OF_A_HALF),
            config.image_mean,
            config.image_std,
        )
    )
    gradients = []
    for _ in range(2):
        model.zero_grad()
        for batch in islice(loader, BATCHES_OF_A_HALF):
            model(**batch.inputs, vocabulary=member.name, task=member.task).loss.backward()
        gradients.append({part: _gradient(model.get_submodule(part)) for part in PARTS})
    return gradients


def _gradient(module: torch.nn.Module) -> Tensor:
    """Of all its weights, [P]; zero where a dataset does not reach a weight."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    return torch.cat(
        [
            (torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten()
            for weight in weights
        ]
    )


def cosines(halves: Mapping[str, list[dict[str, Tensor]]], part: str) -> dict[str, float]:
    """Each dataset with itself, and each two, the latter as the mean over their halves."""
    found = {}
    for name, (one, two) in halves.items():
        found[f"{name} and itself"] = F.cosine_similarity(one[part], two[part], dim=0).item()
    for (name, ours), (other, theirs) in combinations(halves.items(), 2):
        cosines = [
            F.cosine_similarity(one[part], two[part], dim=0) for one in ours for two in theirs
        ]
        found[f"{name} and {other}"] = torch.stack(cosines).mean().item()
    return found
