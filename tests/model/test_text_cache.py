"""The cache of text embeddings: found by content, never by name, and never in the way."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dataseg_hf.model.text_cache_dataseg import (
    cache_folder,
    cache_key,
    folder_digest,
    read_cached,
    write_cached,
)
from dataseg_hf.model.text_embeddings_dataseg import HubTextEncoder
from helpers.tiny_towers import save_clip

NAMES = ["tree", "car"]


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    return save_clip(tmp_path / "clip")


@pytest.fixture
def no_tower(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, running a tower fails the test."""
    return lambda: monkeypatch.setattr(
        HubTextEncoder, "_ensemble", lambda *_: pytest.fail("the tower was run")
    )


def test_names_embedded_before_need_no_tower(
    clip_folder: Path, own_cache: Path, no_tower: Callable[[], None]
) -> None:
    first = HubTextEncoder(str(clip_folder))(NAMES)
    assert len(list(own_cache.iterdir())) == 1
    no_tower()
    assert torch.equal(HubTextEncoder(str(clip_folder))(NAMES), first)


def test_a_copy_of_the_tower_is_the_same_tower(
    clip_folder: Path, tmp_path: Path, no_tower: Callable[[], None]
) -> None:
    first = HubTextEncoder(str(clip_folder))(NAMES)
    shutil.copytree(clip_folder, tmp_path / "elsewhere")
    no_tower()
    assert torch.equal(HubTextEncoder(str(tmp_path / "elsewhere"))(NAMES), first)


def test_other_weights_in_the_same_folder_are_another_tower(clip_folder: Path) -> None:
    first = HubTextEncoder(str(clip_folder))(NAMES)
    save_clip(clip_folder, seed=1)
    assert not torch.allclose(HubTextEncoder(str(clip_folder))(NAMES), first, atol=1e-2)


def test_names_order_and_templates_are_part_of_the_content(
    clip_folder: Path, own_cache: Path
) -> None:
    encoder = HubTextEncoder(str(clip_folder))
    forward, backward = encoder(NAMES), encoder(NAMES[::-1])
    torch.testing.assert_close(forward.flip(0), backward)
    other = HubTextEncoder(str(clip_folder), ["the {} in a scene."])(NAMES)
    assert not torch.allclose(other, forward, atol=1e-3)
    assert len(list(own_cache.iterdir())) == 3


def test_the_same_prompts_grouped_otherwise_are_other_rows() -> None:
    assert cache_key("tower", ["a", "b"], 1) != cache_key("tower", ["a", "b"], 2)
    assert cache_key("tower", ["a", "b"], 1) != cache_key("tower", ["ab"], 1)


def test_without_cache_nothing_is_kept(clip_folder: Path, own_cache: Path) -> None:
    HubTextEncoder(str(clip_folder), use_cache=False)(NAMES)
    assert list(own_cache.iterdir()) == []


def test_a_broken_file_is_computed_again(clip_folder: Path, own_cache: Path) -> None:
    first = HubTextEncoder(str(clip_folder))(NAMES)
    (file,) = own_cache.iterdir()
    file.write_bytes(b"half a fi")
    assert torch.equal(HubTextEncoder(str(clip_folder))(NAMES), first)
    save_file({"other": torch.zeros(1)}, file)
    assert torch.equal(HubTextEncoder(str(clip_folder))(NAMES), first)


def test_a_folder_that_cannot_be_written_does_no_harm(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DATASEG_CACHE", str(tmp_path / "file"))
    assert HubTextEncoder(str(clip_folder))(NAMES).shape == (2, 12)


def test_what_is_written_is_read(own_cache: Path) -> None:
    embeddings = torch.randn(3, 4)
    assert cache_folder() == own_cache
    assert read_cached("key") is None
    write_cached("key", embeddings.T.contiguous().T)
    found = read_cached("key")
    assert found is not None
    assert torch.equal(found, embeddings)
    assert [path.name for path in own_cache.iterdir()] == ["key.safetensors"]


def test_a_folders_digest_is_that_of_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    first = folder_digest(tmp_path)
    (tmp_path / "sub").mkdir()
    assert folder_digest(tmp_path) == first
    (tmp_path / "a").write_text("2")
    (tmp_path / "b").write_text("1")
    assert folder_digest(tmp_path) != first
