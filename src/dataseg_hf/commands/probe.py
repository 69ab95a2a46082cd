"""Fit a linear probe to the frozen backbone of a run and score it on the held-out sets: an upper
hint for what the backbone allows, and a floor for what training must reach.
"""

import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from typing import Any

from ..data.sample import BadSampleError
from ..errors import ConfigError
from ..messages import show_messages
from ..settings.ready_configs import config_file, with_config_files
from .options import OptionParser, report_error


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when everything was scored, 2 for options, settings or data that cannot work."""
    parser = option_parser()
    options, rest = parse_options(parser, arguments)
    from ..evaluation.probe import ProbeOptions, run_probe
    from ..settings.parsing import config_files, file_of_entries, parse_run_config

    show_messages()
    file = ""
    try:
        settings = with_config_files(rest)
        file = file_of_entries(settings)
        config = parse_run_config(settings, config_file("shapes"), parser.option_names())
        run_probe(ProbeOptions(**options), config, config_files(settings))
    except (ConfigError, BadSampleError) as error:
        report_error(error, file)
        return 2
    return 0


def parse_options(
    parser: OptionParser, arguments: Sequence[str] | None
) -> tuple[dict[str, Any], list[str]]:
    """The options of this command, and the rest, which are settings of the run."""
    known, rest = parser.parse_known_args(arguments)
    options = vars(known)
    if "strides" in options:
        options["strides"] = tuple(options["strides"])
    return options, rest


def option_parser() -> OptionParser:
    """The options of this command; all others are settings of the run."""
    parser = OptionParser(
        prog="dataseg probe",
        description="Fit a linear probe (ridge regression) to the frozen backbone of a run, on its "
        "training sets with a class per pixel, and score it on its held-out sets by mean IoU.",
        epilog="All settings of a run (see dataseg cotrain --help) may be given too, such as "
        "--config FILE or --datasets.NAME.image_size 320.",
        allow_abbrev=False,
        argument_default=SUPPRESS,
    )
    parser.add_argument(
        "--strides",
        type=int,
        nargs="+",
        metavar="N",
        help="of the feature maps to probe; default all that the backbone has",
    )
    parser.add_argument(
        "--model",
        help="also show the IoU of each class that this checkpoint (folder or Hub id) reaches; or "
        "the results.json of its evaluation, which saves scoring it",
    )
    parser.add_argument("--output_dir", help="folder of the report; default outputs/probe")
    return parser


if __name__ == "__main__":
    sys.exit(main())
