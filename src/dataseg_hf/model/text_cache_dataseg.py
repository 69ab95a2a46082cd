"""Text embeddings on disk, found again by the content they were computed from.

They lie in the folder that the variable `DATASEG_CACHE` names, by default `dataseg` in the Hugging
Face home. Files may be deleted at any time.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

logger = logging.getLogger(__name__)

TENSOR = "embeddings"


def cache_folder() -> Path:
    """Where embeddings are kept; the folder need not exist."""
    return Path(os.environ.get("DATASEG_CACHE") or Path(constants.HF_HOME) / "dataseg")


def folder_digest(folder: Path) -> str:
    """Digest of the files of a model folder, names and content, sub-folders left out."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(json.dumps([path.name, path.stat().st_size]).encode())
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()


def cache_key(tower: str, prompts: Sequence[str], templates: int) -> str:
    """Digest of what decides the embeddings: the tower's content, all prompts in order, how many
    make one row.
    """
    return hashlib.sha256(json.dumps([tower, templates, list(prompts)]).encode()).hexdigest()


def read_cached(key: str) -> Tensor | None:
    """The embeddings [C, D] under a key, or None; a file that cannot be read counts as missing."""
    path = cache_folder() / f"{key}.safetensors"
    try:
        return load_file(path)[TENSOR] if path.is_file() else None
    except (OSError, SafetensorError, KeyError) as error:
        logger.warning("%s: not readable, its embeddings are computed again (%s)", path, error)
        return None


def write_cached(key: str, embeddings: Tensor) -> None:
    """Keep embeddings [C, D] under a key, at once or not at all; where the folder is not writable,
    nothing is kept.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            path = Path(unfinished) / key
            save_file({TENSOR: embeddings.contiguous()}, path)
            path.replace(folder / f"{key}.safetensors")
    except OSError as error:
        logger.warning("%s: text embeddings are not cached (%s)", folder, error)
