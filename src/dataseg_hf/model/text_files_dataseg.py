"""Text embeddings computed elsewhere, looked up by name in one or several files."""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .text_encoder_dataseg import checked_names


class FileTextEncoder:
    """Embeddings computed elsewhere, looked up by name.

    Args:
        path: `.npy` [C, D], `.safetensors`, `.pt` or `.pth` (a tensor, or a dict of tensors); any
            float type, any norm.
        names: the C row names, in row order.
        aliases: other name -> row name, for datasets that call the same thing differently.
        key: which tensor of the file; may be left out when there is one only.

    Raises:
        ValueError: for another file type, unsafe or missing content, a shape other than [C, D], C
            other than the number of names, duplicate names, zero or non-finite rows, an alias that
            points to no row or hides one.
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
        names = checked_names(names)
        self._table = _unit_rows(_read_table(self.path, key), names, self.path)
        self._row = {name: index for index, name in enumerate(names)}
        duplicates = sorted({name for index, name in enumerate(names) if self._row[name] != index})
        if duplicates:
            raise ValueError(
                f"{self.path}: duplicate row names {duplicates}; every row needs a name of its own"
            )
        self._check_aliases(aliases or {})
        self._row |= {alias: self._row[target] for alias, target in (aliases or {}).items()}

    def _check_aliases(self, aliases: Mapping[str, str]) -> None:
        for alias, target in aliases.items():
            if alias in self._row:
                raise ValueError(
                    f"{self.path}: alias '{alias}' is already the name of a row; remove it or "
                    "rename it"
                )
            if target not in self._row:
                raise ValueError(
                    f"{self.path}: alias '{alias}' points to '{target}', {self._no_row(target)}"
                )

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return self._table.shape[1]

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Look up C names: float32 [C, D], unit norm; ValueError naming all that are neither a row
        nor an alias.
        """
        names = checked_names(names)
        missing = [f"'{name}', {self._no_row(name)}" for name in names if name not in self._row]
        if missing:
            raise ValueError(
                f"{self.path}: no embedding for {'; '.join(missing)}; add the names to `aliases`"
            )
        return self._table[[self._row[name] for name in names]]

    @property
    def table(self) -> Tensor:
        """All rows: float32 [C, D], unit norm."""
        return self._table

    def __contains__(self, name: str) -> bool:
        return name in self._row

    def _no_row(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._row, n=3)
        return "which is no row" + (f" (close: {', '.join(close)})" if close else "")


class JoinedTextEncoder:
    """Several files of embeddings in one text space: a name is looked up in the first file that has
    it.

    Raises:
        ValueError: for files of different dimension.
    """

    def __init__(self, files: Sequence[FileTextEncoder]) -> None:
        dims = {str(file.path): file.dim for file in files}
        if len(set(dims.values())) != 1:
            raise ValueError(
                f"files of text embeddings to join must have one dimension, got {dims}"
            )
        self.files = list(files)

    @property
    def dim(self) -> int:
        """D, the length of an embedding."""
        return self.files[0].dim

    @property
    def table(self) -> Tensor:
        """All rows of all files: float32 [C, D], unit norm."""
        return torch.cat([file.table for file in self.files])

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Look up C names: float32 [C, D], unit norm; ValueError naming all that no file has."""
        names = checked_names(names)
        found = [next((file for file in self.files if name in file), None) for name in names]
        missing = [name for name, file in zip(names, found, strict=True) if file is None]
        if missing:
            tables = ", ".join(str(file.path) for file in self.files)
            raise ValueError(
                f"no embedding for {missing} in any of {tables}; add the names to `aliases` of one"
            )
        return torch.cat(
            [file([name]) for name, file in zip(names, found, strict=True) if file is not None]
        )


def _read_table(path: Path, key: str | None) -> Tensor:
    """The tensor of a file of embeddings, as stored; nothing in it is unpickled but tensors."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of text embeddings")
    if path.suffix == ".npy":
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        except (ValueError, TypeError, EOFError) as error:  # TypeError: of text, or objects
            raise ValueError(f"{path}: not a plain array of numbers ({error})") from error
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return cast(Tensor, file.get_tensor(_chosen_key(list(file.keys()), key, path)))
        except SafetensorError as error:
            raise ValueError(f"{path}: is damaged ({error}); copy it again") from error
    if path.suffix in (".pt", ".pth"):
        return _read_pickled(path, key)
    raise ValueError(
        f"{path}: unknown type '{path.suffix}' of embeddings; allowed: .npy, .safetensors, .pt, "
        ".pth"
    )


def _read_pickled(path: Path, key: str | None) -> Tensor:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(
            f"{path}: holds more than tensors, which is not loaded; save the tensor alone"
        ) from error
    except (RuntimeError, EOFError, KeyError) as error:  # of a file that was cut
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: is damaged ({reason}); copy it again") from error
    if isinstance(content, dict):
        content = content[_chosen_key(list(content), key, path)]
    if not isinstance(content, Tensor):
        raise ValueError(f"{path}: expected a tensor [C, D], got {type(content).__name__}")
    return content


def _chosen_key(keys: list[str], key: str | None, path: Path) -> str:
    if key is None and len(keys) == 1:
        return keys[0]
    if key not in keys:
        raise ValueError(f"{path}: `key` must name one of its tensors {keys}, got {key!r}")
    return key


def _unit_rows(table: Tensor, names: Sequence[str], path: Path) -> Tensor:
    """The table as float32 [C, D] of unit rows, checked against its row names."""
    if table.ndim != 2 or not table.is_floating_point():
        raise ValueError(
            f"{path}: embeddings must be floats [C, D], got {table.dtype} {list(table.shape)}"
        )
    if len(table) != len(names):
        raise ValueError(
            f"{path}: {len(table)} rows but {len(names)} names; each row needs exactly one name"
        )
    table = table.float()
    norms = table.norm(dim=-1)
    bad = [
        name
        for name, norm in zip(names, norms.tolist(), strict=True)
        if not 0 < norm < float("inf")
    ]
    if bad:
        raise ValueError(
            f"{path}: zero or non-finite embeddings for {bad}; compute these rows again"
        )
    return table / norms[:, None]


def read_names(names: Sequence[str] | str, names_key: str | None) -> Sequence[str]:
    """Row names: as given, or from a `.txt` (one per line) or `.json` (a list, or the list under
    `names_key`).

    Raises:
        ValueError: for a file of another type, or that holds no list of names.
    """
    if not isinstance(names, str):
        return names
    path = Path(names)
    if path.suffix == ".txt":
        lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
        return [line for line in lines if line]
    if path.suffix != ".json":
        raise ValueError(
            f"{path}: unknown type '{path.suffix}' of names; allowed: a list, or a path to .txt or "
            ".json"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); correct it") from error
    if isinstance(content, dict):
        if names_key not in content:
            raise ValueError(
                f"{path}: `names_key` must be one of {sorted(content)}, got {names_key!r}"
            )
        content = content[names_key]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path}: the names must be a list of strings")
    return content


def file_encoder(
    path: str,
    names: Sequence[str] | str,
    names_key: str | None = None,
    aliases: Mapping[str, str] | None = None,
    key: str | None = None,
) -> FileTextEncoder:
    """A `FileTextEncoder` whose names may stand in a file too, see `read_names`."""
    return FileTextEncoder(path, read_names(names, names_key), aliases, key)


def joined_encoder(files: Sequence[Mapping[str, Any]]) -> JoinedTextEncoder:
    """A `JoinedTextEncoder` of files with the options of `file_encoder` each.

    Raises:
        ValueError: for no file at all.
    """
    if not files:
        raise ValueError("text encoder 'files': `files` is empty")
    return JoinedTextEncoder([file_encoder(**file) for file in files])
