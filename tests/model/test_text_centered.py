"""Centered embeddings against the formula written out."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dataseg_hf.data.catalog import CATALOG
from dataseg_hf.model.text_embeddings_dataseg import HubTextEncoder, build_text_encoder
from dataseg_hf.settings.model import remembered_encoder
from helpers.tiny_towers import save_clip

ROWS = np.array([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]])
UNIT = torch.tensor([[0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
NAMES = ["road", "sky", "sidewalk"]


def saved(folder: Path) -> dict[str, object]:
    np.save(folder / "table.npy", ROWS)
    return {"path": str(folder / "table.npy"), "names": NAMES}


@pytest.mark.parametrize("kind", ["file", "files"])
def test_files_lose_the_mean_of_their_rows(tmp_path: Path, kind: str) -> None:
    file = saved(tmp_path)
    spec = {"kind": "file", **file} if kind == "file" else {"kind": "files", "files": [file]}
    expected = F.normalize(UNIT - UNIT.mean(dim=0), dim=-1)
    encoder = build_text_encoder({**spec, "center": True})
    torch.testing.assert_close(encoder(NAMES), expected)
    torch.testing.assert_close(encoder(["sky"]), expected[1:2])
    assert encoder.dim == 2
    torch.testing.assert_close(build_text_encoder(spec)(NAMES), UNIT)


def test_a_tower_loses_the_mean_of_the_catalogs_names(tmp_path: Path) -> None:
    tower = str(save_clip(tmp_path / "clip"))
    # a letter each, so that the tokenizer of letters reads every name
    spec = {"kind": "hub", "name_or_path": tower, "templates": ["{}"]}
    catalog = sorted({name for each in CATALOG.values() for name in each.labels})
    plain = HubTextEncoder(tower, ["{}"])
    expected = F.normalize(plain(["tree", "car"]) - plain(catalog).mean(dim=0), dim=-1)
    got = build_text_encoder({**spec, "center": True})(["tree", "car"])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_center_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`center` must be true or false, got 'yes'"):
        build_text_encoder({"kind": "file", **saved(tmp_path), "center": "yes"})


def test_a_checkpoint_remembers_that_files_were_centered(tmp_path: Path) -> None:
    file = {"kind": "file", **saved(tmp_path)}
    assert remembered_encoder(file)["source"] == "table.npy"
    assert remembered_encoder({**file, "center": True})["source"] == "table.npy, centered"
