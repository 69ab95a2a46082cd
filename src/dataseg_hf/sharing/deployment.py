"""A folder with all that prediction needs without the model itself: graphs, vocabularies, and how
images are prepared. `sharing.runtimes` reads it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers.utils import IMAGE_PROCESSOR_NAME

from ..data.sample import SampleDataset, SampleStream
from ..files.writing import replace_file
from ..model.image_processing_dataseg import DaTaSegImageProcessor
from ..model.modeling_dataseg import DaTaSegModel
from ..version import __version__
from .export import export_file
from .quantization import Feed, quantize_graph
from .runtimes import EXPORT_FILE, GRAPHS, INPUTS, VOCABULARIES_FILE


@dataclass(frozen=True)
class Calibration:
    """Images on which the ranges of an 8-bit graph are measured.

    Args:
        images: RGB, as prediction reads them.
        source: where they are from, for people.
    """

    images: Iterator[Image.Image]
    source: str


def write_export(
    folder: Path,
    model: DaTaSegModel,
    processor: DaTaSegImageProcessor,
    dynamic_size: bool = False,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Write the graphs of a model and what they need into a folder; what says that it is an export
    comes last.

    Args:
        folder: an output folder of this command.
        model: in evaluation mode, in float32, on the CPU, with a vocabulary.
        processor: its square canvas is the one of the graphs.
        dynamic_size: leave height and width free, as `export_program`.
        calibration: for an 8-bit graph beside the float32 one.

    Returns:
        The content of `export.json`.

    Raises:
        OSError, ValueError, ImportError: as `export_file` and `quantize_graph`.
    """
    side = int(processor.size["longest_edge"])
    graph = folder / GRAPHS["fp32"]
    export_file(model, graph, (side, side), dynamic_batch=True, dynamic_size=dynamic_size)
    graphs: dict[str, Any] = {"fp32": {"file": graph.name}}
    if calibration is not None:
        target = folder / GRAPHS["int8"]
        images, nodes = quantize_graph(graph, target, feeds(model, processor, calibration.images))
        graphs["int8"] = {
            "file": target.name,
            "calibration_images": images,
            "calibrated_on": calibration.source,
            "nodes_in_int8": nodes,
        }
    save_file(
        {k: v.contiguous() for k, v in model.vocabularies.state_dict().items()},
        folder / VOCABULARIES_FILE,
    )
    # without the code that `save_pretrained` adds
    processor.to_json_file(folder / IMAGE_PROCESSOR_NAME)
    facts = {
        "dataseg_hf": __version__,
        "format": "ONNX",
        "opset": _opset(graph),
        "canvas": [side, side],
        "dynamic_size": dynamic_size,
        "graphs": graphs,
        "config": json.loads(model.config.to_json_string(use_diff=False)),
    }
    replace_file(folder / EXPORT_FILE, json.dumps(facts, indent=2) + "\n")
    return facts


def feeds(
    model: DaTaSegModel, processor: DaTaSegImageProcessor, images: Iterator[Image.Image]
) -> Iterator[Feed]:
    """Inputs of the graph for each image, as in prediction, with the default vocabulary."""
    name = str(model.config.default_vocabulary)
    embeddings = model.vocabularies.get(name).detach().float().cpu()
    for image in images:
        inputs = processor([image], return_tensors="pt")
        tensors = (inputs["pixel_values"], inputs["pixel_mask"].to(torch.int64), embeddings)
        yield {key: tensor.numpy() for key, tensor in zip(INPUTS, tensors, strict=True)}


def images_of_sets(
    sets: dict[str, SampleDataset | SampleStream], count: int
) -> Iterator[Image.Image]:
    """`count` images, as equally many of each set as it has, spread evenly over each.

    Raises:
        BadSampleError: for one that cannot be read.
        ValueError: for a stream, whose images have no places.
    """
    left = count
    for number, (name, data) in enumerate(sets.items()):
        if isinstance(data, SampleStream):
            raise ValueError(
                f"datasets.{name}.options.streaming: calibration picks images; set it to false"
            )
        taken = min(left // (len(sets) - number), len(data))
        left -= taken
        for place in range(taken):
            yield Image.fromarray(data[place * len(data) // taken].image)


def _opset(graph: Path) -> int:
    """The version of ONNX's operators that a graph was written for."""
    import onnx

    model = onnx.load(graph)
    return next(int(entry.version) for entry in model.opset_import if not entry.domain)
