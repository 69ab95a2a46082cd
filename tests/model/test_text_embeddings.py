"""Text embeddings: hashed n-grams against plain Python, towers against get_text_features, real CLIP
files.
"""

import hashlib
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoTokenizer,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipModel,
)

from dataseg_hf.model.text_embeddings_dataseg import (
    FileTextEncoder,
    HashedNameEncoder,
    HashedNgramEncoder,
    HubTextEncoder,
    build_text_encoder,
)
from helpers.tiny_towers import ALPHABET, TEXT, VISION, clip_tokenizer, save_clip


def cosine(encoder: HashedNgramEncoder, first: str, second: str) -> float:
    a, b = encoder([first, second])
    return float(a @ b)


# Hashed n-grams


def plain_signs(text: str, dim: int) -> list[int]:
    """Bits of SHAKE-256, most significant first, as -1 and 1."""
    digest = hashlib.shake_256(text.encode()).digest((dim + 7) // 8)
    return [1 if digest[i // 8] >> (7 - i % 8) & 1 else -1 for i in range(dim)]


def test_hashed_names_are_equal_or_strangers() -> None:
    encoder = build_text_encoder({"kind": "hashed_names", "dim": 4096})
    assert isinstance(encoder, HashedNameEncoder)
    assert encoder.dim == 4096
    names = ["red circle", "red square", "red circles", "red circle"]
    embedded = encoder(names)
    expected = torch.tensor([plain_signs(f"name:{name}", 4096) for name in names]) / 64.0
    torch.testing.assert_close(embedded, expected)
    similar = embedded @ embedded.T
    assert similar[0, 3] == pytest.approx(1, abs=1e-6)
    assert similar[0, 1:3].abs().max() < 0.1  # five standard deviations of orthogonality


def test_hashed_embedding_equals_a_plain_computation() -> None:
    dim = 13
    word_tv = plain_signs("word:tv", dim)
    ngrams_tv = [plain_signs(f"ngram:{g}", dim) for g in ("<tv", "tv>", "<tv>")]
    word_x = plain_signs("word:x", dim)
    ngram_x = plain_signs("ngram:<x>", dim)
    total = [
        word_tv[i]
        + 0.7 / math.sqrt(3) * sum(g[i] for g in ngrams_tv)
        + word_x[i]
        + 0.7 * ngram_x[i]
        for i in range(dim)
    ]
    norm = math.sqrt(sum(value * value for value in total))
    got = HashedNgramEncoder(dim)(["TV-x"])
    assert got.dtype == torch.float32
    torch.testing.assert_close(got[0], torch.tensor(total) / norm)


def test_hashed_embedding_is_the_same_on_every_platform() -> None:
    expected = [0.2560, 0.3009, 0.1152, -0.0704, 0.4622, -0.5550, 0.4622, -0.3009]
    torch.testing.assert_close(
        HashedNgramEncoder(8)(["red circle"])[0], torch.tensor(expected), atol=1e-4, rtol=0
    )


def test_names_that_share_words_are_neighbors() -> None:
    encoder = HashedNgramEncoder(1024)
    assert cosine(encoder, "red circle", "circle") == pytest.approx(1 / math.sqrt(2), abs=0.08)
    assert cosine(encoder, "red circle", "red square") == pytest.approx(0.5, abs=0.08)
    assert cosine(encoder, "red circle", "blue star") == pytest.approx(0.0, abs=0.08)
    assert 0.15 < cosine(encoder, "circle", "circles") < 0.4


def test_case_punctuation_and_composed_accents_do_not_matter() -> None:
    a, b, c = HashedNgramEncoder()(["Traffic-Light", "traffic_light", "  traffic (light) "])
    assert torch.equal(a, b)
    assert torch.equal(a, c)
    composed, decomposed = HashedNgramEncoder()(["caf\u00e9", "cafe\u0301"])
    assert torch.equal(composed, decomposed)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=20),
        min_size=1,
        max_size=4,
    )
)
def test_any_names_give_finite_unit_rows_independent_of_the_others(names: list[str]) -> None:
    encoder = HashedNgramEncoder(64)
    rows = encoder(names)
    assert rows.shape == (len(names), 64)
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(names)))
    assert torch.equal(rows[-1:], encoder(names[-1:]))


@pytest.mark.parametrize("names", [[""], ["ok", "  "], ["?!"], [], "circle"])
def test_nothing_to_embed_is_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="name"):
        HashedNgramEncoder()(names)


def test_dim_must_be_positive() -> None:
    with pytest.raises(ValueError, match="dim must be a whole number of at least 1"):
        HashedNgramEncoder(0)


# Towers

SIGLIP_VOCAB = {
    t: i for i, t in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *ALPHABET])
}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


def siglip_folder(folder: Path, family: str) -> Path:
    text = TEXT | {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "projection_size": 20}
    torch.manual_seed(0)
    tokenizer = Siglip2Tokenizer(vocab=SIGLIP_VOCAB, merges=[])
    if family == "siglip2":
        Siglip2Model(Siglip2Config(text_config=text, vision_config=VISION)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    else:
        SiglipModel(
            SiglipConfig(text_config=text, vision_config=VISION | {"image_size": 8})
        ).save_pretrained(folder)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer,
            pad_token="<pad>",
            eos_token="<eos>",
            unk_token="<unk>",
        ).save_pretrained(folder)
    return folder


def features(model: CLIPModel | SiglipModel | Siglip2Model, **inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return F.normalize(model.eval().get_text_features(**inputs).pooler_output, dim=-1)


def test_clip_tower_equals_get_text_features_of_the_whole_model(clip_folder: Path) -> None:
    names = ["Red circle", "a", "wall brick"]
    tokenizer = AutoTokenizer.from_pretrained(clip_folder)
    model = CLIPModel.from_pretrained(clip_folder)
    one_by_one = [
        features(model, **tokenizer(f"a photo of a {n}.", return_tensors="pt")) for n in names
    ]
    encoder = HubTextEncoder(str(clip_folder))
    got = encoder(names)
    assert encoder.dim == 12
    assert got.dtype == torch.float32
    assert not got.requires_grad
    torch.testing.assert_close(got, torch.cat(one_by_one), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["siglip", "siglip2"])
def test_siglip_tower_pads_to_its_full_length(tmp_path: Path, family: str) -> None:
    folder = siglip_folder(tmp_path, family)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = (SiglipModel if family == "siglip" else Siglip2Model).from_pretrained(folder)
    prompts = ["a photo of a red circle.", "a photo of a sky."]
    padded = tokenizer(prompts, padding="max_length", max_length=40, return_tensors="pt").input_ids
    encoder = HubTextEncoder(str(folder))
    assert encoder.dim == 20
    torch.testing.assert_close(
        encoder(["red circle", "sky"]), features(model, input_ids=padded), atol=1e-5, rtol=0
    )
    unpadded = features(model, input_ids=tokenizer(prompts[:1], return_tensors="pt").input_ids)
    assert not torch.allclose(encoder(["red circle"]), unpadded, atol=1e-3)


def test_templates_are_averaged_as_unit_vectors(clip_folder: Path) -> None:
    first, second = (
        HubTextEncoder(str(clip_folder), [t])(["tree", "car"])
        for t in ("a {}.", "the {} in a scene.")
    )
    both = HubTextEncoder(str(clip_folder), ["a {}.", "the {} in a scene."])(["tree", "car"])
    torch.testing.assert_close(both, F.normalize(first + second, dim=-1), atol=1e-5, rtol=0)


def test_batches_do_not_change_the_embeddings(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["tree", "car", "sky", "wall", "person"]
    whole = HubTextEncoder(str(clip_folder), use_cache=False)(names)
    monkeypatch.setattr(HubTextEncoder, "BATCH_SIZE", 2)
    torch.testing.assert_close(
        HubTextEncoder(str(clip_folder), use_cache=False)(names), whole, atol=1e-6, rtol=0
    )


def test_a_tower_that_cannot_be_fetched_says_what_to_do(tmp_path: Path) -> None:
    # not an error before the first use
    encoder = HubTextEncoder(str(tmp_path / "nowhere"), revision="v1")
    with pytest.raises(
        OSError, match=r"nowhere' at revision 'v1' cannot be loaded .*text_embeddings="
    ) as error:
        encoder(["tree"])
    assert "\n" not in str(error.value)


def test_pickled_weights_are_not_loaded(clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((clip_folder / "config.json").read_text())
    clip_tokenizer().save_pretrained(tmp_path)
    torch.save(CLIPModel.from_pretrained(clip_folder).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        HubTextEncoder(str(tmp_path))(["tree"])


def test_a_tower_without_projection_is_refused_not_randomly_filled(tmp_path: Path) -> None:
    CLIPTextModel(
        CLIPTextConfig(**TEXT, bos_token_id=54, eos_token_id=55, pad_token_id=55)
    ).save_pretrained(tmp_path)
    clip_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="text_projection"):
        HubTextEncoder(str(tmp_path))(["tree"])


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(
        ValueError, match=r"'t5' model; a text tower must be one of: bert, camembert, clip, "
    ):
        HubTextEncoder(str(tmp_path))(["tree"])


def test_a_prompt_longer_than_the_tower_reads_is_refused_not_cut(clip_folder: Path) -> None:
    with pytest.raises(ValueError, match="reads at most 40"):
        HubTextEncoder(str(clip_folder))(["tree", "x" * 50])


@pytest.mark.parametrize("templates", ["a {}.", [], ["a photo"], ["{} on {}"]])
def test_templates_need_one_place_for_the_name(templates: list[str]) -> None:
    with pytest.raises(ValueError, match="templates must be a list"):
        HubTextEncoder("any", templates)


# Files

NAMES = ["road", "sidewalk", "sky"]
TABLE = torch.tensor([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]])


def save_table(folder: Path, suffix: str, table: Tensor = TABLE) -> Path:
    path = folder / f"table{suffix}"
    if suffix == ".npy":
        np.save(path, table.numpy())
    elif suffix == ".safetensors":
        save_file({"text": table}, path)
    else:
        torch.save(table, path)
    return path


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".pt", ".pth"])
def test_rows_are_found_by_name_in_any_order(
    tmp_path: Path, suffix: str, dtype: torch.dtype
) -> None:
    encoder = FileTextEncoder(
        save_table(tmp_path, suffix, TABLE.to(dtype)), NAMES, {"pavement": "sidewalk"}
    )
    assert encoder.dim == 2
    got = encoder(["sky", "pavement", "road", "sky"])
    assert got.dtype == torch.float32
    torch.testing.assert_close(
        got, torch.tensor([[-1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_key_chooses_among_several_tensors(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"several{suffix}"
    tensors = {"a": TABLE, "b": -TABLE}
    if suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    torch.testing.assert_close(
        FileTextEncoder(path, NAMES, key="b")(["road"]), torch.tensor([[-0.6, -0.8]])
    )
    for key in (None, "c"):
        with pytest.raises(ValueError, match=r"`key` must name one of its tensors \['a', 'b'\]"):
            FileTextEncoder(path, NAMES, key=key)


def test_an_unknown_name_is_answered_with_close_rows(tmp_path: Path) -> None:
    encoder = FileTextEncoder(save_table(tmp_path, ".npy"), NAMES)
    with pytest.raises(
        ValueError,
        match=r"'side walk', which is no row \(close: sidewalk\); 'zebra', which is no row;",
    ):
        encoder(["road", "side walk", "zebra"])


def test_rows_and_aliases_must_fit(tmp_path: Path) -> None:
    path = save_table(tmp_path, ".npy")
    with pytest.raises(ValueError, match="3 rows but 2 names"):
        FileTextEncoder(path, NAMES[:2])
    with pytest.raises(ValueError, match=r"duplicate row names \['sky'\]"):
        FileTextEncoder(path, ["sky", "road", "sky"])
    with pytest.raises(
        ValueError, match=r"alias 'street' points to 'raod', which is no row \(close: road\)"
    ):
        FileTextEncoder(path, NAMES, {"street": "raod"})
    with pytest.raises(ValueError, match="alias 'sky' is already the name of a row"):
        FileTextEncoder(path, NAMES, {"sky": "road"})
    with pytest.raises(ValueError, match="points to 'street', which is no row"):
        FileTextEncoder(path, NAMES, {"street": "road", "lane": "street"})  # no chains


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_zero_and_non_finite_rows_are_refused(tmp_path: Path, value: float) -> None:
    table = TABLE.clone()
    table[1] = value
    with pytest.raises(ValueError, match=r"zero or non-finite embeddings for \['sidewalk'\]"):
        FileTextEncoder(save_table(tmp_path, ".npy", table), NAMES)


def test_other_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be floats \[C, D\], got torch.float32 \[3\]"):
        FileTextEncoder(save_table(tmp_path, ".npy", torch.ones(3)), NAMES)
    with pytest.raises(ValueError, match=r"got torch.int64 \[3, 2\]"):
        FileTextEncoder(save_table(tmp_path, ".npy", torch.ones(3, 2, dtype=torch.int64)), NAMES)
    with pytest.raises(FileNotFoundError, match="no such file"):
        FileTextEncoder(tmp_path / "none.npy", NAMES)
    (tmp_path / "table.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"'\.csv' of embeddings; allowed: \.npy"):
        FileTextEncoder(tmp_path / "table.csv", NAMES)
    torch.save([1.0, 2.0], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="expected a tensor"):
        FileTextEncoder(tmp_path / "list.pth", NAMES)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "object.npy", np.array([Path("a")], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"object\.npy: not a plain array"):
        FileTextEncoder(tmp_path / "object.npy", NAMES)
    torch.save({"text": Path("a")}, tmp_path / "object.pth")
    with pytest.raises(ValueError, match=r"object\.pth: holds more than tensors"):
        FileTextEncoder(tmp_path / "object.pth", NAMES)


# Specs


def test_specs_build_each_kind(tmp_path: Path) -> None:
    hashed = build_text_encoder({"kind": "hashed_ngrams", "dim": 32})
    assert hashed.dim == 32
    assert torch.equal(hashed(["sky"]), HashedNgramEncoder(32)(["sky"]))
    hub = build_text_encoder(
        {"kind": "hub", "name_or_path": "org/model", "templates": ["a {}"], "revision": "v2"}
    )
    assert isinstance(hub, HubTextEncoder)
    assert (hub.name_or_path, hub.templates, hub.revision) == ("org/model", ("a {}",), "v2")


def test_file_specs_read_names_from_lists_and_files(tmp_path: Path) -> None:
    table = str(save_table(tmp_path, ".safetensors"))
    (tmp_path / "names.txt").write_text("road\nsidewalk\n\nsky\n")
    (tmp_path / "list.json").write_text(json.dumps(NAMES))
    (tmp_path / "object.json").write_text(json.dumps({"street": NAMES, "other": []}))
    for options in (
        {"names": NAMES},
        {"names": str(tmp_path / "names.txt")},
        {"names": str(tmp_path / "list.json")},
        {"names": str(tmp_path / "object.json"), "names_key": "street"},
    ):
        encoder = build_text_encoder(
            {"kind": "file", "path": table, "aliases": {"lane": "road"}, "key": "text", **options}
        )
        torch.testing.assert_close(encoder(["lane"]), torch.tensor([[0.6, 0.8]]))
    with pytest.raises(
        ValueError, match=r"`names_key` must be one of \['other', 'street'\], got None"
    ):
        build_text_encoder({"kind": "file", "path": table, "names": str(tmp_path / "object.json")})
    with pytest.raises(ValueError, match=r"allowed: a list, or a path to \.txt or \.json"):
        build_text_encoder({"kind": "file", "path": table, "names": "names.csv"})
    (tmp_path / "numbers.json").write_text("[1, 2, 3]")
    with pytest.raises(ValueError, match="must be a list of strings"):
        build_text_encoder({"kind": "file", "path": table, "names": str(tmp_path / "numbers.json")})


def test_a_precomputed_space_embeds_nothing_new() -> None:
    encoder = build_text_encoder(
        {"kind": "precomputed", "source": "OpenAI CLIP ViT-B/16, COCO names"}
    )
    with pytest.raises(
        ValueError, match=r"cannot embed new words.*text_embeddings=.*CLIP ViT-B/16"
    ):
        encoder(["sky"])
    with pytest.raises(ValueError, match="cannot embed new words"):
        _ = encoder.dim


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {},
            r"must be one of \['file', 'files', 'hashed_names', 'hashed_ngrams', 'hub', "
            r"'precomputed', 'sentence'\], got None",
        ),
        ({"kind": "word2vec"}, "got 'word2vec'"),
        ({"kind": "hashed_ngrams", "dims": 8}, r"unknown options \['dims'\].*optional: \['dim'\]"),
        ({"kind": "hub"}, r"missing options \['name_or_path'\]"),
        ({"kind": "precomputed", "source": "x", "dim": 3}, r"unknown options \['dim'\]"),
    ],
)
def test_impossible_specs_are_refused(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_text_encoder(spec)


# Real CLIP embeddings

VITB16 = {
    "ade150": "ade_ViT16_clip_text.pth",
    "cityscapes19": "city_ViT16_clip_text.pth",
    "voc20": "voc_ViT16_clip_text.pth",
    "context59": "context_ViT16_clip_text.pth",
    "coco133": "coco_panoptic_clip_hand_craft_ViTB16.npy",
}
CAMVID = {
    "Sky": "sky",
    "Building": "building",
    "Pole": "pole",
    "Road": "road",
    "Pavement": "sidewalk",
    "Tree": "vegetation",
    "SignSymbol": "traffic sign",
    "Fence": "fence",
    "Car": "car",
    "Pedestrian": "person",
    "Bicyclist": "rider",
}


@pytest.fixture(scope="module")
def clip_text() -> Path:
    if "DATASEG_DATA" not in os.environ:
        pytest.skip("DATASEG_DATA is not set")
    return Path(os.environ["DATASEG_DATA"]) / "clip_text"


def real_encoder(folder: Path, key: str, aliases: dict[str, str] | None = None) -> FileTextEncoder:
    spec = {
        "kind": "file",
        "names": str(folder / "row_names.json"),
        "names_key": key,
        "aliases": aliases or {},
    }
    path = (
        "openai_vitb32_detic/coco_clip_a+cname.npy"
        if key == "coco80"
        else f"openai_vitb16/{VITB16[key]}"
    )
    encoder = build_text_encoder({**spec, "path": str(folder / path)})
    assert isinstance(encoder, FileTextEncoder)
    return encoder


@pytest.mark.parametrize("key", [*VITB16, "coco80"])
def test_real_embeddings_are_unit_and_distinct(clip_text: Path, key: str) -> None:
    names = json.loads((clip_text / "row_names.json").read_text())[key]
    rows = real_encoder(clip_text, key)(names)
    assert rows.shape == (len(names), 512)
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(names)))
    assert int((rows @ rows.T).argmax(dim=-1).eq(torch.arange(len(names))).sum()) == len(names)


@pytest.mark.parametrize(
    ("key", "name", "other_key", "counterpart"),
    [
        ("cityscapes19", "sidewalk", "coco133", "pavement-merged"),
        ("cityscapes19", "motorcycle", "voc20", "motorbike"),
        ("cityscapes19", "sky", "coco133", "sky-other-merged"),
        ("voc20", "tvmonitor", "ade150", "monitor"),
        ("voc20", "aeroplane", "coco133", "airplane"),
        ("ade150", "sidewalk", "cityscapes19", "sidewalk"),
        ("coco133", "tree-merged", "ade150", "tree"),
        ("context59", "wall", "coco133", "wall-other-merged"),
    ],
)
def test_a_name_is_nearest_to_its_counterpart_in_another_file(
    clip_text: Path, key: str, name: str, other_key: str, counterpart: str
) -> None:
    names = json.loads((clip_text / "row_names.json").read_text())[other_key]
    cosines = real_encoder(clip_text, other_key)(names) @ real_encoder(clip_text, key)([name])[0]
    assert names[int(cosines.argmax())] == counterpart


def test_camvid_is_embedded_by_aliases(clip_text: Path) -> None:
    encoder = real_encoder(clip_text, "cityscapes19", CAMVID)
    assert torch.equal(encoder(list(CAMVID)), encoder(list(CAMVID.values())))
    with pytest.raises(
        ValueError, match=r"'Pavement', which is no row.*'Bicyclist', which is no row"
    ):
        real_encoder(clip_text, "cityscapes19")(list(CAMVID))


def test_clip_names_lie_close_and_hashed_names_do_not(clip_text: Path) -> None:
    names = json.loads((clip_text / "row_names.json").read_text())["coco133"]
    off_diagonal = ~torch.eye(len(names), dtype=torch.bool)
    clip = real_encoder(clip_text, "coco133")(names)
    hashed = HashedNgramEncoder()(names)
    assert float((clip @ clip.T)[off_diagonal].mean()) == pytest.approx(0.77, abs=0.01)
    assert float((hashed @ hashed.T)[off_diagonal].mean()) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("suffix", [".npy", ".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_cut_file_is_refused_by_name(tmp_path: Path, suffix: str, share: float) -> None:
    path, table = tmp_path / f"table{suffix}", torch.randn(3, 64)
    if suffix == ".npy":
        np.save(path, table.numpy())
    elif suffix == ".pt":
        torch.save(table, path)
    else:
        save_file({"table": table}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        FileTextEncoder(path, ["a", "b", "c"])
