"""What `reduced_decoding` saves where photographs of 12 megapixels are trained on at 640 pixels.

Part of `benchmarks/data.py`. A sample is read from its files and made ready at 640 pixels (resize,
flip), by the dataset's reader and `augment`, with images decoded smaller and whole, in turn.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dataseg_hf.data.readers.image_png import read_image_png
from dataseg_hf.data.readers.yolo import read_yolo
from dataseg_hf.data.reduced_decoding import decoded_for
from dataseg_hf.data.sample import ClassInfo, DatasetSpec, RawId, SampleDataset
from dataseg_hf.data.transforms import Augmentation, TransformedSample, augment

HEIGHT, WIDTH, CANVAS = 3000, 4000, 640
QUALITY = 92


def draw_large_files(
    folder: Path, photograph: NDArray[np.uint8], classes: NDArray[np.uint8]
) -> float:
    """One photograph enlarged and with the noise of a sensor, its class map as PNG, and a box;
    returns the JPEG's megabytes.

    Args:
        photograph: uint8 [H, W, 3].
        classes: uint8 [H, W], classes of the pixels.
    """
    for name in ("images", "maps", "labels"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(2)
    large = Image.fromarray(photograph).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    noisy = np.asarray(large) + rng.normal(0, 4, (HEIGHT, WIDTH, 3))
    path = folder / "images/a.jpg"
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)
    class_map = Image.fromarray(classes).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
    class_map.save(folder / "maps/a.png")
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    return path.stat().st_size / 1e6


def large_samples(folder: Path, classes: int) -> Iterator[tuple[str, SampleDataset]]:
    """The photograph with its box, and with its map; each with a name."""
    images = folder / "images"
    names = tuple(ClassInfo(f"name {i}", True) for i in range(classes))
    ids: dict[RawId, int] = {i: i for i in range(classes)}
    boxes = DatasetSpec("large boxes", "boxes", names, ids)
    maps = DatasetSpec("large maps", "semantic", names, ids)
    yield "with a box", read_yolo(boxes, images, folder / "labels")
    yield "with a map of 12 megapixels", read_image_png(maps, images, folder / "maps")


def prepared(data: SampleDataset, *, reduced: bool) -> TransformedSample:
    """The first sample at 640 pixels, read anew."""
    settings = Augmentation(CANVAS)
    with decoded_for(settings.largest_side if reduced else None):
        sample = data[0]
    return augment(sample, settings, np.random.default_rng(0))


def gray_levels(data: SampleDataset) -> float:
    """Mean difference of the pixels at 640 pixels."""
    images = [prepared(data, reduced=reduced).image.astype(int) for reduced in (True, False)]
    return float(np.abs(images[0] - images[1]).mean())
