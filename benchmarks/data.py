"""What the data code costs, as ratios against peers in one run: one process, one thread, files
drawn here.

    make bench-data [ARGS="--images 16 --repeats 15"]

reading      images per second of `dataset[i]` against bare Pillow decoding of the same JPEG and
             PNG into arrays
preparation  seconds of resize, normalize and targets against transformers' Mask2Former processor,
             same size
memory       bytes of the targets of the same two
mixing       seconds of `mixing_loader` against the same loads, augmentations and collates in a
             bare loop
large JPEGs  how many times as fast a photograph of 12 megapixels is read and made ready at 640
             pixels with `reduced_decoding` as without, with a box and with a map of its size
rows         growth of the process between the 1,000th and the last load of a dataset of `--rows`
             rows

Seconds are CPU seconds of the process, so that other programs disturb less. Both sides take turns,
image by image. Reading and preparation add up the least time of each image over `--repeats` turns;
mixing is the median over the steps. Prints a table, writes it to `outputs/bench_data.json`; exit
code 1 where a bar is missed.
"""

import argparse
import gc
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import PIL
import psutil
import torch
import transformers
from benchmarks.large_jpegs import draw_large_files, gray_levels, large_samples, prepared
from numpy.typing import NDArray
from PIL import Image
from transformers.models.mask2former.image_processing_pil_mask2former import (
    Mask2FormerImageProcessorPil,
)

from dataseg_hf.data.collate import Normalization, collate
from dataseg_hf.data.mixing import MixingSampler, TrainingSet, mixing_loader
from dataseg_hf.data.readers.coco_panoptic import read_coco_panoptic
from dataseg_hf.data.readers.image_png import read_image_png
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, Sample, SampleDataset, Segments
from dataseg_hf.data.transforms import Augmentation, augment, resize_only

HEIGHT, WIDTH = 480, 640
SEGMENTS = (30, 60)  # segments of a drawn image, both ends included
CLASSES = 133
NORMALIZATION = Normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
VOID = 255  # what the peer's processor takes for unlabeled
MEGABYTE = 1 << 20
LARGE_JPEG, LARGE_JPEG_BAR = "with a box", 3.5


@dataclass(frozen=True)
class Result:
    """One line of the table: a figure, the bar it must reach, and what both sides took."""

    name: str
    figure: float
    bar: float
    at_least: bool
    detail: str

    @property
    def holds(self) -> bool:
        """Whether the figure is on the right side of its bar."""
        return self.figure >= self.bar if self.at_least else self.figure <= self.bar


# --- files


def smooth_noise(rng: np.random.Generator, channels: int, cell: int) -> NDArray[np.float32]:
    """Noise in -1..1 [H, W, channels] that varies over about `cell` pixels."""
    coarse = rng.uniform(-1, 1, (HEIGHT // cell + 2, WIDTH // cell + 2, channels)).astype(
        np.float32
    )
    layers = [
        Image.fromarray(coarse[..., c]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        for c in range(channels)
    ]
    return np.stack([np.asarray(layer) for layer in layers], axis=-1)


def draw_segments(rng: np.random.Generator, count: int) -> NDArray[np.intp]:
    """Map [H, W] of `count` segments with wavy outlines: the nearest of as many points, seen
    through smooth noise.
    """
    points = rng.uniform((0, 0), (HEIGHT, WIDTH), (count, 2))
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    waves = 12 * smooth_noise(rng, 2, 32) + 2 * smooth_noise(rng, 2, 6)
    distance = [(y + waves[..., 0] - py) ** 2 + (x + waves[..., 1] - px) ** 2 for py, px in points]
    nearest = np.argmin(distance, axis=0)
    return np.unique(nearest, return_inverse=True)[1].reshape(HEIGHT, WIDTH)


def draw_photograph(rng: np.random.Generator, segment_map: NDArray[np.intp]) -> NDArray[np.uint8]:
    """RGB [H, W, 3]: a color per segment, shading and noise over several scales; about COCO's 175
    kB as JPEG.
    """
    colors = rng.uniform(40, 215, (segment_map.max() + 1, 3))
    texture = sum(
        strength * smooth_noise(rng, 3, cell)
        for cell, strength in ((160, 40), (40, 20), (10, 15), (3, 12))
    )
    pixels = colors[segment_map] + texture + rng.normal(0, 8, (HEIGHT, WIDTH, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def draw_files(folder: Path, images: int, rows: int) -> None:
    """`images` JPEGs, panoptic PNGs and class PNGs, and a panoptic JSON of `rows` rows that share
    them in turn.
    """
    rng = np.random.default_rng(0)
    for name in ("images", "panoptic", "classes"):
        (folder / name).mkdir()
    infos: list[list[dict[str, int]]] = []
    for number in range(images):
        segment_map = draw_segments(rng, int(rng.integers(SEGMENTS[0], SEGMENTS[1] + 1)))
        count = int(segment_map.max()) + 1
        ids, classes = (
            rng.choice(1 << 24, count, replace=False) | 1,
            rng.integers(CLASSES, size=count),
        )
        rgb = (ids[:, None] >> np.array([0, 8, 16])).astype(np.uint8)
        photograph = Image.fromarray(draw_photograph(rng, segment_map))
        photograph.save(folder / f"images/{number:04d}.jpg", quality=95)
        Image.fromarray(rgb[segment_map]).save(folder / f"panoptic/{number:04d}.png")
        Image.fromarray(classes.astype(np.uint8)[segment_map]).save(
            folder / f"classes/{number:04d}.png"
        )
        infos.append(
            [{"id": int(i), "category_id": int(c)} for i, c in zip(ids, classes, strict=True)]
        )
    for file_name, length in (("panoptic.json", images), ("many_rows.json", rows)):
        listing = {
            "images": [
                {"id": i, "file_name": f"{i % images:04d}.jpg", "height": HEIGHT, "width": WIDTH}
                for i in range(length)
            ],
            "annotations": [
                {
                    "image_id": i,
                    "file_name": f"{i % images:04d}.png",
                    "segments_info": infos[i % images],
                }
                for i in range(length)
            ],
        }
        (folder / file_name).write_text(json.dumps(listing))


def spec(task: Any) -> DatasetSpec:
    """A dataset of `CLASSES` things whose raw ids are their indices."""
    classes = tuple(ClassInfo(f"name {i}", True) for i in range(CLASSES))
    return DatasetSpec(f"drawn {task}", task, classes, {i: i for i in range(CLASSES)})


def read_panoptic(folder: Path, annotation_file: str = "panoptic.json") -> SampleDataset:
    return read_coco_panoptic(
        spec("panoptic"), folder / "images", folder / "panoptic", folder / annotation_file
    )


def read_semantic(folder: Path) -> SampleDataset:
    return read_image_png(spec("semantic"), folder / "images", folder / "classes")


# --- measures


def seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def least_seconds(
    ours: Callable[[int], object], peer: Callable[[int], object], count: int, repeats: int
) -> tuple[float, float]:
    """Mean over `count` inputs of each side's least seconds, after a turn that warms up; the sides
    take turns.
    """
    least = np.full((2, count), np.inf)
    for repeat in range(repeats + 1):
        for i in range(count):
            for side in (0, 1) if repeat % 2 else (1, 0):
                call = (ours, peer)[side]
                taken = seconds(lambda call=call, i=i: call(i))  # type: ignore[misc]
                if repeat > 0:
                    least[side, i] = min(least[side, i], taken)
    ours_mean, peer_mean = least.mean(axis=1)
    return float(ours_mean), float(peer_mean)


def sides(ours: float, peer: float) -> str:
    return f"{1000 * ours:.2f} ms, peer {1000 * peer:.2f} ms per image"


def measure_reading(folder: Path, repeats: int) -> Iterator[Result]:
    """Share of the rate of bare decoding that each reader reaches."""
    for name, data, maps in (
        ("coco_panoptic", read_panoptic(folder), "panoptic"),
        ("image_png", read_semantic(folder), "classes"),
    ):
        pairs = list(
            zip(
                sorted((folder / "images").iterdir()),
                sorted((folder / maps).iterdir()),
                strict=True,
            )
        )

        def decode(i: int, pairs: Sequence[tuple[Path, Path]] = pairs) -> list[NDArray]:
            return [np.asarray(Image.open(path)) for path in pairs[i]]

        ours, peer = least_seconds(data.__getitem__, decode, len(pairs), repeats)
        yield Result(
            f"reading {name}: rate / bare decoding", peer / ours, 0.85, True, sides(ours, peer)
        )


def sample_of_60_segments(rng: np.random.Generator) -> Sample:
    segment_map = draw_segments(rng, 60).astype(np.int32)
    count = int(segment_map.max()) + 1
    labels = rng.integers(CLASSES, size=count)
    truth = Segments(segment_map, labels, np.zeros(count, dtype=bool))
    return Sample(draw_photograph(rng, segment_map.astype(np.intp)), truth, 0, "drawn")


def measure_preparation(size: int, repeats: int) -> Iterator[Result]:
    """Speed against the peer with nothing random and with our augmentation, and the size of the
    targets.
    """
    sample = sample_of_60_segments(np.random.default_rng(1))
    truth = sample.annotation
    assert isinstance(truth, Segments)
    settings = Augmentation(size)
    processor = Mask2FormerImageProcessorPil(
        size={"shortest_edge": size, "longest_edge": size},
        pad_size={"height": size, "width": size},
        ignore_index=VOID,
        normalization=NORMALIZATION,
    )
    class_of = dict(enumerate(truth.class_labels.tolist()))
    id_map = np.where(truth.segment_map < 0, VOID, truth.segment_map).astype(np.uint8)

    def finish(transformed: Any) -> dict[str, Any]:
        return collate([transformed], canvas=size, task="panoptic", normalization=NORMALIZATION)

    def plain(_: int = 0) -> dict[str, Any]:
        return finish(resize_only(sample, size))

    def augmented(seed: int) -> dict[str, Any]:
        return finish(augment(sample, settings, np.random.default_rng(seed)))

    def peer(_: int = 0) -> Any:
        return processor(
            sample.image,
            segmentation_maps=id_map,
            instance_id_to_semantic_id=class_of,
            return_tensors="pt",
        )

    mine, theirs = plain(), peer()
    assert mine["pixel_values"].shape == theirs["pixel_values"].shape
    assert len(mine["labels"][0]["class_labels"]) == len(theirs["mask_labels"][0])
    for name, ours in (("resize_only", plain), ("augment", augmented)):
        least = least_seconds(ours, peer, 1, repeats)
        yield Result(
            f"preparation {name}, {size} px: times as fast",
            least[1] / least[0],
            2.5,
            True,
            sides(*least),
        )
    bytes_ours = mine["labels"][0]["segment_map"].nbytes
    bytes_peer = theirs["mask_labels"][0].nbytes
    detail = f"{bytes_ours / MEGABYTE:.2f} MB, peer {bytes_peer / MEGABYTE:.1f} MB per image"
    yield Result(
        f"target memory, {size} px: share of the peer's",
        bytes_ours / bytes_peer,
        0.1,
        False,
        detail,
    )


def measure_mixing(folder: Path, size: int, steps: int) -> Result:
    """Median over steps of what the loader adds to the same work in a bare loop."""
    settings = Augmentation(size, scale_range=(0.5, 2.0))
    members = [
        TrainingSet("panoptic", read_panoptic(folder), 2.0, 4, settings, {}),
        TrainingSet("semantic", read_semantic(folder), 1.0, 4, settings, {}),
    ]
    sampler = MixingSampler(members, 0, 0, steps)
    wanted = list(sampler)
    batches = iter(mixing_loader(sampler, NORMALIZATION))

    def bare(step: int) -> dict[str, Any]:
        member = members[wanted[step][0].dataset]
        data = member.data
        assert isinstance(data, SampleDataset)
        samples = [
            augment(data[item.index], settings, np.random.default_rng(item.seed))
            for item in wanted[step]
        ]
        return collate(samples, canvas=size, task=member.task, normalization=NORMALIZATION)

    taken = np.empty((2, steps))
    for step in range(steps):
        for side in (0, 1) if step % 2 else (1, 0):
            load = partial(next, batches) if side == 0 else partial(bare, step)
            taken[side, step] = seconds(load)
    settled = taken[:, steps // 10 :]
    overhead = median((settled[0] / settled[1] - 1).tolist())
    detail = (
        f"{1000 * median(settled[0]):.1f} ms, bare loop {1000 * median(settled[1]):.1f} ms per "
        "step of 4"
    )
    return Result("mixing: time added to a bare loop", overhead, 0.05, False, detail)


def measure_growth(folder: Path) -> Result:
    """Megabytes that the process gains between the 1,000th and the last row."""
    data, process = read_panoptic(folder, "many_rows.json"), psutil.Process()
    first = min(1000, len(data) // 10)
    sizes = []
    for i in range(len(data)):
        data[i]
        if i + 1 in (first, len(data)):
            gc.collect()
            sizes.append(process.memory_info().rss / MEGABYTE)
    detail = f"{sizes[0]:.0f} MB after {first:,} rows, {sizes[1]:.0f} MB after {len(data):,}"
    return Result("rows: growth in MB", sizes[1] - sizes[0], 4.0, False, detail)


def measure_large_jpegs(folder: Path, repeats: int) -> Iterator[Result]:
    """Speed of `reduced_decoding` against decoding whole images."""
    rng = np.random.default_rng(3)
    segment_map = draw_segments(rng, 40)
    classes = rng.integers(CLASSES, size=int(segment_map.max()) + 1).astype(np.uint8)
    megabytes = draw_large_files(folder, draw_photograph(rng, segment_map), classes[segment_map])
    for name, data in large_samples(folder, CLASSES):
        least = least_seconds(
            lambda _, data=data: prepared(data, reduced=True),  # type: ignore[misc]
            lambda _, data=data: prepared(data, reduced=False),  # type: ignore[misc]
            1,
            repeats,
        )
        detail = f"{sides(*least)}; {megabytes:.1f} MB, {gray_levels(data):.2f} gray levels apart"
        bar = LARGE_JPEG_BAR if name == LARGE_JPEG else 1.0
        yield Result(f"large JPEG {name}: times as fast", least[1] / least[0], bar, True, detail)


# --- report


def report(results: Sequence[Result], options: argparse.Namespace) -> None:
    """The table, on the screen and as JSON."""
    width = max(len(result.name) for result in results)
    for result in results:
        bar = f"{'>=' if result.at_least else '<='} {result.bar:g}"
        verdict = "holds" if result.holds else "MISSED"
        print(
            f"{result.name:<{width}}  {result.figure:8.3f}  {bar:<7}  {verdict:<6}  {result.detail}"
        )
    record = {
        "settings": vars(options),
        "machine": {
            "cpus": os.cpu_count(),
            "load": os.getloadavg(),
            "python": platform.python_version(),
        },
        "versions": {
            module.__name__: module.__version__ for module in (np, PIL, torch, transformers)
        },
        "results": [{**asdict(result), "holds": result.holds} for result in results],
    }
    path = Path("outputs/bench_data.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {path}")
    common = path.with_name("bench.json")  # of benchmarks/model.py, if that has run
    numbers = json.loads(common.read_text()) if common.exists() else {}
    numbers["large_jpeg_speedup"] = next(r.figure for r in results if LARGE_JPEG in r.name)
    common.write_text(json.dumps(numbers, indent=2) + "\n")


def main() -> int:
    """Draw the files, take the measures, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=16, help="files to draw, of each kind")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each side")
    parser.add_argument("--steps", type=int, default=100, help="steps of the mix")
    parser.add_argument(
        "--rows", type=int, default=10_000, help="rows of the dataset whose memory is watched"
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[512, 1024], help="canvases in pixels"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_files(folder, options.images, options.rows)
        results = list(measure_reading(folder, options.repeats))
        for size in options.sizes:
            results.extend(measure_preparation(size, options.repeats))
        results.append(measure_mixing(folder, options.sizes[0], options.steps))
        results.extend(measure_large_jpegs(folder / "large", options.repeats))
        if options.rows > 0:
            results.append(measure_growth(folder))
    report(results, options)
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
