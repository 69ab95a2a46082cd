"""8-bit graphs: ONNX Runtime's static quantization with what was measured to keep the quality.

Convolutions of the backbone, the pixel decoder and the cell classifier compute in 8 bits, one scale
for each output channel of their weights and one for each map. All else stays as it is
(docs/predict.md says what was tried).
"""

import ast
import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Feed: TypeAlias = Mapping[str, NDArray[Any]]
"""Inputs of a graph by their names, for one image."""
QUANTIZED_PARTS = frozenset({"backbone", "pixel_decoder", "cell_classifier"})
"""Modules of the model whose convolutions compute in 8 bits."""
FOLLOWERS = ("Add", "Clip", "Relu")
"""These do as well behind such a convolution, so that nothing is converted before the next one."""
_SCOPES = "pkg.torch.onnx.name_scopes"  # where torch's exporter says which module a node is from


def check_quantization() -> None:
    """Refuse (ImportError) to quantize without the packages of the extra `export`."""
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise ImportError("--quantize needs more packages: pip install dataseg-hf[export]")


def quantize_graph(source: Path, target: Path, feeds: Iterator[Feed]) -> tuple[int, int]:
    """Write the 8-bit form of a graph. Memory does not grow with the number of images.

    Args:
        source: a graph of `export_onnx`.
        target: file to write.
        feeds: inputs of the calibration images. Ranges of the maps are the means over the images
            of their least and largest values, which outliers change less than the extremes.

    Returns:
        How many images there were, and how many nodes compute in 8 bits.

    Raises:
        ValueError: without an image.
    """
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    reader = _Reader(feeds)
    if reader.first is None:
        raise ValueError("quantization: no calibration image; name a folder or a set that has one")
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        prepared = Path(folder) / "prepared.onnx"
        # its optimization would lose which module a node is from
        quant_pre_process(source, prepared, skip_optimization=True, skip_symbolic_shape=True)
        nodes = quantized_nodes(prepared)
        quantize_static(
            prepared,
            target,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", *FOLLOWERS],
            nodes_to_quantize=nodes,
            per_channel=True,
            reduce_range=True,  # CPUs without VNNI add pairs of products in 16 bits
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},
        )
    return reader.images, len(nodes)


class _Reader:
    """Feeds as ONNX Runtime's calibration reads them, with their number."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds
        self.first = next(feeds, None)
        self._waiting = self.first
        self.images = 0

    def get_next(self) -> Feed | None:
        """The next image's inputs; None after the last."""
        given = self._waiting
        if given is not None:
            self._waiting = next(self._feeds, None)
            self.images += 1
        return given


def quantized_nodes(file: Path) -> list[str]:
    """Names of a graph's nodes that compute in 8 bits: convolutions, by the modules that they come
    from, and what follows one directly.

    Raises:
        ValueError: for a graph that does not tell them.
    """
    import onnx

    names: list[str] = []
    in_8_bits: set[str] = set()  # maps that a quantized node gives
    for node in onnx.load(file).graph.node:  # in the order of computation
        told = {entry.key: entry.value for entry in node.metadata_props}.get(_SCOPES, "[]")
        modules = {scope.split(".")[1] for scope in ast.literal_eval(told) if "." in scope}
        follows = node.op_type in FOLLOWERS and not in_8_bits.isdisjoint(node.input)
        if (node.op_type == "Conv" or follows) and not modules.isdisjoint(QUANTIZED_PARTS):
            names.append(node.name)
            in_8_bits.update(node.output)
    if not names:
        raise ValueError(f"{file.name} has no convolutions that tell their module; export it again")
    return names


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Without what ONNX Runtime 1.32 says about a preparation that is already done, and about means
    of the least number there is, which attention adds outside of its masks.
    """
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            np.errstate(over="ignore", invalid="ignore"),
        ):
            yield
    finally:
        logger.setLevel(before)
