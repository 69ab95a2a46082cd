"""Errors that a command reports in one line."""


class ConfigError(ValueError):
    """A setting that is unknown or impossible; the message names its key."""
