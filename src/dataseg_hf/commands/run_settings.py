"""Settings of a run on a command line."""

from collections.abc import Sequence

from ..settings.run import EvalEntry, RunConfig, TrainEntry
from .options import with_flags
from .ready_configs import with_config_files


def run_arguments(arguments: Sequence[str]) -> list[str]:
    """Arguments as `parse_run_config` reads them: names of ready configs and flags are resolved.

    Raises:
        ConfigError: for a `--config` that is neither a path nor a ready config.
    """
    return with_flags(with_config_files(arguments), (RunConfig, TrainEntry, EvalEntry))
