"""Do the datasets pull the shared weights apart? Cosines of their gradients after co-training."""

from collections.abc import Mapping
from itertools import combinations, islice

import torch
from experiments.claims.training import Grid
from torch import Tensor
from torch.nn import functional as F

from dataseg_hf import DaTaSegModel
from dataseg_hf.data.collate import Normalization
from dataseg_hf.data.mixing import MixingSampler, TrainingSet, mixing_loader
from dataseg_hf.settings.datasets import training_mix
from dataseg_hf.settings.run import RunConfig, parse_run_config

PARTS = ("backbone", "pixel_decoder", "query_decoder", "classifier")
BATCHES_OF_A_HALF = 8


def measure_gradients(grid: Grid) -> None:
    """Add rows `gradients:A,B` for each two datasets of `co` and for each dataset with itself.

    Their columns are `cosine/{part of the model}`, in [-1, 1]. A dataset with itself compares two
    halves of its batches: the highest cosine that noise allows. Without the models it does nothing.
    """
    if not all(grid.has_model("co", seed) for seed in grid.seeds):
        return
    torch.set_num_threads(1)
    for seed in grid.seeds:
        folder = grid.folder("co", seed)
        config = parse_run_config(["--config", f"{folder}.yaml"], "unused.yaml")
        model = DaTaSegModel.from_pretrained(folder).train()
        halves = {one.name: _halves(model, one, config) for one in training_mix(config)}
        found = {part: cosines(halves, part) for part in PARTS}
        for pair in found[PARTS[0]]:
            values = {f"cosine/{part}": round(found[part][pair], 3) for part in PARTS}
            grid.results.add(f"gradients:{pair}", seed, grid.settings("co", seed), values)


def _halves(
    model: DaTaSegModel, dataset: TrainingSet, config: RunConfig
) -> list[dict[str, Tensor]]:
    """The mean gradient of each part of the model over two disjoint sets of batches."""
    sampler = MixingSampler([dataset], config.seed, 0, 2 * BATCHES_OF_A_HALF)
    loader = iter(mixing_loader(sampler, Normalization(config.image_mean, config.image_std)))
    gradients = []
    for _ in range(2):
        model.zero_grad()
        for batch in islice(loader, BATCHES_OF_A_HALF):
            model(**batch.inputs, vocabulary=dataset.name, task=dataset.task).loss.backward()
        gradients.append({part: _gradient(model.get_submodule(part)) for part in PARTS})
    return gradients


def _gradient(module: torch.nn.Module) -> Tensor:
    """The gradients of all its weights, [P]; zero where a dataset does not reach a weight."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in weights]
    return torch.cat([gradient.flatten() for gradient in gradients])


def cosines(halves: Mapping[str, list[dict[str, Tensor]]], part: str) -> dict[str, float]:
    """`{"A,A": cosine, "A,B": cosine}`; two datasets are compared half by half and averaged."""
    found = {}
    for name, (one, two) in halves.items():
        found[f"{name},{name}"] = F.cosine_similarity(one[part], two[part], dim=0).item()
    for (name, ours), (other, theirs) in combinations(halves.items(), 2):
        pairs = [F.cosine_similarity(a[part], b[part], dim=0) for a in ours for b in theirs]
        found[f"{name},{other}"] = torch.stack(pairs).mean().item()
    return found
