"""Every way of saving a model leaves a folder that loads by itself, with the pipelines' code."""

import json
import logging
import os
from pathlib import Path

import pytest
from PIL import Image
from transformers import ImageSegmentationPipeline, Trainer, TrainingArguments, pipeline

import dataseg_hf
from dataseg_hf import DaTaSegConfig, DaTaSegPipeline
from dataseg_hf.model.shipped_code_dataseg import AUTO_MAP, CUSTOM_PIPELINES
from helpers import warm_python
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor

CODE = {file.name for file in Path(dataseg_hf.__file__).parent.glob("model/*_dataseg.py")}
PARTS = {"image_processor": checkpoint_processor(), "device": "cpu"}


def save_parts(model, folder):
    model.save_pretrained(folder)
    checkpoint_processor().save_pretrained(folder)


def save_with_trainer(model, folder):
    arguments = TrainingArguments(output_dir=str(folder / "trainer"), report_to=[], use_cpu=True)
    Trainer(model=model, args=arguments, processing_class=checkpoint_processor()).save_model(
        str(folder)
    )


def save_loaded_model(model, folder):
    save_parts(model, folder / "first")
    type(model).from_pretrained(folder / "first").save_pretrained(folder)


WAYS = {
    "model and processor": save_parts,
    "loaded model": save_loaded_model,
    "our pipeline": lambda model, folder: DaTaSegPipeline(model=model, **PARTS).save_pretrained(
        folder
    ),
    "transformers' pipeline": lambda model, folder: ImageSegmentationPipeline(
        model=model, **PARTS
    ).save_pretrained(folder),
    "Trainer": save_with_trainer,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_saved_folder_is_whole(way, tmp_path):
    WAYS[way](checkpoint_model(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"] == AUTO_MAP
    assert config["custom_pipelines"] == CUSTOM_PIPELINES
    assert {file.name for file in tmp_path.glob("*.py")} == CODE
    segmenter = pipeline(
        "dataseg-segmentation", model=str(tmp_path), trust_remote_code=True, device="cpu"
    )
    assert segmenter(Image.new("RGB", (40, 30)), subtask="semantic", vocabulary=["tree", "car"])
    assert segmenter.image_processor.image_mean == checkpoint_processor().image_mean
    assert segmenter.image_processor.size == checkpoint_processor().size


def test_a_new_model_takes_no_processor_of_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "preprocessor_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    checkpoint_model().save_pretrained("model")
    assert not (tmp_path / "model" / "preprocessor_config.json").exists()


def test_code_that_a_config_took_from_another_repository_becomes_the_folders_own(tmp_path):
    model = checkpoint_model()
    model.config.auto_map = {
        name: f"someone/model--{reference}" for name, reference in AUTO_MAP.items()
    }
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == AUTO_MAP


def test_a_config_alone_is_saved_with_its_code_and_read_back(tmp_path):
    config = checkpoint_model().config
    config.save_pretrained(tmp_path / "new" / "folder")
    assert DaTaSegConfig.from_pretrained(tmp_path / "new" / "folder").to_dict() == config.to_dict()


# --- the plain task of transformers


@pytest.fixture
def folder(tmp_path):
    save_parts(checkpoint_model(), tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize("trust", [{}, {"trust_remote_code": True}])
def test_the_plain_pipeline_takes_a_vocabulary(folder, trust, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    segmenter = pipeline("image-segmentation", model=folder, device="cpu", **trust)
    found = segmenter(Image.new("RGB", (40, 30)), vocabulary=["tree", "car"], subtask="semantic")
    assert {segment["label"] for segment in found} <= {"tree", "car"}
    with pytest.raises(ValueError, match="did you mean 'threshold'"):
        segmenter(Image.new("RGB", (40, 30)), thresold=0.5)
    assert "not supported" not in caplog.text


@pytest.mark.parametrize("task", ["image-segmentation", "dataseg-segmentation"])
def test_a_model_in_memory_gets_our_pipeline(task):
    assert type(pipeline(task, model=checkpoint_model(), **PARTS)) is DaTaSegPipeline


def test_other_models_keep_the_pipeline_of_transformers():
    from transformers import (
        SegformerConfig,
        SegformerForSemanticSegmentation,
        SegformerImageProcessorPil,
    )

    config = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 8],
        patch_sizes=[3, 3],
        strides=[2, 2],
        num_attention_heads=[1, 1],
        mlp_ratios=[1, 1],
        decoder_hidden_size=8,
    )
    model = SegformerForSemanticSegmentation(config)
    segmenter = pipeline(
        "image-segmentation",
        model=model,
        image_processor=SegformerImageProcessorPil(),
        device="cpu",
    )
    assert type(segmenter) is ImageSegmentationPipeline


REMOTE = """
import sys
sys.modules["dataseg_hf"] = None  # importing it fails
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForUniversalSegmentation, Trainer, TrainingArguments, pipeline

first, out = sys.argv[1:]
trusted = {"trust_remote_code": True}
segmenter = pipeline("image-segmentation", model=first, device="cpu", **trusted)
segmenter.save_pretrained(out + "/pipeline")
model = AutoModelForUniversalSegmentation.from_pretrained(first, **trusted)
processor = AutoImageProcessor.from_pretrained(first, **trusted)
model.save_pretrained(out + "/model")
processor.save_pretrained(out + "/model")
arguments = TrainingArguments(output_dir=out + "/runs", report_to=[], use_cpu=True)
Trainer(model=model, args=arguments, processing_class=processor).save_model(out + "/trainer")
for name in ("pipeline", "model", "trainer"):
    for task in ("dataseg-segmentation", "image-segmentation"):
        saved = pipeline(task, model=f"{out}/{name}", device="cpu", **trusted)
        found = saved(Image.new("RGB", (40, 30)), subtask="semantic", vocabulary=["tree", "car"])
        assert {segment["label"] for segment in found} <= {"tree", "car"}
"""


@pytest.mark.slow
def test_what_remote_code_saves_is_whole(folder, tmp_path):
    variables = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = warm_python.run_code_cold(REMOTE, variables, folder, str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "not supported" not in done.stderr
    for name in ("pipeline", "model", "trainer"):
        assert {file.name for file in (tmp_path / "out" / name).glob("*.py")} == CODE
