"""docs/shapes_contact_sheet.png: scenes of the shapes world beside their annotation, two of each
split.

python docs/figures/shapes.py
"""

import argparse
from pathlib import Path
from typing import get_args

from PIL import Image

from dataseg_hf.data.shapes import SHAPES_SPECS, SplitName, shapes_dataset
from dataseg_hf.pictures.contact_sheet import contact_sheet, in_grid

SPLITS = {
    name: [s for s in get_args(SplitName) if (name, s) != ("shapes_open", "train")]
    for name in SHAPES_SPECS
}
SCENES = 2  # of each split


def main() -> None:
    """Draw the picture that the command line asks for."""
    parser = argparse.ArgumentParser(description="Draw scenes of the shapes world.")
    parser.add_argument("--output", default=Path("docs/shapes_contact_sheet.png"), type=Path)
    options = parser.parse_args()
    picture = scenes_picture()
    picture.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(options.output, optimize=True)


def scenes_picture() -> Image.Image:
    """A row for every split: scenes, each beside its annotation."""
    rows = []
    for name, splits in SPLITS.items():
        for split in splits:
            data = shapes_dataset(name, split, count=SCENES)
            rows.append(contact_sheet([data[index] for index in range(SCENES)], data.spec))
    return in_grid(rows, 1)


if __name__ == "__main__":
    main()
