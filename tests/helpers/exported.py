"""Exported graphs compared with their models."""

import torch
from torch import Tensor

from conftest import TINY_BACKBONE
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from dataseg_hf.sharing.export import output_names

SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 2,
    "image_size": 64,
    "out_features": TINY_BACKBONE["out_features"],
}


def inputs(batch: int, height: int, width: int, categories: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise in images of which each ends a little higher than the one before."""
    pixel_mask = torch.ones(batch, height, width, dtype=torch.int64)
    for number, mask in enumerate(pixel_mask):
        mask[height - 5 * number - 3 :] = 0
    return torch.randn(batch, 3, height, width), pixel_mask, torch.randn(categories, 16)


@torch.no_grad()
def check(model: DaTaSegModel, run: object, *shape: int) -> None:
    given = inputs(*shape)
    names = output_names(model)
    expected = [model(*given)[name] for name in names]
    found = run(*given)  # type: ignore[operator]
    found = [found[name] for name in names] if isinstance(found, dict) else found
    for name, a, b in zip(names, found, expected, strict=True):
        torch.testing.assert_close(
            a, b, rtol=1e-3, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )
