"""BERT-type towers against transformers and a pooling written out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from dataseg_hf.model.text_embeddings_dataseg import HubTextEncoder

NAMES = ["Red circle", "sky", "brick wall"]
WORDS = ["red", "circle", "sky", "brick", "wall", "a", "of"]
VOCABULARY = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
SMALL: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
    "pad_token_id": 1,
}
FAMILIES = {
    "bert": (BertModel, BertConfig),
    "mpnet": (MPNetModel, MPNetConfig),
    "roberta": (RobertaModel, RobertaConfig),
}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {
        "idx": 2,
        "name": "2",
        "path": "2_Normalize",
        "type": "sentence_transformers.models.Normalize",
    },
]


def saved(folder: Path, family: str) -> Path:
    model, config = FAMILIES[family]
    torch.manual_seed(0)
    model(config(**SMALL)).save_pretrained(folder)
    words = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", cls_token="<s>"
    ).save_pretrained(folder)
    return folder


def says(folder: Path, pooling: dict[str, Any], modules: list[dict[str, Any]] = MODULES) -> None:
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def one_by_one(folder: Path, family: str, pooling: str) -> Tensor:
    """Each name alone, without padding, its tokens looked up by hand."""
    model = FAMILIES[family][0].from_pretrained(folder).eval()
    rows = []
    for name in NAMES:
        ids = [0, *(VOCABULARY[word] for word in name.lower().split()), 2]
        with torch.no_grad():
            tokens = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        rows.append(tokens[0] if pooling == "cls" else tokens.mean(dim=0))
    return F.normalize(torch.stack(rows), dim=-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bert_type_tower_gives_the_mean_of_its_tokens(tmp_path: Path, family: str) -> None:
    encoder = HubTextEncoder(str(saved(tmp_path, family)))
    assert encoder.dim == 12
    torch.testing.assert_close(
        encoder(NAMES), one_by_one(tmp_path, family, "mean"), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        {"pooling_mode": "cls"},
    ],
)
def test_the_pooling_is_read(tmp_path: Path, pooling: dict[str, Any]) -> None:
    folder = saved(tmp_path, "bert")
    before = HubTextEncoder(str(folder))(NAMES)
    says(folder, {"word_embedding_dimension": 12, "include_prompt": True, **pooling})
    got = HubTextEncoder(str(folder))(NAMES)  # not from the cache of the other pooling
    torch.testing.assert_close(got, one_by_one(folder, "bert", "cls"), atol=1e-5, rtol=0)
    assert not torch.allclose(got, before, atol=1e-2)


def test_another_pooling_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, "bert")
    says(folder, {"pooling_mode_max_tokens": True})
    with pytest.raises(ValueError, match=r"1_Pooling/config.json: pooling \['max'\] is not supp"):
        HubTextEncoder(str(folder))(NAMES)


def test_another_module_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, "bert")
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    says(folder, {"pooling_mode_mean_tokens": True}, [*MODULES, dense])
    with pytest.raises(ValueError, match=r"modules.json has \['Dense'\], which is not supported"):
        HubTextEncoder(str(folder))(NAMES)


def test_positions_of_roberta_begin_after_the_padding(tmp_path: Path) -> None:
    encoder = HubTextEncoder(str(saved(tmp_path, "roberta")))
    assert encoder(["a of a of a of a of"]).shape == (1, 12)  # 10 tokens at 12 positions
    with pytest.raises(ValueError, match=r"has 11 tokens, .* reads at most 10"):
        encoder(["a of a of a of a of a"])
