"""One thread, one seed, and a model small enough to build in every test."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

from dataseg_hf.model.configuration_dataseg import DaTaSegConfig
from dataseg_hf.model.degrees_dataseg import Degree
from dataseg_hf.model.modeling_dataseg import DaTaSegModel

if "DATASEG_DATA" in os.environ:
    # Chromium and Gradio refuse to upload a file whose path holds ".."
    os.environ["DATASEG_DATA"] = str(Path(os.environ["DATASEG_DATA"]).resolve())

ConfigFactory: TypeAlias = Callable[..., DaTaSegConfig]
ModelFactory: TypeAlias = Callable[..., DaTaSegModel]
LabelFactory: TypeAlias = Callable[..., dict[str, Tensor]]

STAGES = ["stage1", "stage2", "stage3", "stage4"]
TINY_BACKBONE: dict[str, Any] = {
    "model_type": "convnext",
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 16, 16, 16],
    "out_features": STAGES,
}
WORLD: dict[str, Any] = {"labels": ["circle", "square", "sky"], "is_thing": [True, True, False]}


LONGEST = (
    "tests/training/test_runs_survive.py",
    "tests/sharing/test_export_onnx.py",
    "tests/sharing/test_export.py",
    "tests/test_packaging.py",
    "tests/docs/test_docs.py",
    "tests/training/",
    "tests/sharing/",
    "tests/model/test_train_memory.py",
    "tests/model/test_re",
    "tests/demo/",
    "tests/commands/",
    "tests/experiments/",
    "tests/data/test_reader_memory.py",
    "tests/benchmarks/",
)
"""Beginnings of the names of the files that take longest, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no process is left with one when the others are done."""

    def place(item: pytest.Item) -> int:
        starts = (n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start))
        return next(starts, len(LONGEST))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def one_thread_one_seed() -> None:
    """Sums in one order, and the same random numbers in every run and order of the tests."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches of `datasets` (readers) and of Gradio (demos) are temporary folders, in child
    processes too.
    """
    folder = str(tmp_path_factory.mktemp("datasets_cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", folder)
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder)
        # a demo that ends deletes what is in this folder, that of a demo in another process
        # included
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        yield


@pytest.fixture(scope="session")
def evaluate_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches of `evaluate` away from the user's, one for all tests: Python keeps the package of
    modules it has seen.
    """
    import evaluate

    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", folder / "metrics")
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", folder / "modules")
        # the user's own folder of modules may be on the path by now, because transformers puts it
        # there, and come first
        patch.syspath_prepend(folder / "modules")
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Text embeddings of a test are cached for that test alone."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DATASEG_CACHE", str(folder))
    return folder


@pytest.fixture
def tiny_config() -> ConfigFactory:
    """Config of a model with 0.1 M parameters: two things and one stuff category, mask grid at
    stride 4.
    """

    def make(**options: Any) -> DaTaSegConfig:
        defaults: dict[str, Any] = {
            "backbone_config": dict(TINY_BACKBONE),
            "hidden_dim": 32,
            "mask_dim": 16,
            "encoder_layers": 1,
            "encoder_feedforward_dim": 32,
            "decoder_layers": 3,
            "dim_feedforward": 32,
            "num_attention_heads": 4,
            "num_queries": 8,
            "text_embedding_dim": 16,
            "vocabularies": {"world": dict(WORLD)},
            "default_vocabulary": "world",
        }
        return DaTaSegConfig(**{**defaults, **options})

    return make


@pytest.fixture
def tiny_model(tiny_config: ConfigFactory) -> ModelFactory:
    """That model in evaluation mode, its weights and text embeddings drawn from seed 0."""

    def make(**options: Any) -> DaTaSegModel:
        torch.manual_seed(0)
        model = DaTaSegModel(tiny_config(**options))
        if "vocabularies" not in options:
            embeddings = torch.randn(3, model.config.text_embedding_dim)
            model.add_vocabulary("world", WORLD["labels"], WORLD["is_thing"], embeddings)
        return model.eval()

    return make


@pytest.fixture
def scene_labels() -> LabelFactory:
    """Labels of one image by task: rectangles (class, x0, y0, x1, y1) in pixels, later ones above
    earlier ones.

    What no rectangle covers is void. `is_crowd` marks rectangles by their place in the list.
    """

    def make(
        task: str,
        size: tuple[int, int],
        *rectangles: tuple[int, int, int, int, int],
        crowd: tuple[int, ...] = (),
    ) -> dict[str, Tensor]:
        height, width = size
        corners = torch.tensor([rectangle[1:] for rectangle in rectangles]).view(-1, 4)
        masks = torch.zeros(len(rectangles), height, width, dtype=torch.uint8)
        segment_map = torch.full(size, -1, dtype=torch.int16)
        for number, (x0, y0, x1, y1) in enumerate(corners.tolist()):
            masks[number, y0:y1, x0:x1] = 1
            segment_map[y0:y1, x0:x1] = number
        labels = {
            "class_labels": torch.tensor(
                [rectangle[0] for rectangle in rectangles], dtype=torch.int64
            )
        }
        if crowd:
            labels["is_crowd"] = torch.tensor(
                [number in crowd for number in range(len(rectangles))]
            )
        if task in ("panoptic", "semantic"):
            labels["segment_map"] = segment_map
        if task in ("instance", "objects"):
            labels["masks"] = masks
        if task in ("boxes", "objects"):
            labels["boxes"] = corners / torch.tensor([width, height, width, height])
        if task == "objects":
            labels["degrees"] = torch.full_like(labels["class_labels"], Degree.MASK)
            labels["box_axes"] = torch.zeros(len(rectangles), 2, dtype=torch.bool)
            labels["points"] = torch.full((len(rectangles), 1, 2), torch.nan)
        return labels

    return make
