"""Exported graphs give the model's outputs, for other batches, sizes and vocabularies than the
example's.
"""

import importlib.util

import pytest
import torch
from torch import Tensor
from torch.export import Dim
from transformers import ConvNextConfig

from conftest import TINY_BACKBONE, ModelFactory
from dataseg_hf.model.modeling_dataseg import DaTaSegModel
from dataseg_hf.sharing.checkpoint import save_checkpoint
from dataseg_hf.sharing.export import (
    DYNAMIC_SIZE_BACKBONES,
    export_program,
)
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.exported import SWIN, check
from helpers.paths import ROOT

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


@pytest.mark.parametrize(
    ("backbone", "pixel_decoder"), [("convnext", "fpn"), ("resnet", "deformable")]
)
def test_batch_size_and_vocabulary_are_free(
    backbone: str, pixel_decoder: str, tiny_model: ModelFactory
) -> None:
    settings = {"model_type": backbone, **CONVOLUTIONAL[backbone]}
    model = tiny_model(backbone_config=settings, pixel_decoder=pixel_decoder, decoder_layers=1)
    program = export_program(model, (64, 96), dynamic_size=True).module()
    check(model, program, 1, 64, 96, 7)
    check(model, program, 3, 96, 64, 1)


class Maps(torch.nn.Module):
    """The feature maps of a model's backbone."""

    def __init__(self, model: DaTaSegModel) -> None:
        super().__init__()
        self.backbone = model.backbone

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        return list(self.backbone(pixel_values).feature_maps)


@pytest.mark.parametrize("backbone", DYNAMIC_SIZE_BACKBONES)
def test_the_size_is_free_in_these_backbones(backbone: str, tiny_model: ModelFactory) -> None:
    """What follows them is the same for all, and tested above."""
    settings = {"model_type": backbone, **CONVOLUTIONAL[backbone]}
    maps = Maps(tiny_model(backbone_config=settings, decoder_layers=1)).eval()
    rows, columns = (32 * Dim(name, min=2, max=256) for name in ("rows", "columns"))
    free = ({0: Dim("batch"), 2: rows, 3: columns},)
    program = torch.export.export(maps, (torch.randn(2, 3, 64, 96),), dynamic_shapes=free).module()
    for shape in ((1, 3, 64, 96), (3, 3, 96, 128)):
        images = torch.randn(*shape)
        for found, expected in zip(program(images), maps(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


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
