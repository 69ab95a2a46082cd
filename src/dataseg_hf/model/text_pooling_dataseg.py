"""One embedding of the tokens of a BERT-type text encoder, as sentence-transformers say it."""

import json
from typing import Any

import torch
from torch import Tensor
from transformers.utils import cached_file

POOLINGS = ("cls", "mean")
SAME_DIRECTION = ("Transformer", "Pooling", "Normalize")  # modules that change no more than length


def read_pooling(name_or_path: str, revision: str | None) -> str:
    """`"cls"` or `"mean"`: what `modules.json` and its pooling module say; mean without them.

    Raises:
        ValueError: for another pooling, or a module that changes the embedding after it.
    """
    modules = _read(name_or_path, "modules.json", revision)
    if modules is None:
        return "mean"
    kinds = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
    others = sorted(set(kinds) - set(SAME_DIRECTION))
    if others:
        raise ValueError(
            f"'{name_or_path}': modules.json has {others}, which is not supported; allowed: "
            f"{list(SAME_DIRECTION)}"
        )
    path = f"{kinds['Pooling']}/config.json" if "Pooling" in kinds else None
    config = _read(name_or_path, path, revision) if path else None
    return "mean" if config is None else _mode(config, f"'{name_or_path}': {path}")


def _mode(config: dict[str, Any], where: str) -> str:
    """The one pooling that a config asks for, in the older words (flags) or the newer (a name)."""
    flags = {key.removeprefix("pooling_mode_"): on for key, on in config.items() if on is True}
    named = config.get("pooling_mode")
    modes = [named] if named else [flag for flag in flags if config.get(f"pooling_mode_{flag}")]
    plain = [str(mode).removesuffix("_tokens").removesuffix("_token") for mode in modes]
    if len(plain) != 1 or plain[0] not in POOLINGS:
        raise ValueError(f"{where}: pooling {plain} is not supported; allowed: one of {POOLINGS}")
    return plain[0]


def _read(name_or_path: str, file: str, revision: str | None) -> Any:
    """A JSON file of the model; None where it has none."""
    path = cached_file(
        name_or_path,
        file,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return None
    with open(path, encoding="utf-8") as opened:
        return json.load(opened)


def pooled(tokens: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One embedding [P, D] of each text.

    Args:
        tokens: float [P, T, D], last hidden states.
        mask: int [P, T], 1 where a token is, 0 for padding.
        pooling: `"cls"` takes the first token, `"mean"` the mean over tokens.
    """
    if pooling == "cls":
        return tokens[:, 0]
    weights = mask[:, :, None].to(tokens.dtype)
    return (tokens * weights).sum(dim=1) / torch.clamp(weights.sum(dim=1), min=1)
