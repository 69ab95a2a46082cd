"""The small model of `checkpoints/`: that it loads, and that it is as good as its card says."""

import os
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import safe_open
from transformers import AutoImageProcessor, AutoModel, pipeline

from dataseg_hf import DaTaSegModel
from dataseg_hf.evaluation.run import run_evaluation
from dataseg_hf.evaluation.settings import EvaluationOptions, read_held_out
from dataseg_hf.settings.ready_configs import config_file
from helpers.paths import ROOT

FOLDER = ROOT / "checkpoints/photos-small"
EXAMPLES = ROOT / "spaces/dataseg-demo/examples"
MEGABYTE = 10**6


def test_it_is_small_and_has_no_copy_of_the_code() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 10 * MEGABYTE
    assert not list(FOLDER.glob("*.py"))
    with safe_open(FOLDER / "model.safetensors", framework="pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    assert kinds == {"F16", "I64"}


def test_it_computes_in_full_precision() -> None:
    model = AutoModel.from_pretrained(FOLDER)
    assert isinstance(model, DaTaSegModel)
    assert model.dtype == torch.float32
    assert AutoImageProcessor.from_pretrained(FOLDER).size == {"longest_edge": 512}


@pytest.mark.parametrize(("photograph", "word"), [("cat", "cat"), ("astronaut", "person")])
def test_it_finds_what_a_photograph_shows(photograph: str, word: str) -> None:
    segment = pipeline("dataseg-segmentation", model=str(FOLDER), device="cpu")
    image = Image.open(EXAMPLES / f"voc.{photograph}.png")
    for subtask in ("panoptic", "semantic", "instance"):
        found = segment(image, subtask=subtask, threshold=0.5)
        assert word in [one["label"] for one in found]
        assert {one["label"] for one in found} <= {word, "background"}


@pytest.mark.slow
@pytest.mark.skipif(
    "DATASEG_DATA" not in os.environ, reason="the real data is named by DATASEG_DATA"
)
def test_it_is_as_good_as_its_card_says(tmp_path: Path) -> None:
    held_out = read_held_out(config_file("photos_small"), [], set())
    options = EvaluationOptions(
        model=str(FOLDER), datasets=("voc_val",), output_dir=str(tmp_path / "scores"), gallery=0
    )
    (result,) = run_evaluation(options, held_out)
    measured = result.values()["miou"]
    (stated,) = (
        one.metric_value
        for one in ModelCard.load(FOLDER / "README.md").data.eval_results or []
        if one.dataset_type == "voc_val" and one.metric_type == "miou"
    )
    assert measured == pytest.approx(stated, abs=0.003)  # of weights in half precision
    assert measured >= 0.40
