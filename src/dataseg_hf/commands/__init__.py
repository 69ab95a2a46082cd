"""The command line: `dataseg COMMAND ...`, one module a command.

The module of a command has `main(arguments) -> exit code` and can be started by itself, as
`accelerate launch -m dataseg_hf.commands.cotrain`. It reads its options before it imports torch, so
that `--help` and mistakes are answered at once.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from ..version import __version__

COMMANDS = {
    "cotrain": "train one model on a mix of datasets",
    "inspect": "check the datasets of a run before it starts, and draw them",
    "evaluate": "score a model on held-out sets",
    "probe": "fit a linear probe to a run's frozen backbone: what it allows untrained",
    "predict": "segment images",
    "label": "label photographs with an existing model, as a dataset",
    "complete": "complete annotation: masks for boxes, objects for maps of classes",
    "doctor": "find what is missing, contradicted or ill-fitting in an annotation",
    "export": "write a model as ONNX or as a torch.export program",
    "publish": "publish a model, or its demo, on the Hugging Face Hub",
    "metrics": "score predictions in files of the standard formats",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    width = max(map(len, COMMANDS)) + 2
    parser = argparse.ArgumentParser(
        prog="dataseg",
        usage="dataseg COMMAND ...",
        description="One segmentation model, trained on any mix of datasets.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "\n".join(f"  {name:<{width}}{does}" for name, does in COMMANDS.items())
        + "\n\n`dataseg COMMAND --help` explains the options of a command.",
    )
    parser.add_argument("command", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"dataseg-hf {__version__}")
    command = parser.parse_args(arguments[:1]).command
    return int(import_module(f"{__name__}.{command}").main(arguments[1:]))
