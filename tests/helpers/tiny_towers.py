"""A tiny CLIP with a tokenizer of single letters, saved as the Hub has it."""

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

ALPHABET = "abcdefghijklmnopqrstuvwxyz."
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 40,
    "vocab_size": 64,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 4,
}


def clip_tokenizer() -> CLIPTokenizer:
    tokens = [*ALPHABET, *(f"{c}</w>" for c in ALPHABET), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[])


def save_clip(folder: Path, seed: int = 0) -> Path:
    """A whole CLIP of random weights, with 12-dimensional embeddings."""
    text = TEXT | {"bos_token_id": 54, "eos_token_id": 55, "pad_token_id": 55, "projection_dim": 12}
    vision = VISION | {"image_size": 8, "projection_dim": 12}
    torch.manual_seed(seed)
    CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    ).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    return folder
