"""Errors that a command reports in one line each."""

from collections.abc import Sequence


class ConfigError(ValueError):
    """A setting that is unknown or impossible; the message names its key."""


class SettingsError(ConfigError):
    """Settings that are unknown or impossible; each of `lines` names the key of one."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
