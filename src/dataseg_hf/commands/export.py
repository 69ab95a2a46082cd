"""Export a checkpoint for use without PyTorch, and check the graph against the model.

A file, `--output NAME.onnx` or `NAME.pt2`, holds the graph alone. The vocabulary is an input of it,
`text_embeddings` [C, D]; `dataseg_hf.sharing.export` documents inputs and outputs.

A folder holds what `dataseg predict --runtime` needs:
    model.onnx                  the graph in float32
    model_int8.onnx             with --quantize int8, the graph whose convolutions are in 8 bits
    vocabularies.safetensors    the text embeddings of the model's vocabularies
    preprocessor_config.json    how images are prepared
    export.json                 what these are: opset, precision, calibration images, the config
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..settings.ready_configs import config_file, ready_configs
from .options import OptionParser, positive, report_error

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..model.image_processing_dataseg import DaTaSegImageProcessor
    from ..model.modeling_dataseg import DaTaSegModel
    from ..sharing.deployment import Calibration

TOLERANCE = 1e-3  # of logits, which range over tens
FILES = (".onnx", ".pt2")
CALIBRATION_IMAGES = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the file gives the model's outputs, 1 when it does not, 2 for options that
    cannot work.
    """
    options = parse_options(arguments)
    import torch

    from ..data.sample import BadSampleError
    from ..sharing.checkpoint import load_checkpoint
    from ..sharing.export import greatest_difference

    try:
        model, processor = load_checkpoint(options.model, dtype=torch.float32)
        model.eval()
        write = export_graph if options.output.suffix in FILES else export_folder
        graph, size = write(model, processor, options)
    except (OSError, ValueError, ImportError, BadSampleError) as error:
        report_error(error)
        return 2
    difference = greatest_difference(model, graph, size)
    print(
        f"{graph}: {size[0]} x {size[1]} pixels, greatest difference from the model "
        f"{difference:.1e}"
    )
    return 0 if difference <= TOLERANCE else 1


def export_graph(
    model: "DaTaSegModel", processor: "DaTaSegImageProcessor", options: argparse.Namespace
) -> tuple[Path, tuple[int, int]]:
    """Write the graph alone; returns its file and the canvas, height and width in pixels."""
    from ..sharing.export import export_file

    height, width = options.size or [processor.size["longest_edge"]] * 2
    dynamic = (not options.static_batch, options.dynamic_size)
    export_file(model, options.output, (height, width), *dynamic)
    return options.output, (height, width)


def export_folder(
    model: "DaTaSegModel", processor: "DaTaSegImageProcessor", options: argparse.Namespace
) -> tuple[Path, tuple[int, int]]:
    """Write a folder for `dataseg predict --runtime`; returns its float32 graph and the canvas,
    height and width in pixels.

    Raises:
        ConfigError: for a model without a vocabulary, and a folder that cannot be written.
        OSError, ValueError, ImportError, BadSampleError: as `write_export`, and for calibration
            images that cannot be read.
    """
    from ..files.output_folder import claim_output_folder
    from ..settings.paths import expand
    from ..sharing.deployment import write_export
    from ..sharing.quantization import check_quantization
    from ..sharing.runtimes import GRAPHS

    if model.config.default_vocabulary is None:
        raise ConfigError(f"--model: {options.model} has no vocabulary; add one, or export a file")
    if options.size is not None:
        processor.size = {"longest_edge": options.size[0]}
    side = int(processor.size["longest_edge"])
    calibration = None
    if options.quantize is not None:
        check_quantization()
        calibration = calibration_of(processor, options)
    named = {"--model": options.model, "--config": options.config, "--images": options.images}
    reads = {option: place for option, place in named.items() if place is not None}
    output = expand(str(options.output), "--output")
    with ExitStack() as stack:
        claimed = stack.enter_context(claim_output_folder(output, "export", "--output", reads))
        facts = write_export(claimed.path, model, processor, options.dynamic_size, calibration)
    if "int8" in facts["graphs"]:
        int8 = facts["graphs"]["int8"]
        print(
            f"{claimed.path / int8['file']}: {int8['nodes_in_int8']} nodes in 8 bits, calibrated "
            f"on {int8['calibration_images']} images of {int8['calibrated_on']}"
        )
    return claimed.path / GRAPHS["fp32"], (side, side)


def calibration_of(
    processor: "DaTaSegImageProcessor", options: argparse.Namespace
) -> "Calibration":
    """The images on which ranges are measured; files are read when their turn comes.

    Raises:
        ConfigError: for settings or data that cannot work.
        ValueError: for a folder without images.
    """
    from ..prediction.inputs import find_images
    from ..settings.datasets import training_set
    from ..settings.parts import MixSettings, read_part
    from ..sharing.deployment import Calibration, images_of_sets

    if options.images is not None:
        files = find_images([options.images], "--images")[: options.calibration_images]
        return Calibration(read_all(processor, files), options.images)
    mix = read_part(MixSettings, config_file(options.config))
    entries = mix.entries(options.datasets or ())
    sets = {name: training_set(name, entry).data for name, entry in entries.items()}
    images = images_of_sets(sets, options.calibration_images)
    return Calibration(images, f"{options.config}: {', '.join(sets)}")


def read_all(processor: "DaTaSegImageProcessor", files: Sequence[Path]) -> Iterator["Image"]:
    """The images of files, one at a time."""
    for file in files:
        yield processor.read_image(file)


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = OptionParser(prog="dataseg export", description="Export a DaTaSeg checkpoint.")
    parser.add_argument(
        "--model", required=True, help="folder of a checkpoint, or its id on the Hub"
    )
    parser.add_argument(
        "--output", required=True, type=Path,
        help="file to write: .onnx, or .pt2 for torch.export; or a folder for `dataseg predict "
        "--runtime`",
    )  # fmt: skip
    add_shape_options(parser)
    add_quantization_options(parser)
    options = parser.parse_args(arguments)
    fault = fault_of(options)
    if fault:
        parser.error(fault)
    return options


def add_shape_options(parser: OptionParser) -> None:
    """What is fixed in the graph."""
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


def add_quantization_options(parser: OptionParser) -> None:
    """The 8-bit graph."""
    group = parser.add_argument_group("quantization")
    group.add_argument(
        "--quantize", choices=["int8"],
        help="also write a graph whose convolutions compute in 8 bits; needs --config or --images",
    )  # fmt: skip
    group.add_argument(
        "--config",
        help="mix whose images calibrate the 8-bit graph: a YAML file with `datasets`, or a ready "
        f"config: {', '.join(ready_configs())}",
    )
    group.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="entries of the mix; all by default"
    )
    group.add_argument("--images", metavar="FOLDER", help="or a folder of images")
    group.add_argument(
        "--calibration_images", type=positive, metavar="N",
        help=f"how many of them (default {CALIBRATION_IMAGES})",
    )  # fmt: skip


def fault_of(options: argparse.Namespace) -> str:
    """What is wrong with options together, empty if nothing; fills in the number of images."""
    suffix = options.output.suffix
    if suffix not in ("", *FILES):
        return (
            "argument --output: must end in .onnx or .pt2, or be a folder, without an ending, got "
            f"{options.output}"
        )
    given = (options.config, options.images, options.datasets, options.calibration_images)
    if options.quantize is None and given != (None,) * len(given):
        return "arguments --config, --images, --datasets, --calibration_images: go with --quantize"
    options.calibration_images = options.calibration_images or CALIBRATION_IMAGES
    if suffix:
        where = "writes a folder: name one as --output, without an ending"
        return "" if options.quantize is None else f"argument --quantize: {where}"
    if options.static_batch:
        return "argument --static_batch: only for a file; predictions come in batches"
    if options.size is not None and options.size[0] != options.size[1]:
        return "argument --size: a folder's canvas is square, as the image processor's"
    return fault_of_calibration(options)


def fault_of_calibration(options: argparse.Namespace) -> str:
    """What is wrong with the calibration images of a folder, empty if nothing."""
    if options.quantize is not None and (options.config is None) == (options.images is None):
        return (
            "argument --quantize: needs images to measure the ranges of the maps on: either a "
            "mix, --config CONFIG, or a folder, --images FOLDER"
        )
    if options.datasets is not None and options.config is None:
        return "argument --datasets: names entries of a mix; give it by --config"
    return ""


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
