"""Score predictions in files of the standard formats. Needs neither torch nor a model."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..metrics.files import score_instances, score_panoptic, score_semantic
from ..metrics.instances import MAX_DETS
from ..metrics.report import as_json, as_table
from .options import OptionParser, report_error


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the result; 0, or 2 after one line on the standard error output that says what is wrong
    with the files.
    """
    options = vars(parse_options(arguments))
    score, wants_json = options.pop("score"), options.pop("json")
    # short work needs no bar
    progress: partial[Iterable[Any]] = partial(
        tqdm,
        desc="scoring",
        delay=1,
        leave=False,
        disable=None,  # only on a terminal: a log file needs no progress bar
    )
    try:
        result = score(**options, progress=progress)
    except (OSError, ValueError) as error:
        report_error(error)
        return 2
    print(as_json(result) if wants_json else as_table(result))
    return 0


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line; exits with code 2 where they do not fit."""
    parser = OptionParser(
        prog="dataseg metrics", description="Score predictions in files of the standard formats."
    )
    parser.set_defaults(score=None)
    parsers = parser.add_subparsers(
        title="outputs", required=True, metavar="panoptic | semantic | instance"
    )
    tasks = [
        ("panoptic", "PQ, SQ, RQ of COCO panoptic format", add_panoptic_options, score_panoptic),
        (
            "semantic",
            "mean IoU of PNGs, a class per pixel",
            add_semantic_options,
            score_semantic,
        ),
        ("instance", "COCO AP and AR of masks or boxes", add_instance_options, score_instances),
    ]
    for name, what, add_options, score in tasks:
        # COCO calls its format "instances", and so did this command at first
        aliases = ["instances"] if name == "instance" else []
        of_task = parsers.add_parser(name, aliases=aliases, help=what, description=what)
        of_task.set_defaults(score=score)
        add_options(of_task)
        of_task.add_argument(
            "--json", action="store_true", help="print one JSON object instead of tables"
        )
    return parser.parse_args(arguments)


def add_panoptic_options(parser: argparse.ArgumentParser) -> None:
    """Files of COCO's panoptic format."""
    parser.add_argument(
        "--gt_json", type=Path, required=True, help="the truth: categories and annotations"
    )
    parser.add_argument("--gt_dir", type=Path, required=True, help="folder of its PNGs")
    parser.add_argument(
        "--pred_json", type=Path, required=True, help="the predictions: annotations"
    )
    parser.add_argument("--pred_dir", type=Path, required=True, help="folder of its PNGs")


def add_semantic_options(parser: argparse.ArgumentParser) -> None:
    """Folders of class maps."""
    parser.add_argument(
        "--gt_dir", type=Path, required=True, help="folder of the true PNGs, sub-folders included"
    )
    parser.add_argument(
        "--pred_dir", type=Path, required=True, help="folder of the predicted PNGs, named alike"
    )
    parser.add_argument(
        "--num_classes", type=int, required=True, help="classes are 0, 1, ... NUM_CLASSES - 1"
    )
    parser.add_argument(
        "--ignore_index", type=int, default=255, help="true value that is left out (default: 255)"
    )


def add_instance_options(parser: argparse.ArgumentParser) -> None:
    """Files of COCO's instances format."""
    parser.add_argument(
        "--gt_json", type=Path, required=True, help="the truth in COCO instances format"
    )
    parser.add_argument(
        "--pred_json", type=Path, required=True, help="predictions in COCO result format"
    )
    parser.add_argument(
        "--iou_type", choices=["segm", "bbox"], default="segm", help="masks (default) or boxes"
    )
    parser.add_argument(
        "--max_dets", type=int, default=MAX_DETS, metavar="N",
        help=f"predictions per image and class that count, the best ones (default: {MAX_DETS})",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
