"""Inference cost against transformers' Mask2Former with the same backbone, queries and image size, in one run.

    make bench [ARGS="--size 512 --repeats 5"]

Prints seconds per image of both and their ratio (ours / peer); weights are random, which does not change the work.
"""

import argparse
import time
from collections.abc import Callable

import torch
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from dataseg_hf import DaTaSegConfig, DaTaSegModel

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def fastest(call: Callable[[], object], repeats: int) -> float:
    """Least seconds of several calls, after one that warms up."""
    call()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main() -> None:
    """Build both, time both, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="side of the square image, in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone = SwinConfig(out_features=STAGES)
    peer = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=backbone, num_labels=133))
    ours = DaTaSegModel(DaTaSegConfig(backbone_config=backbone))
    ours.add_vocabulary("names", [f"name {i}" for i in range(133)], text_embeddings=torch.randn(133, 512))
    image = torch.randn(1, 3, options.size, options.size, device=device)
    seconds = {}
    for name, model in (("Mask2Former (transformers)", peer), ("DaTaSeg", ours)):
        model.to(device).eval()

        @torch.no_grad()
        def call(model: torch.nn.Module = model) -> None:
            model(pixel_values=image)
            if device.type == "cuda":
                torch.cuda.synchronize()

        seconds[name] = fastest(call, options.repeats)
        parameters = sum(p.numel() for p in model.parameters()) / 1e6
        print(f"{name:<28} {parameters:6.1f} M parameters  {seconds[name]:.3f} s per image of {options.size} px")
    ratio = seconds["DaTaSeg"] / seconds["Mask2Former (transformers)"]
    print(f"ratio DaTaSeg / Mask2Former: {ratio:.2f} ({device.type}, {torch.get_num_threads()} threads)")


if __name__ == "__main__":
    main()
