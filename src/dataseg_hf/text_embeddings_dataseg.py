"""Category names -> frozen text embeddings: float32 [C, D], unit norm, one row per name.

The classifier of DaTaSeg is a frozen text encoder's view of a dataset's category names (Gu et al., NeurIPS 2023,
arXiv 2306.01736). Three sources of it stand here: hashed n-grams (nothing to download), a CLIP or SigLIP text tower,
and a file of embeddings computed elsewhere. Different sources, or different towers, are different spaces.
"""

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, CLIPTextModelWithProjection, Siglip2TextModel, SiglipTextModel

from .text_cache_dataseg import cache_key, folder_digest, read_cached, write_cached

DEFAULT_TEMPLATES = ("a photo of a {}.",)


class TextEncoder(Protocol):
    """Anything that turns names into embeddings of one space."""

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Embed C names: float32 [C, D] on the CPU, unit norm, in the order given."""


def _checked_names(names: Sequence[str]) -> list[str]:
    """The names as a list; raises ValueError for none at all, a blank one, or one string in place of a list."""
    if isinstance(names, str):
        raise ValueError(f"names must be a list of strings, got the single string {names!r}")
    if len(names) == 0:
        raise ValueError("names is empty: give at least one category name")
    for index, name in enumerate(names):
        if not name.strip():
            raise ValueError(f"category name {index} is empty: every category needs a name to embed")
    return list(names)


class HashedNgramEncoder:
    """Text embeddings without a model: names that share words are neighbours, others are nearly orthogonal.

    Lower-cased, punctuation read as spaces; a word contributes itself and its character 3-grams and 4-grams (with
    word boundaries, as in fastText, arXiv 1607.04606), which draw "circle" and "circles" together. Each feature is a
    vector of random signs (Achlioptas 2003) taken from its hash, so equal on every platform and version. Words add up:
    their order does not count ("house cat" and "cat house" are one embedding), nor does meaning ("sofa" and "couch" are
    strangers). Weights and features are our setting.
    """

    WORD_WEIGHT = 1.0
    NGRAM_WEIGHT = 0.7  # of all n-grams of a word together
    NGRAM_SIZES = (3, 4)

    def __init__(self, dim: int = 256) -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        self._dim = dim

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return self._dim

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Embed C names: float32 [C, D], unit norm; ValueError for a name without a letter or digit."""
        rows = np.stack([self._name_vector(name) for name in _checked_names(names)])
        return F.normalize(torch.from_numpy(rows), dim=-1).float()

    def _name_vector(self, name: str) -> NDArray[np.floating[Any]]:
        words = re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", name).lower()).split()
        if not words:
            raise ValueError(f"category name {name!r} has no letter or digit: nothing to embed")
        return np.sum([self._word_vector(word) for word in words], axis=0)

    def _word_vector(self, word: str) -> NDArray[np.floating[Any]]:
        marked = f"<{word}>"
        ngrams = [marked[i : i + n] for n in self.NGRAM_SIZES for i in range(len(marked) - n + 1)]
        spelling = np.sum([self._signs("ngram", ngram) for ngram in ngrams], axis=0) / len(ngrams) ** 0.5
        return self.WORD_WEIGHT * self._signs("word", word) + self.NGRAM_WEIGHT * spelling

    def _signs(self, kind: str, text: str) -> NDArray[np.floating[Any]]:
        digest = hashlib.shake_256(f"{kind}:{text}".encode()).digest(-(-self._dim // 8))
        return np.unpackbits(np.frombuffer(digest, dtype=np.uint8))[: self._dim] * 2.0 - 1.0


# A checkpoint holds the image tower too; naming its keys here keeps the loading report silent about them.
_IMAGE_TOWER = [r"^vision_model\.", r"^visual_projection\.", r"^logit_(scale|bias)$"]


class _ClipText(CLIPTextModelWithProjection):
    _keys_to_ignore_on_load_unexpected = _IMAGE_TOWER


class _SiglipText(SiglipTextModel):
    _keys_to_ignore_on_load_unexpected = _IMAGE_TOWER


class _Siglip2Text(Siglip2TextModel):
    _keys_to_ignore_on_load_unexpected = _IMAGE_TOWER


class _Tower(NamedTuple):
    """How a family's text tower is run: its class, which output is the embedding, the config field of its length."""

    model_class: Any
    output: str
    dim_field: str
    padding: str


_CLIP = _Tower(_ClipText, "text_embeds", "projection_dim", "longest")
_SIGLIP = _Tower(_SiglipText, "pooler_output", "projection_size", "max_length")
_SIGLIP2 = _Tower(_Siglip2Text, "pooler_output", "projection_size", "max_length")
_TOWERS = {
    "clip": _CLIP,
    "clip_text_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_text_model": _SIGLIP,
    "siglip2": _SIGLIP2,
    "siglip2_text_model": _SIGLIP2,
}


class HubTextEncoder:
    """Text embeddings of a CLIP, SigLIP or SigLIP 2 text tower, from the Hub or a local folder.

    Every template is filled with the name and embedded; the unit embeddings are averaged and made unit norm again
    (prompt ensembling, CLIP, arXiv 2103.00020). Prompts are lower-cased, as all three families were trained, and those
    of SigLIP padded to the full length. The tower is fetched at the first use and kept in evaluation mode on `device`;
    it belongs to no module, so it never enters a checkpoint. Embeddings are kept on disk by the content of tower and
    prompts (`text_cache_dataseg.py`): for names embedded before, the tower is not even loaded.

    Args:
        name_or_path: Hub id or local folder with a config, safetensors weights and a tokenizer.
        templates: prompts, each with one `{}` for the name.
        revision: branch, tag or commit on the Hub.
        device: where the tower runs.
        use_cache: look embeddings up on disk, and keep new ones there.

    Raises:
        OSError: at first use, when the tower cannot be fetched.
        ValueError: for a template without `{}`, an unsupported or incomplete model, or a prompt longer than it reads.
    """

    BATCH_SIZE = 64  # prompts

    def __init__(
        self,
        name_or_path: str,
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        use_cache: bool = True,
    ) -> None:
        if isinstance(templates, str) or not templates or any(t.count("{}") != 1 for t in templates):
            raise ValueError(f"templates must be a list of strings with one {{}} each for the name, got {templates!r}")
        self.name_or_path = name_or_path
        self.templates = tuple(templates)
        self.revision = revision
        self.device = torch.device(device)
        self.use_cache = use_cache
        self._config: Any = None
        self._tokenizer: Any = None
        self._model: Any = None

    @property
    def dim(self) -> int:
        """D, the length of an embedding; reads the tower's config, not its weights."""
        return int(getattr(self._text_config(), self._tower().dim_field))

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Embed C names: float32 [C, D] on the CPU, unit norm."""
        names = _checked_names(names)
        prompts = [template.replace("{}", name).lower() for name in names for template in self.templates]
        content = self._content() if self.use_cache else None
        if content is None:
            return self._ensemble(prompts)
        key = cache_key(content, prompts, len(self.templates))
        cached = read_cached(key)
        if cached is None:
            cached = self._ensemble(prompts)
            write_cached(key, cached)
        return cached

    def _content(self) -> str | None:
        """What the tower is, whatever it is called: the digest of a folder, or the commit on the Hub, where known."""
        folder = Path(self.name_or_path)
        if folder.is_dir():
            return folder_digest(folder)
        commit = self._top_config()._commit_hash
        return None if commit is None else f"{self.name_or_path}@{commit}"

    @torch.no_grad()
    def _ensemble(self, prompts: list[str]) -> Tensor:
        """Unit means [C, D] of the unit embeddings of C groups of prompts, one per template."""
        batches = [prompts[i : i + self.BATCH_SIZE] for i in range(0, len(prompts), self.BATCH_SIZE)]
        features = torch.cat([self._embed(batch) for batch in batches])
        means = F.normalize(features, dim=-1).unflatten(0, (-1, len(self.templates))).mean(dim=1)
        return F.normalize(means, dim=-1)

    def _embed(self, prompts: list[str]) -> Tensor:
        """Raw features float32 [P, D] of P prompts."""
        if self._model is None:
            self._tokenizer = self._fetch(AutoTokenizer)
            self._model = self._load_model()
        limit = self._text_config().max_position_embeddings
        input_ids = self._tokenizer(prompts)["input_ids"]
        for prompt, ids in zip(prompts, input_ids, strict=True):
            if len(ids) > limit:
                raise ValueError(
                    f"prompt {prompt!r} has {len(ids)} tokens, '{self.name_or_path}' reads at most {limit}"
                )
        padded = self._tokenizer.pad(
            {"input_ids": input_ids}, padding=self._tower().padding, max_length=limit, return_tensors="pt"
        )
        # No padding mask: SigLIP was trained without one, and CLIP is causal: its end token sees no padding.
        output = self._model(input_ids=padded["input_ids"].to(self.device))
        return cast(Tensor, output[self._tower().output]).cpu()

    def _load_model(self) -> Any:
        model, info = self._fetch(
            self._tower().model_class,
            config=self._text_config(),
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
        if info["missing_keys"]:
            raise ValueError(
                f"'{self.name_or_path}' has no weights for {sorted(info['missing_keys'])}, which would be random; "
                "give a checkpoint of the whole CLIP or SigLIP model, or of its text model with projection"
            )
        return model.eval().to(self.device)

    def _tower(self) -> _Tower:
        model_type = self._top_config().model_type
        if model_type not in _TOWERS:
            allowed = ", ".join(sorted(_TOWERS))
            raise ValueError(f"'{self.name_or_path}' is a '{model_type}' model; a text tower must be one of: {allowed}")
        return _TOWERS[model_type]

    def _text_config(self) -> Any:
        return self._top_config().get_text_config()

    def _top_config(self) -> Any:
        if self._config is None:
            self._config = self._fetch(AutoConfig)
        return self._config

    def _fetch(self, cls: Any, **kwargs: Any) -> Any:
        try:
            return cls.from_pretrained(self.name_or_path, revision=self.revision, **kwargs)
        except OSError as error:
            revision = f" at revision '{self.revision}'" if self.revision else ""
            raise OSError(
                f"text tower '{self.name_or_path}'{revision} cannot be loaded ({str(error).strip().splitlines()[0]}); "
                "choose a stored vocabulary, give `text_embeddings=` yourself, or the path of a local folder with "
                "config, safetensors and tokenizer"
            ) from error


class FileTextEncoder:
    """Embeddings computed elsewhere, looked up by name.

    Args:
        path: `.npy` [C, D], `.safetensors`, `.pt` or `.pth` (a tensor, or a dict of tensors); any float type, any norm.
        names: the C row names, in row order.
        aliases: other name -> row name, for datasets that call the same thing differently.
        key: which tensor of the file; may be left out when there is one only.

    Raises:
        ValueError: for another file type, unsafe or missing content, a shape other than [C, D], C other than the number
            of names, duplicate names, zero or non-finite rows, an alias that points to no row or hides one.
        FileNotFoundError: for a missing file.
    """

    def __init__(
        self,
        path: str | Path,
        names: Sequence[str],
        aliases: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> None:
        self.path = Path(path)
        names = _checked_names(names)
        self._table = _unit_rows(_read_table(self.path, key), names, self.path)
        self._row = {name: index for index, name in enumerate(names)}
        duplicates = sorted({name for index, name in enumerate(names) if self._row[name] != index})
        if duplicates:
            raise ValueError(f"{self.path}: duplicate row names {duplicates}; every row needs a name of its own")
        for alias, target in (aliases or {}).items():
            if alias in self._row:
                raise ValueError(f"{self.path}: alias '{alias}' is already the name of a row; remove it or rename it")
            if target not in names:
                raise ValueError(f"{self.path}: alias '{alias}' points to '{target}', {self._no_row(target)}")
        self._row |= {alias: self._row[target] for alias, target in (aliases or {}).items()}

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return self._table.shape[1]

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Look up C names: float32 [C, D], unit norm; ValueError naming all that are neither a row nor an alias."""
        names = _checked_names(names)
        missing = [f"'{name}', {self._no_row(name)}" for name in names if name not in self._row]
        if missing:
            raise ValueError(f"{self.path}: no embedding for {'; '.join(missing)}; add the names to `aliases`")
        return self._table[[self._row[name] for name in names]]

    def __contains__(self, name: str) -> bool:
        return name in self._row

    def _no_row(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._row, n=3)
        return "which is no row" + (f" (close: {', '.join(close)})" if close else "")


class JoinedTextEncoder:
    """Several files of embeddings in one text space: a name is looked up in the first file that has it.

    Raises:
        ValueError: for files of different dimension.
    """

    def __init__(self, files: Sequence[FileTextEncoder]) -> None:
        dims = {str(file.path): file.dim for file in files}
        if len(set(dims.values())) != 1:
            raise ValueError(f"files of text embeddings to join must have one dimension, got {dims}")
        self.files = list(files)

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return self.files[0].dim

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Look up C names: float32 [C, D], unit norm; ValueError naming all that no file has."""
        names = _checked_names(names)
        found = [next((file for file in self.files if name in file), None) for name in names]
        missing = [name for name, file in zip(names, found, strict=True) if file is None]
        if missing:
            tables = ", ".join(str(file.path) for file in self.files)
            raise ValueError(f"no embedding for {missing} in any of {tables}; add the names to `aliases` of one")
        return torch.cat([file([name]) for name, file in zip(names, found, strict=True) if file is not None])


def _read_table(path: Path, key: str | None) -> Tensor:
    """The tensor of a file of embeddings, as stored; nothing in it is unpickled but tensors."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of text embeddings")
    if path.suffix == ".npy":
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        except ValueError as error:
            raise ValueError(f"{path}: not a plain array of numbers ({error})") from error
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return cast(Tensor, file.get_tensor(_chosen_key(list(file.keys()), key, path)))
    if path.suffix in (".pt", ".pth"):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise ValueError(f"{path}: holds more than tensors, which is not loaded; save the tensor alone") from error
        if isinstance(content, dict):
            content = content[_chosen_key(list(content), key, path)]
        if not isinstance(content, Tensor):
            raise ValueError(f"{path}: expected a tensor [C, D], got {type(content).__name__}")
        return content
    raise ValueError(f"{path}: unknown type '{path.suffix}' of embeddings; allowed: .npy, .safetensors, .pt, .pth")


def _chosen_key(keys: list[str], key: str | None, path: Path) -> str:
    if key is None and len(keys) == 1:
        return keys[0]
    if key not in keys:
        raise ValueError(f"{path}: `key` must name one of its tensors {keys}, got {key!r}")
    return key


def _unit_rows(table: Tensor, names: Sequence[str], path: Path) -> Tensor:
    """The table as float32 [C, D] of unit rows, checked against its row names."""
    if table.ndim != 2 or not table.is_floating_point():
        raise ValueError(f"{path}: embeddings must be floats [C, D], got {table.dtype} {list(table.shape)}")
    if len(table) != len(names):
        raise ValueError(f"{path}: {len(table)} rows but {len(names)} names; each row needs exactly one name")
    table = table.float()
    norms = table.norm(dim=-1)
    bad = [name for name, norm in zip(names, norms.tolist(), strict=True) if not 0 < norm < float("inf")]
    if bad:
        raise ValueError(f"{path}: zero or non-finite embeddings for {bad}; compute these rows again")
    return table / norms[:, None]


class PrecomputedTextEncoder:
    """What a checkpoint remembers of embeddings that came from a file: where from, not how to make more."""

    def __init__(self, source: str) -> None:
        self.source = source

    @property
    def dim(self) -> int:
        """Raises ValueError, as embedding does: the length stands in the checkpoint's own embeddings."""
        raise self._refusal()

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Raises ValueError, which says in which space embeddings for new names must be given."""
        raise self._refusal()

    def _refusal(self) -> ValueError:
        return ValueError(
            "this checkpoint cannot embed new words: its embeddings were precomputed; choose a stored vocabulary, or "
            f"give `text_embeddings=` of the same space ({self.source})"
        )


def _read_names(names: Sequence[str] | str, names_key: str | None) -> Sequence[str]:
    """Row names: as given, or from a `.txt` (one per line) or `.json` (a list, or the list under `names_key`)."""
    if not isinstance(names, str):
        return names
    path = Path(names)
    if path.suffix == ".txt":
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if path.suffix != ".json":
        raise ValueError(f"{path}: unknown type '{path.suffix}' of names; allowed: a list, or a path to .txt or .json")
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        if names_key not in content:
            raise ValueError(f"{path}: `names_key` must be one of {sorted(content)}, got {names_key!r}")
        content = content[names_key]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path}: the names must be a list of strings")
    return content


def _file_encoder(
    path: str,
    names: Sequence[str] | str,
    names_key: str | None = None,
    aliases: Mapping[str, str] | None = None,
    key: str | None = None,
) -> FileTextEncoder:
    return FileTextEncoder(path, _read_names(names, names_key), aliases, key)


def _joined_encoder(files: Sequence[Mapping[str, Any]]) -> JoinedTextEncoder:
    if not files:
        raise ValueError("text encoder 'files': `files` is empty")
    return JoinedTextEncoder([_file_encoder(**file) for file in files])


class _Kind(NamedTuple):
    build: Callable[..., TextEncoder]
    required: tuple[str, ...]
    optional: tuple[str, ...]


_KINDS = {
    "hashed_ngrams": _Kind(HashedNgramEncoder, (), ("dim",)),
    "hub": _Kind(HubTextEncoder, ("name_or_path",), ("templates", "revision")),
    "file": _Kind(_file_encoder, ("path", "names"), ("names_key", "aliases", "key")),
    "files": _Kind(_joined_encoder, ("files",), ()),
    "precomputed": _Kind(PrecomputedTextEncoder, ("source",), ()),
}


def build_text_encoder(spec: Mapping[str, Any]) -> TextEncoder:
    """The encoder that a spec describes; a spec is plain JSON, so that a config can keep it.

    - `{"kind": "hashed_ngrams", "dim": 256}`: `HashedNgramEncoder`.
    - `{"kind": "hub", "name_or_path": ..., "templates": [...], "revision": ...}`: `HubTextEncoder`.
    - `{"kind": "file", "path": ..., "names": ..., "names_key": ..., "aliases": {...}, "key": ...}`: `FileTextEncoder`;
      names are a list, or the path of a `.txt` (a name per line) or `.json` (a list, or an object with `names_key`).
    - `{"kind": "files", "files": [{"path": ..., "names": ..., ...}, ...]}`: `JoinedTextEncoder` of such files.
    - `{"kind": "precomputed", "source": ...}`: `PrecomputedTextEncoder`, which refuses to embed.

    Raises:
        ValueError: for an unknown kind, an unknown option, or a missing one; the message lists what is allowed.
    """
    options = dict(spec)
    name = options.pop("kind", None)
    if name not in _KINDS:
        raise ValueError(f"text encoder: `kind` must be one of {sorted(_KINDS)}, got {name!r}")
    kind = _KINDS[name]
    unknown = sorted(set(options) - {*kind.required, *kind.optional})
    missing = sorted(set(kind.required) - set(options))
    if unknown or missing:
        raise ValueError(
            f"text encoder '{name}': unknown options {unknown}, missing options {missing}; "
            f"required: {list(kind.required)}, optional: {list(kind.optional)}"
        )
    return kind.build(**options)
