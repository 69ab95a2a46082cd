"""Parts of a run's settings, for commands that need no more of its file; the file may also hold
nothing else.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from pydantic import Field

from ..errors import ConfigError
from .base import EntryName, Settings
from .entries import Source, TrainEntry
from .errors import unknown_key
from .parsing import parse_settings, read_file
from .run import RunConfig

Part = TypeVar("Part", bound=Settings)
Entry = TypeVar("Entry", bound=Source)


class MixSettings(Settings):
    """The datasets of a run."""

    datasets: dict[EntryName, TrainEntry] = Field(default_factory=dict)
    """Datasets of the mix, by name."""
    on_bad_sample: Literal["raise", "skip"] = "raise"
    """Whether an image that cannot be used ends the command or is left out."""

    def entries(self, names: Sequence[str]) -> dict[str, TrainEntry]:
        """The entries of those names, all for none.

        Raises:
            ConfigError: for an unknown one, or nothing at all.
        """
        return chosen_entries(self.datasets, names, "datasets")


def chosen_entries(
    entries: Mapping[str, Entry], names: Sequence[str], key: str
) -> dict[str, Entry]:
    """The entries that `--datasets` names, all for none.

    Args:
        entries: of the settings, by name.
        names: as they were given.
        key: of the entries in the settings.

    Raises:
        ConfigError: for an unknown one, or nothing at all.
    """
    if not entries:
        raise ConfigError(f"{key}: the settings name no set there; add an entry")
    for name in names:
        if name not in entries:
            raise ConfigError(
                f"--datasets: no entry '{name}' in {key}; there are {sorted(entries)}"
            )
    return {name: entries[name] for name in names or entries}


def read_part(
    part: type[Part], file: str, overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> Part:
    """A part of the settings in a YAML file.

    Args:
        part: its fields are those of a run that are read; the others are passed over.
        file: of a training run, or with this part alone.
        overrides: `--datasets.NAME.key value`, as for training.
        options: what the command takes beside settings, for messages.

    Raises:
        ConfigError: a line for each unknown or impossible setting, with its key; or for a file that
            cannot be read.
    """
    settings = read_file(file)
    for name in settings.keys() - RunConfig.model_fields.keys():
        raise ConfigError(f"{file}: {name}: {unknown_key(name, RunConfig.model_fields)}")
    # a key with nothing after it is an empty mapping
    read = {name: settings[name] for name in part.model_fields if settings.get(name) is not None}
    return parse_settings(part, {file: read}, overrides, options)
