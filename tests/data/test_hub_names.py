"""What is a folder here and what is asked of the Hub; a missing folder is not blamed on the
network.
"""

from pathlib import Path

import pytest
from transformers import AutoConfig

from dataseg_hf.data.hub_names import hub_reference, is_missing_path, loading_failure
from dataseg_hf.data.readers.hub import read_hub
from dataseg_hf.data.sample import ClassInfo, DatasetSpec
from dataseg_hf.errors import ConfigError
from dataseg_hf.sharing.checkpoint import load_checkpoint, save_checkpoint
from helpers.checkpoint_models import checkpoint_model, checkpoint_processor


@pytest.mark.parametrize(
    ("name", "is_missing"),
    [
        ("org/name", False),
        ("name", False),
        ("./name", True),
        ("../runs/name", True),
        ("/nowhere/at/all", True),
        ("outputs/shapes/best", True),
        ("~/nowhere at all", True),
        ("data\\mine", True),
        ("C:\\data", True),
    ],
)
def test_what_can_only_be_a_path(name, is_missing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_missing_path(name) == is_missing


def test_what_is_there_is_not_missing(tmp_path, monkeypatch):
    (tmp_path / "outputs/shapes/best").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_missing_path("outputs/shapes/best")
    assert loading_failure("outputs/shapes", OSError("a\n b")) == "a b"
    assert loading_failure("org/name", OSError("offline")) == (
        "no folder 'org/name' is here, and the Hub does not give a repository of that name: offline"
    )


def test_a_revision_is_split_off_unless_a_folder_is_called_so(tmp_path):
    assert hub_reference("org/name@v1") == ("org/name", "v1")
    assert hub_reference("org/name") == ("org/name", None)
    folder = tmp_path / "run@home"
    folder.mkdir()
    assert hub_reference(str(folder)) == (str(folder), None)


def test_a_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"^--model: .*nowhere: no such folder; check the path$"):
        load_checkpoint(str(tmp_path / "nowhere"))


def test_the_hub_is_not_asked_for_what_can_only_be_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("was asked"))
    with pytest.raises(ConfigError, match=r"^--model: nope: no such folder; check the path$"):
        load_checkpoint("nope")
    (tmp_path / "outputs").mkdir()
    with pytest.raises(ConfigError, match=r"outputs/nope: .*or write outputs/nope@main to ask"):
        load_checkpoint("outputs/nope")


def test_a_folder_here_does_not_hide_an_owner_of_the_hub(tmp_path, monkeypatch):
    (tmp_path / "org").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="the Hub does not give a repository of that name"):
        load_checkpoint("org/name@main")


def test_a_file_is_no_checkpoint(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"^--model: .*config\.json is a file; name its folder$"):
        load_checkpoint(str(tmp_path / "config.json"))


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ConfigError, match=r"no model in it yet \(no config\.json\); was the run"):
        load_checkpoint(str(tmp_path))


def test_damaged_weights(tmp_path):
    save_checkpoint(checkpoint_model(), checkpoint_processor(), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(ConfigError, match=r"^--model: .*: the weights are damaged \(.*\); save"):
        load_checkpoint(str(tmp_path))
    weights.rename(tmp_path / "pytorch_model.bin")  # a format that torch reads by pickle
    with pytest.raises(ConfigError, match=r"^--model: .* no file named model\.safetensors"):
        load_checkpoint(str(tmp_path))


def test_a_checkpoint_of_an_unreachable_hub_says_that_no_folder_is_called_so(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ConfigError, match=r"^--model: no folder 'nobody/nothing' is here, and the Hub"
    ):
        load_checkpoint("nobody/nothing")


def test_a_dataset_folder_that_is_not_there(tmp_path: Path):
    spec = DatasetSpec("mine", "semantic", (ClassInfo("road", False),), {1: 0})
    with pytest.raises(
        FileNotFoundError, match=r"nowhere: no such folder or file; check `options\.path`"
    ):
        read_hub(spec, path=str(tmp_path / "nowhere"), label_column="label")
