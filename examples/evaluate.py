"""Score a model on the held-out sets of a config, and write tables, figures, the best and worst
images.

python examples/evaluate.py --model outputs/shapes --config examples/configs/shapes.yaml
accelerate launch examples/evaluate.py --model outputs/shapes \
    --config examples/configs/shapes.yaml --metrics all \
    --datasets shapes_boxes shapes_open --output_dir outputs/shapes_scores --flip --export

Settings of the sets can be overridden as in training: --evaluation.shapes_open.threshold 0.5
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from dataseg_hf.data.sample import BadSampleError
from dataseg_hf.errors import ConfigError
from dataseg_hf.evaluation.run import run_evaluation
from dataseg_hf.evaluation.settings import EvaluationOptions, read_held_out
from dataseg_hf.messages import show_messages
from dataseg_hf.prediction.annotation_files import ANNOTATION_FORMATS, LOCAL_FILES


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when everything was scored, 2 for options, settings or data that cannot work."""
    options, config, overrides = parse_options(arguments)
    show_messages()
    try:
        run_evaluation(EvaluationOptions(**options), read_held_out(config, overrides), config)
    except (ConfigError, BadSampleError) as error:
        if os.environ.get("RANK", "0") == "0":  # all processes find the same
            print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse_options(arguments: Sequence[str] | None) -> tuple[dict[str, Any], str, list[str]]:
    """The options, the YAML file, and the rest, which overrides settings of that file."""
    parser = argparse.ArgumentParser(
        description="Score a model on the held-out sets of a config.",
        epilog="--evaluation.NAME.KEY VALUE overrides a setting of an entry, e.g. "
        "--evaluation.shapes_open.count 16",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--model", required=True, help="folder of a checkpoint, or its id on the Hub"
    )
    parser.add_argument(
        "--config",
        required=True,
        help="YAML file with `evaluation`: of a training run, or by itself",
    )
    parser.add_argument("--output_dir", help="folder of the report; default outputs/evaluation")
    parser.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="entries to score; default all"
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="METRIC",
        help="pq, miou, mask_ap, box_ap instead of those of each entry; or all",
    )
    parser.add_argument(
        "--flip", action="store_true", help="join the outputs for each image and its mirror image"
    )
    parser.add_argument(
        "--export", action="store_true", help="write predictions and truth in COCO's formats"
    )
    parser.add_argument(
        "--annotations",
        nargs="+",
        metavar="FORMAT",
        help=f"write predicted objects for labeling tools: {', '.join(ANNOTATION_FORMATS)}",
    )
    parser.add_argument(
        "--outlines",
        help="in those files: polygons where they tell every pixel (default), or masks",
    )
    parser.add_argument(
        "--image_url_prefix", help=f"of Label Studio's image addresses; default {LOCAL_FILES}"
    )
    parser.add_argument(
        "--gallery",
        type=int,
        metavar="N",
        help="best and worst images to draw; default 4, 0 for none",
    )
    parser.add_argument(
        "--batch_size", type=int, metavar="N", help="images at once, instead of that of each entry"
    )
    parser.add_argument(
        "--max_dets",
        type=int,
        metavar="N",
        help="predictions per image and class in AP; default 100",
    )
    parser.add_argument("--num_workers", type=int, metavar="N", help="loading processes; default 0")
    parser.add_argument("--num_threads", type=int, metavar="N", help="threads of torch on the CPU")
    known, overrides = parser.parse_known_args(arguments)
    options = vars(known)
    for name in ("datasets", "metrics", "annotations"):
        if name in options:
            options[name] = tuple(options[name])
    return options, options.pop("config"), overrides


if __name__ == "__main__":
    sys.exit(main())
