"""Settings from YAML files and the command line."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from ..errors import ConfigError, SettingsError
from .base import Settings
from .completed import with_completed
from .errors import Path as KeyPath
from .errors import line, problems, unknown_key
from .reference import help_text
from .run import RunConfig
from .yaml_text import read_value, read_yaml

AnySettings = TypeVar("AnySettings", bound=Settings)


@dataclass(frozen=True)
class Override:
    """A setting on the command line.

    Args:
        text: None for a bare `--key`, which is true.
    """

    path: tuple[str, ...]
    text: str | None

    @property
    def value(self) -> Any:
        """What the text says."""
        return True if self.text is None else read_value(self.text)


def parse_run_config(
    arguments: Sequence[str], default_config: str | Path, options: Sequence[str] = ()
) -> RunConfig:
    """The settings of a run, from YAML files and the command line, which overrides them.

    Args:
        arguments: `--config FILE`, `--key value`, `--outer.key=value`, and `--key` alone for true.
        default_config: file that is read where the arguments name none.
        options: what the command takes beside settings, for messages.

    Raises:
        ConfigError: a line for each unknown or impossible setting, with its key; or for a file that
            cannot be read.
        SystemExit: after `--help`.
    """
    if {"-h", "--help"} & set(arguments):
        print(help_text())
        sys.exit(0)
    files = config_files(arguments) or [str(default_config)]
    contents = {file: read_file(file) for file in files}
    return parse_settings(RunConfig, contents, arguments, [*options, "config"])


def config_files(arguments: Sequence[str]) -> list[str]:
    """Files that the command line names by `--config FILE` or `--config=FILE`."""
    return [
        override.text or ""
        for override in read_overrides(arguments)
        if override.path == ("config",)
    ]


def file_of_entries(arguments: Sequence[str]) -> str:
    """The YAML file in which all entries of `datasets` and `evaluation` stand, for messages; empty
    where several files are named, or none, or the command line has parts of entries.
    """
    files = config_files(arguments)
    changed = {override.path[0] for override in read_overrides(arguments)}
    return files[0] if len(files) == 1 and not changed & {"datasets", "evaluation"} else ""


def read_file(file: str) -> dict[str, Any]:
    """The settings in a YAML file, not checked yet.

    Raises:
        ConfigError: for a file without any.
    """
    try:
        settings = read_yaml(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config: cannot read '{file}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config: '{file}' is no text in UTF-8; save it as UTF-8") from error
    except RecursionError as error:
        raise ConfigError(f"--config: '{file}' is nested too deep; correct it") from error
    except (yaml.YAMLError, ValueError) as error:  # such as a number of thousands of digits
        reason = " ".join(str(error).split())
        raise ConfigError(f"--config: '{file}' is no valid YAML: {reason}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"--config: '{file}' must hold a mapping of settings")
    return settings


def read_overrides(arguments: Sequence[str]) -> list[Override]:
    """The settings on the command line.

    Raises:
        ConfigError: for what is none.
    """
    overrides: list[Override] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not key:
            raise ConfigError(
                f"'{argument}' is no setting; settings are given as `--key value`, texts with "
                "spaces in quotes"
            )
        given: str | None = text if equals else None
        if not equals and rest and not rest[0].startswith("--"):
            given = rest.pop(0)
        overrides.append(Override(tuple(key.split(".")), given))
    return overrides


def parse_settings(
    kind: type[AnySettings],
    files: Mapping[str, Mapping[str, Any]],
    arguments: Sequence[str] = (),
    options: Sequence[str] = (),
) -> AnySettings:
    """Settings of a kind.

    Args:
        files: what YAML files hold, by their names; a later file replaces keys of an earlier one.
        arguments: the command line, which overrides the files.
        options: what the command takes beside settings, for messages.

    Raises:
        SettingsError: a line for each unknown or impossible setting, with its key.
    """
    overrides = [o for o in read_overrides(arguments) if o.path != ("config",)]
    values = {override.path: override.value for override in overrides}
    settings = with_completed(_merged(files, values))
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        found = problems(error, settings, kind)
    # `--output_dir 2017` is a text, although YAML takes it for a number
    texts = {o.path: o.text for o in overrides if o.path in found and o.text is not None}
    if any(values[path] != text for path, text in texts.items()):
        settings = with_completed(_merged(files, {**values, **texts}))
        try:
            return kind.model_validate(settings)
        except ValidationError:
            pass  # the first reasons name the values as they were meant
    bare = {override.path for override in overrides if override.text is None}
    found |= dict.fromkeys(bare & set(found), "needs a value")
    allowed = [*kind.model_fields, *options]
    misspelled = {path for path in values if len(path) == 1 and path[0] not in kind.model_fields}
    found |= {path: unknown_key(path[0], allowed, dashes="--") for path in misspelled}
    lines = [_place(path, files, values) + line(path, reason) for path, reason in found.items()]
    raise SettingsError(lines)


def _merged(
    files: Mapping[str, Mapping[str, Any]], values: Mapping[tuple[str, ...], Any]
) -> dict[str, Any]:
    """The settings of the files with values put in by their paths."""
    settings: dict[str, Any] = {}
    for content in files.values():
        settings |= content
    for path, value in values.items():
        settings = _with(settings, path, value, path)
    return settings


def _with(settings: Any, path: Sequence[str], value: Any, whole: Sequence[str]) -> dict[str, Any]:
    """A copy of nested settings with one value put in."""
    if settings is None:
        settings = {}
    if not isinstance(settings, dict):
        raise ConfigError(
            f"--{'.'.join(whole)}: there is no '{path[0]}' in {settings!r}, which is no mapping"
        )
    name, *deeper = path
    inner = _with(settings.get(name), deeper, value, whole) if deeper else value
    return {**settings, name: inner}


def _place(
    path: KeyPath, files: Mapping[str, Mapping[str, Any]], values: Mapping[tuple[str, ...], Any]
) -> str:
    """What stands before the key of an error: the name of its file, or the dashes of the command
    line; nothing for an error in several settings.
    """
    for given in values:
        shorter = min(len(given), len(path))
        if given[:shorter] == path[:shorter]:
            return "--" if given == path[: len(given)] else ""
    for file, content in reversed(list(files.items())):
        if path and path[0] in content:
            return f"{file}: "
    return ""
