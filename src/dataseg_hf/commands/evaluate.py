"""Score a model on the held-out sets of a config, and write tables, figures, the best and worst
images.
"""

import os
import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from typing import Any, get_args

from ..data.sample import BadSampleError
from ..errors import ConfigError
from ..messages import show_messages
from ..prediction.annotation_files import ANNOTATION_FORMATS, LOCAL_FILES, Outlines
from ..settings.ready_configs import config_file
from .options import OptionParser, add_config_option, report_error


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when everything was scored, 2 for options, settings or data that cannot work."""
    parser = option_parser()
    options, config, overrides = parse_options(parser, arguments)
    from ..evaluation.run import run_evaluation
    from ..evaluation.settings import EvaluationOptions, read_held_out
    from ..settings.parsing import file_of_entries

    show_messages()
    place = ""
    try:
        file = config_file(config)
        place = file_of_entries(["--config", file, *overrides])
        held_out = read_held_out(file, overrides, parser.option_names())
        run_evaluation(EvaluationOptions(**options), held_out, file)
    except (ConfigError, BadSampleError) as error:
        if os.environ.get("RANK", "0") == "0":  # all processes find the same
            report_error(error, place)
        return 2
    return 0


def parse_options(
    parser: OptionParser, arguments: Sequence[str] | None
) -> tuple[dict[str, Any], str, list[str]]:
    """The options, the config, and the rest, which overrides settings of the config."""
    known, overrides = parser.parse_known_args(arguments)
    options = vars(known)
    for name in ("datasets", "metrics", "annotations"):
        if name in options:
            options[name] = tuple(options[name])
    return options, options.pop("config"), overrides


def option_parser() -> OptionParser:
    """The options of this command."""
    parser = OptionParser(
        prog="dataseg evaluate",
        description="Score a model on the held-out sets of a config.",
        epilog="--evaluation.NAME.KEY VALUE overrides a setting of an entry, e.g. "
        "--evaluation.shapes_open.count 16",
        allow_abbrev=False,
        argument_default=SUPPRESS,
    )
    parser.add_argument(
        "--model", required=True, help="folder of a checkpoint, or its id on the Hub"
    )
    add_config_option(parser, "evaluation")
    add_scoring_options(parser)
    add_report_options(parser)
    add_machine_options(parser)
    return parser


def add_scoring_options(parser: OptionParser) -> None:
    """What is scored, and how."""
    group = parser.add_argument_group("scoring")
    group.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="entries to score; default all"
    )
    group.add_argument(
        "--metrics",
        nargs="+",
        metavar="METRIC",
        help="pq, miou, mask_ap, box_ap instead of those of each entry; or all",
    )
    group.add_argument(
        "--flip", action="store_true", help="join the outputs for each image and its mirror image"
    )
    group.add_argument(
        "--max_dets",
        type=int,
        metavar="N",
        help="predictions per image and class in AP; default 100",
    )


def add_report_options(parser: OptionParser) -> None:
    """What is written."""
    group = parser.add_argument_group("report")
    group.add_argument("--output_dir", help="folder of the report; default outputs/evaluation")
    group.add_argument(
        "--export", action="store_true", help="write predictions and truth in COCO's formats"
    )
    group.add_argument(
        "--annotations",
        nargs="+",
        metavar="FORMAT",
        help=f"write predicted objects for labeling tools: {', '.join(ANNOTATION_FORMATS)}",
    )
    group.add_argument(
        "--outlines",
        metavar="|".join(get_args(Outlines)),
        help="in those files: polygons where they tell every pixel (default), or masks",
    )
    group.add_argument(
        "--image_url_prefix", help=f"of Label Studio's image addresses; default {LOCAL_FILES}"
    )
    group.add_argument(
        "--gallery",
        type=int,
        metavar="N",
        help="best and worst images to draw; default 4, 0 for none",
    )


def add_machine_options(parser: OptionParser) -> None:
    """What affects speed and memory."""
    group = parser.add_argument_group("speed")
    group.add_argument(
        "--batch_size", type=int, metavar="N", help="images at once, instead of that of each entry"
    )
    group.add_argument("--num_workers", type=int, metavar="N", help="loading processes; default 0")
    group.add_argument("--num_threads", type=int, metavar="N", help="threads of torch on the CPU")


if __name__ == "__main__":
    sys.exit(main())
