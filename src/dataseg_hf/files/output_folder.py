"""The folder that a command writes into: what it holds, and what makes room for new output.

Only earlier output of the same kind is moved aside. A folder with anything else in it is refused
before a file in it changes. A marker, written first, tells the kind; folders of versions without it
are known by their content.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import yaml

from ..errors import ConfigError
from ..messages import first_few
from ..version import __version__
from .lock import LOCK_FILE, OWNER_FILE, FolderLock, lock_folder, refuse_in_use
from .writing import replace_file, set_aside

OutputKind: TypeAlias = Literal[
    "run", "evaluation", "predictions", "probe", "labels", "completion", "suggestions", "export"
]
Reads: TypeAlias = Mapping[str, str | Path]
"""Files and folders that a command reads, by the setting or option that names them."""

MARKER = "dataseg_output.json"
CONTACT_SHEETS = "contact_sheets"
"""What `dataseg inspect` adds to the folder of a run, before or after it: no other command writes
there.
"""

_NO_CONTENT = {
    CONTACT_SHEETS,
    LOCK_FILE,
    OWNER_FILE,
    f"{OWNER_FILE}.unfinished",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    ".gitkeep",
    "lost+found",
}
_NAMES: Mapping[OutputKind, str] = {
    "run": "a run",
    "evaluation": "an evaluation",
    "predictions": "predictions",
    "probe": "a probe",
    "labels": "labels of a teacher",
    "completion": "completed annotation",
    "suggestions": "suggestions for an annotation",
    "export": "an exported model",
}
_SHOWN_NAMES = 3


def check_output_folder(
    path: str | Path, kind: OutputKind, key: str, reads: Reads | None = None
) -> Path:
    """The folder, resolved, if a command may start its output there; nothing is changed.

    Args:
        kind: of the output. Earlier output of this kind will be moved aside.
        key: the setting or option that names the folder.
        reads: what the command reads; it must not be moved.

    Raises:
        ConfigError: for a folder with other content than output of that kind, one that must stay
            in its place, and one into which another command writes.
    """
    folder = resolved_folder(path, key)
    refuse_in_use(folder, key)
    content = _content(folder, key)
    if not content:
        return folder
    found = kind_of(folder)
    if found != kind:
        what = (
            "is not output of this package"
            if found is None
            else f"holds {_NAMES[found]}, not {_NAMES[kind]}"
        )
        raise ConfigError(
            f"{key}: '{folder}' {what} (in it: {_listed(content)}) and stays as it is; name a new "
            "or empty folder, "
            f"e.g. '{_free_folder(folder, kind)}'"
        )
    for name, kept in _kept_in_place(reads or {}).items():
        if kept.is_relative_to(folder):
            raise ConfigError(
                f"{key}: '{folder}' holds {_NAMES[kind]} (in it: {_listed(content)}) that would be "
                "moved aside, but "
                f"{name} is in it; name another "
                f"folder{', or go on with --resume latest' if kind == 'run' else ''}"
            )
    for inside in content:
        if inside.is_dir() and kind_of(inside) == "run":
            raise ConfigError(
                f"{key}: '{folder}' holds {_NAMES[kind]} that would be moved aside, and with it "
                "the run "
                f"'{inside.name}' in it; move that one, or name another folder"
            )
    return folder


@dataclass(frozen=True)
class ClaimedFolder:
    """An output folder that is this command's alone until the end of a `with` block.

    Args:
        earlier: where earlier output of the kind is now; None where there was none.
    """

    path: Path
    earlier: Path | None
    lock: FolderLock

    def __enter__(self) -> "ClaimedFolder":
        return self

    def __exit__(self, *ending: object) -> None:
        self.lock.release()


def claim_output_folder(
    path: str | Path, kind: OutputKind, key: str, reads: Reads | None = None
) -> ClaimedFolder:
    """Make the folder for new output, and mark it; earlier output of the kind is moved aside.

    Raises:
        ConfigError: as `check_output_folder`.
        OSError: where it cannot be moved or made.
    """
    folder = check_output_folder(path, kind, key, reads)
    earlier = None
    if _content(folder, key):
        lock_folder(folder, key).release()
        earlier = set_aside(folder)
    claimed = hold_output_folder(folder, key, earlier)
    try:
        replace_file(folder / MARKER, json.dumps({"kind": kind, "dataseg_hf": __version__}) + "\n")
    except BaseException:
        claimed.lock.release()
        raise
    return claimed


def hold_output_folder(folder: Path, key: str, earlier: Path | None = None) -> ClaimedFolder:
    """Go on in a folder, made if missing, of which this command is sure; nothing in it changes.

    Raises:
        ConfigError: while another command writes there.
        OSError: where it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return ClaimedFolder(folder, earlier, lock_folder(folder, key))


def check_addition(path: str | Path, key: str) -> Path:
    """The folder, resolved, if a command may add files of its own to it: empty, or output of this
    package.

    Raises:
        ConfigError: for a folder with other content.
    """
    folder = resolved_folder(path, key)
    content = _content(folder, key)
    if content and kind_of(folder) is None:
        raise ConfigError(
            f"{key}: '{folder}' is not output of this package (in it: {_listed(content)}); name a "
            "new or empty folder, "
            f"or that of a run, e.g. '{_free_folder(folder, 'run')}'"
        )
    return folder


def kind_of(folder: Path) -> OutputKind | None:
    """What kind of output a folder holds; None if it is empty or holds anything else."""
    kind = _json_object(folder / MARKER).get("kind")
    if kind in get_args(OutputKind):
        return kind
    if _is_unmarked_run(folder):
        return "run"
    if (folder / "results.json").is_file() and _begins_with(
        folder / "report.md", "# Evaluation of "
    ):
        return "evaluation"
    names = _names_in(folder)
    if (
        {"predictions.json", "overlays"}
        <= names
        <= {"predictions.json", "overlays", "ids", *_NO_CONTENT}
    ):
        return "predictions"
    return None


def _is_unmarked_run(folder: Path) -> bool:
    """Whether a run of a version without the marker wrote here: its settings beside its mix, or as
    yet alone.
    """
    try:
        settings = yaml.safe_load((folder / "run_config.yaml").read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return False
    if (
        not isinstance(settings, dict)
        or not {"output_dir", "datasets", "max_steps"} <= settings.keys()
    ):
        return False
    alone = _names_in(folder) <= {"run_config.yaml", *_NO_CONTENT}
    return alone or any((folder / name).is_file() for name in ("mix.json", "history.csv"))


def resolved_folder(path: str | Path, key: str) -> Path:
    """The folder without links and `..`.

    Raises:
        ConfigError: for a text that names none.
    """
    if not str(path).strip():
        raise ConfigError(f"{key}: is empty; name a folder")
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a null character
        raise ConfigError(f"{key}: '{path}' is no folder: {error}") from error


def _content(folder: Path, key: str) -> list[Path]:
    """What is in a folder, sorted; nothing where it does not exist."""
    try:
        return sorted(path for path in folder.iterdir() if path.name not in _NO_CONTENT)
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise ConfigError(f"{key}: '{folder}' is a file, or lies in one; name a folder") from error
    except OSError as error:
        raise ConfigError(
            f"{key}: '{folder}' cannot be read: {error.strerror}; name another folder"
        ) from error


def _names_in(folder: Path) -> set[str]:
    """Names in a folder; none where it cannot be read."""
    try:
        return {path.name for path in folder.iterdir()}
    except OSError:
        return set()


def _listed(content: list[Path]) -> str:
    names = [path.name + ("/" if path.is_dir() else "") for path in content]
    return first_few(names, _SHOWN_NAMES)


def _free_folder(folder: Path, kind: OutputKind) -> Path:
    """A name in the folder that is not taken."""
    free, number = folder / kind, 1
    while free.exists():
        number += 1
        free = folder / f"{kind}-{number}"
    return free


def _kept_in_place(reads: Reads) -> dict[str, Path]:
    """What no command moves, by what to call it: the current folder, the home, and what the command
    reads.
    """
    places = {"the current folder": Path.cwd(), "your home folder": Path(os.path.expanduser("~"))}
    named = {
        f"what {key} reads ('{path}')": Path(path)
        for key, path in reads.items()
        if Path(path).exists()
    }
    return {name: path.resolve() for name, path in {**named, **places}.items()}


def _json_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _begins_with(file: Path, text: str) -> bool:
    try:
        with file.open(errors="replace") as opened:
            return opened.read(len(text)) == text
    except OSError:
        return False
