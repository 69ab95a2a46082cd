"""What commands share that let a model look at the datasets of a mix: their options, and how they
end.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..data.sample import BadSampleError
from ..errors import ConfigError
from ..messages import show_messages
from ..prediction.annotation_files import ANNOTATION_FORMATS
from ..settings.ready_configs import config_file
from .options import OptionParser, add_config_option, positive, report_error

if TYPE_CHECKING:
    from ..data.sample import SampleDataset
    from ..processes import Processes
    from ..settings.entries import TrainEntry
    from ..settings.parts import MixSettings

INTERRUPTED = 130  # what shells give a command that Ctrl-C ended
Work: TypeAlias = Callable[[Namespace, "MixSettings", str, "Processes"], None]
"""Takes the options, the mix, the name of the config file, and the processes that work together."""


def run_on_mix(
    parser: OptionParser, arguments: Sequence[str] | None, work: Work, interrupted: str
) -> int:
    """Do a command's work; errors are reported by one process.

    Args:
        work: raises ConfigError or BadSampleError, on all processes, for what cannot work.
        interrupted: what is said after Ctrl-C.

    Returns:
        The exit code: 0 when all is done, 2 for options, settings or data that cannot work, 130
        after Ctrl-C.
    """
    options, overrides = parser.parse_known_args(arguments)
    from ..processes import Processes
    from ..settings.parsing import file_of_entries
    from ..settings.parts import MixSettings, read_part

    show_messages()
    place = ""
    is_main = os.environ.get("RANK", "0") == "0"
    try:
        file = config_file(options.config)
        place = file_of_entries(["--config", file, *overrides])
        mix = read_part(MixSettings, file, overrides, parser.option_names())
        processes = Processes.started()
        is_main = processes.is_main
        work(options, mix, file, processes)
    except KeyboardInterrupt:
        if is_main:
            print(interrupted, file=sys.stderr)
        return INTERRUPTED
    except (ConfigError, BadSampleError) as error:
        if is_main:
            report_error(error, place)
        return 2
    return 0


def mix_parser(prog: str, description: str, output: str) -> OptionParser:
    """A parser with the options that these commands share; all others are settings of the run.

    Args:
        output: help on the output folder.
    """
    parser = OptionParser(
        prog=prog,
        description=description,
        epilog="--datasets.NAME.KEY VALUE overrides a setting of an entry, e.g. "
        "--datasets.shapes_boxes.count 16",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", required=True, help="folder of a checkpoint, or its id on the Hub"
    )
    add_config_option(parser, "datasets")
    parser.add_argument("--output", required=True, help=output)
    parser.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="entries of the mix; all by default"
    )
    parser.add_argument(
        "--annotations", nargs="+", metavar="FORMAT", choices=ANNOTATION_FORMATS, default=(),
        help="also write files for labeling tools, what needs a look most first: "
        f"{', '.join(ANNOTATION_FORMATS)}",
    )  # fmt: skip
    parser.add_argument(
        "--batch_size", type=positive, default=8, metavar="N",
        help="images at once (default %(default)s)",
    )  # fmt: skip
    return parser


def images_of(data: "SampleDataset", entry: "TrainEntry") -> Path | None:
    """The folder of an entry's images; None where they are no files there."""
    from ..prediction.completion.rows import file_of
    from ..settings.paths import expand

    if entry.images is None or not len(data):
        return None
    folder = Path(expand(entry.images, "images")).absolute()
    return None if file_of(data.rows[0], folder) is None else folder


@contextmanager
def writing_for_people(folder: Path) -> Iterator[None]:
    """What is done within writes files for people.

    Raises:
        ConfigError: where that cannot be done: a full disk, or a name that a format cannot hold.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigError(f"--output: cannot write to '{folder}': {error}") from error
