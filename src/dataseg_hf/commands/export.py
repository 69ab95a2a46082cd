"""Export a checkpoint for use without Python, and check the file against the model.

The vocabulary is an input of the graph, `text_embeddings` [C, D]; `dataseg_hf.sharing.export`
documents inputs and outputs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .options import OptionParser, report_error

TOLERANCE = 1e-3  # of logits, which range over tens


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the file gives the model's outputs, 1 when it does not, 2 for options that
    cannot work.
    """
    options = parse_options(arguments)
    import torch

    from ..sharing.checkpoint import load_checkpoint
    from ..sharing.export import export_file, greatest_difference

    try:
        model, processor = load_checkpoint(options.model, dtype=torch.float32)
        model.eval()
        size = tuple(options.size or [processor.size["longest_edge"]] * 2)
        export_file(model, options.output, size, not options.static_batch, options.dynamic_size)
    except (OSError, ValueError, ImportError) as error:
        report_error(error)
        return 2
    difference = greatest_difference(model, options.output, size)
    print(
        f"{options.output}: {size[0]} x {size[1]} pixels, greatest difference from the model "
        f"{difference:.1e}"
    )
    return 0 if difference <= TOLERANCE else 1


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = OptionParser(prog="dataseg export", description="Export a DaTaSeg checkpoint.")
    parser.add_argument(
        "--model", required=True, help="folder of a checkpoint, or its id on the Hub"
    )
    parser.add_argument(
        "--output", required=True, type=Path, help="file to write: .onnx, or .pt2 for torch.export"
    )
    parser.add_argument(
        "--size",
        type=canvas_side,
        nargs=2,
        metavar=("H", "W"),
        help="canvas, multiples of 32 pixels; the processor's otherwise",
    )
    parser.add_argument("--static_batch", action="store_true", help="fix the batch size to 1")
    parser.add_argument(
        "--dynamic_size", action="store_true", help="leave height and width free (multiples of 32)"
    )
    options = parser.parse_args(arguments)
    if options.output.suffix not in (".onnx", ".pt2"):
        parser.error(f"argument --output: must end in .onnx or .pt2, got {options.output}")
    return options


def canvas_side(text: str) -> int:
    """Pixels of a side of the canvas, from the command line.

    Raises:
        ArgumentTypeError: for what is no multiple of the coarsest stride.
    """
    if not text.isdecimal() or int(text) == 0 or int(text) % 32:
        raise argparse.ArgumentTypeError(f"must be a multiple of 32 pixels, got {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
