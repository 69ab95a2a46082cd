"""The folder of a labeling: made, or gone on with where it belongs to the same teacher and
settings.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...files.lock import FolderLock, refuse_in_use
from ...files.output_folder import (
    Reads,
    check_output_folder,
    claim_output_folder,
    hold_output_folder,
    kind_of,
    resolved_folder,
)
from ...files.writing import replace_file
from .journal import Journal

KEY = "--output"
SETTINGS_FILE, JOURNAL_FILE = "labeling.json", "labeled_images.jsonl"


@dataclass(frozen=True)
class LabelingSettings:
    """What decides the labels.

    Args:
        teacher: as it was named.
        teacher_digest: of its weights, config and image processor.
        license: of the teacher, as its card states it.
        images: folder of the photographs.
        task: kind of the labels.
        names: [C], of the classes.
        is_thing: [C].
        threshold: 0..1, least confidence.
        background: whether a class of that name is a class or void.
    """

    teacher: str
    teacher_digest: str
    license: str | None
    images: str
    task: str
    names: list[str]
    is_thing: list[bool]
    threshold: float
    background: str


_MUST_AGREE = ("images", "task", "threshold", "background", "teacher_digest", "names", "is_thing")


@dataclass(frozen=True)
class LabelingFolder:
    """A folder that is ready for the labels of these settings.

    Args:
        path: resolved.
        lock: keeps other commands out, to be released.
        settings: of the labeling.
        journal: of the images that are done.
    """

    path: Path
    lock: FolderLock
    settings: LabelingSettings
    journal: Journal

    @classmethod
    def check(cls, output: str, reads: Reads) -> None:
        """Refuse a folder that cannot hold labels, before a model is loaded.

        Raises:
            ConfigError: for a folder with other content, or within the images.
        """
        folder = resolved_folder(output, KEY)
        if folder.is_relative_to(Path(reads["--images"]).resolve()):
            raise ConfigError(
                f"{KEY}: '{folder}' lies in the folder of images, which would then have the labels "
                "as images; name a folder outside"
            )
        if kind_of(folder) == "labels":
            refuse_in_use(folder, KEY)
        else:
            check_output_folder(folder, "labels", KEY, reads)

    @classmethod
    def open(cls, output: str, settings: LabelingSettings, reads: Reads) -> "LabelingFolder":
        """Make the folder, or go on with it.

        Raises:
            ConfigError: for a folder with other content, or with the labels of another teacher or
                of other settings; the message names them.
        """
        folder = resolved_folder(output, KEY)
        cls.check(output, reads)
        if kind_of(folder) == "labels":
            held = hold_output_folder(folder, KEY)
        else:
            held = claim_output_folder(folder, "labels", KEY, reads)
        try:
            return cls(folder, held.lock, *_begun(folder, settings))
        except BaseException:
            held.lock.release()
            raise


def _begun(folder: Path, settings: LabelingSettings) -> tuple[LabelingSettings, Journal]:
    """The settings with which the labeling of a folder began, and what is done of it.

    Raises:
        ConfigError: if it began with others.
    """
    settings_file = folder / SETTINGS_FILE
    if settings_file.exists():
        earlier = json.loads(settings_file.read_text())
        _require_same(earlier, settings, folder)
        # the teacher may lie elsewhere by now; the files stay the same
        settings = LabelingSettings(**earlier)
    else:
        replace_file(settings_file, json.dumps(asdict(settings), indent=2) + "\n")
    return settings, Journal(folder / JOURNAL_FILE)


def _require_same(earlier: dict[str, Any], settings: LabelingSettings, folder: Path) -> None:
    """ConfigError that names the first setting in which a labeling differs from an earlier one."""
    now = asdict(settings)
    for key in _MUST_AGREE:
        if earlier.get(key) == now[key]:
            continue
        if key == "teacher_digest":
            what = f"another teacher ('{earlier.get('teacher')}', with other weights or settings)"
        elif key in ("names", "is_thing"):
            what = f"other classes ({key}; see {SETTINGS_FILE} there)"
        else:
            what = f"--{key} {earlier.get(key)}, now {now[key]}"
        raise ConfigError(f"{KEY}: '{folder}' holds labels with {what}; name another folder")
