"""Which images a prediction is asked for."""

import glob
from collections.abc import Sequence
from pathlib import Path

from ..data.readers.paths import IMAGE_SUFFIXES


def find_images(inputs: Sequence[str], key: str = "--input") -> list[Path]:
    """The files among the inputs, the images directly in the folders, and what the patterns match;
    messages name the option `key`.

    Raises:
        ValueError: for a folder without images, and for an input that does not exist.
    """
    images: list[Path] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            inside = sorted(
                file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES
            )
            if not inside:
                raise ValueError(f"{key}: no image in folder {path} ({', '.join(IMAGE_SUFFIXES)})")
            images += inside
        elif path.exists():
            images.append(path)
        else:
            matches = sorted(Path(match) for match in glob.glob(text, recursive=True))
            if not matches:
                raise ValueError(f"{key}: {path} does not exist")
            images += [match for match in matches if match.is_file()]
    return images


def named_images(images: Sequence[Path]) -> dict[str, Path]:
    """Name of the results -> image.

    Raises:
        ValueError: where two images would share a name.
    """
    named: dict[str, Path] = {}
    for image in dict.fromkeys(images):
        if image.stem in named:
            raise ValueError(
                f"{named[image.stem]} and {image} would both become {image.stem}.png: segment them "
                "apart"
            )
        named[image.stem] = image
    return named
