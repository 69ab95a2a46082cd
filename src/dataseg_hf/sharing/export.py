"""The model without Python: `torch.export` programs and ONNX files, with the vocabulary as an
input.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..model.modeling_dataseg import DaTaSegModel, DaTaSegOutput
from .runtimes import INPUTS, onnx_runner

OUTPUTS = ("class_queries_logits", "masks_queries_logits", "valid_size")
WEIGHTS = "semantic_weights"  # an output of models with a cell classifier
# others fix the size of the image in the graph: by the padding of their windows, or computed from
# the size in Python
DYNAMIC_SIZE_BACKBONES = (
    "bit",
    "convnext",
    "convnextv2",
    "dinov3_convnext",
    "efficientnet_lite",
    "pvt_v2",
    "resnet",
    "rt_detr_resnet",
)
STRIDE = 32


class InferenceGraph(nn.Module):
    """What is exported: tensors in, tensors out."""

    def __init__(self, model: DaTaSegModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, pixel_values: Tensor, pixel_mask: Tensor, text_embeddings: Tensor
    ) -> tuple[Tensor, ...]:
        """Proposals of a batch, as post-processing reads them.

        Args:
            pixel_values: [B, 3, H, W], normalized. pixel_mask: int64 [B, H, W], 0 in the padding.
            text_embeddings: [C, D], of any C categories.

        Returns:
            class_queries_logits [B, N, C + 1], masks_queries_logits [B, N, h, w], valid_size [B,
            2]; with a cell classifier semantic_weights [B, N], too.
        """
        output: DaTaSegOutput = self.model(pixel_values, pixel_mask, text_embeddings)
        return tuple(cast(Tensor, output[name]) for name in output_names(self.model))


def output_names(model: DaTaSegModel) -> list[str]:
    """Names of the outputs of a model's graph, in their order."""
    return [*OUTPUTS, WEIGHTS] if model.config.cell_classifier else [*OUTPUTS]


def export_program(
    model: DaTaSegModel,
    image_size: tuple[int, int],
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
) -> ExportedProgram:
    """The inference graph of a model; the number of categories is always free.

    Args:
        model: In evaluation mode, in float32.
        image_size: Height and width of the canvas, multiples of 32.
        dynamic_batch: Leave the batch size free; else it is 1.
        dynamic_size: Leave height and width free, as multiples of 32; for DYNAMIC_SIZE_BACKBONES.

    Raises:
        ValueError: for a size or a backbone with which that cannot work.
    """
    height, width = image_size
    if height < STRIDE or width < STRIDE or height % STRIDE or width % STRIDE:
        raise ValueError(f"height and width must be multiples of {STRIDE}, got {height} x {width}")
    backbone = cast(Any, model.config.backbone_config).model_type
    if dynamic_size and backbone not in DYNAMIC_SIZE_BACKBONES:
        raise ValueError(
            f"a '{backbone}' backbone fixes height and width in the graph: export without a "
            f"dynamic size; known to work with one are {', '.join(DYNAMIC_SIZE_BACKBONES)}"
        )
    if model.training:
        raise ValueError("the model is in training mode: call `model.eval()` first")
    # an example of two images: a size of one would be taken for a constant
    batch = 2 if dynamic_batch else 1
    example = (
        torch.randn(batch, 3, height, width, device=model.device),
        torch.ones(batch, height, width, dtype=torch.int64, device=model.device),
        torch.randn(3, model.config.text_embedding_dim, device=model.device),
    )
    images: dict[int, Any] = {0: Dim("batch")} if dynamic_batch else {}
    masks = dict(images)
    if dynamic_size:
        rows, columns = (STRIDE * Dim(name, min=2, max=256) for name in ("rows", "columns"))
        images, masks = {**images, 2: rows, 3: columns}, {**masks, 1: rows, 2: columns}
    shapes = (images, masks, {0: Dim("categories")})
    return torch.export.export(InferenceGraph(model), example, dynamic_shapes=shapes)


def export_onnx(
    model: DaTaSegModel,
    file: Path,
    image_size: tuple[int, int],
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
) -> None:
    """Write the inference graph as ONNX, its inputs and outputs named as in
    `InferenceGraph.forward`.

    The other arguments are those of `export_program`.

    Raises:
        ImportError: without the packages of the extra `export`.
        ValueError: as `export_program`.
    """
    if find_spec("onnxscript") is None:
        raise ImportError("ONNX needs more packages: pip install dataseg-hf[export]")
    with _without_noise():
        with _eager_backbone(model):
            program = export_program(model, image_size, dynamic_batch, dynamic_size)
        onnx = torch.onnx.export(
            program,
            input_names=list(INPUTS),
            output_names=output_names(model),
            dynamo=True,
            verbose=False,
        )
    assert onnx is not None
    onnx.save(file, external_data=False)


@contextmanager
def _without_noise() -> Iterator[None]:
    """Without what torch 2.13 says at each export and nobody can change: that torchvision, which
    the model does not use, is not there, and that torch itself uses `LeafSpec`.
    """

    def is_news(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("torchvision is not installed")

    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    logger.addFilter(is_news)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        logger.removeFilter(is_news)


@contextmanager
def _eager_backbone(model: DaTaSegModel) -> Iterator[None]:
    """Plain attention in the backbone: torch 2.13 cannot rewrite the fused one of a Swin for
    ONNX.
    """
    backbone: Any = model.pretrainable_backbone()
    usual = backbone.config._attn_implementation
    backbone.set_attn_implementation("eager")
    try:
        yield
    finally:
        backbone.set_attn_implementation(usual)


def export_file(
    model: DaTaSegModel, file: Path, size: tuple[int, int], dynamic_batch: bool, dynamic_size: bool
) -> None:
    """Write a model as ONNX (`.onnx`) or as a `torch.export` program (any other suffix); an earlier
    file stays until the new one is whole.

    Args:
        file: its folder is made if missing.
        size: height and width of the canvas in pixels.
        dynamic_batch: whether the batch size stays free.
        dynamic_size: whether height and width stay free.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"unfinished-{file.name}")  # the ending tells the format
    try:
        if file.suffix == ".onnx":
            export_onnx(model, unfinished, size, dynamic_batch, dynamic_size)
        else:
            torch.export.save(export_program(model, size, dynamic_batch, dynamic_size), unfinished)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


@torch.no_grad()
def greatest_difference(model: DaTaSegModel, file: Path, size: tuple[int, int]) -> float:
    """The largest difference between the outputs of an exported file and of its model, for noise
    [1, 3, H, W] with padding and another number of categories.
    """
    pixel_mask = torch.ones(1, *size, dtype=torch.int64)
    pixel_mask[:, size[0] * 3 // 4 :] = 0
    inputs = (torch.randn(1, 3, *size), pixel_mask, torch.randn(5, model.config.text_embedding_dim))
    names = output_names(model)
    expected = [model(*inputs)[name] for name in names]
    found: list[Tensor]
    if file.suffix == ".onnx":
        output = onnx_runner(file)(*inputs)
        found = [output[name] for name in names]
    else:
        found = list(torch.export.load(file).module()(*inputs))
    return max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
