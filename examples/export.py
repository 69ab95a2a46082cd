"""Export a checkpoint for use without Python, and check the file against the model.

python examples/export.py --model outputs/shapes --output shapes.onnx
python examples/export.py --model outputs/photos --output photos.pt2 --size 512 512 --static_batch

The vocabulary is an input of the graph, `text_embeddings` [C, D]; `dataseg_hf.sharing.export`
documents inputs and outputs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dataseg_hf import DaTaSegModel
from dataseg_hf.sharing.checkpoint import load_checkpoint
from dataseg_hf.sharing.export import OUTPUTS, export_onnx, export_program, onnx_runner

TOLERANCE = 1e-3  # of logits, which range over tens


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the file gives the model's outputs, 1 when it does not, 2 for options that
    cannot work.
    """
    options = parse_options(arguments)
    try:
        model, processor = load_checkpoint(options.model, dtype=torch.float32)
        model.eval()
        size = tuple(options.size or [processor.size["longest_edge"]] * 2)
        save(model, options.output, size, not options.static_batch, options.dynamic_size)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    difference = greatest_difference(model, options.output, size)
    print(
        f"{options.output}: {size[0]} x {size[1]} pixels, greatest difference from the model "
        f"{difference:.1e}"
    )
    return 0 if difference <= TOLERANCE else 1


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Export a DaTaSeg checkpoint.")
    parser.add_argument(
        "--model", required=True, help="folder of a checkpoint, or its id on the Hub"
    )
    parser.add_argument(
        "--output", required=True, type=Path, help="file to write: .onnx, or .pt2 for torch.export"
    )
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="canvas; the processor's otherwise"
    )
    parser.add_argument("--static_batch", action="store_true", help="fix the batch size to 1")
    parser.add_argument(
        "--dynamic_size", action="store_true", help="leave height and width free (multiples of 32)"
    )
    options = parser.parse_args(arguments)
    if options.output.suffix not in (".onnx", ".pt2"):
        parser.error(f"argument --output: must end in .onnx or .pt2, got {options.output}")
    return options


def save(
    model: DaTaSegModel, file: Path, size: tuple[int, int], dynamic_batch: bool, dynamic_size: bool
) -> None:
    """Write the file, whose folder is made if missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".onnx":
        export_onnx(model, file, size, dynamic_batch, dynamic_size)
    else:
        torch.export.save(export_program(model, size, dynamic_batch, dynamic_size), file)


@torch.no_grad()
def greatest_difference(model: DaTaSegModel, file: Path, size: tuple[int, int]) -> float:
    """Between the outputs of file and model, for noise with padding and another number of
    categories.
    """
    pixel_mask = torch.ones(1, *size, dtype=torch.int64)
    pixel_mask[:, size[0] * 3 // 4 :] = 0
    inputs = (torch.randn(1, 3, *size), pixel_mask, torch.randn(5, model.config.text_embedding_dim))
    expected = [model(*inputs)[name] for name in OUTPUTS]
    found: list[Tensor]
    if file.suffix == ".onnx":
        output = onnx_runner(file)(*inputs)
        found = [output[name] for name in OUTPUTS]
    else:
        found = list(torch.export.load(file).module()(*inputs))
    return max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))


if __name__ == "__main__":
    sys.exit(main())
