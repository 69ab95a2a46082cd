"""What is a folder here and what is asked of the Hub; a missing folder is not blamed on the
network.
"""

from pathlib import Path

import pytest

from dataseg_hf.data.hub_names import hub_reference, is_missing_path, loading_failure
from dataseg_hf.data.readers.hub import read_hub
from dataseg_hf.data.sample import ClassInfo, DatasetSpec
from dataseg_hf.errors import ConfigError
from dataseg_hf.sharing.checkpoint import load_checkpoint


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
