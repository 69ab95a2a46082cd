"""The sentence encoder: its table is what the package gives, and names outside say what they need."""

import runpy
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dataseg_hf import DaTaSegModel
from dataseg_hf.data.catalog import CATALOG
from dataseg_hf.model import text_sentence_dataseg
from dataseg_hf.model.text_embeddings_dataseg import build_text_encoder
from dataseg_hf.model.text_sentence_dataseg import (
    alternatives,
    load_usem3,
    plain_words,
    project,
    raw_embedding,
    sentence_space,
)
from helpers.checkpoint_models import checkpoint_model, convnext
from helpers.paths import ROOT

ENCODER = build_text_encoder({"kind": "sentence"})


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usem3", None)
    monkeypatch.setattr(text_sentence_dataseg, "load_usem3", load_usem3.__wrapped__)


def test_the_table_has_every_name_of_the_catalog_and_no_other(without_package: None) -> None:
    names = {name for spec in CATALOG.values() for name in spec.labels}
    assert set(sentence_space().rows) == names
    rows = ENCODER(sorted(names))
    assert rows.shape == (len(names), ENCODER.dim)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(names)))


def test_the_table_is_what_its_script_makes() -> None:
    """Up to the last bits of float16, which depend on the machine's BLAS."""
    script = runpy.run_path(str(ROOT / "benchmarks" / "sentence_space.py"))
    names = script["catalog_names"]()
    raw = np.stack([raw_embedding(load_usem3(), name) for name in names])
    made = script["directions"](raw, script["DIM"], script["WHITENING"])
    space = sentence_space()
    np.testing.assert_allclose(space.mean, made.mean, atol=1e-3)
    table = project(raw, *made)
    assert float((table * space.table).sum(axis=1).min()) > 0.9999
    np.testing.assert_allclose(project(raw, space.mean, space.projection), space.table, atol=5e-4)


def test_synonyms_rank_first_as_often_as_documented() -> None:
    module = runpy.run_path(str(ROOT / "benchmarks" / "synonyms.py"))
    embed = module["remembered"](lambda name: ENCODER([name])[0].numpy())
    asked = module["all_queries"]()
    assert module["score"](embed, asked["chosen"]) >= 0.82
    assert module["score"](embed, asked["held out"]) >= 0.78


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("Sofa", "sofa"),
        ("TV", "tv"),
        ("SignSymbol", "sign symbol"),
        ("wall-other-merged", "wall"),
        ("door-stuff", "door"),
        ("traffic_light", "traffic light"),
        ("  t-shirt ", "t shirt"),
    ],
)
def test_spelling_does_not_matter(written: str, plain: str) -> None:
    assert plain_words(written) == plain


def test_alternatives_are_averaged() -> None:
    assert alternatives("orange or tangerine") == ["orange", "tangerine"]
    assert alternatives("sofa, couch, lounge") == ["sofa", "couch", "lounge"]
    assert alternatives("floor") == ["floor"]
    encoder = load_usem3()
    mean = sum(encoder.encode(text) for text in ("lorry", "lorry.", "van", "van."))
    mean /= np.linalg.norm(mean)
    np.testing.assert_allclose(raw_embedding(encoder, "lorry or van"), mean, atol=1e-6)


def test_a_name_does_not_depend_on_the_others() -> None:
    assert torch.equal(ENCODER(["lorry", "telly", "car"])[1], ENCODER(["telly"])[0])


def test_synonyms_are_neighbors() -> None:
    couch, sofa, zebra = ENCODER(["couch", "sofa", "zebra"])
    assert couch @ sofa > 0.7 > 0.3 > couch @ zebra


def test_a_name_outside_of_the_catalog_says_what_to_install(without_package: None) -> None:
    assert ENCODER(["Couch", "TV"]).shape == (2, ENCODER.dim)
    with pytest.raises(OSError, match=r"'lorry', 'telly'.*pip install \"dataseg-hf\[text\]\"") as e:
        ENCODER(["couch", "lorry", "Telly"])
    assert "\n" not in str(e.value)
    assert "couch" not in str(e.value)


@pytest.mark.parametrize("name", ["?!", "-merged"])
def test_nothing_to_embed_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no letter or digit"):
        ENCODER([name])


def test_a_model_keeps_its_stored_names_without_the_package(without_package: None) -> None:
    model: DaTaSegModel = checkpoint_model(convnext())
    model.config.text_encoder = {"kind": "sentence"}
    rows = F.normalize(torch.randn(2, model.config.text_embedding_dim), dim=-1)
    model.add_vocabulary("streets", ["lorry", "velocipede"], text_embeddings=rows)
    torch.testing.assert_close(model.embed(["Lorry"]), rows[:1])
    with pytest.raises(OSError, match="dataseg-hf"):
        model.embed(["lorry", "telly"])
