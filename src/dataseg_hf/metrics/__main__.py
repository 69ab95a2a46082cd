"""Scores predictions in files: `python -m dataseg_hf.metrics panoptic | semantic | instances
--help`.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .files import score_instances, score_panoptic, score_semantic
from .instances import MAX_DETS
from .report import as_json, as_table

PROGRAM = "python -m dataseg_hf.metrics"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line; exits with code 2 where they do not fit."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Score predictions in files of the standard formats."
    )
    parser.set_defaults(score=None)
    tasks = parser.add_subparsers(required=True, metavar="panoptic | semantic | instance")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--json", action="store_true", help="print one JSON object instead of tables"
    )

    panoptic = tasks.add_parser(
        "panoptic", parents=[shared], help="PQ, SQ, RQ of COCO panoptic format"
    )
    panoptic.set_defaults(score=score_panoptic)
    panoptic.add_argument(
        "--gt-json", type=Path, required=True, help="the truth: categories and annotations"
    )
    panoptic.add_argument("--gt-dir", type=Path, required=True, help="folder of its PNGs")
    panoptic.add_argument(
        "--pred-json", type=Path, required=True, help="the predictions: annotations"
    )
    panoptic.add_argument("--pred-dir", type=Path, required=True, help="folder of its PNGs")

    semantic = tasks.add_parser(
        "semantic", parents=[shared], help="mean IoU of PNGs with a class per pixel"
    )
    semantic.set_defaults(score=score_semantic)
    semantic.add_argument(
        "--gt-dir", type=Path, required=True, help="folder of the true PNGs, sub-folders included"
    )
    semantic.add_argument(
        "--pred-dir", type=Path, required=True, help="folder of the predicted PNGs, named alike"
    )
    semantic.add_argument(
        "--num-classes", type=int, required=True, help="classes are 0, 1, ... NUM_CLASSES - 1"
    )
    semantic.add_argument(
        "--ignore-index", type=int, default=255, help="true value that is left out (default: 255)"
    )

    instances = tasks.add_parser(
        "instance", parents=[shared], help="COCO AP and AR of masks or boxes"
    )
    instances.set_defaults(score=score_instances)
    instances.add_argument(
        "--gt-json", type=Path, required=True, help="the truth in COCO instances format"
    )
    instances.add_argument(
        "--pred-json", type=Path, required=True, help="predictions in COCO result format"
    )
    instances.add_argument(
        "--iou-type", choices=["segm", "bbox"], default="segm", help="masks (default) or boxes"
    )
    instances.add_argument(
        "--max-dets", type=int, default=MAX_DETS, metavar="N",
        help=f"predictions per image and class that count, the best ones (default: {MAX_DETS})",
    )  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the result; 0, or 2 after one line on the standard error output that says what is wrong
    with the files.
    """
    options = vars(parse(arguments))
    score, wants_json = options.pop("score"), options.pop("json")
    # short work needs no bar
    progress: partial[Iterable[Any]] = partial(tqdm, desc="scoring", delay=1, leave=False)
    try:
        result = score(**options, progress=progress)
    except (OSError, ValueError) as error:
        print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(as_json(result) if wants_json else as_table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
