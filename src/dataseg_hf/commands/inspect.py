"""Check the datasets of a run before it starts, and draw them.

Prints the mix, what every dataset holds and what is wrong with it, and writes a contact sheet of
each to OUTPUT_DIR/contact_sheets.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from ..errors import ConfigError
from ..files.output_folder import check_addition
from ..messages import show_messages
from ..settings.ready_configs import config_file, with_config_files
from .options import OptionParser, report_error


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when there is no problem, 1 when there is one, 2 for settings that cannot
    work.
    """
    show_messages()
    file = ""
    try:
        parser = option_parser()
        options, settings = parser.parse_known_args(arguments)
        from ..settings.parsing import file_of_entries, parse_run_config
        from ..settings.paths import expand
        from .inspection_report import inspect_all

        settings = with_config_files(settings)
        file = file_of_entries(settings)
        config = parse_run_config(settings, config_file("shapes"), parser.option_names())
        output_dir = check_addition(expand(config.output_dir, "output_dir"), "output_dir")
        with redirect_stdout(sys.stderr):  # what readers print
            report = inspect_all(config, options.check, output_dir)
    except (ConfigError, argparse.ArgumentError) as error:
        report_error(error, file)
        return 2
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        print(report.text(output_dir))
    return 1 if report.problems else 0


def option_parser() -> OptionParser:
    """The options of this command; all others are settings of the run."""
    parser = OptionParser(
        prog="dataseg inspect",
        description="Check the datasets of a run and draw them.",
        epilog="All settings of a run (see dataseg cotrain --help) may be given too, such as "
        "--config FILE.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument(
        "--check",
        type=number_or_all,
        default=100,
        metavar="N|all",
        help="images of each dataset to load; default 100. `all` also embeds every category name",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    return parser


def number_or_all(text: str) -> int | None:
    """A positive number, None for `all`.

    Raises:
        ArgumentTypeError: for any other text.
    """
    if text == "all":
        return None
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' must be a positive number or 'all'")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
