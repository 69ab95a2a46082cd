"""Exported graphs give the model's outputs, for other batches, sizes and vocabularies than the
example's.
"""

import importlib.util
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import ConvNextConfig

from conftest import TINY_BACKBONE, ModelFactory
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from dataseg_hf.sharing.checkpoint import save_checkpoint
from dataseg_hf.sharing.export import (
    DYNAMIC_SIZE_BACKBONES,
    export_onnx,
    export_program,
    onnx_runner,
    output_names,
)
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.paths import ROOT
from helpers.tiny_backbones import backbone as tiny_backbone

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "examples" / "export.py"
WIDTHS = {
    "hidden_sizes": [8, 16, 16, 16],
    "depths": [1, 1, 1, 1],
    "out_features": TINY_BACKBONE["out_features"],
}
RESNET = {**WIDTHS, "embedding_size": 8, "layer_type": "basic"}
ATTENTION = {
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 2, 2],
    "mlp_ratios": [2, 2, 2, 2],
    "image_size": 64,
}
SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 2,
    "image_size": 64,
    "out_features": TINY_BACKBONE["out_features"],
}
CONVOLUTIONAL = {
    "bit": {**WIDTHS, "embedding_size": 8, "num_groups": 4},
    "convnext": WIDTHS,
    "convnextv2": WIDTHS,
    "dinov3_convnext": WIDTHS,
    "efficientnet_lite": {"width_coefficient": 0.25, "depth_coefficient": 0.1},
    "pvt_v2": {**WIDTHS, **ATTENTION},
    "resnet": RESNET,
    "rt_detr_resnet": RESNET,
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


@pytest.mark.parametrize(
    ("backbone", "pixel_decoder"),
    [*((backbone, "fpn") for backbone in DYNAMIC_SIZE_BACKBONES), ("resnet", "deformable")],
)
def test_batch_size_and_vocabulary_are_free(
    backbone: str, pixel_decoder: str, tiny_model: ModelFactory
) -> None:
    settings = {"model_type": backbone, **CONVOLUTIONAL[backbone]}
    model = tiny_model(backbone_config=settings, pixel_decoder=pixel_decoder, decoder_layers=1)
    program = export_program(model, (64, 96), dynamic_size=True).module()
    check(model, program, 1, 64, 96, 7)
    check(model, program, 3, 96, 64, 1)


def test_a_cell_classifier_leaves_the_vocabulary_free(tiny_model: ModelFactory) -> None:
    settings = {"model_type": "convnext", **CONVOLUTIONAL["convnext"]}
    model = tiny_model(backbone_config=settings, decoder_layers=1, cell_classifier=True)
    program = export_program(model, (64, 96), dynamic_size=True).module()
    for categories in (1, 7, 12):  # fewer than the queries, and more
        check(model, program, 2, 64, 96, categories)


def test_a_windowed_backbone_fixes_the_size_only(tiny_model: ModelFactory) -> None:
    model = tiny_model(backbone_config=SWIN)
    program = export_program(model, (64, 96)).module()
    check(model, program, 3, 64, 96, 7)
    with pytest.raises(ValueError, match="'swin' backbone fixes height and width"):
        export_program(model, (64, 96), dynamic_size=True)


def test_a_static_program(tiny_model: ModelFactory) -> None:
    model = tiny_model()
    check(model, export_program(model, (64, 96), dynamic_batch=False).module(), 1, 64, 96, 4)


def test_what_cannot_be_exported_is_refused(tiny_model: ModelFactory) -> None:
    with pytest.raises(ValueError, match="multiples of 32, got 64 x 100"):
        export_program(tiny_model(), (64, 100))
    with pytest.raises(ValueError, match="training mode"):
        export_program(tiny_model().train(), (64, 64))


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
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = tiny_model(backbone_config=backbone, pixel_decoder=pixel_decoder, decoder_layers=1)
    transformer = model.pretrainable_backbone()
    before = transformer.config._attn_implementation
    export_onnx(model, tmp_path / "model.onnx", (64, 96), dynamic_size=dynamic_size)
    assert transformer.config._attn_implementation == before
    run = onnx_runner(tmp_path / "model.onnx")
    check(model, run, 1, 64, 96, 7)
    check(model, run, 3, 64, 96, 1)
    if dynamic_size:
        check(model, run, 2, 96, 128, 4)


def test_what_torch_says_at_each_export_is_not_shown(
    tiny_model: ModelFactory, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    pytest.importorskip("onnxscript")
    said: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    logger.addHandler(listener)
    try:
        export_onnx(tiny_model(decoder_layers=1), tmp_path / "model.onnx", (64, 64))
        logger.warning("news")
    finally:
        logger.removeHandler(listener)
    assert said == ["news"]
    assert not [one for one in recwarn if "LeafSpec" in str(one.message)]


def test_compiles_without_a_graph_break(tiny_model: ModelFactory) -> None:
    model = tiny_model()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    check(model, compiled, 2, 64, 96, 4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(checkpoint_model(), checkpoint_processor(), folder)
    return str(folder)


@pytest.fixture(scope="module")
def script() -> object:
    spec = importlib.util.spec_from_file_location("export_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_writes_and_checks_a_file(script, checkpoint, tmp_path, capsys):
    assert (
        script.main(["--model", checkpoint, "--output", str(tmp_path / "new" / "model.pt2")]) == 0
    )
    assert "greatest difference from the model" in capsys.readouterr().out


def test_a_file_that_differs_is_reported(script, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("dataseg_hf.commands.export.TOLERANCE", -1.0)
    assert (
        script.main(
            ["--model", checkpoint, "--output", str(tmp_path / "model.pt2"), "--static_batch"]
        )
        == 1
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model, out: ["--model", str(out), "--output", str(out / "m.pt2")], "config.json"),
        (
            lambda model, out: ["--model", str(out / "other"), "--output", str(out / "m.pt2")],
            "is a 'convnext' model",
        ),
    ],
)
def test_errors_of_the_example_are_one_line(script, checkpoint, tmp_path, change, message, capsys):
    ConvNextConfig().save_pretrained(tmp_path / "other")
    assert script.main(change(checkpoint, tmp_path)) == 2
    last_line = capsys.readouterr().err.strip().splitlines()[-1]
    assert last_line.startswith("error: ")
    assert message in last_line


@pytest.mark.parametrize("size", [("65", "64"), ("64", "70"), ("0", "64"), ("64", "half")])
def test_an_impossible_size_is_refused_before_the_model_is_loaded(script, tmp_path, size, capsys):
    with pytest.raises(SystemExit, match="2"):
        script.main(["--model", "x", "--output", str(tmp_path / "m.pt2"), "--size", *size])
    error = capsys.readouterr().err.splitlines()[-1]
    assert "argument --size: " in error


def test_an_unknown_kind_of_file_is_refused(script, checkpoint, tmp_path):
    with pytest.raises(SystemExit) as stop:
        script.main(["--model", checkpoint, "--output", str(tmp_path / "model.bin")])
    assert stop.value.code == 2
