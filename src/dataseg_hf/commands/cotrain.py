"""Train one model on a mix of datasets."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from tempfile import TemporaryDirectory

from ..data.sample import BadSampleError
from ..ending import EndingSignals
from ..errors import ConfigError
from ..messages import show_messages
from ..settings.parsing import config_files, file_of_entries, parse_run_config
from ..settings.ready_configs import config_file, with_config_files
from ..settings.run import RunConfig
from .options import print_any_name, report_error

INDUCTOR_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the run ended or SIGTERM stopped it with its state saved, 130 when SIGINT
    did.

    128 and the number of a signal that ended it where there is no state to save; 2 for settings or
    data that cannot work; 1 when training diverged, or something could not be
    loaded, written or published.
    """
    print_any_name()
    given = sys.argv[1:] if arguments is None else list(arguments)
    is_dry = any(word.startswith(("--dry_run", "--dry-run")) for word in given)
    with EndingSignals(), temporary_caches() if is_dry else nullcontext():
        try:
            settings = with_config_files(given)
            config = parse_run_config(settings, config_file("shapes"))
        except ConfigError as error:
            report_error(error)
            return 2
        return train(config, settings)


@contextmanager
def temporary_caches() -> Iterator[None]:
    """Let torch keep what it compiles where a dry run deletes it: torch 2.13 makes a folder for it
    while transformers is imported.
    """
    if INDUCTOR_CACHE in os.environ:
        yield
        return
    with TemporaryDirectory() as folder:
        os.environ[INDUCTOR_CACHE] = folder
        try:
            yield
        finally:
            del os.environ[INDUCTOR_CACHE]


def train(config: RunConfig, settings: Sequence[str]) -> int:
    """Run to the end; returns the exit code of `main`.

    Args:
        config: settings of the run.
        settings: the command line that they were read from.
    """
    from ..sharing.publishing import PublishError
    from ..training.failures import DataError, DivergedError
    from ..training.run import run
    from ..training.signals import StopRequested
    from ..training.state import SaveError

    show_messages()
    file = file_of_entries(settings)
    try:
        run(config, config_files(settings))
    except (ConfigError, BadSampleError) as error:
        report_error(error, file)
        return 2
    except DataError as error:
        report_error(error, file)
        return 2 if isinstance(error.__cause__, BadSampleError) else 1
    except (DivergedError, PublishError, SaveError) as error:
        report_error(error)
        return 1
    except StopRequested as stop:
        print(f"{stop}; go on with --resume latest", file=sys.stderr)
        return 130 if stop.number == signal.SIGINT else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
