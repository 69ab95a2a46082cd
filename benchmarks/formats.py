"""What reading each annotation format costs beside COCO's, for the same objects: one process, one
thread.

    OMP_NUM_THREADS=1 python -m benchmarks.formats [--repeats 5] [--rows 10000]

ratio   CPU seconds of opening the dataset and loading every sample, 100 images of 10 objects, over
        those of
        coco_instances
growth  of the process, in MB, while a dataset of `--rows` small images is inspected as `--check
        all` does, from its
        1,000th image on

The formats take turns; of the repeats the least counts. Files are drawn here; images are PNGs of
480 x 640 pixels (ratio) and 32 x 32 (growth). Exit code 1 where a ratio is above 1.3 or a growth
above 30 MB.
"""

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from benchmarks.annotation_world import FORMATS, Format, drawn_world, write_images

from dataseg_hf.data.inspection import inspect_dataset
from dataseg_hf.data.sample import Sample

MAX_RATIO, MAX_GROWTH = 1.3, 30.0
SETTLED = 1_000  # images after which buffers have their size
MEGABYTE = 1 << 20


def cpu_seconds(name: str, arguments: dict[str, Any]) -> float:
    """Of opening the dataset and loading each of its samples once."""
    started = time.process_time()
    data = FORMATS[name].read(arguments)
    for place in range(len(data)):
        data[place]
    return time.process_time() - started


def ratios(repeats: int) -> dict[str, float]:
    """Least CPU seconds of each format, over those of coco_instances."""
    world = drawn_world(num_images=100, objects_per_image=10)
    with tempfile.TemporaryDirectory() as temporary:
        write_images(world, Path(temporary) / "images")
        arguments = {}
        for number, (name, kind) in enumerate(FORMATS.items()):
            root = Path(temporary) / str(number)
            root.mkdir()
            (root / "images").symlink_to(Path(temporary) / "images", target_is_directory=True)
            arguments[name] = kind.write(world, root)
        seconds: dict[str, list[float]] = {name: [] for name in FORMATS}
        for _ in range(repeats):
            for name in FORMATS:
                seconds[name].append(cpu_seconds(name, arguments[name]))
    least = {name: min(values) for name, values in seconds.items()}
    return {name: value / least["coco_instances"] for name, value in least.items()}


def growth(kind: Format, rows: int) -> float:
    """MB by which this process grows while it inspects a dataset, from its 1,000th image on."""
    world = drawn_world(rows, objects_per_image=2, height=32, width=32)
    sizes: list[int] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_images(world, root / "images")
        data = kind.read(kind.write(world, root))
        gc.collect()
        process = psutil.Process()

        def measured(row: Any) -> Sample:
            sizes.append(process.memory_info().rss if len(sizes) % SETTLED == 0 else 0)
            return data.load(row)

        found = inspect_dataset("bench", replace(data, load=measured), None)
        assert found.checked == rows
    seen = [size for size in sizes[SETTLED:] if size] + [psutil.Process().memory_info().rss]
    return (max(seen) - seen[0]) / MEGABYTE


def main(arguments: Sequence[str]) -> int:
    """Print both tables; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(
        description="What reading each annotation format costs beside COCO's."
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds; the least seconds count")
    parser.add_argument("--rows", type=int, default=10_000, help="images of the inspected dataset")
    options = parser.parse_args(arguments)
    measured = ratios(options.repeats)
    grown = {name: growth(kind, options.rows) for name, kind in FORMATS.items()}
    print(f"{'format':<20} {'ratio':>6} {'growth, MB':>11}")
    for name in FORMATS:
        print(f"{name:<20} {measured[name]:>6.2f} {grown[name]:>11.1f}")
    missed = max(measured.values()) > MAX_RATIO or max(grown.values()) > MAX_GROWTH
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
