"""An export with an 8-bit graph, written and used by the commands as people start them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dataseg_hf.commands import predict
from dataseg_hf.model.thresholds_dataseg import Thresholds
from dataseg_hf.prediction.segments import id_map
from dataseg_hf.prediction.tiling import segment_image
from dataseg_hf.sharing.checkpoint import load_checkpoint, save_checkpoint
from dataseg_hf.sharing.runtimes import open_export
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.paths import ROOT

pytestmark = pytest.mark.slow

SURE = Thresholds(score=0.1, overlap=0.01)  # a random model is never sure


def run(*words: object) -> str:
    """Start a command as a process; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "dataseg_hf", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, pictures, and an export that is calibrated on them."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("world")
    save_checkpoint(checkpoint_model(), checkpoint_processor(), folder / "model")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (50, 90)), ("b.png", (80, 30)), ("c.png", (64, 64))):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size[::-1]).save(folder / "photos" / name)
    said = run(
        "export", "--model", folder / "model", "--output", folder / "export",
        "--quantize", "int8", "--images", folder / "photos", "--calibration_images", 2,
    )  # fmt: skip
    assert "calibrated on 2 images" in said
    assert "warn" not in said.lower()
    return folder


def test_the_folder_says_what_it_is(world: Path) -> None:
    names = {file.name for file in (world / "export").iterdir()}
    assert names == {
        "dataseg_output.json", "export.json", "model.onnx", "model_int8.onnx",
        "preprocessor_config.json", "vocabularies.safetensors",
    }  # fmt: skip
    facts = json.loads((world / "export/export.json").read_text())
    assert facts["graphs"]["int8"]["calibration_images"] == 2
    assert facts["opset"] >= 18
    assert facts["canvas"] == [64, 64]


def test_convolutions_alone_are_in_8_bits(world: Path) -> None:
    """Convolutions have 8-bit weights with a scale for each output channel, and nothing else."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(world / "export/model_int8.onnx").graph
    stored = {one.name: one for one in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    in_8_bits = [node for node in convolutions if node.input[1] in maker]
    # all but the two of the mask view, in the query decoder
    assert len(convolutions) - len(in_8_bits) == 2
    for node in in_8_bits:
        weights, scale, _ = maker[node.input[1]].input
        assert stored[weights].data_type == onnx.TensorProto.INT8
        assert list(stored[scale].dims) == [stored[weights].dims[0]]
    products = [node for node in graph.node if node.op_type == "MatMul"]
    assert not [
        node for node in products for x in node.input
        if x in maker and maker[x].op_type == "DequantizeLinear" and maker[x].input[0] in stored
    ]  # fmt: skip


def panoptic(folder: Path) -> dict[str, np.ndarray]:
    """Segment ids as colors, [H, W, 3], of each image in a folder of predictions."""
    return {file.name: np.asarray(Image.open(file)) for file in (folder / "ids").iterdir()}


def test_predict_gives_what_pytorch_gives(world: Path) -> None:
    """In float32 the same pixels, in the same files; in 8 bits most of them."""
    common = ["--input", world / "photos/a.jpg", world / "photos/b.png",
              "--threshold", SURE.score, "--overlap_threshold", SURE.overlap]  # fmt: skip
    run("predict", "--model", world / "model", "--output", world / "torch", *common)
    graph = ["predict", "--model", world / "export", "--runtime", "onnx", *common]
    run(*graph, "--precision", "fp32", "--output", world / "fp32")
    said = run(*graph, "--output", world / "int8")
    assert "2 of 2 images segmented" in said
    expected, fp32, int8 = (panoptic(world / name) for name in ("torch", "fp32", "int8"))
    assert set(expected) == set(fp32) == set(int8) == {"a.png", "b.png"}
    assert all(pixels.any() for pixels in expected.values())
    for name, pixels in expected.items():
        np.testing.assert_array_equal(fp32[name], pixels)
        assert ((int8[name] > 0).any(-1) == (pixels > 0).any(-1)).mean() > 0.9
    files = {file.name for file in (world / "torch").iterdir()}
    assert files == {file.name for file in (world / "fp32").iterdir()}


def mask_logits(world: Path, runtime: str, precision: str) -> Tensor:
    """What a graph gives for a picture, [1, N, h, w]."""
    graph, processor = open_export(world / "export").load(runtime, precision)
    image = Image.open(world / "photos/c.png").convert("RGB")
    found = graph(**processor([image], return_tensors="pt"))
    return found.masks_queries_logits


def test_8_bits_give_nearly_what_32_bits_give(world: Path) -> None:
    expected = mask_logits(world, "onnx", "fp32")
    difference = (mask_logits(world, "onnx", "int8") - expected).abs().mean() / expected.std()
    assert 1e-5 < difference < 0.1


def same_as_torch(world: Path, runtime: str) -> None:
    """Outputs, a vocabulary of one's own, and an image in windows are those of the model."""
    model, processor = load_checkpoint(str(world / "model"))
    model.eval()
    graph, _ = open_export(world / "export").load(runtime, "fp32")

    for batch, words in ((1, ["cat", "dog"]), (3, ["red car", "sea", "sky", "owl", "bus"])):
        pixel_values = torch.randn(batch, 3, 64, 64)
        pixel_mask = torch.ones(batch, 64, 64, dtype=torch.int64)
        pixel_mask[:, 40:] = 0
        given = (pixel_values, pixel_mask, model.embed(words))
        with torch.no_grad():
            expected = model(*given)
            found = graph(*given)
        assert found.is_thing.shape == (batch, len(words))
        for name in ("class_queries_logits", "masks_queries_logits", "valid_size"):
            torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-3)
    for one in (model, graph):
        one.set_vocabulary(one.parse_vocabulary("grass, bird"))
    image = Image.open(world / "photos/a.jpg").convert("RGB")
    maps = []
    for one in (model, graph):
        found_segments = segment_image(one, processor, image, "panoptic", SURE, tile=40)
        maps.append(id_map(found_segments, range(1, len(found_segments) + 1), (50, 90)))
    assert maps[0].any()
    np.testing.assert_array_equal(*maps)


def test_onnx_runtime_gives_what_the_model_gives(world: Path) -> None:
    same_as_torch(world, "onnx")


def test_openvino_gives_what_the_model_gives(world: Path) -> None:
    pytest.importorskip("openvino")
    same_as_torch(world, "openvino")


def test_openvino_computes_the_8_bit_graph(world: Path) -> None:
    """As ONNX Runtime does, but for rounding of 8-bit numbers."""
    pytest.importorskip("openvino")
    expected = mask_logits(world, "onnx", "int8")
    found = mask_logits(world, "openvino", "int8")
    assert (found - expected).abs().mean() < 0.1 * expected.std()


def test_a_broken_graph_is_one_line(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (world / "export").iterdir():
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[:1000] if file.suffix == ".onnx" else content)
    words = ["--model", broken, "--input", world / "photos", "--output", tmp_path / "out"]
    assert predict.main([*map(str, words), "--runtime", "onnx"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "cannot be read by onnx" in error
    assert not (tmp_path / "out").exists()
