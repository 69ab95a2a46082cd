"""Segment images and draw the result: one PNG with a legend per image.

python examples/predict.py --model outputs/shapes --input photo.jpg folder/ --output predictions
python examples/predict.py --model outputs/shapes --input photo.jpg --output predictions \
    --task semantic --vocabulary "cat, dog, grass"
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageOps
from tqdm import tqdm
from transformers import AutoConfig

from dataseg_hf import DaTaSegConfig, DaTaSegImageProcessor, DaTaSegModel
from dataseg_hf.visualization import overlay, semantic_overlay


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all images were segmented, 1 when some could not be read, 2 for options that cannot work."""
    options = parse_options(arguments)
    try:
        outputs = output_files(find_images(options.input), options.output)
        model, processor = load(options.model, options.vocabulary)
        options.output.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    failures = []
    for source, target in tqdm(outputs.items(), unit="image"):
        try:
            image = read_image(source)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            failures.append(f"{source}: {error}")
            continue
        segmented(model, processor, image, options.task, options.threshold).save(target)
    print(f"{len(outputs) - len(failures)} of {len(outputs)} images segmented into {options.output}")
    for failure in failures:
        print(f"not read: {failure}", file=sys.stderr)
    return 1 if failures else 0


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Segment images with a DaTaSeg model.")
    parser.add_argument("--model", required=True, help="folder of a checkpoint, or its id on the Hub")
    parser.add_argument("--input", required=True, nargs="+", type=Path, help="image files, or folders of them")
    parser.add_argument("--output", required=True, type=Path, help="folder for the PNG files")
    parser.add_argument("--task", default="panoptic", choices=["panoptic", "semantic", "instance"])
    parser.add_argument("--vocabulary", help="a vocabulary of the model, or words with commas; its default otherwise")
    parser.add_argument("--threshold", type=float, default=0.5, help="least score of a segment (not for semantic)")
    options = parser.parse_args(arguments)
    if not 0 <= options.threshold <= 1:
        parser.error(f"argument --threshold: must lie in 0..1, got {options.threshold}")
    return options


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files among the paths, and the images directly in the folders among them."""
    known = Image.registered_extensions()
    images: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in known)
            if not inside:
                raise ValueError(f"--input: no image in folder {path}")
            images += inside
        elif path.exists():
            images.append(path)
        else:
            raise ValueError(f"--input: {path} does not exist")
    return images


def output_files(images: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Image -> PNG of its name in the folder; ValueError where two images would share one or lose themselves."""
    files: dict[Path, Path] = {}
    source_of: dict[Path, Path] = {}
    for image in dict.fromkeys(images):
        target = folder / f"{image.stem}.png"
        if target in source_of:
            raise ValueError(f"{source_of[target]} and {image} would both become {target}: segment them separately")
        if target.resolve() == image.resolve():
            raise ValueError(f"{image} would be overwritten: choose another --output")
        source_of[target] = image
        files[image] = target
    return files


def load(name_or_folder: str, vocabulary: str | None) -> tuple[DaTaSegModel, DaTaSegImageProcessor]:
    """Model with the wanted vocabulary, on the accelerator where there is one, and its processor."""
    config = AutoConfig.from_pretrained(name_or_folder)
    if not isinstance(config, DaTaSegConfig):
        raise ValueError(f"--model: {name_or_folder} is a '{config.model_type}' model, not DaTaSeg")
    model = DaTaSegModel.from_pretrained(name_or_folder)
    if vocabulary is not None:
        words = [word.strip() for word in vocabulary.split(",") if word.strip()]
        model.set_vocabulary(vocabulary if vocabulary in (config.vocabularies or {}) else words)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    return model.eval().to(device), DaTaSegImageProcessor.from_pretrained(name_or_folder)


def read_image(path: Path) -> Image.Image:
    """RGB, upright."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


@torch.no_grad()
def segmented(
    model: DaTaSegModel, processor: DaTaSegImageProcessor, image: Image.Image, task: str, threshold: float
) -> Image.Image:
    """The image with its segments drawn over it."""
    outputs = model(**processor(image, return_tensors="pt").to(model.device))
    names = list(model.config.id2label.values())
    sizes = [(image.height, image.width)]
    if task == "semantic":
        (classes,) = processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
        return semantic_overlay(image, classes.cpu().numpy(), names)
    if task == "instance":
        (result,) = processor.post_process_instance_segmentation(
            outputs, threshold, target_sizes=sizes, return_binary_maps=True
        )
    else:
        (result,) = processor.post_process_panoptic_segmentation(outputs, threshold, target_sizes=sizes)
    return overlay(image, result["segmentation"].cpu().numpy(), result["segments_info"], names)


if __name__ == "__main__":
    sys.exit(main())
