"""What starting the commands costs: CPU seconds of whole processes, each command in turn, several
times.

    python -m benchmarks.startup [--against FOLDER] [--repeats 5]

`--against` names a checkout of this repository at commit 5f76b62, from before commands were
imported when they are called; its equivalents then run in the same turns (it needs jsonargparse,
which may lie in PYTHONPATH). The seconds are those of the kernel for the child (user and system);
the least of the repeats counts. Prints a table and writes it to `outputs/bench_startup.json`; exit
code 1 where a bar is missed.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (240, 320)
SEGMENTS = 12
HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Command:
    """A command, its equivalent in the old checkout, and the largest share of its seconds.

    Args:
        bar: None where none is set.
    """

    now: tuple[str, ...]
    before: tuple[str, ...] | None = None
    bar: float | None = None


def commands(folder: Path, images: int) -> dict[str, Command]:
    """What is measured, by name; `folder` holds the files of `write_panoptic`."""
    files = [
        f"--{side}_{kind}={folder / side}{ending}"
        for side in ("gt", "pred")
        for kind, ending in (("json", ".json"), ("dir", ""))
    ]
    before = [file.replace("_", "-", 1) for file in files]
    metrics = f"dataseg metrics panoptic, {images} images"
    old_help = ("examples/cotrain.py", "--help")
    held_out = ("shapes_panoptic", "shapes_semantic", "shapes_boxes", "shapes_open")
    run = (
        *("--config=shapes", "--max_steps=1", "--num_workers=0", "--num_pictures=1"),
        *(f"--evaluation.{name}.max_samples=1" for name in held_out),
    )
    return {
        "python": Command(("-c", "pass"), ("-c", "pass")),
        "import dataseg_hf": Command(("-c", "import dataseg_hf"), ("-c", "import dataseg_hf")),
        "dataseg --help": Command(("-m", "dataseg_hf", "--help"), old_help, 0.15),
        **{
            f"dataseg {name} --help": Command(("-m", "dataseg_hf", name, "--help"), old)
            for name, old in (
                ("cotrain", old_help),
                ("inspect", ("examples/inspect_data.py", "--help")),
                ("predict", ("examples/predict.py", "--help")),
            )
        },
        metrics: Command(
            ("-m", "dataseg_hf", "metrics", "panoptic", *files),
            ("-m", "dataseg_hf.metrics", "panoptic", *before),
            0.3,
        ),
        "dataseg cotrain, one step, 4 images scored": Command(
            ("-m", "dataseg_hf", "cotrain", *run, f"--output_dir={folder / 'run'}")
        ),
    }


def write_panoptic(folder: Path, images: int) -> None:
    """Truth and predictions in COCO's panoptic format, of vertical stripes that differ a little."""
    rng = np.random.default_rng(0)
    for side in ("gt", "pred"):
        (folder / side).mkdir()
        annotations = []
        for image in range(images):
            borders = np.sort(rng.choice(np.arange(1, SIZE[1]), SEGMENTS - 1, replace=False))
            stripe = np.searchsorted(borders, np.arange(SIZE[1]), side="right") + 1
            red = np.broadcast_to(stripe.astype(np.uint8), SIZE)
            pixels = np.stack([red, np.zeros_like(red), np.zeros_like(red)], axis=-1)
            Image.fromarray(pixels).save(folder / side / f"{image}.png")
            segments = [
                {"id": i, "category_id": i % 4, "iscrowd": 0} for i in range(1, SEGMENTS + 1)
            ]
            annotations.append(
                {"image_id": image, "file_name": f"{image}.png", "segments_info": segments}
            )
        listing = {
            "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(images)],
            "annotations": annotations,
            "categories": [{"id": i, "name": f"name {i}", "isthing": 1} for i in range(4)],
        }
        (folder / f"{side}.json").write_text(json.dumps(listing))


def cpu_seconds(arguments: Sequence[str], checkout: Path) -> float:
    """User and system seconds of a Python process in a checkout.

    Raises:
        RuntimeError: for a command that fails; the message has the end of what it wrote.
    """
    others = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([str(checkout / "src"), *([others] if others else [])])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} in {checkout} failed: {done.stderr[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(
    wanted: Mapping[str, Command], against: Path | None, repeats: int
) -> dict[str, dict[str, float]]:
    """Least seconds of each command by side (`now`, `before`), after a turn that warms up."""
    least: dict[str, dict[str, float]] = {name: {} for name in wanted}
    for repeat in range(repeats + 1):
        for name, command in wanted.items():
            sides = {"now": (command.now, HERE)}
            if against is not None and command.before is not None:
                sides["before"] = (command.before, against)
            for side, (arguments, checkout) in sides.items():
                taken = cpu_seconds(arguments, checkout)
                if repeat:
                    least[name][side] = min(taken, least[name].get(side, taken))
    return least


def report(wanted: Mapping[str, Command], least: Mapping[str, Mapping[str, float]]) -> bool:
    """Print the table; returns whether all bars hold."""
    held = True
    for name, taken in least.items():
        line, bar = f"{name:<45} {taken['now']:7.3f} s", wanted[name].bar
        if "before" in taken:
            share = taken["now"] / taken["before"]
            line += f"  before {taken['before']:7.3f} s  share {share:.3f}"
            if bar is not None:
                held &= share <= bar
                line += f"  <= {bar:g}  {'holds' if share <= bar else 'MISSED'}"
        print(line)
    return held


def main() -> int:
    """Write the files, take the measures, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="checkout to compare with")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=100, help="images of the metrics command")
    options = parser.parse_args()
    against = None if options.against is None else options.against.resolve()
    with tempfile.TemporaryDirectory() as name:
        write_panoptic(Path(name), options.images)
        wanted = commands(Path(name), options.images)
        least = measure(wanted, against, options.repeats)
    held = report(wanted, least)
    path = Path("outputs/bench_startup.json")
    path.parent.mkdir(exist_ok=True)
    about = {"python": platform.python_version(), "repeats": options.repeats}
    path.write_text(json.dumps({**about, "seconds": least}, indent=1) + "\n")
    print(f"written to {path}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
