"""What loads is whole: tensors that are missing, unknown or of another shape, changed bits, pickles
and impossible settings are refused by name, by every command that loads a model.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dataseg_hf.errors import ConfigError
from dataseg_hf.model.checksums_dataseg import CHECKSUMS_FILE, damaged_files
from dataseg_hf.sharing.checkpoint import load_checkpoint, save_checkpoint
from dataseg_hf.sharing.publishing import checkpoint_files
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor

WEIGHTS = "model.safetensors"
QUERIES = "query_decoder.queries.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_checkpoint(checkpoint_model(), checkpoint_processor(), folder)
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    return folder


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, {"format": "pt"})


def without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(QUERIES), f"{QUERIES} is missing"),
        (lambda w: {**w, "head.extra": torch.zeros(2)}, "head.extra is unknown"),
        (
            lambda w: {**w, QUERIES: w[QUERIES][:-1].contiguous()},
            f"{QUERIES} has the shape [7, 16] instead of [8, 16]",
        ),
    ],
)
def test_weights_that_are_not_those_of_the_model_are_named(
    model: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    change_weights(model, change)
    (model / CHECKSUMS_FILE).unlink()  # as of an earlier version, or from the Hub
    for load in (lambda: load_checkpoint(str(model)), lambda: checkpoint_files(model)):
        with pytest.raises(ConfigError, match=re.escape(message)) as refusal:
            load()
        assert str(model) in str(refusal.value)


def test_one_flipped_bit_does_not_go_unnoticed(model: Path) -> None:
    content = bytearray((model / WEIGHTS).read_bytes())
    content[-1000] ^= 1
    (model / WEIGHTS).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{WEIGHTS} is not what was saved"):
        load_checkpoint(str(model))
    (model / CHECKSUMS_FILE).unlink()  # what the message offers
    load_checkpoint(str(model))


def test_saving_a_changed_model_with_transformers_keeps_it_whole(model: Path) -> None:
    loaded, _ = load_checkpoint(str(model))
    loaded.add_vocabulary("words", ["tree", "lake"], [True, False])
    loaded.save_pretrained(model)
    assert damaged_files(model) == []
    assert load_checkpoint(str(model))[0].stored_vocabulary("words")["labels"] == ["tree", "lake"]


def test_shards_have_checksums(tmp_path: Path) -> None:
    checkpoint_model().save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(file.name for file in tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert sorted(json.loads((tmp_path / CHECKSUMS_FILE).read_text())) == shards


def test_a_pickle_is_no_model(model: Path) -> None:
    (model / WEIGHTS).unlink()
    torch.save({}, model / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="safetensors"):
        load_checkpoint(str(model))


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"num_queries": -1}),
        ("config.json", {"num_queries": "100"}),
        ("config.json", {"default_vocabulary": "nope"}),
        ("config.json", {"vocabularies": 7}),
        ("config.json", {"backbone_config": []}),
        ("preprocessor_config.json", {"image_mean": [0.5, 0.5]}),
        ("preprocessor_config.json", {"image_std": [0, 1, 1]}),
        ("preprocessor_config.json", {"size": "large"}),
    ],
)
def test_impossible_settings_are_refused_in_a_line(
    model: Path, file: str, changes: dict[str, Any]
) -> None:
    settings = json.loads((model / file).read_text())
    (model / file).write_text(json.dumps({**settings, **changes}))
    with pytest.raises(ConfigError) as refusal:
        load_checkpoint(str(model))
    assert str(refusal.value).startswith(f"--model: {model}")
    assert "\n" not in str(refusal.value)
