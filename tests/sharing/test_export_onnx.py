"""ONNX files give the model's outputs, and torch's talk at each export is not shown."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import TINY_BACKBONE, ModelFactory
from dataseg_hf.sharing.export import export_onnx
from dataseg_hf.sharing.runtimes import onnx_runner
from helpers.exported import SWIN, check
from helpers.tiny_backbones import backbone as tiny_backbone

pytestmark = pytest.mark.slow

TORCH_LOGGER = "torch.onnx._internal.exporter._registration"


@contextmanager
def what_torch_says() -> Iterator[list[str]]:
    """Messages of the logger that speaks at each export."""
    said: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(TORCH_LOGGER)
    logger.addHandler(listener)
    try:
        yield said
    finally:
        logger.removeHandler(listener)


@pytest.mark.parametrize(
    ("backbone", "pixel_decoder", "dynamic_size"),
    [
        (dict(TINY_BACKBONE), "fpn", True),
        (SWIN, "deformable", False),
        (tiny_backbone("dinov2"), "fpn", False),
    ],
)
def test_onnxruntime_gives_the_same(
    backbone: dict[str, object],
    pixel_decoder: str,
    dynamic_size: bool,
    tiny_model: ModelFactory,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = tiny_model(backbone_config=backbone, pixel_decoder=pixel_decoder, decoder_layers=1)
    transformer = model.pretrainable_backbone()
    before = transformer.config._attn_implementation
    with what_torch_says() as said:
        export_onnx(model, tmp_path / "model.onnx", (64, 96), dynamic_size=dynamic_size)
        logging.getLogger(TORCH_LOGGER).warning("news")
    assert said == ["news"]  # what it says at each export is not shown
    assert not [one for one in recwarn if "LeafSpec" in str(one.message)]
    assert transformer.config._attn_implementation == before
    run = onnx_runner(tmp_path / "model.onnx")
    check(model, run, 1, 64, 96, 7)
    check(model, run, 3, 64, 96, 1)
    if dynamic_size:
        check(model, run, 2, 96, 128, 4)
