"""Segment images, small or large, and write what was found: pictures with a legend, id maps, COCO
json.

python examples/predict.py --model outputs/shapes --input photo.jpg folder/ "more/**/*.png" \
    --output predictions
python examples/predict.py --model outputs/shapes --input photo.jpg --output predictions \
    --task semantic --vocabulary "cat, dog, grass"
python examples/predict.py --model outputs/shapes --input folder/ --output predictions \
    --annotations labelme cvat_xml
python examples/predict.py --model outputs/shapes --input aerial.tif --output predictions \
    --tile 640 --tile_overlap 0.25

Into the output folder go
    overlays/NAME.png   the image with its segments and a legend
    ids/NAME.png        panoptic: segment ids as in COCO's panoptic PNGs; semantic: category ids,
                        0 = none
    predictions.json    COCO: the panoptic format for panoptic (its PNGs are in ids/), the
                        instances format otherwise
    annotations/        with --annotations: files for labeling tools (see docs/evaluation.md)
"""

import argparse
import glob
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from dataseg_hf import DaTaSegImageProcessor, DaTaSegModel
from dataseg_hf.data.coco_format import (
    coco_annotations,
    coco_categories,
    coco_file,
    coco_panoptic_annotation,
    rgb_ids,
)
from dataseg_hf.model.image_reading_dataseg import check_value_range
from dataseg_hf.model.mask_nms_dataseg import DEFAULT_IOU
from dataseg_hf.model.tasks_dataseg import get_task, output_tasks
from dataseg_hf.model.thresholds_dataseg import Thresholds
from dataseg_hf.output_folder import check_output_folder, claim_output_folder
from dataseg_hf.pictures.overlay import segments_overlay, semantic_overlay
from dataseg_hf.prediction.annotation_files import (
    ANNOTATION_FORMATS,
    LOCAL_FILES,
    AnnotatedImage,
    AnnotationStyle,
    AnnotationWriter,
    Category,
)
from dataseg_hf.prediction.segments import (
    Segment,
    Size,
    id_map,
)
from dataseg_hf.prediction.tiling import segment_image
from dataseg_hf.settings.run import expand
from dataseg_hf.sharing.checkpoint import load_checkpoint

MIN_TILE = 32  # pixels: the coarsest stride of the backbones
OVERLAYS, IDS, RESULTS, ANNOTATIONS = "overlays", "ids", "predictions.json", "annotations"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all images were segmented, 1 when some could not be read, 2 for options that
    cannot work.
    """
    options = parse_options(arguments)
    try:
        sources = named_images(find_images(options.input))
        reads = {
            "--model": options.model,
            **{f"--input ({name})": source for name, source in sources.items()},
        }
        options.output = check_output_folder(
            expand(options.output, "--output"), "predictions", "--output", reads
        )
        model, processor = load(options.model, options.vocabulary)
        if options.value_range is not None:
            processor.value_range = check_value_range(options.value_range)
        earlier = claim_output_folder(options.output, "predictions", "--output", reads)
        writer = Writer(options.output, options.task, model)
        annotations = (
            Annotations(options, writer.categories, sources) if options.annotations else None
        )
    except (OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if earlier is not None:
        print(f"{options.output} held earlier predictions, now in {earlier}.")
    tile = processor.size["longest_edge"] if options.tile == 0 else options.tile
    thresholds = Thresholds(
        options.threshold, options.mask_threshold, options.overlap_threshold, options.nms
    )
    failures = []
    for name, source in tqdm(sources.items(), unit="image"):
        try:
            image = processor.read_image(source)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            failures.append(f"{source}: {' '.join(str(error).split())}")
            continue
        found = segment_image(
            model, processor, image, options.task, thresholds, tile, options.tile_overlap
        )
        writer.add(name, source, image, found)
        if annotations is not None:
            annotations.add(name, source, (image.height, image.width), found)
    writer.close()
    if annotations is not None:
        annotations.close()
    print(
        f"{len(sources) - len(failures)} of {len(sources)} images segmented into {options.output}"
    )
    for failure in failures:
        print(f"not read: {failure}", file=sys.stderr)
    return 1 if failures else 0


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Segment images with a DaTaSeg model.")
    parser.add_argument(
        "--model", required=True, help="folder of a checkpoint, or its id on the Hub"
    )
    parser.add_argument(
        "--input", required=True, nargs="+", help="image files, folders of them, or patterns"
    )
    parser.add_argument("--output", required=True, help="folder for the results")
    parser.add_argument(
        "--task",
        default="panoptic",
        choices=output_tasks(),
        help="default %(default)s",
    )
    parser.add_argument(
        "--vocabulary",
        help="a vocabulary of the model, or words with commas; its default otherwise",
    )
    parser.add_argument(
        "--threshold", type=share, default=0.5, metavar="SCORE",
        help="least score of what is written. panoptic: class probability; instance: class "
            "probability times the mean "
        "probability in the mask; semantic: without effect, every pixel gets a class (0..1, "
        "default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--mask_threshold", type=share, default=0.5, metavar="PROBABILITY",
        help="least probability of a pixel of a mask (panoptic, instance; 0..1, default "
            "%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--overlap_threshold", type=share, default=0.8, metavar="SHARE",
        help="least share of its own mask that a segment keeps beside better ones (panoptic; 0..1, "
        "default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--nms", type=share, default=DEFAULT_IOU, metavar="IOU",
        help="leave out an object whose mask has a larger IoU than this with a better one of its "
            "category (instance; "
        "0..1, 1 keeps all, default %(default)s)",
    )  # fmt: skip
    add_image_options(parser)
    add_annotation_options(parser)
    options = parser.parse_args(arguments)
    if not 0 <= options.tile_overlap < 1:
        parser.error(
            f"argument --tile_overlap: must lie in 0..1, below 1, got {options.tile_overlap}"
        )
    if options.tile is not None and options.tile != 0 and options.tile < MIN_TILE:
        parser.error(f"argument --tile: must be at least {MIN_TILE} pixels, got {options.tile}")
    return options


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """How images are read and cut."""
    parser.add_argument(
        "--tile", type=int, nargs="?", const=0, metavar="PIXELS",
        help="segment larger images in windows of so many pixels; without a number, of the model's "
            "image size",
    )  # fmt: skip
    parser.add_argument(
        "--tile_overlap",
        type=float,
        default=0.25,
        help="share of a window that the next one has too",
    )
    parser.add_argument(
        "--value_range", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="values that become black and white in images of more than 8 bits; by default those "
            "of training",
    )  # fmt: skip


def add_annotation_options(parser: argparse.ArgumentParser) -> None:
    """The files for labeling tools."""
    parser.add_argument(
        "--annotations", nargs="+", default=[], choices=ANNOTATION_FORMATS, metavar="FORMAT",
        help=f"also write files for labeling tools: {', '.join(ANNOTATION_FORMATS)}",
    )  # fmt: skip
    parser.add_argument(
        "--outlines", default="polygons", choices=["polygons", "masks"],
        help="in those files: polygons where they tell every pixel and masks elsewhere, or masks "
            "alone",
    )  # fmt: skip
    parser.add_argument(
        "--image_url_prefix", default=LOCAL_FILES, help="of Label Studio's image addresses"
    )


def share(text: str) -> float:
    """A number of the command line in 0..1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(
            f"must lie in 0..1, got {text if math.isnan(value) else value}"
        )
    return value


def find_images(inputs: Sequence[str]) -> list[Path]:
    """The files among the inputs, the images directly in the folders, and what the patterns
    match.
    """
    known = Image.registered_extensions()
    images: list[Path] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in known)
            if not inside:
                raise ValueError(f"--input: no image in folder {path}")
            images += inside
        elif path.exists():
            images.append(path)
        else:
            matches = sorted(Path(match) for match in glob.glob(text, recursive=True))
            if not matches:
                raise ValueError(f"--input: {path} does not exist")
            images += [match for match in matches if match.is_file()]
    return images


def named_images(images: Sequence[Path]) -> dict[str, Path]:
    """Name of the results -> image; ValueError where two images would share one."""
    named: dict[str, Path] = {}
    for image in dict.fromkeys(images):
        if image.stem in named:
            raise ValueError(
                f"{named[image.stem]} and {image} would both become {image.stem}.png: segment them "
                "apart"
            )
        named[image.stem] = image
    return named


def load(name_or_folder: str, vocabulary: str | None) -> tuple[DaTaSegModel, DaTaSegImageProcessor]:
    """Model with the wanted vocabulary, on the accelerator where there is one, and its
    processor.
    """
    model, processor = load_checkpoint(name_or_folder)
    if vocabulary is not None:
        try:
            model.set_vocabulary(model.parse_vocabulary(vocabulary))
        except ValueError as error:
            raise ValueError(f"--vocabulary: {error}") from error
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    return model.eval().to(device), processor


class Writer:
    """Writes the results of one image after the other, and at last the json of all."""

    def __init__(self, folder: Path, task: str, model: DaTaSegModel) -> None:
        self.folder, self.task = folder, get_task(task)
        vocabulary = model.stored_vocabulary(str(model.config.default_vocabulary))
        self.names = list(vocabulary["labels"])
        self.categories = coco_categories(self.names, vocabulary["is_thing"])
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        for part in (OVERLAYS,) if self.task.may_overlap else (OVERLAYS, IDS):
            (folder / part).mkdir(parents=True, exist_ok=True)

    def add(self, name: str, source: Path, image: Image.Image, segments: Sequence[Segment]) -> None:
        """Picture and id map of an image; its part of the json is kept."""
        image_id, size = len(self.images) + 1, (image.height, image.width)
        self.images.append(
            {"id": image_id, "file_name": source.name, "height": size[0], "width": size[1]}
        )
        map_file = self.folder / IDS / f"{name}.png"
        if self.task.sums_proposals:
            ids = id_map(segments, [segment.label_id + 1 for segment in segments], size)
            Image.fromarray(ids.astype(np.uint8 if len(self.names) < 256 else np.uint16)).save(
                map_file
            )
            picture = semantic_overlay(image, ids - 1, self.names)
        else:
            picture = segments_overlay(image, segments, self.names)
        picture.save(self.folder / OVERLAYS / f"{name}.png")
        if self.task.output == "panoptic":
            ids = id_map(segments, range(1, len(segments) + 1), size)
            Image.fromarray(rgb_ids(ids)).save(map_file)
            self.annotations.append(coco_panoptic_annotation(segments, image_id, map_file.name))
        else:
            self.annotations += coco_annotations(
                segments, image_id, size, first_id=len(self.annotations) + 1
            )

    def close(self) -> None:
        """Write the json."""
        content = coco_file(self.images, self.annotations, self.categories)
        (self.folder / RESULTS).write_text(json.dumps(content))


class Annotations:
    """Writes the files of `--annotations`; they name images by their path below the folder that
    holds all of them.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        categories: Sequence[Mapping[str, Any]],
        sources: Mapping[str, Path],
    ) -> None:
        self.root = os.path.commonpath(
            [os.path.abspath(source.parent) for source in sources.values()]
        )
        style = AnnotationStyle(
            [
                Category(category["id"], category["name"], bool(category["isthing"]))
                for category in categories
            ],
            options.outlines,
            options.image_url_prefix,
        )
        self.writer = AnnotationWriter(options.output / ANNOTATIONS, options.annotations, style)
        self.writer.check(map(self.file_name, sources.values()))
        self.images = 0

    def file_name(self, source: Path) -> str:
        """With `/` on every system."""
        return Path(os.path.relpath(source, self.root)).as_posix()

    def add(self, name: str, source: Path, size: Size, segments: Sequence[Segment]) -> None:
        """The objects of an image."""
        self.images += 1
        self.writer.add(
            self.images,
            AnnotatedImage(self.images, name, self.file_name(source), size, segments, source),
        )

    def close(self) -> None:
        """Write what belongs to all images."""
        self.writer.finish()
        if self.writer.empty_segments:
            print(
                f"{self.writer.empty_segments} segments without a pixel are not in "
                f"{self.writer.folder}"
            )


if __name__ == "__main__":
    sys.exit(main())
