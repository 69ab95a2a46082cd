"""Checkpoints changed at random: loaded whole, or refused in one line that names the folder."""

import json
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataseg_hf.errors import ConfigError
from dataseg_hf.sharing.checkpoint import load_checkpoint, save_checkpoint
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor
from helpers.mutations import mutated_bytes, mutated_json
from helpers.thoroughness import fuzzed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_checkpoint(checkpoint_model(), checkpoint_processor(), folder)
    for code in folder.glob("*.py"):
        code.unlink()  # not read here
    return folder


@fuzzed(40, 600)
@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(["config.json", "preprocessor_config.json", "model.safetensors"]),
)
def test_a_changed_checkpoint_is_whole_or_refused(
    seed: int, name: str, saved: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved, folder)
    rng, file = random.Random(seed), folder / name
    if name.endswith(".json") and seed % 5:
        file.write_text(json.dumps(mutated_json(json.loads(file.read_text()), rng)))
    else:
        content = file.read_bytes()
        file.write_bytes(changed := mutated_bytes(content, rng))
        if changed == content:
            return
    refusal = ""
    try:
        model, processor = load_checkpoint(str(folder))
    except ConfigError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith("--model: ")
        assert str(folder) in refusal
        assert "\n" not in refusal
        assert len(refusal) < 2000
        return
    assert name != "model.safetensors", "a changed bit went unnoticed"
    assert model.stored_vocabulary("scene")["labels"]
    assert processor.size
