"""Masks as text, a `#` for every pixel of them."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from helpers.annotation_files import save
from helpers.paths import SAMPLES


def drawing(*rows: str) -> list[list[bool]]:
    return [[character == "#" for character in row] for row in rows]


def drawn(masks: Iterable[np.ndarray]) -> list[list[str]]:
    """Each mask as rows of text, which a failed test shows legibly."""
    return [["".join(".#"[int(value)] for value in row) for row in mask] for mask in masks]


def sample_masks(tool: str) -> list[list[str]]:
    """What the tool's own decoder makes of the shapes of its sample."""
    return [block.split() for block in (SAMPLES / tool / "masks.txt").read_text().split("\n\n")]


IMAGES_OF_SAMPLE = {
    "cvat": ("images/day/a.png", "images/b.png"),
    "label_studio": ("images/my photo.png", "images/b.png"),
    "supervisely": ("day/img/a.png", "day/img/b.png"),
}
"""By tool: an image of 12 x 16 pixels with all shapes, and one of 8 x 8 without."""


def lay_sample(tool: str, folder: Path) -> Path:
    """Copy what a tool wrote to `folder / tool`, with its images, which are gray."""
    shutil.copytree(SAMPLES / tool, folder / tool)
    for name, size in zip(IMAGES_OF_SAMPLE[tool], ((12, 16), (8, 8)), strict=True):
        save(folder / tool / name, np.full((*size, 3), 90, np.uint8))
    return folder / tool
