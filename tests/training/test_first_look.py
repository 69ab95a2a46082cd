"""What a run says of its data before it trains."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dataseg_hf.data.sample import (
    BadSampleError,
    Census,
    ClassInfo,
    DatasetSpec,
    Instances,
    Sample,
    SampleDataset,
)
from dataseg_hf.errors import ConfigError
from dataseg_hf.settings.entries import EvalEntry, TrainEntry
from dataseg_hf.settings.run import RunConfig
from dataseg_hf.training.first_look import look_at_data
from dataseg_hf.training.report import describe

SPEC = DatasetSpec("two", "boxes", (ClassInfo("cat", True), ClassInfo("dog", True)), {1: 0, 2: 1})


def objects(*crowds: bool, labels: tuple[int, ...] | None = None) -> Sample:
    boxes = np.tile(np.array([[0, 0, 4, 4]], np.float32), (len(crowds), 1))
    annotation = Instances(np.array(labels or [0] * len(crowds)), boxes, np.array(crowds, bool))
    return Sample(np.zeros((8, 8, 3), np.uint8), annotation, 1, "1.png")


def dataset(*samples: Sample, **facts: Any) -> SampleDataset:
    return SampleDataset(SPEC, list(samples), load=lambda row: row, **facts)


def member(data: SampleDataset) -> Any:
    return SimpleNamespace(name="mine", data=data)


def config(tmp_path: Path, **settings: Any) -> RunConfig:
    entry = {"spec": "shapes_boxes"}
    return RunConfig(
        output_dir=str(tmp_path / "run"),
        datasets={"mine": TrainEntry(**entry)},
        evaluation={"held": EvalEntry(**entry, vocabulary="mine", metrics=("box_ap",))},
        text_encoder={"kind": "hashed_ngrams"},
        **settings,
    )


def test_crowds_alone_are_said_where_no_reader_counted(tmp_path):
    (line,) = look_at_data(
        [member(dataset(objects(True, True), objects(True)))], [], config(tmp_path)
    )
    assert line.startswith(
        "datasets.mine: in the 2 images read before training, all 3 objects are marked crowd"
    )
    assert look_at_data([member(dataset(objects(True, False)))], [], config(tmp_path)) == []


def test_what_the_reader_counted_is_not_guessed_from_some_images(tmp_path):
    counted = Census(np.array([9, 9]), np.array([0, 0]), 1)
    assert (
        look_at_data([member(dataset(objects(True), census=counted))], [], config(tmp_path)) == []
    )


def test_held_out_names_that_contradict_those_of_training_end_the_run(tmp_path):
    trained = dataset(objects(False), stated_names={1: "cat", 2: "dog"})
    held_out: Any = SimpleNamespace(
        name="held", data=dataset(objects(False), stated_names={1: "dog", 2: "cat"})
    )
    with pytest.raises(
        ConfigError,
        match=r"^evaluation\.held: the files of training .* name 2 categories differently",
    ):
        look_at_data([member(trained)], [held_out], config(tmp_path))


def test_an_image_that_cannot_be_used_ends_the_run_or_is_passed_over(tmp_path):
    def load(row: Any) -> Sample:
        raise BadSampleError("1.png: cannot be read")

    broken = SampleDataset(SPEC, [0], load=load)
    with pytest.raises(ConfigError, match=r"^datasets\.mine: 1\.png: cannot be read"):
        look_at_data([member(broken)], [], config(tmp_path))
    assert look_at_data([member(broken)], [], config(tmp_path, on_bad_sample="skip")) == []


def test_counts_are_told_at_the_start(caplog):
    caplog.set_level("INFO")
    data = dataset(
        objects(True), census=Census(np.array([4, 0]), np.array([4, 0]), 12), notes=["a note"]
    )
    facts = {
        "trainable_parameters": 1,
        "parameters": 1,
        "processes": 1,
        "device": "cpu",
        "precision": "no",
        "threads": 1,
        "max_steps": 1,
        "warmup_steps": 0,
        "gradient_accumulation_steps": 1,
        "queries": 10,
        "python": "3",
        **dict.fromkeys(
            (
                "dataseg_hf",
                "torch",
                "transformers",
                "accelerate",
                "datasets",
                "huggingface_hub",
                "numpy",
                "safetensors",
            ),
            "1",
        ),
    }
    mixed = SimpleNamespace(
        name="mine", data=data, ratio=1.0, size=1, task="boxes", batch_size=1, in_every_step=False
    )
    describe(facts, [mixed], [])  # type: ignore[list-item]
    printed = caplog.text
    assert "mine: a note" in printed
    assert "mine: all 4 objects are marked crowd" in printed
    assert (
        "mine: every image has more objects (at least 12) than the model has queries (10)"
        in printed
    )
    assert "mine: 1 of 2 classes never occur: dog" in printed
    assert "1 steps, the first 0 of them warm-up" in printed
    assert "warmup_steps" not in printed
    caplog.clear()
    describe({**facts, "max_steps": 10, "warmup_steps": 50}, [mixed], [])  # type: ignore[list-item]
    assert "10 steps, the first 10 of them warm-up" in caplog.text
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.getMessage().startswith(
        "warmup_steps: 50 leave none of the 10 steps at the full"
    )
